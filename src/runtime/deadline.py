"""Work that is given up when its time is over, whatever it waits for: a frozen host never ends a call by itself."""

from collections.abc import Callable
from typing import Any

from runtime import threads

CUT_SECONDS = 2.0  # how long the work gets to notice that it was cut off


class OutOfTime(Exception):
    """The work did not end in time."""


def within[T](seconds: float, work: Callable[[], T], *, cut: Callable[[], Any]) -> T:
    """What `work` returns or raises. Raises OutOfTime after `seconds`, having called `cut` to end what it waits for.

    `work` runs in a thread of its own, which nothing waits for when even `cut` does not end it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - all of them are raised again below
            errors.append(error)

    thread = threads.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if thread.is_alive():
        cut()
        thread.join(CUT_SECONDS)
        raise OutOfTime(f"not done after {max(0.0, seconds):.0f} s")
    if errors:
        raise errors[0]
    return results[0]

"""When a worker does what is not urgent, beside its batches: deleting, sealing, counting what is overdue.

A process does each of them every so often. On a quiet stack no process lives that long, so each may also do it after
its first batch: by chance, because many begin at once where there is much to do. Nothing is done without a batch, so
nothing wakes a paused database.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from domain.errors import DatabaseUnavailable
from runtime.isolation import isolated
from runtime.observability import logger

FIRST_SHARE = 0.25  # of new processes


class Beside:
    """When it is time for one kind of work in one process."""

    def __init__(self, *, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._next_at: datetime | None = None

    def is_due(self, *, now: datetime, chance: Callable[[], float]) -> bool:
        """Whether to do it now; then it is due again after the interval, or when `again` says.

        `chance` returns numbers in [0, 1).
        """
        is_due = chance() < FIRST_SHARE if self._next_at is None else now >= self._next_at
        if is_due or self._next_at is None:
            self.again(now=now, after_seconds=self._every_seconds)
        return is_due

    def again(self, *, now: datetime, after_seconds: float) -> None:
        """Due after so long, whatever the interval is."""
        self._next_at = now + timedelta(seconds=after_seconds)


def tried[T](work: Callable[[], T], *, step: str) -> T | None:
    """What `work` returns; None where it failed. The batch is done by then, so nothing is raised, and a database that
    is away is no fault of ours."""
    return isolated(lambda: _put_off(work, step), otherwise=lambda _: None, step=step)


def _put_off[T](work: Callable[[], T], step: str) -> T | None:
    try:
        return work()
    except DatabaseUnavailable as error:
        logger.warning("work beside a batch is put off", step=step, reason=str(error))
        return None

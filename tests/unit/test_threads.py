"""Threads that are used again: the same one for the next work, nothing left of the last."""

import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from runtime import threads


@pytest.fixture(autouse=True)
def _of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_idle", type(threads._idle)())


def ran_on(work: Callable[[], Any] = lambda: None) -> int:
    idents: list[int] = []

    def target() -> None:
        work()
        idents.append(threading.get_ident())

    thread = threads.Thread(target=target, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return idents[0]


def test_what_comes_later_runs_on_the_same_thread() -> None:
    assert len({ran_on() for _ in range(20)}) == 1
    assert ran_on() != threading.get_ident()


def test_what_never_ends_occupies_its_thread_alone() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def target() -> None:
        begun.set()
        goes_on.wait(60)

    stuck = threads.Thread(target=target, daemon=True)
    stuck.start()
    assert begun.wait(60)
    assert len({ran_on() for _ in range(3)}) == 1
    assert stuck.is_alive()
    goes_on.set()
    stuck.join(60)
    assert not stuck.is_alive()
    assert len(threads._idle) == 2


def test_nothing_of_the_work_is_held_once_it_is_done() -> None:
    class Body:
        def read(self) -> None:
            """Whatever it was."""

    body = Body()
    gone = weakref.ref(body)
    ran_on(body.read)
    del body
    assert gone() is None


def test_others_than_daemons_are_refused() -> None:
    with pytest.raises(ValueError, match="daemon"):
        threads.Thread(target=int, daemon=False)

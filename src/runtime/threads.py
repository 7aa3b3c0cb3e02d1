"""Threads that are used again: to start one takes as much as a tenth of all that a batch of ten attempts takes."""

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_idle: "deque[SimpleQueue[Thread]]" = deque()


class Thread:
    """As `threading.Thread`, for a `target` that raises nothing. One that never ends occupies its thread forever, and
    the next one gets another."""

    def __init__(self, *, target: Callable[[], Any], daemon: bool) -> None:
        if not daemon:
            raise ValueError("only daemon threads are used again")
        self._target = target
        self._running = threading.Lock()

    def start(self) -> None:
        """Runs `target` on a thread that has nothing to do, or on a new one."""
        self._running.acquire()
        try:
            jobs = _idle.pop()
        except IndexError:
            jobs = SimpleQueue()
            threading.Thread(target=_work, args=(jobs,), daemon=True).start()
        jobs.put(self)

    def join(self, timeout: float) -> None:
        """Waits until it has ended, at most `timeout` seconds."""
        if self._running.acquire(timeout=timeout):
            self._running.release()

    def is_alive(self) -> bool:
        """Whether `target` is still running."""
        return self._running.locked()

    def run(self, jobs: "SimpleQueue[Thread]") -> None:
        """On the thread that gets its work from `jobs`, which can have more before anybody learns that this ended."""
        try:
            self._target()
        finally:
            del self._target  # and with it whatever it was to work on
            _idle.append(jobs)
            self._running.release()


def _work(jobs: "SimpleQueue[Thread]") -> None:
    while True:
        jobs.get().run(jobs)

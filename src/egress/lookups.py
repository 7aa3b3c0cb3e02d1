"""Name lookups on threads of their own: getaddrinfo blocks, and one slow name must not hold up the others."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

from domain.outcomes import Refused, Unreachable
from egress.addresses import Resolved

MOST_THREADS = 32

type Place = tuple[str, int]
type Answer = Resolved | Refused | Unreachable
type Asker = Callable[[Place, Answer], None]


class Lookups:
    """Resolves names on a bounded number of threads, made when they are needed.

    Who asks for a name that is being looked up already shares that answer, so that a name whose servers hang takes up
    one thread, however many requests want it.
    """

    def __init__(self, resolve: Callable[[str, int], Answer], *, most_threads: int = MOST_THREADS) -> None:
        self._resolve = resolve
        self._most_threads = most_threads
        self._lock = threading.Lock()
        self._askers: dict[Place, list[Asker]] = {}
        self._places: SimpleQueue[Place] = SimpleQueue()
        self._threads = 0
        self._free_threads = 0

    def ask(self, place: Place, asker: Asker) -> None:
        """Has `asker` called with the answer, later and on another thread. It must be quick and must not raise."""
        with self._lock:
            if place in self._askers:
                self._askers[place].append(asker)
                return
            self._askers[place] = [asker]
            self._places.put(place)
            if self._places.qsize() > self._free_threads and self._threads < self._most_threads:
                self._threads += 1
                threading.Thread(target=self._work, name=f"lookup-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._free_threads += 1
            place = self._places.get()
            with self._lock:
                self._free_threads -= 1
            self._answer(place)

    def _answer(self, place: Place) -> None:
        answer: Answer = Unreachable(reason=f"the lookup of {place[0]} broke")
        try:
            answer = self._resolve(*place)
        finally:
            with self._lock:
                askers = self._askers.pop(place)
            for asker in askers:
                asker(place, answer)

"""Name lookups on threads of their own: getaddrinfo blocks, and one slow name must not hold up the others."""

import threading
from collections import deque
from collections.abc import Callable

from domain.outcomes import Refused, Unreachable
from egress.addresses import Resolved

MOST_THREADS = 32

type HostPort = tuple[str, int]
type LookupResult = Resolved | Refused | Unreachable
type Asker = Callable[[HostPort, LookupResult], None]


class Lookups:
    """Resolves each name on a thread of its own, a bounded number at a time.

    Who asks for a name that is being looked up already shares that answer, so that a name whose servers hang takes up
    one thread, however many requests want it.
    """

    def __init__(self, resolve: Callable[[str, int], LookupResult], *, most_threads: int = MOST_THREADS) -> None:
        self._resolve = resolve
        self._most_threads = most_threads
        self._lock = threading.Lock()
        self._askers: dict[HostPort, list[Asker]] = {}
        self._places: deque[HostPort] = deque()
        self._threads = 0

    def ask(self, place: HostPort, asker: Asker) -> None:
        """Has `asker` called with the answer, later and on another thread. It must be quick and must not raise."""
        with self._lock:
            if place in self._askers:
                self._askers[place].append(asker)
                return
            self._askers[place] = [asker]
            self._places.append(place)
            self._start()

    def _start(self) -> None:
        """Starts on the next name if there is a thread to spare. The lock is held."""
        if self._places and self._threads < self._most_threads:
            self._threads += 1
            threading.Thread(target=self._look_up, args=(self._places.popleft(),), name="lookup", daemon=True).start()

    def _look_up(self, place: HostPort) -> None:
        answer: LookupResult = Unreachable(reason=f"the lookup of {place[0]} broke")
        try:
            answer = self._resolve(*place)
        finally:
            with self._lock:
                askers = self._askers.pop(place)
                self._threads -= 1
                self._start()
            for asker in askers:
                asker(place, answer)

"""Name lookups on threads of their own: getaddrinfo blocks, and one slow name must not hold up the others."""

import threading
from collections import deque
from collections.abc import Callable

from domain.outcomes import FailedStep, Refused, Unreachable
from egress.addresses import Resolved

MOST_THREADS = 32

type HostPort = tuple[str, int]
type LookupResult = Resolved | Refused | Unreachable
type LookupCallback = Callable[[HostPort, LookupResult], None]


class Lookups:
    """Resolves each name on a thread of its own, a bounded number at a time.

    Requests for a name that is already being looked up share its result, so that a name whose servers hang takes up one
    thread, however many requests need it.
    """

    def __init__(self, resolve: Callable[[str, int], LookupResult], *, most_threads: int = MOST_THREADS) -> None:
        self._resolve = resolve
        self._most_threads = most_threads
        self._lock = threading.Lock()
        self._callbacks: dict[HostPort, list[LookupCallback]] = {}
        self._queued: deque[HostPort] = deque()
        self._threads = 0

    def ask(self, host_port: HostPort, callback: LookupCallback) -> None:
        """Calls `callback` with the result, later and on another thread. It must be quick and must not raise."""
        with self._lock:
            if host_port in self._callbacks:
                self._callbacks[host_port].append(callback)
                return
            self._callbacks[host_port] = [callback]
            self._queued.append(host_port)
            self._start()

    def _start(self) -> None:
        """Starts the next lookup if a thread is free. The lock is held."""
        if self._queued and self._threads < self._most_threads:
            host_port = self._queued.popleft()
            thread = threading.Thread(target=self._look_up, args=(host_port,), name="lookup", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process has too many: this lookup fails, and not all of that name from now on
                del self._callbacks[host_port]
                raise
            self._threads += 1

    def _look_up(self, host_port: HostPort) -> None:
        result: LookupResult = Unreachable(reason=f"the lookup of {host_port[0]} failed", at=FailedStep.NAME)
        try:
            result = self._resolve(*host_port)
        finally:
            with self._lock:
                callbacks = self._callbacks.pop(host_port)
                self._threads -= 1
                self._start()
            for callback in callbacks:
                callback(host_port, result)

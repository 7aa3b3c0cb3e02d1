"""One libcurl multi handle with its open connections, and the event loop that drives it."""

import os
import select
import threading
import time
from typing import NamedTuple

import pycurl

from egress.sockets import OPEN_CONNECTIONS, OpenSockets

_POLLED = {
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}
_WAKE_BYTES = 4096  # that are read at once; should the pipe hold more, the next turn is early too


class Ended(NamedTuple):
    """A transfer that has ended: `code` is libcurl's (0 is success), `detail` its message."""

    handle: pycurl.Curl
    code: int
    detail: str


class Engine:
    """Moves the bytes of many transfers in one thread. Only `wake` may be called from another.

    `sockets` are those of its open connections.
    """

    def __init__(self) -> None:
        self.sockets = OpenSockets()
        self._lock = threading.Lock()
        self._closed = False
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        # The standard library's selectors do for each socket in Python what this does in C.
        self._poll = select.poll()
        self._poll.register(self._wake_reader, select.POLLIN)
        self._due: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, OPEN_CONNECTIONS)

    def __del__(self) -> None:
        self.close()

    def add(self, handle: pycurl.Curl) -> None:
        """Starts a transfer."""
        self._multi.add_handle(handle)

    def remove(self, handle: pycurl.Curl) -> None:
        """Takes a transfer out; the connection of an unfinished one is closed."""
        self._multi.remove_handle(handle)

    def wake(self) -> None:
        """Ends the current or the next `turn` early."""
        with self._lock:
            if not self._closed:
                _write_wake_byte(self._wake_writer)

    def turn(self, *, until: float) -> list[Ended]:
        """Waits for something to happen, at most until the monotonic time `until`, and handles it."""
        for descriptor, events in self._poll.poll(self._milliseconds_to_wait(until)):
            if descriptor == self._wake_reader:
                os.read(self._wake_reader, _WAKE_BYTES)
            else:
                self._multi.socket_action(descriptor, _curl_events(events))
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._ended()

    def close(self) -> None:
        """Closes every connection. A second time does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._multi.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _milliseconds_to_wait(self, until: float) -> float:
        soonest = until if self._due is None else min(until, self._due)
        return max(0.0, soonest - time.monotonic()) * 1000

    def _ended(self) -> list[Ended]:
        found: list[Ended] = []
        more = True
        while more:
            more, fine, broken = self._multi.info_read()
            found += [Ended(handle, pycurl.E_OK, "") for handle in fine]
            found += [Ended(handle, code, detail) for handle, code, detail in broken]
        return found

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, _POLLED[what])

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _write_wake_byte(writer: int) -> None:
    try:
        os.write(writer, b"\0")
    except BlockingIOError:  # the pipe is full, so the reader is woken anyway
        return


def _curl_events(events: int) -> int:
    """What has happened on a socket. An error or its end (POLLERR, POLLHUP) is noticed by reading or by writing."""
    readable = pycurl.CSELECT_IN if events & ~select.POLLOUT else 0
    writable = pycurl.CSELECT_OUT if events & ~select.POLLIN else 0
    return int(readable | writable)

"""One libcurl multi handle with its open connections, and the event loop that drives it."""

import selectors
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

import pycurl

KEPT_CONNECTIONS = 100
_SELECTED = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


class Ended(NamedTuple):
    """A transfer that is over: `code` is libcurl's (0 is success), `detail` its words."""

    handle: pycurl.Curl
    code: int
    detail: str


class Engine:
    """Moves the bytes of many transfers in one thread. Only `wake` may be called from another."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._selector.register(self._receiver, selectors.EVENT_READ)
        self._due: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT_CONNECTIONS)

    def add(self, handle: pycurl.Curl) -> None:
        """Starts a transfer."""
        self._multi.add_handle(handle)

    def remove(self, handle: pycurl.Curl) -> None:
        """Takes a transfer out; the connection of an unfinished one is closed."""
        self._multi.remove_handle(handle)

    def wake(self) -> None:
        """Ends the present or the next `turn` early."""
        try:
            self._sender.send(b"\0")
        except OSError:  # it is being woken already, or it is closed
            return

    def turn(self, *, until: float) -> list[Ended]:
        """Waits for something to happen, at most until the monotonic time `until`, and deals with it."""
        for key, events in self._selector.select(max(0.0, min(until, self._due or until) - time.monotonic())):
            if key.fileobj is self._receiver:
                self._receiver.recv(4096)
            else:
                self._multi.socket_action(key.fd, _curl_events(events))
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return list(self._ended())

    def close(self) -> None:
        """Closes every connection."""
        self._multi.close()
        self._selector.close()
        self._receiver.close()
        self._sender.close()

    def _ended(self) -> Iterator[Ended]:
        more = True
        while more:
            more, fine, broken = self._multi.info_read()
            yield from (Ended(handle, 0, "") for handle in fine)
            yield from (Ended(handle, code, detail) for handle, code, detail in broken)

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        known = descriptor in self._selector.get_map()
        if what == pycurl.POLL_REMOVE:
            if known:
                self._selector.unregister(descriptor)
        elif known:
            self._selector.modify(descriptor, _SELECTED[what])
        else:
            self._selector.register(descriptor, _SELECTED[what])

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _curl_events(events: int) -> int:
    readable = pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0
    writable = pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
    return int(readable | writable)

"""Whether an idle connection can be used for a request.

libcurl checks by itself, but only once a second: in between it would send a request into a connection that the partner
has closed, and then it is unknown whether the request arrived; or into one on which an answer has come that nobody
asked for, and would take that for the answer.
"""

import os
import select
import socket
from collections.abc import Iterable
from contextlib import suppress

from domain.values import value_class

OPEN_CONNECTIONS = 100
_ENDING = getattr(select, "POLLRDHUP", 0)  # Linux: the other end has closed, even with data still to be read
_ENDED = _ENDING | select.POLLHUP | select.POLLERR | select.POLLNVAL

type LocalEndpoint = tuple[str, int]


@value_class(frozen=False, slots=True, kw_only=True)
class _OpenSocket:
    """`inode` is the kernel's number of the socket, by which another one that got the same descriptor shows."""

    descriptor: int
    inode: int
    owner: str
    poll: "select.poll"
    silent: bool = False


class OpenSockets:
    """libcurl's sockets by their local address and port. It does not say when it closes one, so each is checked
    twice."""

    def __init__(self) -> None:
        self._open: dict[LocalEndpoint, _OpenSocket] = {}

    def __len__(self) -> int:
        return len(self._open)

    def note(self, local: LocalEndpoint, candidates: Iterable[int], *, owner: str = "") -> None:
        """The connection at `local` was made for `owner` over one of the descriptors `candidates`."""
        for descriptor in candidates:
            if _local_of(descriptor) == local:
                self._open[local] = _opened(descriptor, owner)
        while len(self._open) > OPEN_CONNECTIONS:
            del self._open[next(iter(self._open))]

    def expect_silence(self, local: LocalEndpoint) -> None:
        """Nothing may arrive at `local` before the next request is sent, as in HTTP/1.1."""
        if local in self._open:
            self._open[local].silent = True

    def is_usable(self, local: LocalEndpoint, *, owner: str = "") -> bool:
        """Whether the connection at `local` is of `owner` and can be sent on. What cannot be known does not count
        against it, but for whose it is."""
        known = self._open.get(local)
        if known is None or known.owner != owner:
            return known is None and not owner
        if _inode_of(known.descriptor) != known.inode:
            return True
        happened = known.poll.poll(0)
        unwanted = _ENDED | select.POLLIN if known.silent else _ENDED
        return not happened or not happened[0][1] & unwanted


def _opened(descriptor: int, owner: str) -> _OpenSocket:
    poll = select.poll()
    poll.register(descriptor, _ENDING | select.POLLIN)
    return _OpenSocket(descriptor=descriptor, inode=_inode_of(descriptor) or 0, owner=owner, poll=poll)


def _inode_of(descriptor: int) -> int | None:
    """None where nothing is open under that number."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None


def _local_of(descriptor: int) -> LocalEndpoint | None:
    """The local address and port of a socket; None when `descriptor` is not an internet socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:
        if duplicate.family in (socket.AF_INET, socket.AF_INET6):
            address, port = duplicate.getsockname()[:2]
            return str(address), int(port)
    return None

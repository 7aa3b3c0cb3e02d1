"""Whether an idle connection can still be used for a request.

libcurl checks by itself, but only once a second: in between it would send a request into a connection that the partner
has closed, and then it is unknown whether the request arrived.
"""

import os
import select
import socket
from collections.abc import Iterable
from contextlib import suppress

OPEN_CONNECTIONS = 100
_ENDING = getattr(select, "POLLRDHUP", 0)  # Linux: the other end has closed, even with data still to be read
_ENDED = _ENDING | select.POLLHUP | select.POLLERR | select.POLLNVAL

type LocalEndpoint = tuple[str, int]


class OpenSockets:
    """libcurl's sockets by their local address and port. It does not say when it closes one, so each is checked
    twice."""

    def __init__(self) -> None:
        self._descriptors: dict[LocalEndpoint, int] = {}

    def __len__(self) -> int:
        return len(self._descriptors)

    def note(self, local: LocalEndpoint, candidates: Iterable[int]) -> None:
        """The connection at `local` was made over one of the descriptors `candidates`."""
        for descriptor in candidates:
            if _local_of(descriptor) == local:
                self._descriptors[local] = descriptor
        while len(self._descriptors) > OPEN_CONNECTIONS:
            del self._descriptors[next(iter(self._descriptors))]

    def is_usable(self, local: LocalEndpoint) -> bool:
        """Whether the connection at `local` can still be sent on. Also True where that cannot be known."""
        descriptor = self._descriptors.get(local)
        if descriptor is None or _local_of(descriptor) != local:
            return True
        poll = select.poll()
        poll.register(descriptor, _ENDING)
        return not any(events & _ENDED for _, events in poll.poll(0))


def _local_of(descriptor: int) -> LocalEndpoint | None:
    """The local address and port of a socket; None when `descriptor` is not an internet socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:
        if duplicate.family in (socket.AF_INET, socket.AF_INET6):
            address, port = duplicate.getsockname()[:2]
            return str(address), int(port)
    return None

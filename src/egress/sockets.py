"""Whether a connection that was kept open is still fit for a request.

libcurl looks for itself, but only once a second: in between it would send a request into a connection that the partner
has closed, and then nobody knows whether it arrived.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress

KEPT_CONNECTIONS = 100

type Local = tuple[str, int]


class KeptSockets:
    """libcurl's sockets by their local address and port. It closes them without a word, so each is looked at twice."""

    def __init__(self) -> None:
        self._descriptors: dict[Local, int] = {}

    def note(self, local: Local, candidates: Iterable[int]) -> None:
        """The connection at `local` was made over one of the descriptors `candidates`."""
        for descriptor in candidates:
            if _local_of(descriptor) == local:
                self._descriptors[local] = descriptor
        while len(self._descriptors) > KEPT_CONNECTIONS:
            del self._descriptors[next(iter(self._descriptors))]

    def is_fit(self, local: Local) -> bool:
        """False when there is something to read at `local`, where no answer is due: the end of the connection, mostly.

        True as well where it cannot be told.
        """
        descriptor = self._descriptors.get(local)
        if descriptor is None or _local_of(descriptor) != local:
            return True
        with socket.socket(fileno=os.dup(descriptor)) as line:
            try:
                line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
        return False


def _local_of(descriptor: int) -> Local | None:
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        address, port = line.getsockname()[:2]
        return str(address), int(port)
    return None

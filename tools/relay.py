"""Lets containers on Docker's bridge reach what listens on this machine's loopback or on a Unix socket."""

import contextlib
import socket
import threading
from collections.abc import Callable
from socketserver import BaseRequestHandler, ThreadingTCPServer

CHUNK_BYTES = 65536


class Relay:
    """Listens on a free port of `address` and joins each connection with one that `connect` makes."""

    def __init__(self, address: str, connect: Callable[[], socket.socket]) -> None:
        class RelayHandler(BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), connect() as inside:
                    back = threading.Thread(target=_copy_stream, args=(inside, self.request), daemon=True)
                    back.start()
                    _copy_stream(self.request, inside)
                    back.join()

        self._server = ThreadingTCPServer((address, 0), RelayHandler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_address[1]

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def to_loopback(port: int) -> Callable[[], socket.socket]:
    """Connections to a port of 127.0.0.1."""
    return lambda: socket.create_connection(("127.0.0.1", port))


def to_unix_socket(path: str) -> Callable[[], socket.socket]:
    """Connections to a Unix socket."""

    def connect() -> socket.socket:
        inside = socket.socket(socket.AF_UNIX)
        try:
            inside.connect(path)
        except OSError:
            inside.close()
            raise
        return inside

    return connect


def _copy_stream(source: socket.socket, target: socket.socket) -> None:
    """Copies all bytes of one direction, then closes it."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)

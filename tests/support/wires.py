"""A wire to PostgreSQL that can be cut where it hurts most: after the commit, before the answer arrives."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SOCKET = ".s.PGSQL.5432"
_READY = b"Z\x00\x00\x00\x05I"  # ReadyForQuery outside a transaction: what was asked for is committed
_WITHIN = b"Z\x00\x00\x00\x05T"  # the same within one


class Wire:
    """Passes everything on between a Unix socket of its own, in `directory`, and that of the server behind `url`."""

    def __init__(self, url: str) -> None:
        self._server = str(Path(parse_qs(urlsplit(url).query)["host"][0], _SOCKET))
        self._folder = tempfile.TemporaryDirectory(prefix="wire-")
        self.directory = self._folder.name
        self.cuts = 0
        self._meanwhile: Callable[[], object] | None = None
        self._within = ""  # a transaction, of which the last answer is to be lost: "awaited" or "begun"
        self._errors: list[BaseException] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self.directory, _SOCKET)))
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def cut_after_the_next_commit(self, meanwhile: Callable[[], object]) -> None:
        """The next answer is kept back; `meanwhile` is called; then the connection ends without it."""
        self._meanwhile, self._within = meanwhile, ""

    def cut_after_the_next_transaction(self) -> None:
        """The same with the answer to the next COMMIT, be there statements of their own before it."""
        self._meanwhile, self._within = (lambda: None), "awaited"

    def cut(self) -> None:
        """Ends all connections at the client's end now. The server notices when it has something to say."""
        clients, self._clients = self._clients, []  # whoever connects again at once stays
        for end in clients:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends all connections. Raises what went wrong meanwhile."""
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._sockets):
            end.close()
        self._folder.cleanup()
        if self._errors:
            raise self._errors[0]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                self._clients.append(client)
                server.connect(self._server)
                self._start(self._pass, client, server, False)
                self._start(self._pass, server, client, True)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                awaited = answers and self._meanwhile is not None and self._within != "awaited"
                if awaited and data.endswith(_READY):
                    self._cut()
                    break
                if answers and data.endswith(_WITHIN) and self._within == "awaited":
                    self._within = "begun"
                # Of an answer that is to be lost no part arrives. What a transaction said before its COMMIT does.
                if not awaited or self._within == "begun":
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        self.cuts += 1
        try:
            if meanwhile:
                meanwhile()
        except BaseException as error:  # noqa: BLE001 - it belongs to the test, which sees it in close()
            self._errors.append(error)

"""Servers on loopback that say byte for byte what a test wants of a partner, well-behaved or not."""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# For how long a partner waits for the other end to give up. Deadlines in tests are far shorter, or far longer where
# another one is to end the call; so that a call which gave up before its partner did was ended by its deadline.
SAFETY_SECONDS = 60.0
_DRIP_SECONDS = 0.02

type Script = Callable[["Line"], None]


class NobodyGaveUpError(Exception):
    """The other end was still waiting after SAFETY_SECONDS."""


class Line:
    """One connection at the partner's end. A script reads and writes it; `stopping` is set when the test is over."""

    def __init__(self, connection: socket.socket, number: int, stopping: threading.Event) -> None:
        self.connection = connection
        self.number = number
        self.stopping = stopping
        self._unread = b""

    def read_request(self) -> bytes:
        """One whole request, head and body; empty when the other end has closed."""
        while b"\r\n\r\n" not in self._unread:
            piece = self.connection.recv(65536)
            if not piece:
                return b""
            self._unread += piece
        head, _, rest = self._unread.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        length = int(lengths[0]) if lengths else 0
        while len(rest) < length and (piece := self.connection.recv(65536)):
            rest += piece
        self._unread = rest[length:]
        return head + b"\r\n\r\n" + rest[:length]

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hang(self) -> None:
        """Says nothing until the test is over. Raises NobodyGaveUpError where the other end waits for too long."""
        if not self.stopping.wait(SAFETY_SECONDS) and _is_open(self.connection):
            raise NobodyGaveUpError

    def drip(self, piece: bytes) -> None:
        """Sends `piece` again and again until the test is over or the other end has closed. Raises NobodyGaveUpError
        where that takes too long.
        """
        for _ in range(int(SAFETY_SECONDS / _DRIP_SECONDS)):
            if self.stopping.wait(_DRIP_SECONDS):
                return
            self.send(piece)
        raise NobodyGaveUpError

    def reset(self) -> None:
        """Closes with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()


@dataclass(kw_only=True)
class Partner:
    """A server and what it was sent: `requests` in order, `connections` counted, and how often it `waited_in_vain` for
    the other end to give up.
    """

    scheme: str
    port: int
    host: str = "127.0.0.1"
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    waited_in_vain: int = 0

    def url(self, target: str = "/", *, host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{target}"


class Server:
    """Runs `script` on a thread of its own for each connection to a listening socket."""

    def __init__(
        self, script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._script = script
        self._tls = tls
        self._stopping = threading.Event()
        self._listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        scheme = "https" if tls else "http"
        bracketed = f"[{host}]" if ":" in host else host
        self.partner = Partner(scheme=scheme, port=self._listener.getsockname()[1], host=bracketed)
        self._threads[0].start()

    def stop(self) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.partner.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.partner.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError):
            if self._tls:
                connection = self._shake_hands(self._tls, connection)
                self._open.append(connection)
            line = _Recorder(connection, number, self._stopping, self.partner.requests)
            try:
                self._script(line)
            except NobodyGaveUpError:
                self.partner.waited_in_vain += 1
            finally:
                connection.close()

    def _shake_hands(self, tls: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
        """After a failure the connection stays open, or a reset might overtake the alert that says why."""
        left_open = connection.dup()
        self._open.append(left_open)
        encrypted = tls.wrap_socket(connection, server_side=True)
        self._open.remove(left_open)
        left_open.close()
        return encrypted


class _Recorder(Line):
    """A line that notes every request that was read from it."""

    def __init__(
        self, connection: socket.socket, number: int, stopping: threading.Event, requests: list[bytes]
    ) -> None:
        super().__init__(connection, number, stopping)
        self._requests = requests

    def read_request(self) -> bytes:
        request = super().read_request()
        if request:
            self._requests.append(request)
        return request


def stop_all(servers: Iterable[Server]) -> None:
    """Ends a test's servers. Fails where one of them waited in vain: then a deadline does not hold."""
    partners = []
    for server in servers:
        server.stop()
        partners.append(server.partner)
    assert not [partner for partner in partners if partner.waited_in_vain], "nobody gave up waiting for a partner"


def _is_open(connection: socket.socket) -> bool:
    """Whether the other end has not closed, whatever is left to read."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return not poll.poll(0)


def has_ipv6_loopback() -> bool:
    """Whether a server can listen on ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def says(answer: bytes) -> Script:
    """A partner that answers every request with `answer` and keeps the connection open."""

    def script(line: Line) -> None:
        while line.read_request():
            line.send(answer)

    return script


def says_and_closes(answer: bytes) -> Script:
    """A partner that answers one request with `answer` and closes the connection."""

    def script(line: Line) -> None:
        line.read_request()
        line.send(answer)

    return script

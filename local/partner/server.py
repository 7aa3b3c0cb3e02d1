"""The partner's server: one thread for each connection, of a limited number."""

import contextlib
import select
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.errors import Advice, LocalError
from local.partner.bank import Bank
from local.partner.calls import Call, Reply
from local.partner.control import PartnerControl
from local.partner.doors import Certificates, Door, tls_doors
from local.partner.query import StepParameters
from local.partner.steps import answer
from local.partner.visit import PartnerVisit, segments
from local.partner.writing import message

ECHO_PATH = "/ip"
CONNECTIONS_AT_MOST = 512  # those beyond are closed at once
CALLS_AT_MOST = 10_000
CALLS_BYTES_AT_MOST = 128 * 1024 * 1024
BODY_BYTES_AT_MOST = 16 * 1024 * 1024
_IDLE_SECONDS = 60
_FILLERS = 3  # Linux has room for one connection more than the queue's length, which is 0


class Partner:
    """The server. `report` gets a line per request. With `tls` it speaks HTTPS.

    `doors_from` is the first of the ports that have TLS (local/partner/doors.py); 0 takes free ones, None has none.
    """

    def __init__(
        self,
        *,
        port: int,
        report: Callable[[str], None] = print,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        doors_from: int | None = None,
        bank: Bank | None = None,
    ) -> None:
        self.calls: deque[Call] = deque()
        self.bank = bank or Bank()
        self.certificates = Certificates() if doors_from is not None else None
        self._report = report
        self._address = address
        self._bytes = 0
        self._lock = threading.Lock()
        self._limit = threading.BoundedSemaphore(CONNECTIONS_AT_MOST)
        self._servers: dict[str, _Server] = {}
        self._open_doors(Door(name="http", about="everything else", tls=tls), port, doors_from)
        self._control = PartnerControl(self.bank, self.certificates, self.doors, self.newest_calls)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="partner", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._servers["http"].server_address[1]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def doors(self) -> dict[str, tuple[int, str]]:
        """Every port by its name, with what it is for."""
        return {name: (server.server_address[1], server.door.about) for name, server in self._servers.items()}

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def is_running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving, end whatever hangs and close the ports. Safe to call again."""
        self.bank.stopping.set()
        self._wake.close()
        if self._thread.is_alive():
            self._thread.join()
        self._woken.close()
        for server in self._servers.values():
            server.server_close()
            server.close_connections()

    def newest_calls(self, limit: int) -> list[Call]:
        """The newest first."""
        with self._lock:
            return list(reversed(self.calls))[:limit]

    def reply(self, call: Call) -> Reply:
        """Record the call, report it and return the reply; sleeps if the path asks for it."""
        if call.path == ECHO_PATH:
            return Reply(status=200, content=f"{call.source}\n")
        if self._control.is_for(call):
            return self._control.answer(call)
        self._note(call)
        reply = self.behave(call)
        self._report(f"partner: {call.described()} -> {reply.status or 'hung up'}")
        return reply

    def behave(self, call: Call) -> Reply:
        """What the path and the rules ask for."""
        path, query = self.bank.rules.applied(call.path, call.query)
        parameters = StepParameters(query)
        return answer(
            PartnerVisit(call=call, bank=self.bank, parameters=parameters, left=segments(path), finish=answer)
        )

    def admits(self) -> bool:
        """Whether there is room for one more connection. If so, `left` has to follow."""
        self.bank.count("connections")
        if self._limit.acquire(blocking=False):
            return True
        self.bank.count("connections_refused")
        return False

    def left(self) -> None:
        """A connection has ended."""
        self._limit.release()

    def _accept(self) -> None:
        """Takes connections of all ports, until `stop`."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._woken, selectors.EVENT_READ)
            for server in self._servers.values():
                if server.door.accepts:
                    ready.register(server, selectors.EVENT_READ)
            while not self.bank.stopping.is_set():
                for key, _ in ready.select():
                    if isinstance(key.fileobj, _Server):
                        key.fileobj.handle_request()

    def _note(self, call: Call) -> None:
        self.bank.count("calls")
        with self._lock:
            self.calls.append(call)
            self._bytes += len(call.body)
            while len(self.calls) > CALLS_AT_MOST or (self._bytes > CALLS_BYTES_AT_MOST and len(self.calls) > 1):
                self._bytes -= len(self.calls.popleft().body)

    def _open_doors(self, first: Door, port: int, doors_from: int | None) -> None:
        try:
            self._open(first, port)
            if self.certificates is not None and doors_from is not None:
                for offset, door in enumerate(tls_doors(self.certificates)):
                    self._open(door, doors_from and doors_from + offset)
        except LocalError:
            for server in self._servers.values():
                server.server_close()
            raise

    def _open(self, door: Door, port: int) -> None:
        try:
            self._servers[door.name] = _Server((self._address, port), self, door)
        except OSError as error:
            message = f"{self._address}:{port} cannot be used ({error.strerror})."
            raise LocalError(message, advice=Advice.CHOOSE_PARTNER_PORT) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    timeout = 0  # handle_request is called when there is something to accept

    def __init__(self, address: tuple[str, int], partner: Partner, door: Door) -> None:
        self.partner, self.door = partner, door
        self._open: set[socket.socket] = set()
        self._fillers: list[socket.socket] = []
        self._lock = threading.Lock()
        self.request_queue_size = 128 if door.accepts else 0
        super().__init__(address, _Handler)
        if not door.accepts:
            self._fill()
        if door.tls is not None:
            # The handshake is left to the thread that serves the caller: a silent one must not hold up the others.
            self.socket = door.tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.socket.setblocking(False)  # a connection may be gone again before it is accepted

    def server_close(self) -> None:
        """Closes the port."""
        super().server_close()
        for filler in self._fillers:
            filler.close()

    def _fill(self) -> None:
        """Connections to ourselves that fill the kernel's queue, so that nobody else's comes about."""
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.server_address)
            self._fillers.append(filler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's
        """Whether a thread is started for this connection; otherwise it is closed."""
        return self.partner.admits()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts the thread."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread for us
            self.partner.left()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In a thread of its own."""
        with self._lock:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)
            self.partner.left()

    def close_connections(self) -> None:
        """So that no thread waits any longer for what a caller has to say."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that disconnected is not reported."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True  # for byte by byte is what drips
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class looks for do_GET, do_POST and so on: every method is handled alike."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def setup(self) -> None:
        """Before the first request: the handshake, where this port has TLS."""
        super().setup()
        if not self.server.door.shakes_hands:
            self.server.partner.bank.wait(_IDLE_SECONDS)
            raise ConnectionAbortedError
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()

    def _handle(self) -> None:
        body = self._body()
        if body is None:
            return
        call = Call(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            source=self.client_address[0],
            scheme="https" if isinstance(self.connection, ssl.SSLSocket) else "http",
            certificate=self.connection.getpeercert(binary_form=True) if self._has_certificates() else None,
        )
        self._send(call, self.server.partner.reply(call))

    def _has_certificates(self) -> bool:
        return isinstance(self.connection, ssl.SSLSocket) and self.connection.context.verify_mode != ssl.CERT_NONE

    def _body(self) -> bytes | None:
        """The whole body; None after a refusal, where its length is missing, wrong or too large."""
        length = self.headers.get("Content-Length") or "0"
        if self.headers.get("Transfer-Encoding"):
            return self._refused(411)
        if not (length.isascii() and length.isdecimal()):
            return self._refused(400)
        if len(length) > len(str(BODY_BYTES_AT_MOST)) or int(length) > BODY_BYTES_AT_MOST:
            return self._refused(413)
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the caller left in the middle
            self.close_connection = True
            return None
        return body

    def _refused(self, status: int) -> bytes | None:
        """Always None, for a body that was not read."""
        self.close_connection = True
        refusal = message(Reply(status=status, content={"status": status}))
        self.wfile.write(refusal.head + refusal.body)
        return None

    def _send(self, call: Call, reply: Reply) -> None:
        if reply.status is None:
            self.close_connection = True
            return
        goes_on = reply.sending(_Wire(self), message(reply, to_head=call.method == "HEAD"))
        self.close_connection = self.close_connection or not goes_on

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """The partner reports for itself."""


class _Wire:
    """The connection, as a reply's manner of sending uses it."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    def send(self, data: bytes) -> None:
        """Raises OSError when the caller has closed, or does not read for a minute."""
        self._handler.wfile.write(data)

    def wait(self, seconds: float) -> None:
        """Returns early when the partner stops, and soon after the caller has closed."""
        stopping, end_at = self._handler.server.partner.bank.stopping, time.monotonic() + seconds
        while not stopping.is_set() and (left := end_at - time.monotonic()) > 0 and not self._is_closed():
            stopping.wait(min(left, 0.2))

    def reset(self) -> None:
        """Closes with a TCP reset."""
        connection = self._handler.connection
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        socket.close(connection.detach())

    def _is_closed(self) -> bool:
        """Whether the caller has closed; what it sent meanwhile stays where it is."""
        readable = select.poll()
        readable.register(self._handler.connection, select.POLLIN)
        try:
            return bool(readable.poll(0)) and not socket.socket.recv(self._handler.connection, 1, socket.MSG_PEEK)
        except OSError:
            return True

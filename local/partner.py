"""A demo third party on the loopback. It prints one line per request and misbehaves on demand:

    any method  /orders            201, says what it received
    any method  /flaky?failures=2  503 for the first calls of an idempotency key (default 2), then 200
    any method  /slow?seconds=3    200 after a while (default 3 seconds, at most 60)
    any method  /status/418        that status
    any method  /hang-up           reads the request and closes the connection without an answer
    any method  /ip                the caller's address in plain text, as the echo service of the egress check; neither
                                   printed nor stored, because it is called every 15 minutes

Anything else is 404. It is also the partner of the end-to-end tests, which read `calls`.
"""

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local.errors import Advice, LocalError

ECHO_PATH = "/ip"
_LONGEST_SECONDS = 60.0
_CREDENTIALS = re.compile(r"key|token|secret|password|auth|signature|credential")  # in a header's name
_NO_CREDENTIALS = frozenset({"authorization", "idempotency-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as the partner got it; header names in lower case, the last of several."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    source: str

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def idempotency_key(self) -> str:
        """Empty when there is none."""
        return self.headers.get("idempotency-key", "")

    def described(self) -> str:
        """One line to read: of credentials only the scheme or the header's name, of the target only the path."""
        return f"{self.source} {self.method} {self.path} auth={self._credentials()} key={self.idempotency_key or '-'}"

    def _credentials(self) -> str:
        """Which credentials came, and nothing of them: of an Authorization without a scheme not even a word."""
        scheme, space, _ = self.headers.get("authorization", "").partition(" ")
        named = [name for name in self.headers if _CREDENTIALS.search(name) and name not in _NO_CREDENTIALS]
        if "authorization" in self.headers:
            named.insert(0, scheme if space else "authorization")
        return ",".join(named) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer, as JSON unless it is a text; None as the status closes the connection without an answer."""

    status: int | None
    content: Mapping[str, Any] | str


class Partner:
    """The server. `report` gets a line per request. With `tls` it speaks HTTPS."""

    def __init__(
        self,
        *,
        port: int,
        report: Callable[[str], None] = print,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._report = report
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        try:
            self._server = _Server((address, port), self)
        except OSError as error:
            raise LocalError(
                f"{address}:{port} cannot be used ({error.strerror}).", advice=Advice.CHOOSE_PARTNER_PORT
            ) from error
        if tls is not None:
            # The handshake is left to the thread that serves the caller: a silent one must not hold up the others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="partner", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def is_running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving and close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def reply(self, call: Call) -> Reply:
        """Record the call, report it and return the reply; sleeps if the path asks for it."""
        if call.path == ECHO_PATH:
            return Reply(status=200, content=f"{call.source}\n")
        with self._lock:
            self.calls.append(call)
        reply = self._reply(call)
        self._report(f"partner: {call.described()} -> {reply.status or 'hung up'}")
        return reply

    def _reply(self, call: Call) -> Reply:
        query = {name: values[-1] for name, values in parse_qs(urlsplit(call.target).query).items()}
        head, _, rest = call.path.strip("/").partition("/")
        match head:
            case "orders":
                received = {"method": call.method, "path": call.path, "body": call.body.decode("utf-8", "replace")}
                return Reply(status=201, content={"received": received})
            case "flaky":
                return self._flaky(call, failures=int(query.get("failures", "2")))
            case "slow":
                seconds = min(float(query.get("seconds", "3")), _LONGEST_SECONDS)
                time.sleep(seconds)
                return Reply(status=200, content={"slept_seconds": seconds})
            case "status" if rest.isdecimal() and 200 <= int(rest) <= 599:
                return Reply(status=int(rest), content={"status": int(rest)})
            case "hang-up":
                return Reply(status=None, content={})
            case _:
                return Reply(status=404, content={"detail": "try /orders, /flaky, /slow, /status/418 or /hang-up"})

    def _flaky(self, call: Call, *, failures: int) -> Reply:
        with self._lock:
            self._seen[call.idempotency_key] += 1
            number = self._seen[call.idempotency_key]
        return Reply(status=503 if number <= failures else 200, content={"call": number})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], partner: Partner) -> None:
        self.partner = partner
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that disconnected is not reported."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class looks for do_GET, do_POST and so on: every method is handled alike."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        call = Call(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            source=self.client_address[0],
        )
        reply = self.server.partner.reply(call)
        if reply.status is None:
            self.close_connection = True
            return
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        bodiless = reply.status in (204, 304)
        text = isinstance(reply.content, str)
        content = b"" if bodiless else _encoded(reply.content)
        self.send_response(reply.status or 500)
        if not bodiless:
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """The partner reports for itself."""


def _encoded(content: Mapping[str, Any] | str) -> bytes:
    return content.encode() if isinstance(content, str) else json.dumps(content).encode() + b"\n"

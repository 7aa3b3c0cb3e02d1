"""A running demo partner of a test's own, and a caller that shows every byte of its replies."""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.partner import Partner
from local.partner.bank import Bank

PATIENCE_SECONDS = 60.0  # how long a caller waits for what must come; only a failure takes that long


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A reply as it came: `raw` is every byte until the connection ended."""

    raw: bytes

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        pairs = [line.partition(": ")[::2] for line in self.head.split("\r\n")[1:]]
        return next((value for key, value in pairs if key.lower() == name.lower()), None)


@contextmanager
def running_partner(
    *, doors: bool = False, lines: list[str] | None = None, bank: Bank | None = None
) -> Iterator[Partner]:
    """One that has every port with TLS where `doors`."""
    report = (lambda _: None) if lines is None else lines.append
    partner = Partner(port=0, report=report, doors_from=0 if doors else None, bank=bank)
    partner.start()
    try:
        yield partner
    finally:
        partner.stop()


def ask(
    partner: Partner, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None, *,
    method: str = "POST", door: str = "http", tls: ssl.SSLContext | None = None,
) -> Answered:  # fmt: skip
    """One request on a connection of its own, and all that comes back until that ends."""
    content = body.encode() if isinstance(body, str) else body or b""
    fields = {"Host": f"127.0.0.1:{partner.doors[door][0]}", "Connection": "close", "Content-Length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return Answered(raw=exchange(partner, "\r\n".join(lines).encode() + b"\r\n\r\n" + content, door=door, tls=tls))


def exchange(partner: Partner, request: bytes, *, door: str = "http", tls: ssl.SSLContext | None = None) -> bytes:
    """Everything that comes back for these bytes until the connection ends. A reset raises ConnectionResetError."""
    with connected(partner, door=door, tls=tls) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def connected(partner: Partner, *, door: str = "http", tls: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """A connection, after the handshake where there is one."""
    with socket.create_connection(("127.0.0.1", partner.doors[door][0]), timeout=PATIENCE_SECONDS) as plain:
        if tls is None:
            yield plain
            return
        with tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            yield connection


def trusting(partner: Partner, directory: Path, *, client: str | None = None) -> ssl.SSLContext:
    """A caller that trusts the partner's CA and shows the certificate `client`."""
    assert partner.certificates is not None
    files = partner.certificates.files()
    context = ssl.create_default_context(cadata=files["ca.pem"].decode())
    if client is not None:
        file = directory / f"{client}.pem"
        file.write_bytes(files[f"{client}.pem"])
        context.load_cert_chain(file)
    return context

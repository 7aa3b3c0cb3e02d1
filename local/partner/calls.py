"""A request as the partner got it, and the reply to it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

_CREDENTIALS = re.compile(r"key|token|secret|password|auth|signature|credential")  # in a header's name
_NO_CREDENTIALS = frozenset({"authorization", "idempotency-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request; header names in lower case, the last of several. `certificate` is the caller's in DER, None without
    one; `scheme` is http or https."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    source: str
    scheme: str = "http"
    certificate: bytes | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return urlsplit(self.target).query

    @property
    def url(self) -> str:
        """As the caller wrote it, with the Host header's name."""
        return f"{self.scheme}://{self.headers.get('host', '')}{self.target}"

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
        if self.certificate is not None:
            named.append("certificate")
        return ",".join(named) or "none"


class CallerConnection(Protocol):
    """What a reply can do with the caller's connection."""

    def send(self, data: bytes) -> None:
        """Raises OSError when the caller has closed."""

    def wait(self, seconds: float) -> None:
        """Returns early when the partner stops."""

    def reset(self) -> None:
        """Closes with a TCP reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyBytes:
    """A reply in bytes: the status line with the headers and the empty line after them, and the body."""

    head: bytes
    body: bytes


# Puts a reply on the connection in its own manner, and returns whether the connection can carry another request.
type Sending = Callable[[CallerConnection, ReplyBytes], bool]


def _as_it_is(connection: CallerConnection, message: ReplyBytes) -> bool:
    connection.send(message.head + message.body)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer, as JSON unless it is a text; None as the status closes the connection without an answer."""

    status: int | None
    content: Mapping[str, Any] | str
    headers: tuple[tuple[str, str], ...] = ()
    sending: Sending = _as_it_is

"""A request as the signatures of all schemes see it: what will be sent, and when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import assert_never
from urllib.parse import urlsplit

from domain.outcomes import Headers
from domain.signing import TimestampFormat
from egress.request import implied_headers, target_of

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, kw_only=True)
class UnsignedRequest:
    """A request that is to be signed.

    `url` is as it will be sent; `headers` are final, and further ones are added by each scheme. `message_id` is the
    same on every attempt of a delivery, `at` the time of this one.
    """

    method: str
    url: str
    headers: Headers
    body: bytes = field(repr=False)
    message_id: str
    at: datetime

    @cached_property
    def target(self) -> str:
        """The request target: path and query, as in the request line."""
        return target_of(self.url)

    @property
    def path(self) -> str:
        """The path of the target, "/" where the URL has none."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query of the target without its question mark."""
        return self.target.partition("?")[2]

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return urlsplit(self.url).scheme.lower()

    @property
    def host(self) -> str:
        """Host and port as they are sent: libcurl leaves out the port that is the scheme's own."""
        return urlsplit(self.url).netloc.removesuffix(_DEFAULT_PORTS[self.scheme])

    @property
    def authority(self) -> str:
        """Host and port in their normal form (RFC 9421 section 2.2.3)."""
        return self.host.lower()

    @property
    def unix_seconds(self) -> int:
        """The time of the attempt in whole seconds since 1970."""
        return int(self.at.timestamp())

    def value_of(self, name: str) -> str | None:
        """The value of the field `name` (lower case), all its lines joined (RFC 9421 section 2.1); None without it."""
        sent = (*self.headers, *implied_headers(self.method, headers=self.headers, body=self.body))
        values = [value.strip(" \t") for field_name, value in sent if field_name.lower() == name]
        return ", ".join(values) if values else None

    def timestamp(self, form: TimestampFormat) -> str:
        """The time of the attempt as text."""
        match form:
            case TimestampFormat.UNIX:
                return str(self.unix_seconds)
            case TimestampFormat.UNIX_MS:
                return str(int(self.at.timestamp() * 1000))
            case TimestampFormat.ISO8601:
                return self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            case _:
                assert_never(form)

    def template_values(self, form: TimestampFormat = TimestampFormat.UNIX) -> Mapping[str, bytes]:
        """The values of the fields of templates."""
        return {
            "id": self.message_id.encode(),
            "timestamp": self.timestamp(form).encode(),
            "method": self.method.encode(),
            "path": self.path.encode(),
            "query": self.query.encode(),
            "body": self.body,
        }

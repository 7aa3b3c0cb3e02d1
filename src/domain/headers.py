"""Which headers may be sent to a partner, and which come back to a caller."""

import re
from collections.abc import Iterable, Sequence

from domain.outcomes import Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5: no CR, LF, NUL or other control characters

# RFC 9110 section 7.6.1: they concern one connection, not the message.
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# The HTTP client sets these from the URL and the body.
FRAMING = frozenset({"host", "content-length", "expect"})
# Ours: the caller's token for Sallyport, its preferences to Sallyport, and what API Gateway adds.
OURS = frozenset({"authorization", "prefer", "idempotency-key", "via", "forwarded", "x-real-ip"})
OUR_PREFIXES = ("sallyport-", "x-forwarded-", "x-amzn-", "x-amz-cf-", "cloudfront-")


def header_fault(name: str, value: str) -> str | None:
    """Why a header that a caller asks for cannot be sent; None when it can."""
    if not _TOKEN.fullmatch(name):
        return "the name must be an RFC 9110 token"
    if not _VALUE.fullmatch(value):
        return "the value must be one line of Latin-1 text without control characters"
    return _forbidden(name.lower())


def forwardable(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers of a pass-through call that are sent to the partner: all but hop-by-hop headers and our own.

    Those that the `Connection` header names are hop-by-hop too.
    """
    listed = tuple(headers)
    named = _named_by_connection(listed)
    return tuple(
        (name, value) for name, value in listed if _forbidden(name.lower()) is None and name.lower() not in named
    )


def returnable(headers: Headers) -> Headers:
    """The headers of a partner's answer that are returned to a pass-through caller: all but hop-by-hop headers."""
    named = _named_by_connection(headers)
    left_out = HOP_BY_HOP | named | {"content-length", "idempotency-replayed"}
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in left_out and not name.lower().startswith("sallyport-")  # a partner must not set ours
    )


def merged(*parts: Sequence[tuple[str, str]]) -> Headers:
    """All parts together; where a later part has a header of the same name, the earlier one is left out."""
    result: Headers = ()
    for part in parts:
        if not part:
            continue
        if result:
            names = {name.lower() for name, _ in part}
            result = (*[field for field in result if field[0].lower() not in names], *part)
        else:
            result = tuple(part)
    return result


def _forbidden(name: str) -> str | None:
    if name in HOP_BY_HOP or name in FRAMING:
        return f"'{name}' belongs to the connection and is set by Sallyport"
    if name == "authorization":
        return "'authorization' is set by Sallyport: credentials for the partner are the destination's 'auth'"
    if name == "idempotency-key":
        return (
            "'idempotency-key' is a header of this call; the partner gets it under the destination's "
            "'idempotency_header'"
        )
    if name in OURS:
        return f"'{name}' is reserved"
    if name.startswith(OUR_PREFIXES):
        prefix = next(prefix for prefix in OUR_PREFIXES if name.startswith(prefix))
        return f"names that begin with '{prefix}' are reserved"
    return None


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(
        part.strip().lower() for name, value in headers if name.lower() == "connection" for part in value.split(",")
    )

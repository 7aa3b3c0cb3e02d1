"""The request on the wire: as it was asked for, without anything that libcurl would add by itself."""

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache

import pycurl

from domain.destinations import Timeouts
from domain.outcomes import Headers, Unreachable
from domain.values import value_class
from egress.headers import fault_in, field_line, is_token
from egress.tls import RequestTls
from runtime.version import VERSION

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})  # these say Content-Length: 0 (RFC 9110 section 8.6)
USER_AGENT = f"Sallyport/{VERSION}"
_UNWANTED = (("accept", b"Accept:"), ("content-type", b"Content-Type:"), ("expect", b"Expect:"))


@value_class(frozen=True, slots=True, kw_only=True)
class OutboundRequest:
    """A request as it is sent.

    `url` is absolute and percent-encoded, and is sent byte for byte. `headers` are final: the client adds Host and
    Content-Length, and a User-Agent where there is none. `may_repeat` says that it may be sent again whatever became of
    it (`domain.destinations.RepeatRule`): only such a request uses a connection that was open before, since one that
    turns out to be dead leaves unknown whether the request arrived. `owner` is whose connection that must have been,
    since an answer to one owner must not be read by another; it changes with `tls`, which a connection began with.
    `secrets` are masked in what comes back. `after_401` is the request in place of one that is answered 401: such an
    answer says that nothing was done (RFC 9110 section 15.5.2).
    """

    method: str
    url: str
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    may_repeat: bool = False
    owner: str = ""
    tls: RequestTls | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    after_401: "PendingRequest | None" = None


@value_class(frozen=True, slots=True, kw_only=True)
class PendingRequest:
    """A request that needs something which is still to come, such as an access token.

    `draft` is the request without it. `begin` has it fetched, on another thread, and is given what is to be called
    then, on any thread: with the request to send, or with why there will be none. Where that takes longer than
    `within_seconds`, the outcome is `late`. The time that it takes is part of the request's total.
    """

    draft: OutboundRequest
    begin: Callable[[Callable[[OutboundRequest | Unreachable], None]], None]
    within_seconds: float
    late: Unreachable


def fault_in_request(request: OutboundRequest) -> str | None:
    """Why `request` cannot be put on the wire (its URL aside); None when it can."""
    if not _is_sendable(request.method):
        return "the method cannot be sent"
    if request.method == "HEAD" and request.body:
        return "a HEAD request has no body"
    return fault_in(request.headers)


@lru_cache(maxsize=100)
def _is_sendable(method: str) -> bool:
    return is_token(method) and method.upper() != "CONNECT"


def set_request(handle: pycurl.Curl, request: OutboundRequest) -> None:
    """Gives libcurl the request to send."""
    handle.setopt(pycurl.URL, request.url)
    handle.setopt(pycurl.REQUEST_TARGET, target_of(request.url))  # libcurl would rewrite dots and %2f in the URL's
    _set_method(handle, request)
    given = {name.lower() for name, _ in request.headers}
    lines = [field_line(name, value) for name, value in request.headers]
    handle.setopt(pycurl.HTTPHEADER, [*lines, *[line for name, line in _UNWANTED if name not in given]])


def implied_headers(method: str, *, headers: Headers, body: bytes) -> Headers:
    """The headers that such a request is sent with beside its own and Host: a signature may cover them."""
    agent = () if any(name.lower() == "user-agent" for name, _ in headers) else (("User-Agent", USER_AGENT),)
    return (*agent, ("Content-Length", str(len(body)))) if body or method in _BODY_METHODS else agent


def target_of(url: str) -> str:
    """The request target (RFC 9112 section 3.2.1): path and query exactly as in `url`."""
    path, query = url.find("/", url.find("://") + 3), url.find("?")
    if path >= 0 and (query < 0 or path < query):
        return url[path:]
    return "/" if query < 0 else f"/{url[query:]}"


def _set_method(handle: pycurl.Curl, request: OutboundRequest) -> None:
    if request.body or request.method in _BODY_METHODS:
        handle.setopt(pycurl.POSTFIELDS, request.body)
    if request.method == "HEAD":
        handle.setopt(pycurl.NOBODY, 1)  # or libcurl would wait for the body that Content-Length announces
    else:
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)

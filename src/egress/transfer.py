"""One request on the wire: how libcurl is told to make it, and what is made of how it ended."""

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address

import pycurl

from domain.destinations import Timeouts
from domain.outcomes import Exchange, Headers, Outcome, Refused, Timings, Unknown, Unreachable
from egress.addresses import Address, Target
from egress.engine import Ended
from egress.headers import fault_in, field_line, is_token, storable
from egress.response import Response
from runtime.version import VERSION

# Servers close idle connections after as little as 2 to 5 s, load balancers after 60 s; a frozen function misses that.
IDLE_CONNECTION_SECONDS = 15
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})  # these say Content-Length: 0 (RFC 9110 section 8.6)
_LONGEST_DETAIL = 200
_TLS_FAILURES = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CACERT,
        pycurl.E_SSL_PEER_CERTIFICATE,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_SSL_INVALIDCERTSTATUS,
    }
)
_HTTP2_STREAM = 92  # CURLE_HTTP2_STREAM, for which pycurl has no name
_BROKEN = {
    pycurl.E_GOT_NOTHING: "the connection was closed before any answer",
    pycurl.E_PARTIAL_FILE: "the connection was closed in the middle of the answer",
    pycurl.E_SEND_ERROR: "the connection broke while the request was being sent",
    pycurl.E_RECV_ERROR: "the connection broke before the answer was complete",
    pycurl.E_HTTP2: "the HTTP/2 connection broke before the answer was complete",
    _HTTP2_STREAM: "the HTTP/2 stream was reset before the answer was complete",
    pycurl.E_ABORTED_BY_CALLBACK: "the connection broke before any answer",
    pycurl.E_UNSUPPORTED_PROTOCOL: "the answer is not HTTP",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "the answer is not HTTP",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRequest:
    """A request as it goes out.

    `url` is absolute and percent-encoded, and is sent byte for byte. `headers` are final: the client adds Host and
    Content-Length, and a User-Agent where there is none. `may_repeat` says that a second arrival does no harm
    (`domain.destinations.may_repeat`): only such a request uses a connection that was open before, since one that turns
    out to be dead leaves unknown whether the request arrived.
    """

    method: str
    url: str
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    may_repeat: bool = False


def fault_in_request(request: OutboundRequest) -> str | None:
    """Why `request` cannot be put on the wire (its URL aside); None when it can."""
    if not is_token(request.method) or request.method.upper() == "CONNECT":
        return "the method cannot be sent"
    if request.method == "HEAD" and request.body:
        return "a HEAD request carries no body"
    return fault_in(request.headers)


class Transfer:
    """One request from its start to its end. All moments are monotonic seconds."""

    def __init__(self, request: OutboundRequest, *, started_at: float) -> None:
        self.request = request
        self.exchange: Exchange | None = None
        self._started_at = started_at
        self._begun_at: float | None = None
        self._way = _Way(frozenset())
        self._response = Response()

    @property
    def connect_by(self) -> float:
        """When there must be a connection, name lookup and TLS included."""
        timeouts = self.request.timeouts
        return self._started_at + min(timeouts.connect_seconds, timeouts.first_byte_seconds, timeouts.total_seconds)

    @property
    def answer_by(self) -> float:
        """When the answer must have begun; once it has, when all of it must be there."""
        timeouts = self.request.timeouts
        seconds = timeouts.total_seconds if self._response.begun else timeouts.first_byte_seconds
        return self._started_at + min(seconds, timeouts.total_seconds)

    def begin(self, target: Target, addresses: Collection[Address], *, roots: str, now: float) -> pycurl.Curl:
        """A libcurl handle, ready to run, that connects to one of `addresses` and to nothing else."""
        self._begun_at = now
        self._way = _Way(frozenset(addresses))
        handle = pycurl.Curl()
        _set_route(handle, target, addresses, roots=roots)
        _set_request(handle, self.request)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(self.connect_by - now))
        handle.setopt(pycurl.TIMEOUT_MS, _milliseconds(self._started_at + self.request.timeouts.total_seconds - now))
        handle.setopt(pycurl.OPENSOCKETFUNCTION, self._way.open_socket)
        handle.setopt(pycurl.PREREQFUNCTION, self._way.about_to_send)
        handle.setopt(pycurl.HEADERFUNCTION, self._response.take_header)
        handle.setopt(pycurl.WRITEFUNCTION, self._response.take_body)
        return handle

    def end_unsent(self, outcome: Outcome, *, now: float) -> None:
        """Ends a transfer that never got as far as libcurl."""
        self.exchange = Exchange(outcome=outcome, timings=Timings(total_ms=_since(self._started_at, now)))

    def end(self, ended: Ended, *, now: float) -> None:
        """Ends a transfer that libcurl is done with, or that was taken from it because it was late."""
        self.exchange = Exchange(
            outcome=self._outcome(ended),
            timings=self._timings(ended.handle, now=now),
            remote_address=self._way.reached or _peer(ended.handle),
        )
        self._way.let_go()
        ended.handle.close()

    def _outcome(self, ended: Ended) -> Outcome:
        if self._response.capped or (ended.code == pycurl.E_OK and self._response.has_status):
            return self._response.answered()
        if ended.handle.getinfo(pycurl.REQUEST_SIZE):  # bytes written, over all connections that were tried
            return Unknown(reason=self._why_unknown(ended))
        if self._way.unchecked is not None:
            return Refused(reason=f"the name led to {self._way.unchecked}, which was not checked")
        return Unreachable(reason=self._why_unreachable(ended))

    def _why_unknown(self, ended: Ended) -> str:
        if ended.code == pycurl.E_OPERATION_TIMEDOUT:
            timeouts = self.request.timeouts
            if self._response.begun or timeouts.first_byte_seconds >= timeouts.total_seconds:
                return f"no complete answer within {timeouts.total_seconds:g} s"
            return f"no answer within {timeouts.first_byte_seconds:g} s"
        return _BROKEN.get(ended.code, "the answer cannot be read") + _system_words(ended.handle)

    def _why_unreachable(self, ended: Ended) -> str:
        if ended.code == pycurl.E_OPERATION_TIMEDOUT:
            return f"no connection within {self.connect_by - self._started_at:g} s"
        if ended.code in _TLS_FAILURES:
            return f"TLS: {storable(ended.detail.encode('latin-1', 'replace'))[:_LONGEST_DETAIL]}"
        return f"no connection{_system_words(ended.handle)}"

    def _timings(self, handle: pycurl.Curl, *, now: float) -> Timings:
        assert self._begun_at is not None  # noqa: S101 - it is set before there is a handle
        waited = _since(self._started_at, self._begun_at)
        return Timings(
            dns_ms=waited,
            connect_ms=_after(waited, handle.getinfo(pycurl.CONNECT_TIME)),
            tls_ms=_after(waited, handle.getinfo(pycurl.APPCONNECT_TIME)),
            first_byte_ms=_after(waited, handle.getinfo(pycurl.STARTTRANSFER_TIME)) if self._response.begun else None,
            total_ms=_since(self._started_at, now),
        )


class _Way:
    """Watches where a transfer connects, and that it sends its request over one connection only."""

    def __init__(self, checked: frozenset[Address]) -> None:
        self.unchecked: str | None = None
        self.reached: str | None = None
        self._checked = checked
        self._opened: list[socket.socket] = []

    def open_socket(self, _purpose: int, to: "pycurl.CurlSockAddr") -> socket.socket | int:
        """libcurl is about to connect: the last look at the address, which is the one that is used."""
        address = str(to.addr[0])
        if ip_address(address) not in self._checked:
            self.unchecked = address
            return int(pycurl.SOCKET_BAD)
        opened = socket.socket(to.family, to.socktype, to.protocol)
        self._opened.append(opened)
        return opened

    def let_go(self) -> None:
        """Closes our ends of the sockets: pycurl works with duplicates, and a connection lives as long as either."""
        while self._opened:
            self._opened.pop().close()

    def about_to_send(self, remote_address: str, _local_address: str, _remote_port: int, _local_port: int) -> int:
        """libcurl has a connection and is about to send the request over it.

        It comes here a second time when a kept connection died without an answer, to send everything again over a new
        one. Whether the partner has acted by then nobody knows, so this ends the transfer.
        """
        self.let_go()
        if self.reached is not None:
            return int(pycurl.PREREQFUNC_ABORT)
        self.reached = remote_address
        return int(pycurl.PREREQFUNC_OK)


def _set_route(handle: pycurl.Curl, target: Target, addresses: Collection[Address], *, roots: str) -> None:
    """Where it goes and whom it trusts: the checked addresses, no proxy, no redirect, verified certificates."""
    pinned = ",".join(f"[{address}]" if address.version == 6 else str(address) for address in addresses)
    handle.setopt(pycurl.RESOLVE, [f"{target.host}:{target.port}:{pinned}"])
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.FOLLOWLOCATION, 0)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.SSL_VERIFYPEER, 1)
    handle.setopt(pycurl.SSL_VERIFYHOST, 2)
    handle.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
    handle.setopt(pycurl.CAINFO, roots)
    handle.setopt(pycurl.MAXAGE_CONN, IDLE_CONNECTION_SECONDS)


def _set_request(handle: pycurl.Curl, request: OutboundRequest) -> None:
    """What is sent, and nothing that libcurl would add of its own accord."""
    handle.setopt(pycurl.URL, request.url)
    handle.setopt(pycurl.REQUEST_TARGET, _target_of(request.url))  # libcurl would rewrite dots and %2f in the URL's
    if request.body or request.method in _BODY_METHODS:
        handle.setopt(pycurl.POSTFIELDS, request.body)
    if request.method == "HEAD":
        handle.setopt(pycurl.NOBODY, 1)
    else:
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
    if not request.may_repeat:
        handle.setopt(pycurl.FRESH_CONNECT, 1)
    given = {name.lower() for name, _ in request.headers}
    unwanted = [f"{name}:".encode() for name in ("Accept", "Content-Type", "Expect") if name.lower() not in given]
    handle.setopt(pycurl.HTTPHEADER, [field_line(name, value) for name, value in request.headers] + unwanted)
    if "user-agent" not in given:
        handle.setopt(pycurl.USERAGENT, f"Sallyport/{VERSION}")


def _target_of(url: str) -> str:
    """The request target (RFC 9112 section 3.2.1): path and query as they stand in `url`."""
    after_authority = url.partition("://")[2]
    cut = min(place for mark in "/?" if (place := (after_authority + "/?").find(mark)) >= 0)
    target = after_authority[cut:]
    return target if target.startswith("/") else f"/{target}"


def _peer(handle: pycurl.Curl) -> str | None:
    """The other end of a connection that was made and then not used, as when TLS fails."""
    return handle.getinfo(pycurl.PRIMARY_IP) or None if handle.getinfo(pycurl.CONNECT_TIME) else None


def _system_words(handle: pycurl.Curl) -> str:
    number = handle.getinfo(pycurl.OS_ERRNO)
    return f": {os.strerror(number)}" if number else ""


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would mean no limit


def _since(earlier: float, later: float) -> float:
    return (later - earlier) * 1000


def _after(waited_ms: float, seconds: float) -> float | None:
    """libcurl's time from its own start, as time from the attempt's; None where it says 0, for not reached."""
    return waited_ms + seconds * 1000 if seconds else None

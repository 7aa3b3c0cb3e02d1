"""Which connections one request may use: to a checked address and no other, and one connection only."""

import re
import socket
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any

import pycurl

from domain.values import value_class
from egress.addresses import REMEMBERED, IpAddress, UrlTarget
from egress.request import USER_AGENT
from egress.sockets import LocalEndpoint, OpenSockets
from egress.tls import Handshake, RequestTls, set_tls

# Servers close idle connections after as little as 2 to 5 s, load balancers after 60 s; a frozen function misses that.
IDLE_CONNECTION_SECONDS = 15
LONGEST_CONNECTION_SECONDS = 60  # certificates and routes are checked again, however busy a connection is

# libcurl clears a buffer for each request, of 64 KiB unless it is told otherwise: an eighth of what an attempt takes.
SMALL_BUFFER_BYTES = 16 * 1024  # the least that libcurl takes, and what fits into one TLS record

_NOT_PROCESSED = rb"REFUSED_STREAM, retrying|received GOAWAY, error=\d+, last_stream=0\b"

_NO_HANDSHAKE = Handshake()  # of a request without TLS, for which nothing reads into it
_OF_HTTP_1 = frozenset({pycurl.CURL_HTTP_VERSION_1_0, pycurl.CURL_HTTP_VERSION_1_1})


@value_class(frozen=True, slots=True, kw_only=True)
class PinnedRoute:
    """Where a request goes: one of `addresses`, all checked. `roots` is the CA bundle, `sockets` the engine's.

    `encrypted` says that it uses TLS, and so may use HTTP/2; `tls` is what it needs of that beside the usual.
    `owner` is whose open connections it may use.
    """

    target: UrlTarget
    addresses: tuple[IpAddress, ...]
    roots: str
    sockets: OpenSockets
    encrypted: bool
    owner: str = ""
    tls: RequestTls | None = None


class ConnectionPolicy:
    """Watches one transfer connect and send.

    `reached` is the address that the request is going to, `unchecked` one that was refused at the last moment; both are
    None where there is none. `stale` says that a reused connection had ended, has an answer that nobody asked for,
    belongs to another owner, or leads to an address that was not checked this time; each was seen before anything was
    sent. `not_processed` says that the partner stated that it
    did nothing with the request, as HTTP/2 allows (RFC 9113 section 8.7). `handshake` is that of a new connection.
    """

    def __init__(self, route: PinnedRoute) -> None:
        self.not_processed = False
        self.reached: str | None = None
        self.unchecked: str | None = None
        self.stale = False
        self.handshake = Handshake() if route.encrypted else _NO_HANDSHAKE
        self._route = route
        self._local: LocalEndpoint | None = None
        self._opened: list[socket.socket] = []
        self._descriptors: list[int] = []

    @property
    def refused_by_partner(self) -> bool:
        """Whether the partner ended the handshake of a new connection because of our certificate."""
        return bool(self._descriptors) and self.handshake.refused_us

    def set(self, handle: pycurl.Curl, *, fresh: bool) -> None:
        """Sets the addresses; `fresh` asks for a new connection."""
        _pin(handle, self._route)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        handle.setopt(pycurl.SOCKOPTFUNCTION, self._socket_opened)
        handle.setopt(pycurl.PREREQFUNCTION, self._about_to_send)
        if fresh:
            handle.setopt(pycurl.FRESH_CONNECT, 1)
        if self._route.encrypted:
            self._set_encryption(handle, fresh=fresh)

    def ended(self, handle: pycurl.Curl) -> None:
        """The transfer has ended. Whatever comes next unasked on an HTTP/1.1 connection is not an answer."""
        if self._local is None:
            return
        if not self._route.encrypted or handle.getinfo(pycurl.INFO_HTTP_VERSION) in _OF_HTTP_1:
            self._route.sockets.expect_silence(self._local)

    def _set_encryption(self, handle: pycurl.Curl, *, fresh: bool) -> None:
        if self._route.tls is not None:
            set_tls(handle, self._route.tls)
        handle.setopt(pycurl.VERBOSE, 1)
        handle.setopt(pycurl.DEBUGFUNCTION, self._read_log if fresh else self._read_handshake)

    def _open_socket(self, _purpose: int, to: Any) -> socket.socket | int:
        """libcurl is about to connect: the last check of the address, of exactly the one that is used."""
        address = str(to.addr[0])
        if not self._is_checked(address):
            self.unchecked = address
            return int(pycurl.SOCKET_BAD)
        try:
            opened = socket.socket(to.family, to.socktype, to.protocol)
        except OSError:  # no IPv6 here, or no descriptor left: libcurl goes on to the next address, if any
            return int(pycurl.SOCKET_BAD)
        self._opened.append(opened)
        return opened

    def _socket_opened(self, descriptor: int, _purpose: int) -> int:
        """libcurl has a duplicate of our socket; ours is closed, or the connection would live as long as either."""
        while self._opened:
            self._opened.pop().close()
        self._descriptors.append(descriptor)
        return int(pycurl.SOCKOPT_OK)

    def _read_log(self, kind: int, line: bytes) -> None:
        """Only libcurl's log says this. Should its words change, such requests end as unknown.

        A request on a connection of its own is stream 1, so that only a GOAWAY whose last stream is 0 excludes it. On a
        reused connection the log does not say which stream it is, so it is not read (docs/adr/0003).
        """
        if kind == pycurl.INFOTYPE_TEXT:
            self.not_processed = self.not_processed or re.match(_NOT_PROCESSED, line) is not None
        else:
            self._read_handshake(kind, line)

    def _read_handshake(self, kind: int, message: bytes) -> None:
        if kind == pycurl.INFOTYPE_SSL_DATA_IN:
            self.handshake.read(message)
        elif kind == pycurl.INFOTYPE_SSL_DATA_OUT:
            self.handshake.sent(message)

    def _about_to_send(self, remote_address: str, local_address: str, _remote_port: int, local_port: int) -> int:
        """libcurl has a connection and is about to send the request over it.

        It calls this a second time when a reused connection broke without an answer, to send everything again over a
        new one. By then the partner may have acted, so this ends the transfer.
        """
        if self.reached is not None:
            return int(pycurl.PREREQFUNC_ABORT)
        local = (local_address, local_port)
        if self._descriptors:
            self._route.sockets.note(local, self._descriptors, owner=self._route.owner)
        elif not self._is_checked(remote_address) or not self._route.sockets.is_usable(local, owner=self._route.owner):
            self.stale = True
            return int(pycurl.PREREQFUNC_ABORT)
        self.reached, self._local = remote_address, local
        return int(pycurl.PREREQFUNC_OK)

    def _is_checked(self, address: str) -> bool:
        return _address(address) in self._route.addresses


@lru_cache(maxsize=REMEMBERED)
def _address(text: str) -> IpAddress:
    return ip_address(text)


def new_handle(roots: str) -> pycurl.Curl:
    """A handle for one transfer: http(s) only, no proxy, no redirect, no .netrc, certificates verified by `roots`.

    It is a copy of one that is never used, which has nothing of any transfer. Setting its options one by one would take
    three times as long.
    """
    return _unused_handle(roots).duphandle()


@cache
def _unused_handle(roots: str) -> pycurl.Curl:
    handle = pycurl.Curl()
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
    handle.setopt(pycurl.USERAGENT, USER_AGENT)  # a header of that name takes its place
    handle.setopt(pycurl.UPLOAD_BUFFERSIZE, SMALL_BUFFER_BYTES)
    handle.setopt(pycurl.MAXAGE_CONN, IDLE_CONNECTION_SECONDS)
    handle.setopt(pycurl.MAXLIFETIME_CONN, LONGEST_CONNECTION_SECONDS)
    return handle


def _pin(handle: pycurl.Curl, route: PinnedRoute) -> None:
    """The checked addresses, and no others."""
    if route.target.address is None:
        pinned = ",".join(f"[{address}]" if address.version == 6 else str(address) for address in route.addresses)
        handle.setopt(pycurl.RESOLVE, [f"{route.target.host}:{route.target.port}:{pinned}"])

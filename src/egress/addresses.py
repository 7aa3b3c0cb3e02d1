"""The SSRF guard: which URLs and addresses a request may go to.

The table is written out, row by row, and does not rely on `ipaddress.is_global`, which passes 64:ff9b::a9fe:a9fe
(NAT64), 2002:a9fe:a9fe::1 (6to4), ::127.0.0.1, fec0::1 and 192.88.99.3.
"""

import re
import socket
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, assert_never

from domain.outcomes import FailedStep, Refused, Unreachable
from domain.values import value_class
from runtime.settings import EgressSettings, IpNetwork

type IpAddress = IPv4Address | IPv6Address

REFUSED_RANGES: tuple[tuple[IpNetwork, str], ...] = tuple(
    (ip_network(block), why)
    for block, why in (
        ("0.0.0.0/8", "'this network' (RFC 791 section 3.2)"),
        ("10.0.0.0/8", "private use (RFC 1918)"),
        ("100.64.0.0/10", "shared address space of carriers (RFC 6598)"),
        ("127.0.0.0/8", "loopback (RFC 1122 section 3.2.1.3)"),
        ("169.254.0.0/16", "link local, with cloud metadata services (RFC 3927)"),
        ("172.16.0.0/12", "private use (RFC 1918)"),
        ("192.0.0.0/24", "IETF protocol assignments (RFC 6890)"),
        ("192.0.2.0/24", "documentation, TEST-NET-1 (RFC 5737)"),
        ("192.88.99.0/24", "6to4 relays (RFC 7526)"),
        ("192.168.0.0/16", "private use (RFC 1918)"),
        ("198.18.0.0/15", "benchmarking (RFC 2544)"),
        ("198.51.100.0/24", "documentation, TEST-NET-2 (RFC 5737)"),
        ("203.0.113.0/24", "documentation, TEST-NET-3 (RFC 5737)"),
        ("224.0.0.0/4", "multicast (RFC 5771)"),
        ("240.0.0.0/4", "reserved, and limited broadcast (RFC 1112 section 4, RFC 8190)"),
        ("::/128", "the unspecified address (RFC 4291 section 2.5.2)"),
        ("::1/128", "loopback (RFC 4291 section 2.5.3)"),
        ("::/96", "IPv4-compatible (RFC 4291 section 2.5.5.1)"),
        ("::ffff:0:0:0/96", "IPv4-translated: an IPv4 address in disguise (RFC 2765)"),
        ("64:ff9b::/96", "NAT64: an IPv4 address in disguise (RFC 6052)"),
        ("64:ff9b:1::/48", "local NAT64 (RFC 8215)"),
        ("100::/64", "discard only (RFC 6666)"),
        ("100:0:0:1::/64", "the dummy prefix (RFC 9780)"),
        ("2001::/23", "IETF protocol assignments, Teredo among them (RFC 2928, RFC 4380)"),
        ("2001:db8::/32", "documentation (RFC 3849)"),
        ("2002::/16", "6to4: an IPv4 address in disguise (RFC 3056)"),
        ("3fff::/20", "documentation (RFC 9637)"),
        ("5f00::/16", "segment routing (RFC 9602)"),
        ("fd00:ec2::254/128", "the cloud metadata service over IPv6 (Amazon EC2 user guide)"),
        ("fc00::/7", "unique local (RFC 4193)"),
        ("fe80::/10", "link local (RFC 4291 section 2.5.6)"),
        ("fec0::/10", "site local (RFC 3879)"),
        ("ff00::/8", "multicast (RFC 4291 section 2.7)"),
    )
)

# All IPv6 unicast addresses that IANA has allocated are in this range (RFC 4291 section 2.4, and IANA's registry of the
# IPv6 address space). The table above names the special ranges in it, and those outside that have a name.
_ASSIGNED = IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 section 6.1: an IPv4 address follows

REMEMBERED = 1000  # targets, and addresses
DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_URL_CHARACTERS = 16_384  # API Gateway takes 10,240 bytes of request line and headers
_MAX_NAME_CHARACTERS = 253  # RFC 1035 section 2.3.4, without the root's dot
# RFC 3986 appendix B. Brackets, braces and bars, seen in real paths and queries, are sent as they are.
_URL = (
    r"(?s)(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?"
)
# What nearly all URLs are, read in a third of the time: lower case scheme, no user name, fragment or backslash.
_USUAL_URL = re.compile(r"(https?)://([!-\"$-.0->A-\[\]-~]*)(?:[/?][!-\"$-\[\]-~]*)?")
_AUTHORITY = r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,5}))?"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = r"[0-9]+|0[xX][0-9A-Fa-f]*"
_PLAIN = r"[!-~]*"  # visible ASCII


class UrlTarget(NamedTuple):
    """Where a URL leads. `host` is lower case; `address` is what it spells, None when it is a name to be resolved."""

    host: str
    port: int
    address: IpAddress | None


@value_class(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The addresses of a host, every one of them checked, in the order of preference (RFC 6724)."""

    addresses: tuple[IpAddress, ...]


class Guard:
    """Decides where a request may go.

    `allowed_private_cidrs` wins over the table for exactly those ranges; between it and `blocked_cidrs` the narrower
    range wins, and the allowed one where both are equal: allowing 10.0.0.0/8 does not allow the VPC in it.
    `blocked_hosts` are names that are never called, whatever they resolve to. An IPv4-mapped IPv6 address (RFC 4291
    section 2.5.5.2) is judged as the IPv4 address in it. Of IPv6 only 2000::/3 is called at all, without the table's
    ranges, and an ISATAP address only where the IPv4 address in it may be called.
    """

    def __init__(
        self,
        *,
        allowed_private_cidrs: Iterable[IpNetwork] = (),
        blocked_cidrs: Iterable[IpNetwork] = (),
        allowed_ports: Collection[int] = (80, 443, 8080, 8443),
        blocked_hosts: Iterable[str] = (),
    ) -> None:
        self._allowed = tuple(allowed_private_cidrs)
        self._blocked = tuple(blocked_cidrs)
        self._ports = frozenset(allowed_ports)
        self._hosts = frozenset(host.strip().lower().rstrip(".") for host in blocked_hosts if host.strip())
        # Both depend on nothing but the text and this guard, and are asked for every request again.
        self._target_of = lru_cache(maxsize=REMEMBERED)(self._judged)
        self.check_address = lru_cache(maxsize=REMEMBERED)(self._check_address)

    @classmethod
    def of(cls, settings: EgressSettings) -> "Guard":
        """The guard that `settings` describe; the fixed egress addresses themselves are blocked too."""
        own = tuple(ip_network(egress.address) for egress in settings.egress_addresses)
        return cls(
            allowed_private_cidrs=settings.allowed_private_cidrs,
            blocked_cidrs=settings.blocked_cidrs + own,
            allowed_ports=settings.allowed_ports,
            blocked_hosts=settings.blocked_hosts.split(","),
        )

    def check_url(self, url: str) -> str | None:
        """Why `url` may not be called; None when it may. Asks no name server."""
        target = self.target(url)
        return target.reason if isinstance(target, Refused) else None

    def target(self, url: str) -> UrlTarget | Refused:
        """Where `url` leads, or why it may not be called. Asks no name server."""
        try:
            return self._target(url)
        except UrlRejected as rejected:
            return Refused(reason=str(rejected))

    def _check_address(self, address: IpAddress) -> str | None:
        """Why `address` may not be connected to; None when it may."""
        judged = _embedded(address)
        allowed, blocked = _narrowest(judged, self._allowed), _narrowest(judged, self._blocked)
        if blocked > allowed:
            return f"{address} is a blocked address"
        if allowed >= 0:
            return None
        why = next(
            (why for network, why in REFUSED_RANGES if _within(judged, (network,))), None
        ) or self._refusal_beyond_table(judged)
        return f"{address} is {why}" if why is not None else None

    def _refusal_beyond_table(self, address: IpAddress) -> str | None:
        """Why an address that is not in the table is refused; None when it is not refused."""
        if isinstance(address, IPv4Address):
            return None
        if address not in _ASSIGNED:
            return "not among the assigned addresses (RFC 4291 section 2.4)"
        inner = _isatap(address)
        return "ISATAP, with a refused IPv4 address in it (RFC 5214)" if inner and self.check_address(inner) else None

    def resolve(self, host: str, port: int) -> Resolved | Refused | Unreachable:
        """The checked addresses of `host`. One address that is not allowed refuses them all.

        Asks the name servers unless `host` is an address, and may block for as long as the system's resolver does.
        """
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return Unreachable(reason=_lookup_failure(host, error), at=FailedStep.NAME)
        addresses = tuple(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))
        refusals = [reason for reason in map(self.check_address, addresses) if reason is not None]
        return Refused(reason=f"{host}: {refusals[0]}") if refusals else Resolved(addresses=addresses)

    def _target(self, url: str) -> UrlTarget:
        return self._target_of(*split(url))

    def _judged(self, scheme: str, authority: str) -> UrlTarget:
        match = re.fullmatch(_AUTHORITY, authority)
        if match is None:
            raise UrlRejected("the URL's host or port cannot be read")
        host, port = match["host"].lower(), int(match["port"] or DEFAULT_PORTS[scheme])
        address = _literal(host)
        fault = self._host_name_fault(host) if address is None else self.check_address(address)
        if fault is not None:
            raise UrlRejected(fault)
        if port not in self._ports:
            raise UrlRejected(f"port {port} is not among the allowed ports ({_listed(self._ports)})")
        return UrlTarget(host, port, address)

    def _host_name_fault(self, host: str) -> str | None:
        if not host:
            return "the URL has no host"
        if host.endswith("."):
            return "write the host without the trailing dot"
        if len(host) > _MAX_NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in host.split(".")):
            return "the host is not a name of the form of RFC 1123 (letters, digits, hyphens, dots)"
        return f"{host} is a blocked host" if host in self._hosts else None


class UrlRejected(Exception):
    """A URL that is refused; the text says why."""


def split(url: str) -> tuple[str, str]:
    """Scheme (lower case) and authority of an absolute http(s) URL without userinfo and fragment."""
    if len(url) > _MAX_URL_CHARACTERS:
        raise UrlRejected(f"the URL is longer than {_MAX_URL_CHARACTERS} characters")
    usual = _USUAL_URL.fullmatch(url)
    return (usual[1], usual[2]) if usual is not None else split_unusual(url)


def split_unusual(url: str) -> tuple[str, str]:
    """The same for any other; says what is wrong with it."""
    if not re.fullmatch(_PLAIN, url):
        raise UrlRejected(
            "the URL may contain visible ASCII characters only; percent-encode the others, write names as xn--..."
        )
    match = re.fullmatch(_URL, url)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        raise UrlRejected("the URL must begin with http:// or https://")
    if "@" in match["authority"]:
        raise UrlRejected("the URL must not contain a user name or password")
    if "\\" in url:
        raise UrlRejected("the URL must not contain a backslash")
    if match["fragment"] is not None:
        raise UrlRejected("the URL must not have a fragment")
    return match["scheme"].lower(), match["authority"]


def _literal(host: str) -> IpAddress | None:
    """The address that `host` spells; None when it is a name. Unusual spellings are refused: clients differ on them."""
    if host.startswith("["):
        try:
            return IPv6Address(_without_zone(host[1:-1]))
        except ValueError:
            raise UrlRejected("the host in brackets is not an IPv6 address") from None
    if not re.fullmatch(_NUMBER, host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise UrlRejected(
            "a numeric host must be an IPv4 address of four decimal numbers without leading zeros"
        ) from None


def _without_zone(text: str) -> str:
    if "%" in text:
        raise UrlRejected("an IPv6 address with a zone reaches only the local link")
    return text


def _embedded(address: IpAddress) -> IpAddress:
    match address:
        case IPv4Address():
            return address
        case IPv6Address():
            return address.ipv4_mapped or address
        case _:
            assert_never(address)


def _isatap(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an ISATAP router would send packets for `address` to; None where it is no such address."""
    number = int(address)
    return IPv4Address(number & 0xFFFFFFFF) if (number >> 32) & 0xFFFFFFFF in _ISATAP else None


def _within(address: IpAddress, networks: Sequence[IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _narrowest(address: IpAddress, networks: Sequence[IpNetwork]) -> int:
    """The longest prefix among those of `networks` that contain `address`; -1 for none."""
    return max((network.prefixlen for network in networks if _within(address, (network,))), default=-1)


def _lookup_failure(host: str, error: OSError | UnicodeError) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return f"the name servers do not answer for {host}"
    return f"{host} does not resolve"


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))

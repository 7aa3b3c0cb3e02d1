"""Which addresses and ports a network tells apart: classes, of which one member stands for all.

Two addresses are alike when no route, rule, network ACL entry or list of a gateway endpoint has the one in its range
and not the other; two ports when no rule or entry has. So a packet to one member of each class, from each kind of
host, shows what becomes of every packet. Worked out from the Network alone.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from itertools import pairwise

from lab.model.attempts import Protocol
from lab.model.outside import OutsideHost
from stack.network.model import ANYWHERE, Interface, NaclEntry, Network, Rule

# No packet to one of these crosses a router, or the lab uses it itself.
LEFT_OUT: Mapping[IPv4Network, str] = {
    IPv4Network("0.0.0.0/8"): "no destination (RFC 1122)",
    IPv4Network("127.0.0.0/8"): "a host's own loopback (RFC 1122)",
    IPv4Network("169.254.0.0/16"): "link-local, between the lab's own routers too (RFC 3927)",
    IPv4Network("224.0.0.0/4"): "multicast, which a VPC does not forward (RFC 5771)",
    IPv4Network("240.0.0.0/4"): "reserved (RFC 1112)",
}
SERVED = "a gateway endpoint's, whose service is tried at its own address"
_END = 2**32
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressClass:
    """`within` is the smallest range of the network's that all of them are in; `left_out` is why no packet is sent."""

    ranges: tuple[IPv4Network, ...]
    within: IPv4Network
    member: IPv4Address | None
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortClass:
    """`ranges` are all of its ports; an echo by ICMP has none, and 0 for its member."""

    protocol: Protocol
    ranges: tuple[tuple[int, int], ...]
    member: int

    @property
    def name(self) -> str:
        """In a sentence: "tcp 1-79, 81-442"."""
        return f"{self.protocol} {_listed(self.ranges)}".strip()


def address_classes(
    network: Network, *, apart: Iterable[IPv4Network] = (), taken: Collection[IPv4Address] = ()
) -> tuple[AddressClass, ...]:
    """Of all 2**32 addresses. Those in `apart` are told from others too; none of `taken` becomes a member."""
    prefixes = tuple(dict.fromkeys((ANYWHERE, *_prefixes(network), *apart, *LEFT_OUT)))
    edges = {0, _END} | {edge for prefix in prefixes for edge in _edges(prefix)}
    alike: dict[Hashable, list[tuple[int, int]]] = {}
    for first, after in pairwise(sorted(edges)):
        signature = frozenset(prefix for prefix in prefixes if IPv4Address(first) in prefix)
        alike.setdefault(signature, []).append((first, after - 1))
    return tuple(_class(intervals, prefixes, taken) for intervals in alike.values())


def port_classes(network: Network, *, apart: Iterable[tuple[int, int]] = ()) -> tuple[PortClass, ...]:
    """Of TCP and UDP, and all echoes by ICMP as one. The ranges in `apart` are told from others too."""
    rules = list(_rules(network))
    return (
        *_ports("tcp", {(rule.first_port, rule.last_port) for rule in rules if rule.protocol == "tcp"} | set(apart)),
        *_ports("udp", {(rule.first_port, rule.last_port) for rule in rules if rule.protocol == "udp"}),
        PortClass(protocol="icmp", ranges=(), member=0),
    )


def kinds_of_hosts(network: Network) -> tuple[Interface, ...]:
    """One interface of those that no route, rule or entry tells apart: same subnet, same groups, public or not."""
    alike: dict[Hashable, Interface] = {}
    for interface in network.interfaces:
        key = interface.subnet, interface.security_groups, interface.kind, interface.public_address is None
        alike.setdefault(key, interface)
    return tuple(alike.values())


def strangers(
    network: Network, classes: Iterable[AddressClass], around: Iterable[OutsideHost]
) -> tuple[OutsideHost, ...]:
    """A host for each class of addresses outside of the VPC, on the internet and behind the VPN."""
    there = {host.address for host in around}
    return tuple(
        OutsideHost(name=f"{found.member} ({found.within})", address=found.member, place="anywhere", listens=())
        for found in classes
        if found.member is not None and found.member not in there and found.member not in network.cidr
    )


def everywhere(
    network: Network, around: tuple[OutsideHost, ...], *, apart: Iterable[IPv4Network] = ()
) -> tuple[OutsideHost, ...]:
    """The hosts around a network, and a stranger for each class of addresses that they do not stand for."""
    return (*around, *strangers(network, addresses_of(network, around, apart=apart), around))


def addresses_of(
    network: Network, around: tuple[OutsideHost, ...], *, apart: Iterable[IPv4Network] = ()
) -> tuple[AddressClass, ...]:
    """The classes of a network with hosts around it, none of whose addresses is a member.

    A gateway endpoint leads to its service by the first of its ranges; the others are alike and have no host.
    """
    classes = address_classes(network, apart=apart, taken=_taken(network, around))
    further = {cidr for endpoint in network.gateway_endpoints for cidr in endpoint.ranges}
    return tuple(
        replace(found, member=None, left_out=SERVED) if found.within in further and not found.left_out else found
        for found in classes
    )


# ---- Addresses


def _prefixes(network: Network) -> Iterator[IPv4Network]:
    yield network.cidr
    yield from (subnet.cidr for subnet in network.subnets)
    yield from (route.destination for table in network.route_tables for route in table.routes)
    for rule in _rules(network):
        peer = rule.cidr if isinstance(rule, NaclEntry) else rule.peer
        if isinstance(peer, IPv4Network):
            yield peer
    yield from (cidr for endpoint in network.gateway_endpoints for cidr in endpoint.ranges)
    yield from network.vpn.corporate if network.vpn is not None else ()


def _rules(network: Network) -> Iterator[Rule | NaclEntry]:
    for group in network.security_groups:
        yield from (*group.ingress, *group.egress)
    for nacl in network.nacls:
        yield from nacl.entries


def _edges(prefix: IPv4Network) -> tuple[int, int]:
    return int(prefix.network_address), int(prefix.broadcast_address) + 1


def _class(
    intervals: list[tuple[int, int]], prefixes: Iterable[IPv4Network], taken: Collection[IPv4Address]
) -> AddressClass:
    first = IPv4Address(intervals[0][0])
    within = max((prefix for prefix in prefixes if first in prefix), key=lambda prefix: prefix.prefixlen)
    why = next((why for prefix, why in LEFT_OUT.items() if first in prefix), "")
    member = None if why else _member(intervals, taken)
    return AddressClass(
        ranges=tuple(
            cidr for start, end in intervals for cidr in summarize_address_range(IPv4Address(start), IPv4Address(end))
        ),
        within=within,
        member=member,
        left_out=why or ("" if member else "each of them is somebody's, who is tried by it"),
    )


def _member(intervals: Iterable[tuple[int, int]], taken: Collection[IPv4Address]) -> IPv4Address | None:
    """At the edge of a range, where mistakes are; the last interval's, since the first may begin at zero."""
    for start, end in reversed(list(intervals)):
        for number in range(start, min(end, start + 4096) + 1):
            address = IPv4Address(number)
            if address not in taken:
                return address
    return None


def _taken(network: Network, around: Iterable[OutsideHost]) -> frozenset[IPv4Address]:
    own = [interface.address for interface in network.interfaces]
    own += [interface.public_address for interface in network.interfaces if interface.public_address is not None]
    own += [nat.address for nat in network.nat_gateways if nat.address is not None]
    own += [address.public_address for nat in network.nat_gateways for address in nat.addresses]
    own += [address.public_address for address in network.published]
    return frozenset((*own, network.cidr[2], *(host.address for host in around)))


# ---- Ports


def _ports(protocol: Protocol, ranges: Collection[tuple[int, int]]) -> Iterator[PortClass]:
    """Port 0 is no one's."""
    edges = {1, _LAST_PORT + 1} | {edge for first, last in ranges for edge in (max(first, 1), last + 1)}
    alike: dict[Hashable, list[tuple[int, int]]] = {}
    for first, after in pairwise(sorted(edges)):
        signature = frozenset(known for known in ranges if known[0] <= first <= known[1])
        alike.setdefault(signature, []).append((first, after - 1))
    for intervals in alike.values():
        yield PortClass(protocol=protocol, ranges=tuple(intervals), member=intervals[0][0])


def _listed(ranges: Iterable[tuple[int, int]]) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)

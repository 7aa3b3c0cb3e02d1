"""Who may talk to whom in a Network, in rows: parties that are filtered alike, ports, and what the far end sees.

Everything is asked of stack/network/reachability.py, one connection at a time; a row says only what every member of its
party may do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from stack.network.model import ANYWHERE, GatewayEndpointTarget, Interface, InterfaceKind, NatTarget, Network, VpnTarget
from stack.network.reachability import Passage, inside, inward, outward, route_to, subnet_of

# An address that nobody has and no route of ours names (RFC 2544): it stands for the internet at large.
STRANGER = IPv4Address("198.19.255.250")
INTERNET = "the internet"
UNROUTED = "no route of this stack leads there"
UNCONNECTED = "not before you connect it, as by peering"
SPELLED = {"Api": "API", "Nat": "NAT", "Vpn": "VPN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Interfaces of one kind with the same security groups. `names` are their owners', as people call them."""

    kind: InterfaceKind
    names: tuple[str, ...]
    interfaces: tuple[Interface, ...]

    @property
    def label(self) -> str:
        """The names in one text."""
        return ", ".join(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRow:
    """`ports` is empty where nothing may be opened; `how` says by which way and as whom, or what stops it."""

    who: str
    whom: str
    ports: tuple[str, ...]
    how: str

    @property
    def open(self) -> bool:
        """Whether anything may be opened."""
        return bool(self.ports)


def parties(network: Network) -> tuple[Party, ...]:
    """The parties of the VPC: those who call first, in the order in which the templates name them."""
    alike: dict[tuple[InterfaceKind, tuple[str, ...]], list[Interface]] = {}
    for interface in network.interfaces:
        alike.setdefault((interface.kind, interface.security_groups), []).append(interface)
    made = [
        Party(kind=kind, names=_names(kind, network, members), interfaces=tuple(members))
        for (kind, _), members in alike.items()
    ]
    return tuple(sorted(made, key=lambda party: (list(InterfaceKind).index(party.kind), -_ways_out(network, party))))


def rows(network: Network) -> tuple[AccessRow, ...]:
    """All that may be opened, then what the internet may not."""
    everyone = parties(network)
    callers = [party for party in everyone if party.kind in {InterfaceKind.FUNCTION, InterfaceKind.BASTION}]
    listeners = [party for party in everyone if any(interface.listens for interface in party.interfaces)]
    return (
        *(row for party in callers for row in _outside(network, party)),
        *(row for party in callers for row in _within(network, party, listeners)),
        *(
            row
            for party in listeners
            if party.kind is InterfaceKind.PROXY
            for row in _within(network, party, listeners)
        ),
        *_from_inside(network, listeners),
        *_from_outside(network, listeners),
        _from_strangers(network, everyone),
    )


def merged(rows_of_callers: tuple[AccessRow, ...]) -> tuple[AccessRow, ...]:
    """Rows that say the same of different parties, in one."""
    callers: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for row in rows_of_callers:
        callers.setdefault((row.whom, row.ports, row.how), []).append(row.who)
    return tuple(
        AccessRow(who=", ".join(who), whom=whom, ports=ports, how=how) for (whom, ports, how), who in callers.items()
    )


def name_of(owner: str) -> str:
    """`CheckEgressA.Function` -> `check egress A`, `Database.DatabaseInstance` -> `database instance`."""
    stack, _, name = owner.rpartition(".")
    plain = name.replace("Function", "") or stack
    words = re.findall(r"[A-Z]{2,}(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+|[^\s]", plain)
    return " ".join(SPELLED.get(word, word if len(word) == 1 else word.lower()) for word in words)


def place_of(network: Network, peer: IPv4Network) -> str:
    """What a range outside the VPC is called."""
    if peer == ANYWHERE:
        return INTERNET
    if network.vpn and any(peer.subnet_of(corporate) for corporate in network.vpn.corporate):
        return f"the corporate network {peer}"
    return f"{peer}"


def _somebody(peer: IPv4Network) -> IPv4Address:
    """An address that stands for a range, which may be a single one."""
    return STRANGER if peer == ANYWHERE else next(iter(peer.hosts()))


def outside_ranges(network: Network, party: Party, side: str) -> list[IPv4Network]:
    """The ranges outside the VPC that a party's security groups name."""
    named = _named(network, party, side)
    return [peer for peer in named if not peer.subnet_of(network.cidr) and not peer.is_loopback]


def _named(network: Network, party: Party, side: str) -> list[IPv4Network]:
    groups = {group for interface in party.interfaces for group in interface.security_groups}
    rules = [
        rule
        for group in network.security_groups
        if group.id in groups
        for rule in (group.egress if side == "egress" else group.ingress)
    ]
    return list(dict.fromkeys(rule.peer for rule in rules if isinstance(rule.peer, IPv4Network)))


def _names(kind: InterfaceKind, network: Network, members: list[Interface]) -> tuple[str, ...]:
    if kind is InterfaceKind.ENDPOINT:
        services = {owner: service for service, owner in network.service_endpoints}
        return tuple(dict.fromkeys(services.get(member.owner, name_of(member.owner)) for member in members))
    return tuple(dict.fromkeys(name_of(member.owner) for member in members))


def _ways_out(network: Network, party: Party) -> int:
    """How much its groups let it open, endpoints included: the callers of third parties come first."""
    groups = {group for interface in party.interfaces for group in interface.security_groups}
    nobody = {group.id for group in network.security_groups} - {
        group for interface in network.interfaces for group in interface.security_groups
    }
    rules = [rule for group in network.security_groups if group.id in groups for rule in group.egress]
    return sum(rule.peer not in nobody for rule in rules)


# ---- rows ------------------------------------------------------------------------------------------------------------


def _outside(network: Network, party: Party) -> Iterator[AccessRow]:
    ranges = outside_ranges(network, party, "egress")
    corporate = network.vpn.corporate if network.vpn else ()
    for peer in dict.fromkeys([*ranges, *(block for block in corporate if ANYWHERE in ranges)]):
        yield _to_range(network, party, peer)
    for endpoint in network.gateway_endpoints:
        row = _to_range(network, party, endpoint.ranges[0], name=f"{endpoint.service.upper()} in this Region")
        if row.open and "gateway endpoint" in row.how:
            yield row


def _to_range(network: Network, party: Party, peer: IPv4Network, *, name: str | None = None) -> AccessRow:
    address = _somebody(peer)
    ports = _candidates(network, party, address)
    passages = {
        port: [outward(network, interface, address, port[0]) for interface in party.interfaces] for port in ports
    }
    let = [port for port, of_port in passages.items() if all(passage.open for passage in of_port)]
    seen = [passage for port in let for passage in passages[port]]
    stopped = [passage.stopped_by for of_port in passages.values() for passage in of_port if passage.stopped_by]
    return AccessRow(
        who=party.label,
        whom=name or _partners_in(network, peer),
        ports=tuple(_range_of(port) for port in let),
        how=_way(network, party, address, seen) if let else _reason(stopped, peer),
    )


def _candidates(network: Network, party: Party, address: IPv4Address) -> list[tuple[int, int]]:
    """The ports that the party's own rules open to an address."""
    groups = {group for interface in party.interfaces for group in interface.security_groups}
    rules = [rule for group in network.security_groups if group.id in groups for rule in group.egress]
    ports = {
        (rule.first_port, rule.last_port)
        for rule in rules
        if isinstance(rule.peer, IPv4Network) and address in rule.peer and rule.protocol in {"tcp", "any"}
    }
    return sorted(ports)


def _way(network: Network, party: Party, address: IPv4Address, seen: list[Passage]) -> str:
    route = route_to(network, subnet_of(network, party.interfaces[0]), address)
    match route.target if route else None:
        case NatTarget():
            addresses = dict.fromkeys(str(passage.seen_as) for passage in seen)
            return f"seen as {' or '.join(addresses)}{', by zone' if len(addresses) > 1 else ''}"
        case VpnTarget():
            return "through the VPN, by private address"
        case GatewayEndpointTarget():
            return "gateway endpoint: not the fixed address"
        case _:
            return "by its own public address"


def _partners_in(network: Network, peer: IPv4Network) -> str:
    place = place_of(network, peer)
    return f"third parties in {place}" if place == str(peer) else place


def _reason(stopped: list[str], peer: IPv4Network) -> str:
    """A private range is named in AllowedPrivateCidrs, so that it may be connected; the internet cannot be."""
    if not any("no route" in reason for reason in stopped):
        return "stopped"
    return UNROUTED if peer == ANYWHERE else UNCONNECTED


def _within(network: Network, party: Party, listeners: list[Party]) -> Iterator[AccessRow]:
    for listener in listeners:
        if listener is party:
            continue
        listens = sorted({port for interface in listener.interfaces for port in interface.listens})
        let = [port for port in listens if _all_inside(network, party, listener, port)]
        if let:
            yield AccessRow(who=party.label, whom=called(listener), ports=tuple(map(str, let)), how="inside the VPC")


def _all_inside(network: Network, party: Party, listener: Party, port: int) -> bool:
    """From each member to the listener, in whichever zone."""
    return all(
        any(inside(network, source, destination, port).open for destination in listener.interfaces)
        for source in party.interfaces
    )


def _from_outside(network: Network, listeners: list[Party]) -> Iterator[AccessRow]:
    for listener in listeners:
        for peer in outside_ranges(network, listener, "ingress"):
            address = _somebody(peer)
            ports = sorted({port for interface in listener.interfaces for port in interface.listens})
            let = [
                str(port)
                for port in ports
                if any(inward(network, address, interface, port).open for interface in listener.interfaces)
            ]
            how = _way_in(network, peer) if let else "no route of this stack leads here"
            yield AccessRow(who=place_of(network, peer), whom=called(listener), ports=tuple(let), how=how)


def _from_inside(network: Network, listeners: list[Party]) -> Iterator[AccessRow]:
    """What a whole range of the VPC may open, whoever stands in it."""
    for listener in listeners:
        for peer in _named(network, listener, "ingress"):
            if peer.subnet_of(network.cidr):
                ports = sorted({port for interface in listener.interfaces for port in interface.listens})
                let = [str(port) for port in ports if _admits(network, listener, peer, port)]
                who = "anything in the VPC" if peer == network.cidr else f"anything in {peer}"
                yield AccessRow(who=who, whom=called(listener), ports=tuple(let), how="inside the VPC")


def _admits(network: Network, listener: Party, peer: IPv4Network, port: int) -> bool:
    groups = {group for interface in listener.interfaces for group in interface.security_groups}
    rules = [rule for group in network.security_groups if group.id in groups for rule in group.ingress]
    return any(rule.peer == peer and rule.first_port <= port <= rule.last_port for rule in rules)


def _way_in(network: Network, peer: IPv4Network) -> str:
    corporate = network.vpn is not None and any(peer.subnet_of(block) for block in network.vpn.corporate)
    return "through the VPN" if corporate else "through the internet gateway"


def _from_strangers(network: Network, everyone: tuple[Party, ...]) -> AccessRow:
    let = {
        str(port)
        for party in everyone
        for interface in party.interfaces
        for port in interface.listens
        if inward(network, STRANGER, interface, port).open
    }
    how = "open to all" if let else "nothing here answers to it"
    return AccessRow(who=f"everyone else on {INTERNET}", whom="anything in the VPC", ports=tuple(sorted(let)), how=how)


def called(party: Party) -> str:
    """What a listening party is called in `whom`."""
    if party.kind is InterfaceKind.ENDPOINT:
        return f"interface endpoints ({party.label})"
    return f"the {party.label}"


def _range_of(ports: tuple[int, int]) -> str:
    first, last = ports
    return str(first) if first == last else f"{first} to {last}"

"""Who may open a TCP connection to whom in a Network: security groups, network ACLs and routes, both directions.

The answers are for one connection at a time and name the first thing that stops it. The map prints them. They are
worked out from the rules alone; that real packets agree is what the lab is for.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from stack.network.model import (
    GatewayEndpointTarget,
    Interface,
    InternetGatewayTarget,
    Nacl,
    NatGateway,
    NatTarget,
    Network,
    Route,
    Rule,
    Subnet,
    VpnTarget,
)

REPLY_PORTS = (1024, 65535)  # where answers go back to: the whole range that clients on the internet may use


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Whether a connection arrives: `stopped_by` is None then, and `seen_as` the source address at the far end."""

    stopped_by: str | None
    seen_as: IPv4Address | None = None

    @property
    def open(self) -> bool:
        """Whether it arrives."""
        return self.stopped_by is None


def inside(network: Network, source: Interface, destination: Interface, port: int) -> Passage:
    """From one interface of the VPC to another."""
    stopped = (
        _group_stops(network, source, destination, port, "egress")
        or _nacl_stops(network, source, destination.address, port, leaving=True)
        or _nacl_stops(network, destination, source.address, port, leaving=False)
        or _group_stops(network, destination, source, port, "ingress")
        or _silent(destination, port)
    )
    return Passage(stopped_by=stopped, seen_as=None if stopped else source.address)


def outward(network: Network, source: Interface, address: IPv4Address, port: int) -> Passage:
    """From an interface to an address outside the VPC."""
    stopped = _range_stops(network, source, address, port, "egress")
    stopped = stopped or _nacl_stops(network, source, address, port, leaving=True)
    if stopped:
        return Passage(stopped_by=stopped)
    route = route_to(network, subnet_of(network, source), address)
    match route.target if route else None:
        case NatTarget(nat=nat):
            return _through_nat(network, source, _nat(network, nat), address)
        case InternetGatewayTarget(gateway=gateway):
            stopped = None if source.public_address else f"{gateway}: {source.owner} has no public address"
            return Passage(stopped_by=stopped, seen_as=source.public_address)
        case VpnTarget() | GatewayEndpointTarget():
            return Passage(stopped_by=None, seen_as=source.address)
        case _:
            return Passage(stopped_by=f"{subnet_of(network, source).route_table}: no route to {address}")


def inward(network: Network, address: IPv4Address, destination: Interface, port: int) -> Passage:
    """From an address outside the VPC (the internet, or what lies behind the VPN) to an interface."""
    subnet = subnet_of(network, destination)
    route = route_to(network, subnet, address)
    match route.target if route else None:
        case VpnTarget():
            pass
        case InternetGatewayTarget() if destination.public_address:
            pass
        case InternetGatewayTarget():
            return Passage(stopped_by=f"{destination.owner} has no public address")
        case _:
            return Passage(stopped_by=f"{subnet.route_table}: no way to or from {address}")
    stopped = (
        _nacl_stops(network, destination, address, port, leaving=False)
        or _range_stops(network, destination, address, port, "ingress")
        or _silent(destination, port)
    )
    return Passage(stopped_by=stopped, seen_as=None if stopped else address)


def route_to(network: Network, subnet: Subnet, address: IPv4Address) -> Route | None:
    """The longest match in the subnet's table; a static route before a propagated one. None is nowhere."""
    (table,) = (table for table in network.route_tables if table.id == subnet.route_table)
    matching = [route for route in table.routes if address in route.destination]
    return max(matching, key=lambda route: (route.destination.prefixlen, not route.propagated), default=None)


def subnet_of(network: Network, interface: Interface) -> Subnet:
    """The subnet that an interface stands in."""
    (own,) = (subnet for subnet in network.subnets if subnet.id == interface.subnet)
    return own


def _through_nat(network: Network, source: Interface, nat: NatGateway, address: IPv4Address) -> Passage:
    if nat.subnet is None:
        zone = subnet_of(network, source).zone
        own = [address.public_address for address in nat.addresses if address.zone == zone]
        return Passage(stopped_by=None if own else f"{nat.id} has no address in {zone}", seen_as=next(iter(own), None))
    (subnet,) = (subnet for subnet in network.subnets if subnet.id == nat.subnet)
    onward = route_to(network, subnet, address)
    if onward is None or not isinstance(onward.target, InternetGatewayTarget):
        return Passage(stopped_by=f"{nat.id}: its subnet does not lead to the internet")
    return Passage(stopped_by=None, seen_as=nat.addresses[0].public_address)


def _nat(network: Network, name: str) -> NatGateway:
    (named,) = (nat for nat in network.nat_gateways if nat.id == name)
    return named


def _silent(destination: Interface, port: int) -> str | None:
    return None if port in destination.listens else f"{destination.owner} does not listen on {port}"


def _group_stops(network: Network, holder: Interface, peer: Interface, port: int, side: str) -> str | None:
    if any(
        _fits(rule, peer.address, port) or rule.peer in peer.security_groups
        for rule in _rules(network, holder, side, port)
    ):
        return None
    return f"{', '.join(holder.security_groups)}: no {side} for {port}"


def _range_stops(network: Network, holder: Interface, address: IPv4Address, port: int, side: str) -> str | None:
    if any(_fits(rule, address, port) for rule in _rules(network, holder, side, port)):
        return None
    return f"{', '.join(holder.security_groups)}: no {side} for {port}"


def _rules(network: Network, holder: Interface, side: str, port: int) -> list[Rule]:
    groups = [group for group in network.security_groups if group.id in holder.security_groups]
    rules = [rule for group in groups for rule in (group.egress if side == "egress" else group.ingress)]
    return [rule for rule in rules if rule.protocol in {"tcp", "any"} and rule.first_port <= port <= rule.last_port]


def _fits(rule: Rule, address: IPv4Address, port: int) -> bool:
    in_range = isinstance(rule.peer, IPv4Network) and address in rule.peer
    return in_range and rule.first_port <= port <= rule.last_port


def _nacl_stops(network: Network, holder: Interface, peer: IPv4Address, port: int, *, leaving: bool) -> str | None:
    """Both directions of a connection, at the edge of the holder's subnet. Within a subnet no ACL is asked."""
    subnet = subnet_of(network, holder)
    nacl = next((nacl for nacl in network.nacls if nacl.id == subnet.nacl), None)
    if nacl is None or peer in subnet.cidr:
        return None
    there = _passes(nacl, peer, (port, port), egress=leaving)
    back = _passes(nacl, peer, REPLY_PORTS, egress=not leaving)
    return None if there and back else f"{nacl.id}: {'egress' if leaving == (not there) else 'ingress'}"


def _passes(nacl: Nacl, peer: IPv4Address, ports: tuple[int, int], *, egress: bool) -> bool:
    """Whether the whole range of ports is let through; the lowest matching number decides."""
    entries = sorted((entry for entry in nacl.entries if entry.egress == egress), key=lambda entry: entry.number)
    for entry in entries:
        if (
            peer in entry.cidr
            and entry.protocol in {"tcp", "any"}
            and entry.first_port <= ports[1]
            and entry.last_port >= ports[0]
        ):
            return entry.allow and entry.first_port <= ports[0] and ports[1] <= entry.last_port
    return False

"""What a Network must have before a plan can be made of it. Nothing is repaired silently: what is missing is named."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from ipaddress import IPv4Address

from lab.model.outside import OutsideHost
from lab.plan.parts import UnsupportedNetwork
from stack.network.model import (
    Blackhole,
    GatewayEndpointTarget,
    InternetGatewayTarget,
    NaclEntry,
    NatTarget,
    Network,
    Route,
    RouteTable,
    Rule,
    VpnTarget,
)


def resolver_address(network: Network) -> IPv4Address:
    """https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html: the base of the range plus two."""
    return network.cidr[2]


def effective_routes(network: Network, table: RouteTable) -> tuple[Route, ...]:
    """The routes of a table that count.

    https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html: a static route goes before a propagated
    one to the same range, and the local route before every propagated one that overlaps it, more specific ones too.
    """
    static = {route.destination for route in table.routes if not route.propagated}
    return tuple(
        route
        for route in table.routes
        if not route.propagated or (route.destination not in static and not route.destination.subnet_of(network.cidr))
    )


def refuse_incomplete(network: Network, around: tuple[OutsideHost, ...]) -> None:
    """Raise UnsupportedNetwork for the first thing that is missing, twice there, or in the wrong place."""
    for problems in (
        _subnets(network),
        _routes(network, around),
        _interfaces(network),
        _nat_gateways(network),
        _groups(network),
        _ports(network),
        _around(network, around),
        _twice(network, around),
    ):
        for resource, missing in problems:
            raise UnsupportedNetwork(resource, missing)


type Problems = Iterator[tuple[str, str]]


def _subnets(network: Network) -> Problems:
    tables = {table.id for table in network.route_tables}
    nacls = {nacl.id for nacl in network.nacls}
    for place, subnet in enumerate(network.subnets):
        if subnet.route_table not in tables:
            yield subnet.id, f"its route table {subnet.route_table} is unknown"
        if subnet.nacl is not None and subnet.nacl not in nacls:
            yield subnet.id, f"its network ACL {subnet.nacl} is unknown"
        if not subnet.cidr.subnet_of(network.cidr):
            yield subnet.id, f"{subnet.cidr} lies outside of the VPC's {network.cidr}"
        for other in network.subnets[:place]:
            if subnet.cidr.overlaps(other.cidr):
                yield subnet.id, f"{subnet.cidr} overlaps {other.cidr} of {other.id}"


def _routes(network: Network, around: tuple[OutsideHost, ...]) -> Problems:
    for table in network.route_tables:
        for destination in _repeated(route.destination for route in table.routes if not route.propagated):
            yield table.id, f"two static routes to {destination}"
        for destination in _repeated(route.destination for route in effective_routes(network, table)):
            yield table.id, f"two propagated routes to {destination}"
        for route in table.routes:
            if route.destination == network.cidr:
                yield route.id, "a route to the VPC's own range beside the local one is not modelled"
            elif (missing := _missing_target(network, around, route)) is not None:
                yield route.id, missing
            elif not route.propagated and not _may_lead_elsewhere(network, route):
                yield route.id, "AWS takes no such route within the VPC's own range"


def _may_lead_elsewhere(network: Network, route: Route) -> bool:
    """Whether a part of the VPC's own range may have this target.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html: the whole range of one subnet may be
    routed to a NAT gateway, or to a middlebox, which is not modelled. What a regional NAT gateway would do with such a
    packet is nowhere written.
    """
    if not route.destination.subnet_of(network.cidr):
        return True
    if all(route.destination != subnet.cidr for subnet in network.subnets):
        return False
    if isinstance(route.target, Blackhole):
        return True
    zonal = {nat.id for nat in network.nat_gateways if nat.subnet is not None}
    return isinstance(route.target, NatTarget) and route.target.nat in zonal


def _missing_target(network: Network, around: tuple[OutsideHost, ...], route: Route) -> str | None:
    match route.target:
        case InternetGatewayTarget(gateway=gateway) if gateway != network.internet_gateway:
            return f"its target, internet gateway {gateway}, is unknown"
        case NatTarget(nat=nat) if all(gateway.id != nat for gateway in network.nat_gateways):
            return f"its target, NAT gateway {nat}, is unknown"
        case VpnTarget(gateway=gateway) if network.vpn is None or gateway != network.vpn.gateway:
            return f"its target, VPN gateway {gateway}, is unknown"
        case GatewayEndpointTarget(endpoint=endpoint) if all(
            known.id != endpoint for known in network.gateway_endpoints
        ):
            return f"its target, gateway endpoint {endpoint}, is unknown"
        case GatewayEndpointTarget(endpoint=endpoint) if all(host.endpoint != endpoint for host in around):
            return f"no host stands for the service behind gateway endpoint {endpoint}"
    return None


def _interfaces(network: Network) -> Problems:
    subnets = {subnet.id: subnet for subnet in network.subnets}
    groups = {group.id for group in network.security_groups}
    for interface in network.interfaces:
        subnet = subnets.get(interface.subnet)
        if subnet is None:
            yield interface.id, f"its subnet {interface.subnet} is unknown"
        elif interface.address not in subnet.cidr:
            yield interface.id, f"{interface.address} lies outside of {subnet.id} ({subnet.cidr})"
        if not interface.security_groups:
            yield interface.id, "it has no security group"
        for group in interface.security_groups:
            if group not in groups:
                yield interface.id, f"its security group {group} is unknown"


def _nat_gateways(network: Network) -> Problems:
    subnets = {subnet.id: subnet for subnet in network.subnets}
    for nat in network.nat_gateways:
        if nat.subnet is None:
            for zone in _repeated(address.zone for address in nat.addresses):
                yield nat.id, f"two addresses in zone {zone} are not modelled"
            continue
        subnet = subnets.get(nat.subnet)
        if subnet is None:
            yield nat.id, f"its subnet {nat.subnet} is unknown"
        elif nat.address is None or nat.address not in subnet.cidr:
            yield nat.id, f"its private address ({nat.address}) lies outside of {subnet.id} ({subnet.cidr})"
        if len(nat.addresses) > 1:
            yield nat.id, "secondary addresses of a zonal NAT gateway are not modelled"
    yield from _circles(network)


def _circles(network: Network) -> Problems:
    """NAT gateways that send to each other in a circle: AWS does not document what happens to a packet there."""
    tables = {subnet.id: subnet.route_table for subnet in network.subnets}
    targets = {
        table.id: {route.target.nat for route in table.routes if isinstance(route.target, NatTarget)}
        for table in network.route_tables
    }
    onward = {nat.id: targets[tables[nat.subnet]] - {nat.id} for nat in network.nat_gateways if nat.subnet in tables}
    for nat, nearest in onward.items():
        seen: set[str] = set()
        ahead = set(nearest)
        while ahead:
            seen |= ahead
            ahead = {far for near in ahead for far in onward.get(near, ())} - seen
        if nat in seen:
            yield nat, "it is routed to itself by way of other NAT gateways, which is not modelled"


def _groups(network: Network) -> Problems:
    known = {group.id for group in network.security_groups}
    for group in network.security_groups:
        for rule in (*group.ingress, *group.egress):
            if isinstance(rule.peer, str) and rule.peer not in known:
                yield rule.id, f"the security group {rule.peer} that it names is unknown"


def _ports(network: Network) -> Problems:
    rules: list[Rule | NaclEntry] = [entry for nacl in network.nacls for entry in nacl.entries]
    rules += [rule for group in network.security_groups for rule in (*group.ingress, *group.egress)]
    for rule in rules:
        if rule.protocol in {"tcp", "udp"} and not 0 <= rule.first_port <= rule.last_port <= 65535:
            yield rule.id, f"{rule.first_port} to {rule.last_port} is no range of ports"


def _around(network: Network, around: tuple[OutsideHost, ...]) -> Problems:
    ranges = network.vpn.corporate if network.vpn is not None else ()
    endpoints = {endpoint.id for endpoint in network.gateway_endpoints}
    for host in around:
        if host.place == "corporate" and not any(host.address in cidr for cidr in ranges):
            yield host.name, f"no VPN leads to {host.address}"
        if host.endpoint is not None and host.endpoint not in endpoints:
            yield host.name, f"its gateway endpoint {host.endpoint} is unknown"


def _twice(network: Network, around: tuple[OutsideHost, ...]) -> Problems:
    private = [interface.address for interface in network.interfaces]
    private += [nat.address for nat in network.nat_gateways if nat.address is not None]
    public = [interface.public_address for interface in network.interfaces if interface.public_address is not None]
    public += [address.public_address for nat in network.nat_gateways for address in nat.addresses]
    public += [host.address for host in around]
    for address in _repeated((*private, *public, resolver_address(network))):
        yield str(address), "two hosts have this address"
    for address in public:
        if address in network.cidr:
            yield str(address), f"an address outside lies in the VPC's range {network.cidr}"


def _repeated[T: Hashable](values: Iterable[T]) -> list[T]:
    return [value for value, times in Counter(values).items() if times > 1]

"""Networks with one thing changed: what a proof assumes, and the negative controls that must make it fail.

A function here returns the changed network, or None where the network has nothing to change that way. Its docstring
is how the report describes the change.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from lab.plan.parts import (
    FIRST_TABLE,
    INSIDE_TABLE,
    NOWHERE,
    ROUTER,
    ROUTER_ADDRESS,
    VPN,
    VPN_ADDRESS,
    Chain,
    LinuxRoute,
    Lookup,
    Plan,
)
from lab.proofs.assertions import NEWCOMER
from stack.network.model import (
    ANYWHERE,
    POSTGRESQL,
    Blackhole,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    NatAddress,
    NatGateway,
    NatTarget,
    Network,
    Route,
    RouteTable,
    Rule,
    SecurityGroup,
    Subnet,
    Vpn,
    VpnTarget,
)

type Mutation = Callable[[Network], Network | None]

UNPUBLISHED = IPv4Address("203.0.113.99")
_PUBLIC = IPv4Address("203.0.113.150")
_GATEWAY = "a gateway that was added"


# ---- The database's three protections: its group, its place, its network ACL


def group_opened(network: Network) -> Network | None:
    """the database's security group allows the whole internet on port 5432"""
    groups = _groups_of(network, InterfaceKind.DATABASE)
    rule = Rule(id="opened to the world", protocol="tcp", first_port=POSTGRESQL, last_port=POSTGRESQL, peer=ANYWHERE)
    return _with_groups(network, groups, lambda group: replace(group, ingress=(*group.ingress, rule)))


def place_opened(network: Network) -> Network | None:
    """the database has a public address and a route to the internet gateway"""
    if any(interface.public_address for interface in network.interfaces if interface.kind is InterfaceKind.DATABASE):
        return None
    network = _with_gateway(network)
    tables = {_subnet(network, database).route_table for database in _databases(network)}
    opened = _with_routes(network, tables, lambda table: _led_to_gateway(table, network))
    public = {database.id: _PUBLIC + place for place, database in enumerate(_databases(network))}
    return _with_interfaces(
        opened, lambda interface: replace(interface, public_address=public.get(interface.id, interface.public_address))
    )


def acl_opened(network: Network) -> Network | None:
    """the database's network ACL allows everything"""
    subnets = {_subnet(network, database).id for database in _databases(network)}
    if all(subnet.nacl is None for subnet in network.subnets if subnet.id in subnets):
        return None
    opened = tuple(replace(subnet, nacl=None) if subnet.id in subnets else subnet for subnet in network.subnets)
    return replace(network, subnets=opened)


PROTECTIONS: tuple[Mutation, ...] = (group_opened, place_opened, acl_opened)


def everything_opened(network: Network) -> Network | None:
    """the database's group and ACL are opened to the world, and it has a public address"""
    for change in PROTECTIONS:
        network = change(network) or network
    return network


def all_but_one(network: Network) -> tuple[tuple[str, Network], ...]:
    """For each protection that the design has, the network with all others opened, and what was opened."""
    there = [change for change in PROTECTIONS if change(network) is not None]
    networks = []
    for kept in there:
        opened, descriptions = network, []
        for change in there:
            if change is not kept:
                opened = change(opened) or opened
                descriptions.append(description_of(change))
        networks.append((" and ".join(descriptions), opened))
    return tuple(networks)


def group_opened_to_the_vpc(network: Network) -> Network | None:
    """the database's security group allows the whole VPC"""
    groups = _groups_of(network, InterfaceKind.DATABASE)
    rule = Rule(id="opened to the VPC", protocol="tcp", first_port=POSTGRESQL, last_port=POSTGRESQL, peer=network.cidr)
    return _with_groups(network, groups, lambda group: replace(group, ingress=(*group.ingress, rule)))


def users_forgotten(network: Network) -> Network | None:
    """the database's security group allows nobody"""
    return _with_groups(network, _groups_of(network, InterfaceKind.DATABASE), lambda group: replace(group, ingress=()))


def database_listens_to_all_ports(network: Network) -> Network | None:
    """the database's group and ACL allow all ports"""
    network = acl_opened(network) or network
    rule = Rule(id="all ports", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    users = _groups_of(network, InterfaceKind.FUNCTION)
    network = _with_groups(network, users, lambda group: replace(group, egress=(*group.egress, rule)))
    groups = _groups_of(network, InterfaceKind.DATABASE)
    return _with_groups(network, groups, lambda group: replace(group, ingress=(*group.ingress, rule)))


def database_listens_to_all_protocols(network: Network) -> Network | None:
    """the database's group and ACL allow UDP and ICMP, and so do the groups of the functions"""
    changed = acl_opened(network) or network
    rules = tuple(
        Rule(id=f"all of {protocol}", protocol=protocol, first_port=0, last_port=65535, peer=ANYWHERE)
        for protocol in ("udp", "icmp")
    )
    users = _groups_of(changed, InterfaceKind.FUNCTION)
    changed = _with_groups(changed, users, lambda group: replace(group, egress=(*group.egress, *rules)))
    groups = _groups_of(changed, InterfaceKind.DATABASE)
    return _with_groups(changed, groups, lambda group: replace(group, ingress=(*group.ingress, *rules)))


def database_listens_to_the_world(network: Network) -> Network | None:
    """the database's group and ACL allow all ports to the world, and it has a public address"""
    groups = _groups_of(network, InterfaceKind.DATABASE)
    rule = Rule(id="all to the world", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    changed = everything_opened(network) or network
    return _with_groups(changed, groups, lambda group: replace(group, ingress=(*group.ingress, rule)))


def database_led_out(network: Network) -> Network | None:
    """the database's subnets are routed to the internet as the private ones are, and no network ACL filters them"""
    given = acl_opened(gateway_given(network) or network) or network
    private = next(subnet for subnet in given.subnets if subnet.role == "private")
    out = next(
        route
        for table in given.route_tables
        if table.id == private.route_table
        for route in table.routes
        if route.destination == ANYWHERE
    )
    tables = {_subnet(given, database).route_table for database in _databases(given)}
    return _with_routes(
        given, tables, lambda table: (*(route for route in table.routes if route.destination != ANYWHERE), out)
    )


def database_calls_out(network: Network) -> Network:
    """the database's security group allows all outbound traffic"""
    groups = _groups_of(network, InterfaceKind.DATABASE)
    rule = Rule(id="all out", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    return _with_groups(network, groups, lambda group: replace(group, egress=(*group.egress, rule)))


def functions_may_call_all_ports(network: Network) -> Network | None:
    """the functions' security groups allow all outbound traffic"""
    groups = _groups_of(network, InterfaceKind.FUNCTION)
    rule = Rule(id="all out", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    return _with_groups(network, groups, lambda group: replace(group, egress=(*group.egress, rule)))


def functions_listen(network: Network) -> Network | None:
    """the functions' security groups allow the whole VPC, and each other"""
    opened = functions_may_call_all_ports(network) or network
    groups = _groups_of(network, InterfaceKind.FUNCTION)
    rule = Rule(id="all in", protocol="any", first_port=0, last_port=65535, peer=network.cidr)
    return _with_groups(opened, groups, lambda group: replace(group, ingress=(*group.ingress, rule)))


# ---- Newcomers


def with_listeners_all_around(network: Network) -> Network:
    """each subnet has a newcomer who answers all, no network ACL filters, and the database has a public address"""
    opened = with_newcomers(place_opened(network) or network)
    opened = replace(opened, subnets=tuple(replace(subnet, nacl=None) for subnet in opened.subnets))
    rule = Rule(id=f"{NEWCOMER} ingress", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    return _with_groups(opened, {f"{NEWCOMER}'s group"}, lambda group: replace(group, ingress=(rule,)))


def with_newcomers(network: Network) -> Network:
    """each subnet has a newcomer, whose own security group allows all outbound traffic"""
    out = Rule(id=f"{NEWCOMER} egress", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    group = SecurityGroup(id=f"{NEWCOMER}'s group", ingress=(), egress=(out,))
    added = tuple(_newcomer(network, subnet) for subnet in network.subnets)
    return replace(
        network,
        interfaces=(*network.interfaces, *added),
        security_groups=(*network.security_groups, group),
    )


def _newcomer(network: Network, subnet: Subnet) -> Interface:
    return Interface(
        id=f"{NEWCOMER} in {subnet.id}",
        owner=NEWCOMER,
        kind=InterfaceKind.BASTION,
        subnet=subnet.id,
        address=_free(network, subnet),
        security_groups=(f"{NEWCOMER}'s group",),
    )


# ---- NAT gateways


def unpublished_address(network: Network) -> Network | None:
    """the NAT gateways have addresses that are not published"""
    if not network.nat_gateways:
        return None
    place, changed = 0, []
    for nat in network.nat_gateways:
        fresh = []
        for address in nat.addresses:
            fresh.append(replace(address, public_address=UNPUBLISHED + place))
            place += 1
        changed.append(replace(nat, addresses=tuple(fresh)))
    return replace(network, nat_gateways=tuple(changed))


def straight_to_the_gateway(network: Network) -> Network | None:
    """the private subnets are routed to the internet gateway, past the NAT gateways"""
    if network.internet_gateway is None:
        return None
    tables = {subnet.route_table for subnet in network.subnets if subnet.role == "private"}
    return _with_routes(network, tables, lambda table: _led_to_gateway(table, network))


def a_range_led_to_the_vpn(network: Network) -> Network | None:
    """the private subnets are routed to a VPN gateway for 55.0.0.0/8, a public range"""
    return _led_to_a_vpn(network, IPv4Network("55.0.0.0/8"))


def another_range_led_to_the_vpn(network: Network) -> Network | None:
    """the private subnets are routed to a VPN gateway for 54.0.0.0/8, where services of AWS are"""
    return _led_to_a_vpn(network, IPv4Network("54.0.0.0/8"))


def _led_to_a_vpn(network: Network, cidr: IPv4Network) -> Network:
    vpn = network.vpn or Vpn(
        gateway="a VPN gateway that was added",
        connection="a VPN connection that was added",
        customer_address=IPv4Address("192.0.2.255"),
        corporate=(),
    )
    private = {subnet.route_table for subnet in network.subnets if subnet.role == "private"}
    led = Route(id="a route that was added", destination=cidr, target=VpnTarget(gateway=vpn.gateway))
    return replace(_with_routes(network, private, lambda table: (*table.routes, led)), vpn=vpn)


def functions_with_public_addresses(network: Network) -> Network | None:
    """the functions have public addresses, and their subnets are routed to the internet gateway"""
    led = straight_to_the_gateway(network)
    if led is None:
        return None
    functions = [interface.id for interface in network.interfaces if interface.kind is InterfaceKind.FUNCTION]
    public = {name: _PUBLIC + 30 + place for place, name in enumerate(functions)}
    return _with_interfaces(
        led, lambda interface: replace(interface, public_address=public.get(interface.id, interface.public_address))
    )


def without_nat_in(zone: str) -> Callable[[Network], Network]:
    """The network after the loss of what serves a zone: routes to it lead nowhere."""

    def lost(network: Network) -> Network:
        gone = {nat.id for nat in network.nat_gateways if nat.subnet in _subnets_in(network, zone)}
        kept = tuple(_without_zone(nat, zone) for nat in network.nat_gateways if nat.id not in gone)
        tables = tuple(
            replace(table, routes=tuple(_blackholed(route, gone) for route in table.routes))
            for table in network.route_tables
        )
        return replace(network, nat_gateways=kept, route_tables=tables)

    return lost


def one_nat_for_all(network: Network) -> Network | None:
    """both zones leave by the first one's NAT gateway address"""
    if not network.nat_gateways:
        return None
    first = network.nat_gateways[0]
    if first.subnet is None:
        return replace(network, nat_gateways=(replace(first, addresses=first.addresses[:1]),))
    tables = tuple(
        replace(table, routes=tuple(_turned(route, first.id) for route in table.routes))
        for table in network.route_tables
    )
    return replace(network, route_tables=tables)


def _without_zone(nat: NatGateway, zone: str) -> NatGateway:
    """A regional one loses its address there; a zonal one elsewhere stays as it is."""
    if nat.subnet is not None:
        return nat
    return replace(nat, addresses=tuple(address for address in nat.addresses if address.zone != zone))


def _blackholed(route: Route, gone: set[str]) -> Route:
    if isinstance(route.target, NatTarget) and route.target.nat in gone:
        return replace(route, target=Blackhole(was=route.target.nat))
    return route


def _turned(route: Route, nat: str) -> Route:
    return replace(route, target=NatTarget(nat=nat)) if isinstance(route.target, NatTarget) else route


# ---- A way out for a design that has none


def gateway_given(network: Network) -> Network | None:
    """the VPC has an internet gateway and a NAT gateway, to which the private subnets are routed"""
    if network.internet_gateway is not None:
        return None
    network = _with_gateway(network)
    addresses = tuple(
        NatAddress(zone=zone, allocation="an address that was added", public_address=UNPUBLISHED + place)
        for place, zone in enumerate(network.zones)
    )
    nat = NatGateway(id="a NAT gateway that was added", subnet=None, address=None, addresses=addresses)
    private = {subnet.route_table for subnet in network.subnets if subnet.role == "private"}
    out = Route(id="a route that was added", destination=ANYWHERE, target=NatTarget(nat=nat.id))
    return replace(
        _with_routes(network, private, lambda table: (*table.routes, out)), nat_gateways=(*network.nat_gateways, nat)
    )


def gateway_given_and_groups_opened(network: Network) -> Network | None:
    """the VPC has an internet and a NAT gateway, and the functions' security groups allow all outbound traffic"""
    given = gateway_given(network)
    if given is None:
        return None
    rule = Rule(id="all out", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
    groups = _groups_of(given, InterfaceKind.FUNCTION)
    return _with_groups(given, groups, lambda group: replace(group, egress=(*group.egress, rule)))


def endpoints_forgotten(network: Network) -> Network | None:
    """the security groups of the interface endpoints allow nobody"""
    groups = _groups_of(network, InterfaceKind.ENDPOINT)
    return _with_groups(network, groups, lambda group: replace(group, ingress=())) if groups else None


# ---- The corporate network


def corporate_let_in(network: Network) -> Network | None:
    """the database's group, ACL and routes admit the corporate network"""
    tables = {_subnet(network, database).route_table for database in _databases(network)}
    led = [table for table in network.route_tables if table.id in tables and any(map(_leads_to_vpn, table.routes))]
    if network.vpn is None or led:
        return None
    network = _routed_to_vpn(network, tables)
    return group_opened(acl_opened(network) or network)


def vpn_forgotten(network: Network) -> Network | None:
    """no route leads to the VPN gateway"""
    if network.vpn is None:
        return None
    tables = {table.id for table in network.route_tables}
    return _with_routes(
        network, tables, lambda table: tuple(route for route in table.routes if not _leads_to_vpn(route))
    )


def routed_to_vpn_everywhere(network: Network) -> Network | None:
    """the VPN gateway passes packets through the VPC to its NAT gateways, and every subnet knows the way back"""
    if network.vpn is None or network.internet_gateway is None:
        return None
    return _routed_to_vpn(network, {table.id for table in network.route_tables})


def edge_to_edge(network: Network) -> Callable[[Plan], Plan]:
    """What AWS does not do: the plan's VPN gateway leads through the VPC to where the first private subnet does."""
    private = next(subnet for subnet in network.subnets if subnet.role == "private")
    table = FIRST_TABLE + [table.id for table in network.route_tables].index(private.route_table)
    corporate = network.vpn.corporate if network.vpn else ()

    def changed(plan: Plan) -> Plan:
        routes = [route for route in plan.routes if (route.namespace, route.device) != (VPN, NOWHERE)]
        routes.append(LinuxRoute(namespace=VPN, destination=ANYWHERE, device="vpc", gateway=ROUTER_ADDRESS))
        through = Lookup(namespace=ROUTER, priority=1000, device="vpn", table=table)
        plan = _without_filters(plan, VPN, 'iifname != "vpc"')
        for nat in network.nat_gateways:
            if nat.subnet is None:
                plan = _taking(plan, nat, corporate)
                routes += [route for cidr in corporate for route in _back(nat, cidr)]
        return replace(plan, routes=tuple(routes), lookups=(*plan.lookups, through))

    return changed


def _back(nat: NatGateway, cidr: IPv4Network) -> tuple[LinuxRoute, LinuxRoute]:
    """From a regional NAT gateway to the router, and from there to the VPN gateway."""
    return (
        LinuxRoute(namespace=nat.id, destination=cidr, device="vpc", gateway=ROUTER_ADDRESS),
        LinuxRoute(namespace=ROUTER, destination=cidr, device="vpn", gateway=VPN_ADDRESS, table=INSIDE_TABLE),
    )


def _taking(plan: Plan, nat: NatGateway, corporate: Iterable[IPv4Network]) -> Plan:
    """A regional NAT gateway that translates for the corporate ranges too."""
    more = "".join(f", {cidr} : {nat.addresses[0].public_address}" for cidr in corporate)
    plan = _without_filters(plan, nat.id, 'iifname "vpc" ip saddr !=')
    return replace(
        plan,
        rulesets=tuple(
            replace(ruleset, chains=tuple(_also_for(chain, more) for chain in ruleset.chains))
            if ruleset.namespace == nat.id
            else ruleset
            for ruleset in plan.rulesets
        ),
    )


def _also_for(chain: Chain, more: str) -> Chain:
    """The map of a NAT gateway from ranges to addresses, with more of them."""
    filters = (
        replace(rule, match=rule.match.removesuffix(" }") + more + " }")
        if rule.match.startswith("snat to ip saddr map")
        else rule
        for rule in chain.filters
    )
    return replace(chain, filters=tuple(filters))


# ---- With and without state


def acl_without_answers(network: Network) -> Network | None:
    """the database's network ACL has no entries for answers"""
    acls = {
        subnet.nacl for subnet in network.subnets if subnet.id in {database.subnet for database in _databases(network)}
    }
    changed = tuple(
        replace(nacl, entries=tuple(entry for entry in nacl.entries if not entry.egress)) if nacl.id in acls else nacl
        for nacl in network.nacls
    )
    return None if acls <= {None} else replace(network, nacls=changed)


def groups_without_answers(network: Network) -> Network:
    """the database's security groups allow nothing outbound, and the functions' nothing inbound"""
    silent = _with_groups(network, _groups_of(network, InterfaceKind.DATABASE), lambda group: replace(group, egress=()))
    return _with_groups(silent, _groups_of(network, InterfaceKind.FUNCTION), lambda group: replace(group, ingress=()))


def users_may_not_call(network: Network) -> Network | None:
    """the functions' security groups allow nothing outbound"""
    return _with_groups(network, _groups_of(network, InterfaceKind.FUNCTION), lambda group: replace(group, egress=()))


# ---- Tools


def description_of(change: Callable[..., object]) -> str:
    """The docstring of a change, which says what it does."""
    return (change.__doc__ or change.__name__).strip()


def _databases(network: Network) -> list[Interface]:
    return [interface for interface in network.interfaces if interface.kind is InterfaceKind.DATABASE]


def _subnet(network: Network, interface: Interface) -> Subnet:
    return next(subnet for subnet in network.subnets if subnet.id == interface.subnet)


def _subnets_in(network: Network, zone: str) -> set[str]:
    return {subnet.id for subnet in network.subnets if subnet.zone == zone}


def _groups_of(network: Network, kind: InterfaceKind) -> set[str]:
    return {group for interface in network.interfaces if interface.kind is kind for group in interface.security_groups}


def _with_groups(network: Network, which: set[str], change: Callable[[SecurityGroup], SecurityGroup]) -> Network:
    changed = tuple(change(group) if group.id in which else group for group in network.security_groups)
    return replace(network, security_groups=changed)


def _with_interfaces(network: Network, change: Callable[[Interface], Interface]) -> Network:
    return replace(network, interfaces=tuple(map(change, network.interfaces)))


def _with_routes(network: Network, which: set[str], change: Callable[[RouteTable], tuple[Route, ...]]) -> Network:
    tables = tuple(
        replace(table, routes=change(table)) if table.id in which else table for table in network.route_tables
    )
    return replace(network, route_tables=tables)


def _led_to_gateway(table: RouteTable, network: Network) -> tuple[Route, ...]:
    gateway = InternetGatewayTarget(gateway=network.internet_gateway or _GATEWAY)
    others = tuple(route for route in table.routes if route.destination != ANYWHERE)
    return (*others, Route(id="a route that was added", destination=ANYWHERE, target=gateway))


def _routed_to_vpn(network: Network, which: set[str]) -> Network:
    vpn = network.vpn
    if vpn is None:
        return network
    return _with_routes(
        network,
        which,
        lambda table: (
            *table.routes,
            *(
                Route(id="a route that was added", destination=cidr, target=VpnTarget(gateway=vpn.gateway))
                for cidr in vpn.corporate
                if all(route.destination != cidr for route in table.routes)
            ),
        ),
    )


def _leads_to_vpn(route: Route) -> bool:
    return isinstance(route.target, VpnTarget)


def _with_gateway(network: Network) -> Network:
    return network if network.internet_gateway else replace(network, internet_gateway=_GATEWAY)


def _without_filters(plan: Plan, namespace: str, beginning: str) -> Plan:
    rulesets = tuple(
        replace(
            ruleset,
            chains=tuple(
                replace(chain, filters=tuple(f for f in chain.filters if not f.match.startswith(beginning)))
                for chain in ruleset.chains
            ),
        )
        if ruleset.namespace == namespace
        else ruleset
        for ruleset in plan.rulesets
    )
    return replace(plan, rulesets=rulesets)


def _free(network: Network, subnet: Subnet) -> IPv4Address:
    """From the end of the subnet, below the last address, which AWS reserves."""
    taken = {interface.address for interface in network.interfaces} | {nat.address for nat in network.nat_gateways}
    return next(address for place in range(2, 250) if (address := subnet.cidr[-place]) not in taken)

"""The filters of a plan: what the router, the NAT gateways, the internet and the VPN gateway let pass.

The router asks in this order: source check, route, network ACL of the subnet that is left and of the one that is
entered, connection tracking, security groups of the sender and of the receiver. The ACLs come before connection
tracking because they keep no state. All stands outside of the workload's own namespace.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from lab.model.checkpoints import Checkpoint
from lab.model.outside import OTHER_ADDRESS, RESOLVER, STRANGERS, OutsideHost
from lab.plan.devices import Devices
from lab.plan.parts import INTERNET, NOWHERE, ROUTER, VPN, Chain, FilterCause, FilterRule, NamedSet, Ruleset
from lab.plan.validation import effective_routes, resolver_address
from stack.network.model import (
    ANYWHERE,
    Blackhole,
    Interface,
    Nacl,
    NaclEntry,
    NatGateway,
    Network,
    Route,
    Rule,
    SecurityGroup,
)

_ROUTED_ON = "type filter hook forward priority 0; policy accept;"
_FOR_ITSELF = "type filter hook input priority 0; policy accept;"
_FIRST = "type filter hook prerouting priority -300; policy accept;"  # before connection tracking sees the packet
_LAST = "type nat hook postrouting priority 100; policy accept;"


def rulesets(network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> Iterator[Ruleset]:
    """One for each namespace that passes packets on."""
    yield _router(network, devices, around)
    yield _internet(network, devices)
    for nat in network.nat_gateways:
        yield _zonal(nat) if nat.subnet is not None else _regional(network, nat)
    if network.vpn is not None:
        yield _vpn(network, network.vpn.gateway)
    if any(host.place == "anywhere" for host in around):
        yield _strangers()


def refuse(match: str, checkpoint: Checkpoint, resource: str, detail: str) -> FilterRule:
    return FilterRule(
        match=match, action="refuse", cause=FilterCause(checkpoint=checkpoint, resource=resource, detail=detail)
    )


def _loops(where: str) -> Chain:
    """The last hop of a packet that went round: the kernel would drop it without a record."""
    return Chain(name="loops", hook=_FIRST, filters=(refuse("ip ttl 1", Checkpoint.LOOP, where, "it went round"),))


def _quoted(devices: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{device}"' for device in devices) + " }"


# ---- The router


def _router(network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> Ruleset:
    groupings = _groupings(network.interfaces)
    forward = (
        *_source_check(network, devices),
        *_resolver(network, devices),
        *_routes(network, devices, around),
        *_nacl_jumps(network),
        FilterRule(match="ct state established,related", action="accept"),
        refuse("ct state invalid", Checkpoint.TRACKING, network.vpc, "it belongs to no connection"),
        *_services_start_nothing(network, devices),
        *_group_jumps(network, devices, groupings),
        FilterRule(action="accept"),
    )
    return Ruleset(
        namespace=ROUTER,
        sets=(*_members(network), *_subnet_sets(network, devices)),
        chains=(
            *_nacl_chains(network),
            *_group_chains(network, groupings),
            Chain(name="no_route", hook=None, filters=tuple(_no_route(network, devices))),
            _loops(network.vpc),
            Chain(
                name="to_router",
                hook=_FOR_ITSELF,
                filters=(refuse("", Checkpoint.ADDRESS, network.vpc, "the router answers nobody"),),
            ),
            Chain(name="forward", hook=_ROUTED_ON, filters=forward),
        ),
    )


def _source_check(network: Network, devices: Devices) -> Iterator[FilterRule]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/work-with-nat-instances.html, "source/destination checks".

    An interface sends from its own address alone. That it receives nothing for others follows from the routes.
    """
    for interface in network.interfaces:
        match = f'iifname "{devices.interfaces[interface.id]}" ip saddr != {interface.address}'
        yield refuse(match, Checkpoint.SOURCE, interface.id, f"its address is {interface.address}")


def _resolver(network: Network, devices: Devices) -> Iterator[FilterRule]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nacl-basics.html, vpc-security-groups.html: neither filters it.

    https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html: it serves those inside of the VPC alone.
    """
    address = resolver_address(network)
    match = f'iifname "{devices.vpn}" ip daddr {address}'
    yield refuse(match, Checkpoint.RESOLVER, network.vpc, "it answers those inside of the VPC alone")
    yield FilterRule(match=f"ip daddr {address} udp dport 53", action="accept")
    yield FilterRule(match=f"ip daddr {address} tcp dport 53", action="accept")
    yield refuse(f"ip daddr {address}", Checkpoint.RESOLVER, network.vpc, "it answers DNS on port 53 alone")
    yield FilterRule(match=f'iifname "{RESOLVER}" ct state established', action="accept")


def _routes(network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> Iterator[FilterRule]:
    yield FilterRule(match=f'oifname "{NOWHERE}"', action="jump no_route")
    for nat in network.nat_gateways:
        device = devices.nats[nat.id]
        yield refuse(f'iifname "{device}" oifname "{device}"', Checkpoint.LOOP, nat.id, "it is routed to itself")
    hosts = {host.endpoint: host for host in around if host.endpoint is not None}
    for endpoint in network.gateway_endpoints:
        if endpoint.id in hosts:
            match = f'oifname "{devices.services[endpoint.id]}" ip daddr != {hosts[endpoint.id].address}'
            yield refuse(match, Checkpoint.ENDPOINT, endpoint.id, "no host has this address")


def _no_route(network: Network, devices: Devices) -> Iterator[FilterRule]:
    """Why a packet has nowhere to go. A blackhole counts before the local route only where it is more specific."""
    blackholes = list(_blackholes(network, devices))
    within = [(route, origin) for route, origin in blackholes if route.destination.subnet_of(network.cidr)]
    yield from (_blackhole(route, origin) for route, origin in within)
    yield refuse(f"ip daddr {network.cidr}", Checkpoint.ADDRESS, network.vpc, "no interface has this address")
    yield from (_blackhole(route, origin) for route, origin in blackholes if (route, origin) not in within)
    for table in network.route_tables:
        if origin := _origin(network, devices, table.id):
            yield refuse(origin, Checkpoint.ROUTE, table.id, "no route")
    if network.vpn is not None:
        # https://docs.aws.amazon.com/vpc/latest/peering/invalid-peering-configurations.html: no edge to edge routing.
        match = f'iifname "{devices.vpn}"'
        yield refuse(match, Checkpoint.VPN, network.vpn.gateway, "it leads into the VPC, not through it")
    yield refuse("", Checkpoint.ADDRESS, network.vpc, "no interface has this address")


def _blackholes(network: Network, devices: Devices) -> Iterator[tuple[Route, str]]:
    """The blackhole routes, most specific first, each with where packets of its table come from."""
    blackholes = [
        (route, origin)
        for table in network.route_tables
        if (origin := _origin(network, devices, table.id))
        for route in effective_routes(network, table)
        if isinstance(route.target, Blackhole)
    ]
    yield from sorted(blackholes, key=lambda pair: -pair[0].destination.prefixlen)


def _blackhole(route: Route, origin: str) -> FilterRule:
    was = route.target.was if isinstance(route.target, Blackhole) else ""
    return refuse(f"{origin} {_towards(route.destination)}".strip(), Checkpoint.BLACKHOLE, route.id, f"{was} is gone")


def _towards(destination: IPv4Network) -> str:
    return "" if destination == ANYWHERE else f"ip daddr {destination}"


def _origin(network: Network, devices: Devices, table: str) -> str:
    """The devices whose packets are routed by a table; empty when its subnets are."""
    subnets = [subnet.id for subnet in network.subnets if subnet.route_table == table]
    senders = [device for subnet in subnets for device in devices.in_subnet(network, subnet)]
    return f"iifname {_quoted(senders)}" if senders else ""


# ---- Network ACLs


def _subnet_sets(network: Network, devices: Devices) -> Iterator[NamedSet]:
    for place, subnet in enumerate(network.subnets):
        elements = tuple(f'"{device}"' for device in devices.in_subnet(network, subnet.id))
        yield NamedSet(name=f"subnet_{place}", type="ifname", elements=elements)


def _nacl_jumps(network: Network) -> Iterator[FilterRule]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nacl-basics.html: at the edge of a subnet, not within it.

    A NAT gateway stands in its subnet, so what is routed to it from elsewhere enters that subnet, for whatever
    address. A subnet without an ACL of its own has the default one, which allows all.
    """
    places = {nacl.id: place for place, nacl in enumerate(network.nacls)}
    edges = [(place, subnet.nacl) for place, subnet in enumerate(network.subnets) if subnet.nacl is not None]
    for place, nacl in edges:
        match = f"iifname @subnet_{place} oifname != @subnet_{place}"
        yield FilterRule(match=match, action=f"jump nacl_{places[nacl]}_out")
    for place, nacl in edges:
        match = f"oifname @subnet_{place} iifname != @subnet_{place}"
        yield FilterRule(match=match, action=f"jump nacl_{places[nacl]}_in")


def _nacl_chains(network: Network) -> Iterator[Chain]:
    for place, nacl in enumerate(network.nacls):
        for egress, suffix in ((True, "out"), (False, "in")):
            yield Chain(name=f"nacl_{place}_{suffix}", hook=None, filters=tuple(_nacl_filters(nacl, egress=egress)))


def _nacl_filters(nacl: Nacl, *, egress: bool) -> Iterator[FilterRule]:
    """The lowest matching number decides; what matches none is denied (the entry that AWS shows as *)."""
    checkpoint = Checkpoint.NACL_OUT if egress else Checkpoint.NACL_IN
    entries = (entry for entry in nacl.entries if entry.egress is egress)
    for entry in sorted(entries, key=lambda entry: entry.number):
        yield FilterRule(
            match=_nacl_match(entry),
            action="pass" if entry.allow else "refuse",
            cause=FilterCause(checkpoint=checkpoint, resource=nacl.id, detail=entry.id),
        )
    yield refuse("", checkpoint, nacl.id, "no entry allows it")


def _nacl_match(entry: NaclEntry) -> str:
    """Ports are those that the packet goes to, in both directions."""
    end = "ip daddr" if entry.egress else "ip saddr"
    return _match(end, entry.cidr, entry.protocol, entry.first_port, entry.last_port)


def _match(end: str, peer: IPv4Network | str, protocol: str, first_port: int, last_port: int) -> str:
    where = "" if peer == ANYWHERE else f"{end} {peer}"
    return f"{_protocol(protocol, first_port, last_port)} {where}".strip()


def _protocol(protocol: str, first_port: int, last_port: int) -> str:
    if protocol == "any":
        return ""
    if protocol == "icmp":
        return "ip protocol icmp"
    if (first_port, last_port) == (0, 65535):
        return f"ip protocol {protocol}"
    return f"{protocol} dport {first_port}-{last_port}" if first_port < last_port else f"{protocol} dport {first_port}"


# ---- Security groups


def _members(network: Network) -> Iterator[NamedSet]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html: members' private addresses."""
    for place, group in enumerate(network.security_groups):
        members = tuple(
            str(interface.address) for interface in network.interfaces if group.id in interface.security_groups
        )
        yield NamedSet(name=f"group_{place}", type="ipv4_addr", elements=members)


def _services_start_nothing(network: Network, devices: Devices) -> Iterator[FilterRule]:
    for endpoint in network.gateway_endpoints:
        match = f'iifname "{devices.services[endpoint.id]}"'
        yield refuse(match, Checkpoint.ENDPOINT, endpoint.id, "a service starts no connections")


type Groupings = dict[tuple[str, ...], int]


def _groupings(interfaces: Iterable[Interface]) -> Groupings:
    """The combinations of security groups that occur, numbered: interfaces of one combination share their chains."""
    return {
        groups: place
        for place, groups in enumerate(dict.fromkeys(interface.security_groups for interface in interfaces))
    }


def _group_jumps(network: Network, devices: Devices, groupings: Groupings) -> Iterator[FilterRule]:
    for direction, device in (("out", "iifname"), ("in", "oifname")):
        jumps = [
            f'"{devices.interfaces[interface.id]}" : jump groups_{groupings[interface.security_groups]}_{direction}'
            for interface in network.interfaces
        ]
        if jumps:
            yield FilterRule(match=f"{device} vmap {{ {', '.join(jumps)} }}")


def _group_chains(network: Network, groupings: Groupings) -> Iterator[Chain]:
    for ids, place in groupings.items():
        groups = [group for group in network.security_groups if group.id in ids]
        yield Chain(name=f"groups_{place}_out", hook=None, filters=tuple(_group_filters(network, groups, egress=True)))
        yield Chain(name=f"groups_{place}_in", hook=None, filters=tuple(_group_filters(network, groups, egress=False)))


def _group_filters(network: Network, groups: list[SecurityGroup], *, egress: bool) -> Iterator[FilterRule]:
    """https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html: any rule of any group is enough."""
    checkpoint = Checkpoint.GROUP_OUT if egress else Checkpoint.GROUP_IN
    numbers = {group.id: place for place, group in enumerate(network.security_groups)}
    for group in groups:
        for rule in group.egress if egress else group.ingress:
            yield FilterRule(
                match=_rule_match(rule, numbers, egress=egress),
                action="pass",
                cause=FilterCause(checkpoint=checkpoint, resource=group.id, detail=rule.id),
            )
    yield refuse("", checkpoint, ", ".join(group.id for group in groups), "no rule allows it")


def _rule_match(rule: Rule, numbers: dict[str, int], *, egress: bool) -> str:
    peer = f"@group_{numbers[rule.peer]}" if isinstance(rule.peer, str) else rule.peer
    return _match("ip daddr" if egress else "ip saddr", peer, rule.protocol, rule.first_port, rule.last_port)


# ---- NAT gateways


def _zonal(nat: NatGateway) -> Ruleset:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html: only answers come back."""
    out = FilterRule(match=f"snat to {nat.address}")
    return Ruleset(namespace=nat.id, sets=(), chains=(*_nat_chains(nat, ()), _translate(out)))


def _regional(network: Network, nat: NatGateway) -> Ruleset:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateways-regional.html: each zone has its own address."""
    of_zone = {address.zone: address.public_address for address in nat.addresses}
    served = [(subnet.cidr, of_zone[subnet.zone]) for subnet in network.subnets if subnet.zone in of_zone]
    pairs = ", ".join(f"{cidr} : {address}" for cidr, address in served)
    serves = f"ip saddr != {{ {', '.join(str(cidr) for cidr, _ in served)} }}" if served else ""
    before = (
        refuse(f'oifname "{NOWHERE}"', Checkpoint.GATEWAY, nat.id, "the VPC has no internet gateway"),
        refuse(f'iifname "vpc" {serves}'.strip(), Checkpoint.NAT, nat.id, "it has no address in the sender's zone"),
        refuse('iifname "vpc" oifname "vpc"', Checkpoint.LOOP, nat.id, "it leads out of the VPC, not into it"),
    )
    out = (FilterRule(match=f"snat to ip saddr map {{ {pairs} }}"),) if served else ()
    return Ruleset(namespace=nat.id, sets=(), chains=(*_nat_chains(nat, before), _translate(*out)))


def _translate(*filters: FilterRule) -> Chain:
    return Chain(name="translate", hook=_LAST, filters=filters)


def _nat_chains(nat: NatGateway, before: tuple[FilterRule, ...]) -> Iterator[Chain]:
    """Linux passes on untranslated what belongs to no connection; a NAT gateway must not, so it is refused."""
    strangers = refuse("ct state invalid", Checkpoint.NAT, nat.id, "it belongs to no connection that it translates")
    yield _loops(nat.id)
    yield Chain(name="forward", hook=_ROUTED_ON, filters=(strangers, *before))
    own = refuse("", Checkpoint.NAT, nat.id, "it takes no connections")
    yield Chain(name="to_itself", hook=_FOR_ITSELF, filters=(own,))


# ---- The internet, with the internet gateway at its edge


def _internet(network: Network, devices: Devices) -> Ruleset:
    """https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html: one to one, and without any state.

    What leaves is written to the ledger as the outside sees it: source and destination.
    """
    gateway = network.internet_gateway
    pairs = _translations(network) if gateway is not None else {}
    ledger = "add @ledger { ip saddr . ip daddr }"
    regional = [devices.nats[nat.id] for nat in network.nat_gateways if nat.subnet is None]
    leaving = (
        refuse("ip saddr != @translated", Checkpoint.GATEWAY, gateway or "", "the sender has no public address"),
        FilterRule(match="ip saddr set ip saddr map @public_of"),
        FilterRule(match=ledger),
    )
    arriving = (
        FilterRule(match='iifname "vpc"', action="jump leaving"),
        *(FilterRule(match=f'iifname "{device}" {ledger}') for device in regional),
        refuse(f"ip daddr {network.cidr}", Checkpoint.INTERNET, INTERNET, "private addresses are not routed"),
        FilterRule(match="ip daddr set ip daddr map @private_of"),
    )
    return Ruleset(
        namespace=INTERNET,
        sets=(
            NamedSet(name="ledger", type="ipv4_addr . ipv4_addr", elements=(), flags="dynamic"),
            NamedSet(name="translated", type="ipv4_addr", elements=tuple(pairs)),
            _map("public_of", pairs),
            _map("private_of", {public: private for private, public in pairs.items()}),
        ),
        chains=(
            _loops(INTERNET),
            Chain(name="leaving", hook=None, filters=leaving),
            Chain(name="arriving", hook=_FIRST, filters=arriving),
            Chain(name="to_itself", hook=_FOR_ITSELF, filters=(_no_such_host(""),)),
            Chain(name="forward", hook=_ROUTED_ON, filters=(_no_such_host(f'oifname "{NOWHERE}"'),)),
        ),
    )


def _no_such_host(match: str) -> FilterRule:
    return refuse(match, Checkpoint.INTERNET, INTERNET, "no host has this address")


def _map(name: str, pairs: dict[str, str]) -> NamedSet:
    elements = tuple(f"{key} : {value}" for key, value in pairs.items())
    return NamedSet(name=name, type="ipv4_addr : ipv4_addr", elements=elements, is_map=True)


def _translations(network: Network) -> dict[str, str]:
    """Private address to public address, for interfaces and zonal NAT gateways."""
    pairs = {
        str(interface.address): str(interface.public_address)
        for interface in network.interfaces
        if interface.public_address is not None
    }
    for nat in network.nat_gateways:
        if nat.address is not None and nat.addresses:
            pairs[str(nat.address)] = str(nat.addresses[0].public_address)
    return pairs


# ---- The VPN gateway


def _vpn(network: Network, gateway: str) -> Ruleset:
    """https://docs.aws.amazon.com/vpn/latest/s2svpn/VPNRoutingTypes.html: between the VPC and the ranges behind it."""
    forward = (
        refuse('iifname "vpc" oifname "vpc"', Checkpoint.VPN, gateway, "it does not turn packets back"),
        refuse(
            f'iifname != "vpc" ip daddr != {network.cidr}',
            Checkpoint.VPN,
            gateway,
            "it leads into the VPC, not through it",
        ),
        refuse(f'oifname "{NOWHERE}"', Checkpoint.VPN, gateway, "no corporate host has this address"),
    )
    return Ruleset(
        namespace=VPN,
        sets=(),
        chains=(
            _loops(gateway),
            Chain(
                name="to_itself",
                hook=_FOR_ITSELF,
                filters=(refuse("", Checkpoint.VPN, gateway, "no corporate host has this address"),),
            ),
            Chain(name="forward", hook=_ROUTED_ON, filters=forward),
        ),
    )


# ---- Who may be anywhere


def _strangers() -> Ruleset:
    """Who asked through the VPN takes no answer from the internet: a connection has the same two ends both ways."""
    strange = refuse("ct state invalid", Checkpoint.TRACKING, STRANGERS, OTHER_ADDRESS)
    return Ruleset(
        namespace=STRANGERS, sets=(), chains=(Chain(name="to_itself", hook=_FOR_ITSELF, filters=(strange,)),)
    )

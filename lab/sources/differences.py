"""Where a deployed network differs from that of the templates for the same parameters, resource by resource.

Proofs ask for what matters; a difference may break none of them, and is told all the same. What only AWS chooses is not
compared: ids, addresses, the ranges of prefix lists, and the names of rules.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from stack.network.model import (
    Blackhole,
    GatewayEndpointTarget,
    InternetGatewayTarget,
    NaclEntry,
    NatTarget,
    Network,
    Route,
    RouteTarget,
    Rule,
    VpnTarget,
)
from stack.network.serialize import renamed

type ResourceFacts = Mapping[str, frozenset[str]]  # what is known of each resource, in words

NO_ACL = "no network ACL of its own"
NO_TABLE = "no route table of its own"


def differences(
    deployed: Network, templates: Network, *, names: Mapping[str, str], defaults: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """One sentence for each. `names` are the templates' of AWS's ids; `defaults` the ids of what every VPC has."""
    there = facts(_with_zones_of(renamed(deployed, names), templates), defaults)
    meant = facts(templates, frozenset({f"{templates.vpc} main"}))
    return tuple(_told(there, meant))


def _told(there: ResourceFacts, meant: ResourceFacts) -> Iterator[str]:
    for resource in sorted(there.keys() | meant.keys()):
        if resource not in meant:
            yield f"{resource}: it is deployed, and the templates have none ({_listed(there[resource])})"
        elif resource not in there:
            yield f"{resource}: the templates have it, and it is not deployed"
        else:
            yield from (f"{resource}: deployed is {fact}" for fact in sorted(there[resource] - meant[resource]))
            yield from (f"{resource}: in the templates is {fact}" for fact in sorted(meant[resource] - there[resource]))


def _listed(known: frozenset[str]) -> str:
    return "; ".join(sorted(known)) or "nothing is known of it"


def _with_zones_of(deployed: Network, templates: Network) -> Network:
    """An account's zones in their order are the templates' first and second one."""
    if len(deployed.zones) != len(templates.zones):
        return deployed
    return renamed(deployed, dict(zip(deployed.zones, templates.zones, strict=True)))


# ---- What is known of a network


def facts(network: Network, defaults: frozenset[str]) -> ResourceFacts:
    """By resource. Of a default one nothing is told unless something uses it, and then by who does."""
    known: dict[str, set[str]] = {}
    for resource, fact in _facts(network, defaults):
        known.setdefault(resource, set()).update([fact] if fact else [])
    return {resource: frozenset(words) for resource, words in known.items() if resource not in defaults}


def _facts(network: Network, defaults: frozenset[str]) -> Iterator[tuple[str, str]]:
    yield network.vpc, f"the range {network.cidr}"
    yield network.vpc, f"internet gateway {network.internet_gateway or 'none'}"
    yield from _of_subnets(network, defaults)
    endpoints = {cidr for endpoint in network.gateway_endpoints for cidr in endpoint.ranges}
    for table in network.route_tables:
        yield table.id, ""
        yield from ((table.id, _route(route, endpoints)) for route in table.routes)
    for group in network.security_groups:
        yield group.id, ""
        yield from ((group.id, f"ingress {_rule(rule)}") for rule in group.ingress)
        yield from ((group.id, f"egress {_rule(rule)}") for rule in group.egress)
    for nacl in network.nacls:
        yield nacl.id, ""
        yield from ((nacl.id, _entry(entry)) for entry in nacl.entries)
    yield from _of_gateways(network)
    yield from _of_interfaces(network)


def _of_subnets(network: Network, defaults: frozenset[str]) -> Iterator[tuple[str, str]]:
    for subnet in network.subnets:
        yield subnet.id, f"the range {subnet.cidr}"
        yield subnet.id, f"the zone {subnet.zone}"
        yield subnet.id, NO_TABLE if subnet.route_table in defaults else f"the route table {subnet.route_table}"
        has_own = subnet.nacl is not None and subnet.nacl not in defaults
        yield subnet.id, f"the network ACL {subnet.nacl}" if has_own else NO_ACL


def _of_gateways(network: Network) -> Iterator[tuple[str, str]]:
    for nat in network.nat_gateways:
        yield (
            nat.id,
            f"in {nat.subnet or 'no subnet'}, with addresses in {', '.join(sorted(a.zone for a in nat.addresses))}",
        )
        published = {address.public_address for address in network.published}
        for address in nat.addresses:
            if address.public_address not in published:
                yield nat.id, f"an address that is not published in {address.zone}"
    for endpoint in network.gateway_endpoints:
        yield endpoint.id, f"a gateway endpoint of {endpoint.service}"
    for service, owner in network.service_endpoints:
        yield owner, f"an interface endpoint of {service}"
    if network.vpn is not None:
        corporate = ", ".join(sorted(map(str, network.vpn.corporate)))
        yield network.vpn.connection, f"from {network.vpn.gateway} to {network.vpn.customer_address} and {corporate}"


def _of_interfaces(network: Network) -> Iterator[tuple[str, str]]:
    for interface in network.interfaces:
        public = "a public address" if interface.public_address is not None else "no public address"
        ports = f", listening on {', '.join(map(str, interface.listens))}" if interface.listens else ""
        groups = ", ".join(sorted(interface.security_groups))
        yield interface.owner, f"an interface in {interface.subnet} with {groups} and {public}{ports}"


def _route(route: Route, endpoints: set[IPv4Network]) -> str:
    """Those of a gateway endpoint are told once, whatever ranges it has."""
    if isinstance(route.target, GatewayEndpointTarget) and route.destination in endpoints:
        return f"routes to the gateway endpoint {route.target.endpoint}"
    origin = ", propagated" if route.propagated else ""
    return f"a route for {route.destination} to {_target(route.target)}{origin}"


def _target(target: RouteTarget) -> str:
    match target:
        case InternetGatewayTarget(gateway=gateway) | VpnTarget(gateway=gateway):
            return gateway
        case NatTarget(nat=nat):
            return nat
        case GatewayEndpointTarget(endpoint=endpoint):
            return endpoint
        case Blackhole(was=was):
            return f"nowhere, where {was} was"


def _rule(rule: Rule) -> str:
    return f"{_service(rule)} with {rule.peer}"


def _entry(entry: NaclEntry) -> str:
    side, action = "egress" if entry.egress else "ingress", "allow" if entry.allow else "deny"
    return f"{side} {entry.number}: {action} {_service(entry)} with {entry.cidr}"


def _service(rule: Rule | NaclEntry) -> str:
    if rule.protocol in {"any", "icmp"}:
        return {"any": "all", "icmp": "icmp"}[rule.protocol]
    ports = f"{rule.first_port}" if rule.first_port == rule.last_port else f"{rule.first_port}-{rule.last_port}"
    return f"{rule.protocol} {ports}"

"""From a Network to a Plan: namespaces, links and routes. The filters are in lab/plan/filters.py.

Pure: nothing is made here. Each rule of AWS that a function follows is named with the page that states it.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from lab.model.outside import RESOLVER, STRANGERS, OutsideHost, standard_outside
from lab.plan import filters
from lab.plan.devices import Devices
from lab.plan.parts import (
    FIRST_TABLE,
    INSIDE_TABLE,
    INTERNET,
    INTERNET_ADDRESS,
    NOWHERE,
    ROUTER,
    ROUTER_ADDRESS,
    VPN,
    VPN_ADDRESS,
    Draft,
    Host,
    Lookup,
    Plan,
    Setting,
    UnsupportedNetwork,
    alone,
)
from lab.plan.validation import effective_routes, refuse_incomplete, resolver_address
from stack.network.model import (
    ANYWHERE,
    Blackhole,
    GatewayEndpointTarget,
    InternetGatewayTarget,
    NatGateway,
    NatTarget,
    Network,
    Route,
    VpnTarget,
)


def plan(network: Network, outside: Iterable[OutsideHost] | None = None) -> Plan:
    """The plan of a network with hosts around it, those of `standard_outside` when None are given.

    Raises UnsupportedNetwork, naming the resource and what is missing.
    """
    around = standard_outside(network) if outside is None else tuple(outside)
    refuse_incomplete(network, around)
    devices = Devices.of(network, around)
    draft = Draft()
    _router(draft, network, devices)
    _internet(draft, network, devices, around)
    _interfaces(draft, network, devices)
    _resolver(draft, network)
    _nat_gateways(draft, network, devices)
    _vpn(draft, network, devices, around)
    _services(draft, network, devices, around)
    _strangers(draft, network, around)
    draft.rulesets += filters.rulesets(network, devices, around)
    return draft.finish()


# ---- The VPC


def _router(draft: Draft, network: Network, devices: Devices) -> None:
    """The router of the VPC with one Linux table for each of its route tables.

    https://docs.aws.amazon.com/vpc/latest/userguide/route-tables-priority.html: the longest prefix wins. The local
    route is a throw route: a lookup that ends there goes on in the table of all interfaces, and whatever is more
    specific comes before it.
    """
    draft.namespace(ROUTER, forwards=True)
    draft.settings.append(Setting(namespace=ROUTER, path="netfilter/nf_conntrack_tcp_loose", value="0"))
    draft.lookups.append(Lookup(namespace=ROUTER, priority=2000, table=INSIDE_TABLE))
    draft.nowhere(ROUTER, INSIDE_TABLE)
    for place, table in enumerate(network.route_tables):
        number = FIRST_TABLE + place
        draft.route(ROUTER, network.cidr, None, table=number)
        routes = effective_routes(network, table)
        for route in routes:
            device, gateway = _next_hop(network, devices, route)
            draft.route(ROUTER, route.destination, device, gateway, table=number)
        if not any(route.destination == ANYWHERE for route in routes):
            draft.nowhere(ROUTER, number)


def _next_hop(network: Network, devices: Devices, route: Route) -> tuple[str, IPv4Address | None]:
    """The device and the gateway of a route; its target has been checked to exist."""
    match route.target:
        case InternetGatewayTarget():
            return devices.internet, INTERNET_ADDRESS
        case NatTarget(nat=nat):
            return devices.nats[nat], _nat_address(network, nat)
        case VpnTarget():
            return devices.vpn, VPN_ADDRESS
        case GatewayEndpointTarget(endpoint=endpoint):
            return devices.services[endpoint], None
        case Blackhole():
            return NOWHERE, None


def _nat_address(network: Network, nat: str) -> IPv4Address:
    """Where the router hands packets to a NAT gateway. A regional one has no private address, but one for transit."""
    place, gateway = next((place, gateway) for place, gateway in enumerate(network.nat_gateways) if gateway.id == nat)
    return gateway.address or _transit(place)


def _transit(place: int) -> IPv4Address:
    return IPv4Address("169.254.4.1") + place


def _attach(draft: Draft, device: str, namespace: str, far_device: str) -> None:
    """A link from the router."""
    draft.link(ROUTER, device, namespace, far_device)
    draft.address(ROUTER, device, ROUTER_ADDRESS)


def _at_router(draft: Draft, device: str, namespace: str, address: IPv4Address, table: int | None) -> None:
    """A link from the router to a namespace with one private address, whose packets are routed by `table`."""
    _attach(draft, device, namespace, "eth0")
    draft.address(namespace, "eth0", address)
    draft.route(namespace, ANYWHERE, "eth0", ROUTER_ADDRESS)
    draft.route(ROUTER, alone(address), device, table=INSIDE_TABLE)
    if table is not None:
        draft.lookups.append(Lookup(namespace=ROUTER, priority=1000, device=device, table=table))


def _table_of(network: Network, subnet_id: str) -> int:
    subnet = next(subnet for subnet in network.subnets if subnet.id == subnet_id)
    return FIRST_TABLE + [table.id for table in network.route_tables].index(subnet.route_table)


def _interfaces(draft: Draft, network: Network, devices: Devices) -> None:
    for interface in network.interfaces:
        draft.namespace(interface.id, forwards=False)
        table = _table_of(network, interface.subnet)
        _at_router(draft, devices.interfaces[interface.id], interface.id, interface.address, table)
        public = () if interface.public_address is None else (interface.public_address,)
        draft.hosts.append(
            Host(name=interface.id, addresses=(interface.address, *public), listens=interface.listens, sends=True)
        )


def _resolver(draft: Draft, network: Network) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html: at the base of the range plus two.

    Route tables have no say in it.
    """
    draft.namespace(RESOLVER, forwards=False)
    address = resolver_address(network)
    draft.lookups.append(Lookup(namespace=ROUTER, priority=500, destination=alone(address), table=INSIDE_TABLE))
    _at_router(draft, RESOLVER, RESOLVER, address, None)
    draft.hosts.append(Host(name=RESOLVER, addresses=(address,), listens=(53,), sends=False))


# ---- NAT gateways


def _nat_gateways(draft: Draft, network: Network, devices: Devices) -> None:
    for place, nat in enumerate(network.nat_gateways):
        draft.namespace(nat.id, forwards=True)
        draft.settings.append(Setting(namespace=nat.id, path="netfilter/nf_conntrack_tcp_loose", value="0"))
        if nat.subnet is None:
            _regional(draft, network, devices, nat, _transit(place))
        else:
            _zonal(draft, network, devices, nat)


def _zonal(draft: Draft, network: Network, devices: Devices, nat: NatGateway) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html: an interface in a subnet.

    It sends on from its private address, by the route table of its own subnet; the internet gateway makes the Elastic
    IP of it.
    """
    if nat.address is None or nat.subnet is None:
        raise UnsupportedNetwork(nat.id, "a zonal NAT gateway needs a subnet and a private address")
    _at_router(draft, devices.nats[nat.id], nat.id, nat.address, _table_of(network, nat.subnet))
    publics = tuple(address.public_address for address in nat.addresses)
    draft.hosts.append(Host(name=nat.id, addresses=(nat.address, *publics), listens=(), sends=False))


def _regional(draft: Draft, network: Network, devices: Devices, nat: NatGateway, transit: IPv4Address) -> None:
    """https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateways-regional.html: no subnet, a way out of its own."""
    _attach(draft, devices.nats[nat.id], nat.id, "vpc")
    draft.address(nat.id, "vpc", transit)
    draft.route(nat.id, network.cidr, "vpc", ROUTER_ADDRESS)
    publics = tuple(address.public_address for address in nat.addresses)
    if network.internet_gateway is None:
        draft.address(nat.id, "vpc", *publics)
        draft.nowhere(nat.id)
    else:
        _at_internet(draft, devices.nats[nat.id], nat.id, "out", *publics)
    draft.hosts.append(Host(name=nat.id, addresses=publics, listens=(), sends=False))


# ---- Outside of the VPC


def _internet(draft: Draft, network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> None:
    """The internet, with the translation of the internet gateway where the VPC's link ends."""
    draft.namespace(INTERNET, forwards=True)
    draft.nowhere(INTERNET)
    if network.internet_gateway is not None:
        _attach(draft, devices.internet, INTERNET, "vpc")
        draft.address(INTERNET, "vpc", INTERNET_ADDRESS)
        draft.route(INTERNET, network.cidr, "vpc", ROUTER_ADDRESS)
    for host in around:
        if host.place == "internet":
            draft.namespace(host.name, forwards=False)
            _at_internet(draft, devices.outside[host.name], host.name, "eth0", host.address)
            draft.hosts.append(Host(name=host.name, addresses=(host.address,), listens=host.listens, sends=True))


def _at_internet(draft: Draft, device: str, namespace: str, far_device: str, *addresses: IPv4Address) -> None:
    draft.link(INTERNET, device, namespace, far_device)
    draft.address(INTERNET, device, INTERNET_ADDRESS)
    draft.address(namespace, far_device, *addresses)
    draft.route(namespace, ANYWHERE, far_device, INTERNET_ADDRESS)
    for address in addresses:
        draft.route(INTERNET, alone(address), device)


def _vpn(draft: Draft, network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> None:
    """The virtual private gateway and what lies behind its tunnel, which here is a wire."""
    if network.vpn is None:
        return
    draft.namespace(VPN, forwards=True)
    draft.nowhere(VPN)
    _attach(draft, devices.vpn, VPN, "vpc")
    draft.address(VPN, "vpc", VPN_ADDRESS)
    draft.route(VPN, network.cidr, "vpc", ROUTER_ADDRESS)
    for host in around:
        if host.place == "corporate":
            _corporate(draft, devices.outside[host.name], host)


def _corporate(draft: Draft, device: str, host: OutsideHost) -> None:
    draft.namespace(host.name, forwards=False)
    draft.link(VPN, device, host.name, "eth0")
    draft.address(VPN, device, VPN_ADDRESS)
    draft.address(host.name, "eth0", host.address)
    draft.route(host.name, ANYWHERE, "eth0", VPN_ADDRESS)
    draft.route(VPN, alone(host.address), device)
    draft.hosts.append(Host(name=host.name, addresses=(host.address,), listens=host.listens, sends=True))


def _services(draft: Draft, network: Network, devices: Devices, around: tuple[OutsideHost, ...]) -> None:
    """https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html: past the NAT gateway, as oneself.

    The service stands on the internet too, for those whose route table does not name the endpoint. It answers private
    addresses through the endpoint.
    """
    for host in around:
        if host.place == "service":
            draft.namespace(host.name, forwards=False)
            _at_internet(draft, devices.outside[host.name], host.name, "eth0", host.address)
            draft.hosts.append(Host(name=host.name, addresses=(host.address,), listens=host.listens, sends=False))
            if host.endpoint is not None:
                _attach(draft, devices.services[host.endpoint], host.name, "endpoint")
                draft.route(host.name, network.cidr, "endpoint", ROUTER_ADDRESS)


def _strangers(draft: Draft, network: Network, around: tuple[OutsideHost, ...]) -> None:
    """All hosts that may be anywhere are one namespace with their addresses, on the internet and behind the VPN.

    They answer the VPC's private addresses through the VPN, by which alone those can have reached them.
    """
    hosts = [host for host in around if host.place == "anywhere"]
    if not hosts:
        return
    addresses = [host.address for host in hosts]
    draft.namespace(STRANGERS, forwards=False)
    _at_internet(draft, STRANGERS, STRANGERS, "eth0", *addresses)
    if network.vpn is not None:
        draft.link(VPN, STRANGERS, STRANGERS, "vpn")
        draft.address(VPN, STRANGERS, VPN_ADDRESS)
        draft.route(STRANGERS, network.cidr, "vpn", VPN_ADDRESS)
        for address in addresses:
            draft.route(VPN, alone(address), STRANGERS)
    draft.hosts += [
        Host(name=host.name, addresses=(host.address,), listens=host.listens, sends=True, shares=STRANGERS)
        for host in hosts
    ]

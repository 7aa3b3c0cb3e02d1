"""A small VPC with one of everything, to be changed by the tests that need something else of it."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from stack.network.model import (
    ANYWHERE,
    GatewayEndpoint,
    GatewayEndpointTarget,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    Nacl,
    NaclEntry,
    NatAddress,
    NatGateway,
    NatTarget,
    Network,
    Route,
    RouteTable,
    RouteTarget,
    Rule,
    SecurityGroup,
    Subnet,
    Vpn,
    VpnTarget,
)

FUNCTION, DATABASE, BASTION, WEB = (IPv4Address(f"10.0.{third}.4") for third in (1, 2, 3, 0))
NAT, FIXED, WEB_PUBLIC = IPv4Address("10.0.0.100"), IPv4Address("203.0.113.10"), IPv4Address("203.0.113.80")
CORPORATE = IPv4Network("192.168.0.0/20")
SERVICE = IPv4Network("52.216.0.0/24")


def route(destination: str, target: RouteTarget, *, propagated: bool = False) -> Route:
    where = IPv4Network(destination)
    return Route(id=f"to {destination}", destination=where, target=target, propagated=propagated)


def rule(name: str, peer: str | IPv4Network, port: int | None = None) -> Rule:
    """TCP to a port, or everything when None is given."""
    if port is None:
        return Rule(id=name, protocol="any", first_port=0, last_port=65535, peer=peer)
    return Rule(id=name, protocol="tcp", first_port=port, last_port=port, peer=peer)


def entry(number: int, ports: tuple[int, int], cidr: str, *, egress: bool, allow: bool = True) -> NaclEntry:
    return NaclEntry(
        id=f"{'out' if egress else 'in'} {number}",
        number=number,
        egress=egress,
        allow=allow,
        protocol="tcp",
        first_port=ports[0],
        last_port=ports[1],
        cidr=IPv4Network(cidr),
    )


def subnet(name: str, third: int, table: str, nacl: str | None = None, zone: str = "a") -> Subnet:
    cidr = IPv4Network(f"10.0.{third}.0/24")
    return Subnet(id=name, role=name, zone=zone, cidr=cidr, route_table=table, nacl=nacl)


def interface(name: str, where: str, address: IPv4Address, group: str, **more: Any) -> Interface:
    return Interface(
        id=name,
        owner=name,
        kind=InterfaceKind.FUNCTION,
        subnet=where,
        address=address,
        security_groups=(group,),
        **more,
    )


def small_network(**changes: Any) -> Network:
    """A web server with a public address, a function behind a NAT gateway, a database that only it may reach, a bastion
    in the function's subnet, a VPN and S3 behind a gateway endpoint."""
    network = Network(
        vpc="vpc",
        cidr=IPv4Network("10.0.0.0/16"),
        zones=("a", "b"),
        internet_gateway="igw",
        subnets=(
            subnet("public", 0, "public-table"),
            subnet("private", 1, "private-table"),
            subnet("database", 2, "database-table", nacl="database-nacl"),
            subnet("corner", 3, "private-table"),
        ),
        route_tables=(
            RouteTable(id="public-table", routes=(route("0.0.0.0/0", InternetGatewayTarget(gateway="igw")),)),
            RouteTable(
                id="private-table",
                routes=(
                    route("0.0.0.0/0", NatTarget(nat="nat")),
                    route(str(SERVICE), GatewayEndpointTarget(endpoint="endpoint")),
                    route(str(CORPORATE), VpnTarget(gateway="vgw"), propagated=True),
                ),
            ),
            RouteTable(id="database-table", routes=()),
        ),
        security_groups=(
            SecurityGroup(id="function-group", ingress=(), egress=(rule("all out", ANYWHERE),)),
            SecurityGroup(id="database-group", ingress=(rule("from functions", "function-group", 5432),), egress=()),
            SecurityGroup(id="web-group", ingress=(rule("web", ANYWHERE, 443),), egress=(rule("all out", ANYWHERE),)),
            SecurityGroup(
                id="bastion-group",
                ingress=(rule("from the office", CORPORATE, 22),),
                egress=(rule("all out", ANYWHERE),),
            ),
        ),
        nacls=(
            Nacl(
                id="database-nacl",
                entries=(
                    entry(100, (5432, 5432), "10.0.0.0/16", egress=False),
                    entry(100, (1024, 65535), "10.0.0.0/16", egress=True),
                ),
            ),
        ),
        nat_gateways=(
            NatGateway(
                id="nat",
                subnet="public",
                address=NAT,
                addresses=(NatAddress(zone="a", allocation="eip", public_address=FIXED),),
            ),
        ),
        gateway_endpoints=(GatewayEndpoint(id="endpoint", service="s3", ranges=(SERVICE,)),),
        vpn=Vpn(gateway="vgw", connection="vpn", customer_address=IPv4Address("192.0.2.1"), corporate=(CORPORATE,)),
        interfaces=(
            interface("function", "private", FUNCTION, "function-group"),
            interface("database", "database", DATABASE, "database-group", listens=(5432,)),
            interface("bastion", "corner", BASTION, "bastion-group"),
            interface("web", "public", WEB, "web-group", public_address=WEB_PUBLIC, listens=(443,)),
        ),
        published=(),
    )
    return replace(network, **changes)


def with_table(network: Network, name: str, *routes: Route) -> Network:
    """The network with other routes in one table."""
    tables = tuple(replace(table, routes=routes) if table.id == name else table for table in network.route_tables)
    return replace(network, route_tables=tables)


def with_subnet(network: Network, name: str, **changes: Any) -> Network:
    """The network with one subnet changed."""
    return replace(
        network,
        subnets=tuple(replace(subnet, **changes) if subnet.id == name else subnet for subnet in network.subnets),
    )


def with_interface(network: Network, name: str, **changes: Any) -> Network:
    """The network with one interface changed."""
    return replace(
        network,
        interfaces=tuple(
            replace(interface, **changes) if interface.id == name else interface for interface in network.interfaces
        ),
    )


def with_group(network: Network, name: str, **changes: Any) -> Network:
    """The network with one security group changed."""
    groups = tuple(replace(group, **changes) if group.id == name else group for group in network.security_groups)
    return replace(network, security_groups=groups)


def with_nacl(network: Network, *entries: NaclEntry) -> Network:
    """The network with other entries in the database's ACL."""
    return replace(network, nacls=(Nacl(id="database-nacl", entries=entries),))

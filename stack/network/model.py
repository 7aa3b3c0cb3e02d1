"""A VPC as plain data: what can reach what is decided by these values alone.

Read from our rendered templates (stack/network/from_templates.py) or from a live stack (lab/sources/live.py); drawn by
the map, walked by the invariants and the lab's oracle, and realised with packets by the lab. Everything is frozen and
can be stored as JSON. All addresses are IPv4: the VPC has no IPv6 on purpose, since traffic by an egress-only gateway
would leave from an address that no partner has allowlisted.

Ids are what the source calls things: the address of a template's resource (`Network.PrivateSubnetA`) or AWS's own id
(`subnet-0a1b...`). Reports name them as they are.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

ANYWHERE = IPv4Network("0.0.0.0/0")
POSTGRESQL = 5432


class InterfaceKind(StrEnum):
    """What an interface belongs to."""

    FUNCTION = "function"
    DATABASE = "database"
    PROXY = "proxy"  # RDS Proxy
    BASTION = "bastion"
    ENDPOINT = "endpoint"  # an interface VPC endpoint
    NAT = "nat"


# ---- Routes: where a packet goes next


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetGatewayTarget:
    """To the internet, as the interface's own public address; an interface without one goes nowhere."""

    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTarget:
    """To a NAT gateway, which sends on as its own address."""

    nat: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VpnTarget:
    """To the virtual private gateway and through its tunnel."""

    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEndpointTarget:
    """To an AWS service (S3, DynamoDB) past the NAT gateway."""

    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackhole:
    """Nowhere: the target was deleted."""

    was: str


type RouteTarget = InternetGatewayTarget | NatTarget | VpnTarget | GatewayEndpointTarget | Blackhole


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`id` is the resource that made it. A gateway endpoint's routes name the service's ranges one by one."""

    id: str
    destination: IPv4Network
    target: RouteTarget
    propagated: bool = False  # by the VPN; a static route to the same range wins


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The local route is not listed: every table has it, for the whole range of the VPC."""

    id: str
    routes: tuple[Route, ...]


# ---- Filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One permission of a security group. `protocol` "any" means all protocols, and then the ports are 0 to 65535.

    `peer` is a range, or the id of a security group, whose members' private addresses are meant.
    """

    id: str
    protocol: Literal["tcp", "udp", "icmp", "any"]
    first_port: int
    last_port: int
    peer: IPv4Network | str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """Stateful: the answer to what was let through is let through. Without a rule nothing passes."""

    id: str
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NaclEntry:
    """Stateless, and the lowest matching number decides. What matches none is denied."""

    id: str
    number: int
    egress: bool
    allow: bool
    protocol: Literal["tcp", "udp", "icmp", "any"]
    first_port: int
    last_port: int
    cidr: IPv4Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Nacl:
    """A network access control list."""

    id: str
    entries: tuple[NaclEntry, ...]


# ---- Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """`role` is what it is for: public, private, database; `nacl` is None for the VPC's default one (all allowed)."""

    id: str
    role: str
    zone: str
    cidr: IPv4Network
    route_table: str
    nacl: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface. `owner` is the function, instance or endpoint behind it.

    `public_address` is the one that an internet gateway translates to and from; None for none. `listens` are the TCP
    ports that answer there. A NAT gateway's interfaces are not listed here; they come with the NatGateway.
    """

    id: str
    owner: str
    kind: InterfaceKind
    subnet: str
    address: IPv4Address
    security_groups: tuple[str, ...]
    public_address: IPv4Address | None = None
    listens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NatAddress:
    """One fixed address of a NAT gateway. `allocation` is the Elastic IP's resource or its allocation id."""

    zone: str
    allocation: str
    public_address: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class NatGateway:
    """`subnet` is None for a regional one, which lives in no subnet and serves only the zones that it has addresses in.

    A zonal one serves whoever is routed to it, from `address` in its subnet and by its single fixed address.
    """

    id: str
    subnet: str | None
    address: IPv4Address | None
    addresses: tuple[NatAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEndpoint:
    """S3 or DynamoDB through the route tables. `ranges` stand for the service's prefix list."""

    id: str
    service: str
    ranges: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpn:
    """A virtual private gateway with its tunnel to `customer_address`, behind which `corporate` lies."""

    gateway: str
    connection: str
    customer_address: IPv4Address
    corporate: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One VPC with all that decides who reaches whom.

    `published` are the fixed addresses that partners are told, by zone. `service_endpoints` are the AWS services that
    have an interface endpoint here; all others are reached as the internet is.
    """

    vpc: str
    cidr: IPv4Network
    zones: tuple[str, ...]
    internet_gateway: str | None
    subnets: tuple[Subnet, ...]
    route_tables: tuple[RouteTable, ...]
    security_groups: tuple[SecurityGroup, ...]
    nacls: tuple[Nacl, ...]
    nat_gateways: tuple[NatGateway, ...]
    gateway_endpoints: tuple[GatewayEndpoint, ...]
    vpn: Vpn | None
    interfaces: tuple[Interface, ...]
    published: tuple[NatAddress, ...]
    service_endpoints: tuple[tuple[str, str], ...] = ()  # (service such as "sqs", owner of the endpoint's interfaces)

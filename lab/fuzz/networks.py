"""Networks made at random, from a seed: right and wrong ones alike, as long as a plan can be made of them.

They look like ours (two zones, public, private and database subnets, NAT gateways, a VPN) and are then distorted:
routes that lead elsewhere or nowhere, public addresses where none belong, ACLs that forget the way back.
"""

import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from lab.model.outside import standard_outside
from lab.plan.parts import UnsupportedNetwork
from lab.plan.validation import refuse_incomplete
from stack.network.model import (
    ANYWHERE,
    Blackhole,
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

CIDR = IPv4Network("10.0.0.0/16")
CORPORATE = IPv4Network("192.168.0.0/20")
SERVICE = IPv4Network("52.216.0.0/24")
_ROLES = ("public", "private", "database")
_ZONES = ("a", "b")
_PORTS = ((443, 443), (5432, 5432), (22, 22), (0, 65535), (400, 6000), (1024, 65535))
_ANSWER_PORTS = ((1024, 65535), (32768, 65535), (32768, 60999), (0, 65535), (32900, 33100), (5432, 5432), (443, 443))


def random_network(seed: int) -> Network:
    """Always the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 (chance, not secrets)
    while True:
        network = _Maker(dice).network()
        try:
            refuse_incomplete(network, standard_outside(network))
        except UnsupportedNetwork:
            continue  # a circle of NAT gateways, say
        return network


class _Maker:
    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.internet = self.chance(0.9)
        self.has_vpn = self.chance(0.5)
        self.has_endpoint = self.chance(0.6)
        self.subnets = self._subnets()
        self.nats = self._nats()
        self.groups = [f"group-{place}" for place in range(dice.randint(2, 5))]

    def chance(self, likelihood: float) -> bool:
        return self.dice.random() < likelihood

    def network(self) -> Network:
        """One throw."""
        return Network(
            vpc="vpc",
            cidr=CIDR,
            zones=_ZONES,
            internet_gateway="igw" if self.internet else None,
            subnets=self.subnets,
            route_tables=tuple(self._table(name) for name in sorted({subnet.route_table for subnet in self.subnets})),
            security_groups=tuple(self._group(name) for name in self.groups),
            nacls=tuple(self._nacl(name) for name in sorted({subnet.nacl for subnet in self.subnets if subnet.nacl})),
            nat_gateways=self.nats,
            gateway_endpoints=(
                (GatewayEndpoint(id="endpoint", service="s3", ranges=(SERVICE,)),) if self.has_endpoint else ()
            ),
            vpn=self._vpn() if self.has_vpn else None,
            interfaces=tuple(self._interfaces()),
            published=(),
        )

    def _vpn(self) -> Vpn:
        return Vpn(gateway="vgw", connection="vpn", customer_address=IPv4Address("192.0.2.1"), corporate=(CORPORATE,))

    # ---- Places

    def _subnets(self) -> tuple[Subnet, ...]:
        places = [(zone, role) for zone in _ZONES for role in _ROLES]
        kept = [place for place in places if self.chance(0.85)] or places[:1]
        shared_lists = self.chance(0.3)
        return tuple(
            Subnet(
                id=f"{role}-{zone}",
                role=role,
                zone=zone,
                cidr=IPv4Network(f"10.0.{place}.0/24"),
                route_table=f"table-{role}" if self.chance(0.5) else f"table-{role}-{zone}",
                nacl=(f"nacl-{role}" if shared_lists else f"nacl-{role}-{zone}") if self.chance(0.6) else None,
            )
            for place, (zone, role) in enumerate(kept)
        )

    def _nats(self) -> tuple[NatGateway, ...]:
        match self.dice.choice(("none", "single", "per zone", "per zone", "regional", "both")):
            case "single":
                return (self._zonal(0),)
            case "per zone":
                return (self._zonal(0), self._zonal(1))
            case "regional":
                return (self._regional(),)
            case "both":
                return (self._zonal(0), self._regional())
        return ()

    def _zonal(self, place: int) -> NatGateway:
        public = [subnet for subnet in self.subnets if subnet.role == "public"]
        subnet = self.dice.choice(public if public and self.chance(0.85) else self.subnets)
        address = IPv4Address(f"203.0.113.{10 + place}")
        own = NatAddress(zone=subnet.zone, allocation=f"eip-{place}", public_address=address)
        return NatGateway(
            id=f"nat-{place}",
            subnet=subnet.id,
            address=subnet.cidr[100 + place],
            addresses=(own,) if self.chance(0.95) else (),
        )

    def _regional(self) -> NatGateway:
        zones = [zone for zone in _ZONES if self.chance(0.8)]
        return NatGateway(
            id="nat-regional",
            subnet=None,
            address=None,
            addresses=tuple(
                NatAddress(zone=zone, allocation=f"eip-{zone}", public_address=IPv4Address(f"203.0.113.{20 + place}"))
                for place, zone in enumerate(zones)
            ),
        )

    def _interfaces(self) -> Iterable[Interface]:
        for place in range(self.dice.randint(4, 8)):
            subnet = self.dice.choice(self.subnets)
            groups = self.dice.sample(self.groups, self.dice.randint(1, min(2, len(self.groups))))
            public = self.chance(0.5 if subnet.role == "public" else 0.2)
            yield Interface(
                id=f"host-{place}",
                owner=f"host-{place}",
                kind=self.dice.choice((InterfaceKind.FUNCTION, InterfaceKind.DATABASE, InterfaceKind.BASTION)),
                subnet=subnet.id,
                address=subnet.cidr[10 + place],
                security_groups=tuple(groups),
                public_address=IPv4Address(f"203.0.113.{100 + place}") if public else None,
            )

    # ---- Routes

    def _table(self, name: str) -> RouteTable:
        routes: dict[tuple[IPv4Network, bool], RouteTarget] = {}
        if (target := self._default(name)) is not None:
            routes[ANYWHERE, False] = target
        if self.has_endpoint and self.chance(0.5):
            routes[SERVICE, False] = GatewayEndpointTarget(endpoint="endpoint")
        if self.has_vpn and self.chance(0.6):
            routes[CORPORATE, True] = VpnTarget(gateway="vgw")
        for _ in range(self.dice.choice((0, 0, 0, 1, 2))):
            routes[self._odd_destination(), self.has_vpn and self.chance(0.2)] = self._any_target()
        return RouteTable(
            id=name,
            routes=tuple(
                Route(
                    id=f"{name}/{destination}{'/propagated' if propagated else ''}",
                    destination=destination,
                    target=VpnTarget(gateway="vgw") if propagated else target,
                    propagated=propagated,
                )
                for (destination, propagated), target in routes.items()
            ),
        )

    def _default(self, name: str) -> RouteTarget | None:
        if "public" in name and self.internet and self.chance(0.85):
            return InternetGatewayTarget(gateway="igw")
        if "private" in name and self.nats and self.chance(0.8):
            return NatTarget(nat=self.dice.choice(self.nats).id)
        if "database" in name and self.chance(0.5):
            return None
        return self._any_target()

    def _any_target(self) -> RouteTarget:
        choices: list[RouteTarget] = [Blackhole(was="nat-deleted")]
        if self.internet:
            choices += [InternetGatewayTarget(gateway="igw")] * 2
        choices += [NatTarget(nat=nat.id) for nat in self.nats]
        if self.has_vpn:
            choices.append(VpnTarget(gateway="vgw"))
        return self.dice.choice(choices)

    def _odd_destination(self) -> IPv4Network:
        """Third parties, the corporate range in part or again, a wider range than the VPC's, or one subnet of it."""
        return self.dice.choice(
            (
                IPv4Network("198.51.100.0/24"),
                IPv4Network("198.51.100.66/32"),
                IPv4Network("192.168.0.0/24"),
                CORPORATE,
                IPv4Network("10.0.0.0/8"),
                self.dice.choice(self.subnets).cidr,
            )
        )

    # ---- Filters

    def _peer(self) -> IPv4Network:
        return self.dice.choice(
            (
                ANYWHERE,
                ANYWHERE,
                CIDR,
                self.dice.choice(self.subnets).cidr,
                CORPORATE,
                SERVICE,
                IPv4Network("198.51.100.0/24"),
                IPv4Network("198.51.100.66/32"),
                IPv4Network("203.0.113.0/24"),
                IPv4Network("203.0.113.10/32"),
            )
        )

    def _rule(self, name: str) -> Rule:
        protocol = self.dice.choices(("tcp", "any", "udp", "icmp"), (8, 2, 1, 1))[0]
        first, last = self.dice.choice(_PORTS) if protocol in {"tcp", "udp"} else (0, 65535)
        return Rule(
            id=name,
            protocol=protocol,  # type: ignore[arg-type] # one of the four above
            first_port=first,
            last_port=last,
            peer=self.dice.choice(self.groups) if self.chance(0.45) else self._peer(),
        )

    def _group(self, name: str) -> SecurityGroup:
        ingress = tuple(self._rule(f"{name}/in-{place}") for place in range(self.dice.randint(0, 3)))
        egress = tuple(self._rule(f"{name}/out-{place}") for place in range(self.dice.randint(0, 2)))
        if self.chance(0.6):
            everything = Rule(id=f"{name}/out-all", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE)
            egress = (*egress, everything)
        return SecurityGroup(id=name, ingress=ingress, egress=egress)

    def _nacl(self, name: str) -> Nacl:
        entries = [
            self._entry(name, number, egress=egress)
            for egress in (True, False)
            for number in self.dice.sample(range(1, 100), self.dice.randint(0, 4))
        ]
        entries += [_all(name, egress=egress) for egress in (True, False) if self.chance(0.6)]
        self.dice.shuffle(entries)
        return Nacl(id=name, entries=tuple(entries))

    def _entry(self, name: str, number: int, *, egress: bool) -> NaclEntry:
        protocol = self.dice.choices(("tcp", "any", "udp"), (8, 1, 1))[0]
        ports = self.dice.choice(_ANSWER_PORTS if self.chance(0.5) else _PORTS)
        first, last = ports if protocol != "any" else (0, 65535)
        return NaclEntry(
            id=f"{name}/{'out' if egress else 'in'}-{number}",
            number=number,
            egress=egress,
            allow=self.chance(0.65),
            protocol=protocol,  # type: ignore[arg-type] # one of the three above
            first_port=first,
            last_port=last,
            cidr=self._peer(),
        )


def _all(name: str, *, egress: bool) -> NaclEntry:
    return NaclEntry(
        id=f"{name}/{'out' if egress else 'in'}-all",
        number=200,
        egress=egress,
        allow=True,
        protocol="any",
        first_port=0,
        last_port=65535,
        cidr=ANYWHERE,
    )

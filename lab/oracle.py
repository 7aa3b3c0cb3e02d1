"""The result that an attempt should have by AWS's documentation, worked out from the Network alone.

It walks a TCP exchange, the opening packet and its answer, from place to place. It shares no code with the plan and
its filters: that the two agree on networks made at random (lab/fuzz) is the check of both. It follows the pages of AWS
in lab/model/checkpoints.py; the sentences beside the functions say which rule of the page is meant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Literal, NoReturn

from lab.model.attempts import Arrived, ConnectionAttempt, Died, PacketResult, Protocol, Unexplained
from lab.model.checkpoints import Checkpoint
from lab.model.outside import OTHER_ADDRESS, RESOLVER, STRANGERS, OutsideHost
from stack.network.model import (
    Blackhole,
    GatewayEndpointTarget,
    Interface,
    InternetGatewayTarget,
    NaclEntry,
    NatGateway,
    NatTarget,
    Network,
    RouteTable,
    RouteTarget,
    Rule,
    Subnet,
    VpnTarget,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """`opens` is whether it is the first of its exchange, not the answer. An echo has one number for both ports."""

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    opens: bool = True
    protocol: Protocol = "tcp"

    def answer(self) -> "Packet":
        """What the receiver sends back."""
        return Packet(
            self.destination, self.destination_port, self.source, self.source_port, opens=False, protocol=self.protocol
        )

    @property
    def may_open(self) -> bool:
        """Whether it can be taken for the first of its exchange, as every datagram of UDP can."""
        return self.opens or self.protocol == "udp"

    def ends(self) -> "Ends":
        return self.protocol, self.source, self.source_port, self.destination, self.destination_port


type Ends = tuple[Protocol, IPv4Address, int, IPv4Address, int]


@dataclass(frozen=True, slots=True)
class Reached:
    """The packet as it came to the host of that name."""

    host: str
    packet: Packet


class _PacketRefused(Exception):
    def __init__(self, checkpoint: Checkpoint, resource: str, detail: str) -> None:
        super().__init__(checkpoint, resource, detail)
        self.checkpoint, self.resource, self.detail = checkpoint, resource, detail


def _refuse(checkpoint: Checkpoint, resource: str, detail: str) -> NoReturn:
    raise _PacketRefused(checkpoint, resource, detail)


class Oracle:
    """Judges attempts on one network; each attempt is judged as if it were the first."""

    def __init__(self, network: Network, outside: Iterable[OutsideHost]) -> None:
        self._network, self._outside = network, tuple(outside)

    def judge(self, attempt: ConnectionAttempt) -> PacketResult:
        walk = _Walk(self._network, self._outside)
        source = attempt.spoofed_source or walk.address_of(attempt.source)
        opening = Packet(source, attempt.source_port, attempt.destination, attempt.port, protocol=attempt.protocol)
        direction: Literal["out", "back"] = "out"
        try:
            there = walk.send(attempt.source, opening)
            direction = "back"
            home = walk.send(there.host, there.packet.answer())
        except _PacketRefused as refused:
            return Died(
                checkpoint=refused.checkpoint, resource=refused.resource, detail=refused.detail, direction=direction
            )
        if home.host == attempt.source and home.packet.source != attempt.destination:
            return Died(checkpoint=Checkpoint.TRACKING, resource=STRANGERS, detail=OTHER_ADDRESS, direction="back")
        if home != Reached(attempt.source, opening.answer()):
            return Unexplained(reason=f"the answer came to {home.host} as {home.packet}")
        return Arrived(seen_as=there.packet.source)


@dataclass(slots=True)
class _Walk:
    """One exchange. `tracked` are the packets that the VPC let open a connection; `translated` is what NAT gateways
    remember: the answer that they expect, and the packet that it is the answer to."""

    network: Network
    outside: tuple[OutsideHost, ...]
    tracked: set[Ends] = field(default_factory=set)
    translated: dict[tuple[str, Ends], Packet] = field(default_factory=dict)

    # ---- Who is where

    def address_of(self, host: str) -> IPv4Address:
        inside = [interface.address for interface in self.network.interfaces if interface.id == host]
        return (inside + [outside.address for outside in self.outside if outside.name == host])[0]

    def subnet(self, name: str) -> Subnet:
        return next(subnet for subnet in self.network.subnets if subnet.id == name)

    def table(self, subnet: str) -> RouteTable:
        return next(table for table in self.network.route_tables if table.id == self.subnet(subnet).route_table)

    def nat(self, name: str) -> NatGateway:
        return next(nat for nat in self.network.nat_gateways if nat.id == name)

    def send(self, host: str, packet: Packet) -> Reached:
        """Raises _PacketRefused."""
        for interface in self.network.interfaces:
            if interface.id == host:
                return self.from_interface(interface, packet)
        if host == RESOLVER:
            return self.from_resolver(packet)
        outside = next(outside for outside in self.outside if outside.name == host)
        match outside.place:
            case "internet":
                return self.on_internet(packet)
            case "corporate":
                return self.from_corporate(packet)
            case "service":
                return self.from_service(outside, packet)
            case "anywhere":
                return self.from_anywhere(packet)

    # ---- Inside of the VPC

    def from_interface(self, interface: Interface, packet: Packet) -> Reached:
        """An interface may send from its own address alone."""
        if packet.source != interface.address:
            _refuse(Checkpoint.SOURCE, interface.id, f"its address is {interface.address}")
        if packet.destination == self.network.cidr[2]:
            return self.at_resolver(packet)
        return self.leave(interface.subnet, interface, packet)

    def at_resolver(self, packet: Packet) -> Reached:
        """Neither network ACLs nor security groups filter what goes to the resolver, which answers DNS alone."""
        if packet.destination_port != 53 or packet.protocol == "icmp":
            _refuse(Checkpoint.RESOLVER, self.network.vpc, "it answers DNS on port 53 alone")
        self.tracked.add(packet.ends())
        return Reached(RESOLVER, packet)

    def from_resolver(self, packet: Packet) -> Reached:
        """Its answers are not filtered either."""
        return Reached(
            next(interface.id for interface in self.network.interfaces if interface.address == packet.destination),
            packet,
        )

    def leave(self, subnet: str, sender: Interface | NatGateway, packet: Packet) -> Reached:
        """Out of a subnet, by its route table."""
        match self.target(self.table(subnet), packet.destination):
            case None:
                return self.into_vpc(packet, subnet, sender)
            case NatTarget(nat=name):
                return self.to_nat(self.nat(name), subnet, sender, packet)
            case InternetGatewayTarget():
                self.filter(subnet, None, sender, None, packet)
                return self.at_internet_gateway(packet)
            case GatewayEndpointTarget(endpoint=endpoint):
                return self.to_service(endpoint, subnet, sender, packet)
            case VpnTarget():
                self.filter(subnet, None, sender, None, packet)
                return self.at_vpn(packet)
            case Blackhole():
                raise AssertionError("a blackhole refuses when it is looked up")

    def to_nat(self, nat: NatGateway, subnet: str, sender: Interface | NatGateway, packet: Packet) -> Reached:
        """A NAT gateway is in a subnet, so packets to it cross the edges of subnets."""
        if sender == nat:
            _refuse(Checkpoint.LOOP, nat.id, "it is routed to itself")
        self.filter(subnet, nat.subnet, sender, None, packet)
        return self.at_nat(nat, packet)

    def to_service(self, endpoint: str, subnet: str, sender: Interface | NatGateway, packet: Packet) -> Reached:
        """Through a gateway endpoint one keeps one's private address."""
        host = next(host for host in self.outside if host.endpoint == endpoint)
        if packet.destination != host.address:
            _refuse(Checkpoint.ENDPOINT, endpoint, "no host has this address")
        self.filter(subnet, None, sender, None, packet)
        return Reached(host.name, packet)

    def target(self, table: RouteTable, destination: IPv4Address) -> RouteTarget | None:
        """None for the local route.

        The longest prefix wins; of two to the same range the static one. The local route wins over propagated ones
        even when these are more specific.
        """
        inside = destination in self.network.cidr
        fitting = [route for route in table.routes if destination in route.destination]
        if inside:
            longer = self.network.cidr.prefixlen
            fitting = [route for route in fitting if not route.propagated and route.destination.prefixlen > longer]
        if not fitting:
            if inside:
                return None
            _refuse(Checkpoint.ROUTE, table.id, "no route")
        best = max(fitting, key=lambda route: (route.destination.prefixlen, not route.propagated))
        if isinstance(best.target, Blackhole):
            _refuse(Checkpoint.BLACKHOLE, best.id, f"{best.target.was} is gone")
        return best.target

    def into_vpc(
        self, packet: Packet, subnet: str | None = None, sender: Interface | NatGateway | None = None
    ) -> Reached:
        """To whoever has the private address."""
        for interface in self.network.interfaces:
            if interface.address == packet.destination:
                self.filter(subnet, interface.subnet, sender, interface, packet)
                return Reached(interface.id, packet)
        for nat in self.network.nat_gateways:
            if nat.address == packet.destination:
                self.filter(subnet, nat.subnet, sender, None, packet)
                return self.at_nat(nat, packet)
        _refuse(Checkpoint.ADDRESS, self.network.vpc, "no interface has this address")

    # ---- Filters

    def filter(
        self,
        left: str | None,
        entered: str | None,
        sender: Interface | NatGateway | None,
        receiver: Interface | None,
        packet: Packet,
    ) -> None:
        """Network ACLs at the edges of subnets, for every packet; security groups for those that open a connection."""
        if left is not None and left != entered:
            self.ask_nacl(left, packet, egress=True)
        if entered is not None and left != entered:
            self.ask_nacl(entered, packet, egress=False)
        if packet.answer().ends() in self.tracked:
            return
        if not packet.may_open:
            _refuse(Checkpoint.TRACKING, self.network.vpc, "it belongs to no connection")
        if isinstance(sender, Interface):
            self.ask_groups(sender, packet.destination, packet, egress=True)
        if receiver is not None:
            self.ask_groups(receiver, packet.source, packet, egress=False)
        self.tracked.add(packet.ends())

    def ask_nacl(self, subnet: str, packet: Packet, *, egress: bool) -> None:
        """The lowest number that fits decides. Subnets without a list of their own allow all."""
        name = self.subnet(subnet).nacl
        if name is None:
            return
        nacl = next(nacl for nacl in self.network.nacls if nacl.id == name)
        far_end = packet.destination if egress else packet.source
        fitting: Sequence[NaclEntry] = [
            entry
            for entry in nacl.entries
            if entry.egress == egress and far_end in entry.cidr and _covers(entry, packet)
        ]
        first = min(fitting, key=lambda entry: entry.number, default=None)
        if first is None or not first.allow:
            checkpoint = Checkpoint.NACL_OUT if egress else Checkpoint.NACL_IN
            _refuse(checkpoint, nacl.id, "no entry allows it" if first is None else first.id)

    def ask_groups(self, interface: Interface, peer: IPv4Address, packet: Packet, *, egress: bool) -> None:
        """One rule of one group is enough. A group as peer stands for the private addresses of its members."""
        groups = [group for group in self.network.security_groups if group.id in interface.security_groups]
        rules = [rule for group in groups for rule in (group.egress if egress else group.ingress)]
        if not any(self.allows(rule, peer, packet) for rule in rules):
            checkpoint = Checkpoint.GROUP_OUT if egress else Checkpoint.GROUP_IN
            _refuse(checkpoint, ", ".join(group.id for group in groups), "no rule allows it")

    def allows(self, rule: Rule, peer: IPv4Address, packet: Packet) -> bool:
        if not _covers(rule, packet):
            return False
        if not isinstance(rule.peer, str):
            return peer in rule.peer
        return any(
            interface.address == peer and rule.peer in interface.security_groups
            for interface in self.network.interfaces
        )

    # ---- NAT gateways

    def at_nat(self, nat: NatGateway, packet: Packet) -> Reached:
        """It turns back the answers to what it sent, and sends on what opens a connection; all else ends here."""
        opening = self.translated.get((nat.id, packet.ends()))
        if opening is not None:
            return self.from_nat(nat, replace(packet, destination=opening.source))
        if packet.destination == nat.address or (packet.destination in _public(nat) and nat.subnet is None):
            _refuse(Checkpoint.NAT, nat.id, "it takes no connections")
        if not packet.may_open:
            _refuse(Checkpoint.NAT, nat.id, "it belongs to no connection that it translates")
        sent = replace(packet, source=self.own_address(nat, packet))
        self.translated[nat.id, sent.answer().ends()] = packet
        return self.from_nat(nat, sent)

    def own_address(self, nat: NatGateway, packet: Packet) -> IPv4Address:
        """A zonal one sends as its private address, a regional one as its public address in the sender's zone."""
        if nat.address is not None and nat.subnet is not None:
            return nat.address
        if self.network.internet_gateway is None:
            _refuse(Checkpoint.GATEWAY, nat.id, "the VPC has no internet gateway")
        zones = {subnet.zone for subnet in self.network.subnets if packet.source in subnet.cidr}
        for address in nat.addresses:
            if address.zone in zones:
                return address.public_address
        _refuse(Checkpoint.NAT, nat.id, "it has no address in the sender's zone")

    def from_nat(self, nat: NatGateway, packet: Packet) -> Reached:
        if nat.subnet is not None:
            return self.leave(nat.subnet, nat, packet)
        return self.into_vpc(packet) if packet.destination in self.network.cidr else self.on_internet(packet)

    # ---- Around the VPC

    def at_internet_gateway(self, packet: Packet) -> Reached:
        """It makes the public address of the private one, and knows no others."""
        public = _translations(self.network).get(packet.source)
        if public is None:
            _refuse(Checkpoint.GATEWAY, self.network.internet_gateway or "", "the sender has no public address")
        return self.on_internet(replace(packet, source=public))

    def on_internet(self, packet: Packet) -> Reached:
        if packet.destination in self.network.cidr:
            _refuse(Checkpoint.INTERNET, "internet", "private addresses are not routed")
        for host in self.outside:
            if host.address == packet.destination and host.place != "corporate":
                return Reached(host.name, packet)
        if self.network.internet_gateway is not None:
            return self.from_internet(packet)
        _refuse(Checkpoint.INTERNET, "internet", "no host has this address")

    def from_internet(self, packet: Packet) -> Reached:
        """In by the internet gateway, which makes the private address of the public one."""
        for nat in self.network.nat_gateways:
            if nat.subnet is None and packet.destination in _public(nat):
                return self.at_nat(nat, packet)
        for private, public in _translations(self.network).items():
            if public == packet.destination:
                return self.into_vpc(replace(packet, destination=private))
        _refuse(Checkpoint.INTERNET, "internet", "no host has this address")

    def at_vpn(self, packet: Packet) -> Reached:
        gateway = self.network.vpn.gateway if self.network.vpn else ""
        for host in self.outside:
            if host.address == packet.destination and host.place in {"corporate", "anywhere"}:
                return Reached(host.name, packet)
        _refuse(Checkpoint.VPN, gateway, "no corporate host has this address")

    def from_corporate(self, packet: Packet) -> Reached:
        """The tunnel leads into the VPC alone; the resolver serves those inside alone."""
        if packet.destination not in self.network.cidr:
            gateway = self.network.vpn.gateway if self.network.vpn else ""
            _refuse(Checkpoint.VPN, gateway, "it leads into the VPC, not through it")
        if packet.destination == self.network.cidr[2]:
            _refuse(Checkpoint.RESOLVER, self.network.vpc, "it answers those inside of the VPC alone")
        return self.into_vpc(packet)

    def from_anywhere(self, packet: Packet) -> Reached:
        """Who may be behind the VPN as well as on the internet sends to private addresses through the VPN."""
        if self.network.vpn is not None and packet.destination in self.network.cidr:
            return self.from_corporate(packet)
        return self.on_internet(packet)

    def from_service(self, service: OutsideHost, packet: Packet) -> Reached:
        """A service behind a gateway endpoint answers private addresses through it."""
        if service.endpoint is not None and packet.destination in self.network.cidr:
            return self.into_vpc(packet)
        return self.on_internet(packet)


def _covers(rule: Rule | NaclEntry, packet: Packet) -> bool:
    """An echo has no ports, and rules for ICMP are for all of its types."""
    if rule.protocol == "any":
        return True
    in_range = packet.protocol == "icmp" or rule.first_port <= packet.destination_port <= rule.last_port
    return rule.protocol == packet.protocol and in_range


def _public(nat: NatGateway) -> frozenset[IPv4Address]:
    return frozenset(address.public_address for address in nat.addresses)


def _translations(network: Network) -> Mapping[IPv4Address, IPv4Address]:
    """Private to public, of interfaces and of zonal NAT gateways."""
    pairs = {
        interface.address: interface.public_address
        for interface in network.interfaces
        if interface.public_address is not None
    }
    for nat in network.nat_gateways:
        if nat.address is not None and nat.addresses:
            pairs[nat.address] = nat.addresses[0].public_address
    return pairs

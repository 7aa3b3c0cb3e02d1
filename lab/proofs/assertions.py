"""The vocabulary of proofs: `lab.internet.cannot_reach(lab.database, 5432)`.

An Assertion is a sentence with the connections to try and what must become of them. Nothing is sent here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from lab.model.attempts import Protocol
from lab.model.case import Case
from lab.model.checkpoints import Checkpoint
from lab.model.classes import AddressClass, PortClass, addresses_of, kinds_of_hosts, port_classes, strangers
from lab.model.outside import OutsideHost
from lab.model.world import ATTACKER, DEVELOPER, PARTNER, world
from stack.network.model import Interface, InterfaceKind, Network

SERVICES = ("execute-api", "secretsmanager", "sqs")  # which some design reaches at an endpoint
PARTNER_PORTS = (80, 443, 8080, 8443)  # those that deliveries may go to (src/runtime/settings.py, allowed_ports)
TOLD_APART = (22, 5432, *PARTNER_PORTS)  # ports that sentences are about
NAMED_RANGES = ("CorporateCidr", "AllowedPrivateCidrs", "DeveloperCidr")  # parameters that say who is let in or out
NOBODY = "nobody"
NEWCOMER = "newcomer"  # the owner of interfaces that a proof adds to see what a stranger in the VPC can do

type ConnectionSpec = tuple[str, IPv4Address, int] | tuple[str, IPv4Address, int, Protocol]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Some classes of ports (lab/model/classes.py), under the name that sentences use for them."""

    name: str
    classes: tuple[PortClass, ...]

    def but(self, *ports: int) -> "Ports":
        """All of them but those of the TCP ports."""
        kept = tuple(known for known in self.classes if known.protocol != "tcp" or known.member not in ports)
        return Ports(name=f"{self.name} but {', '.join(map(str, ports))}", classes=kept)

    def only(self, *ports: int) -> "Ports":
        """Those of the TCP ports."""
        kept = tuple(known for known in self.classes if known.protocol == "tcp" and known.member in ports)
        return Ports(name=_ports(ports), classes=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Of all that left the VPC for `to` (anyone when None), the sources must be among `only`."""

    to: frozenset[IPv4Address] | None
    only: frozenset[IPv4Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A sentence, the connections that it is about, and what must become of each.

    `arrives` is None where either will do. `seen_as` are the addresses that those who arrive may be seen as.
    `checkpoint` is where those who die must die, and `answer` that it is the answer on its way back that dies.
    """

    sentence: str
    connections: tuple[ConnectionSpec, ...]
    arrives: bool | None
    seen_as: frozenset[IPv4Address] | None = None
    checkpoint: Checkpoint | None = None
    answer: bool = False
    ledger: Ledger | None = None
    by_class: bool = False  # its connections stand for classes of addresses or ports: the picture leaves them out


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """Some hosts, under the name that sentences use for them. `addresses` are those by which others try them.

    `by_class`: they stand for classes of addresses.
    """

    name: str
    hosts: tuple[str, ...]
    addresses: tuple[tuple[str, IPv4Address], ...] = ()  # (host, address)
    is_singular: bool = True
    by_class: bool = False

    def reaches(
        self, other: "HostGroup", *ports: int | Ports, seen_as: Iterable[IPv4Address] | None = None
    ) -> Assertion:
        """Each of us opens a connection to each of them, seen as one of `seen_as` where those are given."""
        known = None if seen_as is None else frozenset(seen_as)
        shown = "" if known is None else f" as {_listed(known)}"
        sentence = f"{self.name} {'reaches' if self.is_singular else 'reach'} {other.name} on {_ports(ports)}{shown}"
        return Assertion(
            sentence=sentence,
            connections=self._connections(other, ports),
            arrives=True,
            seen_as=known,
            by_class=self._by_class(other, ports),
        )

    def cannot_reach(
        self, other: "HostGroup", *ports: int | Ports, checkpoint: Checkpoint | None = None, answer: bool = False
    ) -> Assertion:
        """No connection from us to any of them opens, and there is a record of where each one died."""
        where = "" if checkpoint is None else f": {'the answer' if answer else 'it'} dies at the {checkpoint}"
        sentence = f"{self.name} cannot reach {other.name} on {_ports(ports)}{where}"
        return Assertion(
            sentence=sentence,
            connections=self._connections(other, ports),
            arrives=False,
            checkpoint=checkpoint,
            answer=answer,
            by_class=self._by_class(other, ports),
        )

    def _by_class(self, other: "HostGroup", ports: Iterable[int | Ports]) -> bool:
        return self.by_class or other.by_class or any(isinstance(some, Ports) for some in ports)

    @property
    def privately(self) -> "HostGroup":
        """By their private addresses alone."""
        return self._at([pair for place, pair in enumerate(self.addresses) if self._is_first(place)])

    @property
    def publicly(self) -> "HostGroup":
        """By their public addresses alone."""
        return self._at([pair for place, pair in enumerate(self.addresses) if not self._is_first(place)])

    def _is_first(self, place: int) -> bool:
        """A host's first address is its private one."""
        return all(host != self.addresses[place][0] for host, _ in self.addresses[:place])

    def _at(self, addresses: Iterable[tuple[str, IPv4Address]]) -> "HostGroup":
        return replace(self, addresses=tuple(addresses))

    def without(self, *others: "HostGroup", name: str) -> "HostGroup":
        """Those of us who are not among the others."""
        excluded = {host for other in others for host in other.hosts}
        return replace(
            self,
            name=name,
            hosts=tuple(host for host in self.hosts if host not in excluded),
            addresses=tuple(pair for pair in self.addresses if pair[0] not in excluded),
            is_singular=False,
        )

    def _connections(self, other: "HostGroup", ports: Iterable[int | Ports]) -> tuple[ConnectionSpec, ...]:
        services = [service for some in ports for service in _services(some)]
        return tuple(
            (host, address, port) if protocol == "tcp" else (host, address, port, protocol)
            for host in self.hosts
            for owner, address in other.addresses
            for port, protocol in services
            if owner != host
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservingHost(HostGroup):
    """A third party, which logs its callers. `everyone` are all hosts that could call it."""

    everyone: HostGroup = field(default_factory=lambda: HostGroup(name="nobody", hosts=()))

    def sees_only(self, addresses: Iterable[IPv4Address], *ports: int | Ports) -> Assertion:
        """Every caller, on any of the ports, is seen as one of `addresses`, which the gateway's ledger confirms."""
        known = frozenset(addresses)
        where = f" on {_ports(ports)}" if ports else ""
        return Assertion(
            sentence=f"{self.name} sees only {_listed(known)}, whoever connects from the VPC{where}",
            connections=self.everyone._connections(self, ports or (443,)),
            arrives=None,
            seen_as=known,
            ledger=Ledger(to=frozenset(address for _, address in self.addresses), only=known),
            by_class=self._by_class(self, ports),
        )


def union(name: str, groups: Iterable[HostGroup]) -> HostGroup:
    """All of them under one name."""
    members = list(groups)
    return HostGroup(
        name=name,
        hosts=tuple(dict.fromkeys(host for group in members for host in group.hosts)),
        addresses=tuple(dict.fromkeys(pair for group in members for pair in group.addresses)),
        is_singular=False,
        by_class=any(group.by_class for group in members),
    )


class Scenario:
    """All that proofs talk about, for one network. Which of it is meant to do what, the parameters say."""

    def __init__(self, case: Case, network: Network | None = None, lost_zone: str | None = None) -> None:
        self.case = case
        self.parameters = case.parameters
        self.network = network or case.network
        self.lost_zone = lost_zone
        self.world = world(self.network, case.parameters)

    # ---- all addresses and ports, in classes

    @cached_property
    def address_classes(self) -> tuple[AddressClass, ...]:
        """What the network tells apart, and what the parameters do."""
        return addresses_of(self.network, self.world, apart=self._ranges(*NAMED_RANGES))

    @cached_property
    def around(self) -> tuple[OutsideHost, ...]:
        """All hosts outside of the VPC: those with a name, and a stranger for each class of addresses."""
        return (*self.world, *strangers(self.network, self.address_classes, self.world))

    @cached_property
    def every_port(self) -> Ports:
        classes = port_classes(self.network, apart=[(port, port) for port in TOLD_APART])
        return Ports(name="every port", classes=classes)

    @cached_property
    def strangers(self) -> ObservingHost:
        """Whoever is not in a range that the parameters name, on the internet or behind the VPN."""
        wanted = "any other address outside of the VPC"
        return self._strangers(wanted, lambda address: not self._is_named(address))

    @cached_property
    def corporate_strangers(self) -> ObservingHost:
        """Other addresses of the corporate network."""
        named = self._ranges("CorporateCidr")
        return self._strangers("any other corporate address", lambda address: _is_in(address, named))

    @cached_property
    def developer_strangers(self) -> ObservingHost:
        """Other addresses of developers."""
        named = self._ranges("DeveloperCidr")
        return self._strangers("any other address in DeveloperCidr", lambda address: _is_in(address, named))

    @cached_property
    def named_strangers(self) -> HostGroup:
        """Other addresses in the ranges that the parameters name."""
        return self._strangers("other addresses in ranges that the parameters name", self._is_named)

    @cached_property
    def all_outside(self) -> HostGroup:
        """Whoever is outside of the VPC, services behind gateway endpoints too."""
        outside = [self._outside("", place, is_singular=False) for place in ("internet", "corporate", "service")]
        return union("anyone outside of the VPC", [*outside, self.strangers, self.named_strangers])

    @cached_property
    def nobody(self) -> HostGroup:
        """One address of each class in the VPC that no interface has."""
        members = [found.member for found in self.address_classes if found.member is not None]
        free = tuple((NOBODY, member) for member in members if member in self.network.cidr)
        return HostGroup(name="an address of the VPC that nobody has", hosts=(), addresses=free, by_class=True)

    def expected_at(self, found: AddressClass) -> str:
        """What the proofs demand of a class of addresses; empty for one that is left out."""
        if found.member is None:
            return ""
        if found.member in self.network.cidr:
            return "nobody answers"
        named = [name for name in NAMED_RANGES if _is_in(found.member, self._ranges(name))]
        if named:
            return f"as the parameters say: {', '.join(named)}"
        return f"opens nothing in the VPC, and sees {_listed(self.published)} on ports of partners"

    def _is_named(self, address: IPv4Address) -> bool:
        return _is_in(address, self._ranges(*NAMED_RANGES))

    @cached_property
    def kinds(self) -> HostGroup:
        """One interface of each kind of hosts in the VPC that nothing tells apart."""
        alike = {interface.id for interface in kinds_of_hosts(self.network)}
        return self._inside("anyone in the VPC", lambda interface: interface.id in alike)

    def _strangers(self, name: str, wanted: Callable[[IPv4Address], bool]) -> ObservingHost:
        hosts = [host for host in self.around if host.place == "anywhere" and wanted(host.address)]
        return ObservingHost(
            name=name,
            hosts=tuple(host.name for host in hosts),
            addresses=tuple(pair for host in hosts for pair in _pair(host)),
            by_class=True,
            everyone=self.kinds,
        )

    def _ranges(self, *names: str) -> tuple[IPv4Network, ...]:
        texts = [text for name in names for text in self.parameters.get(name, "").split(",")]
        return tuple(IPv4Network(text.strip(), strict=False) for text in texts if text.strip())

    # ---- outside

    @cached_property
    def internet(self) -> HostGroup:
        """All hosts on the internet except the developers, whose range one design admits."""
        return self._outside("the internet", "internet", without={DEVELOPER}, is_singular=True)

    @cached_property
    def attacker(self) -> HostGroup:
        return self._named(ATTACKER, "an attacker")

    @cached_property
    def developer(self) -> HostGroup:
        return self._named(DEVELOPER, "a developer in DeveloperCidr")

    @cached_property
    def corporate(self) -> HostGroup:
        return self._outside("a corporate host", "corporate", is_singular=True)

    @cached_property
    def partner(self) -> ObservingHost:
        (host,) = [host for host in self.world if host.name == PARTNER]
        return ObservingHost(name="the partner", hosts=(host.name,), addresses=_pair(host), everyone=self.inside)

    # ---- inside

    @cached_property
    def functions(self) -> Mapping[str, HostGroup]:
        """By their logical id; one host for each subnet that the function may run in."""
        return self._by_owner(InterfaceKind.FUNCTION)

    @cached_property
    def database(self) -> HostGroup:
        return self._inside("the database", lambda interface: interface.kind is InterfaceKind.DATABASE)

    @cached_property
    def bastion(self) -> HostGroup:
        return self._inside(
            "the bastion", lambda interface: interface.kind is InterfaceKind.BASTION and interface.owner != NEWCOMER
        )

    @cached_property
    def newcomers(self) -> HostGroup:
        """One new host in each subnet, whose own security group allows all outbound traffic."""
        group = self._inside("newcomers", lambda interface: interface.owner == NEWCOMER)
        return replace(group, name="a newcomer in any subnet", is_singular=True)

    @cached_property
    def endpoints(self) -> Mapping[str, HostGroup]:
        """By the service: "sqs", "execute-api". A missing one has no hosts, so no sentence about it holds."""
        owners: dict[str, set[str]] = {service: set() for service in SERVICES}
        for service, owner in self.network.service_endpoints:
            owners.setdefault(service, set()).add(owner)
        return {
            service: self._inside(f"the {service} endpoint", _owned_by(*owner_ids))
            for service, owner_ids in owners.items()
        }

    @cached_property
    def fixed_addresses(self) -> HostGroup:
        """The NAT gateways by their public addresses."""
        addresses = [(nat.id, address.public_address) for nat in self.network.nat_gateways for address in nat.addresses]
        return HostGroup(name="a fixed address", hosts=(), addresses=tuple(addresses))

    @cached_property
    def inside(self) -> HostGroup:
        """Every interface of the VPC."""
        return self._inside("anyone in the VPC", lambda _: True, is_singular=True)

    @cached_property
    def everyone(self) -> HostGroup:
        """All who can send, inside and outside."""
        outside = [self._outside("", place, is_singular=False) for place in ("internet", "corporate")]
        return union("everyone", [self.inside, *outside])

    def called(self, name: str, logical_ids: Iterable[str]) -> HostGroup:
        """The functions with these logical ids, as far as the design has them."""
        groups = [self.functions[logical_id] for logical_id in logical_ids if logical_id in self.functions]
        return union(name, groups)

    def in_zone(self, group: HostGroup, zone: str) -> HostGroup:
        """The hosts of a group that are in a zone."""
        subnets = {subnet.id for subnet in self.network.subnets if subnet.zone == zone}
        there = {interface.id for interface in self.network.interfaces if interface.subnet in subnets}
        return replace(
            group,
            name=f"{group.name} in {zone}",
            hosts=tuple(host for host in group.hosts if host in there),
            addresses=tuple(pair for pair in group.addresses if pair[0] in there),
        )

    # ---- what is known of them

    @cached_property
    def published(self) -> frozenset[IPv4Address]:
        """The fixed addresses that are published to partners."""
        return frozenset(address.public_address for address in self.case.network.published)

    def published_in(self, zone: str) -> frozenset[IPv4Address]:
        return frozenset(address.public_address for address in self.case.network.published if address.zone == zone)

    def nothing_leaves(self) -> Assertion:
        """Nobody of the VPC reaches anyone on the internet, and the ledger of the gateway is empty."""
        everybody = self._outside("the internet", "internet", is_singular=True)
        assertion = self.inside.cannot_reach(everybody, 443)
        return replace(
            assertion,
            sentence="nothing leaves the VPC for the internet: every attempt dies, and the gateway's ledger is empty",
            ledger=Ledger(to=None, only=frozenset()),
        )

    # ---- finding

    def _inside(self, name: str, wanted: Callable[[Interface], bool], *, is_singular: bool = True) -> HostGroup:
        interfaces = list(filter(wanted, self.network.interfaces))
        return HostGroup(
            name=name,
            hosts=tuple(interface.id for interface in interfaces),
            addresses=tuple((interface.id, address) for interface in interfaces for address in _addresses(interface)),
            is_singular=is_singular,
        )

    def _by_owner(self, kind: InterfaceKind) -> dict[str, HostGroup]:
        owners = dict.fromkeys(interface.owner for interface in self.network.interfaces if interface.kind is kind)
        return {self.case.address(owner): self._inside(self.case.address(owner), _owned_by(owner)) for owner in owners}

    def _named(self, host_name: str, name: str) -> HostGroup:
        hosts = [host for host in self.world if host.name == host_name]
        return HostGroup(
            name=name,
            hosts=tuple(host.name for host in hosts),
            addresses=tuple(pair for host in hosts for pair in _pair(host)),
        )

    def _outside(self, name: str, place: str, *, without: Collection[str] = (), is_singular: bool) -> HostGroup:
        hosts = [host for host in self.world if host.place == place and host.name not in without]
        return HostGroup(
            name=name,
            hosts=tuple(host.name for host in hosts),
            addresses=tuple((host.name, host.address) for host in hosts),
            is_singular=is_singular,
        )


def _owned_by(*owners: str) -> Callable[[Interface], bool]:
    return lambda interface: interface.owner in owners


def _addresses(interface: Interface) -> tuple[IPv4Address, ...]:
    return (interface.address,) if interface.public_address is None else (interface.address, interface.public_address)


def _is_in(address: IPv4Address, ranges: Iterable[IPv4Network]) -> bool:
    return any(address in cidr for cidr in ranges)


def _services(ports: int | Ports) -> Iterable[tuple[int, Protocol]]:
    if isinstance(ports, Ports):
        return [(known.member, known.protocol) for known in ports.classes]
    return [(ports, "tcp")]


def _pair(host: OutsideHost) -> tuple[tuple[str, IPv4Address], ...]:
    return ((host.name, host.address),)


def _ports(ports: Sequence[int | Ports]) -> str:
    named = [some.name for some in ports if isinstance(some, Ports)]
    single = [str(some) for some in ports if not isinstance(some, Ports)]
    return ", ".join([*named, *([f"port{'s' if len(single) > 1 else ''} {', '.join(single)}"] if single else [])])


def _listed(addresses: Iterable[IPv4Address]) -> str:
    return " or ".join(str(address) for address in sorted(addresses)) or "nobody"

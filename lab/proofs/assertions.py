"""The words that proofs are made of: `lab.internet.cannot_reach(lab.database, 5432)`.

An Assertion is a sentence with the connections to try and what must become of them. Nothing is sent here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address

from lab.model.case import Case
from lab.model.checkpoints import Checkpoint
from lab.model.outside import OutsideHost
from lab.model.world import ATTACKER, DEVELOPER, PARTNER, world
from stack.network.model import Interface, Kind, Network

SERVICES = ("execute-api", "secretsmanager", "sqs")  # which some design reaches at an endpoint
NEWCOMER = "newcomer"  # the owner of interfaces that a proof adds to see what a stranger in the VPC can do

type ConnectionSpec = tuple[str, IPv4Address, int]


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
    tried: tuple[ConnectionSpec, ...]
    arrives: bool | None
    seen_as: frozenset[IPv4Address] | None = None
    checkpoint: Checkpoint | None = None
    answer: bool = False
    ledger: Ledger | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostGroup:
    """Some hosts, under the name that a sentence calls them by. `addresses` are those by which others try them."""

    words: str
    hosts: tuple[str, ...]
    addresses: tuple[tuple[str, IPv4Address], ...] = ()  # (host, address)
    is_one: bool = True

    def reaches(self, other: "HostGroup", *ports: int, seen_as: Iterable[IPv4Address] | None = None) -> Assertion:
        """Each of us opens a connection to each of them, seen as one of `seen_as` where those are given."""
        known = None if seen_as is None else frozenset(seen_as)
        shown = "" if known is None else f" as {_listed(known)}"
        sentence = f"{self.words} {'reaches' if self.is_one else 'reach'} {other.words} on {_ports(ports)}{shown}"
        return Assertion(sentence=sentence, tried=self._tries(other, ports), arrives=True, seen_as=known)

    def cannot_reach(
        self, other: "HostGroup", *ports: int, checkpoint: Checkpoint | None = None, answer: bool = False
    ) -> Assertion:
        """No connection of ours to any of them opens, and of each there is a record of where it died."""
        where = "" if checkpoint is None else f": {'the answer' if answer else 'it'} dies at the {checkpoint}"
        sentence = f"{self.words} cannot reach {other.words} on {_ports(ports)}{where}"
        return Assertion(
            sentence=sentence, tried=self._tries(other, ports), arrives=False, checkpoint=checkpoint, answer=answer
        )

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

    def besides(self, *others: "HostGroup", words: str) -> "HostGroup":
        """Those of us who are not among the others."""
        out = {host for other in others for host in other.hosts}
        return replace(
            self,
            words=words,
            hosts=tuple(host for host in self.hosts if host not in out),
            addresses=tuple(pair for pair in self.addresses if pair[0] not in out),
            is_one=False,
        )

    def _tries(self, other: "HostGroup", ports: Iterable[int]) -> tuple[ConnectionSpec, ...]:
        return tuple(
            (host, address, port)
            for host in self.hosts
            for owner, address in other.addresses
            for port in ports
            if owner != host
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservingHost(HostGroup):
    """A third party, who writes down whom he sees. `everyone` are all who could come."""

    everyone: HostGroup = field(default_factory=lambda: HostGroup(words="nobody", hosts=()))

    def sees_only(self, addresses: Iterable[IPv4Address], *ports: int) -> Assertion:
        """Whoever comes, by any of the ports, is seen as one of `addresses`; the gateway's ledger says the same."""
        known = frozenset(addresses)
        return Assertion(
            sentence=f"{self.words} sees only {_listed(known)}, whoever of the VPC comes",
            tried=self.everyone._tries(self, ports or (443,)),
            arrives=None,
            seen_as=known,
            ledger=Ledger(to=frozenset(address for _, address in self.addresses), only=known),
        )


def union(words: str, places: Iterable[HostGroup]) -> HostGroup:
    """All of them under one name."""
    found = list(places)
    return HostGroup(
        words=words,
        hosts=tuple(dict.fromkeys(host for place in found for host in place.hosts)),
        addresses=tuple(dict.fromkeys(pair for place in found for pair in place.addresses)),
        is_one=False,
    )


class Scenario:
    """All that proofs talk about, for one network. Which of it is meant to do what, the parameters say."""

    def __init__(self, case: Case, network: Network | None = None, lost_zone: str | None = None) -> None:
        self.case = case
        self.parameters = case.parameters
        self.network = network or case.network
        self.lost_zone = lost_zone
        self.world = world(self.network, case.parameters)

    # ---- outside

    @cached_property
    def internet(self) -> HostGroup:
        """Everybody on the internet but the developers, whom one design lets in by their range."""
        return self._outside("the internet", "internet", besides={DEVELOPER}, is_one=True)

    @cached_property
    def attacker(self) -> HostGroup:
        return self._named(ATTACKER, "an attacker")

    @cached_property
    def developer(self) -> HostGroup:
        return self._named(DEVELOPER, "a developer in DeveloperCidr")

    @cached_property
    def corporate(self) -> HostGroup:
        return self._outside("a corporate host", "corporate", is_one=True)

    @cached_property
    def partner(self) -> ObservingHost:
        (host,) = [host for host in self.world if host.name == PARTNER]
        return ObservingHost(words="the partner", hosts=(host.name,), addresses=_pair(host), everyone=self.inside)

    # ---- inside

    @cached_property
    def functions(self) -> Mapping[str, HostGroup]:
        """By their logical id; one host for each subnet that the function may run in."""
        return self._by_owner(Kind.FUNCTION)

    @cached_property
    def database(self) -> HostGroup:
        return self._inside("the database", lambda one: one.kind is Kind.DATABASE)

    @cached_property
    def bastion(self) -> HostGroup:
        return self._inside("the bastion", lambda one: one.kind is Kind.BASTION and one.owner != NEWCOMER)

    @cached_property
    def newcomers(self) -> HostGroup:
        """Strangers in the VPC, one in each subnet, whose own group lets all out."""
        found = self._inside("newcomers", lambda one: one.owner == NEWCOMER)
        return replace(found, words="a newcomer in any subnet", is_one=True)

    @cached_property
    def endpoints(self) -> Mapping[str, HostGroup]:
        """By the service: "sqs", "execute-api". Nobody stands at one that is missing, so no sentence about it holds."""
        owners: dict[str, set[str]] = {service: set() for service in SERVICES}
        for service, owner in self.network.service_endpoints:
            owners.setdefault(service, set()).add(owner)
        return {service: self._inside(f"the {service} endpoint", _owned_by(*its)) for service, its in owners.items()}

    @cached_property
    def fixed_addresses(self) -> HostGroup:
        """The NAT gateways by their public addresses."""
        found = [(nat.id, address.public_address) for nat in self.network.nat_gateways for address in nat.addresses]
        return HostGroup(words="a fixed address", hosts=(), addresses=tuple(found))

    @cached_property
    def inside(self) -> HostGroup:
        """Every interface of the VPC."""
        return self._inside("anyone of the VPC", lambda _: True, is_one=True)

    @cached_property
    def everyone(self) -> HostGroup:
        """All who can send, inside and outside."""
        outside = [self._outside("", place, is_one=False) for place in ("internet", "corporate")]
        return union("everyone", [self.inside, *outside])

    def called(self, words: str, names: Iterable[str]) -> HostGroup:
        """The functions of those logical ids, where there are such."""
        found = [self.functions[name] for name in names if name in self.functions]
        return union(words, found)

    def in_zone(self, place: HostGroup, zone: str) -> HostGroup:
        """Those of a place who stand in a zone."""
        subnets = {subnet.id for subnet in self.network.subnets if subnet.zone == zone}
        there = {interface.id for interface in self.network.interfaces if interface.subnet in subnets}
        return replace(
            place,
            words=f"{place.words} in {zone}",
            hosts=tuple(host for host in place.hosts if host in there),
            addresses=tuple(pair for pair in place.addresses if pair[0] in there),
        )

    # ---- what is known of them

    @cached_property
    def published(self) -> frozenset[IPv4Address]:
        """The fixed addresses that partners are told."""
        return frozenset(address.public_address for address in self.case.network.published)

    def published_in(self, zone: str) -> frozenset[IPv4Address]:
        return frozenset(address.public_address for address in self.case.network.published if address.zone == zone)

    def nothing_leaves(self) -> Assertion:
        """Nobody of the VPC reaches anyone on the internet, and the ledger of the gateway is empty."""
        everybody = self._outside("the internet", "internet", is_one=True)
        claim = self.inside.cannot_reach(everybody, 443)
        return replace(
            claim,
            sentence="nothing leaves the VPC for the internet: every attempt dies, and the gateway's ledger is empty",
            ledger=Ledger(to=None, only=frozenset()),
        )

    # ---- finding

    def _inside(self, words: str, wanted: Callable[[Interface], bool], *, is_one: bool = True) -> HostGroup:
        found = [interface for interface in self.network.interfaces if wanted(interface)]
        return HostGroup(
            words=words,
            hosts=tuple(one.id for one in found),
            addresses=tuple((one.id, address) for one in found for address in _addresses(one)),
            is_one=is_one,
        )

    def _by_owner(self, kind: Kind) -> dict[str, HostGroup]:
        owners = dict.fromkeys(interface.owner for interface in self.network.interfaces if interface.kind is kind)
        return {self.case.address(owner): self._inside(self.case.address(owner), _owned_by(owner)) for owner in owners}

    def _named(self, name: str, words: str) -> HostGroup:
        found = [host for host in self.world if host.name == name]
        return HostGroup(
            words=words, hosts=tuple(one.name for one in found), addresses=tuple(p for h in found for p in _pair(h))
        )

    def _outside(self, words: str, place: str, *, besides: Iterable[str] = (), is_one: bool) -> HostGroup:
        found = [host for host in self.world if host.place == place and host.name not in set(besides)]
        return HostGroup(
            words=words,
            hosts=tuple(one.name for one in found),
            addresses=tuple((one.name, one.address) for one in found),
            is_one=is_one,
        )


def _owned_by(*owners: str) -> Callable[[Interface], bool]:
    return lambda one: one.owner in owners


def _addresses(one: Interface) -> tuple[IPv4Address, ...]:
    return (one.address,) if one.public_address is None else (one.address, one.public_address)


def _pair(host: OutsideHost) -> tuple[tuple[str, IPv4Address], ...]:
    return ((host.name, host.address),)


def _ports(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in ports)


def _listed(addresses: Iterable[IPv4Address]) -> str:
    return " or ".join(str(address) for address in sorted(addresses)) or "nobody"

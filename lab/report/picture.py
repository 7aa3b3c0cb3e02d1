"""The map with what was tried drawn in: connections that are alike and ended alike become one numbered entry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from lab.model.attempts import Arrived, Died, Unexplained
from lab.model.case import Case
from lab.model.checkpoints import Checkpoint
from lab.model.outside import OutsideHost
from lab.model.world import DEVELOPER, world
from lab.proofs.assertions import ConnectionSpec
from lab.proofs.runner import Evidence, TriedConnection
from stack.diagram.badges import Flow, acl_of, routes_of
from stack.diagram.picture import draw
from stack.network.access_table import name_of
from stack.network.model import Interface, InterfaceKind, NatGateway, Subnet
from stack.network.serialize import renamed

MOST = 14  # entries of a picture
CALLED = {
    "internet": "the internet",
    DEVELOPER: "a developer",
    "corporate": "the corporate network",
    "third party": "a third party",
    "inside": "anything else in the VPC",
    "nat": "a fixed address",
    InterfaceKind.DATABASE: "the database",
    "public database": "the database's public address",
    InterfaceKind.PROXY: "the database's proxy",
    InterfaceKind.BASTION: "the bastion",
}
# Whose connections are shown first where there is no room for all.
_FIRST = ("internet", InterfaceKind.FUNCTION, "corporate", DEVELOPER, InterfaceKind.DATABASE)
_INTO = {
    Checkpoint.GROUP_IN,
    Checkpoint.NACL_IN,
}  # these stand before the receiver of a packet, all others before its sender


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureEntries:
    """The entries of a picture, of `kinds` that exist, which stand for `tried` connections."""

    flows: tuple[Flow, ...]
    kinds: int
    tried: int
    unexplained: int

    @property
    def note(self) -> str:
        """What the picture leaves out."""
        text = f"{self.tried} connections in this network as it is."
        if self.kinds > len(self.flows):
            text += f" {len(self.flows)} of {self.kinds} kinds of them are shown; the report has all."
        return text + (f" {self.unexplained} are unexplained: see the report." if self.unexplained else "")


def picture(evidence: Evidence) -> str:
    """The map of the case's network with badges where connections ended, in the unchanged network alone."""
    case, entries = evidence.case, entries_of(evidence)
    return draw(
        renamed(case.network, case.names), entries.flows, name=f"{case.name}, with what was tried", note=entries.note
    )


def entries_of(evidence: Evidence) -> PictureEntries:
    """What became of the connections in the unchanged network, those that arrived first."""
    places = _Places(evidence.case)
    lines = _lines(evidence)
    kinds: dict[tuple[object, ...], list[TriedConnection]] = {}
    for line in lines:
        if not isinstance(line.result, Unexplained):
            kinds.setdefault(places.kind(line), []).append(line)
    chosen = _chosen(kinds)
    flows = [places.flow(kinds[kind]) for kind in chosen]
    return PictureEntries(
        flows=tuple(sorted(flows, key=lambda flow: not flow.arrived)),
        kinds=len(kinds),
        tried=len(lines),
        unexplained=sum(isinstance(line.result, Unexplained) for line in lines),
    )


def _lines(evidence: Evidence) -> list[TriedConnection]:
    """Each connection once: several proofs may be about the same. One that is not as claimed goes before."""
    lines: dict[ConnectionSpec, TriedConnection] = {}
    for line in _of_unchanged(evidence):
        key = line.source, line.destination, line.port
        if key not in lines or not line.as_claimed:
            lines[key] = line
    return list(lines.values())


def _of_unchanged(evidence: Evidence) -> Iterator[TriedConnection]:
    for proof_result in evidence.proofs:
        for assertion in proof_result.assertions:
            if not assertion.assumption and not assertion.by_class:
                yield from assertion.connections


def _chosen(kinds: dict[tuple[object, ...], list[TriedConnection]]) -> list[tuple[object, ...]]:
    """Some of the kinds, in their order: first all that are not as claimed, one of each end, and those that arrived."""
    ends: dict[object, tuple[object, ...]] = {}
    for kind, lines in kinds.items():
        ends.setdefault(_end(kind, lines[0]), kind)
    wrong = [kind for kind, lines in kinds.items() if not lines[0].as_claimed]
    arrived = [kind for kind, lines in kinds.items() if isinstance(lines[0].result, Arrived)]
    others = sorted(kinds, key=lambda kind: _FIRST.index(kind[0]) if kind[0] in _FIRST else len(_FIRST))
    wanted = list(dict.fromkeys([*wrong, *ends.values(), *arrived, *others]))[:MOST]
    return [kind for kind in kinds if kind in wanted]


def _end(kind: tuple[object, ...], line: TriedConnection) -> object:
    """The checkpoint that refused it, or what was reached."""
    return line.result.checkpoint if isinstance(line.result, Died) else (kind[1], "reached")


class _Places:
    """Who and where the ends of lines are."""

    def __init__(self, case: Case) -> None:
        self.case, self.network = case, case.network
        self.interfaces = {interface.id: interface for interface in self.network.interfaces}
        self.subnets = {subnet.id: subnet for subnet in self.network.subnets}
        self.hosts = {host.name: host for host in world(self.network, case.parameters)}

    @cached_property
    def at(self) -> dict[IPv4Address, Interface | NatGateway | OutsideHost]:
        """Whoever has an address."""
        hosts: dict[IPv4Address, Interface | NatGateway | OutsideHost] = {
            host.address: host for host in self.hosts.values()
        }
        for interface in self.network.interfaces:
            hosts |= {
                address: interface for address in (interface.address, interface.public_address) if address is not None
            }
        return hosts | {address.public_address: nat for nat in self.network.nat_gateways for address in nat.addresses}

    def source(self, line: TriedConnection) -> Interface | OutsideHost:
        return self.interfaces.get(line.source) or self.hosts[line.source]

    # ---- what is alike

    def kind(self, line: TriedConnection) -> tuple[object, ...]:
        """Lines with the same one become one entry."""
        return self._from(line), self._to(line), self._became(line), line.as_claimed

    def _from(self, line: TriedConnection) -> str:
        source = self.source(line)
        if isinstance(source, Interface):
            return source.kind
        return source.name if source.name == DEVELOPER or source.place == "service" else source.place

    def _to(self, line: TriedConnection) -> str:
        there = self.at[line.destination]
        match there:
            case NatGateway():
                return "nat"
            case OutsideHost():
                return {"internet": "third party", "service": there.name}.get(there.place, there.place)
        if there.kind is InterfaceKind.DATABASE:
            return "public database" if line.destination == there.public_address else there.kind
        from_outside = isinstance(self.source(line), OutsideHost)
        return "inside" if from_outside and isinstance(line.result, Died) else there.kind

    def _became(self, line: TriedConnection) -> object:
        match line.result:
            case Arrived(seen_as=seen):
                return None if self._is_own(line, seen) else seen
            case Died(checkpoint=checkpoint, detail=detail, direction=direction):
                return checkpoint, detail, direction
        raise TypeError(f"unexplained: {line.source} to {line.destination}")

    def _is_own(self, line: TriedConnection, seen: IPv4Address | None) -> bool:
        source = self.source(line)
        return seen == source.address

    # ---- As text

    def flow(self, lines: Sequence[TriedConnection]) -> Flow:
        """One entry for lines that are alike."""
        first = lines[0]
        return Flow(
            who=self._who(lines),
            whom=self._whom(lines),
            ports=tuple(sorted({line.port for line in lines})),
            tried=len(lines),
            became=self._outcome(lines) + ("" if first.as_claimed else ", which must not happen"),
            by=", ".join(self._name(resource) for resource in self._deciding(lines)),
            at=tuple(dict.fromkeys(self._end(line) for line in lines)),
            arrived=isinstance(first.result, Arrived),
        )

    def _who(self, lines: Sequence[TriedConnection]) -> str:
        inside = [sender for line in lines if isinstance(sender := self.source(line), Interface)]
        if not inside:
            return self._called(self._from(lines[0]), [])
        return self._called(self._from(lines[0]), inside) + self._zone(inside)

    def _whom(self, lines: Sequence[TriedConnection]) -> str:
        reached = [receiver for line in lines if isinstance(receiver := self.at[line.destination], Interface)]
        return self._called(self._to(lines[0]), reached)

    def _called(self, kind: str, members: Sequence[Interface]) -> str:
        if kind in CALLED:
            return CALLED[kind]
        all_of_them = dict.fromkeys(interface.owner for interface in self.network.interfaces if interface.kind == kind)
        owners = [owner for owner in all_of_them if owner in {member.owner for member in members}]
        if kind == InterfaceKind.ENDPOINT:
            services = {owner: service for service, owner in self.network.service_endpoints}
            names = ", ".join(services.get(owner, owner) for owner in owners)
            return f"{'the endpoint' if len(owners) == 1 else 'endpoints'} of {names}"
        if len(all_of_them) == len(owners) > 1:
            return f"every {kind}"
        return ", ".join(name_of(self.case.address(owner)) for owner in owners) or kind.upper()

    def _zone(self, members: Sequence[Interface]) -> str:
        """Said where the same owners have interfaces in another zone too."""
        zones = {self.subnets[member.subnet].zone for member in members}
        owners = {member.owner for member in members}
        theirs = {
            self.subnets[interface.subnet].zone for interface in self.network.interfaces if interface.owner in owners
        }
        return f" in {', '.join(sorted(zones))}" if zones < theirs else ""

    def _outcome(self, lines: Sequence[TriedConnection]) -> str:
        match lines[0].result:
            case Died(checkpoint=checkpoint, detail=detail, direction=direction):
                return f"{'' if direction == 'out' else 'the answer '}died at the {checkpoint}: {self._name(detail)}"
        seen = list(dict.fromkeys(line.result.seen_as for line in lines if isinstance(line.result, Arrived)))
        if None in seen:
            return "arrived"
        return f"arrived, seen as {self._addresses([address for address in seen if address is not None])}"

    def _addresses(self, seen: Sequence[IPv4Address]) -> str:
        """Up to two as they are, of more the subnets."""
        if len(seen) <= 2:
            return " or ".join(map(str, seen))
        ranges = [
            next((subnet.cidr for subnet in self.network.subnets if address in subnet.cidr), address)
            for address in seen
        ]
        return f"their own addresses in {' and '.join(dict.fromkeys(map(str, ranges)))}"

    def _name(self, identity: str) -> str:
        """A resource without the stack that it is nested in; other text as it is."""
        known = "the internet" if identity == "internet" else self.case.address(identity)
        return known if " " in known else known.rpartition(".")[2]

    # ---- what decided, and where

    def _deciding(self, lines: Sequence[TriedConnection]) -> list[str]:
        """The resources that refused; of those that arrived the NAT gateway, and what let every one of them pass."""
        refused = [
            resource for line in lines if isinstance(line.result, Died) for resource in line.result.resource.split(", ")
        ]
        if refused:
            return list(dict.fromkeys(refused))
        common = [
            cause.resource for cause in lines[0].let_by if all(_is_let_by(line, cause.resource) for line in lines)
        ]
        return list(dict.fromkeys([*self._translating(lines), *common])) or ["the security group of each"]

    def _translating(self, lines: Sequence[TriedConnection]) -> Iterator[str]:
        seen = {line.result.seen_as for line in lines if isinstance(line.result, Arrived)}
        for nat in self.network.nat_gateways:
            if seen & {nat.address, *(address.public_address for address in nat.addresses)} - {None}:
                yield nat.id

    def _end(self, line: TriedConnection) -> str:
        """A place of the picture, which has the templates' names."""
        return self._where_it_died(line, line.result) if isinstance(line.result, Died) else self._where_it_arrived(line)

    def _where_it_arrived(self, line: TriedConnection) -> str:
        there, source = self.at[line.destination], self.source(line)
        if not isinstance(there, OutsideHost):
            return self.case.address(there.id)
        if there.endpoint is not None and isinstance(source, Interface):
            return routes_of(self.case.address(source.subnet))
        return "corporate" if there.place == "corporate" else "third party"

    def _where_it_died(self, line: TriedConnection, died: Died) -> str:
        ends = self._inside_ends(line, died)
        match died.checkpoint:
            case Checkpoint.GROUP_IN | Checkpoint.GROUP_OUT | Checkpoint.SOURCE:
                return self.case.address(ends[0].id)
            case Checkpoint.NACL_IN | Checkpoint.NACL_OUT:
                return acl_of(
                    self._subnet(ends, [subnet for subnet in self.subnets.values() if subnet.nacl == died.resource])
                )
            case Checkpoint.ROUTE | Checkpoint.BLACKHOLE | Checkpoint.ENDPOINT:
                return routes_of(self._subnet(ends, self._routed_by(died.resource)))
            case Checkpoint.NAT | Checkpoint.LOOP | Checkpoint.VPN:
                return self.case.address(died.resource)
            case Checkpoint.GATEWAY:
                return self.case.address(self.network.internet_gateway or self.network.vpc)
            case Checkpoint.INTERNET:
                return "internet"
            case _:
                return self.case.address(self.network.vpc)

    def _inside_ends(self, line: TriedConnection, died: Died) -> list[Interface]:
        """Those of its ends that are in the VPC, first the one on whose side it died."""
        ends = [end for end in (self.source(line), self.at[line.destination]) if isinstance(end, Interface)]
        at_receiver = (died.checkpoint in _INTO) != (died.direction == "back")
        return ends[::-1] if at_receiver else ends

    def _subnet(self, ends: Sequence[Interface], possible: Sequence[Subnet]) -> str:
        names = [subnet.id for subnet in possible]
        return self.case.address(next((end.subnet for end in ends if end.subnet in names), names[0]))

    def _routed_by(self, resource: str) -> list[Subnet]:
        """The subnets that use a table, or the one with this route; all of them for an endpoint in any table."""
        tables = {
            table.id
            for table in self.network.route_tables
            if table.id == resource or any(route.id == resource for route in table.routes)
        }
        return [subnet for subnet in self.subnets.values() if subnet.route_table in tables] or list(
            self.subnets.values()
        )


def _is_let_by(line: TriedConnection, resource: str) -> bool:
    return any(cause.resource == resource for cause in line.let_by)

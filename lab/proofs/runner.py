"""Runs proofs and their controls: each network that any of them needs is made once, and everything is tried there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from lab.kernel.apply import PacketRecord, applied
from lab.kernel.probe import attempts, probe, recorded_as
from lab.model.attempts import Arrived, ConnectionAttempt, Died, PacketResult, Protocol, Unexplained
from lab.model.case import Case
from lab.oracle import Oracle
from lab.plan.build import plan
from lab.plan.parts import FilterCause, PlanMutation
from lab.proofs.assertions import Assertion, ConnectionSpec, Scenario
from lab.proofs.catalogue import PROOFS, Control, Proof
from lab.proofs.ways import WayResult, look
from stack.network.model import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedConnection:
    """One connection that was tried, and what let it pass."""

    source: str
    destination: IPv4Address
    port: int
    result: PacketResult
    let_by: tuple[FilterCause, ...]
    as_claimed: bool
    protocol: Protocol = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionResult:
    """A sentence and its outcome. `assumption` says what was changed beforehand; empty for nothing."""

    sentence: str
    assumption: str
    connections: tuple[TriedConnection, ...]
    strangers: tuple[tuple[IPv4Address, IPv4Address], ...]  # (source, destination) in the ledger that must not be there
    by_class: bool = False

    @property
    def holds(self) -> bool:
        """A sentence about nobody proves nothing, so it does not hold."""
        return (
            bool(self.connections)
            and all(connection.as_claimed for connection in self.connections)
            and not self.strangers
        )

    @property
    def refuting(self) -> tuple[TriedConnection, ...]:
        """The connections that are evidence against it; one that nothing explains is evidence of nothing."""
        against = (connection for connection in self.connections if not connection.as_claimed)
        return tuple(connection for connection in against if not isinstance(connection.result, Unexplained))

    @property
    def is_refuted(self) -> bool:
        """There is evidence against it, which is more than that it does not hold: it may be about nobody."""
        return bool(self.refuting or self.strangers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """What a negative control did: `refuted` are the sentences that it made fail. Without any it shows nothing."""

    change: str
    refuted: tuple[AssertionResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResult:
    """A proof that was run. `skipped` says why it does not apply; `controls` are None where they were not run."""

    proof: Proof
    skipped: str | None
    assertions: tuple[AssertionResult, ...] = ()
    controls: tuple[ControlResult, ...] | None = None

    @property
    def holds(self) -> bool:
        """All its sentences hold, and every control that was run refuted one of them."""
        return all(result.holds for result in self.assertions) and all(
            control.refuted for control in self.controls or ()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All proofs of one case. `disagreements` are the connections of which the oracle expected something else."""

    case: Case
    proofs: tuple[ProofResult, ...]
    tried: int
    disagreements: tuple[str, ...]
    ways: tuple[WayResult, ...] = ()

    @property
    def holds(self) -> bool:
        packets_hold = all(result.holds for result in self.proofs) and not self.disagreements
        return packets_hold and all(result.holds for result in self.ways)


@dataclass(slots=True)
class _Schedule:
    """The networks that are to be made, each with the assertions about it."""

    case: Case
    runs: dict[tuple[Network, str], "_NetworkRun"] = field(default_factory=dict)
    tried: int = 0
    disagreements: list[str] = field(default_factory=list)

    def add(self, proof: Proof, network: Network, key: str, mutate: PlanMutation | None = None) -> list["_Pending"]:
        """Assertions of a proof on `network`; `key` tells networks apart that are made by different plans."""
        added = []
        for assumption in proof.assumptions(network):
            network_run = self.runs.setdefault((assumption.network, key), _NetworkRun(mutate=mutate))
            for assertion in proof.assertions(Scenario(self.case, assumption.network, assumption.zone)):
                pending = _Pending(assertion=assertion, assumption=assumption.description)
                network_run.pending.append(pending)
                added.append(pending)
        return added

    def run(self, report: Callable[[str], None]) -> None:
        for place, ((network, _), network_run) in enumerate(self.runs.items()):
            report(f"network {place + 1} of {len(self.runs)}")
            self._run(network, network_run)

    def _run(self, network: Network, network_run: "_NetworkRun") -> None:
        around = Scenario(self.case, network).around
        made = plan(network, around)
        connections = tuple(
            dict.fromkeys(connection for pending in network_run.pending for connection in pending.assertion.connections)
        )
        tried = attempts(connections)
        with applied(made if network_run.mutate is None else network_run.mutate(made)) as lab:
            results = probe(lab, tried)
            let_by = _let_by(tried, lab.passes())
            ledger = lab.ledger()
        self.tried += len(tried)
        if network_run.mutate is None:
            self.disagreements += _disagreements(Oracle(network, around), results)
        attempt_of = dict(zip(connections, tried, strict=True))
        for pending in network_run.pending:
            pending.result = _judged(pending, attempt_of, results, let_by, ledger)


@dataclass(slots=True)
class _Pending:
    """An assertion whose connections are tried with all others of its network."""

    assertion: Assertion
    assumption: str
    result: AssertionResult | None = None


@dataclass(slots=True)
class _NetworkRun:
    mutate: PlanMutation | None
    pending: list[_Pending] = field(default_factory=list)


def prove(
    case: Case,
    *,
    proofs: Sequence[Proof] | None = None,
    controls: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """Every proof that applies, and its controls where asked for. To be called inside of the sandbox.

    Raises lab.plan.parts.UnsupportedNetwork for what cannot be made.
    """
    schedule, scenario = _Schedule(case), Scenario(case)
    planned = [
        _planned(schedule, proof, proof.unless(scenario), controls) for proof in (PROOFS if proofs is None else proofs)
    ]
    schedule.run(report)
    return Evidence(
        case=case,
        proofs=tuple(proof.finished() for proof in planned),
        tried=schedule.tried,
        disagreements=tuple(schedule.disagreements),
        ways=look(case, controls=controls) if proofs is None else (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedProof:
    proof: Proof
    skipped: str | None
    assertions: list[_Pending]
    controls: list[tuple[Control, list[_Pending]]] | None

    def finished(self) -> ProofResult:
        """Once the schedule has run."""
        controls = None
        if self.controls is not None:
            controls = tuple(
                ControlResult(change=control.description, refuted=tuple(filter(_is_refuted, _results(assertions))))
                for control, assertions in self.controls
            )
        return ProofResult(
            proof=self.proof, skipped=self.skipped, assertions=tuple(_results(self.assertions)), controls=controls
        )


def _planned(schedule: _Schedule, proof: Proof, skipped: str | None, controls: bool) -> _PlannedProof:
    if skipped is not None:
        return _PlannedProof(proof=proof, skipped=skipped, assertions=[], controls=None)
    return _PlannedProof(
        proof=proof,
        skipped=None,
        assertions=schedule.add(proof, schedule.case.network, ""),
        controls=list(_planned_controls(schedule, proof)) if controls else None,
    )


def _planned_controls(schedule: _Schedule, proof: Proof) -> Iterator[tuple[Control, list[_Pending]]]:
    for control in proof.controls:
        changed = control.change(schedule.case.network)
        if changed is not None:
            mutate = None if control.plan is None else control.plan(changed)
            key = "" if control.plan is None else control.plan.__name__
            yield control, schedule.add(proof, changed, key, mutate)


def _is_refuted(result: AssertionResult) -> bool:
    return result.is_refuted


def _results(assertions: Iterable[_Pending]) -> Iterator[AssertionResult]:
    for pending in assertions:
        if pending.result is None:
            raise RuntimeError(f"not run: {pending.assertion.sentence}")
        yield pending.result


# ---- What became of an assertion


def _judged(
    pending: _Pending,
    attempt_of: Mapping[ConnectionSpec, ConnectionAttempt],
    results: Mapping[ConnectionAttempt, PacketResult],
    let_by: Mapping[ConnectionAttempt, tuple[FilterCause, ...]],
    ledger: Iterable[tuple[IPv4Address, IPv4Address]],
) -> AssertionResult:
    assertion = pending.assertion
    connections = []
    for connection in assertion.connections:
        attempt = attempt_of[connection]
        result = results[attempt]
        connections.append(
            TriedConnection(
                source=attempt.source,
                destination=attempt.destination,
                port=attempt.port,
                result=result,
                let_by=let_by.get(attempt, ()),
                as_claimed=_is_as_claimed(assertion, result),
                protocol=attempt.protocol,
            )
        )
    return AssertionResult(
        sentence=assertion.sentence,
        assumption=pending.assumption,
        connections=tuple(connections),
        strangers=_strangers(assertion, ledger),
        by_class=assertion.by_class,
    )


def _is_as_claimed(assertion: Assertion, result: PacketResult) -> bool:
    match result:
        case Arrived(seen_as=seen):
            return assertion.arrives is not False and (assertion.seen_as is None or seen in assertion.seen_as)
        case Died(checkpoint=checkpoint, direction=direction):
            where = assertion.checkpoint is None or (
                checkpoint is assertion.checkpoint and (direction == "back") is assertion.answer
            )
            return assertion.arrives is not True and where
    return False  # unexplained: no evidence of anything


def _strangers(
    assertion: Assertion, ledger: Iterable[tuple[IPv4Address, IPv4Address]]
) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
    expected = assertion.ledger
    if expected is None:
        return ()
    return tuple(
        sorted(
            pair for pair in ledger if (expected.to is None or pair[1] in expected.to) and pair[0] not in expected.only
        )
    )


def _let_by(
    tried: Iterable[ConnectionAttempt], passes: Iterable[PacketRecord]
) -> dict[ConnectionAttempt, tuple[FilterCause, ...]]:
    """As lab.kernel.probe.let_by, for all at once."""
    by_ports: dict[tuple[int, int], list[FilterCause]] = {}
    for record in passes:
        by_ports.setdefault((record.source_port, record.destination_port), []).append(record.cause)
    return {
        attempt: (
            *by_ports.get(recorded_as(attempt)[0], ()),
            *by_ports.get(recorded_as(attempt)[1], ()),
        )
        for attempt in tried
    }


def _disagreements(oracle: Oracle, results: Mapping[ConnectionAttempt, PacketResult]) -> Iterator[str]:
    for attempt, result in results.items():
        expected = oracle.judge(attempt)
        if expected != result:
            connection = f"{attempt.source} to {attempt.destination}:{attempt.port} by {attempt.protocol}"
            yield f"{connection}: the packets say {result}, the oracle {expected}"

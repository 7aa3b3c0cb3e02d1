"""Proofs and their controls, carried out: each network that one supposes is made once, and all is tried there."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from lab.kernel.apply import PacketRecord, applied
from lab.kernel.probe import attempts, probe
from lab.model.attempts import Arrived, ConnectionAttempt, Died, ProbeResult, Unexplained
from lab.model.case import Case
from lab.model.world import world
from lab.oracle import Oracle
from lab.plan.build import plan
from lab.plan.parts import FilterCause, PlanMutation
from lab.proofs.assertions import Assertion, ConnectionSpec, Scenario
from lab.proofs.catalogue import PROOFS, Control, Proof
from stack.network.model import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedConnection:
    """One connection that was tried, and what let it pass."""

    source: str
    destination: IPv4Address
    port: int
    verdict: ProbeResult
    let_by: tuple[FilterCause, ...]
    as_claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionResult:
    """A sentence and what came of it. `given` says what was changed beforehand."""

    sentence: str
    given: str
    lines: tuple[TriedConnection, ...]
    strangers: tuple[tuple[IPv4Address, IPv4Address], ...]  # (source, destination) in the ledger that must not be there

    @property
    def holds(self) -> bool:
        """A sentence about nobody proves nothing, so it does not hold."""
        return bool(self.lines) and all(line.as_claimed for line in self.lines) and not self.strangers

    @property
    def refuting(self) -> tuple[TriedConnection, ...]:
        """The connections that are evidence against it; one that nothing explains is evidence of nothing."""
        against = (line for line in self.lines if not line.as_claimed)
        return tuple(line for line in against if not isinstance(line.verdict, Unexplained))

    @property
    def is_refuted(self) -> bool:
        """There is evidence against it, which is more than that it does not hold: it may be about nobody."""
        return bool(self.refuting or self.strangers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """What a negative control did: `failed` are the sentences that it refuted; without any it was no good."""

    words: str
    failed: tuple[AssertionResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResult:
    """A proof carried out. `skipped` says why it does not apply; `controls` are None where they were not run."""

    proof: Proof
    skipped: str | None
    found: tuple[AssertionResult, ...] = ()
    controls: tuple[ControlResult, ...] | None = None

    @property
    def holds(self) -> bool:
        """All its sentences hold, and every control that was run refuted one of them."""
        return all(one.holds for one in self.found) and all(control.failed for control in self.controls or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All proofs of one case. `disagreements` are attempts of which the oracle expected something else."""

    case: Case
    proven: tuple[ProofResult, ...]
    tried: int
    disagreements: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return all(proof_result.holds for proof_result in self.proven) and not self.disagreements


@dataclass(slots=True)
class _Schedule:
    """The networks that are to be made, each with the claims about it."""

    case: Case
    orders: dict[tuple[Network, str], "_NetworkRun"] = field(default_factory=dict)
    tried: int = 0
    disagreements: list[str] = field(default_factory=list)

    def order(self, proof: Proof, network: Network, key: str, mutate: PlanMutation | None = None) -> list["_Slot"]:
        """Claims of a proof on `network`; `key` tells networks apart that are made by different plans."""
        slots = []
        for given in proof.given(network):
            order = self.orders.setdefault((given.network, key), _NetworkRun(mutate=mutate))
            for claim in proof.claims(Scenario(self.case, given.network, given.zone)):
                slot = _Slot(claim=claim, given=given.words)
                order.slots.append(slot)
                slots.append(slot)
        return slots

    def carry_out(self, report: Callable[[str], None]) -> None:
        for place, ((network, _), order) in enumerate(self.orders.items()):
            report(f"network {place + 1} of {len(self.orders)}")
            self._carry_out(network, order)

    def _carry_out(self, network: Network, order: "_NetworkRun") -> None:
        around = world(network, self.case.parameters)
        made = plan(network, around)
        tries = tuple(dict.fromkeys(attempt for slot in order.slots for attempt in slot.claim.tried))
        tried = attempts(tries)
        with applied(made if order.mutate is None else order.mutate(made)) as lab:
            verdicts = probe(lab, tried)
            let_by = _let_by(tried, lab.passes())
            ledger = lab.ledger()
        self.tried += len(tried)
        if order.mutate is None:
            self.disagreements += _disagreements(Oracle(network, around), verdicts)
        by_try = dict(zip(tries, tried, strict=True))
        for slot in order.slots:
            slot.found = _found(slot, by_try, verdicts, let_by, ledger)


@dataclass(slots=True)
class _Slot:
    claim: Assertion
    given: str
    found: AssertionResult | None = None


@dataclass(slots=True)
class _NetworkRun:
    mutate: PlanMutation | None
    slots: list[_Slot] = field(default_factory=list)


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
    bench, chosen = _Schedule(case), PROOFS if proofs is None else proofs
    subjects = Scenario(case)
    plans = [_planned(bench, one, one.unless(subjects), controls) for one in chosen]
    bench.carry_out(report)
    return Evidence(
        case=case,
        proven=tuple(_proven(*one) for one in plans),
        tried=bench.tried,
        disagreements=tuple(bench.disagreements),
    )


type _Planned = tuple[Proof, str | None, list[_Slot], list[tuple[Control, list[_Slot]]] | None]


def _planned(bench: _Schedule, one: Proof, skipped: str | None, controls: bool) -> _Planned:
    if skipped is not None:
        return one, skipped, [], None
    slots = bench.order(one, bench.case.network, "")
    return one, None, slots, list(_ordered_controls(bench, one)) if controls else None


def _ordered_controls(bench: _Schedule, one: Proof) -> Iterator[tuple[Control, list[_Slot]]]:
    for control in one.controls:
        changed = control.change(bench.case.network)
        if changed is not None:
            mutate = None if control.plan is None else control.plan(changed)
            key = "" if control.plan is None else control.plan.__name__
            yield control, bench.order(one, changed, key, mutate)


def _proven(
    one: Proof, skipped: str | None, slots: list[_Slot], controls: list[tuple[Control, list[_Slot]]] | None
) -> ProofResult:
    run = None
    if controls is not None:
        run = tuple(
            ControlResult(words=control.words, failed=tuple(found for found in _all(slots) if found.is_refuted))
            for control, slots in controls
        )
    return ProofResult(proof=one, skipped=skipped, found=tuple(_all(slots)), controls=run)


def _all(slots: Iterable[_Slot]) -> Iterator[AssertionResult]:
    for slot in slots:
        if slot.found is None:
            raise RuntimeError(f"not carried out: {slot.claim.sentence}")
        yield slot.found


# ---- What became of a claim


def _found(
    slot: _Slot,
    by_try: Mapping[ConnectionSpec, ConnectionAttempt],
    verdicts: Mapping[ConnectionAttempt, ProbeResult],
    let_by: Mapping[ConnectionAttempt, tuple[FilterCause, ...]],
    ledger: Iterable[tuple[IPv4Address, IPv4Address]],
) -> AssertionResult:
    claim = slot.claim
    lines = []
    for one in claim.tried:
        attempt = by_try[one]
        verdict = verdicts[attempt]
        lines.append(
            TriedConnection(
                source=attempt.source,
                destination=attempt.destination,
                port=attempt.port,
                verdict=verdict,
                let_by=let_by.get(attempt, ()),
                as_claimed=_is_as_claimed(claim, verdict),
            )
        )
    return AssertionResult(
        sentence=claim.sentence, given=slot.given, lines=tuple(lines), strangers=_strangers(claim, ledger)
    )


def _is_as_claimed(claim: Assertion, verdict: ProbeResult) -> bool:
    match verdict:
        case Arrived(seen_as=seen):
            return claim.arrives is not False and (claim.seen_as is None or seen in claim.seen_as)
        case Died(checkpoint=checkpoint, direction=direction):
            where = claim.checkpoint is None or (
                checkpoint is claim.checkpoint and (direction == "back") is claim.answer
            )
            return claim.arrives is not True and where
    return False  # unexplained: no evidence of anything


def _strangers(
    claim: Assertion, ledger: Iterable[tuple[IPv4Address, IPv4Address]]
) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
    asked = claim.ledger
    if asked is None:
        return ()
    return tuple(
        sorted(pair for pair in ledger if (asked.to is None or pair[1] in asked.to) and pair[0] not in asked.only)
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
            *by_ports.get((attempt.source_port, attempt.port), ()),
            *by_ports.get((attempt.port, attempt.source_port), ()),
        )
        for attempt in tried
    }


def _disagreements(oracle: Oracle, verdicts: Mapping[ConnectionAttempt, ProbeResult]) -> Iterator[str]:
    for one, verdict in verdicts.items():
        expected = oracle.judge(one)
        if expected != verdict:
            yield f"{one.source} to {one.destination}:{one.port}: the packets say {verdict}, the oracle {expected}"

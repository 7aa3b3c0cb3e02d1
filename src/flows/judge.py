"""Judges the outcome of a request: the verdict, and the attempt as it is logged."""

from dataclasses import replace
from datetime import datetime
from functools import partial

from domain.bodies import stored_response
from domain.deliveries import Attempt, AttemptKind, Claim, Record, State, StoredResponse, state_after
from domain.destinations import Guarantee
from domain.events import is_reserved, may_end
from domain.ids import AttemptId, DeliveryId
from domain.limits import failed_for_the_breaker
from domain.outcomes import Answered, Exchange, Outcome, outcome_kind
from domain.questions import first_question_at, verdict_on
from domain.reconcile import OnAbsent, OpenQuestion
from domain.retry import Failed, Held, RetryAt, Verdict, verdict
from domain.retry_policy import USUAL
from domain.values import value_class
from flows.prepare import repeat_rule_of
from flows.services import Services
from runtime.isolation import isolated, unless_it_raises

GONE_STATUS = 410
# Until a lapse is attempted again, or looked at: whatever comes late has been recorded by then. After an outage of the
# database the wake-up that finds a lapse may come just before the one that carries the outcome.
LAPSE_SECONDS = 30.0


@value_class(frozen=True, slots=True, kw_only=True)
class JudgedAttempt:
    """One attempt that was made: its claim, its outcome, and the verdict on what the delivery does next."""

    claim: Claim
    exchange: Exchange
    verdict: Verdict
    attempt: Attempt
    failed: bool | None  # for the circuit breaker (domain/limits.py)
    event_id: DeliveryId | None = None  # for the event of its end, if somebody is told
    state_event_id: DeliveryId | None = None  # for the event that its destination is disabled
    breaker_event_id: DeliveryId | None = None  # for the event that its circuit breaker opens

    @property
    def record(self) -> Record:
        """What is written to the database; where that cannot be said, what the delivery needs at least."""
        return unless_it_raises(self._record) or isolated(
            self._record,
            otherwise=lambda _: self._bare_record(),
            step="make the record",
            delivery_id=self.claim.delivery_id,
        )

    def _bare_record(self) -> Record:
        return Record(
            attempt=self.attempt,
            lease_id=self.claim.lease_id,
            next_state=state_after(self.verdict),
            due_at=self.verdict.at if isinstance(self.verdict, RetryAt) else None,
            redacts=True,  # whatever its destination wants
        )

    def _record(self) -> Record:
        return Record(
            attempt=self.attempt,
            lease_id=self.claim.lease_id,
            next_state=state_after(self.verdict),
            due_at=self.verdict.at if isinstance(self.verdict, RetryAt) else None,
            failed=self.failed,
            disables=self.disables,
            ask_at=self.verdict.ask_at if isinstance(self.verdict, Held) else None,
            silent=isinstance(self.verdict, Held) and self.verdict.silent,
            sends=self.claim.attempts_made if self.claim.questions_made else None,
            # Nothing of an event is a caller's, and the bus may be told later.
            redacts=self.claim.destination.options.redact is not None and not is_reserved(self.claim.idempotency_key),
            event_id=self.event_id,
            state_event_id=self.state_event_id,
            breaker_event_id=self.breaker_event_id,
        )

    @property
    def disables(self) -> bool:
        """Whether the partner wants no more deliveries: 410 (Standard Webhooks). Of a call that is passed through it is
        an answer for the caller, about one thing perhaps of many."""
        outcome = self.exchange.outcome
        is_gone = isinstance(outcome, Answered) and outcome.status == GONE_STATUS
        is_sent = self.claim.question is None
        return is_sent and is_gone and isinstance(self.verdict, Failed) and not self.claim.passes


def judged(
    claim: Claim, exchange: Exchange, *, started_at: datetime, services: Services, partners_doing: bool = True
) -> JudgedAttempt:
    """The attempt that `exchange` belongs to. An answer is recorded even where it cannot be judged.

    Where the outcome is not the `partners_doing` (nothing was to be sent, or we failed), no circuit breaker counts it.
    """
    attempt = unless_it_raises(_judged_at_once, claim, exchange, started_at, partners_doing, services) or JudgedAttempt(
        claim=claim,
        exchange=exchange,
        verdict=_verdict(claim, exchange.outcome, started_at=started_at, services=services),
        attempt=_isolated_attempt(claim, exchange, started_at=started_at, services=services),
        failed=_failed(claim, exchange.outcome) if partners_doing else None,
    )
    if claim.destination.options.events_to is None:
        return attempt
    return isolated(
        partial(_with_events, attempt, services=services),
        otherwise=lambda _: attempt,
        step="make the events",
        delivery_id=claim.delivery_id,
    )


def _failed(claim: Claim, outcome: Outcome) -> bool | None:
    return isolated(
        partial(failed_for_the_breaker, outcome),
        otherwise=lambda _: None,
        step="count for the breaker",
        delivery_id=claim.delivery_id,
    )


def _with_events(attempt: JudgedAttempt, *, services: Services) -> JudgedAttempt:
    """With the ids of the events that tell of it. Nobody is told of an event."""
    claim, state = attempt.claim, state_after(attempt.verdict)
    if is_reserved(claim.idempotency_key):
        return attempt
    still_unknown = claim.question is not None and state is State.UNKNOWN
    ends = may_end(state, attempts_made=claim.attempts_made) and not still_unknown
    now = services.clock()
    return replace(
        attempt,
        event_id=DeliveryId(services.new_id(now)) if ends else None,
        state_event_id=DeliveryId(services.new_id(now)) if attempt.disables else None,
        breaker_event_id=DeliveryId(services.new_id(now)) if _may_open(attempt) else None,
    )


def _may_open(attempt: JudgedAttempt) -> bool:
    """Whether the circuit breaker of its destination may open with it: by how many failures others count meanwhile,
    nobody knows before."""
    breaker = attempt.claim.destination.options.circuit_breaker
    return attempt.failed is True and (breaker is None or breaker.enabled)


def _judged_at_once(
    claim: Claim, exchange: Exchange, started_at: datetime, partners_doing: bool, services: Services
) -> JudgedAttempt:
    """Without isolating its parts from each other, which costs as much as one of them."""
    return JudgedAttempt(
        claim=claim,
        exchange=exchange,
        verdict=_decided(claim, exchange.outcome, started_at=started_at, services=services),
        attempt=_attempt(
            claim,
            exchange,
            egress_address=services.address_towards(exchange.remote_address),
            response=_stored(claim, exchange.outcome),
            started_at=started_at,
            services=services,
        ),
        failed=failed_for_the_breaker(exchange.outcome) if partners_doing else None,
    )


def _verdict(claim: Claim, outcome: Outcome, *, started_at: datetime, services: Services) -> Verdict:
    """An answer that cannot be judged is judged without its headers; where even that fails, the delivery is held."""
    decide = partial(_decided, claim, started_at=started_at, services=services)
    isolate = partial(isolated, step="judge", delivery_id=claim.delivery_id)

    def without_headers(_error: Exception) -> Verdict:
        bare = replace(outcome, headers=()) if isinstance(outcome, Answered) else outcome
        return isolate(partial(decide, bare), otherwise=lambda _: Held())

    return isolate(partial(decide, outcome), otherwise=without_headers)


def _decided(claim: Claim, outcome: Outcome, *, started_at: datetime, services: Services) -> Verdict:
    if claim.question is not None:
        return _decided_on_question(claim, outcome, claim.question, started_at=started_at, services=services)
    decided = verdict(
        outcome,
        attempts_made=claim.attempts_made,
        attempts_allowed=claim.attempts_allowed,
        repeat_rule=repeat_rule_of(claim),
        now=services.clock(),
        chance=services.chance(),
        policy=claim.destination.options.retry or USUAL,
        give_up_at=claim.give_up_at,
        least_seconds=LAPSE_SECONDS if claim.lapsed else 0.0,
    )
    reconcile = claim.destination.options.reconcile
    if not isinstance(decided, Held) or reconcile is None:
        return decided
    return Held(ask_at=first_question_at(reconcile, now=services.clock(), chance=services.chance()))


def _decided_on_question(
    claim: Claim, outcome: Outcome, question: OpenQuestion, *, started_at: datetime, services: Services
) -> Verdict:
    """Where the destination does not say any more how to ask, nobody is asked again."""
    reconcile = claim.destination.options.reconcile
    if reconcile is None:
        return Held()
    now = services.clock()
    return verdict_on(
        outcome,
        reconcile=reconcile,
        question=question,
        on_absent=_on_absent(claim, now=now),
        asked_at=started_at,
        now=now,
        chance=services.chance(),
    )


def _on_absent(claim: Claim, *, now: datetime) -> OnAbsent:
    """What its destination wants; but nothing is sent beyond the attempts and the time that the delivery has. A call
    that was passed through has one attempt: whoever made it may have made it again by now."""
    reconcile, destination = claim.destination.options.reconcile, claim.destination
    has_attempts = claim.attempts_made < claim.attempts_allowed
    has_time = claim.give_up_at is None or now <= claim.give_up_at
    if not has_attempts or not has_time:
        return OnAbsent.FAILED
    if reconcile is not None and reconcile.on_absent is not None:
        return reconcile.on_absent
    return OnAbsent.FAILED if destination.guarantee is Guarantee.AT_MOST_ONCE else OnAbsent.AGAIN


def _isolated_attempt(claim: Claim, exchange: Exchange, *, started_at: datetime, services: Services) -> Attempt:
    outcome = exchange.outcome
    return _attempt(
        claim,
        exchange,
        egress_address=isolated(
            partial(services.address_towards, exchange.remote_address),
            otherwise=lambda _: None,
            step="address",
            delivery_id=claim.delivery_id,
        ),
        response=isolated(
            partial(_stored, claim, outcome),
            otherwise=lambda _: _status_only(outcome),
            step="store",
            delivery_id=claim.delivery_id,
        ),
        started_at=started_at,
        services=services,
    )


def _attempt(
    claim: Claim,
    exchange: Exchange,
    *,
    egress_address: str | None,
    response: StoredResponse | None,
    started_at: datetime,
    services: Services,
) -> Attempt:
    outcome = exchange.outcome
    return Attempt(
        attempt_id=AttemptId(services.new_id(started_at)),
        delivery_id=claim.delivery_id,
        number=claim.number,
        outcome=outcome_kind(outcome),
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        started_at=started_at,
        timings=exchange.timings,
        remote_address=exchange.remote_address,
        egress_address=egress_address,
        response=response,
        kind=AttemptKind.SEND if claim.question is None else AttemptKind.RECONCILE,
    )


def _stored(claim: Claim, outcome: Outcome) -> StoredResponse | None:
    if not isinstance(outcome, Answered):
        return None
    return stored_response(outcome, redaction=claim.destination.options.redact)


def _status_only(outcome: Outcome) -> StoredResponse | None:
    """For an answer that cannot be stored: that it came, and its status."""
    if not isinstance(outcome, Answered):
        return None
    return StoredResponse(status=outcome.status, headers=(), body=b"", length_bytes=None, sha256=None, truncated=True)

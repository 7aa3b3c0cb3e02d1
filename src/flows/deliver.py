"""Deliver while the caller waits: accept, send at once, and answer with the outcome.

Whatever goes wrong in between, the wake-up that `accept` queued remains. It is due when the lease expires, and then a
worker continues the delivery.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from db import attempts, deliveries
from db.deliveries import Acceptance
from domain.deliveries import Attempt, AttemptKind, Claim, Delivery, NewDelivery, State, state_after
from domain.destinations import DestinationState
from domain.errors import DatabaseUnavailable, NotFound, StillInFlight
from domain.ids import DeliveryId, TenantId
from domain.outcomes import Answered
from domain.retry import RetryAt
from domain.values import value_class
from flows.accept import CALL_SECONDS, accept
from flows.attempt import SETTLE_SECONDS, make_attempts
from flows.judge import JudgedAttempt
from flows.services import Services
from flows.settle import CARRY_SECONDS, BatchMessage, carrying, next_wakeups, queue, record
from flows.wake import wake
from runtime.observability import logger

# Between two looks at a delivery that the worker sends: a quarter of the time waited so far, within these bounds. So an
# answer is late by a quarter at the most, and 25 seconds take less than thirty looks (docs/adr/0047-*.md).
WATCH_SECONDS = 0.1
MOST_WATCH_SECONDS = 2.0
RETRY_AFTER_SECONDS = 2
RECORD_SECONDS = 10.0  # how long a caller with an answer waits at most for a database that is not available
# However late the answer came, the database is asked: a caller who got "delivered" must not read "sending" next.
LEAST_RECORD_SECONDS = 1.0


@value_class(frozen=True, slots=True, kw_only=True)
class Progress:
    """A delivery with its attempts so far, the first one first.

    `answer` is the partner's answer to the last attempt with the bytes as they came over the wire; None where this
    process did not make the attempt (then the stored response in `attempts` is all there is) or no answer came.
    `replayed` says that the idempotency key's first request led to this, not the present one.
    """

    delivery: Delivery
    attempts: list[Attempt]
    answer: Answered | None = None
    replayed: bool = False

    @property
    def deciding(self) -> Attempt | None:
        """The attempt to send that the delivery ended by, or its last one so far; None where there is none. It is an
        earlier one where its success came when another attempt had begun."""
        sends = [attempt for attempt in self.attempts if attempt.kind is AttemptKind.SEND]
        succeeded = [attempt for attempt in sends if attempt.succeeded]
        counting = succeeded if succeeded and self.delivery.state is State.DELIVERED else sends
        return counting[-1] if counting else None


def deliver(new: NewDelivery, *, wait_seconds: float, services: Services) -> Progress:
    """Accepts a delivery and waits up to `wait_seconds` for its end.

    The attempt is made here when the destination's total deadline fits into the wait. Otherwise the worker makes it
    while this watches, so that no attempt is cut short because a caller stopped waiting.

    Raises what `accept` raises, and StillInFlight where the key's first request has no result yet.
    """
    started_at = services.clock()
    give_up_at = started_at + timedelta(seconds=wait_seconds)
    acceptance = accept(new, wait_seconds=wait_seconds, services=services)
    if acceptance.replayed:
        return _stored_result(acceptance.delivery, services=services)
    if acceptance.claim is not None:
        answer_by = started_at + timedelta(seconds=CALL_SECONDS)
        return _send(acceptance, acceptance.claim, answer_by=answer_by, services=services)
    if acceptance.is_held or _waits_beyond(give_up_at, acceptance.delivery):
        return Progress(delivery=acceptance.delivery, attempts=[])  # whoever waited would wait in vain
    return _watch(Progress(delivery=acceptance.delivery, attempts=[]), until=give_up_at, services=services)


def _waits_beyond(end_at: datetime, delivery: Delivery) -> bool:
    """Whether it is not its turn before then."""
    return delivery.waits_until is not None and delivery.waits_until > end_at


def find(delivery_id: DeliveryId, *, tenant_id: TenantId, services: Services) -> Progress:
    """The tenant's delivery of that id with its attempts. Raises NotFound."""
    stored = attempts.with_delivery(services.database, tenant_id=tenant_id, delivery_id=delivery_id)
    if stored is None:
        raise NotFound("delivery", str(delivery_id))
    return Progress(delivery=stored[0], attempts=stored[1])


def follow(delivery_id: DeliveryId, *, tenant_id: TenantId, wait_seconds: float, services: Services) -> Progress:
    """The tenant's delivery of that id with its attempts, as soon as it has ended or `wait_seconds` are over. Raises
    NotFound."""
    give_up_at = services.clock() + timedelta(seconds=wait_seconds)
    progress = find(delivery_id, tenant_id=tenant_id, services=services)
    if progress.delivery.state.finished or services.clock() >= give_up_at:
        return progress
    return _watch(progress, until=give_up_at, services=services)


def show(delivery: Delivery, *, services: Services) -> Progress:
    """A delivery with its attempts."""
    return Progress(delivery=delivery, attempts=attempts.of_delivery(services.database, delivery.delivery_id))


def _stored_result(delivery: Delivery, *, services: Services) -> Progress:
    if not delivery.state.finished:
        raise StillInFlight(delivery_id=str(delivery.delivery_id), retry_after_seconds=RETRY_AFTER_SECONDS)
    return replace(show(delivery, services=services), replayed=True)


def _send(acceptance: Acceptance, claim: Claim, *, answer_by: datetime, services: Services) -> Progress:
    judged = send_now(claim, answer_by=answer_by, services=services)
    outcome = judged.exchange.outcome
    return Progress(
        delivery=_after_attempt(acceptance.delivery, judged, services=services),
        attempts=[judged.attempt],
        answer=outcome if isinstance(outcome, Answered) else None,
    )


def send_now(claim: Claim, *, answer_by: datetime, services: Services) -> JudgedAttempt:
    """Makes the attempt of a claim, and records it. The destination's own deadline fits into the time that is left."""
    sent_by = services.clock() + timedelta(seconds=claim.destination.timeouts.total_seconds + SETTLE_SECONDS)
    judged = make_attempts([claim], end_at=sent_by, services=services)[0]
    _wake(judged, services=services)
    _record(judged, answer_by=answer_by, services=services)
    return judged


def _wake(judged: JudgedAttempt, *, services: Services) -> None:
    """Queues the retry and the events. If the queue fails, the wake-up for the end of the lease finds what is due."""
    retries = [BatchMessage(position=0, wakeup=wakeup) for wakeup in next_wakeups(judged)]
    if queue(retries, services=services):
        logger.error("the retry starts when the lease has expired", delivery_id=str(judged.claim.delivery_id))


def _record(judged: JudgedAttempt, *, answer_by: datetime, services: Services) -> None:
    """Records, for as long as the caller can wait for that; then the outcome travels in a wake-up.

    The caller gets the partner's answer in any case: an error would invite it to send again. Only if the queue fails
    too does the delivery end like one whose worker crashed, in `unknown` or with a retry.
    """
    now = services.clock()
    latest = min(answer_by, now + timedelta(seconds=RECORD_SECONDS + CARRY_SECONDS))
    end_at = max(latest, now + timedelta(seconds=LEAST_RECORD_SECONDS + CARRY_SECONDS))
    rest = record([judged], end_at=end_at, services=services)
    wake(rest.woken, services=services)
    for unrecorded in rest.unrecorded:
        wakeup = carrying(unrecorded, now=services.clock())
        if queue([BatchMessage(position=0, wakeup=wakeup)], services=services):
            logger.error("an attempt could not be recorded", delivery_id=str(judged.claim.delivery_id))


def _after_attempt(delivery: Delivery, judged: JudgedAttempt, *, services: Services) -> Delivery:
    """As the database has it once the attempt is recorded, without asking it for that."""
    state = state_after(judged.verdict)
    return replace(
        delivery,
        state=state,
        due_at=judged.verdict.at if isinstance(judged.verdict, RetryAt) else delivery.due_at,
        ask_at=judged.record.ask_at,
        event_id=judged.event_id or delivery.event_id,
        destination_state=DestinationState.DISABLED if judged.disables else delivery.destination_state,
        finished_at=services.clock() if state.finished else None,
    )


def _watch(known: Progress, *, until: datetime, services: Services) -> Progress:
    """If the database becomes unavailable meanwhile, the caller gets what is known: an error would invite the one who
    created the delivery to send again."""
    delivery = known.delivery
    try:
        _wait_for_end(delivery, until=until.timestamp(), services=services)
        return find(delivery.delivery_id, tenant_id=delivery.tenant_id, services=services)
    except DatabaseUnavailable:
        logger.exception("a delivery could not be watched", delivery_id=str(delivery.delivery_id))
        return known


def _wait_for_end(delivery: Delivery, *, until: float, services: Services) -> None:
    began = now = services.clock().timestamp()
    while now < until:
        gap = min((now - began) / 4, MOST_WATCH_SECONDS, until - now)
        services.sleep(max(gap, WATCH_SECONDS))
        if deliveries.has_ended(services.database, tenant_id=delivery.tenant_id, delivery_id=delivery.delivery_id):
            return
        now = services.clock().timestamp()

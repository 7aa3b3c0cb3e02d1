"""Make the attempts that are due. Start reading here: this file follows a delivery step by step.

    1. sort     wake-ups that are early are queued again for their time, without touching the database
    2. claim    one statement leases all deliveries of the batch that are due, and says why the others are not
    3. send     all at once, no transaction open; each ends in an Outcome                    (flows/prepare.py)
    4. judge    each outcome becomes a verdict: delivered, retry at, failed, held            (flows/judge.py)
    5. wake     the wake-ups of the next attempts are queued, before...                      (flows/settle.py)
    6. record   ...one statement logs all attempts and updates their deliveries

Attempts that end long before the slowest of the batch are judged, queued and recorded early (flows/early_recording.py).
An outcome that the database does not accept travels in a wake-up, and the worker that receives it records it.

A worker that crashes between 2 and 6 leaves rows in state `sending`. Their lease expires, their message comes back, and
the next worker finds a *lapsed* claim: its request may have been sent, so it is not sent again but judged as Unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from db import deliveries
from domain.deliveries import Abandoned, Claim, ClaimResult, Finished, Missing, NotDue
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.ids import DeliveryId
from domain.limits import usual_share
from domain.outcomes import Answered, Exchange, Unknown
from domain.values import value_class
from domain.wakeups import Wakeup, next_miss_delay_seconds
from egress.client import EarlyResults, Sendable
from flows.early_recording import EarlyRecorder
from flows.judge import JudgedAttempt, judged
from flows.prepare import BatchTokens, prepared, seal_keys
from flows.services import Services
from flows.settle import CARRY_SECONDS, BatchMessage, Recorded, queue, record_all, retries, settle
from flows.wake import wake
from runtime.isolation import isolated
from runtime.observability import logger

WORKER_SECONDS = 45.0  # how long the attempt function may run (template.yaml)
SETTLE_SECONDS = 14.0  # of them are reserved for queueing and recording, whatever partners do
JUDGE_SECONDS = 4.0  # of those that are reserved; CARRY_SECONDS are for queueing, and the rest is for recording
PUT_BACK_SECONDS = 30  # how long to leave the database alone when it does not answer
# The same for an outcome that is to be recorded: before the lease is over if possible, and before anybody else looks.
CARRIED_PUT_BACK_SECONDS = 5
LOST = Unknown(reason="a fault of the gateway itself; what was sent is not known")
RETRY_AFTER_SECONDS = 5
NEXT_JOB_SECONDS = 1
# The share of a batch's time for outcomes that came in wake-ups: they can be queued again, and new ones must be sent.
CARRIED_SECONDS = 4.0

type Due = Mapping[DeliveryId, BatchMessage]


@value_class(frozen=True, slots=True, kw_only=True)
class _NotLookedAt:
    """A delivery that nothing is known of, because the database is not available."""

    delivery_id: DeliveryId


def attempt_due(
    wakeups: Sequence[Wakeup], *, services: Services, seconds_left: float = WORKER_SECONDS
) -> frozenset[int]:
    """Makes the attempts of one batch of wake-ups, within `seconds_left`; returns the positions of failed messages,
    which SQS must deliver again.

    All others are finished: whatever remains to be done has a message of its own, so these must not come back, or
    their deliveries would have two. Raises QueueUnavailable where all messages failed.
    """
    now = services.clock()
    end_at = now + timedelta(seconds=seconds_left)
    messages = [BatchMessage(position=position, wakeup=wakeup) for position, wakeup in enumerate(wakeups)]

    # 1. Sort
    # Outcomes are recorded whenever they come, before anybody else looks: their time is only when to try again.
    carried = [message for message in messages if message.wakeup.record is not None]
    plain = [message for message in messages if message.wakeup.record is None]
    early = _first_of_each([message for message in plain if message.wakeup.due_at > now])
    arrived = [message for message in plain if message.wakeup.due_at <= now]
    due = {message.wakeup.delivery_id: message for message in arrived if not message.wakeup.of_job}
    requeued = _record_carried(carried, end_at=end_at, services=services) if carried else []
    if len(due) < len(arrived):
        requeued += _advance_jobs([message for message in arrived if message.wakeup.of_job], services=services)

    # 2. Claim
    results = _claim(due, now=now, services=services)
    _cancel_abandoned(results, now=now, services=services)
    claims = [result for result in results if isinstance(result, Claim) and not _may_be_answered(result, due)]

    # 3. Send and 4. judge
    early_recorder = EarlyRecorder(
        queue_retries=lambda attempts: queue(retries(_with_messages(attempts, due)), services=services),
        services=services,
    )
    attempts = make_attempts(claims, end_at=end_at, early_recorder=early_recorder, services=services)

    # 5. Wake and 6. record
    postponed = [
        replace(message, wakeup=wakeup)
        for result, message in zip(results, due.values(), strict=True)
        if not (isinstance(result, Claim) and not result.lapsed)  # nearly all: settled with their attempt
        for wakeup in _looked_again(result, message.wakeup, now=now, services=services)
    ]
    failed = settle(
        _with_messages(attempts, due),
        also=[*early, *requeued, *postponed],
        early_recorder=early_recorder,
        end_at=end_at,
        services=services,
    )
    if failed and len(failed) == len(wakeups):
        raise QueueUnavailable("no wake-up of the batch could be queued", retry_after_seconds=RETRY_AFTER_SECONDS)
    return failed


def make_attempts(
    claims: Sequence[Claim], *, end_at: datetime, services: Services, early_recorder: EarlyRecorder | None = None
) -> list[JudgedAttempt]:
    """Steps 3 and 4: sends all claimed requests at once and judges each outcome; in the order of `claims`.

    Whatever partners do, sending ends early enough before `end_at` that all can be recorded. What ends long before the
    last of them goes to `early_recorder`, which has finished when this returns. The work that one answer makes is
    bounded; where ten of them leave little time all the same, the bodies of the last are not looked at.
    """
    started_at = services.clock()
    keys = seal_keys(claims, services=services)
    within_seconds = (end_at - services.clock()).total_seconds() - SETTLE_SECONDS
    tokens = BatchTokens(keys=keys, services=services)
    ready = [
        (claim, prepared(claim, keys=keys, tokens=tokens, within_seconds=within_seconds, now=started_at))
        for claim in claims
    ]
    requests = [(claim, request) for claim, request in ready if not isinstance(request, Exchange)]
    sendable = [claim for claim, _ in requests]
    early_results = (
        EarlyResults(
            report=partial(early_recorder.begin, sendable, started_at=started_at),
            note_slow=partial(early_recorder.note_slow, sendable, started_at=started_at),
        )
        if early_recorder
        else None
    )
    sent = iter(_sent([request for _, request in requests], early=early_results, services=services))
    exchanges = [
        (claim, result, False) if isinstance(result, Exchange) else (claim, next(sent), True) for claim, result in ready
    ]
    judge_until = services.clock() + timedelta(seconds=JUDGE_SECONDS)
    judged_early: Mapping[DeliveryId, JudgedAttempt] = (
        early_recorder.end(until=end_at - timedelta(seconds=CARRY_SECONDS)) if early_recorder else {}
    )
    return [
        (judged_early.get(claim.delivery_id) if judged_early else None)
        or judged(
            claim,
            _looked_at_in_time(claim, exchange, until=judge_until, services=services),
            started_at=started_at,
            services=services,
            partners_doing=was_asked and exchange.outcome is not LOST,
        )
        for claim, exchange, was_asked in exchanges
    ]


def _looked_at_in_time(claim: Claim, exchange: Exchange, *, until: datetime, services: Services) -> Exchange:
    """After `until` as if only the headers had come: the outcome is recorded, and a question is asked again."""
    outcome = exchange.outcome
    if not isinstance(outcome, Answered) or services.clock() < until:
        return exchange
    logger.warning("an answer is not looked at, as there is no time left", delivery_id=str(claim.delivery_id))
    return replace(exchange, outcome=replace(outcome, body=b"", complete=False))


def _advance_jobs(steps: Sequence[BatchMessage], *, services: Services) -> list[BatchMessage]:
    """Makes a step of one job; the others' come back in a moment, so that the deliveries of the batch do not wait. All
    events are put on the bus."""
    events = [step for step in steps if step.wakeup.for_bus]
    if events:
        jobs = [step for step in steps if not step.wakeup.for_bus]
        return [*_tell_bus(events, services=services), *_advance_jobs(jobs, services=services)]
    later = services.clock() + timedelta(seconds=NEXT_JOB_SECONDS)
    left = [replace(message, wakeup=replace(message.wakeup, due_at=later)) for message in steps[1:]]
    return [
        *left,
        *(replace(step, wakeup=wakeup) for step in steps[:1] for wakeup in _advanced(step.wakeup, services=services)),
    ]


def _advanced(wakeup: Wakeup, *, services: Services) -> list[Wakeup]:
    """A fault of ours in a step must not keep the deliveries of the batch from being sent."""
    from flows.jobs import advance  # with all about jobs, which are rare

    later = services.clock() + timedelta(seconds=PUT_BACK_SECONDS)
    return isolated(
        partial(advance, wakeup, services=services),
        otherwise=lambda _: [replace(wakeup, due_at=later)],
        step="job",
        delivery_id=wakeup.delivery_id,
    )


def _tell_bus(events: Sequence[BatchMessage], *, services: Services) -> list[BatchMessage]:
    """Puts events on the bus; what that leaves to be queued."""
    from flows.bus import tell_bus  # few stacks have one

    later = services.clock() + timedelta(seconds=PUT_BACK_SECONDS)
    wakeups = [event.wakeup for event in events]
    left: Sequence[Wakeup | None] = isolated(
        partial(tell_bus, wakeups, services=services),
        otherwise=lambda _: [replace(wakeup, due_at=later) for wakeup in wakeups],
        step="tell the bus",
    )
    return [replace(event, wakeup=wakeup) for event, wakeup in zip(events, left, strict=True) if wakeup is not None]


def _first_of_each(early: Sequence[BatchMessage]) -> list[BatchMessage]:
    """One message per delivery, the first that is due: a duplicate is not queued again. That for the bus is none."""
    latest_first = sorted(early, key=lambda message: message.wakeup.due_at, reverse=True)
    firsts = {(message.wakeup.delivery_id, message.wakeup.for_bus): message for message in latest_first}
    return [message for message in early if firsts[message.wakeup.delivery_id, message.wakeup.for_bus] is message]


def _with_messages(attempts: Sequence[JudgedAttempt], due: Due) -> list[tuple[BatchMessage, JudgedAttempt]]:
    return [(due[attempt.claim.delivery_id], attempt) for attempt in attempts]


def _sent(requests: Sequence[Sendable], *, early: EarlyResults | None, services: Services) -> Sequence[Exchange]:
    """Step 3. Where the client itself fails, it is unknown which requests of the batch were sent."""
    return isolated(
        partial(services.client.send_all, requests, early=early),
        otherwise=lambda _: [Exchange(outcome=LOST)] * len(requests),
        step="send",
    )


def _record_carried(carried: Sequence[BatchMessage], *, end_at: datetime, services: Services) -> list[BatchMessage]:
    """Records the outcomes that arrived in wake-ups; returns what is to be queued after that.

    Recording is given up after CARRIED_SECONDS and the outcomes are queued again: however long the database takes,
    the deliveries of the same batch still have time to be sent.

    Where the delivery is to be tried again and the lease has expired, the wake-up of that retry may have found the
    delivery finished and been dropped, so another one is queued. An outcome that the database refuses is lost: its
    delivery is woken when the lease has expired, as after a crash. Where its row is gone (a restored database), so is
    the outcome.
    """
    # SQS may deliver a message twice. A statement that has the same outcome twice would be refused.
    found = (message.wakeup.record for message in carried)
    records = list({record.attempt.attempt_id: record for record in found if record is not None}.values())
    give_up_at = min(end_at, services.clock() + timedelta(seconds=CARRIED_SECONDS + CARRY_SECONDS))
    events = _events(carried, now=services.clock())
    unqueued = queue(events, services=services) if events else frozenset()
    recorded = record_all(records, end_at=give_up_at, services=services) if records else Recorded()
    if recorded is None:
        later = services.clock() + timedelta(seconds=CARRIED_PUT_BACK_SECONDS)
        return [replace(message, wakeup=replace(message.wakeup, due_at=later)) for message in carried]
    wake(recorded.woken, services=services)
    return [
        *(event for event in events if event.position in unqueued),  # where that fails again, the outcome comes back
        *(
            next_message
            for message in carried
            for next_message in _followed(message, refused=recorded.refused, services=services)
        ),
    ]


def _events(carried: Sequence[BatchMessage], *, now: datetime) -> list[BatchMessage]:
    """The messages of events that carried outcomes write: those that were queued before may have been dropped, as there
    was no row. They count as looked for once: their ids are old."""
    later = now + timedelta(seconds=CARRIED_SECONDS)
    return [
        replace(
            message,
            wakeup=Wakeup(delivery_id=event_id, due_at=later, group=message.wakeup.group, misses=1, of_event=True),
        )
        for message in carried
        if (record := message.wakeup.record) is not None
        for event_id in record.event_ids
    ]


def _followed(message: BatchMessage, *, refused: frozenset[DeliveryId], services: Services) -> list[BatchMessage]:
    """Where it cannot be said what follows a carried outcome, it is recorded once more, which changes nothing."""
    later = services.clock() + timedelta(seconds=PUT_BACK_SECONDS)
    return isolated(
        partial(_after_carried, message, refused=refused, services=services),
        otherwise=lambda _: [replace(message, wakeup=replace(message.wakeup, due_at=later))],
        step="after a carried outcome",
        delivery_id=message.wakeup.delivery_id,
    )


def _after_carried(message: BatchMessage, *, refused: frozenset[DeliveryId], services: Services) -> list[BatchMessage]:
    record = message.wakeup.record
    if record is None:
        return []
    lease_ends_at = record.attempt.started_at + timedelta(seconds=services.lease_seconds)
    if message.wakeup.delivery_id in refused:
        return [replace(message, wakeup=replace(message.wakeup, due_at=lease_ends_at, record=None))]
    if record.due_at is None or services.clock() < lease_ends_at:
        return []
    return [replace(message, wakeup=replace(message.wakeup, due_at=record.due_at, record=None))]


def _claim(due: Due, *, now: datetime, services: Services) -> Sequence[ClaimResult | _NotLookedAt]:
    """Step 2; in the order of `due`. Without a database the wake-ups are put back with a delay: an outage must not
    dead-letter them."""
    if not due:
        return []
    try:
        return deliveries.claim(
            services.database,
            list(due),
            lease=services.new_lease(now),
            now=now,
            share=usual_share(services.workers),
        )
    except DatabaseUnavailable:
        logger.warning("the database is not available, wake-ups are put back", count=len(due))
        return [_NotLookedAt(delivery_id=delivery_id) for delivery_id in due]


def _cancel_abandoned(results: Sequence[ClaimResult | _NotLookedAt], *, now: datetime, services: Services) -> None:
    """Cancels what waits for a destination that was deleted; the look that is queued for it finds it finished."""
    abandoned = [result.delivery_id for result in results if isinstance(result, Abandoned)]
    if abandoned:
        isolated(partial(_cancel, abandoned, now=now, services=services), otherwise=lambda _: None, step="cancel")


def _cancel(abandoned: Sequence[DeliveryId], *, now: datetime, services: Services) -> None:
    try:
        for delivery_id in deliveries.cancel_abandoned(services.database, abandoned, now=now):
            logger.info("canceled, as its destination was deleted", delivery_id=str(delivery_id))
    except DatabaseUnavailable:
        logger.warning("the database is not available, deliveries are canceled later", count=len(abandoned))


def _may_be_answered(claim: Claim, due: Due) -> bool:
    """Whether a lapse is not to be recorded yet: after an outage the outcome may still be on its way in a wake-up. That
    finds the row under this lease and updates it."""
    return claim.lapsed and due[claim.delivery_id].wakeup.after_outage


def _looked_again(
    result: ClaimResult | _NotLookedAt, wakeup: Wakeup, *, now: datetime, services: Services
) -> list[Wakeup]:
    return isolated(
        partial(_look_again, result, wakeup, now=now, services=services),
        otherwise=lambda _: [_at(now + timedelta(seconds=PUT_BACK_SECONDS), wakeup)],
        step="look again",
        delivery_id=wakeup.delivery_id,
    )


def _look_again(
    result: ClaimResult | _NotLookedAt, wakeup: Wakeup, *, now: datetime, services: Services
) -> list[Wakeup]:
    """The wake-up that replaces this one; none where no further one is needed."""
    match result:
        case Claim(lapsed=lapsed):
            return (
                [_at(now + timedelta(seconds=services.lease_seconds), wakeup)] if lapsed and wakeup.after_outage else []
            )
        case Finished(next_in_order=next_id, event_id=event_id):
            # Whoever recorded the end may not have woken these.
            left = (found for found in (next_id, event_id) if found is not None)
            return [replace(_at(now, wakeup), delivery_id=found) for found in left]
        case Abandoned():
            return [_at(now + timedelta(seconds=PUT_BACK_SECONDS), wakeup)]  # in case that canceling it failed
        case _NotLookedAt():
            return [replace(_at(now + timedelta(seconds=PUT_BACK_SECONDS), wakeup), after_outage=True)]
        case NotDue(at=at):
            return [_at(at, wakeup)]
        case Missing():
            return _missed(wakeup, now=now)
        case _:
            assert_never(result)


def _at(due_at: datetime, wakeup: Wakeup) -> Wakeup:
    """As if it were the first of its delivery."""
    return Wakeup(delivery_id=wakeup.delivery_id, due_at=due_at, group=wakeup.group)


def _missed(wakeup: Wakeup, *, now: datetime) -> list[Wakeup]:
    """Its row may be committed in a moment (message first, row second). Later, it never was, or a repeat's was."""
    delay = next_miss_delay_seconds(wakeup)
    if delay is None:
        logger.info("wake-up without a delivery dropped", delivery_id=str(wakeup.delivery_id))
        return []
    later = now + timedelta(seconds=delay)
    return [Wakeup(delivery_id=wakeup.delivery_id, due_at=later, group=wakeup.group, misses=wakeup.misses + 1)]

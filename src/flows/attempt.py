"""Make the attempts that are due. Start reading here: this file is what becomes of a delivery, step by step.

    1. sort     wake-ups that are early hop on to their time without touching the database
    2. claim    one statement leases all deliveries of the batch that are due, and says of the others why not
    3. send     all at once, no transaction open; each ends in an Outcome                    (flows/prepare.py)
    4. judge    each outcome becomes a verdict: delivered, retry at, failed, held            (flows/judge.py)
    5. wake     the wake-ups of what must be looked at again are queued, before...           (flows/settle.py)
    6. record   ...one statement logs all attempts and moves their deliveries on

What ended long before the slowest of the batch is judged, woken and recorded meanwhile (flows/early_recording.py).
An outcome that the database does not take travels in a wake-up, and whoever receives that records it.

A worker that dies between 2 and 6 leaves rows in state `sending`. Their lease runs out, their message comes back, and
the next worker finds a *lapsed* claim: its request may have gone out, so it is not sent but judged as Unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from db import deliveries
from domain.deliveries import Claim, ClaimResult, Finished, Missing, NotDue
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.ids import DeliveryId
from domain.outcomes import Exchange, Unknown
from domain.wakeups import Wakeup, delay_seconds, next_miss_delay_seconds
from egress.client import EarlyResults, OutboundRequest
from flows.early_recording import EarlyRecorder
from flows.judge import JudgedAttempt, judged
from flows.prepare import prepared, seal_key
from flows.services import Services
from flows.settle import CARRY_SECONDS, Place, Recorded, queue, record_all, retries, settle
from runtime.isolation import isolated
from runtime.observability import logger

WORKER_SECONDS = 45.0  # how long the attempt function lives (template.yaml)
SETTLE_SECONDS = 14.0  # of them are kept back to queue and record what was sent, whatever partners do
PUT_BACK_SECONDS = 30  # how long to leave the database alone when it does not answer
LOST = Unknown(reason="a fault of the gateway itself; what was sent is not known")
RETRY_AFTER_SECONDS = 5
# What outcomes that came in wake-ups get of a batch: they can travel on, and what is new needs the time to be sent.
CARRIED_SECONDS = 4.0

type Due = Mapping[DeliveryId, Place]


def attempt_due(
    wakeups: Sequence[Wakeup], *, services: Services, seconds_left: float = WORKER_SECONDS
) -> frozenset[int]:
    """Makes the attempts of one batch of wake-ups, within `seconds_left`; the places of messages that must come back.

    All others are done with: whatever is still to do has a message of its own, and those must not come back, or their
    deliveries would have two. Raises QueueUnavailable where all must come back.
    """
    now = services.clock()
    end_at = now + timedelta(seconds=seconds_left)
    places = [Place(place=place, wakeup=wakeup) for place, wakeup in enumerate(wakeups)]
    early = _merged([item for item in places if delay_seconds(item.wakeup, now=now) > 0])
    arrived = [item for item in places if delay_seconds(item.wakeup, now=now) == 0]
    carried = _record_carried(
        [item for item in arrived if item.wakeup.record is not None], end_at=end_at, services=services
    )
    due = {item.wakeup.delivery_id: item for item in arrived if item.wakeup.record is None}
    found = _claim(due, now=now, services=services)
    claims = [item for item in found if isinstance(item, Claim)]
    ahead = EarlyRecorder(
        queue_retries=lambda items: queue(retries(_placed(items, due)), services=services), services=services
    )
    made = _placed(make_attempts(claims, end_at=end_at, ahead=ahead, services=services), due)
    again = [
        replace(due[item.delivery_id], wakeup=wakeup)
        for item in found
        for wakeup in _look_again(item, due[item.delivery_id].wakeup, now=now)
    ]
    back = settle(made, also=[*early, *carried, *again], ahead=ahead, end_at=end_at, services=services)
    if back and len(back) == len(wakeups):
        raise QueueUnavailable("no wake-up of the batch could be put away", retry_after_seconds=RETRY_AFTER_SECONDS)
    return back


def make_attempts(
    claims: Sequence[Claim], *, end_at: datetime, services: Services, ahead: EarlyRecorder | None = None
) -> list[JudgedAttempt]:
    """Sends what was claimed, all at once, and judges each outcome; in the order given.

    Whatever partners do, sending ends early enough before `end_at` that all can be recorded. What ends long before the
    last of them is handed to `ahead`, which has ended when this returns.
    """
    started_at = services.clock()
    key = seal_key(claims, services=services)
    within_seconds = (end_at - services.clock()).total_seconds() - SETTLE_SECONDS
    ready = [prepared(claim, key=key, within_seconds=within_seconds) for claim in claims]
    sendable = [claim for claim, item in zip(claims, ready, strict=True) if isinstance(item, OutboundRequest)]
    early = None if ahead is None else EarlyResults(report=partial(ahead.begin, sendable, started_at=started_at))
    sent = iter(_sent([item for item in ready if isinstance(item, OutboundRequest)], early=early, services=services))
    exchanges = [next(sent) if isinstance(item, OutboundRequest) else item for item in ready]
    done: Mapping[DeliveryId, JudgedAttempt] = (
        {} if ahead is None else ahead.end(until=end_at - timedelta(seconds=CARRY_SECONDS))
    )
    return [
        done.get(claim.delivery_id) or judged(claim, exchange, started_at=started_at, services=services)
        for claim, exchange in zip(claims, exchanges, strict=True)
    ]


def _merged(early: Sequence[Place]) -> list[Place]:
    """One of those for each delivery, the first that is due: a message that came twice does not hop on twice.

    Those that carry an outcome stay as they are.
    """
    firsts: dict[DeliveryId, Place] = {}
    for item in sorted(early, key=lambda item: item.wakeup.due_at, reverse=True):
        if item.wakeup.record is None:
            firsts[item.wakeup.delivery_id] = item
    return [item for item in early if item.wakeup.record is not None or firsts[item.wakeup.delivery_id] is item]


def _placed(made: Sequence[JudgedAttempt], due: Due) -> list[tuple[Place, JudgedAttempt]]:
    return [(due[item.claim.delivery_id], item) for item in made]


def _sent(requests: Sequence[OutboundRequest], *, early: EarlyResults | None, services: Services) -> Sequence[Exchange]:
    """Step 3. Where the client itself fails, nobody knows what of the batch went out."""
    return isolated(
        partial(services.client.send_all, requests, early=early),
        otherwise=lambda _: [Exchange(outcome=LOST)] * len(requests),
        step="send",
    )


def _record_carried(carried: Sequence[Place], *, end_at: datetime, services: Services) -> list[Place]:
    """Records the outcomes that came with wake-ups; what is to be queued then.

    They are given up after CARRIED_SECONDS, and travel on: however long the database takes for them, the deliveries of
    the same batch still have time to be sent.

    Where the delivery is to be tried again and the lease is over, the wake-up of that may have found it already over
    and be gone, so there is another one. An outcome that the database refuses is lost: its delivery is looked at when
    the lease is over, as that of a worker that died; where its row is gone (a database that was restored), so is that.
    """
    records = [item.wakeup.record for item in carried if item.wakeup.record is not None]
    give_up_at = min(end_at, services.clock() + timedelta(seconds=CARRIED_SECONDS + CARRY_SECONDS))
    recorded = record_all(records, end_at=give_up_at, services=services) if records else Recorded()
    if recorded is None:
        later = services.clock() + timedelta(seconds=PUT_BACK_SECONDS)
        return [replace(item, wakeup=replace(item.wakeup, due_at=later)) for item in carried]
    return [again for item in carried for again in _after_carried(item, refused=recorded.refused, services=services)]


def _after_carried(item: Place, *, refused: frozenset[DeliveryId], services: Services) -> list[Place]:
    record = item.wakeup.record
    if record is None:
        return []
    lease_over_at = record.attempt.started_at + timedelta(seconds=services.lease_seconds)
    if item.wakeup.delivery_id in refused:
        return [replace(item, wakeup=replace(item.wakeup, due_at=lease_over_at, record=None))]
    if record.due_at is None or services.clock() < lease_over_at:
        return []
    return [replace(item, wakeup=replace(item.wakeup, due_at=record.due_at, record=None))]


def _claim(due: Due, *, now: datetime, services: Services) -> list[ClaimResult]:
    """Step 2. Without a database the wake-ups are put back with a delay: an outage must not dead-letter them."""
    if not due:
        return []
    try:
        return deliveries.claim(services.database, list(due), lease=services.new_lease(now), now=now)
    except DatabaseUnavailable:
        logger.warning("the database is not available, wake-ups are put back", count=len(due))
        later = now + timedelta(seconds=PUT_BACK_SECONDS)
        return [NotDue(delivery_id=delivery_id, at=later) for delivery_id in due]


def _look_again(found: ClaimResult, wakeup: Wakeup, *, now: datetime) -> list[Wakeup]:
    """The wake-up that takes the place of this one; none where it is done with."""
    match found:
        case Claim() | Finished():
            return []
        case NotDue(at=at):
            return [Wakeup(delivery_id=wakeup.delivery_id, due_at=at, group=wakeup.group)]
        case Missing():
            return _missed(wakeup, now=now)
        case _:
            assert_never(found)


def _missed(wakeup: Wakeup, *, now: datetime) -> list[Wakeup]:
    """Its row may be committed in a moment (message first, row second); later on it never was, or was a repeat's."""
    delay = next_miss_delay_seconds(wakeup, now=now)
    if delay is None:
        logger.info("wake-up without a delivery dropped", delivery_id=str(wakeup.delivery_id))
        return []
    later = now + timedelta(seconds=delay)
    return [Wakeup(delivery_id=wakeup.delivery_id, due_at=later, group=wakeup.group, misses=wakeup.misses + 1)]

"""Attempts that were made: their retries are queued, and they are recorded, or carried until they can be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from db import attempts
from domain.deliveries import Record
from domain.errors import DatabaseUnavailable, StatementRefused
from domain.ids import DeliveryId
from domain.outcomes import Answered
from domain.retry import RetryAt
from domain.wakeups import Wakeup
from flows.early_recording import EarlyRecorder
from flows.judge import JudgedAttempt
from flows.services import Services
from runtime.deadline import OutOfTime, within
from runtime.isolation import isolated
from runtime.observability import count, logger

PAUSE_SECONDS = 1.0  # between two tries to record
CARRY_SECONDS = 8.0  # what is kept back for queueing: SQS has 5 s for a call, and a thread that hangs 2 s to end
CARRIED_AFTER_SECONDS = 10  # when whoever receives a carried outcome tries to record it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A wake-up, and the place in the batch of the message that it came in or is to stand for."""

    place: int
    wakeup: Wakeup


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a database that answers made of records: the deliveries that were moved, and those it `refused`."""

    moved: frozenset[DeliveryId] = frozenset()
    refused: frozenset[DeliveryId] = frozenset()


def settle(
    made: Sequence[tuple[Place, JudgedAttempt]],
    *,
    also: Sequence[Place],
    ahead: EarlyRecorder,
    end_at: datetime,
    services: Services,
) -> frozenset[int]:
    """Steps 5 and 6 for the attempts `made`, each with the wake-up that it was for; queues what else there is, `also`.

    The retries are queued first, so that no row is left without a message; then all is recorded. What was done `ahead`
    is not done again. What the database does not take by `end_at`, less the time for that, travels in a wake-up.

    Returns the places of messages that must come back, as SQS did not take what was to stand for them.
    """
    done = ahead.made if ahead.queued else {}
    refused = queue(
        [*also, *retries([item for item in made if item[1].claim.delivery_id not in done])], services=services
    )
    unrecorded = {
        id(item) for item in _record_rest([item for _, item in made], ahead=ahead, end_at=end_at, services=services)
    }
    now = services.clock()
    carried = [
        replace(place, wakeup=carrying(item, place.wakeup.group, now=now))
        for place, item in made
        if id(item) in unrecorded
    ]
    return refused | ahead.refused | queue(carried, services=services)


def _record_rest(
    made: Sequence[JudgedAttempt], *, ahead: EarlyRecorder, end_at: datetime, services: Services
) -> list[JudgedAttempt]:
    """Those that could not be recorded, neither ahead nor now."""
    if ahead.moved is None:
        return list(made) if ahead.stuck else record(made, end_at=end_at, services=services)
    first = [item for item in made if item.claim.delivery_id in ahead.made]
    _tell_all(first, moved=ahead.moved)
    return record([item for item in made if item not in first], end_at=end_at, services=services)


def queue(places: Sequence[Place], *, services: Services) -> frozenset[int]:
    """Queues the wake-ups; the places of those that SQS did not take, whose messages must come back."""
    left = services.queue.send_some([item.wakeup for item in places], now=services.clock())
    return frozenset(places[number].place for number in left)


def retries(made: Sequence[tuple[Place, JudgedAttempt]]) -> list[Place]:
    """The wake-ups of all next attempts."""
    return [replace(place, wakeup=wakeup) for place, item in made for wakeup in retry(item, place.wakeup.group)]


def retry(made: JudgedAttempt, group: str) -> list[Wakeup]:
    """The wake-up of the next attempt; none where there is no next one."""
    if isinstance(made.verdict, RetryAt):
        return [Wakeup(delivery_id=made.claim.delivery_id, due_at=made.verdict.at, group=group)]
    return []


def carrying(made: JudgedAttempt, group: str, *, now: datetime) -> Wakeup:
    """The wake-up that carries an outcome until it can be recorded."""
    logger.warning("an outcome travels in its wake-up", delivery_id=str(made.claim.delivery_id))
    later = now + timedelta(seconds=CARRIED_AFTER_SECONDS)
    return Wakeup(delivery_id=made.claim.delivery_id, due_at=later, group=group, record=made.record)


def record(made: Sequence[JudgedAttempt], *, end_at: datetime, services: Services) -> list[JudgedAttempt]:
    """Logs the attempts and moves their deliveries on, in one statement; those that could not be recorded in time.

    Where the database is away it is asked again until `end_at`, less what it takes to queue them instead.
    """
    if not made:
        return []
    recorded = record_all([item.record for item in made], end_at=end_at, services=services)
    if recorded is None:
        return list(made)
    _tell_all([item for item in made if item.claim.delivery_id not in recorded.refused], moved=recorded.moved)
    return [item for item in made if item.claim.delivery_id in recorded.refused]


def record_all(records: Sequence[Record], *, end_at: datetime, services: Services) -> Recorded | None:
    """None where the database did not answer in time. One record that it refuses is no fault of the others: then each
    is tried by itself, in a statement of its own."""
    try:
        moved = _moved(records, end_at=end_at, services=services)
    except StatementRefused as error:
        if len(records) > 1:
            return _one_by_one(records, end_at=end_at, services=services)
        delivery_id = records[0].attempt.delivery_id
        logger.error("an attempt was refused by the database", delivery_id=str(delivery_id), reason=str(error))
        return Recorded(refused=frozenset({delivery_id}))
    return None if moved is None else Recorded(moved=moved)


def _one_by_one(records: Sequence[Record], *, end_at: datetime, services: Services) -> Recorded:
    """Those for which no time was left count as refused too: they are still to be recorded."""
    found = {item.attempt.delivery_id: record_all([item], end_at=end_at, services=services) for item in records}
    told = [item for item in found.values() if item is not None]
    left = frozenset(delivery_id for delivery_id, item in found.items() if item is None)
    return Recorded(
        moved=frozenset(delivery_id for item in told for delivery_id in item.moved),
        refused=left.union(*(item.refused for item in told)),
    )


def _moved(records: Sequence[Record], *, end_at: datetime, services: Services) -> frozenset[DeliveryId] | None:
    """The deliveries that were moved; None where the database did not answer in time."""
    give_up_at = end_at - timedelta(seconds=CARRY_SECONDS)
    while (left_seconds := (give_up_at - services.clock()).total_seconds()) > 0:
        try:
            work = partial(attempts.record, services.database, records, now=services.clock())
            return within(left_seconds, work, cut=services.database.cut)
        except DatabaseUnavailable:
            logger.warning("the database is not available, attempts wait to be recorded", count=len(records))
            services.sleep(PAUSE_SECONDS)
        except OutOfTime:
            break
    return None


def _tell_all(made: Sequence[JudgedAttempt], *, moved: frozenset[DeliveryId]) -> None:
    for item in made:
        tell = partial(_tell, item, moved=item.claim.delivery_id in moved)
        isolated(tell, otherwise=lambda _: None, step="tell", delivery_id=str(item.claim.delivery_id))


def _tell(made: JudgedAttempt, *, moved: bool) -> None:
    """One log line and two counts per attempt."""
    outcome = made.exchange.outcome
    state = made.record.next_state
    logger.info(
        "attempt made",
        delivery_id=str(made.claim.delivery_id),
        number=made.claim.attempts_made,
        outcome=made.attempt.outcome,
        status=outcome.status if isinstance(outcome, Answered) else None,
        state=state.value,
        total_ms=round(made.exchange.timings.total_ms, 1),
    )
    count(f"Attempts{made.attempt.outcome.capitalize()}")
    if state.finished:
        count(f"Deliveries{state.value.capitalize()}")
    if not moved:
        logger.warning("the lease had passed on, only the log was written", delivery_id=str(made.claim.delivery_id))

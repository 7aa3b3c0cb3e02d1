"""After sending: retries are queued and attempts recorded. What cannot be recorded yet is carried in a wake-up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import msgspec

from db import attempts as table
from db.attempts import NextUp, Written
from domain.deliveries import Record, State, state_after
from domain.errors import DatabaseUnavailable, StatementRefused
from domain.events import event_wakeup
from domain.ids import DeliveryId
from domain.outcomes import Answered, OutcomeKind
from domain.retry import Held, RetryAt
from domain.values import value_class
from domain.wakeups import Wakeup
from flows.early_recording import EarlyRecorder
from flows.gone import note_gone
from flows.groups import group_of
from flows.judge import LAPSE_SECONDS, JudgedAttempt
from flows.services import Services
from flows.wake import send_some, wake
from runtime.deadline import OutOfTime, within
from runtime.isolation import isolated, unless_it_raises
from runtime.metrics import Metric
from runtime.observability import count, log_each, logger

PAUSE_SECONDS = 1.0  # between two attempts to record
CARRY_SECONDS = 8.0  # reserved for queueing: SQS has 5 s for a call, and a thread that hangs 2 s to end
CARRIED_AFTER_SECONDS = 10  # when whoever receives a carried outcome tries to record it
LONGEST_LEASE_SECONDS = 60.0  # since the attempt began; the lease itself has a little less (runtime/settings.py)

ATTEMPTS_BY_OUTCOME: Mapping[OutcomeKind, Metric] = {
    OutcomeKind.ANSWERED: Metric.ATTEMPTS_ANSWERED,
    OutcomeKind.UNREACHABLE: Metric.ATTEMPTS_UNREACHABLE,
    OutcomeKind.UNKNOWN: Metric.ATTEMPTS_UNKNOWN,
    OutcomeKind.REFUSED: Metric.ATTEMPTS_REFUSED,
}
DELIVERIES_BY_STATE: Mapping[State, Metric] = {
    State.DELIVERED: Metric.DELIVERIES_DELIVERED,
    State.FAILED: Metric.DELIVERIES_FAILED,
    State.UNKNOWN: Metric.DELIVERIES_UNKNOWN,
}


@value_class(frozen=True, slots=True, kw_only=True)
class BatchMessage:
    """A wake-up, and the position in the batch of the message that brought it or that it replaces."""

    position: int
    wakeup: Wakeup


@value_class(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The result of recording: the deliveries that were updated (`moved`), those the database `refused`, and those that
    waited for one of them and can go on (`woken`)."""

    moved: frozenset[DeliveryId] = frozenset()
    refused: frozenset[DeliveryId] = frozenset()
    woken: frozenset[NextUp] = frozenset()


@value_class(frozen=True, slots=True, kw_only=True)
class Rest:
    """What recording leaves to be done: attempts that could not be recorded, and deliveries that can go on."""

    unrecorded: Sequence[JudgedAttempt] = ()
    woken: frozenset[NextUp] = frozenset()


def settle(
    attempts: Sequence[tuple[BatchMessage, JudgedAttempt]],
    *,
    also: Sequence[BatchMessage],
    early_recorder: EarlyRecorder,
    end_at: datetime,
    services: Services,
) -> frozenset[int]:
    """Steps 5 and 6 for `attempts`, each with the message it was made for; queues the messages `also` as well.

    The retries are queued first, so that no row is left without a message; then all attempts are recorded. Whatever
    `early_recorder` has done is not done again. An outcome that the database does not accept before `end_at`, less the
    time that queueing takes, is carried in a wake-up.

    Returns the positions of failed messages: SQS did not accept what was to replace them.
    """
    retried = retries(
        [pair for pair in attempts if pair[1].claim.delivery_id not in early_recorder.attempts]
        if early_recorder.queued
        else attempts
    )
    failed = queue([*also, *retried], services=services)
    rest = _record_rest(
        [attempt for _, attempt in attempts], early_recorder=early_recorder, end_at=end_at, services=services
    )
    failed |= early_recorder.failed
    if rest.unrecorded:
        failed |= queue(_carried(attempts, rest.unrecorded, now=services.clock()), services=services)
    wake(rest.woken, services=services)
    return failed


def _carried(
    attempts: Sequence[tuple[BatchMessage, JudgedAttempt]], unrecorded: Sequence[JudgedAttempt], *, now: datetime
) -> list[BatchMessage]:
    delivery_ids = {attempt.claim.delivery_id for attempt in unrecorded}
    return [
        replace(message, wakeup=carrying(attempt, now=now))
        for message, attempt in attempts
        if attempt.claim.delivery_id in delivery_ids
    ]


def _record_rest(
    attempts: Sequence[JudgedAttempt], *, early_recorder: EarlyRecorder, end_at: datetime, services: Services
) -> Rest:
    """What is left after recording, early and now."""
    if early_recorder.moved is None and early_recorder.stuck:
        return Rest(unrecorded=attempts)
    if early_recorder.moved is None:
        return record(attempts, end_at=end_at, services=services)
    early = early_recorder.attempts
    _log_attempts([attempt for attempt in attempts if attempt.claim.delivery_id in early], moved=early_recorder.moved)
    rest = [attempt for attempt in attempts if attempt.claim.delivery_id not in early]
    return record(rest, end_at=end_at, services=services)


def queue(messages: Sequence[BatchMessage], *, services: Services) -> frozenset[int]:
    """Queues the wake-ups; returns the positions of those that SQS did not accept, whose messages must come back."""
    refused = send_some([message.wakeup for message in messages], services=services)
    return frozenset(messages[number].position for number in refused)


def retries(attempts: Sequence[tuple[BatchMessage, JudgedAttempt]]) -> list[BatchMessage]:
    """The wake-ups of all next attempts, and of events."""
    return [replace(message, wakeup=wakeup) for message, attempt in attempts for wakeup in next_wakeups(attempt)]


def next_wakeups(attempt: JudgedAttempt) -> list[Wakeup]:
    """Of the next attempt, and of the events that tell of this one. Where it cannot be said when that is to be,
    somebody looks once its outcome has surely been recorded."""
    wakeups = unless_it_raises(_next_wakeups, attempt)
    if wakeups is not None:
        return wakeups
    return isolated(
        partial(_next_wakeups, attempt),
        otherwise=lambda _: [_look_after_lease(attempt)],
        step="next wake-ups",
        delivery_id=attempt.claim.delivery_id,
    )


def _next_wakeups(attempt: JudgedAttempt) -> list[Wakeup]:
    tells_nothing = attempt.event_id is attempt.state_event_id is attempt.breaker_event_id is None
    return retry(attempt) if tells_nothing else [*retry(attempt), *_events(attempt)]


def _look_after_lease(attempt: JudgedAttempt) -> Wakeup:
    delivery_id = attempt.claim.delivery_id
    due_at = attempt.attempt.started_at + timedelta(seconds=LONGEST_LEASE_SECONDS)
    return Wakeup(delivery_id=delivery_id, due_at=due_at, group=str(delivery_id))


def _events(attempt: JudgedAttempt) -> list[Wakeup]:
    claim, to = attempt.claim, attempt.claim.destination.options.events_to
    ids = (attempt.event_id, attempt.state_event_id, attempt.breaker_event_id) if to is not None else ()
    return [
        event_wakeup(event_id, tenant_id=claim.tenant_id, to=to)
        for event_id in ids
        if event_id is not None and to is not None
    ]


def retry(attempt: JudgedAttempt) -> list[Wakeup]:
    """The wake-up of the next attempt, be it a question; none where there is no next one.

    A lapse has one in any case. Until it is recorded the real outcome may come, be it that the delivery is to be tried
    again; and the wake-up of that retry may be the one that found the lapse.
    """
    claim = attempt.claim
    moments = [attempt.verdict.at] if isinstance(attempt.verdict, RetryAt) else []
    if isinstance(attempt.verdict, Held) and attempt.verdict.ask_at is not None:
        moments.append(attempt.verdict.ask_at)
    if claim.lapsed and not isinstance(attempt.verdict, RetryAt):
        moments.append(attempt.attempt.started_at + timedelta(seconds=LAPSE_SECONDS))
    if not moments:
        return []
    return [Wakeup(delivery_id=claim.delivery_id, due_at=min(moments), group=group_of(claim))]


def carrying(attempt: JudgedAttempt, *, now: datetime) -> Wakeup:
    """The wake-up that carries an outcome until it can be recorded. Where there is none, the outcome is lost: somebody
    looks when the lease has ended, as after a crash."""
    return isolated(
        partial(_carrying, attempt, now=now),
        otherwise=lambda _: _look_after_lease(attempt),
        step="carry",
        delivery_id=attempt.claim.delivery_id,
    )


def _carrying(attempt: JudgedAttempt, *, now: datetime) -> Wakeup:
    claim = attempt.claim
    logger.warning("an outcome is carried in its wake-up", delivery_id=str(claim.delivery_id))
    later = now + timedelta(seconds=CARRIED_AFTER_SECONDS)
    return Wakeup(delivery_id=claim.delivery_id, due_at=later, group=group_of(claim), record=attempt.record)


def record(attempts: Sequence[JudgedAttempt], *, end_at: datetime, services: Services) -> Rest:
    """Logs the attempts and updates their deliveries, in one statement; returns what is left to be done.

    While the database is unavailable this is tried again until `end_at`, less the time it takes to queue them instead.
    """
    if not attempts:
        return Rest()
    recorded = record_all([attempt.record for attempt in attempts], end_at=end_at, services=services)
    if recorded is None:
        return Rest(unrecorded=attempts)
    if not recorded.refused:
        _log_attempts(attempts, moved=recorded.moved)
        return Rest(woken=recorded.woken)
    refused = recorded.refused
    _log_attempts([attempt for attempt in attempts if attempt.claim.delivery_id not in refused], moved=recorded.moved)
    unrecorded = [attempt for attempt in attempts if attempt.claim.delivery_id in refused]
    return Rest(unrecorded=unrecorded, woken=recorded.woken)


def record_all(records: Sequence[Record], *, end_at: datetime, services: Services) -> Recorded | None:
    """None where the database did not answer in time. Where it refuses one record, or one meets a fault of ours, each
    is tried in a statement of its own, so that the others are recorded."""
    single = records[0].attempt.delivery_id if len(records) == 1 else None
    return isolated(
        partial(_recorded, records, end_at=end_at, services=services),
        otherwise=lambda _: (
            Recorded(refused=frozenset({single}))
            if single is not None
            else _one_by_one(records, end_at=end_at, services=services)
        ),
        step="record",
        delivery_id=single,
    )


def _recorded(records: Sequence[Record], *, end_at: datetime, services: Services) -> Recorded | None:
    try:
        written = _written(records, end_at=end_at, services=services)
    except StatementRefused as error:
        if len(records) > 1:
            return _one_by_one(records, end_at=end_at, services=services)
        delivery_id = records[0].attempt.delivery_id
        logger.error("an attempt was refused by the database", delivery_id=str(delivery_id), reason=str(error))
        return Recorded(refused=frozenset({delivery_id}))
    return None if written is None else Recorded(moved=written.moved, woken=written.woken)


def _one_by_one(records: Sequence[Record], *, end_at: datetime, services: Services) -> Recorded:
    """Those for which no time was left count as refused too: they are still to be recorded."""
    results = {record.attempt.delivery_id: record_all([record], end_at=end_at, services=services) for record in records}
    answered = [result for result in results.values() if result is not None]
    out_of_time = frozenset(delivery_id for delivery_id, result in results.items() if result is None)
    return Recorded(
        moved=frozenset(delivery_id for result in answered for delivery_id in result.moved),
        refused=out_of_time.union(*(result.refused for result in answered)),
        woken=frozenset(delivery for result in answered for delivery in result.woken),
    )


def _written(records: Sequence[Record], *, end_at: datetime, services: Services) -> Written | None:
    """What the statement did; None where the database did not answer in time."""
    give_up_at = end_at - timedelta(seconds=CARRY_SECONDS)
    while (left_seconds := (give_up_at - services.clock()).total_seconds()) > 0:
        try:
            work = partial(
                table.record,
                services.database,
                records,
                now=services.clock(),
                note_gone=partial(note_gone, services=services),
            )
            return within(left_seconds, work, cut=services.database.cut)
        except DatabaseUnavailable:
            logger.warning("the database is not available, attempts wait to be recorded", count=len(records))
            services.sleep(PAUSE_SECONDS)
        except OutOfTime:
            break
    return None


def _log_attempts(attempts: Sequence[JudgedAttempt], *, moved: frozenset[DeliveryId]) -> None:
    """One log line per attempt; counts of outcomes, and of the states that deliveries ended in."""
    questions = [attempt for attempt in attempts if attempt.claim.question is not None]
    sends = [attempt for attempt in attempts if attempt.claim.question is None] if questions else attempts
    entries = unless_it_raises(lambda: [_entry(attempt) for attempt in sends])
    if entries is None:
        entries = [entry for attempt in sends if (entry := _isolated_entry(attempt)) is not None]
    log_each("attempt made", entries)
    for outcome, attempts_made in Counter([entry.outcome for entry in entries]).items():
        count(ATTEMPTS_BY_OUTCOME[outcome], attempts_made)
    for state, deliveries in Counter([entry.state for entry in entries]).items():
        if state.finished:
            count(DELIVERIES_BY_STATE[state], deliveries)
    if questions:
        _log_questions(questions, moved=moved)
    for attempt in attempts if len(moved) < len(attempts) else ():
        if attempt.claim.delivery_id not in moved:
            delivery_id = str(attempt.claim.delivery_id)
            logger.warning("another worker has the lease, only the attempt was logged", delivery_id=delivery_id)


def _log_questions(questions: Sequence[JudgedAttempt], *, moved: frozenset[DeliveryId]) -> None:
    """One log line per question that a partner was asked; counts of them, and of what they resolved."""
    entries = [entry for question in questions if (entry := _isolated_entry(question)) is not None]
    log_each("partner asked", entries)
    count(Metric.QUESTIONS_ASKED, len(entries))
    resolved = [entry for entry in entries if entry.state is not State.UNKNOWN and entry.delivery_id in moved]
    if resolved:
        count(Metric.DELIVERIES_RECONCILED, len(resolved))


class _Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the line of an attempt says of it."""

    delivery_id: DeliveryId
    number: int
    outcome: OutcomeKind
    status: int | None = None
    state: State
    total_ms: float


def _isolated_entry(judged: JudgedAttempt) -> _Entry | None:
    return isolated(partial(_entry, judged), otherwise=lambda _: None, step="log", delivery_id=judged.claim.delivery_id)


def _entry(judged: JudgedAttempt) -> _Entry:
    outcome = judged.exchange.outcome
    return _Entry(
        delivery_id=judged.claim.delivery_id,
        number=judged.claim.number,
        outcome=judged.attempt.outcome,
        status=outcome.status if isinstance(outcome, Answered) else None,
        state=state_after(judged.verdict),
        total_ms=round(judged.exchange.timings.total_ms, 1),
    )

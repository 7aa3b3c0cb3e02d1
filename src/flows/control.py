"""Control of single deliveries: resolve what is unknown, cancel, retry, and reschedule.

Message first, row second: a delivery that is to be attempted gets a wake-up before its row is changed, due after the
longest time that the change may take. A second one, due at its time, follows the change. Where that fails, the delivery
is late, not lost.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from db import control as table
from db import deliveries
from db.control import ChangedDelivery
from domain.control import CHANGED_WITHIN_SECONDS, FROM, MISSES, POSSIBLE, RESOLVED, DeliveryChange, DeliveryControl
from domain.deliveries import Delivery, Payload, Resolution, State
from domain.errors import DestinationDeleted, NotFound, PayloadGone, SallyportError, WrongState
from domain.events import event_wakeup
from domain.ids import DeliveryId, TenantId
from domain.wakeups import Wakeup, group_name
from flows.approvals import need_approval
from flows.audit import Act, Actor, audited
from flows.services import Services
from flows.wake import wake
from runtime.observability import logger

ACTS = {
    DeliveryControl.RESOLVE: "delivery.resolved",
    DeliveryControl.CANCEL: "delivery.canceled",
    DeliveryControl.RETRY: "delivery.retried",
    DeliveryControl.RESCHEDULE: "delivery.rescheduled",
}


def resolve(
    delivery_id: DeliveryId,
    resolution: Resolution,
    *,
    note: str | None,
    attempts_seen: int | None = None,
    tenant_id: TenantId,
    actor: Actor,
    services: Services,
) -> Delivery:
    """Says what became of a delivery in `unknown`, or sends it again, under the key that the partner saw. The same
    decision by the same one again changes nothing; nor does any about fewer attempts than were begun by now.

    One that has failed may be resolved as failed too, where it holds back those behind it under its ordering key.
    Raises NotFound, WrongState, DestinationDeleted, PayloadGone, DatabaseUnavailable, and QueueUnavailable where it is
    sent again.
    """
    now = services.clock()
    change = DeliveryChange(
        change_id=services.new_id(now),
        control=DeliveryControl.RESOLVE,
        becomes=RESOLVED[resolution],
        by=actor.label,
        due_at=now if resolution is Resolution.AGAIN else None,
        resolution=resolution,
        note=note,
        attempts_seen=attempts_seen,
    )
    return _made(delivery_id, change, tenant_id=tenant_id, actor=actor, now=now, services=services)


def cancel(delivery_id: DeliveryId, *, tenant_id: TenantId, actor: Actor, services: Services) -> Delivery:
    """Cancels a pending delivery, which is never sent then; one that is canceled stays as it is.

    Raises NotFound, WrongState, and DatabaseUnavailable.
    """
    now = services.clock()
    change = DeliveryChange(
        change_id=services.new_id(now), control=DeliveryControl.CANCEL, becomes=State.CANCELED, by=actor.label
    )
    return _made(delivery_id, change, tenant_id=tenant_id, actor=actor, now=now, services=services)


def retry(delivery_id: DeliveryId, *, tenant_id: TenantId, actor: Actor, services: Services) -> Delivery:
    """Makes one more attempt of a failed delivery, under the same key, or the next one of a pending delivery now.

    Raises NotFound, WrongState, DestinationDeleted, PayloadGone, DatabaseUnavailable and QueueUnavailable.
    """
    now = services.clock()
    change = DeliveryChange(
        change_id=services.new_id(now),
        control=DeliveryControl.RETRY,
        becomes=State.PENDING,
        by=actor.label,
        due_at=now,
    )
    return _made(delivery_id, change, tenant_id=tenant_id, actor=actor, now=now, services=services)


def reschedule(
    delivery_id: DeliveryId, not_before: datetime | None, *, tenant_id: TenantId, actor: Actor, services: Services
) -> Delivery:
    """Moves the next attempt of a pending delivery to `not_before`; None, and what is over, is now.

    Raises NotFound, WrongState, DestinationDeleted, DatabaseUnavailable and QueueUnavailable.
    """
    now = services.clock()
    change = DeliveryChange(
        change_id=services.new_id(now),
        control=DeliveryControl.RESCHEDULE,
        becomes=State.PENDING,
        by=actor.label,
        due_at=max(not_before or now, now),
    )
    return _made(delivery_id, change, tenant_id=tenant_id, actor=actor, now=now, services=services)


def possible(delivery: Delivery) -> tuple[str, ...]:
    """What may be done about a delivery now: calls below it, or members of a PATCH."""
    calls = POSSIBLE[delivery.state]
    if delivery.state is State.FAILED and delivery.ordering_key is not None:
        calls = (*calls, DeliveryControl.RESOLVE.value)
    return tuple(call for call in calls if delivery.payload not in MISSES.get(call, ()))


def _find(delivery_id: DeliveryId, *, tenant_id: TenantId, services: Services) -> Delivery:
    found = deliveries.find(services.database, tenant_id=tenant_id, delivery_id=delivery_id)
    if found is None:
        raise NotFound("delivery", str(delivery_id))
    return found


def _is_so(delivery: Delivery, change: DeliveryChange) -> bool:
    """Whether a delivery is as the change would leave it: then the call is a repeat, whose answer was lost perhaps."""
    match change.control:
        case DeliveryControl.RESOLVE:
            same = delivery.resolution is change.resolution and delivery.resolved_by == change.by
            return same and (delivery.state is not State.UNKNOWN or _went_on(delivery, change))
        case DeliveryControl.CANCEL:
            return delivery.state is State.CANCELED
        case DeliveryControl.RESCHEDULE:
            return delivery.state is State.PENDING and delivery.due_at == change.due_at
        case DeliveryControl.RETRY:
            return _went_on(delivery, change)
        case _:
            assert_never(change.control)


def _went_on(delivery: Delivery, change: DeliveryChange) -> bool:
    """Whether another attempt was begun since the change was decided on, so that it needs none."""
    return change.attempts_seen is not None and delivery.attempts_made > change.attempts_seen


def _states(delivery: Delivery, change: DeliveryChange) -> frozenset[State]:
    """From which states the change leads on."""
    releases = change.resolution is Resolution.FAILED and delivery.ordering_key is not None
    return FROM[change.control] | (frozenset({State.FAILED}) if releases else frozenset())


def _made(
    delivery_id: DeliveryId,
    change: DeliveryChange,
    *,
    tenant_id: TenantId,
    actor: Actor,
    now: datetime,
    services: Services,
) -> Delivery:
    """Makes the change, with messages before and after it, and returns the delivery as it is then.

    Raises NotFound, WrongState where its state does not allow it, DatabaseUnavailable, and QueueUnavailable.
    """
    current = _find(delivery_id, tenant_id=tenant_id, services=services)
    change = _about(current, change)
    if _is_so(current, change):
        return current
    since = _states(current, change)
    if refusal := _refusal_of(current, change, since=since):
        raise refusal
    if change.control is DeliveryControl.RESOLVE:
        need_approval("delivery.resolve", tenant_id=tenant_id, actor=actor, services=services)
    wakeups, event = _wakeups(current, change, now=now), _event(current, change, now=now, services=services)
    services.queue.send([*wakeups[:1], *event], now=now)
    details = {"as": change.resolution.value} if change.resolution else {}
    act = Act(tenant_id=tenant_id, actor=actor, what=ACTS[change.control], on=delivery_id, details=details)
    changed = audited(
        lambda: table.change(
            services.database,
            change,
            tenant_id=tenant_id,
            delivery_id=delivery_id,
            since=since,
            now=now,
            event_id=event[0].delivery_id if event else None,
        ),
        lambda done: act if done is not None and done.done else None,
        services=services,
    )
    after = _find(delivery_id, tenant_id=tenant_id, services=services)
    if changed is None or not changed.done:
        if _is_so(after, change):
            return after
        raise _refusal(after, changed)
    wake(changed.woken, services=services)
    _send(wakeups[1:], services=services)
    return after


def _wakeups(delivery: Delivery, change: DeliveryChange, *, now: datetime) -> list[Wakeup]:
    """One that finds the change made or not to be made, and one for the time that it is due, where that is before."""
    if change.due_at is None:
        return []
    group = group_name(delivery.tenant_id, delivery.destination_name)
    decided_at = now + timedelta(seconds=CHANGED_WITHIN_SECONDS)
    moments = [max(change.due_at, decided_at), *([change.due_at] if change.due_at < decided_at else [])]
    return [Wakeup(delivery_id=delivery.delivery_id, due_at=moment, group=group) for moment in moments]


def _event(delivery: Delivery, change: DeliveryChange, *, now: datetime, services: Services) -> list[Wakeup]:
    """The message of the event that tells of its end; none where it does not end, or nobody is told."""
    if delivery.events_to is None or delivery.event is not None or not change.becomes.finished:
        return []
    event_id = DeliveryId(services.new_id(now))
    return [event_wakeup(event_id, tenant_id=delivery.tenant_id, to=delivery.events_to)]


def _send(wakeups: list[Wakeup], *, services: Services) -> None:
    if services.queue.send_some(wakeups, now=services.clock()):
        logger.warning("the delivery waits for its first message", delivery_id=str(wakeups[0].delivery_id))


def _about(delivery: Delivery, change: DeliveryChange) -> DeliveryChange:
    """What leads to another attempt, or says what became of the last one, is about the delivery as it is seen now."""
    if change.attempts_seen is not None or change.control not in (DeliveryControl.RESOLVE, DeliveryControl.RETRY):
        return change
    return replace(change, attempts_seen=delivery.attempts_made)


def _refusal_of(delivery: Delivery, change: DeliveryChange, *, since: frozenset[State]) -> SallyportError | None:
    """Why the change cannot be made to the delivery as it is; None where it can."""
    if delivery.state in since and delivery.payload is not Payload.WHOLE and change.becomes is State.PENDING:
        return PayloadGone(payload=delivery.payload.value)
    is_other = change.attempts_seen not in (None, delivery.attempts_made)
    return _wrong_state(delivery) if delivery.state not in since or is_other else None


def _refusal(after: Delivery, changed: ChangedDelivery | None) -> SallyportError:
    """Why the change was not made, though it seemed possible before."""
    if changed is not None and changed.is_orphan:
        return DestinationDeleted()
    if changed is not None and changed.payload is not Payload.WHOLE:
        return PayloadGone(payload=changed.payload.value)
    return _wrong_state(after if changed is None else replace(after, state=changed.state))


def _wrong_state(delivery: Delivery) -> WrongState:
    return WrongState(noun="delivery", state=delivery.state.value, possible=possible(delivery))

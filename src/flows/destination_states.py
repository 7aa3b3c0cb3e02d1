"""Pause, resume, disable, enable and delete destinations, and what becomes of the deliveries that wait for them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from db import deliveries
from db import destinations as table
from domain.destinations import TRANSITIONS, DestinationState, ManagedDestination, Transition
from domain.errors import DatabaseUnavailable, Outdated, Unavailable, Unfinished, WrongState
from domain.events import event_wakeup
from domain.ids import DeliveryId, TenantId
from domain.values import value_class
from flows.audit import Act, Actor, audited, where_done
from flows.destinations import CHANGE_TRIES, RETRY_AFTER_SECONDS, find
from flows.services import Services
from flows.wake_waiting import wake_waiting
from runtime.observability import logger

# Deliveries are woken before and after the state is changed, until so many seconds after the call began. API Gateway
# waits for 29 s, and the last batch may take 10 s.
WAKE_BEFORE_SECONDS = 7.0
WAKE_SECONDS = 17.0
# What was woken before the change is not looked at until the change has been made.
WAKE_AHEAD_SECONDS = 15.0
CANCEL_SECONDS = 15.0
CANCEL_PAGE = 1000
ACTS = {
    Transition.PAUSE: "destination.paused",
    Transition.RESUME: "destination.resumed",
    Transition.DISABLE: "destination.disabled",
    Transition.ENABLE: "destination.enabled",
}


@value_class(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A destination that was deleted; how many of its deliveries were canceled, and how many are unfinished still."""

    destination: ManagedDestination
    canceled: int
    unfinished: int


def move(
    reference: str,
    transition: Transition,
    *,
    tenant_id: TenantId,
    reason: str | None,
    actor: Actor,
    services: Services,
) -> ManagedDestination:
    """Brings a destination into the state that `transition` leads to; one that is in it already stays as it is.

    Where it leads to active, deliveries that wait are woken: first, so that they go on whatever happens after the
    change, then those that were accepted meanwhile. Raises NotFound, WrongState, QueueUnavailable, DatabaseUnavailable,
    and Unavailable where others change it all the time.
    """
    began_at = services.clock()
    wake = partial(wake_waiting, services=services)
    woken: DeliveryId | None = None
    for _ in range(CHANGE_TRIES):
        current = find(reference, tenant_id=tenant_id, services=services)
        becomes = _state_after(current.state, transition)
        wakes = becomes is DestinationState.ACTIVE
        if wakes and current.state is not DestinationState.ACTIVE:
            end_at = began_at + timedelta(seconds=WAKE_BEFORE_SECONDS)
            woken = wake(current, ahead_seconds=WAKE_AHEAD_SECONDS, after=None, end_at=end_at)
        changed = _moved(current, becomes, reason=reason, actor=actor, services=services)
        event_id = None if changed is current else _tell(changed, services=services)
        store = partial(table.change, services.database, changed, event_id=event_id)
        if changed is current or _audited(ACTS[transition], store, changed, actor=actor, services=services):
            if wakes:
                _wake_rest(partial(wake, changed), after=woken, end_at=began_at + timedelta(seconds=WAKE_SECONDS))
            return changed
    raise _changed_by_others()


def delete(
    reference: str,
    *,
    tenant_id: TenantId,
    expected: frozenset[int] | None,
    cancel: bool,
    actor: Actor,
    services: Services,
) -> Deleted:
    """Deletes a destination; with `cancel` its pending deliveries are canceled. `expected` are the versions that it may
    be at, None for any.

    A delivery that is being sent ends as it ends; where that is another attempt, or where there is no time left here,
    it is canceled when it would be due. Raises NotFound, Outdated, Unfinished unless `cancel` is true,
    DatabaseUnavailable, and Unavailable where others change it all the time.
    """
    for _ in range(CHANGE_TRIES):
        current = find(reference, tenant_id=tenant_id, services=services)
        if expected is not None and current.version not in expected:
            raise Outdated(version=current.version)
        now = services.clock()
        remove = partial(table.delete, services.database, current, cancel=cancel, deleted_by=actor.by, now=now)
        if _audited("destination.deleted", remove, current, actor=actor, services=services):
            break
        _refuse_unfinished(current, cancel=cancel, services=services)
    else:
        raise _changed_by_others()
    if not cancel and deliveries.unfinished(services.database, current.destination_id):
        # Accepted at the same moment: that statement did not see the deletion, nor the deletion the delivery.
        restore = partial(table.restore, services.database, current, now=now)
        if _audited("destination.restored", restore, current, actor=actor, services=services):
            _refuse_unfinished(current, cancel=cancel, services=services)
        logger.error("a name was taken before its deletion was taken back", destination_id=str(current.destination_id))
    canceled = _cancel(current, services=services)
    left = deliveries.unfinished(services.database, current.destination_id)
    return Deleted(destination=current, canceled=canceled, unfinished=left)


def _state_after(state: DestinationState, transition: Transition) -> DestinationState:
    becomes = TRANSITIONS[state].get(transition)
    if becomes is None:
        possible = tuple(known.value for known, after in TRANSITIONS[state].items() if after is not state)
        raise WrongState(state=state.value, possible=possible)
    return becomes


def _moved(
    current: ManagedDestination, becomes: DestinationState, *, reason: str | None, actor: Actor, services: Services
) -> ManagedDestination:
    """The next version; `current` itself where nothing changes."""
    if becomes is current.state:
        return current
    return replace(
        current,
        state=becomes,
        state_reason=reason,
        state_changed_at=services.clock(),
        state_changed_by=actor.by,
        version=current.version + 1,
    )


def _tell(changed: ManagedDestination, *, services: Services) -> DeliveryId | None:
    """Queues the message of the event that tells of the new state; None where nobody is told."""
    to = changed.options.events_to
    if to is None or changed.state is DestinationState.ACTIVE:
        return None
    event_id = DeliveryId(services.new_id(services.clock()))
    services.queue.send([event_wakeup(event_id, tenant_id=changed.tenant_id, to=to)], now=services.clock())
    return event_id


def _wake_rest(wake: Callable[..., DeliveryId | None], *, after: DeliveryId | None, end_at: datetime) -> None:
    """Those that were not woken yet. The state is changed by now: where this fails, each has its own message."""
    try:
        wake(ahead_seconds=0.0, after=after, end_at=end_at)
    except Unavailable:
        logger.exception("deliveries wait for their own messages")


def _refuse_unfinished(destination: ManagedDestination, *, cancel: bool, services: Services) -> None:
    """Raises Unfinished where that is why the destination was not deleted."""
    count = 0 if cancel else deliveries.unfinished(services.database, destination.destination_id)
    if count:
        raise Unfinished(count=count)


def _cancel(destination: ManagedDestination, *, services: Services) -> int:
    """Cancels what is pending, a page at a time for as long as a caller can wait; returns how many."""
    end_at = services.clock() + timedelta(seconds=CANCEL_SECONDS)
    canceled = 0
    while services.clock() < end_at:
        now = services.clock()
        try:
            count = deliveries.cancel_waiting(services.database, destination.destination_id, now=now, limit=CANCEL_PAGE)
        except DatabaseUnavailable:
            logger.exception("what is pending is canceled when it is due")
            break
        canceled += count
        if count < CANCEL_PAGE:
            break
    return canceled


def _audited(
    what: str, work: Callable[[], bool], destination: ManagedDestination, *, actor: Actor, services: Services
) -> bool:
    """Does it, and writes it down where it was done."""
    act = Act(tenant_id=destination.tenant_id, actor=actor, what=what, on=destination.destination_id)
    return audited(work, where_done(act), services=services)


def _changed_by_others() -> Unavailable:
    return Unavailable("the destination is being changed by others", retry_after_seconds=RETRY_AFTER_SECONDS)

"""Ask the partner now what became of an unknown delivery, because somebody wants to know (docs/reconcile.md)."""

import math
from datetime import timedelta
from functools import partial
from typing import assert_never

from db import deliveries
from domain.deliveries import Abandoned, Claim, ClaimResult, Delivery, Finished, Missing, NotDue, State, WaitingFor
from domain.errors import (
    BeingAsked,
    DestinationDeleted,
    DestinationPaused,
    Disabled,
    NoQuestion,
    NotFound,
    NotNow,
    SallyportError,
    WrongState,
)
from domain.ids import DeliveryId, TenantId
from domain.wakeups import Wakeup, group_name
from flows import control
from flows.accept import CALL_SECONDS
from flows.audit import Act, Actor, audited
from flows.deliver import Progress, find, send_now
from flows.destinations import find as find_destination
from flows.services import Services

BUSY_SECONDS = 2
PAUSED_SECONDS = 60  # nobody knows until when it is


def ask(delivery_id: DeliveryId, *, tenant_id: TenantId, actor: Actor, services: Services) -> Progress:
    """Asks about a delivery that is unknown, whenever its next question was planned for; returns it as it is then.

    The question is one like all others, and has their limits. Whatever stops this in between, the delivery stays as it
    was, and can be asked about again when its lease is over. Raises NotFound, WrongState, NoQuestion,
    DestinationDeleted, Disabled, DestinationPaused, NotNow, BeingAsked where it is being asked about at present,
    QueueUnavailable and DatabaseUnavailable.
    """
    now = services.clock()
    current = find(delivery_id, tenant_id=tenant_id, services=services).delivery
    if current.state is not State.UNKNOWN:
        raise _wrong_state(current)
    _need_question(current, services=services)
    lease = services.new_lease(now)
    # Message first: where this stops before it records, the message finds the question that was planned.
    group = group_name(current.tenant_id, current.destination_name)
    services.queue.send([Wakeup(delivery_id=delivery_id, due_at=lease.until, group=group)], now=now)
    act = Act(tenant_id=tenant_id, actor=actor, what="delivery.asked", on=delivery_id)
    (result,) = audited(
        partial(deliveries.claim, services.database, [delivery_id], lease=lease, now=now, asks_now=True),
        lambda claimed: act if isinstance(claimed[0], Claim) and claimed[0].question else None,
        services=services,
    )
    if not isinstance(result, Claim):
        raise _refusal(result, current, services=services)
    send_now(result, answer_by=now + timedelta(seconds=CALL_SECONDS), services=services)
    return find(delivery_id, tenant_id=tenant_id, services=services)


def _need_question(delivery: Delivery, *, services: Services) -> None:
    """Raises DestinationDeleted, and NoQuestion where nobody knows how to ask."""
    try:
        destination = find_destination(str(delivery.destination_id), tenant_id=delivery.tenant_id, services=services)
    except NotFound:
        raise DestinationDeleted from None
    if destination.options.reconcile is None:
        raise NoQuestion


def _refusal(result: ClaimResult, asked: Delivery, *, services: Services) -> SallyportError:
    """Why it could not be asked about at this moment. Raises DestinationDeleted and NoQuestion."""
    match result:
        case NotDue(waiting_for=WaitingFor.DESTINATION_PAUSED):
            return DestinationPaused(reason=None, retry_after_seconds=PAUSED_SECONDS)
        case NotDue(waiting_for=WaitingFor.DESTINATION_DISABLED):
            return Disabled(reason=None)
        case NotDue(waiting_for=WaitingFor() as waiting_for, at=at):
            seconds = math.ceil((at - services.clock()).total_seconds())
            return NotNow(waiting_for=waiting_for.value, retry_after_seconds=max(1, seconds))
        case NotDue():
            return BeingAsked(retry_after_seconds=BUSY_SECONDS)
        case Finished() | Missing() | Abandoned() | Claim():
            current = find(asked.delivery_id, tenant_id=asked.tenant_id, services=services).delivery
            if current.state is State.UNKNOWN:
                _need_question(current, services=services)  # its destination was deleted, or asks no more
            return _wrong_state(current)
        case _:
            assert_never(result)


def _wrong_state(delivery: Delivery) -> WrongState:
    return WrongState(noun="delivery", state=delivery.state.value, possible=control.possible(delivery))

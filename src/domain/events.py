"""Events: what a destination is told of what becomes of the deliveries to another one, and of that one itself.

An event is a delivery like any other. Its body is made where the row is that it tells of (0026_events.sql).
"""

from datetime import timedelta

from domain.deliveries import State
from domain.ids import DeliveryId, DestinationId, TenantId, made_at
from domain.wakeups import Wakeup, group_name

# An event's idempotency key begins with this, and no caller's may: so nobody takes the place of one.
EVENT_KEY_PREFIX = "sallyport-event-"
EVENT_AFTER_SECONDS = 1  # when its row is written, which follows its message


def is_reserved(idempotency_key: str) -> bool:
    """Whether the key is one that only events have."""
    return idempotency_key.startswith(EVENT_KEY_PREFIX)


def may_end(state: State, *, attempts_made: int) -> bool:
    """Whether a delivery may have ended when an attempt is recorded that leads to `state`: also by the success of an
    earlier attempt, whose outcome came late."""
    return state.finished or attempts_made > 1


def event_wakeup(event_id: DeliveryId, *, tenant_id: TenantId, to: DestinationId) -> Wakeup:
    """The message of an event, which is queued before its row is written: at once, when its id is made."""
    due_at = made_at(event_id) + timedelta(seconds=EVENT_AFTER_SECONDS)
    return Wakeup(delivery_id=event_id, due_at=due_at, group=group_name(tenant_id, str(to)), of_event=True)

"""Control: what callers may decide about a delivery, by its state."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.deliveries import Payload, Resolution, State
from domain.values import value_class

# A call takes 29 s at the longest, and its statement 10 s after that: then a row has changed, or never does.
CHANGED_WITHIN_SECONDS = 45
# The calls under /v1/deliveries/{delivery_id} that a delivery in this state takes. None of them interrupts an attempt.
POSSIBLE: Mapping[State, tuple[str, ...]] = {
    State.PENDING: ("cancel", "retry", "not_before"),
    State.SENDING: (),
    State.DELIVERED: ("expunge",),
    State.FAILED: ("retry", "expunge"),
    State.UNKNOWN: ("resolve", "ask", "expunge"),
    State.CANCELED: ("expunge",),
}
_GONE = frozenset(Payload) - {Payload.WHOLE}
# With what is left of a payload a call has nothing to do, or nothing to send.
MISSES: Mapping[str, frozenset[Payload]] = {
    "retry": _GONE,
    "not_before": _GONE,
    "expunge": frozenset({Payload.EXPUNGED}),
}


class DeliveryControl(StrEnum):
    """What is decided about a delivery."""

    RESOLVE = "resolve"
    CANCEL = "cancel"
    RETRY = "retry"
    RESCHEDULE = "not_before"


FROM: Mapping[DeliveryControl, frozenset[State]] = {
    control: frozenset(state for state, possible in POSSIBLE.items() if control.value in possible)
    for control in DeliveryControl
}


@value_class(frozen=True, slots=True, kw_only=True)
class DeliveryChange:
    """A decision about one delivery, and the state that it leads to.

    `change_id` names this decision among all. `due_at` is when it may be attempted next, None where that stays.
    `by` is who decided: `token:<id>`. `resolution` and `note` are None unless it is resolved. With `attempts_seen` it
    is about the delivery as it was after so many attempts, and changes nothing where another one was begun since.
    """

    change_id: UUID
    control: DeliveryControl
    becomes: State
    by: str
    due_at: datetime | None = None
    resolution: Resolution | None = None
    note: str | None = None
    attempts_seen: int | None = None

    @property
    def grants_attempt(self) -> bool:
        """Whether one more attempt may be made, however many were, and however late it is."""
        return self.becomes is State.PENDING and self.control is not DeliveryControl.RESCHEDULE


RESOLVED: Mapping[Resolution, State] = {
    Resolution.DELIVERED: State.DELIVERED,
    Resolution.FAILED: State.FAILED,
    Resolution.AGAIN: State.PENDING,
}

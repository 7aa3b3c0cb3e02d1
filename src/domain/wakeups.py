"""Wake-ups: the messages that say that a delivery may have something due. They carry no content, only the id;
but for an outcome that the database could not take, which travels in one until it can."""

from dataclasses import dataclass
from datetime import datetime

from domain.deliveries import Record
from domain.ids import DeliveryId

LONGEST_DELAY_SECONDS = 900  # SQS delays a message by at most 15 minutes; further off it hops
MISS_DELAYS_SECONDS = (1, 5, 30, 120)  # how long to wait for a row that is not there (yet); then the message is dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakeup:
    """`due_at` is when to look; `group` is the fair-queue key (one per destination); `misses` counts looks without
    a row.

    `record` is an outcome that is still to be recorded; None for the wake-ups that only say that something is due.
    """

    delivery_id: DeliveryId
    due_at: datetime
    group: str
    misses: int = 0
    record: Record | None = None


def delay_seconds(wakeup: Wakeup, *, now: datetime) -> int:
    """Whole seconds that the queue should hold the message: until it is due, at most one hop."""
    remaining = (wakeup.due_at - now).total_seconds()
    return max(0, min(LONGEST_DELAY_SECONDS, -int(-remaining // 1)))

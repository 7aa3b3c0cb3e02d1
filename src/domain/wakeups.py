"""Wake-ups: the messages that say that a delivery may have something due. They carry only the delivery's id, and an
outcome that the database did not accept, until it does."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from domain.deliveries import Record, WaitingFor
from domain.ids import DeliveryId, TenantId, age_seconds
from domain.values import value_class

LONGEST_DELAY_SECONDS = 900  # SQS delays a message by at most 15 minutes; beyond that it is sent again
# A missing row is written within a moment, or while the call that made its id runs (29 s) and its statement after that
# (10 s), or never. The first look covers the usual case, so that nothing is late; the second is final.
MISS_DELAYS_SECONDS = (1, 45)
ROW_COMES_WITHIN_SECONDS = 45  # of the moment that the delivery's id was made
# Between two looks at a delivery that waits for nobody knows how long. At the longest, an idle database has time to
# pause between them.
LEAST_LOOK_SECONDS = 60
MOST_LOOK_SECONDS = 43_200
# What ends these waits wakes whom it sees waiting. It may not see one that begins to wait at the same moment, which
# therefore looks again soon.
LEAST_LOOKS: Mapping[WaitingFor, int] = defaultdict(
    lambda: LEAST_LOOK_SECONDS, {WaitingFor.CONCURRENCY: 1, WaitingFor.ORDERING: 1}
)


@value_class(frozen=True, slots=True, kw_only=True)
class Wakeup:
    """`due_at` is when to look; `group` is the fair-queue key (one per destination); `misses` counts looks without
    a row. `after_outage` says that the database was not available when it was last looked at.

    `record` is an outcome that is still to be recorded; None for the wake-ups that only say that something is due.
    `of_job` says that the id is that of a job, whose next step is due (flows/jobs.py); with `for_bus` it is that of an
    event instead, which is put on the stack's bus (flows/bus.py). `of_event` asks for such a second wake-up where the
    stack has a bus.
    """

    delivery_id: DeliveryId
    due_at: datetime
    group: str
    misses: int = 0
    after_outage: bool = False
    record: Record | None = None
    of_job: bool = False
    for_bus: bool = False
    of_event: bool = False


BUS_GROUP = "event-bus"


def for_bus(wakeup: Wakeup) -> Wakeup:
    """The wake-up by which the event of this one is put on the bus."""
    return Wakeup(
        delivery_id=wakeup.delivery_id,
        due_at=wakeup.due_at,
        group=BUS_GROUP,
        misses=wakeup.misses,
        of_job=True,
        for_bus=True,
    )


def group_name(tenant_id: TenantId, destination: str) -> str:
    """The fair-queue key of a tenant's deliveries to one destination: a slow one does not hold up the others."""
    return f"{tenant_id}:{destination}"


def next_miss_delay_seconds(wakeup: Wakeup) -> int | None:
    """When to look again for the row of a wake-up that has none, in seconds; None where none can come any more.

    How old its id is by the clock of this process says nothing: the clock of the one that made it may differ by more
    than a row takes. What counts is the time that the queue has surely held the message for, from the making of its id
    until it was due, both by the maker's clock. A wake-up that was looked for before has its due time from the one who
    looked, so the number of looks is the bound; it is one too for an id without a timestamp, or with one in the future.
    """
    held_seconds = age_seconds(wakeup.delivery_id, now=wakeup.due_at) if wakeup.misses == 0 else 0.0
    if wakeup.misses >= len(MISS_DELAYS_SECONDS) or held_seconds > ROW_COMES_WITHIN_SECONDS:
        return None
    return MISS_DELAYS_SECONDS[wakeup.misses]


def next_look(*, since: datetime, now: datetime, least_seconds: int = LEAST_LOOK_SECONDS) -> datetime:
    """When to look again at a delivery that waits `since` then: after as long as it has waited, so each step is twice
    the one before, within the bounds. Whoever ends the wait wakes it sooner."""
    waited_seconds = (now - since).total_seconds()
    return now + timedelta(seconds=min(MOST_LOOK_SECONDS, max(least_seconds, waited_seconds)))


def delay_seconds(wakeup: Wakeup, *, now: datetime) -> int:
    """Whole seconds that the queue should hold the message: until it is due, at most one hop."""
    remaining = (wakeup.due_at - now).total_seconds()
    return max(0, min(LONGEST_DELAY_SECONDS, -int(-remaining // 1)))

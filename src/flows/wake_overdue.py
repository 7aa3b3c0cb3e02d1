"""Wake overdue deliveries: their rows exist, their messages are gone.

That happens after a restore of the database, a purged queue, and dead letters that expired. An operator calls this;
nothing runs it by itself.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import batched

from db import deliveries
from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.values import value_class
from domain.wakeups import Wakeup, group_name
from flows.services import Services
from runtime.observability import logger
from wakeups.sqs import BATCH_ENTRIES, SEND_SECONDS

WORKER_SECONDS = 45.0  # how long the function may run (template.yaml)
_BATCH_SECONDS = 2 * SEND_SECONDS + 1.0  # SQS has two chances to accept a batch; the rest is for the answer


@value_class(frozen=True, slots=True, kw_only=True)
class Woken:
    """How many wake-ups were queued; `next_after` is where the next call continues, None where none are left."""

    count: int
    next_after: DeliveryId | None


def wake_overdue(
    *,
    overdue_seconds: int,
    after: DeliveryId | None,
    limit: int,
    services: Services,
    seconds_left: float = WORKER_SECONDS,
) -> Woken:
    """Queues a wake-up for up to `limit` unfinished deliveries that are overdue by more than `overdue_seconds`.

    Where SQS is too slow for `seconds_left`, or fails after it accepted some, the call ends early and `next_after` says
    how far it came. One that has a message already gets a second one, which does no harm: only one of the two can lease
    the delivery, and both are dropped when it is finished. Raises DatabaseUnavailable, and QueueUnavailable where SQS
    did not accept the first batch: then the same call is made again.
    """
    now = services.clock()
    since = now - timedelta(seconds=overdue_seconds)
    overdue = deliveries.overdue(services.database, since=since, after=after, limit=limit)
    wakeups = [
        Wakeup(
            delivery_id=delivery.delivery_id,
            due_at=now,
            group=group_name(delivery.tenant_id, delivery.destination_name),
        )
        for delivery in overdue
    ]
    count = queued_in_time(wakeups, now=now, end_at=now + timedelta(seconds=seconds_left), services=services)
    logger.info("overdue deliveries woken", count=count)
    is_last_page = count == len(overdue) < limit
    return Woken(count=count, next_after=None if is_last_page else overdue[count - 1].delivery_id)


def queued_in_time(
    wakeups: Sequence[Wakeup],
    *,
    now: datetime,
    end_at: datetime,
    services: Services,
    reserve_seconds: float = _BATCH_SECONDS,
) -> int:
    """How many of `wakeups`, from the first on, are queued before `end_at`, less what a batch may take at the most.
    Raises QueueUnavailable where none is."""
    count = 0
    for batch in batched(wakeups, BATCH_ENTRIES, strict=False):
        if count and services.clock() + timedelta(seconds=reserve_seconds) > end_at:
            break
        try:
            services.queue.send(batch, now=now)
        except QueueUnavailable as error:
            if not count:
                raise
            logger.warning("wake-ups were left", reason=str(error), count=len(wakeups) - count)
            break
        count += len(batch)
    return count

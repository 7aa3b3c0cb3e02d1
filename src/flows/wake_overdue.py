"""Wake the deliveries that stand still: their rows are there, their messages are gone.

That is so after a restore of the database, a purged queue, and dead letters that expired. For an operator to call;
nothing here looks by itself.
"""

from dataclasses import dataclass
from datetime import timedelta

from db import deliveries
from domain.ids import DeliveryId
from domain.wakeups import Wakeup, group_name
from flows.services import Services
from runtime.observability import logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """How many wake-ups were queued; `next_after` is where the next call goes on, None where none are left."""

    count: int
    next_after: DeliveryId | None


def wake_overdue(*, overdue_seconds: int, after: DeliveryId | None, limit: int, services: Services) -> Woken:
    """Queues a wake-up for up to `limit` unfinished deliveries that are overdue by more than `overdue_seconds`.

    One that has a message already gets a second one, which does no harm: only one of the two can lease the delivery,
    and both are done with when it is finished. Raises DatabaseUnavailable, and QueueUnavailable with some perhaps
    woken: then the same call is made again.
    """
    now = services.clock()
    since = now - timedelta(seconds=overdue_seconds)
    found = deliveries.overdue(services.database, since=since, after=after, limit=limit)
    wakeups = [
        Wakeup(delivery_id=item.delivery_id, due_at=now, group=group_name(item.tenant_id, item.destination_name))
        for item in found
    ]
    services.queue.send(wakeups, now=now)
    logger.info("overdue deliveries woken", count=len(found))
    return Woken(count=len(found), next_after=found[-1].delivery_id if len(found) == limit else None)

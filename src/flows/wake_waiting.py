"""Wake the deliveries that wait for their destination, once it is resumed or enabled.

Each has a message of its own, which looks again more and more rarely (domain/wakeups.py): what is not woken here is
late, not lost.
"""

from datetime import datetime, timedelta

from db import deliveries
from domain.destinations import Destination
from domain.ids import DeliveryId
from domain.wakeups import Wakeup, group_name
from flows.services import Services
from flows.wake_overdue import queued_in_time

PAGE = 500
FEW_AHEAD_SECONDS = 3.0  # what is less than a page is queued in a moment


def wake_waiting(
    destination: Destination, *, ahead_seconds: float, after: DeliveryId | None, end_at: datetime, services: Services
) -> DeliveryId | None:
    """Queues wake-ups for the deliveries to `destination` that are due, the oldest first, from the one behind `after`
    on; returns the last one that was woken, or `after` where there was none.

    They are due in `ahead_seconds`, or sooner where they are few. A page at a time, each one statement, until `end_at`;
    a batch that SQS is slow to accept may then take ten seconds more.
    Raises DatabaseUnavailable, and QueueUnavailable where SQS does not accept the first wake-up of a page.
    """
    group = group_name(destination.tenant_id, destination.name)
    while (now := services.clock()) < end_at:
        page = deliveries.waiting(services.database, destination.destination_id, now=now, after=after, limit=PAGE)
        if len(page) < PAGE:
            ahead_seconds = min(ahead_seconds, FEW_AHEAD_SECONDS)
        due_at = now + timedelta(seconds=ahead_seconds)
        wakeups = [Wakeup(delivery_id=delivery_id, due_at=due_at, group=group) for delivery_id in page]
        count = queued_in_time(wakeups, now=now, end_at=end_at, services=services, reserve_seconds=0.0)
        after = page[count - 1] if count else after
        if count < PAGE:
            break
    return after

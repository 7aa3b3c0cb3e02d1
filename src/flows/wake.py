"""Wake deliveries that waited for another one to end: for its slot, or for their turn under an ordering key.

Each has a message of its own that looks again sooner or later, so that nothing is lost where this fails.
"""

from collections.abc import Iterable

from db.attempts import NextUp
from domain.wakeups import Wakeup, group_name
from flows.services import Services
from runtime.observability import logger


def wake(waiting: Iterable[NextUp], *, services: Services) -> None:
    """Queues a wake-up for each, due at once; the oldest first, whatever order they come in."""
    now = services.clock()
    wakeups = [
        Wakeup(
            delivery_id=delivery.delivery_id,
            due_at=now,
            group=group_name(delivery.tenant_id, delivery.destination_name),
        )
        for delivery in sorted(waiting, key=lambda delivery: delivery.delivery_id)
    ]
    if wakeups and (refused := services.queue.send_some(wakeups, now=now)):
        logger.warning("deliveries look again by themselves", count=len(refused))

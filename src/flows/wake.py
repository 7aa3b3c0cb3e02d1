"""Wake deliveries that waited for another one to end: for its slot, or for their turn under an ordering key.

Each has a message of its own that looks again sooner or later, so that nothing is lost where this fails.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from db.attempts import NextUp
from domain.wakeups import Wakeup, group_name
from flows.services import Services
from runtime.isolation import isolated, unless_it_raises
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
    if wakeups and (refused := send_some(wakeups, services=services)):
        logger.warning("deliveries look again by themselves", count=len(refused))


def send_some(wakeups: Sequence[Wakeup], *, services: Services) -> frozenset[int]:
    """Queues wake-ups; returns the positions of those that were not accepted. One that meets a fault of ours counts as
    such, and keeps no other one from the queue."""
    now = services.clock()
    if not wakeups:
        return frozenset()
    refused = unless_it_raises(partial(services.queue.send_some, wakeups, now=now))
    if refused is not None:
        return refused
    return frozenset(place for place, wakeup in enumerate(wakeups) if _is_refused(wakeup, now=now, services=services))


def _is_refused(wakeup: Wakeup, *, now: datetime, services: Services) -> bool:
    return isolated(
        lambda: bool(services.queue.send_some([wakeup], now=now)),
        otherwise=lambda _: True,
        step="queue",
        delivery_id=wakeup.delivery_id,
    )

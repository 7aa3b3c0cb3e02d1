"""Put events on the stack's bus, each by a message of its own that was queued before its row. So the bus gets it
whatever becomes of its delivery, and the message goes only when the bus has taken it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from db import deliveries
from db.deliveries import EventRow
from domain.errors import DatabaseUnavailable
from domain.ids import made_at
from domain.wakeups import Wakeup, next_look, next_miss_delay_seconds
from flows.services import Services
from runtime.observability import logger
from wakeups.event_bus import BusEvent

PUT_BACK_SECONDS = 30  # how long to leave the database alone when it does not answer


def tell_bus(wakeups: Sequence[Wakeup], *, services: Services) -> list[Wakeup | None]:
    """Puts the events of these wake-ups on the bus; the wake-up that each leaves, None where nothing is left to do."""
    now = services.clock()
    if services.event_bus is None:
        logger.warning("events are not put on a bus, as the stack has none any more", count=len(wakeups))
        return [None] * len(wakeups)
    ids = [wakeup.delivery_id for wakeup in wakeups]
    try:
        stored = deliveries.events(services.database, ids)
    except DatabaseUnavailable:
        logger.warning("the database is not available, events are put on the bus later", count=len(wakeups))
        return [replace(wakeup, due_at=now + timedelta(seconds=PUT_BACK_SECONDS)) for wakeup in wakeups]
    refused = services.event_bus.put([_bus_event(event) for event in stored.values()])
    return [
        _missed(wakeup, now=now)
        if wakeup.delivery_id not in stored
        else _later(wakeup, now=now)
        if wakeup.delivery_id in refused
        else None
        for wakeup in wakeups
    ]


def _bus_event(event: EventRow) -> BusEvent:
    """With what is needed to tell events apart where several come or one comes twice: its tenant and its id."""
    detail = {"event_id": str(event.event_id), "tenant_id": str(event.tenant_id), **json.loads(event.body)}
    return BusEvent(event_id=event.event_id, kind=event.kind, at=event.created_at, detail=json.dumps(detail))


def _later(wakeup: Wakeup, *, now: datetime) -> Wakeup:
    """After as long as it has been tried, so that an idle database can pause when the bus is away for long."""
    return replace(wakeup, due_at=next_look(since=min(now, made_at(wakeup.delivery_id)), now=now))


def _missed(wakeup: Wakeup, *, now: datetime) -> Wakeup | None:
    """Its row may be committed in a moment. Later it never was, or it has been deleted."""
    delay = next_miss_delay_seconds(wakeup)
    if delay is None:
        return None
    return replace(wakeup, due_at=now + timedelta(seconds=delay), misses=wakeup.misses + 1)

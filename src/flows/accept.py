"""Accept a delivery: message first, row second.

The wake-up goes to the queue before the row is written, so that every committed row has a message, whatever crashes in
between. A message whose row was never written is dropped after a few looks (flows/attempt.py).
"""

from dataclasses import replace
from datetime import datetime

from db import deliveries
from db.deliveries import Acceptance
from domain.deliveries import NewDelivery, fingerprint
from domain.destinations import is_reference
from domain.errors import KeyReused, NotFound, QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from flows.services import Services
from runtime.metrics import Metric
from runtime.observability import count, logger

CALL_SECONDS = 28.0  # how long a call of the API may take: API Gateway answers it itself after 29 s


def accept(new: NewDelivery, *, wait_seconds: float | None, services: Services) -> Acceptance:
    """Stores a new delivery; with `wait_seconds`, leases it to the caller where it can be sent within them.

    Raises NotFound for an unknown destination, NotAllowed, Disabled, for a call that is passed through also
    DestinationPaused and NotNow, and KeyReused, QueueUnavailable and DatabaseUnavailable. In none of these cases has
    anything been accepted, unless the connection broke just as the row was committed: then the delivery is made as
    usual.
    """
    if not is_reference(new.destination):
        raise NotFound("destination", new.destination)
    now = services.clock()
    services.database.connection()  # where it is unavailable, no wake-up is needed
    delivery_id = DeliveryId(services.new_id(now))
    lease = None if wait_seconds is None else services.new_lease(now)
    first_due_at = new.not_before or now if lease is None else lease.until
    first = Wakeup(delivery_id=delivery_id, due_at=first_due_at, group=services.groups.of_new(new))
    services.queue.send([first], now=now)
    request_fingerprint = fingerprint(
        destination=new.destination, method=new.method, path=new.path, query=new.query, body=new.body
    )
    acceptance = deliveries.accept(
        services.database,
        new,
        delivery_id=delivery_id,
        fingerprint=request_fingerprint,
        now=now,
        lease=lease,
        wait_seconds=_time_to_send(wait_seconds, since=now, services=services),
    )
    if acceptance is None:
        raise NotFound("destination", new.destination)
    services.groups.remember(new, acceptance.delivery)
    if acceptance.replayed and acceptance.delivery.fingerprint != request_fingerprint:
        raise KeyReused(delivery_id=str(acceptance.delivery.delivery_id))
    if not acceptance.replayed:
        _log_accepted(acceptance)
    if wait_seconds is not None and acceptance.claim is None and not acceptance.replayed and not acceptance.is_held:
        _wake(replace(first, due_at=acceptance.turn_at or now), now=now, services=services)
    return acceptance


def _time_to_send(wait_seconds: float | None, *, since: datetime, services: Services) -> float | None:
    """How long an attempt made here may take: as long as the caller waits and this function may still run."""
    if wait_seconds is None:
        return None
    elapsed_seconds = (services.clock() - since).total_seconds()
    return min(wait_seconds, CALL_SECONDS - elapsed_seconds)


def _log_accepted(acceptance: Acceptance) -> None:
    delivery = acceptance.delivery
    logger.info("delivery accepted", delivery_id=str(delivery.delivery_id), destination=delivery.destination_name)
    count(Metric.DELIVERIES_ACCEPTED)


def _wake(wakeup: Wakeup, *, now: datetime, services: Services) -> None:
    """The first message is due after a lease that was not taken: the worker is to send the delivery, and at once or in
    its turn.

    If the queue fails now, that first message still comes: the delivery is late, not lost.
    """
    try:
        services.queue.send([wakeup], now=now)
    except QueueUnavailable:
        logger.exception("the delivery waits for its first message", delivery_id=str(wakeup.delivery_id))

"""Tokens that are for some destinations alone: the only place that keeps them within these.

What belongs to another destination is not found, as if it were another tenant's. A call that is about all destinations
is refused, and so is every call that is added later and names none in its path: it must be let through here first.
"""

from collections.abc import Mapping

from db import deliveries
from domain.errors import NotFound, Restricted
from domain.ids import DeliveryId
from handlers import wiring
from handlers.parsing import object_as_sent
from handlers.request import Request, uuid_of

DELIVERIES = "/v1/deliveries"
OPEN = "/v1/egress"  # the stack's own addresses, which belong to no destination


def keep_within(request: Request, path: str, parts: Mapping[str, str]) -> None:
    """Raises NotFound and Restricted. `path` is that of the operation, `parts` are what the call has in place of its
    parts. A delivery takes a statement to find its destination, a new one takes none."""
    if request.destinations is None or path == OPEN or path.startswith(f"{OPEN}/"):
        return
    if "destination" in parts:
        _need(parts["destination"], request)
        if request.method == "PATCH":
            _need_named(request, "events_to")
    elif "delivery_id" in parts:
        _need_delivery(parts["delivery_id"], request)
    elif path == DELIVERIES and request.method == "POST":
        _need_named(request, "destination")
    elif path == DELIVERIES and request.parameter("destination") is not None:
        _need(request.parameter("destination") or "", request)
    else:
        raise Restricted


def _need(reference: str, request: Request) -> None:
    if reference not in (request.destinations or ()):
        raise NotFound("destination", reference)


def _need_delivery(text: str, request: Request) -> None:
    delivery_id = DeliveryId(uuid_of(text, noun="delivery"))
    found = deliveries.destination_of(wiring.api().database, tenant_id=request.tenant_id, delivery_id=delivery_id)
    if found is None or str(found) not in (request.destinations or ()):
        raise NotFound("delivery", text)


def _need_named(request: Request, member: str) -> None:
    """Read as the call reads it. Raises Malformed; a destination that is no text is refused where the rest is read."""
    reference = object_as_sent(request.body).get(member)
    if isinstance(reference, str):
        _need(reference, request)

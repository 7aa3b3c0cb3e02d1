"""/v1/destinations: the third parties of a tenant."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from db import destinations as table
from domain.ids import DestinationId
from domain.scopes import MANAGE, READ
from flows import destinations as flow
from flows.audit import Actor
from flows.rotate import rotate
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.paging import CURSOR, LIMIT, cursor_of, limit_of, next_cursor
from handlers.parsing import body_as
from handlers.request import Request
from handlers.schemas.destinations import (
    DestinationBody,
    DestinationsBody,
    NewDestinationBody,
    destination_body,
    new_destination,
)
from handlers.schemas.destinations.signing import RotationBody, rotation

router = new_router()


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/destinations",
        summary="Create a destination",
        scope=MANAGE,
        body=NewDestinationBody,
        responses={201: OperationResponse(description="Created", body=DestinationBody, headers=("Location",))},
        problems=("name-taken",),
    ),
)
def create(request: Request) -> Response[Any]:
    """Its credentials are sealed and never shown again; signing secrets that were made for it are shown this once."""
    body = body_as(request.body, NewDestinationBody)
    new = new_destination(body, tenant_id=request.tenant_id, now=wiring.api().clock())
    saved = flow.create(new, own_host=request.host, actor=_actor(request), services=wiring.api())
    location = f"{request.stage_path}/v1/destinations/{saved.destination.destination_id}"
    return as_json(201, destination_body(saved.destination, texts=saved.texts), {"Location": location})


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/destinations",
        summary="List destinations, newest first",
        scope=READ,
        parameters=(LIMIT, CURSOR),
        responses={200: OperationResponse(description="A page of destinations", body=DestinationsBody)},
    ),
)
def list_destinations(request: Request) -> Response[Any]:
    """Keyset pagination."""
    limit, before = limit_of(request), cursor_of(request)
    page = table.page(
        wiring.api().database,
        tenant_id=request.tenant_id,
        before=None if before is None else DestinationId(before),
        limit=limit + 1,
    )
    shown = fitting([destination_body(destination) for destination in page[:limit]])
    following = next_cursor([destination.destination_id for destination in page], limit=len(shown))
    return as_json(200, DestinationsBody(shown, following))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/destinations/<destination>",
        summary="Show a destination",
        description="By its name or its id.",
        scope=READ,
        responses={200: OperationResponse(description="The destination", body=DestinationBody)},
        problems=("not-found",),
    ),
)
def show(request: Request, destination: str) -> Response[Any]:
    """Never its credentials."""
    return as_json(200, destination_body(flow.find(destination, tenant_id=request.tenant_id, services=wiring.api())))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/destinations/<destination>/rotate-secret",
        summary="Rotate the key of a signing scheme",
        description="The new key is given or made; a shared secret that was made is in this answer and nowhere else. "
        "The earlier keys sign until the overlap is over.",
        scope=MANAGE,
        body=RotationBody,
        responses={200: OperationResponse(description="The destination with its new key", body=DestinationBody)},
        problems=("not-found",),
    ),
)
def rotate_secret(request: Request, destination: str) -> Response[Any]:
    """Each call makes a new key: a repeat is another rotation."""
    wanted = rotation(body_as(request.body, RotationBody))
    saved = rotate(destination, wanted, tenant_id=request.tenant_id, actor=_actor(request), services=wiring.api())
    return as_json(200, destination_body(saved.destination, texts=saved.texts))


def _actor(request: Request) -> Actor:
    return Actor(by=request.token_id, source_address=request.source_address)

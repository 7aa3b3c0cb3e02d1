"""/v1/destinations: the third parties of a tenant."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from aws_lambda_powertools.event_handler import Response

from db import destinations as table
from domain.destinations import ManagedDestination, Transition
from domain.errors import Fault, InvalidRequest
from domain.ids import DestinationId
from domain.scopes import MANAGE, READ
from flows import destination_states, verify_destination
from flows import destinations as flow
from flows.rotate import rotate
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, Parameter, View, as_json, new_router, serves
from handlers.paging import CURSOR, LIMIT, cursor_of, limit_of, next_cursor
from handlers.parsing import body_as, made_of, object_as_sent
from handlers.request import Request, actor_of
from handlers.schemas.destinations import (
    JUDGED_WITH,
    STAND_INS,
    DeletedDestinationBody,
    DestinationBody,
    DestinationsBody,
    NewDestinationBody,
    ReasonBody,
    destination_body,
    new_destination,
    time_zones_of,
    urls_of,
)
from handlers.schemas.destinations.patch import DestinationPatchBody, change
from handlers.schemas.destinations.signing import RotationBody, rotation
from handlers.schemas.destinations.verify import VerificationBody, verification_body

router = new_router()

IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    description="Only if the destination is at this version still, which is the ETag of an earlier answer; * is any",
    example="*",
)
PENDING = Parameter(
    name="pending",
    place="query",
    description="cancel cancels the deliveries that are pending, instead of refusing to delete their destination",
    example="cancel",
    schema={"type": "string", "enum": ["cancel"]},
)
SHOWN = OperationResponse(description="The destination", body=DestinationBody, headers=("ETag",))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/destinations",
        summary="Create a destination",
        scope=MANAGE,
        body=NewDestinationBody,
        responses={201: OperationResponse(description="Created", body=DestinationBody, headers=("ETag", "Location"))},
        problems=("name-taken",),
    ),
)
def create(request: Request) -> Response[Any]:
    """Its credentials are sealed and never shown again; signing secrets that were made for it are shown this once."""
    new = made_of(
        request.body, NewDestinationBody, partial(_new, request), stand_ins=STAND_INS, judged_with=JUDGED_WITH
    )
    saved = flow.create(new, own_host=request.host, actor=actor_of(request), services=wiring.api())
    location = f"{request.stage_path}/v1/destinations/{saved.destination.destination_id}"
    return _shown(saved.destination, status=201, texts=saved.texts, Location=location)


def _new(request: Request, body: NewDestinationBody) -> flow.NewDestination:
    """Raises InvalidRequest with every fault."""
    now = wiring.api().clock()
    return new_destination(body, tenant_id=request.tenant_id, now=now, judge=partial(_judge, request))


def _judge(request: Request, body: NewDestinationBody) -> list[Fault]:
    services = wiring.api()
    return [
        *flow.url_faults(urls_of(body), own_host=request.host, services=services),
        *flow.zone_faults(time_zones_of(body), services=services),
        *flow.events_faults(body.events_to, tenant_id=request.tenant_id, services=services),
    ]


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
        responses={200: SHOWN},
        problems=("not-found",),
    ),
)
def show(request: Request, destination: str) -> Response[Any]:
    """Never its credentials."""
    return _shown(flow.find(destination, tenant_id=request.tenant_id, services=wiring.api()))


@serves(
    router,
    Operation(
        method="PATCH",
        path="/v1/destinations/<destination>",
        summary="Change a destination",
        description="By a JSON merge patch (RFC 7396) of what is shown: what is left out stays as it is, also what may "
        "only be written. Deliveries that are pending use the destination as it is when they are sent.",
        scope=MANAGE,
        parameters=(IF_MATCH,),
        body=DestinationPatchBody,
        body_types=("application/merge-patch+json", "application/json"),
        responses={200: SHOWN},
        problems=("not-found", "name-taken", "precondition-failed", "too-many-proposals"),
        may_wait=True,
    ),
)
def patch(request: Request, destination: str) -> Response[Any]:
    """What is shown may be sent back as it is: then nothing changes."""
    sent, services = object_as_sent(request.body), wiring.api()
    changed = flow.change(
        destination,
        tenant_id=request.tenant_id,
        expected=request.versions_expected(),
        changing=lambda current, unsealed: change(
            sent, current, unsealed=unsealed, now=services.clock(), judge=partial(_judge, request)
        ),
        own_host=request.host,
        actor=actor_of(request),
        services=services,
    )
    return _shown(changed.destination, texts=changed.texts)


@serves(
    router,
    Operation(
        method="DELETE",
        path="/v1/destinations/<destination>",
        summary="Delete a destination",
        description="Its name is free again; its deliveries can still be read, by its id. With deliveries that are not "
        "finished it is refused, unless `pending=cancel` cancels them.",
        scope=MANAGE,
        parameters=(PENDING, IF_MATCH),
        responses={200: OperationResponse(description="Deleted", body=DeletedDestinationBody)},
        problems=("not-found", "deliveries-unfinished", "precondition-failed"),
    ),
)
def delete(request: Request, destination: str) -> Response[Any]:
    """An attempt that is being made ends as it ends."""
    deleted = destination_states.delete(
        destination,
        tenant_id=request.tenant_id,
        expected=request.versions_expected(),
        cancel=_cancels(request),
        actor=actor_of(request),
        services=wiring.api(),
    )
    body = DeletedDestinationBody(
        destination_id=deleted.destination.destination_id, canceled=deleted.canceled, unfinished=deleted.unfinished
    )
    return as_json(200, body)


def _transition(transition: Transition, summary: str, description: str) -> Operation:
    return Operation(
        method="POST",
        path=f"/v1/destinations/<destination>/{transition.value}",
        summary=summary,
        description=description,
        scope=MANAGE,
        body=ReasonBody,
        body_required=False,
        responses={200: SHOWN},
        # Every state may be disabled.
        problems=("not-found",) if transition is Transition.DISABLE else ("not-found", "wrong-state"),
    )


def _move(request: Request, destination: str, *, transition: Transition) -> Response[Any]:
    reason = body_as(request.body, ReasonBody).reason if request.body else None
    moved = destination_states.move(
        destination,
        transition,
        tenant_id=request.tenant_id,
        reason=reason,
        actor=actor_of(request),
        services=wiring.api(),
    )
    return _shown(moved)


def _moving(transition: Transition) -> View:
    return partial(_move, transition=transition)


for _operation in (
    _transition(
        Transition.PAUSE,
        "Pause a destination",
        "Deliveries are accepted and wait. Nothing is sent, and no attempt is used up.",
    ),
    _transition(Transition.RESUME, "Resume a paused destination", "What waits goes on, the oldest first."),
    _transition(
        Transition.DISABLE,
        "Disable a destination",
        "New deliveries are refused, those that are pending wait. A partner's answer 410 does the same.",
    ),
    _transition(Transition.ENABLE, "Enable a disabled destination", "What waits goes on, the oldest first."),
):
    serves(router, _operation)(_moving(Transition(_operation.path.rpartition("/")[2])))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/destinations/<destination>/verify",
        summary="Verify a destination",
        description="One harmless request, now, with its credentials and its certificate: OPTIONS, or GET of the path "
        "that it says. It has no idempotency key, and no delivery and no attempt is recorded.",
        scope=MANAGE,
        responses={200: OperationResponse(description="How far the request came", body=VerificationBody)},
        problems=("not-found", "too-soon"),
    ),
)
def verify(request: Request, destination: str) -> Response[Any]:
    """Whatever its state is."""
    verified = verify_destination.verify(
        destination, tenant_id=request.tenant_id, actor=actor_of(request), services=wiring.api()
    )
    return as_json(200, verification_body(verified))


def _shown(
    destination: ManagedDestination, *, status: int = 200, texts: Mapping[str, str] | None = None, **headers: str
) -> Response[Any]:
    """`texts` are signing secrets that this very call made."""
    shown = destination_body(destination, texts=texts or {})
    return as_json(status, shown, {"ETag": f'"{destination.version}"', **headers})


def _cancels(request: Request) -> bool:
    pending = request.parameter("pending")
    if pending not in (None, "cancel"):
        raise InvalidRequest(Fault(field="pending", detail="must be cancel"))
    return pending == "cancel"


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/destinations/<destination>/rotate-secret",
        summary="Rotate the key of a signing scheme",
        description="The new key is given or made; a shared secret that was made is in this answer and nowhere else. "
        "The earlier keys sign until the overlap is over.",
        scope=MANAGE,
        parameters=(IF_MATCH,),
        body=RotationBody,
        responses={200: SHOWN},
        may_wait=True,
        problems=("not-found", "precondition-failed", "too-many-proposals"),
    ),
)
def rotate_secret(request: Request, destination: str) -> Response[Any]:
    """Each call makes a new key: a repeat is another rotation."""
    wanted = rotation(body_as(request.body, RotationBody))
    saved = rotate(
        destination,
        wanted,
        tenant_id=request.tenant_id,
        expected=request.versions_expected(),
        actor=actor_of(request),
        services=wiring.api(),
    )
    return _shown(saved.destination, texts=saved.texts)

"""/v1/stats: what became of deliveries lately, and what waits."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from domain.destinations import is_reference
from domain.errors import NotFound
from domain.ids import DestinationId
from domain.scopes import READ
from flows import tallies as flow
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, Parameter, as_json, new_router, serves
from handlers.paging import CURSOR, LIMIT, cursor_of, limit_of, next_cursor
from handlers.request import Request
from handlers.schemas.stats import StatsBody, destinations_shown

router = new_router()

DESTINATION = Parameter(
    name="destination",
    place="query",
    description="Only this destination, by name or id",
    example="partner",
    schema={"type": "string", "maxLength": 63},
)


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/stats",
        summary="Show numbers of destinations",
        description="What attempts came to in the last hour, day and 30 days, and what waits now, of each destination.",
        scope=READ,
        parameters=(DESTINATION, LIMIT, CURSOR),
        responses={200: OperationResponse(description="The numbers", body=StatsBody)},
        problems=("not-found",),
    ),
)
def show_stats(request: Request) -> Response[Any]:
    """Keyset pagination."""
    reference, limit, before = request.parameter("destination"), limit_of(request), cursor_of(request)
    if reference is not None and not is_reference(reference):
        raise NotFound("destination", reference)
    stats = flow.stats(
        tenant_id=request.tenant_id,
        reference=reference,
        before=None if before is None else DestinationId(before),
        limit=limit + 1,
        services=wiring.api(),
    )
    shown = fitting(destinations_shown(stats)[:limit])
    following = next_cursor([watched.destination_id for watched, _ in stats.destinations], limit=len(shown))
    page = StatsBody(as_of=stats.as_of, counted_until=stats.counted_until, destinations=shown, next_cursor=following)
    return as_json(200, page)

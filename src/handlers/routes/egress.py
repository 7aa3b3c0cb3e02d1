"""/v1/egress: the fixed addresses, and the results of their checks."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from domain.scopes import READ, SEND
from flows import check_egress as flow
from handlers import wiring
from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.request import Request
from handlers.schemas.egress import EgressBody, VerifiedEgressBody, egress_body, verified_egress_body

router = new_router()


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/egress",
        summary="Show the addresses that partners must allowlist",
        description=(
            "And what the outside saw of each when it was last asked, every quarter of an hour. Neither the check nor "
            "this call asks the database."
        ),
        scope=READ,
        responses={200: OperationResponse(description="The fixed addresses", body=EgressBody)},
    ),
)
def show(_request: Request) -> Response[Any]:
    """As they are published, per Availability Zone; unverified where nothing is known."""
    return as_json(200, egress_body(flow.shown(checks=wiring.egress_checks())))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/egress/verify",
        summary="Check the fixed address now",
        description=(
            "Asks an echo service over the same path as deliveries, from whichever zone serves this call, and compares "
            "the answer with all published addresses. Takes 8 s at most. It has no body, and nothing is stored."
        ),
        scope=SEND,
        responses={200: OperationResponse(description="What was seen, or why nothing was", body=VerifiedEgressBody)},
    ),
)
def verify(_request: Request) -> Response[Any]:
    """An echo service that does not answer is a verdict too, not an error of this call."""
    return as_json(200, verified_egress_body(flow.verify(checks=wiring.egress_checks())))

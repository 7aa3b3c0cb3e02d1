"""/v1/egress: the fixed addresses, and the results of their checks."""

import secrets
from typing import Any

from aws_lambda_powertools.event_handler import Response

from domain.ids import RANDOM_BYTES, uuid7
from domain.scopes import READ, SEND
from flows import check_egress as flow
from handlers import wiring
from handlers.negotiation import preferred
from handlers.operations import Operation, OperationResponse, Parameter, as_json, new_router, serves
from handlers.request import Request
from handlers.schemas.allowlist import AllowlistBody, allowlist_body
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
        method="GET",
        path="/v1/egress/allowlist",
        summary="Get what a partner's network team needs",
        description=(
            "The addresses to allow, since when they are in use, ports, versions of TLS, whom to ask and what will "
            "change: as JSON, as text or as a page to print. The bytes are signed with the stack's own key, as "
            "Standard Webhooks does (v1a). Nothing of it asks the database."
        ),
        scope=READ,
        parameters=(
            Parameter(
                name="Accept",
                place="header",
                description="application/json (the default), text/plain or text/html",
                example="application/json",
            ),
        ),
        responses={
            200: OperationResponse(
                description="The document",
                body=AllowlistBody,
                other_media_types=("text/plain", "text/html"),
                headers=("Vary", "webhook-id", "webhook-timestamp", "webhook-signature"),
                some_headers=("Content-Security-Policy", "X-Content-Type-Options"),
            )
        },
    ),
)
def show_allowlist(request: Request) -> Response[Any]:
    """In the form that Accept prefers. What is signed is what is sent."""
    from flows import allowlist as allowlist_flow  # partners ask for it now and then: no cold start needs it
    from handlers.allowlist_forms import FORMS

    sources = wiring.allowlist_sources()
    found = allowlist_flow.allowlist(sources=sources)
    media_type = preferred(request.values("accept"), tuple(FORMS))
    write, headers = FORMS[media_type]
    text = write(allowlist_body(found))
    document_id = uuid7(now=found.issued_at, randomness=secrets.token_bytes(RANDOM_BYTES))
    signature = allowlist_flow.signature(
        text.encode(), document_id=document_id, issued_at=found.issued_at, sources=sources
    )
    return Response(
        status_code=200,
        content_type=media_type if media_type == "application/json" else f"{media_type}; charset=utf-8",
        body=text,
        headers={"Vary": "Accept", **headers, **signature},
    )


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

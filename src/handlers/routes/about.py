"""What is open to everybody: liveness, the contract, and the page to read it on."""

import json
import secrets
from functools import cache
from pathlib import Path
from typing import Any

import aws_lambda_powertools.event_handler
from aws_lambda_powertools.event_handler import Response

from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.request import Request
from handlers.schemas.about import HealthBody
from runtime.version import VERSION

router = new_router()

# Powertools ships Swagger UI; its own page would need pydantic, so only the two files are taken from it.
_SWAGGER = Path(aws_lambda_powertools.event_handler.__file__).parent / "openapi" / "swagger_ui"


@serves(
    router,
    Operation(
        method="GET",
        path="/healthz",
        summary="Check that the API is up",
        scope=None,
        responses={200: OperationResponse(description="It is", body=HealthBody)},
    ),
)
def healthz(_request: Request) -> Response[Any]:
    """Does not touch the database, so that a probe never keeps it awake."""
    return as_json(200, HealthBody(status="ok", version=VERSION))


@serves(
    router,
    Operation(
        method="GET",
        path="/openapi.json",
        summary="This document",
        scope=None,
        responses={200: OperationResponse(description="OpenAPI 3.1")},
    ),
)
def openapi(request: Request) -> Response[Any]:
    """Generated from the code that serves it."""
    from handlers.openapi import document  # with all examples: a twentieth of the init, and hardly ever asked for

    body = json.dumps(document(server=request.stage_path))
    return Response(status_code=200, content_type="application/json", body=body)


@serves(
    router,
    Operation(
        method="GET",
        path="/docs",
        summary="The documentation page",
        scope=None,
        responses={
            200: OperationResponse(
                description="Swagger UI",
                media_type="text/html",
                headers=("Content-Security-Policy", "X-Content-Type-Options"),
            )
        },
    ),
)
def docs(_request: Request) -> Response[Any]:
    """Swagger UI, served whole: the page loads nothing from elsewhere and runs no script but its own."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return Response(status_code=200, content_type="text/html; charset=utf-8", body=_page(nonce), headers=headers)


@cache
def _asset(name: str) -> str:
    return (_SWAGGER / name).read_text(encoding="utf-8")


def _page(nonce: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sallyport API</title>
<style>{_asset("swagger-ui.min.css")}</style>
</head>
<body>
<div id="swagger-ui"></div>
<script nonce="{nonce}">{_asset("swagger-ui-bundle.min.js")}</script>
<script nonce="{nonce}">
SwaggerUIBundle({{
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, persistAuthorization: true,
}});
</script>
</body>
</html>
"""

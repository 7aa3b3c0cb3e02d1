"""Chalice, whose application is the handler. It checks no bodies, so plain's checks do."""

import json
import logging
from typing import Any
from uuid import UUID

from chalice import Chalice, Response
from chalice.app import ForbiddenError, NotFoundError, UnprocessableEntityError

from bench import plain

REFUSALS = {403: ForbiddenError, 404: NotFoundError, 422: UnprocessableEntityError}

app = Chalice("deliveries")
app.log.setLevel(logging.INFO)


@app.route("/v1/deliveries", methods=["POST"])
def create() -> Response:
    """Accepts a delivery."""
    request = app.current_request
    caller = request.context["authorizer"]
    key = request.headers.get("idempotency-key")
    try:
        plain.permit(caller, "send")
        new = plain.checked(request.json_body)
        row = plain.stored(caller["tenant_id"], plain.checked_key(key) if key else None, **new)
    except plain.Declined as refused:
        raise REFUSALS[refused.status](str(refused)) from refused
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnprocessableEntityError(str(error)) from error
    app.log.info("delivery %s accepted", row[0])
    return _answer(202, plain.shown(row), Location=f"{request.context['path']}/{row[0]}")


@app.route("/v1/deliveries/{delivery_id}")
def show(delivery_id: str) -> Response:
    """Shows one."""
    caller = app.current_request.context["authorizer"]
    try:
        plain.permit(caller, "read")
        return _answer(200, plain.found(UUID(delivery_id), caller["tenant_id"]))
    except plain.Declined as refused:
        raise REFUSALS[refused.status](str(refused)) from refused


def _answer(status: int, document: Any, **headers: str) -> Response:
    # Chalice would write a document too, but neither UUIDs nor times.
    body = json.dumps(document, default=plain.plain_value)
    return Response(body, {"Content-Type": "application/json", **headers}, status)

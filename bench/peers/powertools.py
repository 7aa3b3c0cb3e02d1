"""Powertools' resolver, with msgspec for JSON and for what a delivery must be; its log line is printed."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response

from bench import plain
from bench.peers.msgspec_alone import decoder, dumps, stored

app = APIGatewayRestResolver(serializer=dumps)


@app.post("/v1/deliveries")
def create() -> Response[str]:
    """Accepts a delivery."""
    event = app.current_event
    caller = event.request_context.authorizer
    plain.permit(caller, "send")
    new = decoder().decode(event.decoded_body or "")
    row = stored(caller, event.headers.get("Idempotency-Key"), new)
    print(dumps({"level": "INFO", "message": "delivery accepted", "delivery_id": row[0]}))
    location = f"{event.request_context.path}/{row[0]}"
    return Response(202, "application/json", dumps(plain.shown(row)), headers={"Location": location})


@app.get("/v1/deliveries/<delivery_id>")
def show(delivery_id: str) -> Any:
    """Shows one."""
    caller = app.current_event.request_context.authorizer
    plain.permit(caller, "read")
    return plain.found(UUID(delivery_id), caller["tenant_id"])


@app.exception_handler(plain.Declined)
def refused(error: plain.Declined) -> Response[str]:
    """As the work says."""
    return Response(error.status, "application/json", dumps({"detail": str(error)}))


@app.exception_handler(ValueError)
def invalid(error: ValueError) -> Response[str]:
    """What msgspec and the checks say."""
    return Response(422, "application/json", dumps({"detail": str(error)}))


def handler(event: dict[str, Any], context: Any) -> Any:
    """Both routes."""
    return app.resolve(event, context)

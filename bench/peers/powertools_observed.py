"""The Powertools handler with Powertools' Logger and Metrics, as its documentation sets them up."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit

from bench import plain
from bench.peers import powertools
from bench.peers.msgspec_alone import decoder, dumps, stored

app = APIGatewayRestResolver(serializer=dumps)
app.exception_handler(plain.Declined)(powertools.refused)
app.exception_handler(ValueError)(powertools.invalid)
logger = Logger()
metrics = Metrics()


@app.post("/v1/deliveries")
def create() -> Response[str]:
    """Accepts a delivery."""
    event = app.current_event
    caller = event.request_context.authorizer
    plain.permit(caller, "send")
    new = decoder().decode(event.decoded_body or "")
    row = stored(caller, event.headers.get("Idempotency-Key"), new)
    logger.info("delivery accepted", delivery_id=str(row[0]))
    metrics.add_metric(name="Accepted", unit=MetricUnit.Count, value=1)
    location = f"{event.request_context.path}/{row[0]}"
    return Response(202, "application/json", dumps(plain.shown(row)), headers={"Location": location})


@app.get("/v1/deliveries/<delivery_id>")
def show(delivery_id: str) -> Any:
    """Shows one."""
    caller = app.current_event.request_context.authorizer
    plain.permit(caller, "read")
    return plain.found(UUID(delivery_id), caller["tenant_id"])


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_REST)
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> Any:
    """Both routes."""
    return app.resolve(event, context)

"""Logs and metrics of every function: JSON lines with keys, and counts in CloudWatch's embedded metric format."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from runtime.metrics import Metric

type LambdaHandler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def _as_json(entry: dict[str, Any]) -> str:
    """A log entry as a line. Powertools' own serializer makes a new encoder for each, which takes longer than
    everything else that it does for a line."""
    return msgspec.json.encode(entry, enc_hook=str).decode()


# Service and namespace come from POWERTOOLS_SERVICE_NAME and POWERTOOLS_METRICS_NAMESPACE, as Powertools reads them.
logger = Logger(json_serializer=_as_json)
metrics = Metrics()


def count(metric: Metric, value: int = 1) -> None:
    """Adds to the count; it is written when the invocation ends."""
    metrics.add_metric(name=metric.value, unit=MetricUnit.Count, value=value)


def count_by(dimension: str, value: str) -> None:
    """Adds a dimension to the counts of this invocation, next to the service."""
    metrics.add_dimension(name=dimension, value=value)


def writes_counts(handler: LambdaHandler) -> LambdaHandler:
    """Writes what an invocation counted when it ends, however it ends.

    Powertools' own decorator warns about every invocation that counted nothing, as most calls of the API do.
    """

    @wraps(handler)
    def invoke(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            return handler(event, context)
        finally:
            if metrics.provider.metric_set:
                metrics.flush_metrics()

    return invoke

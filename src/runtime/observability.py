"""Logs and metrics of every function: JSON lines with keys, and counts in CloudWatch's embedded metric format."""

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.logger import _is_cold_start
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from runtime.emf import CountProvider
from runtime.log_lines import EACH, LineFormatter
from runtime.metrics import Metric

type LambdaHandler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]

# Service and namespace come from POWERTOOLS_SERVICE_NAME and POWERTOOLS_METRICS_NAMESPACE, as Powertools reads them.
_formatter = LineFormatter()
logger = Logger(logger_formatter=_formatter)
metrics = Metrics(provider=CountProvider())


def log_each(message: str, entries: Sequence[msgspec.Struct]) -> None:
    """Logs one line per entry, as `logger.info(message, **entry)` does, all in one write and for the work of one
    record. No entry has a key that all lines have; what is None must be left out (omit_defaults)."""
    if entries:
        logger.info(message, extra={EACH: entries}, stacklevel=3)


def count(metric: Metric, value: int = 1) -> None:
    """Adds to the count; it is written when the invocation ends."""
    metrics.provider.add_metric(name=metric.value, unit=MetricUnit.Count, value=value)


def count_by(dimension: str, value: str) -> None:
    """Adds a dimension to the counts of this invocation, next to the service."""
    metrics.add_dimension(name=dimension, value=value)


def observed(*, correlated: bool = False) -> Callable[[LambdaHandler], LambdaHandler]:
    """Decorates the handler of a function, whose modules are loaded by then: its log lines name the invocation, and
    what it counted is written when it ends, however it ends. With `correlated` the lines of a call of the API have API
    Gateway's id of it as `correlation_id`.

    It does what Powertools' inject_lambda_context(clear_state=True) and log_metrics do, without JMESPath and without a
    warning about every invocation that counted nothing, as most calls of the API do.
    """

    def decorate(handler: LambdaHandler) -> LambdaHandler:
        @wraps(handler)
        def invoke(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
            _name_invocation(context, correlation_id=_request_id(event) if correlated else None)
            try:
                return handler(event, context)
            finally:
                if metrics.provider.metric_set:
                    metrics.provider.flush_metrics()

        gc.freeze()
        gc.enable()  # handlers/__init__.py paused it
        return invoke

    return decorate


def _name_invocation(context: LambdaContext, *, correlation_id: str | None) -> None:
    """The keys of inject_lambda_context, and none of the invocation before."""
    _formatter.clear_state()
    _formatter.append_keys(
        service=logger.service,
        cold_start=_first_of_process(),
        function_name=context.function_name,
        function_memory_size=context.memory_limit_in_mb,
        function_arn=context.invoked_function_arn,
        function_request_id=context.aws_request_id,
        correlation_id=correlation_id,
    )


class _Process:
    invoked = False


_process = _Process()


def _first_of_process() -> bool:
    """Whether this invocation began with an init, as Powertools says it; asked once, for what it reads stays."""
    first, _process.invoked = not _process.invoked and _is_cold_start(), True
    return first


def _request_id(event: Mapping[str, Any]) -> str | None:
    """API Gateway's id of a call; None where the event is none."""
    request_context = event.get("requestContext")
    found: str | None = request_context.get("requestId") if isinstance(request_context, dict) else None
    return found

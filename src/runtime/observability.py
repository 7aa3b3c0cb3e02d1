"""Logs and metrics of every function: JSON lines with keys, and counts in CloudWatch's embedded metric format."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

# Service and namespace come from POWERTOOLS_SERVICE_NAME and POWERTOOLS_METRICS_NAMESPACE, as Powertools reads them.
logger = Logger()
metrics = Metrics()


def count(name: str, value: int = 1) -> None:
    """Adds to the count `name`; it is written when the invocation ends."""
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)

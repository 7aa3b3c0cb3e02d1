"""Counts in CloudWatch's embedded metric format, as Powertools writes them with a tenth of its work: a provider for its
Metrics. What it checks at each count cannot be wrong here, where names and units are members of enumerations.
"""

import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.constants import MAX_METRICS
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.metric_properties import MetricResolution, MetricUnit

if TYPE_CHECKING:
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.types import CloudWatchEMFOutput

_RESOLUTION_SECONDS = 60  # CloudWatch's standard, which the format leaves out


class CountProvider(AmazonCloudWatchEMFProvider):
    """Collects counts of one invocation, with the same dimensions for all of them."""

    def add_metric(
        self, name: str, unit: MetricUnit | str, value: float, resolution: MetricResolution | int = _RESOLUTION_SECONDS
    ) -> None:
        """Adds a value; all are written when CloudWatch would accept no further one in the same line."""
        if name not in self.metric_set:
            self.metric_set[name] = {"Unit": MetricUnit(unit).value, "StorageResolution": resolution, "Value": []}
        values: list[float] = self.metric_set[name]["Value"]
        values.append(float(value))
        if len(self.metric_set) == MAX_METRICS or len(values) == MAX_METRICS:
            self._write()
            self.metric_set.clear()

    def serialize_metric_set(
        self,
        metrics: dict[str, Any] | None = None,
        dimensions: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> "CloudWatchEMFOutput":
        """What is written; as Powertools makes it, where there is more than counts to write."""
        if metrics is not None or dimensions is not None or metadata is not None or not self._only_counts:
            return super().serialize_metric_set(metrics, dimensions, metadata)
        service = {"service": self.service} if self.service else {}
        every_dimension = self.dimension_set | service
        names = [{"Name": name, "Unit": metric["Unit"]} for name, metric in self.metric_set.items()]
        written = {"Namespace": self.namespace, "Dimensions": [list(every_dimension)], "Metrics": names}
        line: Any = {
            "_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [written]},
            **every_dimension,
            **{name: metric["Value"] for name, metric in self.metric_set.items()},
        }
        return line  # type: ignore[no-any-return]

    def flush_metrics(self, raise_on_empty_metrics: bool = False) -> None:
        """Writes all counts, and forgets them with their dimensions."""
        if not self.metric_set:
            super().flush_metrics(raise_on_empty_metrics)
            return
        self._write()
        self.clear_metrics()

    @property
    def _only_counts(self) -> bool:
        return bool(self.metric_set and self.namespace) and not (
            self.timestamp or self.metadata_set or self.dimension_sets
        )

    def _write(self) -> None:
        sys.stdout.write(f"{msgspec.json.encode(self.serialize_metric_set()).decode()}\n")

"""Lines and counts: exactly those of Powertools' own formatter and provider."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.constants import MAX_METRICS
from hypothesis import given
from hypothesis import strategies as st

from domain.deliveries import State
from local.environment import Context
from runtime.emf import CountProvider
from runtime.log_lines import LineFormatter, as_json
from runtime.metrics import Metric
from runtime.observability import count, log_each, logger, metrics, observed

KEYS = {"service": "sallyport", "cold_start": False, "function_name": "api", "correlation_id": None}
TEXT = st.text(st.characters(codec="utf-8"))


def record(message: object = "a delivery was accepted", *args: object, **keys: object) -> logging.LogRecord:
    return logging.getLogger("x").makeRecord(
        "x", logging.INFO, "/a/file.py", 7, message, args, None, "function", extra=keys
    )


def formatters() -> tuple[LambdaPowertoolsFormatter, LineFormatter]:
    theirs, ours = LambdaPowertoolsFormatter(json_serializer=as_json), LineFormatter()
    for formatter in (theirs, ours):
        formatter.clear_state()
        formatter.append_keys(**KEYS)
    return theirs, ours


@pytest.mark.parametrize(
    "made",
    [
        record(),
        record(delivery_id="1", status=None, count=3, nested={"a": [1, 2.5, None]}),
        record("with %s", "arguments"),
        record({"a": "dictionary"}),
        record(thrown=ValueError("an object of any kind")),
    ],
)
def test_a_line_is_the_one_of_powertools(made: logging.LogRecord) -> None:
    theirs, ours = formatters()
    assert ours.format(made) == theirs.format(made)


def test_an_exception_is_written_as_powertools_does() -> None:
    theirs, ours = formatters()
    made = record()
    try:
        raise ValueError("seven")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = json.loads(ours.format(made))
    assert line == json.loads(theirs.format(made))
    assert line["exception_name"] == "ValueError"


@given(moment=st.floats(min_value=0, max_value=4e9), value=TEXT)
def test_times_and_values_are_written_as_powertools_does(moment: float, value: str) -> None:
    theirs, ours = formatters()
    made = record(value=value)
    made.created, made.msecs = moment, float(int(moment * 1000) % 1000)
    assert ours.format(made) == theirs.format(made)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Chatham"])
def test_the_time_is_local_in_every_zone(
    zone: str, monkeypatch: pytest.MonkeyPatch, restored_zone: Callable[[], None]
) -> None:
    monkeypatch.setenv("TZ", zone)
    restored_zone()
    theirs, ours = formatters()
    for moment in (0.0, 1_774_745_999.5, 1_774_746_000.25, 1_792_890_000.0, 1_792_893_600.999):
        made = record()
        made.created, made.msecs = moment, float(int(moment * 1000) % 1000)
        assert ours.formatTime(made) == theirs.formatTime(made)


def test_the_zone_is_asked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    asked: list[float] = []

    def asking(moment: float) -> time.struct_time:
        asked.append(moment)
        return time.gmtime(moment)

    monkeypatch.setattr(time, "localtime", asking)
    _, ours = formatters()
    minute = 1_774_746_000
    for moment in (minute, minute + 30, minute + 59, minute + 60, minute + 119, minute + 60):
        made = record()
        made.created = float(moment)
        ours.formatTime(made)
    assert asked == [minute, minute + 60]


@pytest.fixture
def restored_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Makes the C library read TZ; afterwards again, with what it was before."""
    import time

    yield time.tzset
    monkeypatch.undo()
    time.tzset()


def test_keys_of_one_invocation_are_not_in_the_lines_of_the_next() -> None:
    _, ours = formatters()
    ours.append_keys(tenant="acme", order="1")
    ours.remove_keys(["order"])
    assert {"tenant", "function_name"} <= json.loads(ours.format(record())).keys()
    assert "order" not in json.loads(ours.format(record()))
    ours.clear_state()
    assert not {"tenant", "function_name"} & json.loads(ours.format(record())).keys()


def test_each_invocation_names_its_own_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = formatters()
    for root in ("1-a", "1-b"):
        monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={root};Parent=2;Sampled=1")
        ours.clear_state()
        assert json.loads(ours.format(record()))["xray_trace_id"] == root


class Entry(msgspec.Struct, omit_defaults=True):
    delivery_id: UUID | None = None
    status: int | None = None
    state: State | None = None
    total_ms: float | None = None
    note: str | None = None


ENTRIES = [
    Entry(delivery_id=UUID(int=7), status=200, state=State.DELIVERED, total_ms=1.5),
    Entry(delivery_id=UUID(int=8), note="a line\nbreak, \u2028 and \x85"),
    Entry(),
]


@pytest.mark.parametrize("trace", [None, "1-a"])
def test_several_lines_at_once_are_those_of_one_by_one(monkeypatch: pytest.MonkeyPatch, trace: str | None) -> None:
    if trace:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", f"Root={trace};Parent=2;Sampled=1")
    _, ours = formatters()
    together, *single = (record(each=ENTRIES), *(record(**msgspec.structs.asdict(entry)) for entry in ENTRIES))
    for made in single:
        made.created, made.msecs = together.created, together.msecs
    assert ours.format(together).split("\n") == [ours.format(made) for made in single]


def test_several_lines_name_the_place_that_logged_them(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", written)
    log_each("seen", ENTRIES)
    log_each("nothing", [])
    lines = [json.loads(line) for line in written.getvalue().removesuffix("\n").split("\n")]
    assert [line["message"] for line in lines] == ["seen"] * len(ENTRIES)
    assert {line["location"].partition(":")[0] for line in lines} == {
        "test_several_lines_name_the_place_that_logged_them"
    }


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_what_a_handler_counted_is_written_however_it_ends(
    ends: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "namespace", "Sallyport")

    @observed()
    def handler(_event: dict[str, Any], _context: Any) -> dict[str, Any]:
        count(Metric.DELIVERIES_ACCEPTED, 2)
        if ends != "well":
            raise ValueError
        return {}

    context: Any = Context(function_name="x", memory_limit_in_mb="128", aws_request_id="r", deadline=1e12)
    try:
        handler({}, context)
    except ValueError:
        assert ends != "well"
    assert json.loads(capsys.readouterr().out)["DeliveriesAccepted"] == [2.0]
    assert {name: logger.get_current_keys()[name] for name in context_keys(context)} == context_keys(context)


def context_keys(context: Any) -> dict[str, object]:
    """What each line says of its invocation: all that Powertools' inject_lambda_context adds, and nothing of before."""
    return {
        "service": logger.service,
        "cold_start": logger.get_current_keys()["cold_start"],
        "function_name": context.function_name,
        "function_memory_size": context.memory_limit_in_mb,
        "function_arn": context.invoked_function_arn,
        "function_request_id": context.aws_request_id,
        "correlation_id": None,
    }


def test_counts_are_written_as_powertools_does(capsys: pytest.CaptureFixture[str]) -> None:
    written = [_counts(provider, capsys) for provider in (AmazonCloudWatchEMFProvider, CountProvider)]
    assert written[0] == written[1]
    assert len(written[0]) == 3


def _counts(kind: type[AmazonCloudWatchEMFProvider], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What it writes of many counts of one, and after them a line with another dimension."""
    provider = kind(namespace="Sallyport", service="sallyport")
    for number in range(MAX_METRICS + 5):
        provider.add_metric("A", MetricUnit.Count, number)
    provider.add_metric("B", "Count", 1)
    provider.flush_metrics()
    provider.add_dimension("zone", "eu-central-1a")
    provider.add_metric("C", MetricUnit.Count, 7)
    provider.flush_metrics()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        assert line["_aws"].pop("Timestamp") > 1_700_000_000_000
    return lines


def test_metadata_and_further_dimensions_are_left_to_powertools(capsys: pytest.CaptureFixture[str]) -> None:
    provider = CountProvider(namespace="Sallyport", service="sallyport")
    provider.add_metric("A", MetricUnit.Count, 1)
    provider.add_metadata("request", "r")
    provider.add_dimensions(zone="a")
    provider.flush_metrics()
    line = json.loads(capsys.readouterr().out)
    assert line["request"] == "r"
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"], ["zone"]]

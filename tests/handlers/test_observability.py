"""What an invocation writes: one line of counts, and none where nothing was counted."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.egress.servers import Partner, Script
from tests.support.api import Api
from tests.support.partners import answers


def counts(written: str) -> list[dict[str, Any]]:
    """The lines in CloudWatch's embedded metric format."""
    return [line for line in map(json.loads, written.splitlines()) if "_aws" in line]


def test_a_call_that_counts_nothing_writes_no_counts(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert api.get("/healthz").status == 200
    assert counts(capsys.readouterr().out) == []


def test_what_a_call_counts_is_written_once(
    api: Api, partner: Callable[[Script], Partner], capsys: pytest.CaptureFixture[str]
) -> None:
    api.destination(partner(answers(200)).url())
    capsys.readouterr()
    api.create_delivery(("Prefer", "wait=5"))
    (line,) = counts(capsys.readouterr().out)
    assert (line["DeliveriesAccepted"], line["AttemptsAnswered"], line["DeliveriesDelivered"]) == ([1.0], [1.0], [1.0])
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Sallyport"

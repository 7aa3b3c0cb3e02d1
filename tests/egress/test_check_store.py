"""The results of the check are stored in SSM, and shown without asking it for every call."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import boto3
import pytest

from domain.checks import Check, CheckStatus
from domain.errors import ChecksUnavailable
from egress.check_store import CACHED_FOR, INCOMPLETE_CACHED_FOR, CheckStore
from runtime.settings import CheckSettings
from tests.egress.servers import Line, Partner, Script
from tests.support.gateway import REGION

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
GOOD = Check(
    published="203.0.113.10", verdict=CheckStatus.MATCHES, seen="203.0.113.10", checked_at=NOW, verified_at=NOW
)
BAD = Check(published="203.0.113.11", verdict=CheckStatus.FAILED, reason="no connection", checked_at=NOW)
ZONES = ("eu-central-1a", "eu-central-1b")


@pytest.fixture
def settings(ssm_url: str, aws_credentials: None) -> CheckSettings:
    """SSM as moto has it, with a path of this test's own."""
    return CheckSettings(egress_results_path=f"/sallyport/{uuid4()}/egress", ssm_endpoint_url=ssm_url)


@pytest.fixture
def ssm(ssm_url: str) -> Any:
    """The same SSM through boto3."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("ssm", endpoint_url=ssm_url, region_name=REGION, **keys)
    yield client
    client.close()


def test_what_is_stored_is_read_back(settings: CheckSettings) -> None:
    store = CheckStore(settings)
    store.store("eu-central-1a", GOOD)
    store.store("eu-central-1b", BAD)
    assert store.results(ZONES) == {"eu-central-1a": GOOD, "eu-central-1b": BAD}


def test_the_last_result_of_a_zone_is_the_one_that_counts(settings: CheckSettings) -> None:
    store = CheckStore(settings)
    for check in (BAD, GOOD):
        store.store("eu-central-1a", check)
    assert store.results(ZONES) == {"eu-central-1a": GOOD}


def test_a_result_is_readable_for_people_too(settings: CheckSettings, ssm: Any) -> None:
    CheckStore(settings).store("eu-central-1a", GOOD)
    found = ssm.get_parameter(Name=f"{settings.egress_results_path}/eu-central-1a")["Parameter"]
    assert found["Type"] == "String"
    assert json.loads(found["Value"]) == {
        "published": "203.0.113.10",
        "verdict": "matches",
        "seen": "203.0.113.10",
        "reason": None,
        "checked_at": "2026-11-01T12:00:00Z",
        "verified_at": "2026-11-01T12:00:00Z",
        "since": None,
    }


@pytest.mark.parametrize(
    "value",
    [
        "not checked yet",
        "{}",
        "[1]",
        '{"published": 1, "verdict": "matches"}',
        '{"published": "203.0.113.10", "verdict": "matches", "checked_at": "2026-11-01T12:00:00"}',
    ],
)
def test_what_is_no_result_counts_as_none(settings: CheckSettings, ssm: Any, value: str) -> None:
    ssm.put_parameter(Name=f"{settings.egress_results_path}/eu-central-1a", Value=value, Type="String")
    assert CheckStore(settings).results(ZONES) == {}
    CheckStore(settings).store("eu-central-1a", GOOD)
    assert CheckStore(settings).results(ZONES) == {"eu-central-1a": GOOD}


def test_two_zones_at_once_do_not_disturb_each_other(settings: CheckSettings) -> None:
    store = CheckStore(settings)
    with ThreadPoolExecutor(2) as both:
        for _ in range(5):
            list(both.map(store.store, ZONES, (GOOD, BAD)))
    assert store.results(ZONES) == {"eu-central-1a": GOOD, "eu-central-1b": BAD}


def test_showing_asks_ssm_again_after_half_a_minute(settings: CheckSettings) -> None:
    store = CheckStore(settings)
    for zone in ZONES:
        store.store(zone, GOOD)
    assert store.cached_results(ZONES, now=NOW) == dict.fromkeys(ZONES, GOOD)
    store.store("eu-central-1a", replace(GOOD, verdict=CheckStatus.DIFFERS))
    assert (
        store.cached_results(ZONES, now=NOW + CACHED_FOR - timedelta(seconds=1))["eu-central-1a"].verdict
        is CheckStatus.MATCHES
    )
    assert store.cached_results(ZONES, now=NOW + CACHED_FOR)["eu-central-1a"].verdict is CheckStatus.DIFFERS
    store.store("eu-central-1a", GOOD)
    assert (
        store.cached_results(ZONES, now=NOW)["eu-central-1a"].verdict is CheckStatus.MATCHES
    )  # a clock that was set back


def test_the_first_result_of_a_zone_is_shown_soon(settings: CheckSettings) -> None:
    store = CheckStore(settings)
    store.store("eu-central-1a", GOOD)
    assert store.cached_results(ZONES, now=NOW) == {"eu-central-1a": GOOD}
    store.store("eu-central-1b", BAD)
    assert store.cached_results(ZONES, now=NOW) == {"eu-central-1a": GOOD}
    assert store.cached_results(ZONES, now=NOW + INCOMPLETE_CACHED_FOR) == {"eu-central-1a": GOOD, "eu-central-1b": BAD}


def test_callers_do_not_wait_one_after_the_other_for_an_ssm_that_is_out_of_reach(
    partner: Callable[[Script], Partner], aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egress.check_store._SECONDS", 0.2)
    there = partner(hangs)
    store = CheckStore(CheckSettings(egress_results_path="/x", ssm_endpoint_url=there.url("")))
    for moment in (NOW, NOW + INCOMPLETE_CACHED_FOR / 2):
        with pytest.raises(ChecksUnavailable, match=r"not available: ConnectionFailed$"):
            store.cached_results(ZONES, now=moment)
    asked = there.connections
    with pytest.raises(ChecksUnavailable, match=r"not available: ConnectionFailed$"):
        store.cached_results(ZONES, now=NOW + INCOMPLETE_CACHED_FOR)
    assert (asked, there.connections > asked) == (1, True)


def hangs(line: Line) -> None:
    line.read_request()
    line.hang()


def denies(line: Line) -> None:
    body = b'{"__type": "AccessDeniedException", "message": "User: arn:aws:sts::1:assumed-role/x is not authorized"}'
    while line.read_request():
        line.send(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize(("script", "code"), [(hangs, "ConnectionFailed"), (denies, "AccessDeniedException")])
def test_an_ssm_that_does_not_answer_is_reported_by_its_code_alone(
    partner: Callable[[Script], Partner],
    aws_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    code: str,
) -> None:
    monkeypatch.setattr("egress.check_store._SECONDS", 0.2)
    store = CheckStore(CheckSettings(egress_results_path="/x", ssm_endpoint_url=partner(script).url("")))
    for ask in (
        lambda: store.results(ZONES),
        lambda: store.store("eu-central-1a", GOOD),
        lambda: store.cached_results(ZONES, now=NOW),
    ):
        with pytest.raises(ChecksUnavailable, match=f"not available: {code}$"):
            ask()

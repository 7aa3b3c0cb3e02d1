"""The egress check: asked, counted, logged and stored, in this order."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from domain.checks import Check, CheckStatus
from domain.errors import ChecksUnavailable
from egress.addresses import Guard
from egress.check_store import CheckStore
from egress.client import Client
from flows.check_egress import EgressChecks, check, shown, verify
from runtime.observability import metrics
from runtime.settings import CheckSettings, EgressAddress, SettingsError
from tests.egress.servers import Partner, Script
from tests.support.gateway import Clock
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
ZONE, OTHER_ZONE = "eu-central-1a", "eu-central-1b"
OURS, OTHERS = "203.0.113.10", "203.0.113.11"
PUBLISHED = (
    EgressAddress(availability_zone=ZONE, address=OURS),
    EgressAddress(availability_zone=OTHER_ZONE, address=OTHERS),
)


@pytest.fixture
def clock() -> Clock:
    return Clock(now=NOW)


@pytest.fixture
def checks(ssm_url: str, aws_credentials: None, clock: Clock) -> Iterator[EgressChecks]:
    """The real client and SSM's API; the echo service is the test's to name."""
    settings = CheckSettings(egress_results_path=f"/sallyport/{uuid4()}/egress", ssm_endpoint_url=ssm_url)
    guard = Guard(allowed_private_cidrs=[ip_network("127.0.0.0/8")], allowed_ports=range(1, 65536))
    client = Client(guard)
    yield EgressChecks(
        client=client, store=CheckStore(settings), echo_url="http://127.0.0.1:1/", addresses=PUBLISHED, clock=clock
    )
    client.close()
    metrics.clear_metrics()


def asking(checks: EgressChecks, there: Partner) -> EgressChecks:
    return replace(checks, echo_url=there.url("/"))


def counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The line that the invocation would write."""
    monkeypatch.setattr(metrics, "namespace", "Sallyport")
    monkeypatch.setattr(metrics, "service", "sallyport")
    capsys.readouterr()
    metrics.flush_metrics()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert isinstance(line, dict)
    return line


def test_an_address_that_matches_is_counted_and_kept(
    checks: EgressChecks, partner: StartPartner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(ZONE, checks=asking(checks, partner(answers(200, f"{OURS}\n".encode()))))
    assert found == Check(
        published=OURS, verdict=CheckStatus.MATCHES, seen=OURS, checked_at=NOW, verified_at=NOW, since=NOW
    )
    assert checks.store.results([ZONE]) == {ZONE: found}
    line = counted(capsys, monkeypatch)
    assert (line["EgressAddressMatches"], line["EgressCheckFailed"]) == ([1.0], [0.0])
    (metric,) = line["_aws"]["CloudWatchMetrics"]
    assert metric["Namespace"] == "Sallyport"
    assert [sorted(names) for names in metric["Dimensions"]] == [["service", "zone"]]
    assert (line["service"], line["zone"]) == ("sallyport", ZONE)


def test_the_address_of_the_other_zone_is_a_wrong_one_here(
    checks: EgressChecks, partner: StartPartner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check(ZONE, checks=asking(checks, partner(answers(200, OTHERS.encode()))))
    assert (found.verdict, found.seen) == (CheckStatus.DIFFERS, OTHERS)
    line = counted(capsys, monkeypatch)
    assert (line["EgressAddressMatches"], line["EgressCheckFailed"]) == ([0.0], [0.0])


@pytest.mark.parametrize("script", [answers(503), answers(200, b"hello")])
def test_a_service_that_gives_no_address_counts_as_a_failed_check_and_not_as_a_wrong_address(
    checks: EgressChecks,
    partner: StartPartner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
) -> None:
    found = check(ZONE, checks=asking(checks, partner(script)))
    assert (found.verdict, found.seen) == (CheckStatus.FAILED, None)
    line = counted(capsys, monkeypatch)
    assert line["EgressCheckFailed"] == [1.0]
    assert "EgressAddressMatches" not in line


def test_a_failed_check_keeps_when_the_address_was_last_verified(
    checks: EgressChecks, partner: StartPartner, clock: Clock
) -> None:
    there = asking(checks, partner(answers(200, OURS.encode())))
    check(ZONE, checks=there)
    clock.forward(900)
    check(ZONE, checks=checks)
    ((_, first), (_, second)) = shown(checks=checks)
    assert (first.verdict, first.checked_at, first.verified_at) == (
        CheckStatus.FAILED,
        NOW + timedelta(minutes=15),
        NOW,
    )
    assert second.verdict is CheckStatus.UNVERIFIED


def test_a_result_that_cannot_be_stored_is_still_counted(
    checks: EgressChecks, partner: StartPartner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = CheckStore(CheckSettings(egress_results_path="/x", ssm_endpoint_url="http://127.0.0.1:1"))
    there = replace(asking(checks, partner(answers(200, OURS.encode()))), store=nowhere)
    with pytest.raises(ChecksUnavailable):
        check(ZONE, checks=there)
    assert counted(capsys, monkeypatch)["EgressAddressMatches"] == [1.0]


def test_a_zone_without_a_published_address_is_named_before_anything_is_asked(
    checks: EgressChecks, partner: StartPartner
) -> None:
    there = partner(answers(200, OURS.encode()))
    with pytest.raises(SettingsError, match="AVAILABILITY_ZONE must be a zone of EGRESS_ADDRESSES, 'eu-west-1a'"):
        check("eu-west-1a", checks=asking(checks, there))
    assert there.connections == 0


def test_one_address_for_both_zones_is_shown_for_each_and_verified_once(
    checks: EgressChecks, partner: StartPartner
) -> None:
    single = tuple(structs.replace(published, address=OURS) for published in PUBLISHED)
    there = replace(asking(checks, partner(answers(200, OURS.encode()))), addresses=single)
    check(ZONE, checks=there)
    assert [result.verdict for _, result in shown(checks=there)] == [CheckStatus.MATCHES, CheckStatus.UNVERIFIED]
    assert verify(checks=there).published == (OURS,)

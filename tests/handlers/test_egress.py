"""/v1/egress: the published addresses, what the outside saw of them, and what it sees now."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from domain.checks import Check, CheckStatus
from egress.check_store import CheckStore
from flows.check_egress import NO_FIXED_ADDRESS
from runtime.settings import CheckSettings
from tests.egress.servers import Partner, Script
from tests.support.api import EGRESS_ADDRESSES, Functions, forget_services
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

ZONES, ADDRESSES = zip(*(pair.split("=") for pair in EGRESS_ADDRESSES.split(",")), strict=True)


@pytest.fixture
def store(refusing: Functions, ssm_url: str, monkeypatch: pytest.MonkeyPatch) -> CheckStore:
    """Where the checks of this test keep their results."""
    settings = CheckSettings(egress_results_path=f"/sallyport/{uuid4()}/egress", ssm_endpoint_url=ssm_url)
    monkeypatch.setenv("EGRESS_RESULTS_PATH", settings.egress_results_path)
    monkeypatch.setenv("SSM_ENDPOINT_URL", settings.ssm_endpoint_url)
    return CheckStore(settings)


@pytest.fixture
def echo(store: CheckStore, partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], Partner]:
    """Starts the echo service with a script."""

    def start(script: Script) -> Partner:
        there = partner(script)
        monkeypatch.setenv("EGRESS_ECHO_URL", there.url("/"))
        return there

    return start


def test_the_addresses_are_those_of_the_stack_and_unverified_at_first(refusing: Functions, store: CheckStore) -> None:
    shown = refusing.api.get("/v1/egress").json
    assert shown["reason"] is None
    assert [(entry["availability_zone"], entry["address"]) for entry in shown["addresses"]] == list(
        zip(ZONES, ADDRESSES, strict=True)
    )
    for entry in shown["addresses"]:
        assert entry["verdict"] == "unverified"
        assert entry["reason"] == "this address has not been checked yet"
        assert entry["seen_address"] is entry["last_checked_at"] is entry["last_verified_at"] is None


def test_the_last_check_of_each_zone_is_shown(refusing: Functions, store: CheckStore) -> None:
    now = datetime.now(UTC)
    store.store(
        ZONES[0],
        Check(published=ADDRESSES[0], verdict=CheckStatus.MATCHES, seen=ADDRESSES[0], checked_at=now, verified_at=now),
    )
    before = now - timedelta(minutes=15)
    store.store(
        ZONES[1],
        Check(
            published=ADDRESSES[1],
            verdict=CheckStatus.DIFFERS,
            seen="192.0.2.1",
            reason="requests leave from 192.0.2.1, which is not published",
            checked_at=now,
            verified_at=before,
        ),
    )
    first, second = refusing.api.get("/v1/egress").json["addresses"]
    assert (first["verdict"], first["seen_address"], first["reason"]) == ("matches", ADDRESSES[0], None)
    assert datetime.fromisoformat(first["last_verified_at"]) == now
    assert (second["verdict"], second["seen_address"]) == ("differs", "192.0.2.1")
    assert [datetime.fromisoformat(second[name]) for name in ("last_checked_at", "last_verified_at")] == [now, before]


def test_the_addresses_are_listed_although_ssm_is_unreachable(
    refusing: Functions, store: CheckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSM_ENDPOINT_URL", "http://127.0.0.1:1")
    answer = refusing.api.get("/v1/egress")
    assert answer.status == 200
    for entry, address in zip(answer.json["addresses"], ADDRESSES, strict=True):
        assert (entry["address"], entry["verdict"]) == (address, "unverified")
        assert "not available" in entry["reason"]


def test_without_a_way_to_the_internet_there_are_no_addresses(
    refusing: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "EGRESS_ADDRESSES": "",
        "EGRESS_ECHO_URL": "",
        "SSM_ENDPOINT_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    forget_services()  # the fixture has made a destination with them
    assert refusing.api.get("/v1/egress").json == {"addresses": [], "reason": NO_FIXED_ADDRESS}
    verified = refusing.api.call("POST", "/v1/egress/verify")
    assert (verified.status, verified.json["addresses"], verified.json["verdict"]) == (200, [], "unverified")
    assert verified.json["reason"] == NO_FIXED_ADDRESS


@pytest.mark.parametrize("address", ADDRESSES)
def test_verifying_asks_now_and_any_published_address_is_right(
    refusing: Functions, echo: Callable[[Script], Partner], address: str
) -> None:
    there = echo(answers(200, f"{address}\n".encode()))
    before = datetime.now(UTC)
    answer = refusing.api.call("POST", "/v1/egress/verify")
    assert (answer.status, answer.json["verdict"], answer.json["seen_address"]) == (200, "matches", address)
    assert answer.json["addresses"] == list(ADDRESSES)
    assert before <= datetime.fromisoformat(answer.json["checked_at"]) <= datetime.now(UTC)
    assert len(there.requests) == 1


@pytest.mark.parametrize(
    ("script", "verdict", "seen", "reason"),
    [
        (answers(200, b"192.0.2.1"), "differs", "192.0.2.1", "leave from 192.0.2.1"),
        (answers(200, b"<html>"), "failed", None, "not one address"),
        (answers(503), "failed", None, "status 503"),
    ],
)
def test_whatever_the_echo_service_says_is_a_verdict(
    refusing: Functions, echo: Callable[[Script], Partner], script: Script, verdict: str, seen: str | None, reason: str
) -> None:
    echo(script)
    answer = refusing.api.call("POST", "/v1/egress/verify")
    assert (answer.status, answer.json["verdict"], answer.json["seen_address"]) == (200, verdict, seen)
    assert reason in answer.json["reason"]


def test_verifying_stores_nothing(refusing: Functions, store: CheckStore, echo: Callable[[Script], Partner]) -> None:
    echo(answers(200, ADDRESSES[0].encode()))
    refusing.api.call("POST", "/v1/egress/verify")
    assert store.results(ZONES) == {}


def test_neither_call_makes_the_api_ask_the_database(
    refusing: Functions, echo: Callable[[Script], Partner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorizer does, once a minute and token."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    echo(answers(200, ADDRESSES[0].encode()))
    assert refusing.api.get("/v1/egress").status == 200
    assert refusing.api.call("POST", "/v1/egress/verify").json["verdict"] == "matches"

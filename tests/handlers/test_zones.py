"""Which of several fixed addresses an attempt left from: the zone's own, as Lambda's metadata endpoint tells the zone.

The endpoint is a server on loopback, which the very code of the functions asks.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from handlers import wiring
from runtime import zones
from runtime.observability import logger
from runtime.settings import ZoneId
from tests.egress.servers import Line, Partner, Script
from tests.support.api import EGRESS_ADDRESSES, Api, Functions
from tests.support.partners import answers, closes_in_the_middle

type StartPartner = Callable[[Script], Partner]
type Lambda = Callable[[Script], Partner]

KNOWN = (
    ZoneId(availability_zone="eu-central-1a", zone_id="euc1-az2"),
    ZoneId(availability_zone="eu-central-1b", zone_id="euc1-az3"),
)
ZONE_IDS = ",".join(f"{zone.availability_zone}={zone.zone_id}" for zone in KNOWN)
FIRST, SECOND = (pair.partition("=")[2] for pair in EGRESS_ADDRESSES.split(","))
TOKEN = "of-this-environment"


def tells(zone_id: object) -> Script:
    return answers(200, json.dumps({"AvailabilityZoneID": zone_id}).encode(), "Content-Type: application/json")


@pytest.fixture
def on_lambda(partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    """Starts a metadata endpoint, and passes its address to this process as Lambda does."""

    def start(script: Script) -> Partner:
        there = partner(script)
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        monkeypatch.setenv("AWS_LAMBDA_METADATA_API", f"127.0.0.1:{there.port}")
        monkeypatch.setenv("AWS_LAMBDA_METADATA_TOKEN", TOKEN)
        return there

    zones.forget()
    yield start
    zones.forget()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    lines = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", lines)
    return lines


def warnings(log: StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["level"] == "WARNING"]


@pytest.mark.parametrize("item", KNOWN)
def test_the_zone_is_the_one_whose_id_lambda_tells(on_lambda: Lambda, log: StringIO, item: ZoneId) -> None:
    there = on_lambda(tells(item.zone_id))
    assert zones.own_zone(KNOWN) == item.availability_zone
    (request,) = there.requests
    assert request.startswith(b"GET /2026-01-15/metadata/execution-environment HTTP/1.1\r\n")
    assert f"\r\nAuthorization: Bearer {TOKEN}\r\n".encode() in request
    assert log.getvalue() == ""


def hangs(line: Line) -> None:
    line.read_request()
    line.hang()


def stops_in_the_body(line: Line) -> None:
    line.read_request()
    line.send(b'HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"Avail')
    line.hang()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (tells("euc1-az1"), "EGRESS_ZONE_IDS does not name 'euc1-az1'"),
        (tells(None), "does not name 'None'"),
        (tells(["euc1-az2"]), "does not name"),
        (answers(200, b"{}"), "does not name 'None'"),
        (answers(200, b"[]"), "does not name 'None'"),
        (answers(200, b"7"), "is not metadata"),
        (answers(200, b'"euc1-az2"'), "is not metadata"),
        (answers(200, b"euc1-az2"), "Failed to parse"),
        (answers(200, b"\xff"), "Failed to fetch"),
        (answers(401), "status 401"),
        (answers(405), "status 405"),
        (answers(500), "status 500"),
        (closes_in_the_middle, "Failed to fetch"),
        (Line.reset, "Failed to fetch"),
        (hangs, "timed out"),
        (stops_in_the_body, "timed out"),
    ],
)
def test_whatever_else_it_says_the_zone_is_unknown_and_one_line_tells_why(
    on_lambda: Lambda, log: StringIO, monkeypatch: pytest.MonkeyPatch, script: Script, reason: str
) -> None:
    monkeypatch.setattr(zones, "ANSWER_SECONDS", 0.1 if reason == "timed out" else 10)
    on_lambda(script)
    assert zones.own_zone(KNOWN) is None
    (line,) = warnings(log)
    assert line["message"] == "availability zone is unknown"
    assert reason in line["reason"]
    assert TOKEN not in log.getvalue()


def test_an_endpoint_that_is_not_there_leaves_the_zone_unknown(
    on_lambda: Lambda, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_lambda(tells("euc1-az2"))
    monkeypatch.setenv("AWS_LAMBDA_METADATA_API", "127.0.0.1:1")
    assert zones.own_zone(KNOWN) is None
    monkeypatch.delenv("AWS_LAMBDA_METADATA_API")
    assert zones.own_zone(KNOWN) is None
    assert [line["message"] for line in warnings(log)] == ["availability zone is unknown"] * 2


def test_outside_lambda_nothing_is_looked_up(on_lambda: Lambda, log: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    there = on_lambda(tells("euc1-az2"))
    monkeypatch.delenv("AWS_LAMBDA_INITIALIZATION_TYPE")
    assert zones.own_zone(KNOWN) is None
    assert there.connections == 0


def test_where_no_zone_is_to_be_told_from_another_nobody_is_asked(on_lambda: Lambda, log: StringIO) -> None:
    there = on_lambda(tells("euc1-az2"))
    assert zones.own_zone(()) is None
    assert there.connections == 0
    assert log.getvalue() == ""


def recorded(functions: Functions) -> list[str | None]:
    """The egress addresses of all attempts, as the API shows them."""
    ids = [str(row["delivery_id"]) for row in functions.sql("SELECT delivery_id FROM delivery ORDER BY created_at")]
    shown = [functions.api.get(f"/v1/deliveries/{id_}").json for id_ in ids]
    return [attempt["egress_address"] for delivery in shown for attempt in delivery["attempts"]]


@pytest.mark.parametrize(("zone_id", "address"), [("euc1-az2", FIRST), ("euc1-az3", SECOND)])
def test_attempts_of_both_functions_record_the_address_of_their_zone(
    functions: Functions,
    api: Api,
    partner: StartPartner,
    on_lambda: Lambda,
    monkeypatch: pytest.MonkeyPatch,
    zone_id: str,
    address: str,
) -> None:
    there = on_lambda(tells(zone_id))
    monkeypatch.setenv("EGRESS_ZONE_IDS", ZONE_IDS)
    api.destination(partner(answers(200)).url())
    assert api.create_delivery(("Prefer", "wait=5")).json["state"] == "delivered"
    api.create_delivery()
    api.create_delivery()
    functions.work()
    assert recorded(functions) == [address] * 3
    assert len(there.requests) == 1  # both functions are this one process here, which is in one place


def test_a_zone_that_stays_unknown_is_asked_for_once_and_stops_no_delivery(
    functions: Functions, api: Api, partner: StartPartner, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = on_lambda(answers(500))
    monkeypatch.setenv("EGRESS_ZONE_IDS", ZONE_IDS)
    api.destination(partner(answers(200)).url())
    for _ in range(3):
        assert api.create_delivery(("Prefer", "wait=5")).json["state"] == "delivered"
    assert recorded(functions) == [None] * 3
    assert len(there.requests) == 1
    assert [line["message"] for line in warnings(functions.log)] == ["availability zone is unknown"]


def test_a_zone_without_an_address_leaves_it_unknown(
    functions: Functions, api: Api, partner: StartPartner, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_lambda(tells("euc1-az1"))
    monkeypatch.setenv("EGRESS_ZONE_IDS", f"{ZONE_IDS},eu-central-1c=euc1-az1")
    api.destination(partner(answers(200)).url())
    api.create_delivery(("Prefer", "wait=5"))
    assert recorded(functions) == [None]


def test_one_address_for_all_zones_needs_no_zone(
    functions: Functions, api: Api, partner: StartPartner, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = on_lambda(tells("euc1-az2"))
    monkeypatch.setenv("EGRESS_ZONE_IDS", ZONE_IDS)
    monkeypatch.setenv("EGRESS_ADDRESSES", f"eu-central-1a={FIRST},eu-central-1b={FIRST}")
    api.destination(partner(answers(200)).url())
    api.create_delivery(("Prefer", "wait=5"))
    assert recorded(functions) == [FIRST]
    assert there.connections == 0


def test_a_restored_process_asks_again_for_it_may_be_elsewhere(
    functions: Functions, api: Api, partner: StartPartner, on_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGRESS_ZONE_IDS", ZONE_IDS)
    api.destination(partner(answers(200)).url())
    for zone_id in ("euc1-az2", "euc1-az3"):
        on_lambda(tells(zone_id))
        api.create_delivery(("Prefer", "wait=5"))
        wiring.reset_after_restore()
    assert recorded(functions) == [FIRST, SECOND]


def test_what_asks_lambda_is_not_loaded_where_there_is_one_address(repository: Path) -> None:
    """Nor before the first attempt where there are more: not before a snapshot."""
    program = """
import sys
from handlers import api, attempt
from runtime import zones
zones.forget()
assert zones.own_zone(()) is None
assert "aws_lambda_powertools.utilities.metadata" not in sys.modules
assert "urllib.request" not in sys.modules
"""
    environment = {"PYTHONPATH": str(repository / "src")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdin=subprocess.DEVNULL)

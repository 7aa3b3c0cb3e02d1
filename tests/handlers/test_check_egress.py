"""The egress check as Lambda runs it: on its own, far from the database."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ChecksUnavailable
from handlers import check_egress
from runtime.observability import logger, metrics
from runtime.settings import SettingsError
from tests.egress.servers import Partner, Script
from tests.support.api import Context
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

ZONE, OURS = "eu-central-1a", "198.51.100.10"


@pytest.fixture
def event(repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((repository / "events" / "check_egress.json").read_text())
    return found


@pytest.fixture
def log(ssm_url: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """What the function logs, configured as the template does; no variable leads to a database."""
    environment = {
        "AVAILABILITY_ZONE": ZONE,
        "EGRESS_ADDRESSES": f"{ZONE}={OURS},eu-central-1b=198.51.100.11",
        "EGRESS_ECHO_URL": "http://127.0.0.1:1/",
        "EGRESS_RESULTS_PATH": f"/sallyport/{uuid4()}/egress",
        "SSM_ENDPOINT_URL": ssm_url,
        "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(metrics, "namespace", "Sallyport")
    monkeypatch.setattr(metrics, "service", "sallyport")
    lines = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", lines)
    check_egress._wired.cache_clear()
    yield lines
    if check_egress._wired.cache_info().currsize:
        check_egress._wired()[1].client.close()
    check_egress._wired.cache_clear()
    metrics.clear_metrics()


@pytest.fixture
def echo(log: StringIO, partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Partner]:
    """Starts the echo service, which answers with a body."""

    def start(body: bytes) -> Partner:
        there = partner(answers(200, body))
        monkeypatch.setenv("EGRESS_ECHO_URL", there.url("/"))
        monkeypatch.setenv("ALLOWED_PORTS", str(there.port))
        return there

    return start


def test_the_verdict_is_answered_logged_and_counted(
    echo: Callable[[bytes], Partner], event: dict[str, Any], log: StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    echo(b"198.51.100.10\n")
    capsys.readouterr()
    assert check_egress.handler(event, Context()) == {
        "zone": ZONE,
        "published": OURS,
        "seen": OURS,
        "verdict": "matches",
    }
    (line,) = map(json.loads, log.getvalue().splitlines())
    told = {name: line[name] for name in ("level", "message", "zone", "verdict", "published", "seen")}
    assert told == {
        "level": "INFO",
        "message": "egress address checked",
        "zone": ZONE,
        "verdict": "matches",
        "published": OURS,
        "seen": OURS,
    }
    (counts,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (counts["EgressAddressMatches"], counts["EgressCheckFailed"], counts["zone"]) == ([1.0], [0.0], ZONE)


def test_a_second_check_of_the_same_process_counts_from_zero(
    echo: Callable[[bytes], Partner], event: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    there = echo(b"192.0.2.1")
    for _ in range(2):
        capsys.readouterr()
        assert check_egress.handler(event, Context())["verdict"] == "differs"
        (counts,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert (counts["EgressAddressMatches"], counts["zone"]) == ([0.0], ZONE)
    assert there.connections == 2


def test_a_wrong_address_and_a_service_that_is_gone_are_logged_as_errors(event: dict[str, Any], log: StringIO) -> None:
    assert check_egress.handler(event, Context())["verdict"] == "failed"
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["level"], line["verdict"]) == ("ERROR", "failed")
    assert "seen" not in line
    assert "no answer" in line["reason"]


def test_counts_are_written_although_nothing_can_be_kept(
    echo: Callable[[bytes], Partner],
    event: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo(OURS.encode())
    monkeypatch.setenv("SSM_ENDPOINT_URL", "http://127.0.0.1:1")
    capsys.readouterr()
    with pytest.raises(ChecksUnavailable):
        check_egress.handler(event, Context())
    (counts,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert counts["EgressAddressMatches"] == [1.0]


def test_a_zone_that_is_not_set_is_named(log: StringIO, event: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AVAILABILITY_ZONE")
    with pytest.raises(SettingsError, match="AVAILABILITY_ZONE must be set"):
        check_egress.handler(event, Context())


def test_the_check_loads_nothing_that_could_reach_the_database(repository: Path) -> None:
    """In a process of its own, as on Lambda. Without psycopg no connection can be made, so none wakes the database."""
    program = """
import sys
from handlers import check_egress
assert callable(check_egress.handler)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"psycopg", "psycopg_binary", "db", "boto3"}))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=repository / "src", capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"

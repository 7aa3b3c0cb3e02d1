"""The egress check in the whole stack: it runs on its schedule, the API shows it, and it cannot reach the database."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Consumer, eventually
from tests.support.documents import the_program
from tests.support.terminal import Terminal

ZONES = ["local-a", "local-b"]


def shown(consumer: Consumer) -> Any:
    return consumer.call("GET", "/v1/egress").json["addresses"]


def test_both_zones_are_checked_from_the_start_and_match(consumer: Consumer) -> None:
    def checked() -> Any:
        found = shown(consumer)
        return found if {entry["verdict"] for entry in found} == {"matches"} else None

    found = eventually(checked)
    assert [(entry["availability_zone"], entry["address"], entry["seen_address"]) for entry in found] == [
        (zone, "127.0.0.1", "127.0.0.1") for zone in ZONES
    ]
    assert all(entry["last_verified_at"] == entry["last_checked_at"] is not None for entry in found)


def test_a_caller_may_ask_at_once(consumer: Consumer) -> None:
    answer = consumer.call("POST", "/v1/egress/verify")
    assert (answer.status, answer.json["verdict"], answer.json["addresses"]) == (200, "matches", ["127.0.0.1"])


def test_the_check_has_not_even_loaded_what_it_would_reach_the_database_with(stack: Stack) -> None:
    """Its processes after a run, as the kernel sees them; the worker's show that this would be seen."""
    for name in ("CheckEgressA.Function", "CheckEgressB.Function"):
        assert stack.functions[name].invoke({})["verdict"] == "matches"
        assert not any(loads_psycopg(process) for process in stack.functions[name].process_ids)
    assert any(loads_psycopg(process) for process in stack.functions["AttemptFunction"].process_ids)


def loads_psycopg(process: int) -> bool:
    return "psycopg_binary" in Path(f"/proc/{process}/maps").read_text(encoding="utf-8")


def test_a_partner_can_check_the_list_as_the_page_says(consumer: Consumer, stack: Stack, tmp_path: Path) -> None:
    variables = {"API_URL": stack.url, "TOKEN": consumer.token}
    Terminal(directory=tmp_path, variables=variables).types("docs/running.md", "curl -s -D allowlist.headers")
    document = json.loads((tmp_path / "allowlist.json").read_bytes())
    assert [entry["cidr"] for entry in document["addresses"]] == ["127.0.0.1/32"]
    assert [entry["availability_zones"] for entry in document["addresses"]] == [ZONES]
    script = the_program("docs/running.md").replace("whpk_...", document["public_key"])

    def checked() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=GENEROUS_SECONDS
        )

    assert checked().stdout == "signed by the stack\n"
    (tmp_path / "allowlist.json").write_bytes((tmp_path / "allowlist.json").read_bytes().replace(b"127.0", b"127.1"))
    assert "InvalidSignature" in checked().stderr


@pytest.mark.parametrize("accept", ["text/html", "text/plain", "application/json"])
def test_every_form_comes_through_the_gateway_as_it_was_signed(consumer: Consumer, accept: str) -> None:
    answer = consumer.call("GET", "/v1/egress/allowlist", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(accept)
    public_key = consumer.call("GET", "/v1/egress/allowlist").json["public_key"]
    signed = f"{answer.headers['webhook-id']}.{answer.headers['webhook-timestamp']}.".encode() + answer.body
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    key.verify(base64.b64decode(answer.headers["webhook-signature"].removeprefix("v1a,")), signed)

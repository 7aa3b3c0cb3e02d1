"""The egress check in the whole stack: it runs on its schedule, the API shows it, and it cannot reach the database."""

from pathlib import Path
from typing import Any

from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually

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
    for name in ("CheckEgressAFunction", "CheckEgressBFunction"):
        assert stack.functions[name].invoke({})["verdict"] == "matches"
        assert not any(loads_psycopg(process) for process in stack.functions[name].process_ids)
    assert any(loads_psycopg(process) for process in stack.functions["AttemptFunction"].process_ids)


def loads_psycopg(process: int) -> bool:
    return "psycopg_binary" in Path(f"/proc/{process}/maps").read_text(encoding="utf-8")

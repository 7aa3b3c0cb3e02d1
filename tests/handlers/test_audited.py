"""An act and its entry of the audit log are one: whatever breaks between them, both are there, or neither."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from db import audit
from db.connection import Database
from domain.audit import AuditCheckpoint, Entry
from domain.errors import DatabaseUnavailable
from tests.support.api import Functions, Reply

SIGNING = [{"type": "standard_webhooks"}]
# Those that are done outside the database: an entry can only follow them.
OUTSIDE = {"flows/redrive.py", "flows/verify_destination.py"}


@dataclass(frozen=True, kw_only=True)
class CallOfAct:
    what: str
    call: Callable[[Functions], Reply]
    status: int = 200


def _delivery(functions: Functions) -> str:
    return str(functions.sql("SELECT delivery_id FROM delivery")[0]["delivery_id"])


def _proposal(functions: Functions) -> str:
    return str(functions.sql("SELECT proposal_id FROM proposal")[0]["proposal_id"])


CALLS = [
    CallOfAct(
        what="destination.created",
        call=lambda functions: functions.api.post(
            "/v1/destinations", {"name": "other", "base_url": "https://other.example"}
        ),
        status=201,
    ),
    CallOfAct(
        what="destination.changed",
        call=lambda functions: functions.api.call("PATCH", "/v1/destinations/partner", json={"idempotent": True}),
    ),
    CallOfAct(
        what="destination.paused",
        call=lambda functions: functions.api.call("POST", "/v1/destinations/partner/pause"),
    ),
    CallOfAct(
        what="destination.deleted",
        call=lambda functions: functions.api.call("DELETE", "/v1/destinations/partner?pending=cancel"),
    ),
    CallOfAct(
        what="destination.secret_rotated",
        call=lambda functions: functions.api.post("/v1/destinations/partner/rotate-secret", {}),
    ),
    CallOfAct(
        what="delivery.canceled",
        call=lambda functions: functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/cancel"),
    ),
    CallOfAct(
        what="delivery.expunged",
        call=lambda functions: functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/expunge"),
    ),
    CallOfAct(
        what="cancel.created",
        call=lambda functions: functions.api.post(
            "/v1/cancellations", {"destination": "partner", "since": "2026-01-01T00:00:00Z"}
        ),
        status=201,
    ),
    CallOfAct(
        what="proposal.created",
        call=lambda functions: functions.api.post("/v1/destinations/partner/rotate-secret", {}),
        status=202,
    ),
    CallOfAct(
        what="proposal.rejected",
        call=lambda functions: functions.api.call("POST", f"/v1/proposals/{_proposal(functions)}/reject"),
    ),
]


@pytest.fixture
def prepared(functions: Functions, call: CallOfAct) -> Functions:
    """A destination that signs, and a delivery that nobody sends."""
    functions.api.destination("https://bank.example", signing=SIGNING)
    assert functions.api.create_delivery().status == 202
    if call.what == "delivery.expunged":
        functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/cancel")
    if call.what.startswith("proposal."):
        functions.sql("UPDATE tenant SET approvals_above = 0")
    if call.what == "proposal.rejected":
        assert functions.api.post("/v1/destinations/partner/rotate-secret", {}).status == 202
    return functions


def stored(functions: Functions) -> dict[str, Any]:
    """All that an act may change."""
    tables = ("destination", "delivery", "job", "proposal")
    return {table: functions.sql(f"TABLE {table} ORDER BY 1, 2") for table in tables}


def entries(functions: Functions, what: str) -> int:
    return len(functions.sql("SELECT entry_id FROM audit_entry WHERE what = %s", what))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.what)
def test_nothing_is_done_whose_entry_cannot_be_written(prepared: Functions, call: CallOfAct) -> None:
    before, known = stored(prepared), entries(prepared, call.what)
    prepared.sql("ALTER FUNCTION append_audit RENAME TO append_audit_elsewhere")

    failed = call.call(prepared)

    prepared.sql("ALTER FUNCTION append_audit_elsewhere RENAME TO append_audit")
    assert failed.status == 500
    assert stored(prepared) == before
    assert entries(prepared, call.what) == known

    assert call.call(prepared).status == call.status
    assert entries(prepared, call.what) == known + 1


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.what != "delivery.expunged"], ids=lambda call: call.what
)
def test_a_connection_that_breaks_between_them_leaves_both_once(
    prepared: Functions, call: CallOfAct, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[str] = []
    append = audit.append

    def break_once(database: Database, entry: Entry) -> AuditCheckpoint:
        if not broken:
            broken.append(entry.content)
            prepared.cut_connections()
        return append(database, entry)

    known = entries(prepared, call.what)
    monkeypatch.setattr(audit, "append", break_once)
    assert call.call(prepared).status == call.status
    assert len(broken) == 1
    assert entries(prepared, call.what) == known + 1


@pytest.mark.parametrize("call", CALLS[:1], ids=lambda call: call.what)
def test_a_database_that_goes_away_between_them_has_neither(
    prepared: Functions, call: CallOfAct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(database: Database, entry: Entry) -> AuditCheckpoint:
        raise DatabaseUnavailable("the database is not available", retry_after_seconds=1)

    before = stored(prepared)
    monkeypatch.setattr(audit, "append", gone)
    assert call.call(prepared).status == 503
    assert stored(prepared) == before


def test_only_what_is_done_outside_the_database_is_written_down_afterwards() -> None:
    sources = Path("src")
    afterwards = {
        str(source.relative_to(sources))
        for source in sources.rglob("*.py")
        if re.search(r"(?<!def )\bnote_act\(", source.read_text())
    }
    assert afterwards == OUTSIDE

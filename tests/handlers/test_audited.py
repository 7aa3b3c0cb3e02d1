"""An act and its entry of the audit log are one: whatever breaks between them, both are there, or neither."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from db import audit
from db.connection import Database
from db.migrations import ADMIN_ROLE, APPLICATION_ROLE
from domain.audit import AuditCheckpoint, Entry
from domain.errors import DatabaseUnavailable, SallyportError
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from flows import jobs
from handlers import admin, wiring
from tests.handlers.test_ask import RECONCILE
from tests.support.api import Context, Functions, Reply, forget_services
from tests.support.wires import Wire

SIGNING = [{"type": "standard_webhooks"}]
# Those that are done outside the database: an entry can only follow them.
OUTSIDE = {"flows/redrive.py", "flows/rotate_seal_key.py", "flows/verify_destination.py"}


@dataclass(frozen=True, kw_only=True)
class CallOfAct:
    """`by` is the function of ours that does it and writes it down."""

    what: str
    call: Callable[[Functions], Reply]
    by: str
    status: int = 200


def _delivery(functions: Functions) -> str:
    return str(functions.sql("SELECT delivery_id FROM delivery")[0]["delivery_id"])


def _proposal(functions: Functions) -> str:
    return str(functions.sql("SELECT proposal_id FROM proposal")[0]["proposal_id"])


def _operates(**command: object) -> Callable[[Functions], Reply]:
    """A command of the operators' function, which says 500 by failing."""

    def call(functions: Functions) -> Reply:
        token = functions.sql("SELECT token_id FROM token LIMIT 1")[0]["token_id"]
        event = {name: str(token) if value == "TOKEN" else value for name, value in command.items()}
        try:
            return Reply(status=200, headers=(), body=json.dumps(admin.handler(event, Context())).encode())
        except SallyportError:
            return Reply(status=500, headers=(), body=b"")

    return call


def _creates_job(functions: Functions) -> Reply:
    return functions.api.post("/v1/cancellations", {"destination": "partner", "since": "2026-01-01T00:00:00Z"})


def _job(functions: Functions) -> str:
    if not functions.sql("SELECT FROM job"):
        _creates_job(functions)
    return str(functions.sql("SELECT job_id FROM job")[0]["job_id"])


def _makes_last_step(functions: Functions) -> Reply:
    """A worker does, which makes it later where it cannot now."""
    wakeup = Wakeup(delivery_id=DeliveryId(UUID(_job(functions))), due_at=wiring.utc_now(), group="g", of_job=True)
    again = jobs.advance(wakeup, services=wiring.attempt())
    return Reply(status=500 if again else 200, headers=(), body=b"")


def _approves(functions: Functions) -> Reply:
    other = replace(functions.api, authorizer={**(functions.api.authorizer or {}), "token_id": str(UUID(int=7))})
    return other.call("POST", f"/v1/proposals/{_proposal(functions)}/approve")


CALLS = [
    CallOfAct(what="tenant.created", by="admin._create_tenant", call=_operates(action="create_tenant", tenant="new")),
    CallOfAct(
        what="token.issued", by="admin._issue", call=_operates(action="issue_token", tenant="acme", scopes=["read"])
    ),
    CallOfAct(what="token.revoked", by="admin._revoke", call=_operates(action="revoke_token", token_id="TOKEN")),
    CallOfAct(
        what="tenant.approvals_set",
        by="admin._set_approvals",
        call=_operates(action="set_approvals", tenant="acme", above=3),
    ),
    CallOfAct(
        what="job.paused",
        by="jobs.move",
        call=lambda functions: functions.api.call("POST", f"/v1/jobs/{_job(functions)}/pause"),
    ),
    CallOfAct(what="job.done", by="jobs._advanced", call=_makes_last_step),
    CallOfAct(
        what="delivery.asked",
        by="ask.ask",
        call=lambda functions: functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/ask"),
    ),
    CallOfAct(what="proposal.approved", by="approvals._audited", call=_approves),
    CallOfAct(
        what="destination.created",
        by="destinations.create",
        call=lambda functions: functions.api.post(
            "/v1/destinations", {"name": "other", "base_url": "https://other.example"}
        ),
        status=201,
    ),
    CallOfAct(
        what="destination.changed",
        by="destinations.change",
        call=lambda functions: functions.api.call("PATCH", "/v1/destinations/partner", json={"idempotent": True}),
    ),
    CallOfAct(
        what="destination.paused",
        by="destination_states._audited",
        call=lambda functions: functions.api.call("POST", "/v1/destinations/partner/pause"),
    ),
    CallOfAct(
        what="destination.deleted",
        by="destination_states._audited",
        call=lambda functions: functions.api.call("DELETE", "/v1/destinations/partner?pending=cancel"),
    ),
    CallOfAct(
        what="destination.secret_rotated",
        by="rotate.rotate",
        call=lambda functions: functions.api.post("/v1/destinations/partner/rotate-secret", {}),
    ),
    CallOfAct(
        what="delivery.canceled",
        by="control._made",
        call=lambda functions: functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/cancel"),
    ),
    CallOfAct(
        what="delivery.expunged",
        by="expunge.expunge",
        call=lambda functions: functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/expunge"),
    ),
    CallOfAct(
        what="cancel.created",
        by="jobs.create",
        call=_creates_job,
        status=201,
    ),
    CallOfAct(
        what="proposal.created",
        by="approvals._audited",
        call=lambda functions: functions.api.post("/v1/destinations/partner/rotate-secret", {}),
        status=202,
    ),
    CallOfAct(
        what="proposal.rejected",
        by="approvals._audited",
        call=lambda functions: functions.api.call("POST", f"/v1/proposals/{_proposal(functions)}/reject"),
    ),
]


@pytest.fixture
def prepared(functions: Functions, call: CallOfAct) -> Functions:
    """A destination that signs and can be asked, and a delivery that nobody sends."""
    functions.api.destination("http://127.0.0.1:1", signing=SIGNING, reconcile=RECONCILE)
    assert functions.api.create_delivery().status == 202
    if call.what == "delivery.expunged":
        functions.api.call("POST", f"/v1/deliveries/{_delivery(functions)}/cancel")
    if call.what == "delivery.asked":
        functions.sql("UPDATE delivery SET state = 'unknown', finished_at = created_at")
    if call.what.startswith("job."):
        assert _job(functions)
    if call.what.startswith("proposal."):
        functions.sql("UPDATE tenant SET approvals_above = 0")
    if call.what in ("proposal.rejected", "proposal.approved"):
        assert functions.api.post("/v1/destinations/partner/rotate-secret", {}).status == 202
    return functions


def stored(functions: Functions) -> dict[str, Any]:
    """All that an act may change."""
    tables = ("tenant", "token", "destination", "delivery", "job", "proposal")
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


@pytest.mark.parametrize("call", [call for call in CALLS if call.by != "expunge.expunge"], ids=lambda call: call.what)
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


@pytest.fixture
def wire(prepared: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Between the functions and PostgreSQL."""
    made = Wire(prepared.database.url)
    forget_services()
    host = quote(made.directory, safe="")
    for role, build in ((ADMIN_ROLE, wiring.admin), (APPLICATION_ROLE, wiring.api), (APPLICATION_ROLE, wiring.attempt)):
        monkeypatch.setenv("DATABASE_URL", f"postgresql:///{prepared.database.name}?host={host}&user={role}")
        build()
    yield made
    forget_services()
    made.close()


@pytest.mark.parametrize("call", [call for call in CALLS if call.by != "expunge.expunge"], ids=lambda call: call.what)
def test_an_act_whose_commit_is_not_heard_of_answers_as_ever_and_is_written_down_once(
    wire: Wire, prepared: Functions, call: CallOfAct
) -> None:
    known, before = entries(prepared, call.what), stored(prepared)
    wire.cut_after_the_next_transaction()

    assert call.call(prepared).status == call.status

    assert wire.cuts == 1
    assert entries(prepared, call.what) == known + 1
    changed = {table: len(rows) - len(before[table]) for table, rows in stored(prepared).items()}
    assert all(more in (0, 1) for more in changed.values())


def test_every_function_that_does_an_act_and_writes_it_down_has_a_call_here(repository: Path) -> None:
    found = {
        f"{path.stem}.{function.name}"
        for path in (repository / "src").rglob("*.py")
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "audited"
    }
    assert {call.by for call in CALLS} == {*found, "expunge.expunge"}  # whose statement does both


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.what == "destination.created"], ids=lambda call: call.what
)
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

"""The chain of the audit log: by its own SQL function, against hashes that are made here."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db import attempts, audit
from db.connection import Database
from domain.audit import STACK, Entry, canonical
from domain.deliveries import Record, State
from domain.destinations import GONE
from domain.errors import StatementRefused
from domain.ids import TenantId
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import EMPTY, NOW, PARTNER, SENDING, TENANT, A, attempt, both, writes
from tests.support.databases import FreshDatabase

OTHER = TenantId(UUID(int=9))


@pytest.fixture
def superuser(shared_database: FreshDatabase) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        made.connection().execute(EMPTY)
        yield made


@pytest.fixture
def database(shared_database: FreshDatabase, superuser: Database) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.url))) as made:
        yield made


def entries(database: Database, tenant_id: TenantId = TENANT) -> list[dict[str, Any]]:
    return database.rows(
        "SELECT * FROM audit_entry WHERE tenant_id = %(tenant_id)s ORDER BY sequence", {"tenant_id": tenant_id}
    )


def hashed(row: dict[str, Any]) -> bytes:
    """As docs/audit.md says: over canonical JSON of all that is in the entry but its hash."""
    written = {
        "at": row["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "content": json.loads(row["content"]),
        "previous": row["previous"].hex(),
        "sequence": row["sequence"],
    }
    text = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()


def test_each_entry_has_the_hash_of_the_one_before_it(database: Database) -> None:
    checkpoints = [writes(number)(database) for number in (50, 51, 52)]
    found = entries(database)
    assert [row["sequence"] for row in found] == [1, 2, 3]
    assert [row["previous"] for row in found] == [bytes(32), *(row["hash"] for row in found[:2])]
    assert [row["hash"] for row in found] == [hashed(row) for row in found] == [point.hash for point in checkpoints]
    assert (checkpoints[-1].sequence, checkpoints[-1].at) == (3, NOW)


def test_tenants_and_the_stack_have_chains_of_their_own(database: Database) -> None:
    for tenant_id in (TENANT, OTHER, STACK, TENANT):
        writes(50 + len(entries(database)), tenant_id=tenant_id)(database)
    assert [len(entries(database, tenant_id)) for tenant_id in (TENANT, OTHER, STACK)] == [2, 1, 1]


def test_an_entry_is_not_written_twice(database: Database) -> None:
    first = writes(50)(database)
    writes(51)(database)
    assert writes(50)(database) == first
    assert len(entries(database)) == 2


@pytest.mark.parametrize("text", ["", 'ü € 😀 \\ " / \x7f \u2028', "line\nbreak\ttab\x01", "%s %% %(x)s $1 '; --"])
def test_any_text_is_hashed_as_it_was_written(database: Database, text: str) -> None:
    content = canonical(
        {"by": text, "entry_id": str(UUID(int=1)), "on": text, "tenant_id": str(TENANT), "what": "odd", "n": 2**53 - 1}
    )
    audit.append(database, Entry(tenant_id=TENANT, at=NOW, content=content))
    (row,) = entries(database)
    assert row["hash"] == hashed(row)
    assert (row["content"], row["actor"]) == (content, text)


def test_no_entry_is_older_than_the_one_before_it(database: Database) -> None:
    """Two processes' clocks differ. The log is in order all the same, so that a range of time has no gap."""
    entry = Entry(tenant_id=TENANT, at=NOW, content="")
    for number, seconds in enumerate((0.000001, -5, 7), 1):
        content = canonical(
            {"by": "b", "entry_id": str(UUID(int=number)), "on": "", "tenant_id": str(TENANT), "what": "w"}
        )
        audit.append(database, replace(entry, at=NOW + timedelta(seconds=seconds), content=content))
    found = entries(database)
    microsecond = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert [row["at"] for row in found] == [microsecond, microsecond, NOW + timedelta(seconds=7)]
    assert all(row["hash"] == hashed(row) for row in found)


def test_an_entry_of_another_tenant_is_refused(database: Database) -> None:
    content = canonical({"by": "b", "entry_id": str(UUID(int=1)), "on": "", "tenant_id": str(OTHER), "what": "w"})
    with pytest.raises(StatementRefused, match="audit_entry_of_its_tenant"):
        audit.append(database, Entry(tenant_id=TENANT, at=NOW, content=content))
    assert entries(database) == []


def test_what_a_partner_does_is_written_by_the_statement_that_records_its_answer(
    database: Database, superuser: Database
) -> None:
    both(*SENDING)(superuser)
    made = Record(attempt=attempt("answered"), lease_id=A, next_state=State.FAILED, due_at=None, disables=True)
    attempts.record(database, [made], now=NOW)
    (row,) = entries(database)
    assert (row["what"], row["actor"], row["subject"]) == ("destination.disabled", GONE, str(PARTNER))
    assert row["hash"] == hashed(row)
    assert row["content"] == canonical(json.loads(row["content"]))
    attempts.record(database, [made], now=NOW)
    assert len(entries(database)) == 1


@pytest.mark.parametrize(
    ("state", "changed", "disables"),
    [
        ("active", timedelta(minutes=-1), True),
        ("paused", timedelta(minutes=-1), True),
        ("active", timedelta(0), False),  # somebody opened it since the request was sent
        ("disabled", timedelta(minutes=-1), False),  # right before it was sent
    ],
)
def test_a_partner_that_is_gone_disables_what_nobody_disabled_or_opened_since(
    database: Database, superuser: Database, state: str, changed: timedelta, disables: bool
) -> None:
    both(*SENDING)(superuser)
    tried = attempt("answered")
    superuser.rows(
        "UPDATE destination SET state = %(state)s, state_reason = 'by hand', state_changed_by = 'somebody', "
        "state_changed_at = %(at)s, version = 7 WHERE destination_id = %(id)s RETURNING version",
        {"state": state, "at": tried.started_at + changed, "id": PARTNER},
    )
    made = Record(attempt=tried, lease_id=A, next_state=State.FAILED, due_at=None, disables=True)
    attempts.record(database, [made], now=NOW)
    (row,) = superuser.read(
        "SELECT state, state_reason, state_changed_by, version FROM destination WHERE destination_id = %(id)s",
        {"id": PARTNER},
    )
    untouched = {"state": state, "state_reason": "by hand", "state_changed_by": "somebody", "version": 7}
    told = {"state_reason": "the partner answered with status 410", "state_changed_by": GONE, "version": 8}
    assert dict(row) == ({"state": "disabled", **told} if disables else untouched)
    assert len(entries(database)) == int(disables)

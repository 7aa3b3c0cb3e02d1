"""What each statement says and leaves behind, written down: the answer and the rows that differ, for each case of
test_repeats.py.

Another tenant has the same rows under other ids, so a statement that forgets whose rows it is about says or changes
more. Who changes what a statement does reads here what else it does now.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from db import attempts, deliveries
from db.connection import Database
from domain.deliveries import Attempt, AttemptKind, Record, State
from domain.ids import LeaseId
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import (
    CALLS_IT_FAILED,
    CANCELS,
    CASES,
    DELIVERED,
    EMPTY,
    FIRST,
    IN_ORDER,
    NOW,
    PENDING,
    SECOND,
    SENDING,
    TABLES,
    A,
    Act,
    B,
    C,
    Case,
    all_rows,
    attempt,
    both,
    later,
    lease,
)
from tests.support.databases import FreshDatabase

LEDGER = Path(__file__).with_name("outcomes.json")
OURS, THEIRS = "00000000-0000-0000-0000-0000000000", "00000000-0000-0000-0000-0000000001"
# What must be another one in the whole database.
UNIQUE = {"tenant": ("name", "'others'"), "token": ("token_sha256", "sha256(token_sha256)")}
NO_TENANTS = {"seal_progress", "tally_progress", "retention_walk"}  # one row each, of the whole database

type Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def named(cases: Sequence[Case]) -> dict[str, Case]:
    """By the statement and what is said of the case, with a number where that is not enough."""
    by_name: dict[str, Case] = {}
    for case in cases:
        name = " ".join(filter(None, (case.statement, case.told)))
        same = sum(other.partition(" #")[0] == name for other in by_name)
        by_name[f"{name} #{same + 1}" if same else name] = case
    return by_name


ASKED, ASKED_AGAIN = (
    replace(attempt("answered", number=number, attempt_id=32 + number), kind=AttemptKind.RECONCILE) for number in (2, 3)
)


def recorded(made: Attempt, lease_id: LeaseId, state: State, *, at: datetime, **more: Any) -> Act:
    record = Record(attempt=made, lease_id=lease_id, next_state=state, due_at=None, **more)
    return lambda database: attempts.record(database, [record], now=at)


def whole(lease_id: LeaseId, *, at: datetime, asks_now: bool = False) -> Act:
    """All that a claim says."""
    return lambda database: deliveries.claim(
        database, [SECOND, FIRST], lease=lease(lease_id, since=at), now=at, asks_now=asks_now
    )


UNKNOWN = (*SENDING, recorded(attempt("unknown"), A, State.UNKNOWN, at=later(2), ask_at=later(60)))
SILENT = (
    *UNKNOWN,
    whole(B, at=later(60)),
    recorded(ASKED, B, State.UNKNOWN, at=later(61), ask_at=later(90), silent=True, sends=1),
)
ANSWERED = (
    *UNKNOWN,
    whole(B, at=later(60)),
    recorded(ASKED, B, State.UNKNOWN, at=later(61), ask_at=later(90), sends=1),
)
# What test_repeats.py says in a word, whole; and questions to the partner.
MORE = [
    Case(statement="deliveries.claim", told=told, before=before, runs=runs)
    for told, before, runs in (
        ("says all", PENDING, whole(A, at=NOW)),
        ("says all of a lapse", SENDING, whole(B, at=later(60))),
        ("says all of what is being sent", SENDING, whole(B, at=later(1))),
        ("says all of what has ended", (*SENDING, DELIVERED), whole(B, at=later(60))),
        ("says all of what waits in order", IN_ORDER, whole(B, at=NOW)),
        ("asks", UNKNOWN, whole(B, at=later(60))),
        ("asks no earlier", UNKNOWN, whole(B, at=later(59))),
        ("asks now", UNKNOWN, whole(B, at=later(59), asks_now=True)),
        ("asks again after silence", SILENT, whole(C, at=later(90))),
        ("asks again after an answer", ANSWERED, whole(C, at=later(90))),
        ("leaves alone what is being asked about", (*UNKNOWN, whole(B, at=later(60))), whole(C, at=later(61))),
        ("asks in the place of who stopped", (*UNKNOWN, whole(B, at=later(60))), whole(C, at=later(100))),
    )
] + [
    Case(
        statement="attempts._write",
        told=told,
        before=(*before, whole(lease_id, at=at)),
        runs=recorded(ASKED_AGAIN if before is SILENT else ASKED, lease_id, state, at=later(101), sends=1, **more),
    )
    for told, before, lease_id, at, state, more in (
        ("of an answer that it was received", UNKNOWN, B, later(60), State.DELIVERED, {}),
        ("of an answer that it was rejected", UNKNOWN, B, later(60), State.FAILED, {"failed": False}),
        ("of an answer that settles nothing", UNKNOWN, B, later(60), State.UNKNOWN, {"ask_at": later(150)}),
        ("of silence", UNKNOWN, B, later(60), State.UNKNOWN, {"ask_at": later(150), "silent": True}),
        ("of an answer after silence", SILENT, C, later(90), State.DELIVERED, {"failed": False}),
    )
]


def keeps_secrets(database: Database) -> None:
    """Its destination redacts a header and a part of the body, which it has."""
    redact = '{"redact": {"headers": ["token"], "pointers": ["/pin"]}}'
    database.rows("UPDATE destination SET options = %(redact)s::jsonb RETURNING 1 AS one", {"redact": redact})
    headers = '[["Token", "secret"], ["Accept", "all"]]'
    database.rows("UPDATE delivery SET headers = %(headers)s::jsonb RETURNING 1 AS one", {"headers": headers})
    database.rows(
        "INSERT INTO delivery_body (delivery_id, body) SELECT delivery_id, 'pin' FROM delivery "
        "ON CONFLICT (delivery_id) DO UPDATE SET body = 'pin' RETURNING 1 AS one",
        {},
    )


MORE += [
    Case(statement=statement, told=f"{told}, of what is redacted", before=(*before, keeps_secrets), runs=runs)
    for statement, told, before, runs in (
        (
            "attempts._write",
            "delivered",
            SENDING,
            recorded(attempt("answered"), A, State.DELIVERED, at=later(2), redacts=True),
        ),
        ("attempts._write", "delivered before it was", SENDING, DELIVERED),
        (
            "attempts._write",
            "unknown",
            SENDING,
            recorded(attempt("unknown"), A, State.UNKNOWN, at=later(2), redacts=True),
        ),
        ("control.change", "resolved", UNKNOWN, CALLS_IT_FAILED),
        ("control.change", "canceled", PENDING, CANCELS),
    )
]
BY_NAME = named([*CASES, *MORE])
NOTED: dict[str, Any] = json.loads(LEDGER.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def database(shared_database: FreshDatabase) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        yield made


def copy_for_others(database: Database) -> None:
    """Every row once more, with other ids."""
    connection = database.connection()
    connection.execute(b"SET session_replication_role = replica")
    for table in TABLES:
        if table not in NO_TENANTS:
            columns = _columns(database)[table]
            unique, other = UNIQUE.get(table, ("", ""))
            values = [other if column == unique else column for column in columns]
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "  # noqa: S608 - our own names
                f"FROM (SELECT (jsonb_populate_record(NULL::{table}, "
                f"replace(to_jsonb({table})::text, '{OURS}', '{THEIRS}')::jsonb)).* FROM {table}) AS theirs".encode()
            )
    connection.execute(b"RESET session_replication_role")


@cache
def _columns(database: Database) -> dict[str, list[str]]:
    """By table those that a row is given."""
    rows = database.rows(
        "SELECT relname, array_agg(quote_ident(attname)) AS columns "
        "FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid "
        "WHERE relname = ANY (%(tables)s) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' GROUP BY relname",
        {"tables": list(TABLES)},
    )
    return {row["relname"]: row["columns"] for row in rows}


def plain(value: object) -> Any:
    """As JSON has it; sets in order."""
    return json.loads(msgspec.json.encode(value, order="deterministic", enc_hook=str))


def differences(before: Rows, after: Rows) -> dict[str, dict[str, list[Any]]]:
    """By table the rows that are new, and what those were that changed or are gone, without what is null."""
    changed: dict[str, dict[str, list[Any]]] = {}
    for table in TABLES:
        gone = [_filled(row) for row in before[table] if row not in after[table]]
        new = [_filled(row) for row in after[table] if row not in before[table]]
        if gone or new:
            changed[table] = {"gone": gone, "new": new}
    return changed


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted(row.items()) if value is not None}


def outcome(database: Database, case: Case) -> dict[str, Any]:
    database.connection().execute(EMPTY)
    both(*case.before)(database)
    copy_for_others(database)
    before = all_rows(database)
    answer = case.runs(database)
    return {"answer": plain(answer), "rows": differences(before, all_rows(database))}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_statement_says_and_does_what_is_noted(database: Database, name: str, tmp_path: Path) -> None:
    found, suggested = outcome(database, BY_NAME[name]), tmp_path / "outcome.json"
    if found != NOTED.get(name):
        suggested.write_text(json.dumps({name: found}, indent=1, sort_keys=True), encoding="utf-8")
    assert found == NOTED.get(name), f"if that is meant, note {suggested} in {LEDGER.name}"


def test_nothing_is_noted_of_a_case_that_is_gone() -> None:
    assert NOTED.keys() - BY_NAME.keys() == set()

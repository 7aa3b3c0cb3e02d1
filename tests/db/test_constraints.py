"""Every rule of the schema refuses what it is there for, and nothing else.

The rules are read from PostgreSQL's catalogue: a rule without a case here fails, and so does a case whose rule is gone.
A case is a valid row of which a few columns are changed. It is refused under the rule's name; and in a transaction
without that rule the same row is taken, so that nothing else was wrong with it. What lies just inside of a bound is
taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from domain.auth import AuthType
from domain.deliveries import State
from domain.destinations import DestinationState, Guarantee
from domain.outcomes import OutcomeKind
from domain.scopes import ALL_SCOPES
from tests.conftest import FreshDatabase

type Row = Mapping[str, object]
type Connection = psycopg.Connection[tuple[object, ...]]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
# There are two tenants, each with a destination, a delivery and a token; the first one's delivery has an attempt.
ACME, OTHERS = UUID(int=1), UUID(int=2)
TOKEN, BANK, THEIR_BANK = UUID(int=3), UUID(int=4), UUID(int=5)
DELIVERY, THEIR_DELIVERY, ATTEMPT = UUID(int=6), UUID(int=7), UUID(int=8)
NEW_DELIVERY, NOBODY = UUID(int=13), UUID(int=99)

TOKEN_PARTS = ("token_id", "sealed_token", "token_basis", "usable_until", "renew_at")

# A valid row of each table, beside those that are there.
ROWS: dict[str, dict[str, object]] = {
    "tenant": {"tenant_id": UUID(int=10), "name": "new", "created_at": NOW},
    "token": {
        "token_id": UUID(int=11),
        "tenant_id": ACME,
        "token_sha256": b"n" * 32,
        "scopes": ["read"],
        "created_at": NOW,
        "revoked_at": None,
        "last_used_at": None,
    },
    "destination": {
        "destination_id": UUID(int=12),
        "tenant_id": ACME,
        "name": "new",
        "base_url": "https://new.example",
        "auth_type": "none",
        "sealed_credentials": None,
        "guarantee": "auto",
        "idempotent": False,
        "idempotency_header": "Idempotency-Key",
        "connect_seconds": 2.0,
        "first_byte_seconds": 2.0,
        "total_seconds": 3.0,
        "created_at": NOW,
        "state": "active",
        "state_reason": None,
        "state_changed_at": None,
        "state_changed_by": None,
        "version": 1,
        "options": Jsonb({}),
        "sealed_certificate": None,
        "sealed_signing": None,
        "credentials_changed_at": None,
        "deleted_at": None,
        "deleted_name": None,
    },
    "oauth_token": {
        "destination_id": THEIR_BANK,
        "token_id": UUID(int=15),
        "sealed_token": b"x",
        "token_basis": b"b" * 32,
        "usable_until": NOW,
        "renew_at": NOW,
        "renewal_id": None,
        "renewing_until": None,
        "failed_renewal_id": None,
        "failure": None,
        "replaceable_from": None,
    },
    "delivery": {
        "delivery_id": NEW_DELIVERY,
        "tenant_id": ACME,
        "destination_id": BANK,
        "idempotency_key": "new",
        "fingerprint": b"n" * 32,
        "method": "POST",
        "path": "/",
        "query": "",
        "headers": Jsonb([]),
        "metadata": Jsonb({}),
        "state": "pending",
        "attempts_made": 1,
        "attempts_allowed": 3,
        "due_at": NOW,
        "lease_id": None,
        "leased_until": None,
        "created_at": NOW,
        "finished_at": None,
        "lapsed_lease_id": None,
        "give_up_at": None,
        "ordering_key": None,
        "waiting_for": None,
        "waits_until": None,
        "delivered_by": None,
        "ask_at": None,
        "asking_id": None,
        "asking_until": None,
        "questions_made": None,
        "questions_answered": None,
        "ask_silent": None,
        "first_answered_at": None,
    },
    "destination_flow": {
        "destination_id": BANK,
        "full_at": NOW,
        "line_until": NOW,
        "in_flight": [],
        "in_flight_until": [],
        "counted_since": None,
        "attempts": 0,
        "failures": 0,
        "open_until": None,
        "probe_id": None,
        "probe_until": None,
        "silent_since": None,
        "roused_at": None,
        "share": None,
    },
    "attempt_under_way": {
        "destination_id": BANK,
        "delivery_id": DELIVERY,
        "lease_id": NOBODY,
        "begun_at": NOW,
        "leased_until": NOW,
    },
    "slot_waiter": {"destination_id": BANK, "delivery_id": DELIVERY},
    "ordering_place": {"destination_id": BANK, "ordering_key": "a", "place": 2, "delivery_id": DELIVERY},
    "delivery_term": {"term": 7, "delivery_id": DELIVERY},
    "delivery_body": {"delivery_id": THEIR_DELIVERY, "body": b""},
    "attempt": {
        "attempt_id": UUID(int=14),
        "delivery_id": DELIVERY,
        "number": 2,
        "outcome": "unknown",
        "reason": "why",
        "started_at": NOW,
        "dns_ms": None,
        "connect_ms": None,
        "tls_ms": None,
        "first_byte_ms": None,
        "total_ms": 1.0,
        "remote_address": None,
        "egress_address": None,
        "status": None,
        "response_headers": None,
        "response_body": None,
        "response_length": None,
        "response_sha256": None,
        "response_truncated": None,
        "moved_lease_id": None,
        "kind": "send",
    },
    "schema_migration": {"number": 900, "name": "0900_new", "sha256": b"n" * 32, "applied_at": NOW},
}
PRESENT: list[tuple[str, Row]] = [
    ("tenant", {"tenant_id": ACME, "name": "acme"}),
    ("tenant", {"tenant_id": OTHERS, "name": "others"}),
    ("token", {"token_id": TOKEN, "token_sha256": b"t" * 32}),
    ("destination", {"destination_id": BANK, "name": "bank"}),
    ("destination", {"destination_id": THEIR_BANK, "name": "their-bank", "tenant_id": OTHERS}),
    ("delivery", {"delivery_id": DELIVERY, "idempotency_key": "key"}),
    ("oauth_token", {"destination_id": BANK}),
    (
        "delivery",
        {
            "delivery_id": THEIR_DELIVERY,
            "idempotency_key": "their-key",
            "tenant_id": OTHERS,
            "destination_id": THEIR_BANK,
        },
    ),
    ("delivery_body", {"delivery_id": DELIVERY}),
    ("attempt", {"attempt_id": ATTEMPT, "number": 1}),
    ("delivery_term", {"term": 6}),
    ("slot_waiter", {"destination_id": THEIR_BANK}),
    ("attempt_under_way", {"destination_id": THEIR_BANK}),
    ("ordering_place", {"destination_id": THEIR_BANK, "delivery_id": THEIR_DELIVERY}),
]
THEIRS: dict[str, object] = {"tenant_id": OTHERS, "destination_id": THEIR_BANK}
SENDING: dict[str, object] = {"state": "sending", "lease_id": NOBODY, "leased_until": NOW}
ANSWERED: dict[str, object] = {
    "outcome": "answered",
    "reason": None,
    "status": 200,
    "response_headers": Jsonb([]),
    "response_body": b"",
    "response_truncated": False,
}
NO_ANSWER = [kind.value for kind in OutcomeKind if kind is not OutcomeKind.ANSWERED]
NAMES_REFUSED: list[Row] = [
    {"name": name} for name in ("", "Acme", "acmE", "-a", "a_b", "a b", "\u00e4", "a\n", "a" * 64)
]
NAMES_TAKEN: list[Row] = [{"name": name} for name in ("a", "7", "a-", "a-7", "z9" * 31 + "z")]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rule refuses and what it takes; `implied_by` names one that has to go before this one is ever met."""

    table: str
    refused: Sequence[Row]
    taken: Sequence[Row]
    implied_by: str = ""


CASES = {
    "tenant_pkey": Case(table="tenant", refused=[{"tenant_id": ACME}], taken=[]),
    "tenant_name_once": Case(table="tenant", refused=[{"name": "acme"}], taken=[]),
    "tenant_name_form": Case(table="tenant", refused=NAMES_REFUSED, taken=NAMES_TAKEN),
    "token_pkey": Case(table="token", refused=[{"token_id": TOKEN}], taken=[]),
    "token_sha256_once": Case(table="token", refused=[{"token_sha256": b"t" * 32}], taken=[]),
    "token_sha256_length": Case(
        table="token", refused=[{"token_sha256": b"n" * length} for length in (0, 31, 33)], taken=[]
    ),
    "token_scopes_known": Case(
        table="token",
        refused=[{"scopes": scopes} for scopes in ([], ["admin"], ["read", "admin"], [None])],
        taken=[{"scopes": scopes} for scopes in ([*ALL_SCOPES], *([scope] for scope in ALL_SCOPES))],
    ),
    "token_tenant_exists": Case(table="token", refused=[{"tenant_id": NOBODY}], taken=[{"tenant_id": OTHERS}]),
    "destination_pkey": Case(table="destination", refused=[{"destination_id": BANK, "tenant_id": OTHERS}], taken=[]),
    "destination_name_once": Case(
        table="destination", refused=[{"name": "bank"}], taken=[{"name": "bank", "tenant_id": OTHERS}]
    ),
    # It stands there for deliveries to refer to; no two destinations share an id in the first place.
    "destination_of_tenant": Case(
        table="destination", refused=[{"destination_id": BANK}], taken=[], implied_by="destination_pkey"
    ),
    "destination_name_form": Case(table="destination", refused=NAMES_REFUSED, taken=NAMES_TAKEN),
    "destination_auth_type_known": Case(
        table="destination",
        refused=[{"auth_type": name, "sealed_credentials": b"x"} for name in ("", "digest", "None")],
        taken=[{"auth_type": name, "sealed_credentials": b"x"} for name in AuthType if name is not AuthType.NONE],
    ),
    "destination_credentials_sealed": Case(
        table="destination",
        refused=[
            {"sealed_credentials": b"x"},
            *({"auth_type": name} for name in AuthType if name is not AuthType.NONE),
        ],
        taken=[{"auth_type": "none"}, {"auth_type": "bearer", "sealed_credentials": b"x"}],
    ),
    "destination_guarantee_known": Case(
        table="destination",
        refused=[{"guarantee": name} for name in ("", "exactly_once", "Auto")],
        taken=[{"guarantee": name} for name in Guarantee],
    ),
    "destination_timeouts_ordered": Case(
        table="destination",
        refused=[
            {"connect_seconds": 0},
            {"connect_seconds": -0.5},
            {"connect_seconds": 3.001},
            {"first_byte_seconds": 0},
            {"first_byte_seconds": -0.5},
            {"first_byte_seconds": 3.001},
            {"total_seconds": 25.001},
        ],
        taken=[
            {"connect_seconds": 0.001},
            {"connect_seconds": 3},
            {"first_byte_seconds": 0.001},
            {"first_byte_seconds": 3},
            {"total_seconds": 25},
        ],
    ),
    "destination_state_known": Case(
        table="destination",
        refused=[{"state": name} for name in ("", "Paused", "deleted")],
        taken=[{"state": name} for name in DestinationState],
    ),
    "destination_state_has_author": Case(
        table="destination",
        refused=[{"state_changed_at": NOW}, {"state_changed_by": "somebody"}],
        taken=[{"state_changed_at": NOW, "state_changed_by": "somebody"}],
    ),
    "destination_options_object": Case(
        table="destination",
        refused=[{"options": Jsonb([])}, {"options": Jsonb("text")}, {"options": Jsonb(1)}, {"options": Jsonb(None)}],
        taken=[{"options": Jsonb({"allow": {}})}],
    ),
    "destination_deleted_has_name": Case(
        table="destination",
        refused=[{"deleted_at": NOW}, {"deleted_name": "bank"}],
        taken=[{"deleted_at": NOW, "deleted_name": "bank"}],
    ),
    "destination_tenant_exists": Case(
        table="destination", refused=[{"tenant_id": NOBODY}], taken=[{"tenant_id": OTHERS}]
    ),
    "oauth_token_pkey": Case(table="oauth_token", refused=[{"destination_id": BANK}], taken=[]),
    "oauth_token_whole": Case(
        table="oauth_token",
        refused=[{name: None} for name in TOKEN_PARTS],
        taken=[dict.fromkeys(TOKEN_PARTS)],
    ),
    "oauth_token_renewal_ends": Case(
        table="oauth_token",
        refused=[{"renewal_id": NOBODY}, {"renewing_until": NOW}],
        taken=[{"renewal_id": NOBODY, "renewing_until": NOW}],
    ),
    "oauth_token_failure_said": Case(
        table="oauth_token",
        refused=[{"failed_renewal_id": NOBODY}, {"failure": "why"}],
        taken=[{"failed_renewal_id": NOBODY, "failure": "why"}],
    ),
    "oauth_token_of_destination": Case(table="oauth_token", refused=[{"destination_id": NOBODY}], taken=[]),
    "delivery_pkey": Case(table="delivery", refused=[{"delivery_id": DELIVERY}], taken=[]),
    "delivery_key_once": Case(
        table="delivery", refused=[{"idempotency_key": "key"}], taken=[{"idempotency_key": "key", **THEIRS}]
    ),
    "delivery_state_known": Case(
        table="delivery",
        refused=[{"state": state, "finished_at": NOW} for state in ("", "done", "Pending")],
        taken=[SENDING, {"state": "pending"}, *({"state": s, "finished_at": NOW} for s in State if s.finished)],
    ),
    "delivery_lease_while_sending": Case(
        table="delivery",
        refused=[
            {"state": "sending"},
            {**SENDING, "lease_id": None},
            {**SENDING, "leased_until": None},
            {**SENDING, "state": "pending"},
            {**SENDING, "state": "delivered", "finished_at": NOW},
            {"lease_id": NOBODY},
            {"leased_until": NOW},
        ],
        taken=[SENDING],
    ),
    "delivery_finished_has_time": Case(
        table="delivery",
        refused=[
            {"finished_at": NOW},
            {**SENDING, "finished_at": NOW},
            *({"state": state} for state in State if state.finished),
        ],
        taken=[SENDING, {"state": "failed", "finished_at": NOW}],
    ),
    "delivery_attempts_bounded": Case(
        table="delivery",
        refused=[{"attempts_made": -1}, {"attempts_made": 4}],
        taken=[{"attempts_made": 0}, {"attempts_made": 3}],
    ),
    "delivery_fingerprint_length": Case(
        table="delivery", refused=[{"fingerprint": b"n" * length} for length in (0, 31, 33)], taken=[]
    ),
    "delivery_destination_exists": Case(
        table="delivery",
        refused=[
            {"destination_id": NOBODY},
            {"destination_id": THEIR_BANK},  # another tenant's
            {"tenant_id": OTHERS},
        ],
        taken=[THEIRS],
    ),
    "destination_flow_pkey": Case(table="destination_flow", refused=[{"destination_id": THEIR_BANK}], taken=[]),
    "destination_flow_destination_exists": Case(
        table="destination_flow", refused=[{"destination_id": NOBODY}], taken=[]
    ),
    "destination_flow_slots_paired": Case(
        table="destination_flow",
        refused=[{"in_flight": [DELIVERY]}, {"in_flight_until": [NOW]}],
        taken=[{"in_flight": [DELIVERY], "in_flight_until": [NOW]}],
    ),
    "destination_flow_probe_while_open": Case(
        table="destination_flow",
        refused=[
            {"open_until": NOW, "probe_id": DELIVERY},
            {"open_until": NOW, "probe_until": NOW},
            {"probe_id": DELIVERY, "probe_until": NOW},
        ],
        taken=[{"open_until": NOW}, {"open_until": NOW, "probe_id": DELIVERY, "probe_until": NOW}],
    ),
    "destination_flow_share_positive": Case(
        table="destination_flow", refused=[{"share": 0}, {"share": -1}], taken=[{"share": 1}]
    ),
    "attempt_under_way_pkey": Case(
        table="attempt_under_way", refused=[{"destination_id": THEIR_BANK}], taken=[{"delivery_id": THEIR_DELIVERY}]
    ),
    "attempt_under_way_delivery_exists": Case(table="attempt_under_way", refused=[{"delivery_id": NOBODY}], taken=[]),
    "slot_waiter_pkey": Case(
        table="slot_waiter", refused=[{"destination_id": THEIR_BANK}], taken=[{"delivery_id": THEIR_DELIVERY}]
    ),
    "slot_waiter_delivery_exists": Case(table="slot_waiter", refused=[{"delivery_id": NOBODY}], taken=[]),
    "ordering_place_pkey": Case(
        table="ordering_place", refused=[{"destination_id": THEIR_BANK}], taken=[{"ordering_key": "b"}, {"place": 3}]
    ),
    "ordering_place_of_delivery": Case(table="ordering_place", refused=[{"delivery_id": THEIR_DELIVERY}], taken=[]),
    "ordering_place_key_length": Case(
        table="ordering_place",
        refused=[{"ordering_key": ""}, {"ordering_key": "k" * 201}],
        taken=[{"ordering_key": "k" * 200}],
    ),
    "ordering_place_delivery_exists": Case(table="ordering_place", refused=[{"delivery_id": NOBODY}], taken=[]),
    "delivery_term_pkey": Case(
        table="delivery_term", refused=[{"term": 6}], taken=[{"term": 6, "delivery_id": THEIR_DELIVERY}]
    ),
    "delivery_body_pkey": Case(table="delivery_body", refused=[{"delivery_id": DELIVERY}], taken=[]),
    "delivery_body_delivery_exists": Case(table="delivery_body", refused=[{"delivery_id": NOBODY}], taken=[]),
    "attempt_pkey": Case(
        table="attempt", refused=[{"number": 1}], taken=[{"number": 1, "delivery_id": THEIR_DELIVERY}]
    ),
    "attempt_outcome_known": Case(
        table="attempt",
        refused=[{"outcome": outcome} for outcome in ("", "timed out", "Unknown")],
        taken=[ANSWERED, *({"outcome": outcome} for outcome in NO_ANSWER)],
    ),
    "attempt_answered_has_response": Case(
        table="attempt",
        refused=[
            {**ANSWERED, "status": None},
            {**ANSWERED, "response_headers": None},
            {**ANSWERED, "response_body": None},
            {**ANSWERED, "response_truncated": None},
            {"status": 200},
            *({**ANSWERED, "outcome": "unknown", "reason": "why", "status": status} for status in (200, None)),
        ],
        taken=[ANSWERED],
    ),
    "attempt_reason_unless_answered": Case(
        table="attempt",
        refused=[
            {**ANSWERED, "reason": "why"},
            *({"outcome": outcome, "reason": None} for outcome in NO_ANSWER),
        ],
        taken=[ANSWERED],
    ),
    "attempt_kind_known": Case(
        table="attempt",
        refused=[{"kind": kind} for kind in ("", "Send", "question")],
        taken=[{"kind": "reconcile"}],
    ),
    "attempt_body_capped": Case(
        table="attempt",
        refused=[{**ANSWERED, "response_body": b"x" * 65_537}],
        taken=[{**ANSWERED, "response_body": b"x" * 65_536}],
    ),
    "attempt_delivery_exists": Case(table="attempt", refused=[{"delivery_id": NOBODY}], taken=[]),
    "schema_migration_pkey": Case(table="schema_migration", refused=[{"number": 1}], taken=[]),
}
# All other columns are never empty.
MAY_BE_EMPTY = {
    *(("token", name) for name in ("revoked_at", "last_used_at")),
    *(("destination", name) for name in ("sealed_credentials", "sealed_certificate", "sealed_signing")),
    *(("destination", name) for name in ("state_reason", "state_changed_at", "state_changed_by")),
    *(("destination", name) for name in ("credentials_changed_at", "deleted_at", "deleted_name")),
    *(("oauth_token", name) for name in ROWS["oauth_token"] if name != "destination_id"),
    *(("delivery", name) for name in ("lease_id", "leased_until", "finished_at", "lapsed_lease_id", "give_up_at")),
    *(("delivery", name) for name in ("ordering_key", "waiting_for", "waits_until", "delivered_by")),
    *(("destination_flow", name) for name in ("counted_since", "open_until", "probe_id", "probe_until", "share")),
    *(("delivery", name) for name in ("ask_at", "asking_id", "asking_until", "ask_silent")),
    *(("delivery", name) for name in ("questions_made", "questions_answered", "first_answered_at")),
    *(("destination_flow", name) for name in ("silent_since", "roused_at")),
    *(("attempt", name) for name in ("reason", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "moved_lease_id")),
    *(("attempt", name) for name in ("remote_address", "egress_address", "status", "response_headers")),
    *(("attempt", name) for name in ("response_body", "response_length", "response_sha256", "response_truncated")),
}
NEVER_EMPTY = [(table, name) for table, row in ROWS.items() for name in row if (table, name) not in MAY_BE_EMPTY]


@pytest.fixture(scope="module")
def connection(shared_database: FreshDatabase) -> Iterator[Connection]:
    """The owner's, to a database with the rows of PRESENT."""
    with psycopg.connect(shared_database.admin_url, autocommit=True) as made:
        for table, changes in PRESENT:
            insert(made, table, changes)
        made.execute("DELETE FROM destination_flow WHERE destination_id = %s", [BANK])  # each has one from the start
        yield made


def insert(connection: Connection, table: str, changes: Row) -> None:
    row = {**ROWS[table], **changes}
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Placeholder, row)),
    )
    connection.execute(statement, row)


def takes(connection: Connection, table: str, changes: Row, *, without: Callable[[Connection], object]) -> None:
    """That the row is taken where a rule has gone; nothing of it is left. Raises what PostgreSQL says otherwise."""
    with connection.transaction(force_rollback=True):
        without(connection)
        insert(connection, table, changes)


def nothing(_: Connection) -> None:
    pass


def dropping(table: str, *constraints: str) -> Callable[[Connection], object]:
    """With what refers to it, for a key."""

    def drop(connection: Connection) -> None:
        for name in filter(None, constraints):
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {} CASCADE").format(sql.Identifier(table), sql.Identifier(name))
            )

    return drop


def found(connection: Connection, query: str) -> set[tuple[object, ...]]:
    return set(connection.execute(query.encode()).fetchall())


IN_OURS = "relnamespace = 'public'::regnamespace AND relkind = 'r'"
COLUMNS = f"pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE {IN_OURS} AND attnum > 0 AND NOT attisdropped"


def test_every_rule_of_the_schema_has_a_case(connection: Connection) -> None:
    rules = found(
        connection,
        "SELECT conname::text, relname::text FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "  # noqa: S608
        f"WHERE {IN_OURS} AND contype <> 'n'",
    )
    assert rules == {(name, case.table) for name, case in CASES.items()}
    assert all(case.refused for case in CASES.values())


def test_every_rule_holds_at_once_and_for_older_rows_too(connection: Connection) -> None:
    """None waits for the end of a transaction, and none was added without a look at what was there."""
    rules = f"pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE {IN_OURS}"
    assert found(connection, f"SELECT conname FROM {rules} AND (condeferrable OR NOT convalidated)") == set()  # noqa: S608


def test_every_column_is_in_the_rows_here_and_only_those_listed_may_be_empty(connection: Connection) -> None:
    columns = found(
        connection,
        f"SELECT relname::text, attname::text, attnotnull FROM {COLUMNS} AND attgenerated = ''",  # noqa: S608
    )
    assert columns == {(table, name, (table, name) not in MAY_BE_EMPTY) for table, row in ROWS.items() for name in row}


REFUSED = [(name, change) for name, case in CASES.items() for change in case.refused]
TAKEN = [(name, change) for name, case in CASES.items() for change in [{}, *case.taken]]


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=[name for name, _ in REFUSED])
def test_a_rule_refuses_what_it_is_there_for_and_nothing_else_does(
    connection: Connection, name: str, change: Row
) -> None:
    case = CASES[name]
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        takes(connection, case.table, change, without=dropping(case.table, case.implied_by))
    assert refused.value.diag.constraint_name == name
    takes(connection, case.table, change, without=dropping(case.table, case.implied_by, name))


@pytest.mark.parametrize(("name", "change"), TAKEN, ids=[name for name, _ in TAKEN])
def test_a_rule_refuses_nothing_that_is_inside_of_its_bounds(connection: Connection, name: str, change: Row) -> None:
    takes(connection, CASES[name].table, change, without=nothing)


@pytest.mark.parametrize(("table", "column"), NEVER_EMPTY, ids=[".".join(column) for column in NEVER_EMPTY])
def test_a_column_that_is_never_empty_is_refused_without_a_value(
    connection: Connection, table: str, column: str
) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation) as refused:
        takes(connection, table, {column: None}, without=nothing)
    assert (refused.value.diag.table_name, refused.value.diag.column_name) == (table, column)


def test_only_a_migrations_time_and_what_older_code_does_not_write_have_a_value_of_their_own(
    connection: Connection,
) -> None:
    defaults = found(
        connection,
        f"SELECT relname::text, attname::text FROM {COLUMNS} AND atthasdef AND attgenerated = ''",  # noqa: S608
    )
    later = {("destination", name) for name in ("state", "version", "options")}
    names = ("full_at", "line_until", "in_flight", "in_flight_until", "attempts", "failures")
    later |= {("destination_flow", name) for name in names} | {("attempt", "kind")}
    assert defaults == {("schema_migration", "applied_at"), *later}
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO schema_migration (number, name, sha256) VALUES (901, 'x', 'x')")
        row = connection.execute("SELECT applied_at = now() FROM schema_migration WHERE number = 901").fetchone()
    assert row == (True,)


@pytest.mark.parametrize("state", State)
def test_a_deliverys_phase_follows_from_its_state(connection: Connection, state: State) -> None:
    """PostgreSQL and the code, which lists by it, agree; and there is no other generated column."""
    lease = SENDING if state is State.SENDING else {}
    with connection.transaction(force_rollback=True):
        insert(connection, "delivery", {"state": state, "finished_at": NOW if state.finished else None, **lease})
        phase = connection.execute("SELECT phase FROM delivery WHERE delivery_id = %s", [NEW_DELIVERY]).fetchone()
    assert phase == (state.phase,)
    generated = found(connection, f"SELECT relname::text, attname::text FROM {COLUMNS} AND attgenerated <> ''")  # noqa: S608
    assert generated == {("delivery", "phase")}


@pytest.mark.parametrize("table", ["attempt", "delivery_body"])
def test_deleting_a_delivery_deletes_its_attempts_and_its_body(connection: Connection, table: str) -> None:
    mine = f"SELECT FROM {table} WHERE delivery_id = '{DELIVERY}'"
    assert found(connection, mine) != set()
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM delivery WHERE delivery_id = %s", [DELIVERY])
        assert found(connection, mine) == set()


REFERENCES = {
    "destination_tenant_exists": ("destination", "tenant"),
    "token_tenant_exists": ("token", "tenant"),
    "delivery_destination_exists": ("delivery", "destination"),
}


@pytest.mark.parametrize("rule", REFERENCES)
def test_nothing_is_deleted_that_others_refer_to(connection: Connection, rule: str) -> None:
    with connection.transaction(force_rollback=True):
        for other, (table, _) in REFERENCES.items():
            dropping(table, "" if other == rule else other)(connection)
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match=rule):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(REFERENCES[rule][1])))

"""What each role can and cannot do, on a server as RDS has it: the master is no superuser, and rds_iam exists."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from db.connection import Database
from db.migrations import ADMIN_ROLE, APPLICATION_ROLE, AUTHORIZER_ROLE, READONLY_ROLE, ROLES, migrate, migrations
from db.tenants import caller_of, issue_token
from domain.ids import TenantId, TokenId
from local.postgres import Postgres
from runtime.settings import DatabaseSettings

ROOT = Path(__file__).parents[2]
MASTER = "sallyport_owner"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# What people do not see, and why. Whatever else there is they do; a new column must be decided upon.
HIDDEN = {
    ("token", "token_sha256"),  # what a token is recognised by
    ("destination", "sealed_credentials"),
    ("destination", "sealed_certificate"),
    ("destination", "sealed_signing"),
    ("oauth_token", "sealed_token"),
    ("oauth_token", "token_basis"),  # a hash over credentials
    ("proposal", "sealed_request"),  # a call that may hold credentials
}
# What operators read of deliveries: when which destination answered to which address, and nothing else.
SIGHTED = {
    *(("destination", name) for name in ("destination_id", "tenant_id", "name", "state", "deleted_at")),
    *(("delivery", name) for name in ("delivery_id", "destination_id", "phase")),
    *(("attempt", name) for name in ("delivery_id", "number", "outcome", "egress_address", "status", "started_at")),
}
# What the API reads of a tenant: how many deliveries need no approval. Names are for operators.
APPROVALS = {("tenant", "tenant_id"), ("tenant", "approvals_above")}
# What never changes of a destination.
LASTING = {
    ("destination", "destination_id"),
    ("destination", "tenant_id"),
    ("destination", "created_at"),
    ("oauth_token", "destination_id"),
    *(("attempt", name) for name in ("delivery_id", "number", "attempt_id")),
}
# What a new row does not say: when an attempt was recorded, so that it is sealed; and what only a later statement does.
LATER = {
    ("attempt", "recorded_in"),
    *(("job", name) for name in ("move_id", "step_id", "changed", "skipped", "finished_at")),
    *(("proposal", name) for name in ("decided_at", "decided_by")),
}

# What would change the past of the audit log: nobody can but who owns the schema.
REWRITES = (
    "INSERT INTO audit_entry (tenant_id, sequence, at, content, previous, hash) VALUES "
    "(gen_random_uuid(), 1, now(), '{}', '', '')",
    "UPDATE audit_entry SET at = now()",
    "DELETE FROM audit_entry",
    "TRUNCATE audit_entry",
    "INSERT INTO audit_head (tenant_id) VALUES (gen_random_uuid())",
    "UPDATE audit_head SET sequence = 0",
    "DELETE FROM audit_head",
    "CREATE OR REPLACE FUNCTION append_audit(uuid, timestamptz, text) RETURNS void LANGUAGE sql AS ''",
    "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
    "SELECT FROM audit_entry FOR UPDATE",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of its own: roles belong to servers. The master migrated it, and owns the database."""
    with Postgres(tmp_path_factory.mktemp("rds"), durable=False, settings={"timezone": "Asia/Tokyo"}) as made:
        made.run_sql("CREATE ROLE rds_iam")
        made.run_sql(f"CREATE ROLE {MASTER} LOGIN CREATEROLE")
        made.run_sql(f"GRANT rds_iam TO {MASTER} WITH ADMIN OPTION")
        made.run_sql(f"CREATE DATABASE sallyport OWNER {MASTER}")
        with connected(made, MASTER) as connection:
            assert migrate(connection) == [migration.number for migration in migrations()]
        yield made


def connected(server: Postgres, role: str) -> psycopg.Connection:
    return psycopg.connect(server.url(user=role, database="sallyport"), autocommit=True)


def database(server: Postgres, role: str) -> Database:
    """As a function connects."""
    return Database(DatabaseSettings(database_url=server.url(user=role, database="sallyport")))


def refused(server: Postgres, role: str, statement: str) -> bool:
    with connected(server, role) as connection:
        try:
            connection.execute(statement.encode())
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
            return True
        return False


def columns(server: Postgres) -> set[tuple[str, str]]:
    """All columns of all our tables."""
    with connected(server, MASTER) as connection:
        rows = connection.execute(
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'"
        )
        return {(table, column) for table, column in rows}


def readable(server: Postgres, role: str) -> set[tuple[str, str]]:
    """The columns that a role really reads, one SELECT each."""
    return {
        (table, column)
        for table, column in columns(server)
        if not refused(server, role, f"SELECT {column} FROM {table} LIMIT 0")  # noqa: S608 - our own tables' names
    }


def test_the_master_makes_the_roles_and_iam_lets_them_in(server: Postgres) -> None:
    with connected(server, MASTER) as connection:
        found = connection.execute(
            "SELECT rolname::text, rolcanlogin, pg_has_role(oid, 'rds_iam', 'MEMBER'), rolsuper, rolcreaterole "
            "FROM pg_roles WHERE rolname LIKE 'sallyport%%'"
        ).fetchall()
        assert {role for role in found if role[0] != MASTER} == {(role, True, True, False, False) for role in ROLES}
        passwords = server.run_sql("SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL")
        assert passwords == "0"
        assert migrate(connection) == []  # again, at the next deployment


def test_the_authorizer_reads_what_its_statement_reads_and_nothing_else(server: Postgres) -> None:
    names = (
        *("token_id", "tenant_id", "token_sha256", "scopes", "revoked_at", "last_used_at"),
        *("expires_at", "destination_ids"),
    )
    assert readable(server, AUTHORIZER_ROLE) == {
        *(("token", name) for name in names),
        *(("destination", name) for name in ("destination_id", "tenant_id", "name")),
    }


def test_the_authorizers_statement_runs_as_it(server: Postgres) -> None:
    tenant_id, token_id = TenantId(uuid4()), TokenId(uuid4())
    with closing(database(server, ADMIN_ROLE)) as operators:
        issue_token(
            operators,
            tenant_id=tenant_id,
            tenant_name="acme",
            token_id=token_id,
            token_sha256=bytes(32),
            scopes=("read",),
            now=NOW,
        )
    with closing(database(server, AUTHORIZER_ROLE)) as made:
        caller = caller_of(made, token_sha256=bytes(32), now=NOW)
        assert caller is not None
        assert (caller.tenant_id, caller.token_id, caller.scopes) == (tenant_id, token_id, ("read",))
    with connected(server, MASTER) as connection:
        assert connection.execute("SELECT last_used_at FROM token").fetchall() == [(NOW,)]


@pytest.mark.parametrize(
    ("role", "tables", "single"),
    [
        (
            APPLICATION_ROLE,
            {
                *("destination", "oauth_token", "delivery", "delivery_body", "attempt"),
                *(
                    "destination_flow",
                    "slot_waiter",
                    "attempt_under_way",
                    "ordering_place",
                    "delivery_term",
                    "audit_entry",
                    "audit_head",
                    "attempt_seal",
                    "seal_progress",
                    "tally",
                    "tally_progress",
                    "retention_walk",
                    "job",
                    "proposal",
                ),
            },
            APPROVALS,
        ),
        (ADMIN_ROLE, {"tenant", "token", "audit_entry", "audit_head"}, SIGHTED),
    ],
)
def test_the_other_functions_read_the_tables_that_they_work_on(
    server: Postgres, role: str, tables: set[str], single: set[tuple[str, str]]
) -> None:
    assert readable(server, role) == {(table, column) for table, column in columns(server) if table in tables} | single


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (APPLICATION_ROLE, "SELECT token_id FROM token"),
        (APPLICATION_ROLE, "INSERT INTO token SELECT FROM token"),
        (APPLICATION_ROLE, "UPDATE token SET revoked_at = NULL"),
        (APPLICATION_ROLE, "UPDATE delivery_body SET body = ''"),
        (APPLICATION_ROLE, "DELETE FROM delivery_body"),
        (APPLICATION_ROLE, "UPDATE destination SET tenant_id = NULL"),
        (APPLICATION_ROLE, "DELETE FROM destination"),
        (APPLICATION_ROLE, "DELETE FROM delivery"),
        (APPLICATION_ROLE, "DELETE FROM attempt"),
        (APPLICATION_ROLE, "DROP TABLE attempt"),
        (APPLICATION_ROLE, "SELECT name FROM tenant"),
        (APPLICATION_ROLE, "UPDATE tenant SET approvals_above = NULL"),
        (APPLICATION_ROLE, "UPDATE proposal SET created_by = 'somebody else'"),  # who could then approve it
        (APPLICATION_ROLE, "UPDATE proposal SET expires_at = 'infinity'"),
        (APPLICATION_ROLE, "DELETE FROM proposal"),
        (APPLICATION_ROLE, "UPDATE job SET since_id = until_id"),
        (APPLICATION_ROLE, "DELETE FROM job"),
        (APPLICATION_ROLE, "UPDATE attempt_seal SET leaves = ''"),
        (APPLICATION_ROLE, "DELETE FROM attempt_seal"),
        (APPLICATION_ROLE, "INSERT INTO seal_progress (sealed_until) VALUES (1)"),
        (APPLICATION_ROLE, "DELETE FROM seal_progress"),
        (APPLICATION_ROLE, "INSERT INTO retention_walk (begins_at, taken_until) VALUES (now(), now())"),
        (APPLICATION_ROLE, "DELETE FROM retention_walk"),
        *((role, statement) for role in (APPLICATION_ROLE, ADMIN_ROLE) for statement in REWRITES),
        (ADMIN_ROLE, "SELECT path FROM delivery"),
        (ADMIN_ROLE, "SELECT body FROM delivery_body"),
        (ADMIN_ROLE, "SELECT base_url FROM destination"),
        (ADMIN_ROLE, "SELECT response_body FROM attempt"),
        (ADMIN_ROLE, "SELECT sealed_request FROM proposal"),
        (ADMIN_ROLE, "SELECT FROM job"),
        (ADMIN_ROLE, "UPDATE token SET token_sha256 = NULL"),
        (ADMIN_ROLE, "DELETE FROM token"),
        (ADMIN_ROLE, "DELETE FROM tenant"),
        (ADMIN_ROLE, "UPDATE schema_migration SET sha256 = NULL"),
    ],
)
def test_the_other_functions_cannot_do_each_others_work(server: Postgres, role: str, statement: str) -> None:
    assert refused(server, role, statement)


WRITTEN = {
    # role: the tables that it inserts into, the tables that it updates as a whole, the single columns that it updates
    APPLICATION_ROLE: (
        {
            *("destination", "oauth_token", "delivery", "delivery_body", "attempt"),
            *("destination_flow", "slot_waiter", "attempt_under_way", "ordering_place", "delivery_term"),
            *("attempt_seal", "job", "proposal", "tally"),
        },
        {"destination", "oauth_token", "destination_flow", "delivery", "attempt", "attempt_under_way"},
        {
            ("seal_progress", "sealed_until"),
            ("tally", "count"),
            *(("tally_progress", name) for name in ("counted_until", "counted_at", "step_id", "attempts")),
            *(
                ("retention_walk", name)
                for name in ("begins_at", "destination_id", "behind", "taken_by", "taken_until")
            ),
            *(("job", name) for name in ("state", "after_id", "step_id", "paced_until", "changed", "skipped")),
            *(("job", name) for name in ("finished_at", "move_id")),
            *(("proposal", name) for name in ("state", "decided_at", "decided_by", "sealed_request")),
        },
    ),
    AUTHORIZER_ROLE: (set[str](), set[str](), {("token", "last_used_at")}),
    ADMIN_ROLE: (
        {"tenant", "token"},
        set[str](),
        {("tenant", "name"), ("tenant", "approvals_above"), ("token", "revoked_at")},
    ),
    READONLY_ROLE: (set[str](), set[str](), set[tuple[str, str]]()),
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_writes_the_columns_that_its_statements_write_and_no_others(server: Postgres, role: str) -> None:
    inserted, updated, single = WRITTEN[role]

    def allowed(right: str) -> set[tuple[str, str]]:
        with connected(server, MASTER) as connection:
            query = "SELECT has_column_privilege(%s, %s, %s, %s)"
            return {
                (table, column)
                for table, column in columns(server)
                if connection.execute(query, [role, table, column, right]).fetchone() == (True,)
            }

    assert allowed("INSERT") == {(table, column) for table, column in columns(server) if table in inserted} - LATER
    whole = {(table, column) for table, column in columns(server) if table in updated}
    assert allowed("UPDATE") == single | whole - LASTING


# What each role deletes, at most: what has passed by itself. Deliveries go by apply_retention alone.
DELETED = {
    APPLICATION_ROLE: {"slot_waiter", "attempt_under_way", "ordering_place", "tally"},
    AUTHORIZER_ROLE: set[str](),
    ADMIN_ROLE: set[str](),
    READONLY_ROLE: set[str](),
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_deletes_from_few_tables_and_empties_none(server: Postgres, role: str) -> None:
    rights = "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"
    with connected(server, MASTER) as connection:
        rows = connection.execute(
            "SELECT relname::text, name FROM pg_class CROSS JOIN unnest(%(rights)s::text[]) AS listed (name) "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
            "AND has_table_privilege(%(role)s, pg_class.oid, name)",
            {"rights": list(rights), "role": role},
        ).fetchall()
    assert set(rows) == {(table, "DELETE") for table in DELETED[role]}


# Functions that run with the rights of the owner of the schema, and who may call them.
OWNERS_FUNCTIONS = {
    "append_audit": {APPLICATION_ROLE, ADMIN_ROLE},
    **{name: {APPLICATION_ROLE} for name in ("apply_retention", "expunge_delivery")},
    "redact_ended": set[str](),  # a trigger calls it
}


def test_few_functions_have_the_owners_rights_and_each_is_for_the_roles_that_need_it(server: Postgres) -> None:
    """Their search path is fixed, with temporary tables last: nobody else's table takes the place of ours."""
    with connected(server, MASTER) as connection:
        rows = connection.execute(
            "SELECT proname::text, rolname::text, has_function_privilege(rolname, pg_proc.oid, 'EXECUTE'), "
            "proconfig[1] LIKE 'search_path=%%, pg_temp' "
            "FROM pg_proc CROSS JOIN pg_roles "
            "WHERE pronamespace = 'public'::regnamespace AND prosecdef AND rolname = ANY (%s)",
            [list(ROLES)],
        ).fetchall()
    assert set(rows) == {
        (name, role, role in callers, True) for name, callers in OWNERS_FUNCTIONS.items() for role in ROLES
    }


def test_every_function_has_a_name_of_its_own_and_is_called(server: Postgres) -> None:
    """By a statement, a trigger or another function: what replaced it may have left one behind, with its rights."""
    with connected(server, MASTER) as connection:
        functions = connection.execute(
            "SELECT proname::text, prosrc, EXISTS (SELECT FROM pg_trigger WHERE tgfoid = pg_proc.oid) "
            "FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ).fetchall()
    statements = [path.read_text(encoding="utf-8") for path in (ROOT / "src" / "db").glob("*.py")]
    callers = [*statements, *(source for _, source, _ in functions)]
    unused = [
        name
        for name, own, is_trigger in functions
        if not is_trigger and not any(re.search(rf"\b{name}\(", text) for text in callers if text != own)
    ]
    assert unused == []
    assert sorted(name for name, _, _ in functions) == sorted({name for name, _, _ in functions})


def test_people_read_everything_but_credentials_and_hashes(server: Postgres) -> None:
    assert readable(server, READONLY_ROLE) == columns(server) - HIDDEN


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE delivery SET state = 'failed'",
        "DELETE FROM attempt",
        "INSERT INTO tenant VALUES (gen_random_uuid(), 'mallory', now())",
        "TRUNCATE delivery",
        "CREATE TABLE note (n integer)",
        "SELECT FROM delivery FOR UPDATE",
        "SET default_transaction_read_only = off; DELETE FROM attempt",  # not the setting stops them but the grants
        "SET ROLE sallyport_app",
        "SELECT * FROM token",
        "SELECT sealed_request FROM proposal",
        "SELECT append_audit(gen_random_uuid(), now(), '{}')",
    ],
)
def test_people_change_nothing(server: Postgres, statement: str) -> None:
    assert refused(server, READONLY_ROLE, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE token SET revoked_at = NULL",
        "UPDATE token SET scopes = '{manage}'",
        "INSERT INTO token SELECT FROM token",
        "DELETE FROM token",
        "SELECT FROM delivery",
        "SELECT FROM tenant",
        "CREATE TABLE note (n integer)",
        "SET ROLE sallyport_admin",
        "SELECT append_audit(gen_random_uuid(), now(), '{}')",
    ],
)
def test_the_authorizer_changes_nothing_but_when_a_token_was_used(server: Postgres, statement: str) -> None:
    assert refused(server, AUTHORIZER_ROLE, statement)


@pytest.mark.parametrize(
    ("role", "settings"),
    [
        *((role, ("10s", "10s", "0", "off", "UTC")) for role in ROLES if role != READONLY_ROLE),
        (READONLY_ROLE, ("1min", "1min", "15min", "on", "Asia/Tokyo")),  # the server's own
    ],
)
def test_sessions_are_bounded_whatever_they_ask_for_when_they_connect(
    server: Postgres, role: str, settings: tuple[str, ...]
) -> None:
    """RDS Proxy lets nobody ask."""
    names = (
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "default_transaction_read_only",
        "timezone",
    )
    with connected(server, role) as connection:
        found = tuple(connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names)
    assert found == tuple((value,) for value in settings)


def test_a_table_that_comes_later_is_hidden_until_a_migration_shows_it(server: Postgres) -> None:
    with connected(server, MASTER) as connection:
        connection.execute("CREATE TABLE later (secret text)")
        try:
            assert refused(server, READONLY_ROLE, "SELECT FROM later")
            assert refused(server, AUTHORIZER_ROLE, "SELECT FROM later")
        finally:
            connection.execute("DROP TABLE later")


def test_the_roles_that_functions_have_are_not_granted_to_each_other(server: Postgres) -> None:
    with connected(server, MASTER) as connection:
        rows = connection.execute(
            "SELECT member::regrole::text, roleid::regrole::text FROM pg_auth_members "
            "WHERE member::regrole::text = ANY(%s)",
            [list(ROLES)],
        ).fetchall()
    assert set(rows) == {(role, "rds_iam") for role in ROLES}

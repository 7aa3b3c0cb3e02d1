"""Tests share databases one after the other, and see nothing of each other (tests/support/databases.py)."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from db.migrations import APPLICATION_ROLE
from local.postgres import Postgres
from tests.support.databases import Databases, FreshDatabase

TENANT = "INSERT INTO tenant (tenant_id, name, created_at) VALUES (gen_random_uuid(), 'acme', now())"


@pytest.fixture(scope="module")
def pool(postgres: Postgres, databases: Databases) -> Iterator[Databases]:
    """For this file alone: what the next use gets is what the last one left, where it can be used again."""
    with closing(Databases(postgres, template=databases.template, prefix="fresh")) as made:
        yield made


def run(database: FreshDatabase, *statements: str) -> list[Any]:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        cursor = connection.execute(statements[-1].encode())
        return cursor.fetchall() if cursor.description is not None else []


def identity(database: FreshDatabase) -> Any:
    """By which PostgreSQL knows a database, whatever its name."""
    return run(database, "SELECT oid FROM pg_database WHERE datname = current_database()")


def uses(pool: Databases, *statements: str) -> tuple[FreshDatabase, Any]:
    """The database of a test that ran these statements, and its identity."""
    with pool.fresh() as database:
        run(database, *statements)
        return database, identity(database)


@pytest.mark.parametrize(
    ("left", "found", "as_fresh"),
    [
        pytest.param([TENANT], "SELECT count(*) FROM tenant", [(0,)], id="rows"),
        pytest.param(
            [TENANT, "DELETE FROM tenant"], "SELECT pg_relation_size('tenant')", [(0,)], id="the space of deleted rows"
        ),
        pytest.param(
            ["DELETE FROM seal_progress"], "SELECT count(*) FROM seal_progress", [(1,)], id="a migration's row"
        ),
        pytest.param(
            ["UPDATE seal_progress SET sealed_until = 7"],
            "SELECT sealed_until = 7 FROM seal_progress",
            [(False,)],
            id="a migration's row, changed",
        ),
        pytest.param(
            [TENANT, "VACUUM tenant"],
            "SELECT relpages, reltuples FROM pg_class WHERE oid = 'tenant'::regclass",
            [(0, -1)],
            id="the planner's estimate",
        ),
        pytest.param(
            ["SELECT nextval('ordering_place_number')"],
            "SELECT nextval('ordering_place_number')",
            [(1,)],
            id="a number",
        ),
    ],
)
def test_a_database_is_used_again_without_what_was_left(
    pool: Databases, left: list[str], found: str, as_fresh: list[Any]
) -> None:
    before, used = uses(pool, *left)
    with pool.fresh() as again:
        assert identity(again) == used
        assert again.name != before.name
        assert run(again, found) == as_fresh


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tenant ADD COLUMN more text",
        "ALTER TABLE tenant ALTER COLUMN name SET DEFAULT 'acme'",
        "ALTER TABLE tenant DISABLE TRIGGER ALL",
        "ALTER TABLE tenant SET (fillfactor = 50)",
        "ALTER TABLE attempt DROP CONSTRAINT attempt_pkey CASCADE",
        "CREATE INDEX more ON tenant (created_at)",
        "CREATE TABLE more ()",
        "CREATE SCHEMA more",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION slow_after() STABLE",
        "CREATE TRIGGER more AFTER INSERT ON destination EXECUTE FUNCTION destination_flow_begins()",
        "CREATE VIEW more AS SELECT 1",
        f"GRANT DELETE ON tenant TO {APPLICATION_ROLE}",
        f"GRANT UPDATE (name) ON tenant TO {APPLICATION_ROLE}",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {APPLICATION_ROLE}",
        "ALTER SEQUENCE ordering_place_number INCREMENT BY 2",
        "ANALYZE tenant",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 3', current_database()); END $$",
        f"DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM {APPLICATION_ROLE}, PUBLIC',"
        " current_database()); END $$",
    ],
)
def test_a_database_in_which_more_than_rows_was_changed_is_not(pool: Databases, change: str) -> None:
    _, used = uses(pool, TENANT, change)
    with pool.fresh() as next_one:
        assert identity(next_one) != used


def test_who_is_still_connected_is_cut_off_and_finds_no_way_back(pool: Databases) -> None:
    with pool.fresh() as database:
        idle, writing = (psycopg.connect(database.admin_url) for _ in range(2))
        writing.execute(TENANT.encode())
    for session in (idle, writing):
        with closing(session), pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with pool.fresh() as again:
        assert run(again, "SELECT count(*) FROM tenant") == [(0,)]
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(database.admin_url)


def test_rows_without_columns_are_rows(database: FreshDatabase) -> None:
    """What waits until a query finds nothing would otherwise not wait."""
    assert database.sql("SELECT FROM generate_series(1, 2)") == [{}, {}]
    assert database.sql("SELECT FROM generate_series(1, 0)") == []
    assert database.sql("SET application_name = 'nobody'") == []

"""Migrations: once each, in order, one at a time, all or nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db.migrations import Migration, MigrationError, migrate, migrations, version_of
from local.postgres import Postgres

FIRST = Migration(number=1, name="0001_first", statements="CREATE TABLE one (n integer)")
SECOND = Migration(number=2, name="0002_second", statements="CREATE TABLE two (n integer); SELECT 1 / 0")


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """The URL of a database without any schema, as its owner."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
        yield postgres.url(database="empty")
        connection.execute("DROP DATABASE empty WITH (FORCE)")


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True)


def tables(url: str) -> set[str]:
    with connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_all_are_applied_once(empty: str) -> None:
    with connect(empty) as connection:
        assert migrate(connection) == [migration.number for migration in migrations()]
        assert migrate(connection) == []
    assert {"tenant", "token", "destination", "delivery", "attempt"} <= tables(empty)


def test_two_at_once_apply_each_one_once(empty: str) -> None:
    done: list[list[int]] = []

    def run() -> None:
        with connect(empty) as connection:
            done.append(migrate(connection))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, done)) == [0, 0, 0, len(migrations())]


def test_one_that_fails_leaves_those_before_it_and_nothing_of_itself(empty: str) -> None:
    with connect(empty) as connection:
        with pytest.raises(MigrationError, match=r"0002_second\.sql: division by zero"):
            migrate(connection, files=[FIRST, SECOND])
        assert "one" in tables(empty)
        assert "two" not in tables(empty)
        # The lock is free again, so the next try does not wait for ever.
        (free,) = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() or ()
        assert free == 0


def test_why_one_failed_is_told_without_the_rows_that_postgresql_quotes(empty: str) -> None:
    rows = "CREATE TABLE one (n text UNIQUE); INSERT INTO one VALUES ('a secret'), ('a secret')"
    files = [Migration(number=1, name="0001_first", statements=rows)]
    with connect(empty) as connection, pytest.raises(MigrationError) as caught:
        migrate(connection, files=files)
    assert "unique" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_changed_after_it_was_applied_is_refused(empty: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        changed = [
            Migration(number=migration.number, name=migration.name, statements=migration.statements + " ")
            for migration in migrations()
        ]
        with pytest.raises(MigrationError, match="was changed after it was applied"):
            migrate(connection, files=changed)


def test_a_database_newer_than_the_code_is_left_as_it_is(empty: str) -> None:
    """As when a deployment is rolled back after its migration succeeded."""
    newer = Migration(number=len(migrations()) + 1, name="later", statements="CREATE TABLE later (n integer)")
    with connect(empty) as connection:
        migrate(connection, files=[*migrations(), newer])
        assert migrate(connection) == []
        assert version_of(connection) == newer.number


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0003_b.sql"):
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="without gaps"):
        migrations(tmp_path)


def test_on_rds_the_roles_take_iam_tokens(empty: str) -> None:
    with connect(empty) as connection:
        connection.execute("CREATE ROLE rds_iam")
        try:
            migrate(connection)
            members = connection.execute(
                "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = 'rds_iam'::regrole"
            ).fetchall()
            assert set(members) == {("sallyport_app",), ("sallyport_admin",)}
        finally:
            connection.execute("DROP ROLE rds_iam")


def test_a_master_user_who_is_no_superuser_can_migrate(empty: str, postgres: Postgres) -> None:
    """As on RDS: the master may create roles and owns the database, and that is all."""
    with connect(empty) as connection:
        connection.execute("CREATE ROLE master LOGIN CREATEROLE")
        connection.execute("ALTER DATABASE empty OWNER TO master")
        connection.execute("GRANT sallyport_app, sallyport_admin TO master WITH ADMIN OPTION")
    try:
        with connect(postgres.url(user="master", database="empty")) as connection:
            assert connection.info.user == "master"
            assert migrate(connection)
    finally:
        with connect(empty) as connection:
            connection.execute("DROP OWNED BY master CASCADE")
            connection.execute("ALTER DATABASE empty OWNER TO postgres")
            connection.execute("DROP ROLE master")


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO tenant VALUES (gen_random_uuid(), 'Not A Name', now())", "tenant_name_form"),
        ("INSERT INTO token VALUES (gen_random_uuid(), gen_random_uuid(), 'short', '{read}', now())", "sha256_length"),
    ],
)
def test_the_database_keeps_its_rules_by_name(empty: str, statement: str, constraint: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
            connection.execute(statement.encode())


def test_a_user_without_the_right_to_migrate_is_told_so(postgres: Postgres, empty: str) -> None:
    with connect(empty) as connection:
        connection.execute("CREATE ROLE nobody_special LOGIN")
    try:
        with (
            connect(postgres.url(user="nobody_special", database="empty")) as connection,
            pytest.raises(MigrationError, match="permission denied"),
        ):
            migrate(connection)
    finally:
        with connect(empty) as connection:
            connection.execute("DROP ROLE nobody_special")


def test_a_connection_that_breaks_under_a_migration_is_told_as_such(empty: str) -> None:
    files = [Migration(number=1, name="0001_first", statements="SELECT pg_terminate_backend(pg_backend_pid())")]
    with connect(empty) as connection, pytest.raises(MigrationError, match=r"0001_first\.sql: terminating connection"):
        migrate(connection, files=files)

"""Migrations: once each, in order, one at a time, all or nothing."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db.migrations import Migration, MigrationError, _half_built, migrate, migrations, up_to, version_of
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


def given(*statements: str) -> list[Migration]:
    """Our own files and one more for each text."""
    known = migrations()
    return [
        *known,
        *(
            Migration(number=number, name=f"{number:04}_later", statements=text)
            for number, text in enumerate(statements, len(known) + 1)
        ),
    ]


NEXT = len(migrations()) + 1
INDEX = "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_by_due ON delivery (due_at)"


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


def test_a_failure_is_reported_without_the_rows_that_postgresql_quotes(empty: str) -> None:
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


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO tenant VALUES (gen_random_uuid(), 'Not A Name', now())", "tenant_name_form"),
        ("INSERT INTO token VALUES (gen_random_uuid(), gen_random_uuid(), 'short', '{read}', now())", "sha256_length"),
    ],
)
def test_the_database_names_its_constraints(empty: str, statement: str, constraint: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
            connection.execute(statement.encode())


def test_a_user_without_permission_to_migrate_gets_a_clear_error(postgres: Postgres, empty: str) -> None:
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


def test_a_connection_that_breaks_during_a_migration_is_reported_as_such(empty: str) -> None:
    files = [Migration(number=1, name="0001_first", statements="SELECT pg_terminate_backend(pg_backend_pid())")]
    with connect(empty) as connection, pytest.raises(MigrationError, match=r"0001_first\.sql: terminating connection"):
        migrate(connection, files=files)


def test_a_file_whose_statements_take_too_long_together_is_ended_by_postgresql(empty: str) -> None:
    """Each statement alone would be in time."""
    with connect(empty) as connection:
        migrate(connection)
        with pytest.raises(MigrationError, match=rf"{NEXT:04}_later\.sql: terminating connection due to transaction"):
            migrate(connection, files=given("SELECT pg_sleep(0.4);" * 20), seconds_left=lambda: 1.0)
    assert tables(empty) >= {"delivery"}


def test_a_statement_that_takes_too_long_is_cancelled_and_its_file_named(empty: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        slow = given("CREATE TABLE half_way (n integer); SELECT pg_sleep(30)")
        with pytest.raises(MigrationError, match=rf"{NEXT:04}_later\.sql: (canceling|terminating)"):
            migrate(connection, files=slow, seconds_left=lambda: 0.5)
    assert "half_way" not in tables(empty)


def test_a_lock_that_others_hold_is_not_waited_for_long_but_tried_again(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.migrations.LOCK_WAIT_SECONDS", 1)
    with connect(empty) as connection:
        migrate(connection)
        with psycopg.connect(empty) as somebody:
            somebody.execute("SELECT count(*) FROM delivery")  # and does not end the transaction
            pauses: list[float] = []

            def sleep(seconds: float) -> None:
                pauses.append(seconds)
                somebody.rollback()

            assert migrate(connection, files=given("ALTER TABLE delivery ADD remark text"), sleep=sleep) == [NEXT]
            assert len(pauses) == 1


def test_a_lock_that_is_never_free_is_a_failure_that_names_the_file(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.migrations.LOCK_WAIT_SECONDS", 1)
    monkeypatch.setattr("db.migrations.LOCK_TRIES", 2)
    with connect(empty) as connection, psycopg.connect(empty) as somebody:
        migrate(connection)
        somebody.execute("LOCK TABLE delivery IN ACCESS SHARE MODE")
        with pytest.raises(MigrationError, match=rf"{NEXT:04}_later\.sql: canceling statement due to lock timeout"):
            migrate(connection, files=given("ALTER TABLE delivery ADD remark text"), sleep=lambda _: None)
        with pytest.raises(MigrationError, match="lock timeout"):  # nor is there another try when there is no time
            migrate(connection, files=given("ALTER TABLE delivery ADD remark text"), seconds_left=lambda: 1.5)


def test_a_migration_that_finds_another_at_work_gives_up_in_time(empty: str) -> None:
    with connect(empty) as first, connect(empty) as second:
        first.execute("SELECT pg_advisory_lock(7255496)")
        left = [2.5]

        def sleep(seconds: float) -> None:
            left[0] -= seconds

        with pytest.raises(MigrationError, match="another migration is running"):
            migrate(second, seconds_left=lambda: left[0], sleep=sleep)
    assert tables(empty) == set()


def test_an_index_is_built_beside_the_traffic(empty: str) -> None:
    with connect(empty) as connection:
        assert migrate(connection, files=given(INDEX)) == [*range(1, NEXT), NEXT]
        assert valid(connection, "delivery_by_due")


def valid(connection: psycopg.Connection, index: str) -> bool:
    row = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [index]).fetchone()
    return row == (True,)


def test_two_at_once_build_an_index_without_waiting_for_each_other_for_ever(empty: str) -> None:
    """A lock that is waited for inside PostgreSQL would be one that CREATE INDEX CONCURRENTLY waits for in turn."""
    done: list[list[int]] = []

    def run() -> None:
        with connect(empty) as connection:
            done.append(migrate(connection, files=given(INDEX), sleep=lambda _: time.sleep(0.05)))

    with connect(empty) as connection:
        migrate(connection)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(len, done)) == [0, 0, 1]


def test_what_an_interrupted_build_left_behind_is_dropped_and_built_again(empty: str) -> None:
    with connect(empty) as connection, psycopg.connect(empty) as somebody:
        migrate(connection)
        somebody.execute(
            "INSERT INTO tenant VALUES (gen_random_uuid(), 'acme', now())"
        )  # CONCURRENTLY waits for its end
        index = INDEX.replace("delivery (due_at)", "tenant (created_at)")
        with pytest.raises(
            MigrationError, match=rf"{NEXT:04}_later\.sql: canceling statement due to statement timeout"
        ):
            migrate(connection, files=given(index), seconds_left=lambda: 1)
        assert not valid(connection, "delivery_by_due")
        assert version_of(connection) == NEXT - 1
        somebody.rollback()
        assert migrate(connection, files=given(index)) == [NEXT]
        assert valid(connection, "delivery_by_due")


def test_an_index_that_somebody_builds_by_hand_is_left_alone(empty: str) -> None:
    with connect(empty) as connection, psycopg.connect(empty) as slow, connect(empty) as builder:
        migrate(connection)
        slow.execute("INSERT INTO tenant VALUES (gen_random_uuid(), 'acme', now())")
        by_hand = threading.Thread(
            target=builder.execute, args=["CREATE INDEX CONCURRENTLY tenant_by_age ON tenant (created_at)"]
        )
        by_hand.start()
        while not connection.execute("SELECT FROM pg_stat_progress_create_index").fetchall():
            time.sleep(0.01)
        assert (_half_built(connection, at_work=False), _half_built(connection, at_work=True)) == (
            [],
            ["tenant_by_age"],
        )
        same = "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS tenant_by_age ON tenant (created_at)"
        try:
            # Their build holds the table, so ours waits; should it get through, the index is not complete.
            with pytest.raises(MigrationError, match=r"canceling statement|is not complete"):
                migrate(connection, files=given(same), seconds_left=lambda: 1)
        finally:
            slow.rollback()
            by_hand.join(30)
        assert valid(connection, "tenant_by_age")
        assert migrate(connection, files=given(same)) == [NEXT]


def test_what_is_half_built_in_another_schema_is_left_alone(empty: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        connection.execute("CREATE SCHEMA others; CREATE TABLE others.note (n integer)")
        connection.execute("CREATE INDEX note_by_n ON others.note (n)")
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'others.note_by_n'::regclass")
        assert migrate(connection, files=given(INDEX)) == [NEXT]
        assert not valid(connection, "others.note_by_n")


def test_an_index_that_cannot_be_used_is_never_called_done(empty: str) -> None:
    with connect(empty) as connection:
        migrate(connection)
        connection.execute("CREATE INDEX tenant_by_age ON tenant (created_at)")
        # What a build in progress looks like: a superuser may say so.
        broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tenant_by_age'::regclass"
        text = f"-- outside a transaction\n{broken}"
        with pytest.raises(MigrationError, match=r"_later\.sql: the index tenant_by_age is not complete"):
            migrate(connection, files=given(text))
        assert version_of(connection) == NEXT - 1


def test_only_the_files_up_to_the_one_that_is_asked_for_are_taken() -> None:
    first, *_ = migrations()
    assert up_to(first.name, migrations()) == (first,)
    assert up_to(migrations()[-1].name, migrations()) == migrations()
    with pytest.raises(MigrationError, match="has no migration 0999_unknown, its newest is"):
        up_to("0999_unknown", migrations())


def test_the_version_of_a_database_without_a_ledger_is_an_error(empty: str) -> None:
    with connect(empty) as connection, pytest.raises(MigrationError, match="schema_migration"):
        version_of(connection)

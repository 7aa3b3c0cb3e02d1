"""Migrations: numbered SQL files beside this one, applied once each, in order, under one lock.

Append-only: a file that has been applied is never edited; its SHA-256 is stored and compared. A database that is newer
than the code is left as it is: when a deployment is rolled back, older code meets the newer schema, and must work
with it (expand first, contract a release later). Each file runs in a transaction of its own together with the row
that says it ran, so a failure leaves the files before it applied and nothing of itself.

One kind of file cannot: CREATE INDEX CONCURRENTLY refuses to run in a transaction. It is alone in a file that has
the line `-- outside a transaction`, and is written so that it may run again (IF NOT EXISTS); the half-built index that
a failure leaves behind is dropped before the next try.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import tuple_row

from domain.values import value_class

APPLICATION_ROLE = "sallyport_app"
AUTHORIZER_ROLE = "sallyport_authorizer"
ADMIN_ROLE = "sallyport_admin"
READONLY_ROLE = "sallyport_readonly"
ROLES = (APPLICATION_ROLE, AUTHORIZER_ROLE, ADMIN_ROLE, READONLY_ROLE)
OUTSIDE_A_TRANSACTION = "-- outside a transaction"
# A statement that waits for a table's lock makes all others wait behind it: so a migration gives up soon, and retries.
LOCK_WAIT_SECONDS = 3
LOCK_TRIES = 10
PAUSE_SECONDS = 1.0
_LOCK_KEY = 7_255_496  # any constant, the same in every version of Sallyport
_HERE = Path(__file__).parent

type SecondsLeft = Callable[[], float]
type Sleep = Callable[[float], None]


class MigrationError(Exception):
    """The schema could not be brought up to date; nothing of the migration that failed is left.

    The message says why in one line: of PostgreSQL's own text only the first, since the others quote rows.
    """


@value_class(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: `number` orders them, `name` is the file's name without its ending."""

    number: int
    name: str
    statements: str

    @property
    def sha256(self) -> bytes:
        """Of the file's text."""
        return hashlib.sha256(self.statements.encode()).digest()

    @property
    def in_a_transaction(self) -> bool:
        """Whether the file runs in a transaction, as all do that do not say otherwise."""
        return OUTSIDE_A_TRANSACTION not in self.statements.splitlines()


@value_class(frozen=True, slots=True, kw_only=True)
class _Time:
    """How long a migration may still take, in seconds (infinite for no limit), and how to wait."""

    left: SecondsLeft
    sleep: Sleep

    def bound(self) -> str:
        """The same for PostgreSQL: milliseconds, at least one, since 0 means no limit there."""
        seconds = self.left()
        return "0" if math.isinf(seconds) else str(max(1, int(seconds * 1000)))


def migrations(folder: Path = _HERE) -> tuple[Migration, ...]:
    """All files of `folder` in their order. Raises MigrationError for a number that is missing or used twice."""
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    files = tuple(
        Migration(number=int(path.name[:4]), name=path.stem, statements=path.read_text(encoding="utf-8"))
        for path in paths
    )
    if [migration.number for migration in files] != list(range(1, len(files) + 1)):
        raise MigrationError(
            f"migrations must be numbered 0001, 0002, ... without gaps: {[migration.name for migration in files]}"
        )
    return files


def up_to(latest: str, files: Sequence[Migration]) -> tuple[Migration, ...]:
    """The files up to the one named `latest`. Raises MigrationError where there is none: this is other code."""
    names = [migration.name for migration in files]
    if latest not in names:
        raise MigrationError(f"this code has no migration {latest}, its newest is {names[-1]}")
    return tuple(files[: names.index(latest) + 1])


def version_of(connection: Connection[Any]) -> int:
    """The number of the newest migration that the database has; 0 for none. Raises MigrationError."""
    try:
        return max(_applied(connection), default=0)
    except psycopg.Error as error:
        raise MigrationError(_first_line(error)) from None


def migrate(
    connection: Connection[Any],
    *,
    files: Sequence[Migration] | None = None,
    seconds_left: SecondsLeft = lambda: math.inf,
    sleep: Sleep = time.sleep,
) -> list[int]:
    """Brings the database up to date and creates its roles; returns the numbers that were applied.

    `connection` belongs to the owner of the schema and is in autocommit mode. Two at once wait for each other. What
    takes longer than `seconds_left` is ended by PostgreSQL. Raises MigrationError.
    """
    try:
        return _migrate(connection, migrations() if files is None else files, _Time(left=seconds_left, sleep=sleep))
    except psycopg.Error as error:
        raise MigrationError(_first_line(error)) from None


def _migrate(connection: Connection[Any], wanted: Sequence[Migration], clock: _Time) -> list[int]:
    _set(connection, "statement_timeout", clock.bound())
    _lock(connection, clock)
    try:
        _create_ledger(connection)
        _compare(wanted, _applied(connection))
        _create_roles(connection)
        return [migration.number for migration in _pending(connection, wanted) if _apply(connection, migration, clock)]
    finally:
        _unlock(connection)


def _set(connection: Connection[Any], name: str, value: str, *, locally: bool = False) -> None:
    connection.execute("SELECT set_config(%s, %s, %s)", [name, value, locally])


def _lock(connection: Connection[Any], clock: _Time) -> None:
    """Asks again and again instead of waiting in PostgreSQL: a statement that waits there has a snapshot, which the
    other one's CREATE INDEX CONCURRENTLY waits for in turn.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    while cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK_KEY]).fetchone() != (True,):
        if clock.left() < PAUSE_SECONDS:
            raise MigrationError("another migration is running and did not end in time")
        clock.sleep(PAUSE_SECONDS)


def _unlock(connection: Connection[Any]) -> None:
    if not connection.broken:  # a broken connection's locks are gone with its session
        connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_KEY])


def _create_ledger(connection: Connection[Any]) -> None:
    connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migration (
            number     integer     NOT NULL CONSTRAINT schema_migration_pkey PRIMARY KEY,
            name       text        NOT NULL,
            sha256     bytea       NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )


def _applied(connection: Connection[Any]) -> dict[int, bytes]:
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute("SELECT number, sha256 FROM schema_migration").fetchall()
    return {number: bytes(sha256) for number, sha256 in rows}


def _compare(wanted: Iterable[Migration], applied: dict[int, bytes]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, sha256 in applied.items():
        if number in known and known[number].sha256 != sha256:
            raise MigrationError(f"{known[number].name}.sql was changed after it was applied; add a new file instead")


def _pending(connection: Connection[Any], wanted: Iterable[Migration]) -> list[Migration]:
    applied = _applied(connection)
    return [migration for migration in wanted if migration.number not in applied]


def _apply(connection: Connection[Any], migration: Migration, clock: _Time) -> bool:
    try:
        if migration.in_a_transaction:
            _apply_when_locks_are_free(connection, migration, clock)
        else:
            _apply_outside(connection, migration, clock)
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name}.sql: {_first_line(error)}") from None
    return True


def _apply_when_locks_are_free(connection: Connection[Any], migration: Migration, clock: _Time) -> None:
    for _ in range(LOCK_TRIES - 1):
        try:
            return _apply_inside(connection, migration, clock)
        except psycopg.errors.LockNotAvailable:
            if clock.left() < PAUSE_SECONDS + LOCK_WAIT_SECONDS:
                raise
            clock.sleep(PAUSE_SECONDS)
    return _apply_inside(connection, migration, clock)


def _apply_inside(connection: Connection[Any], migration: Migration, clock: _Time) -> None:
    """The limit is set for the transaction too: statement_timeout starts again with each statement of the file."""
    with connection.transaction():
        for name in ("transaction_timeout", "statement_timeout"):
            _set(connection, name, clock.bound(), locally=True)
        _set(connection, "lock_timeout", f"{LOCK_WAIT_SECONDS}s", locally=True)
        connection.execute(migration.statements.encode())
        _note(connection, migration)


def _apply_outside(connection: Connection[Any], migration: Migration, clock: _Time) -> None:
    _set(connection, "statement_timeout", clock.bound())
    for index in _half_built(connection, at_work=False):
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(index)))
    connection.execute(migration.statements.encode())
    unusable = _half_built(connection, at_work=True)
    if unusable:
        raise MigrationError(f"{migration.name}.sql: the index {unusable[0]} is not complete; deploy again later")
    _note(connection, migration)


def _half_built(connection: Connection[Any], *, at_work: bool) -> list[str]:
    """Indexes that cannot be used, as CREATE INDEX CONCURRENTLY leaves them when it fails; with `at_work` also those
    that somebody is building right now.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    rows = cursor.execute(
        """
        SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE NOT indisvalid AND relnamespace = 'public'::regnamespace
          AND (%s OR indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index))
        """,
        [at_work],
    ).fetchall()
    return [name for (name,) in rows]


def _note(connection: Connection[Any], migration: Migration) -> None:
    connection.execute(
        "INSERT INTO schema_migration (number, name, sha256) VALUES (%s, %s, %s)",
        [migration.number, migration.name, migration.sha256],
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]


def _create_roles(connection: Connection[Any]) -> None:
    """Before the files, which grant them things."""
    with connection.transaction():
        for role in ROLES:
            _create_role(connection, role)


def _create_role(connection: Connection[Any], role: str) -> None:
    """A role that logs in without a password; on RDS, `rds_iam` makes it take IAM tokens and nothing else."""
    exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    if exists is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    on_rds = connection.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'").fetchone()
    if on_rds is not None:
        connection.execute(sql.SQL("GRANT rds_iam TO {}").format(sql.Identifier(role)))

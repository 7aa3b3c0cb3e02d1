"""Migrations: numbered SQL files beside this one, applied once each, in order, under one lock.

Append-only: a file that has been applied is never edited; its SHA-256 is kept and compared. A database that is newer
than the code is left as it is: when a deployment is rolled back, older code meets the newer schema, and must be able to
live with it (expand first, contract a release later). Each file runs in a transaction of its own together with the row
that says it ran, so a failure leaves the files before it applied and nothing of itself.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import tuple_row

APPLICATION_ROLE = "sallyport_app"
ADMIN_ROLE = "sallyport_admin"
_LOCK_KEY = 7_255_496  # any constant, the same in every version of Sallyport
_HERE = Path(__file__).parent


class MigrationError(Exception):
    """The schema could not be brought up to date; nothing of the migration that failed is left.

    The message says why in one line: of PostgreSQL's own text the first one only, for the others quote rows.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: `number` orders them, `name` is the file's name without its ending."""

    number: int
    name: str
    statements: str

    @property
    def sha256(self) -> bytes:
        """Of the file's text."""
        return hashlib.sha256(self.statements.encode()).digest()


def migrations(folder: Path = _HERE) -> tuple[Migration, ...]:
    """All files of `folder` in their order. Raises MigrationError for a number that is missing or used twice."""
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    found = tuple(
        Migration(number=int(path.name[:4]), name=path.stem, statements=path.read_text(encoding="utf-8"))
        for path in paths
    )
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations must be numbered 0001, 0002, ... without gaps: {[m.name for m in found]}")
    return found


def version_of(connection: Connection[Any]) -> int:
    """The number of the newest migration that the database has; 0 for none."""
    return max(_applied(connection), default=0)


def migrate(connection: Connection[Any], *, files: Sequence[Migration] | None = None) -> list[int]:
    """Brings the database up to date and grants the roles what they need; returns the numbers that were applied.

    `connection` belongs to the owner of the schema and is in autocommit mode. Two at once wait for each other. Raises
    MigrationError.
    """
    try:
        return _migrate(connection, migrations() if files is None else files)
    except psycopg.Error as error:
        raise MigrationError(_first_line(error)) from None


def _migrate(connection: Connection[Any], wanted: Sequence[Migration]) -> list[int]:
    connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
    try:
        _create_ledger(connection)
        _compare(wanted, _applied(connection))
        done = [migration.number for migration in _pending(connection, wanted) if _apply(connection, migration)]
        _grant(connection)
        return done
    finally:
        _unlock(connection)


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
    rows = cursor.execute("SELECT number, sha256 FROM schema_migration ORDER BY number").fetchall()
    return {number: bytes(sha256) for number, sha256 in rows}


def _compare(wanted: Iterable[Migration], applied: dict[int, bytes]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, sha256 in applied.items():
        if number in known and known[number].sha256 != sha256:
            raise MigrationError(f"{known[number].name}.sql was changed after it was applied; add a new file instead")


def _pending(connection: Connection[Any], wanted: Iterable[Migration]) -> list[Migration]:
    applied = _applied(connection)
    return [migration for migration in wanted if migration.number not in applied]


def _apply(connection: Connection[Any], migration: Migration) -> bool:
    try:
        with connection.transaction():
            connection.execute(migration.statements.encode())
            connection.execute(
                "INSERT INTO schema_migration (number, name, sha256) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.sha256],
            )
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name}.sql: {_first_line(error)}") from None
    return True


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]


def _grant(connection: Connection[Any]) -> None:
    """Least privilege: the gateway cannot make tokens, the operators' function cannot read deliveries."""
    with connection.transaction():
        for role in (APPLICATION_ROLE, ADMIN_ROLE):
            _create_role(connection, role)
        connection.execute(
            """
            GRANT SELECT, UPDATE (last_used_at) ON token TO sallyport_app;
            GRANT SELECT, INSERT ON destination TO sallyport_app;
            GRANT SELECT, INSERT, UPDATE ON delivery, attempt TO sallyport_app;
            GRANT SELECT, INSERT, UPDATE (name) ON tenant TO sallyport_admin;
            GRANT SELECT, INSERT, UPDATE (revoked_at) ON token TO sallyport_admin;
            """
        )


def _create_role(connection: Connection[Any], role: str) -> None:
    """A role that logs in without a password; on RDS, `rds_iam` makes it take IAM tokens and nothing else."""
    exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    if exists is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    on_rds = connection.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'").fetchone()
    if on_rds is not None:
        connection.execute(sql.SQL("GRANT rds_iam TO {}").format(sql.Identifier(role)))

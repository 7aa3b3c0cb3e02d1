"""Bring the schema up to date: wait for the database to be there, then apply what is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from db.connection import Connection, Database
from db.migrations import migrate, version_of
from domain.errors import DatabaseUnavailable
from runtime.observability import logger

PAUSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """Which migrations ran now, and the number of the newest one that the database has."""

    applied: list[int]
    version: int


def bring_up_to_date(
    database: Database, *, seconds_left: Callable[[], float], sleep: Callable[[float], None]
) -> Migrated:
    """Applies all missing migrations. A database that was just created or resumes is waited for.

    Raises DatabaseUnavailable when it is not there before the time is up, and MigrationError.
    """
    connection = _connection(database, seconds_left=seconds_left, sleep=sleep)
    # A migration may take as long as this function lives, and must end before it does.
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(int(seconds_left() * 1000))])
    applied = migrate(connection)
    logger.info("schema is up to date", applied=applied)
    return Migrated(applied=applied, version=version_of(connection))


def _connection(database: Database, *, seconds_left: Callable[[], float], sleep: Callable[[float], None]) -> Connection:
    while True:
        try:
            return database.connection()
        except DatabaseUnavailable:
            if seconds_left() < PAUSE_SECONDS:
                raise
            logger.info("waiting for the database")
            sleep(PAUSE_SECONDS)

"""Bring the schema up to date: wait for the database, then apply the migrations that are missing."""

from collections.abc import Callable

from db.connection import Connection, Database
from db.migrations import migrate, migrations, up_to, version_of
from domain.errors import DatabaseUnavailable, DatabaseUntrusted
from domain.values import value_class
from runtime.observability import logger

PAUSE_SECONDS = 3.0


@value_class(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The migrations that ran now, the number of the newest that the database has, and that of the one asked for."""

    applied: list[int]
    version: int
    wanted: int

    @property
    def ahead(self) -> bool:
        """Whether the database is newer than what was asked for, as after a roll-back. It is left as it is."""
        return self.version > self.wanted


def bring_up_to_date(
    database: Database,
    *,
    seconds_left: Callable[[], float],
    sleep: Callable[[float], None],
    latest: str | None = None,
) -> Migrated:
    """Applies all missing migrations up to `latest` (a file's name without its ending; None for all that there are).

    Waits for a database that was just created or is resuming; leaves one that is newer as it is. Raises
    DatabaseUnavailable when it is not available before the time is up, DatabaseUntrusted at once, and MigrationError.
    """
    files = migrations() if latest is None else up_to(latest, migrations())
    connection = _connection(database, seconds_left=seconds_left, sleep=sleep)
    applied = migrate(connection, files=files, seconds_left=seconds_left, sleep=sleep)
    migrated = Migrated(applied=applied, version=version_of(connection), wanted=files[-1].number)
    if migrated.ahead:
        logger.warning("the schema is newer than asked for, and is left as it is", version=migrated.version)
    logger.info("schema is up to date", applied=applied, wanted=migrated.wanted)
    return migrated


def _connection(database: Database, *, seconds_left: Callable[[], float], sleep: Callable[[float], None]) -> Connection:
    while True:
        try:
            return database.connection()
        except DatabaseUntrusted:
            raise  # it stays so until the root certificates are renewed
        except DatabaseUnavailable:
            if seconds_left() < PAUSE_SECONDS:
                raise
            logger.info("waiting for the database")
            sleep(PAUSE_SECONDS)

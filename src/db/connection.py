"""One connection per process: made on first use, re-made when it broke, never waiting out a database that resumes."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from domain.errors import DatabaseUnavailable, StatementRefused
from runtime.settings import DatabaseSettings

type Row = DictRow
type Connection = psycopg.Connection[Row]
type Parameters = Mapping[str, Any]
type PasswordMaker = Callable[[], str]

CONNECT_TIMEOUT_SECONDS = 5  # API Gateway answers at 29 s: a resume (about 15 s) is never waited out
RETRY_AFTER_SECONDS = 10
# A statement here takes milliseconds. One that hangs (a failing host, a lock) must end well before the function does.
# A frozen function cannot close its connection, and an open one keeps Aurora from pausing: so the server closes it. The
# function, thawed, may not see that: the farewell came while it was frozen. So it trusts no connection for that long.
_SERVER_OPTIONS = (
    "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=10000 -c idle_session_timeout=300000 "
    "-c timezone=UTC"
)
TRUSTED_IDLE_SECONDS = 240
_CLIENT_OPTIONS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "tcp_user_timeout": 10_000,  # milliseconds: a host that vanished is noticed within the life of a function
    "application_name": "sallyport",
}
_GONE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


class Database:
    """Runs statements, each in its own transaction (autocommit).

    Raises DatabaseUnavailable when PostgreSQL cannot be reached, goes away, or has become a read-only replica in a
    fail-over; the next call then starts with a new connection, and so with a new look at DNS. Raises StatementRefused
    for anything else that PostgreSQL does not do. Neither carries the server's own text.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        iam_password: PasswordMaker | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`iam_password` makes the token that serves as password; it is called at each connect and not kept.

        `wall_clock` (seconds) must go on while a function is frozen, as a monotonic clock may not.
        """
        self._settings = settings
        self._iam_password = iam_password
        self._wall_clock = wall_clock
        self._connection: Connection | None = None
        self._last_used_at = 0.0

    def rows(self, statement: LiteralString, parameters: Parameters, *, repeatable: bool = False) -> list[Row]:
        """All rows of one statement. A `repeatable` one is run once more where the connection broke under it."""
        return self._run(statement, parameters, repeatable=repeatable, prepare=None)

    def read(self, statement: LiteralString, parameters: Parameters) -> list[Row]:
        """All rows of a query whose best plan depends on its parameters: planned anew each time, repeatable."""
        return self._run(statement, parameters, repeatable=True, prepare=False)

    def connection(self) -> Connection:
        """The living connection, made if need be."""
        now = self._wall_clock()
        rested_too_long = now - self._last_used_at > TRUSTED_IDLE_SECONDS
        self._last_used_at = now
        if self._connection is None or rested_too_long or _is_gone(self._connection):
            self.close()
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Lets go of the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cut(self) -> None:
        """Ends the connection under the thread that waits for it, which then gets an error. One that has just ended by
        itself is no fault."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        with (
            contextlib.suppress(OSError, psycopg.Error),
            contextlib.closing(socket.socket(fileno=os.dup(connection.fileno()))) as other_end,
        ):
            other_end.shutdown(socket.SHUT_RDWR)

    def _run(
        self, statement: LiteralString, parameters: Parameters, *, repeatable: bool, prepare: bool | None
    ) -> list[Row]:
        connection = self.connection()
        try:
            return connection.execute(statement, parameters, prepare=prepare).fetchall()
        except _GONE as error:
            self.close()
            if not repeatable:
                raise unavailable(error) from None
        except psycopg.Error as error:
            raise _refused(error) from None  # PostgreSQL's text quotes the row
        return self._run(statement, parameters, repeatable=False, prepare=prepare)

    def _connect(self) -> Connection:
        try:
            return psycopg.connect(
                make_conninfo(self._settings.database_url, **self._address(), **_CLIENT_OPTIONS, **self._asked()),
                autocommit=True,
                row_factory=dict_row,
            )
        except _GONE as error:
            raise unavailable(error) from None

    def _asked(self) -> dict[str, str]:
        """What the session asks for. RDS Proxy refuses every connection that asks ("Feature not supported: RDS Proxy
        currently doesn't support command-line options"); the settings of the roles hold there (0002_*.sql).
        """
        return {} if self._settings.database_proxy else {"options": _SERVER_OPTIONS}

    def _address(self) -> dict[str, str | int]:
        """On AWS: host and role, an IAM token as the password, and TLS verified down to the host's name."""
        if self._settings.database_url:
            return {}
        address: dict[str, str | int] = {
            "host": self._settings.database_host,
            "port": self._settings.database_port,
            "dbname": self._settings.database_name,
            "user": self._settings.database_user,
            "sslmode": "verify-full",
            "sslrootcert": self._settings.database_root_certificates,
        }
        return address if self._iam_password is None else address | {"password": self._iam_password()}


def _is_gone(connection: Connection) -> bool:
    """Whether the server hung up while nobody looked: an idle connection has nothing to read but a farewell."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _refused(error: psycopg.Error) -> StatementRefused:
    return StatementRefused(sqlstate=error.sqlstate or "none", constraint=error.diag.constraint_name or "")


def unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    """Says which kind of trouble it is by its SQLSTATE, without the server's text: that may name hosts and roles."""
    code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    return DatabaseUnavailable(f"the database is not available{code}", retry_after_seconds=RETRY_AFTER_SECONDS)

"""One connection per process: made on first use, made again when it broke, without waiting for a database to resume."""

import contextlib
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, TupleRow, dict_row, tuple_row
from psycopg.types.json import set_json_loads

from domain.errors import DatabaseUnavailable, DatabaseUntrusted, SallyportError, StatementRefused
from runtime.settings import DatabaseSettings

type Row = DictRow
type Parameters = Mapping[str, Any]
type PasswordMaker = Callable[[], str]

CONNECT_TIMEOUT_SECONDS = 5  # API Gateway answers at 29 s: nothing waits for a resume (about 15 s)
RETRY_AFTER_SECONDS = 10
# A statement here takes milliseconds. One that hangs (a failing host, a lock) must end well before the function does.
# A frozen function cannot close its connection, and an open one keeps Aurora from pausing: so the server closes it. The
# function may not notice that when it continues, so it does not use a connection that was idle for that long.
_SERVER_OPTIONS = (
    "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=10000 -c idle_session_timeout=300000 "
    "-c timezone=UTC"
)
MAX_IDLE_SECONDS = 240
_CLIENT_OPTIONS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "tcp_user_timeout": 10_000,  # milliseconds: a host that vanished is noticed within the life of a function
    "application_name": "sallyport",
}
# A frozen host sends nothing on an open connection, and does not enforce its own time-outs. So there is a bound here
# too: for one try, and for a whole call, which must fit into the authorizer's time (10 s), the shortest.
TRY_SECONDS = 4.0
CALL_SECONDS = 9.0
_GONE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
# libpq has no code for a certificate that it does not trust, only OpenSSL's words; the second ones are for a root of
# the same name with another key.
_UNTRUSTED = r"certificate|signature failure"
# PostgreSQL refused before it did anything, because of this session's prepared statements: prepared before a migration
# (0A000, "cached plan must not change result type"), or lost (26000) or confused with another's (42P05) by a pooler in
# between. A new session has none; nothing was done, so any statement is run again.
_STALE = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
# PostgreSQL is overloaded: the statement ran too long (57014), another one held a lock (55P03), or resources are short
# (class 53). Trying again at once would double the load.
_BUSY = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.InsufficientResources,
    psycopg.errors.DiskFull,
    psycopg.errors.OutOfMemory,
    psycopg.errors.TooManyConnections,
    psycopg.errors.ConfigurationLimitExceeded,
)


_PARAMETER = re.compile(r"%\((\w+)\)s")


class Connection(psycopg.Connection[Row]):
    """Waits for PostgreSQL until `give_up_at` (of a monotonic clock, in seconds; None for as long as it takes).

    `idle_cursor` may be used again, and `names` are the columns of the statements that have run: making a cursor, and
    naming the columns of each result, costs more than all that is done with a row. Cursors are raw: psycopg would parse
    a long statement at each call.
    """

    give_up_at: float | None = None
    idle_cursor: psycopg.RawCursor[TupleRow] | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        set_json_loads(msgspec.json.decode, self)
        self.names: dict[str, list[str]] = {}

    def run(self, statement: LiteralString, parameters: Parameters, *, prepare: bool | None, binary: bool) -> list[Row]:
        """All rows, by the names of their columns."""
        cursor = self.idle_cursor or psycopg.RawCursor(self, row_factory=tuple_row)
        self.idle_cursor = None
        text, parameter_names = _numbered(statement)
        values = [parameters[name] for name in parameter_names]
        cursor.execute(text, values, prepare=prepare, binary=binary)
        rows = cursor.fetchall()
        if statement not in self.names:
            self.names[statement] = [column.name for column in cursor.description or ()]
        if len(rows) <= 1:  # a cursor holds its last result, and many rows may be many megabytes
            self.idle_cursor = cursor
        names = self.names[statement]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Raises an OperationalError when the time is over; the connection can then not be used any more."""
        if self.give_up_at is not None:
            timeout = max(0.0, self.give_up_at - time.monotonic())
        return super().wait(gen, interval, timeout)


type _Run[T] = Callable[[Connection], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transaction:
    """One that is open. `is_last` says that what it does is not tried again."""

    connection: Connection
    is_last: bool


class Database:
    """Runs statements, each in its own transaction (autocommit), and each within CALL_SECONDS, connecting included.

    Raises DatabaseUnavailable when PostgreSQL cannot be reached, goes away, or has become a read-only replica in a
    fail-over; the next call then makes a new connection, and so resolves the name again. Raises StatementRefused
    for anything else that PostgreSQL refuses. Neither contains the server's own text. Threads take turns, statement by
    statement.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        iam_password: PasswordMaker | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`iam_password` makes the token that serves as password; it is called at each connect and not stored.

        `wall_clock` (seconds) must advance while a function is frozen, which a monotonic clock may not.
        """
        self._settings = settings
        self._iam_password = iam_password
        self._wall_clock = wall_clock
        self._turn = threading.RLock()
        self._connection: Connection | None = None
        self._transaction: _Transaction | None = None
        self._last_used_at = 0.0

    def together[T](self, work: Callable[[], T], *, repeatable: bool) -> T:
        """Calls `work`, whose statements are carried out all or none, within CALL_SECONDS in all. It may call nothing
        but this database. `repeatable` work is done once more in the cases in which `rows` runs a statement again.

        Raises what `work` raises, and nothing of it is done then.
        """

        def run(connection: Connection, *, is_last: bool) -> T:
            with connection.transaction():
                self._transaction = _Transaction(connection=connection, is_last=is_last)
                try:
                    return work()
                finally:
                    self._transaction = None

        last = partial(run, is_last=True)
        runs = _beside_itself(partial(run, is_last=False), last) if repeatable else last
        return self._within_deadline(runs, repeatable=repeatable)

    def rows(
        self, statement: LiteralString, parameters: Parameters, *, repeatable: bool = False, binary: bool = False
    ) -> list[Row]:
        """All rows of one statement. A `repeatable` one is run once more where the connection broke under it, or where
        it lost against another one (40001, 40P01, 23505). `binary` is for results with bodies, twice as long as
        text."""

        def run(connection: Connection) -> list[Row]:
            return connection.run(statement, parameters, prepare=None, binary=binary)

        beside = repeatable and self._transaction is None
        return self._within_deadline(_beside_itself(run, run) if beside else run, repeatable=repeatable)

    def read(self, statement: LiteralString, parameters: Parameters) -> list[Row]:
        """All rows of a query whose best plan depends on its parameters: planned each time, repeatable."""
        return self._within_deadline(
            lambda connection: connection.run(statement, parameters, prepare=False, binary=False), repeatable=True
        )

    def connection(self) -> Connection:
        """An open connection, made if necessary. What is run on it directly has only the server's time limits."""
        now = self._wall_clock()
        idle_too_long = now - self._last_used_at > MAX_IDLE_SECONDS
        self._last_used_at = now
        if self._connection is None or idle_too_long or _is_gone(self._connection):
            self.close()
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Closes the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cut(self) -> None:
        """Ends the connection under the thread that waits for it, which then gets an error. One that has just ended by
        itself is no error."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        with (
            contextlib.suppress(OSError, psycopg.Error),
            contextlib.closing(socket.socket(fileno=os.dup(connection.fileno()))) as other_end,
        ):
            other_end.shutdown(socket.SHUT_RDWR)

    def _within_deadline[T](self, run: _Run[T], *, repeatable: bool) -> T:
        with self._turn:
            if self._transaction is not None:
                return _within(self._transaction, run, repeatable=repeatable)
            return self._in_turn(run, repeatable=repeatable)

    def _in_turn[T](self, run: _Run[T], *, repeatable: bool) -> T:
        give_up_at = time.monotonic() + CALL_SECONDS
        try:
            return self._try(run, give_up_at=give_up_at)
        except _STALE:
            self.close()
        except _BUSY as error:
            raise unavailable(error) from None
        except _GONE as error:
            self.close()
            if not repeatable:
                raise unavailable(error) from None
            if error.sqlstate is None:  # it broke without a word, so the first run may still be going on
                run = _behind_itself(run)
        except psycopg.Error as error:
            raise _refused(error) from None  # PostgreSQL's text quotes the row
        return self._once_more(run, give_up_at=give_up_at)

    def _once_more[T](self, run: _Run[T], *, give_up_at: float) -> T:
        try:
            return self._try(run, give_up_at=give_up_at)
        except _GONE as error:
            self.close()
            raise unavailable(error) from None
        except psycopg.Error as error:
            raise _refused(error) from None

    def _try[T](self, run: _Run[T], *, give_up_at: float) -> T:
        connection = self.connection()
        connection.give_up_at = min(give_up_at, time.monotonic() + TRY_SECONDS)
        try:
            return run(connection)
        finally:
            connection.give_up_at = None

    def _connect(self) -> Connection:
        try:
            return Connection.connect(
                make_conninfo(
                    self._settings.database_url, **self._address(), **_CLIENT_OPTIONS, **self._session_options()
                ),
                autocommit=True,
                row_factory=dict_row,
            )
        except _GONE as error:
            if re.search(_UNTRUSTED, str(error)):
                raise self._untrusted() from None
            raise unavailable(error) from None

    def _untrusted(self) -> DatabaseUntrusted:
        return DatabaseUntrusted(
            "the database's certificate is for another host, or none of the root certificates in "
            f"{self._settings.database_root_certificates} signed it: `make certs` renews those of Amazon RDS",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )

    def _session_options(self) -> dict[str, str]:
        """The session's options. RDS Proxy refuses every connection that has any ("Feature not supported: RDS Proxy
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


def _within[T](transaction: _Transaction, run: _Run[T], *, repeatable: bool) -> T:
    """One statement of a transaction. What ends that, and may go away with another try, is for whoever began it."""
    try:
        return run(transaction.connection)
    except (*_GONE, *_STALE, *_BUSY):
        raise
    except psycopg.errors.UniqueViolation as error:
        if repeatable and not transaction.is_last:
            raise
        raise _refused(error) from None
    except psycopg.Error as error:
        raise _refused(error) from None


def _beside_itself[T](run: _Run[T], again: _Run[T]) -> _Run[T]:
    """Runs `again` what meets a row that is just being written.

    A server that hung may carry out the first run of a statement, which was given up, while the second one goes on. ON
    CONFLICT sees the first one's row by its own constraint only, and meets it at another where that row is not in all
    indexes yet. By then the first run has committed, and ON CONFLICT finds it.
    """

    def run_beside(connection: Connection) -> T:
        try:
            return run(connection)
        except psycopg.errors.UniqueViolation:
            return again(connection)

    return run_beside


def _behind_itself[T](run: _Run[T]) -> _Run[T]:
    """Runs twice what may still be going on in a session that was given up.

    One run waits for the other at the first row that both write, but reads everything else as it was when it began: it
    may find neither something to do nor that it is done. By then the other one has ended, and the next run sees that.
    """

    def run_behind(connection: Connection) -> T:
        with contextlib.suppress(SallyportError):
            run(connection)
        try:
            return run(connection)
        except _STALE as error:  # the first of the two has prepared it in this session, which a migration made stale
            raise unavailable(error) from None

    return run_behind


@cache
def _numbered(statement: LiteralString) -> tuple[bytes, tuple[str, ...]]:
    """The statement as PostgreSQL takes it, with $1 for the first of the names that are returned with it. Without its
    comments: no literal of ours has two hyphens in it."""
    text = "\n".join(line.partition("--")[0].strip() for line in statement.splitlines())
    names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text)
    return numbered.replace("%%", "%").encode(), names


def _is_gone(connection: Connection) -> bool:
    """Whether the server closed the connection: on an idle one there is nothing else to read."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _refused(error: psycopg.Error) -> StatementRefused:
    return StatementRefused(sqlstate=error.sqlstate or "none", constraint=error.diag.constraint_name or "")


def unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    """Names the error by its SQLSTATE, without the server's text: that may name hosts and roles."""
    code = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    return DatabaseUnavailable(f"the database is not available{code}", retry_after_seconds=RETRY_AFTER_SECONDS)

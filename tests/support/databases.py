"""Migrated, empty databases for tests. To make one costs many times what it costs to empty one that a test has used: so
they are used again, each time under another name. Whatever a test leaves running finds its database gone.

A database is used again only if it is as a fresh one: all tables are emptied, their files too, sequences start at the
beginning, the rows that migrations insert are those of the template. Where anything but rows was changed (a column, a
function, a right, a setting, the planner's statistics), it is dropped.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from db.connection import Database
from db.migrations import ADMIN_ROLE, APPLICATION_ROLE, AUTHORIZER_ROLE, migrate
from local.postgres import Postgres
from runtime.settings import DatabaseSettings

_OF_NO_EXTENSION = 16384  # FirstNormalObjectId in access/transam.h: what initdb made has smaller ids
_END_OF_SESSIONS_SECONDS = 60.0
_MANY_ROWS_BYTES = 4 * 1024 * 1024  # to delete so many takes longer than to make another database

# Everything that a database has besides rows. Each part is the number of rows of a catalog and the sum of the
# transactions that wrote them, or of what does not change when a database is emptied and renamed.
_ALL_BUT_ROWS = """
    SELECT 'columns', count(*), sum(xmin::text::bigint) FROM pg_attribute WHERE attrelid >= %(first)s
    UNION ALL SELECT 'functions', count(*), sum(xmin::text::bigint) FROM pg_proc WHERE oid >= %(first)s
    UNION ALL SELECT 'constraints', count(*), sum(xmin::text::bigint) FROM pg_constraint WHERE oid >= %(first)s
    UNION ALL SELECT 'triggers', count(*), sum(xmin::text::bigint) FROM pg_trigger WHERE oid >= %(first)s
    UNION ALL SELECT 'types', count(*), sum(xmin::text::bigint) FROM pg_type WHERE oid >= %(first)s
    UNION ALL SELECT 'rules', count(*), sum(xmin::text::bigint) FROM pg_rewrite WHERE oid >= %(first)s
    UNION ALL SELECT 'defaults', count(*), sum(xmin::text::bigint) FROM pg_attrdef
    UNION ALL SELECT 'policies', count(*), sum(xmin::text::bigint) FROM pg_policy
    UNION ALL SELECT 'schemas', count(*), sum(xmin::text::bigint) FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'extensions', count(*), sum(xmin::text::bigint) FROM pg_extension
    UNION ALL SELECT 'default rights', count(*), sum(xmin::text::bigint) FROM pg_default_acl
    UNION ALL SELECT 'sequences', count(*), sum(xmin::text::bigint) FROM pg_sequence
    UNION ALL SELECT 'indexes', count(*), sum(hashtext(concat_ws('/', indexrelid, indisvalid, indisready, indislive)))
        FROM pg_index WHERE indexrelid >= %(first)s
    UNION ALL SELECT 'relations', count(*), sum(hashtext(concat_ws(
            '/', oid, relname, relnamespace, relowner, relkind, relpersistence, relacl, reloptions, relrowsecurity)))
        FROM pg_class WHERE oid >= %(first)s
    UNION ALL SELECT 'statistics', count(*), 0 FROM pg_statistic WHERE starelid >= %(first)s
    UNION ALL SELECT 'extended statistics', count(*), 0 FROM pg_statistic_ext
    UNION ALL SELECT 'settings', count(*), sum(setting.xmin::text::bigint) FROM pg_db_role_setting AS setting
        JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
    UNION ALL SELECT 'the database', 1, hashtext(concat_ws('/', datdba, datconnlimit, datallowconn, datacl))
        FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'prepared transactions', count(*), 0 FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL SELECT 'large objects', count(*), 0 FROM pg_largeobject_metadata
    UNION ALL SELECT 'publications', count(*), 0 FROM pg_publication
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshDatabase:
    """A migrated, empty database. `url` is for the role of the API and the worker, `authorizer_url` for that of the
    authorizer, `operator_url` for that of the admin function, `admin_url` for the superuser, who owns the schema.
    """

    name: str
    url: str
    authorizer_url: str
    operator_url: str
    admin_url: str
    _superuser: list[Database] = field(default_factory=list)

    def sql(self, statement: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """Runs a statement as the superuser, in one session from the first of them until `close`."""
        if not self._superuser:
            self._superuser.append(Database(DatabaseSettings(database_url=self.admin_url)))
        cursor = self._superuser[0].connection().execute(statement.encode(), parameters, prepare=False)
        return [] if cursor.description is None else cursor.fetchall()  # rows may have no columns

    def close(self) -> None:
        """Ends the superuser's session."""
        while self._superuser:
            self._superuser.pop().close()


class Databases:
    """Those of one server, called `prefix` and a number; `template` is made where it is not there."""

    def __init__(self, postgres: Postgres, *, template: str = "sallyport_template", prefix: str = "test") -> None:
        self.template = template
        self._postgres = postgres
        self._prefix = prefix
        self._numbers = count(1)
        self._idle: list[str] = []
        self._server: Connection[Any] | None = None
        self._as_migrated: _State | None = None

    def close(self) -> None:
        """Ends our own connection to the server."""
        if self._server is not None:
            self._server.close()

    @contextmanager
    def fresh(self) -> Iterator[FreshDatabase]:
        """A database that nobody else uses meanwhile, and nobody can reach afterwards, whoever is still connected."""
        name = self._taken()
        fresh = FreshDatabase(
            name=name,
            url=self._postgres.url(user=APPLICATION_ROLE, database=name),
            authorizer_url=self._postgres.url(user=AUTHORIZER_ROLE, database=name),
            operator_url=self._postgres.url(user=ADMIN_ROLE, database=name),
            admin_url=self._postgres.url(database=name),
        )
        yield fresh
        fresh.close()
        self._give_back(name)

    def _taken(self) -> str:
        """The name of a database that has just got this name. To rename fails where anybody is connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._migrated()
        if self._idle:
            self._run("ALTER DATABASE {} RENAME TO {}", self._idle.pop(), name)
        else:  # a file copy is a third quicker than the default here, and as safe without fsync
            self._run("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, self.template)
        return name

    def _migrated(self) -> "_State":
        """What a database is like after the migrations. Nobody stays connected to the template: copies would wait."""
        if self._as_migrated is None:
            self._postgres.make_database(self.template)
            with closing(self._connected(self.template)) as connection:
                migrate(connection)
                self._as_migrated = _state(connection)
            self._end_sessions(self.template)
        return self._as_migrated

    def _give_back(self, name: str) -> None:
        """Used again if it is as a fresh one once its rows are gone; dropped otherwise."""
        self._end_sessions(name)
        with closing(self._connected(name)) as connection:
            is_as_migrated = _emptied(connection, self._migrated())
        if is_as_migrated:
            self._end_sessions(name)
            self._idle.append(name)
        else:
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _end_sessions(self, name: str) -> None:
        """A session ends a moment after its client has closed it, or after it was told to."""
        deadline = time.monotonic() + _END_OF_SESSIONS_SECONDS
        while self._sessions(name):
            assert time.monotonic() < deadline, f"sessions in {name} do not end"
            time.sleep(0.001)

    def _sessions(self, name: str) -> list[Any]:
        """Those that there still are; each is told to end."""
        return self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        ).fetchall()

    def _run(self, statement: str, *names: str) -> None:
        self._connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @property
    def _connection(self) -> Connection[Any]:
        """To the server's own database, as the superuser; another one where a test has ended it."""
        if self._server is None or self._server.broken:
            self._server = self._connected("postgres")
        return self._server

    def _connected(self, name: str) -> Connection[Any]:
        return psycopg.connect(self._postgres.url(database=name), autocommit=True, row_factory=dict_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Of a database: what it has besides rows, and its rows, as JSON by table, where there are any."""

    besides_rows: list[Any]
    rows: dict[str, str]
    sizes_for_planner: str


def _state(connection: Connection[Any]) -> _State:
    rows = {table: _rows(connection, table) for table in _sizes(connection)}
    (estimates,) = connection.execute(
        "SELECT json_agg(row_to_json(relation))::text AS all FROM "
        "(SELECT oid, relpages, reltuples, relallvisible FROM pg_class WHERE oid >= %s) AS relation",
        [_OF_NO_EXTENSION],
    ).fetchall()
    return _State(besides_rows=_besides_rows(connection), rows=rows, sizes_for_planner=estimates["all"])


def _besides_rows(connection: Connection[Any]) -> list[Any]:
    return connection.execute(_ALL_BUT_ROWS, {"first": _OF_NO_EXTENSION}).fetchall()


def _sizes(connection: Connection[Any]) -> dict[str, int]:
    """In bytes, of all tables that are not empty files: rows that were inserted and deleted again count."""
    rows = connection.execute(
        "SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return {row["relname"]: row["bytes"] for row in rows if row["bytes"]}


def _rows(connection: Connection[Any], table: str) -> str:
    statement = sql.SQL("SELECT coalesce(json_agg(found)::text, '[]') AS rows FROM {} AS found")
    (row,) = connection.execute(statement.format(sql.Identifier(table))).fetchall()
    return str(row["rows"])


def _emptied(connection: Connection[Any], migrated: _State) -> bool:
    """Whether the database is as after the migrations, now that its rows are as they were then. One with many rows is
    not emptied."""
    sizes = _sizes(connection)
    if _besides_rows(connection) != migrated.besides_rows or sum(sizes.values()) > _MANY_ROWS_BYTES:
        return False
    connection.execute("SET session_replication_role = replica")  # no trigger writes another row
    used = [table for table in sizes if table not in migrated.rows or _rows(connection, table) != migrated.rows[table]]
    changed = used + [table for table in migrated.rows if table not in sizes]
    if changed:
        _empty(connection, changed, migrated)
    for table in set(changed) & set(migrated.rows):
        _insert(connection, table, migrated.rows[table])
    connection.execute("SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence")
    connection.execute("SELECT pg_stat_reset()")
    left = _without_none({table: _rows(connection, table) for table in _sizes(connection)})
    assert left == _without_none(migrated.rows), f"rows are left over: {left}"
    return True


def _without_none(rows: dict[str, str]) -> dict[str, str]:
    """Without tables that have no rows: VACUUM leaves a file as long as it was where somebody has a lock on it."""
    return {table: found for table, found in rows.items() if found != "[]"}


def _empty(connection: Connection[Any], tables: list[str], migrated: _State) -> None:
    """As TRUNCATE, which takes five times as long: the files are empty again, and what VACUUM notes of them for the
    planner is forgotten."""
    names = [sql.Identifier(table) for table in tables]
    connection.execute(sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(name) for name in names))
    connection.execute(sql.SQL("VACUUM (INDEX_CLEANUP ON) {}").format(sql.SQL(", ").join(names)))
    connection.execute(
        """
        UPDATE pg_class SET relpages = was.relpages, reltuples = was.reltuples, relallvisible = was.relallvisible
        FROM json_to_recordset(%s) AS was (oid oid, relpages int, reltuples real, relallvisible int)
        WHERE pg_class.oid = was.oid AND (pg_class.relpages, pg_class.reltuples, pg_class.relallvisible)
              IS DISTINCT FROM (was.relpages, was.reltuples, was.relallvisible)
        """,
        [migrated.sizes_for_planner],
    )


def _insert(connection: Connection[Any], table: str, rows: str) -> None:
    statement = sql.SQL("INSERT INTO {0} SELECT * FROM json_populate_recordset(NULL::{0}, {1})")
    connection.execute(statement.format(sql.Identifier(table), sql.Literal(rows)))

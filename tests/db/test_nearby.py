"""What each statement says and does where a row is not quite that of its case: a time at a bound and right beside it,
another state, another id, nothing at all; a row gone, or there twice; one less asked for.

The values come from the statement itself, and from the functions that it calls: its parameters, its intervals, its
words, and what the constraints of a column allow. A condition, a bound or a default that nothing else looks at changes
what is noted here. Of each only a digest is noted, beside the tables that it changes: a test that fails shows the rest.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.connection import Database
from domain.errors import SallyportError
from runtime.settings import DatabaseSettings
from tests.db.test_outcomes import BY_NAME, Rows, copy_for_others, differences, plain
from tests.db.test_repeats import EMPTY, NOW, TABLES, Case, all_rows, both
from tests.support.databases import FreshDatabase

LEDGER = Path(__file__).with_name("nearby.json")
CASES_FOR_EACH_CHANGE = 2
MOMENT = timedelta(microseconds=1)
LONGEST_WORD = 40
ELSEWHERE = UUID(int=999)
NOTED: dict[str, dict[str, str]] = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
UNITS = {"hour": "hours", "minute": "minutes", "day": "days", "second": "seconds"}


@dataclass
class Asked:
    """What a case runs: the texts of its statements, and the values that they are given."""

    texts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


class Listening(Database):
    """Notes what it is asked, and may be asked for another number of rows."""

    asked: Asked | None = None
    limit: int | None = None

    def rows(self, statement: Any, parameters: Any, **more: Any) -> list[Any]:
        return super().rows(statement, self._heard(statement, parameters), **more)

    def read(self, statement: Any, parameters: Any) -> list[Any]:
        return super().read(statement, self._heard(statement, parameters))

    def _heard(self, statement: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.asked is not None:
            self.asked.texts.append(statement)
            self.asked.values += [value for name, value in parameters.items() if name != "limit"]
        if self.limit is not None and "limit" in parameters:
            return {**parameters, "limit": self.limit}
        return parameters


@dataclass(frozen=True, kw_only=True)
class Column:
    """`checks` is the text of the constraints that name it."""

    name: str
    kind: str
    nullable: bool
    checks: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One that is made before the statement runs."""

    told: str
    table: str = ""
    statement: str = ""
    values: tuple[Any, ...] = ()
    limit: int | None = None


@pytest.fixture(scope="module")
def database(shared_database: FreshDatabase) -> Iterator[Listening]:
    with closing(Listening(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        yield made


@cache
def columns(database: Database) -> dict[str, list[Column]]:
    """Of each table those that can be written."""
    found: dict[str, list[Column]] = {table: [] for table in TABLES}
    for row in database.rows(
        """
        SELECT relname, attname, format_type(atttypid, NULL) AS kind, NOT attnotnull AS nullable,
               coalesce((SELECT string_agg(pg_get_constraintdef(pg_constraint.oid), ' ') FROM pg_constraint
                         WHERE conrelid = attrelid AND contype = 'c' AND attnum = ANY (conkey)), '') AS checks
        FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
        WHERE relname = ANY (%(tables)s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ORDER BY relname, attname
        """,
        {"tables": list(TABLES)},
    ):
        found[row["relname"]].append(
            Column(name=row["attname"], kind=row["kind"], nullable=row["nullable"], checks=row["checks"])
        )
    return found


@cache
def functions(database: Database) -> dict[str, str]:
    """Ours in the database, by name."""
    rows = database.rows("SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace", {})
    return {row["proname"]: row["prosrc"] for row in rows}


def whole_text(database: Database, texts: Sequence[str]) -> str:
    """The statements with the functions that they call, and those that these call."""
    text, taken = re.sub(r"--.*", "", "\n".join(texts)), set[str]()
    while called := {name for name in functions(database) if re.search(rf"\b{name}\b", text)} - taken:
        taken |= called
        text += "\n" + "\n".join(re.sub(r"--.*", "", functions(database)[name]) for name in sorted(called))
    return text


def intervals(text: str) -> set[timedelta]:
    found = re.findall(r"'(\d+) (hour|minute|day|second)s?'", text)
    return {timedelta(**{UNITS[unit]: int(number)}) for number, unit in found}


def nearby(column: Column, value: Any, asked: Asked, text: str) -> Iterator[Any]:
    """Other values that it might have."""
    given, number = [each for each in asked.values if each is not None], value if isinstance(value, int | float) else 0
    words = set(re.findall(r"'([\w.]+)'", column.checks)) & set(re.findall(r"'([\w.]+)'", text))
    sentences = {each for each in given if isinstance(each, str) and len(each) < LONGEST_WORD}
    by_kind: dict[str, Iterable[Any]] = {
        "timestamp with time zone": beside({each for each in given if isinstance(each, datetime)}, intervals(text)),
        "text": sorted(words or {*sentences, "other"}),
        "uuid": sorted({ELSEWHERE, *(each for each in given if isinstance(each, UUID))}),
        "boolean": [not value],
        **dict.fromkeys(("smallint", "integer", "bigint"), sorted({0, 1, number + 1, number - 1})),
        **{kind: [0, number + 1] for kind in ("double precision", "real", "numeric")},
        "bytea": [b"other" * 8],
    }
    yield from by_kind.get(column.kind, ())
    if column.nullable:
        yield None


def beside(times: set[datetime], spans: set[timedelta]) -> Iterator[datetime]:
    """Each time, and right before and behind it; the same a span earlier."""
    for time, span in product(sorted(times), [timedelta(), *sorted(spans)]):
        yield from (time - span, time - span - MOMENT, time - span + MOMENT)


def told(value: object) -> str:
    """Shortly."""
    return f"now{(value - NOW).total_seconds():+}" if isinstance(value, datetime) else str(value)[:LONGEST_WORD]


def changes(database: Listening, asked: Asked, rows: Rows) -> Iterator[Change]:
    text = whole_text(database, asked.texts)
    words = set(re.findall(r"\w+", text))
    if "%(limit)s" in text:
        yield from (Change(told=f"limit = {limit}", limit=limit) for limit in (1, 2))
    for table in TABLES:
        if table not in words or not rows[table]:
            continue
        first = f"to_jsonb({table}) - '{{recorded_in,counted_until}}'::text[]"  # in the order of all_rows
        where = f"ctid = (SELECT ctid FROM {table} ORDER BY {first} LIMIT 1)"  # noqa: S608 - our own names
        yield Change(told=f"no {table}", table=table, statement=f"DELETE FROM {table} WHERE {where}")  # noqa: S608
        for column in columns(database)[table]:
            if column.name in words:
                for value in dict.fromkeys(nearby(column, rows[table][0].get(column.name), asked, text)):
                    yield Change(
                        told=f"{table}.{column.name} = {told(value)}",
                        table=table,
                        statement=f"UPDATE {table} SET {column.name} = %s WHERE {where} RETURNING {first} AS made",  # noqa: S608
                        values=(value,),
                    )


class Back(Exception):
    """Ends a transaction without its changes."""


def changed(database: Database, change: Change, rows: Rows) -> Rows:
    """The rows after a change, which is of the first one of its table. Raises Back where it is refused."""
    connection = database.connection()
    connection.execute(b"SET LOCAL session_replication_role = replica")
    try:
        cursor = connection.execute(change.statement.encode(), change.values)
    except psycopg.Error:
        raise Back from None
    made = [row["made"] for row in cursor.fetchall()] if cursor.description else []
    connection.execute(b"SET LOCAL session_replication_role = origin")
    return {**rows, change.table: [*made, *rows[change.table][1:]]}


def outcome(database: Listening, case: Case, rows: Rows, change: Change) -> dict[str, Any] | None:
    """None where the change itself is refused."""
    connection, found = database.connection(), None
    try:
        with connection.transaction():
            connection.execute(b"SELECT setval('ordering_place_number', 100)")  # which no transaction takes back
            before = changed(database, change, rows) if change.statement else rows
            database.limit = change.limit
            try:
                with connection.transaction():
                    answer = plain(case.runs(database))
                    found = {"answer": answer, "rows": differences(before, all_rows(database))}
            except (psycopg.Error, SallyportError, AssertionError, LookupError, TypeError, ValueError) as error:
                found = {"answer": f"raises {type(error).__name__} {error}"[:100], "rows": {}}
            raise Back
    except Back:
        database.limit = None
    return found


def short(found: Mapping[str, Any]) -> str:
    """The tables that it changes, with how many rows go and come, and a digest of all."""
    tables = [f"{table} -{len(rows['gone'])}+{len(rows['new'])}" for table, rows in found["rows"].items()]
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:10]
    return ", ".join([*tables, digest])


def outcomes(database: Listening, case: Case) -> dict[str, dict[str, Any]]:
    """By what is changed, where that changes what the statement says or does."""
    database.connection().execute(EMPTY)
    both(*case.before)(database)
    copy_for_others(database)
    rows = all_rows(database)
    database.asked = asked = Asked()
    usual = outcome(database, case, rows, Change(told="nothing"))
    database.asked = None
    found = {"nothing": usual}
    for change in changes(database, asked, rows):
        if is_tried(case, change):
            found[change.told] = outcome(database, case, rows, change)
    return {told: each for told, each in found.items() if each is not None and (told == "nothing" or each != usual)}


def is_tried(case: Case, change: Change) -> bool:
    """Where a statement has many cases, each change is tried in a few of them: all of it takes minutes."""
    same = [each for each in BY_NAME.values() if each.statement == case.statement]
    return (same.index(case) + zlib.crc32(change.told.encode())) % len(same) < CASES_FOR_EACH_CHANGE


@pytest.mark.parametrize("name", BY_NAME)
def test_a_statement_says_and_does_what_is_noted_of_rows_nearby(database: Listening, name: str, tmp_path: Path) -> None:
    found, suggested = outcomes(database, BY_NAME[name]), tmp_path / "nearby.json"
    noted = {told: short(each) for told, each in found.items()}
    if noted != NOTED.get(name):
        suggested.write_text(json.dumps({name: noted}, indent=1), encoding="utf-8")
    others = {told: each for told, each in found.items() if NOTED.get(name, {}).get(told) != noted[told]}
    assert noted == NOTED.get(name), f"if that is meant, note {suggested} in {LEDGER.name}: {others}"

"""One connection per process: made on first use, re-made when it broke, never waited for too long."""

import ast
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from db import connection
from db.connection import MAX_IDLE_SECONDS, RETRY_AFTER_SECONDS, Connection, Database
from domain.errors import DatabaseUnavailable, StatementRefused
from local.postgres import Postgres
from runtime.settings import DatabaseSettings
from tests.support.databases import FreshDatabase


@pytest.fixture
def connected(database: FreshDatabase) -> Iterator[Database]:
    """A database as the functions use it, with its connection open."""
    made = Database(DatabaseSettings(database_url=database.url))
    made.connection()
    yield made
    made.close()


@pytest.fixture
def superuser(database: FreshDatabase) -> Iterator[Database]:
    """The same database as its owner."""
    made = Database(DatabaseSettings(database_url=database.admin_url))
    yield made
    made.close()


def kill(superuser: Database) -> None:
    """Ends all sessions of the functions, as a fail-over does."""
    superuser.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sallyport_app'", {})


def one(database: Database, *, repeatable: bool = False) -> int:
    found: int = database.rows("SELECT 1 AS one", {}, repeatable=repeatable)[0]["one"]
    return found


def test_the_connection_is_kept(connected: Database) -> None:
    before = connected.connection()
    one(connected)
    assert connected.connection() is before


def test_a_statement_finds_nothing_of_the_one_before(connected: Database) -> None:
    """A cursor is used for many statements."""
    for _ in range(3):
        assert connected.rows("SELECT %(a)s::text AS a, 2 AS b", {"a": "x"}) == [{"a": "x", "b": 2}]
        assert connected.rows("SELECT 1 AS one WHERE %(no)s", {"no": False}) == []
        assert connected.rows("SELECT n AS b FROM generate_series(1, 3) AS n", {}) == [{"b": 1}, {"b": 2}, {"b": 3}]
        with pytest.raises(StatementRefused, match="22012"):
            connected.rows("SELECT 1 / %(zero)s::int AS b", {"zero": 0})


def test_a_result_of_many_rows_is_not_held_once_they_are_read(connected: Database) -> None:
    """It may be ten bodies of megabytes, for as long as it takes to send them."""
    connected.rows("SELECT 1 AS one", {})
    assert connected.connection().idle_cursor is not None
    connected.rows("SELECT n FROM generate_series(1, 10) AS n", {})
    assert connected.connection().idle_cursor is None


def test_values_are_the_same_in_both_formats(connected: Database) -> None:
    statement: LiteralString = """
        SELECT '\\x00ff'::bytea AS body, '0198f0aa-0000-7000-8000-000000000001'::uuid AS id, true AS yes,
               7::smallint AS n,
               2.5::double precision AS ms, '{"a": [1, 2.5, 12345678901234567890123, null, "é"]}'::jsonb AS json,
               'text' AS text, NULL::text AS nothing, '2026-11-27 12:00:00.25+00'::timestamptz AS at,
               host('192.0.2.1'::inet) AS address
        """
    assert connected.rows(statement, {}, binary=True) == connected.rows(statement, {})


def literals(repository: Path) -> list[str]:
    return [
        node.value
        for path in (repository / "src" / "db").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "SELECT" in node.value
    ]


def test_psycopg_parses_no_statement(connected: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would parse one of more than 4,096 characters at each call, which takes as long as all the rest."""

    def parses(*_: object) -> object:
        raise AssertionError("it was parsed")

    monkeypatch.setattr("psycopg._queries._split_query", parses)
    long: LiteralString = """
        SELECT %(a)s::text || %(b)s || %(a)s AS both,  -- %(comment)s
               'a' LIKE '%%' AS percent
        """
    assert connected.rows(long, {"b": "y", "a": "x", "unused": 1}) == [{"both": "xyx", "percent": True}]


def test_a_statement_is_sent_without_comments_and_otherwise_as_it_is(repository: Path) -> None:
    for literal in literals(repository):
        text, names = connection._numbered(literal)
        for number, name in reversed(list(enumerate(names, start=1))):
            text = text.replace(f"${number}".encode(), f"%({name})s".encode())
        assert text.split() == re.sub(r"--.*", "", literal).replace("%%", "%").encode().split()
        assert not re.search(r"'[^'\n]*--[^'\n]*'", literal)
        assert not re.search(r"'[^'\n]*\n[^'\n]*'", re.sub(r"--.*|'[^'\n]*'", "", literal))


def test_a_connection_that_was_closed_while_idle_is_remade_without_an_error(
    connected: Database, superuser: Database
) -> None:
    before = connected.connection()
    kill(superuser)
    wait_until_gone(superuser)
    assert one(connected) == 1
    assert connected.connection() is not before


def test_a_connection_that_was_idle_too_long_is_not_trusted(database: FreshDatabase) -> None:
    now = [1_000_000.0]
    with closing(Database(DatabaseSettings(database_url=database.url), wall_clock=lambda: now[0])) as made:
        before = made.connection()
        now[0] += MAX_IDLE_SECONDS
        assert made.connection() is before
        now[0] += MAX_IDLE_SECONDS + 1
        assert made.connection() is not before
        assert before.closed


def test_the_server_ends_a_session_that_nobody_uses_so_that_the_database_may_pause(connected: Database) -> None:
    (row,) = connected.rows("SELECT current_setting('idle_session_timeout') AS ends_after", {})
    assert row["ends_after"] == "5min"


def wait_until_gone(superuser: Database) -> None:
    while superuser.rows("SELECT FROM pg_stat_activity WHERE usename = 'sallyport_app'", {}):
        pass


def test_a_connection_that_breaks_under_a_statement_is_an_outage(connected: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connected.rows("SELECT pg_terminate_backend(pg_backend_pid())", {})
    assert caught.value.retry_after_seconds == RETRY_AFTER_SECONDS
    assert "57P01" in str(caught.value)
    assert one(connected) == 1


def test_a_repeatable_statement_is_run_again_on_a_new_connection(connected: Database) -> None:
    # The first session that runs it ends itself; the sequence outlives sessions and tells how often it ran.
    statement = """
        SELECT CASE WHEN count(*) = 1 THEN pg_terminate_backend(pg_backend_pid()) ELSE true END AS survived
        FROM pg_stat_activity
        WHERE pid = pg_backend_pid() AND backend_start < %(started)s
    """
    (row,) = connected.rows("SELECT clock_timestamp() AS now", {})
    (found,) = connected.rows(statement, {"started": row["now"]}, repeatable=True)
    assert found["survived"]


def test_a_read_survives_a_broken_connection_too(connected: Database) -> None:
    statement = """
        SELECT CASE WHEN count(*) = 1 THEN pg_terminate_backend(pg_backend_pid()) ELSE true END AS survived
        FROM pg_stat_activity
        WHERE pid = pg_backend_pid() AND backend_start < %(started)s
    """
    (row,) = connected.read("SELECT clock_timestamp() AS now", {})
    (found,) = connected.read(statement, {"started": row["now"]})
    assert found["survived"]


def test_a_server_that_is_not_there_is_an_outage_that_names_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        Database(DatabaseSettings(database_url="postgresql://someone@127.0.0.1:1/secret_name")).connection()
    assert "someone" not in str(caught.value)
    assert "secret_name" not in str(caught.value)


def test_a_database_that_became_a_replica_is_left(connected: Database, superuser: Database) -> None:
    before = connected.connection()
    connected.rows("SELECT set_config('default_transaction_read_only', 'on', false)", {})
    with pytest.raises(DatabaseUnavailable, match="25006"):
        connected.rows("UPDATE token SET last_used_at = now() RETURNING token_id", {})
    assert connected.connection() is not before


def test_a_statement_that_hangs_is_cut(connected: Database) -> None:
    connected.rows("SELECT set_config('statement_timeout', '100', false)", {})
    with pytest.raises(DatabaseUnavailable, match="57014"):
        connected.rows("SELECT pg_sleep(5)", {})


def test_each_connect_asks_for_a_fresh_token(database: FreshDatabase) -> None:
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        return "token"

    settings = DatabaseSettings(
        database_host="127.0.0.1", database_port=1, database_user="u", database_root_certificates="/nowhere"
    )
    with closing(Database(settings, iam_password=token)) as made:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                made.connection()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tenant VALUES (gen_random_uuid(), 'x', now()) RETURNING tenant_id",
        "INSERT INTO token SELECT FROM token RETURNING token_id",
        "UPDATE token SET scopes = '{manage}' RETURNING token_id",
        "UPDATE destination SET tenant_id = NULL RETURNING destination_id",
        "DELETE FROM delivery RETURNING delivery_id",
        "DELETE FROM attempt RETURNING attempt_id",
        "SELECT * FROM schema_migration",
        "CREATE TABLE mine (n integer)",
    ],
)
def test_the_functions_role_may_not(connected: Database, statement: str) -> None:
    with pytest.raises(Exception, match="permission denied"):
        connected.connection().execute(statement.encode())


@pytest.mark.parametrize(
    "business_data",
    [
        "path FROM delivery",
        "headers FROM delivery",
        "metadata FROM delivery",
        "idempotency_key FROM delivery",
        "body FROM delivery_body",
        "response_headers FROM attempt",
        "response_body FROM attempt",
        "reason FROM attempt",
        "base_url FROM destination",
        "options FROM destination",
        "sealed_credentials FROM destination",
    ],
)
def test_the_operators_role_cannot_read_business_data(database: FreshDatabase, business_data: str) -> None:
    with (
        closing(Database(DatabaseSettings(database_url=database.operator_url))) as made,
        pytest.raises(Exception, match="permission denied"),
    ):
        made.connection().execute(f"SELECT {business_data}".encode())


def test_what_the_schema_refuses_is_reported_without_the_row(connected: Database, superuser: Database) -> None:
    row = {"name": "-".join(["A", "Secret"])}
    with pytest.raises(StatementRefused) as caught:
        superuser.rows("INSERT INTO tenant VALUES (gen_random_uuid(), %(name)s, now()) RETURNING tenant_id", row)
    assert (caught.value.sqlstate, caught.value.constraint) == ("23514", "tenant_name_form")
    assert row["name"] not in "".join(traceback.format_exception(caught.value))
    assert one(superuser) == 1


def test_a_connection_that_was_closed_here_is_remade(connected: Database) -> None:
    connected.connection().close()
    assert one(connected) == 1


def test_through_rds_proxy_nothing_is_asked_for_and_the_role_bounds_the_session(database: FreshDatabase) -> None:
    """The proxy refuses connections that come with `options`."""
    direct = DatabaseSettings(database_url=database.url)
    through = DatabaseSettings(database_url=database.url, database_proxy=True)
    with closing(Database(direct)) as made:
        assert "options" in made.connection().info.get_parameters()
    with closing(Database(through)) as made:
        assert "options" not in made.connection().info.get_parameters()
        (row,) = made.rows(
            """
            SELECT current_setting('statement_timeout') AS statement, current_setting('timezone') AS zone,
                current_setting('idle_in_transaction_session_timeout') AS idle
            """,
            {},
        )
    assert row == {"statement": "10s", "zone": "UTC", "idle": "10s"}


def test_a_connection_can_be_cut_under_whoever_waits_for_it(
    connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.connection.TRY_SECONDS", 60.0)  # so that only the cut ends it, or the server's time-out
    monkeypatch.setattr("db.connection.CALL_SECONDS", 60.0)
    cutter = threading.Timer(0.2, connected.cut)
    cutter.start()
    with pytest.raises(DatabaseUnavailable) as caught:
        connected.rows("SELECT pg_sleep(30)", {})
    assert "SQLSTATE" not in str(caught.value)  # the server said nothing: it was not its own time-out
    cutter.join()
    connected.close()
    connected.cut()  # there is nothing to cut
    assert one(connected) == 1
    connected.connection().close()
    connected.cut()


# What PostgreSQL says, and what follows from it


@pytest.fixture
def failing(superuser: Database) -> Database:
    """With a function `fails(code, times)`, which fails that often and then says how often it ran."""
    superuser.connection().execute(
        """
        CREATE SEQUENCE runs;  -- which no rollback takes back
        CREATE FUNCTION fails(code text, times integer) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE run bigint := nextval('runs');
        BEGIN
            IF run <= times THEN RAISE EXCEPTION 'no' USING ERRCODE = code; END IF;
            RETURN run;
        END $$
        """
    )
    return superuser


def runs(failing: Database, code: str, times: int, *, repeatable: bool) -> str:
    """How it ended, and after how many runs."""
    how = "done"
    try:
        failing.rows("SELECT fails(%(code)s, %(times)s)", {"code": code, "times": times}, repeatable=repeatable)
    except (DatabaseUnavailable, StatementRefused) as error:
        how = {DatabaseUnavailable: "unavailable", StatementRefused: "refused"}[type(error)]
        how += "" if code in str(error) else " for another reason"
    (row,) = failing.rows("SELECT last_value AS runs FROM runs", {})
    return f"{how} after {row['runs']}"


@pytest.mark.parametrize(
    ("codes", "repeatable", "else_", "for_ever"),
    [
        # The session is of no use any more, or lost against another one: a statement that may be repeated is.
        (
            "08000 08003 08006 57P01 57P02 57P03 57P04 57P05 25006 40001 40P01 58030",
            "done after 2",
            "unavailable after 1",
            "unavailable after 2",
        ),
        # What the session has kept is stale; nothing was done.
        ("0A000 26000 42P05", "done after 2", "done after 2", "refused after 2"),
        # It is there and has no time or no room: asking again at once would double the load.
        (
            "57014 55P03 53000 53100 53200 53300 53400",
            "unavailable after 1",
            "unavailable after 1",
            "unavailable after 1",
        ),
        # Its own first run, given up and carried out all the same, may be writing the same row.
        ("23505", "done after 2", "refused after 1", "refused after 2"),
        # Ours: a bug, or a rule of the schema.
        ("23514 22P05 22003 42501 42601 XX000", "refused after 1", "refused after 1", "refused after 1"),
    ],
)
def test_what_postgresql_says_decides_whether_it_is_asked_again(
    failing: Database, codes: str, repeatable: str, else_: str, for_ever: str
) -> None:
    for code in codes.split():
        for times, repeat, told in ((1, True, repeatable), (1, False, else_), (9, True, for_ever)):
            failing.connection().execute("ALTER SEQUENCE runs RESTART")
            assert (code, runs(failing, code, times, repeatable=repeat)) == (code, told)


def prepared(connected: Database, superuser: Database) -> None:
    """A statement has run so often that the session keeps it."""
    superuser.connection().execute("CREATE TABLE thing (n integer); GRANT SELECT ON thing TO sallyport_app")
    for _ in range(10):
        connected.rows("SELECT n FROM thing", {})
    (row,) = connected.rows("SELECT count(*) AS kept FROM pg_prepared_statements WHERE statement LIKE '%%thing'", {})
    assert row["kept"] == 1


def test_a_plan_that_a_migration_made_stale_heals(connected: Database, superuser: Database) -> None:
    prepared(connected, superuser)
    superuser.connection().execute("ALTER TABLE thing ALTER n TYPE bigint")
    before = connected.connection()
    assert connected.rows("SELECT n FROM thing", {}) == []
    assert connected.connection() is not before


def test_a_plan_that_is_made_stale_between_two_runs_of_one_repeat_is_no_refusal(connected: Database) -> None:
    """One whose connection broke without a word is run twice in a new session (make simulate, seed 810002011)."""
    runs: list[Connection] = []

    def run(connection: Connection) -> int:
        runs.append(connection)
        if len(runs) == 1:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        if len(runs) == 3:
            raise psycopg.errors.FeatureNotSupported("cached plan must not change result type")
        return len(runs)

    with pytest.raises(DatabaseUnavailable):
        connected._within_deadline(run, repeatable=True)
    assert len(runs) == 3
    assert connected._within_deadline(run, repeatable=True) == 4


def test_a_prepared_statement_that_is_gone_heals(connected: Database, superuser: Database) -> None:
    prepared(connected, superuser)
    connected.connection().pgconn.exec_(b"DEALLOCATE ALL")  # past psycopg, which would note it
    assert connected.rows("SELECT n FROM thing", {}) == []


def test_a_session_that_the_server_ended_for_resting_is_remade(connected: Database, superuser: Database) -> None:
    connected.rows("SELECT set_config('idle_session_timeout', '10', false)", {})
    wait_until_gone(superuser)
    assert one(connected) == 1


def test_a_lock_that_is_not_free_in_time_is_not_waited_for_twice(connected: Database, superuser: Database) -> None:
    connected.rows("SELECT set_config('lock_timeout', '50', false)", {})
    before = connected.connection()
    with superuser.connection().transaction():
        superuser.connection().execute("LOCK TABLE token")
        with pytest.raises(DatabaseUnavailable, match="55P03"):
            connected.rows("SELECT token_id FROM token FOR UPDATE", {}, repeatable=True)
    assert connected.connection() is before


def test_a_database_without_a_free_connection_is_an_outage(database: FreshDatabase, superuser: Database) -> None:
    superuser.connection().execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT 0'.encode())
    with (
        closing(Database(DatabaseSettings(database_url=database.url))) as made,
        pytest.raises(DatabaseUnavailable),
    ):
        one(made, repeatable=True)


# A server that froze


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes do nothing meanwhile, and say nothing; their sockets live."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of silence is enough, and two for connecting, the least that libpq knows."""
    monkeypatch.setattr("db.connection.TRY_SECONDS", 0.5)
    monkeypatch.setitem(connection._CLIENT_OPTIONS, "connect_timeout", 2)


def test_a_session_that_froze_is_left_and_the_statement_repeated(connected: Database, impatient: None) -> None:
    before = connected.connection()
    with frozen(before.info.backend_pid):
        assert one(connected, repeatable=True) == 1
        assert connected.connection() is not before
        assert before.closed


def test_a_session_that_froze_is_left_where_nothing_may_be_repeated(connected: Database, impatient: None) -> None:
    with frozen(connected.connection().info.backend_pid), pytest.raises(DatabaseUnavailable):
        one(connected)
    assert one(connected) == 1


def test_a_server_that_froze_is_an_outage_on_a_living_connection_and_on_a_new_one(
    connected: Database, postgres: Postgres, impatient: None
) -> None:
    """It lets connections in, as its kernel does, and never says a word."""
    postmaster = int(Path(postgres.directory, "data/postmaster.pid").read_text(encoding="utf-8").split()[0])
    with frozen(postmaster, connected.connection().info.backend_pid):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                one(connected, repeatable=True)
    assert one(connected) == 1


def test_what_silence_costs_fits_into_the_life_of_the_shortest_function(repository: Path) -> None:
    """The authorizer's: 10 s. A living connection falls silent, then the new one does, or the statement on it."""
    assert connection.TRY_SECONDS + connection.CONNECT_TIMEOUT_SECONDS <= connection.CALL_SECONDS
    assert connection.CALL_SECONDS < 10
    assert "Timeout: 10\n" in Path(repository, "template.yaml").read_text(encoding="utf-8")


def test_a_repeat_gets_no_more_than_what_is_left_of_the_call(
    connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.connection.CALL_SECONDS", 0.3)
    monkeypatch.setattr("db.connection.TRY_SECONDS", 60.0)
    with pytest.raises(DatabaseUnavailable) as caught:
        connected.rows("SELECT pg_sleep(30)", {}, repeatable=True)
    assert "SQLSTATE" not in str(caught.value)  # the server said nothing: it was not its own time-out


@pytest.fixture
def numbers(connected: Database) -> Database:
    """With a table in which 1 is taken."""
    connected.connection().execute(b"CREATE TEMPORARY TABLE number (value integer PRIMARY KEY)")
    connected.connection().execute(b"INSERT INTO number VALUES (1)")
    return connected


def store(database: Database, value: int, *, repeatable: bool) -> list[dict[str, int]]:
    statement = "INSERT INTO number VALUES (%(value)s) RETURNING value"
    return database.rows(statement, {"value": value}, repeatable=repeatable)


def stored(database: Database) -> list[int]:
    return [row["value"] for row in database.rows("SELECT value FROM number ORDER BY value", {})]


@pytest.mark.parametrize(("repeatable", "runs"), [(False, 1), (True, 2)])
def test_work_whose_last_statement_is_refused_leaves_nothing_behind(
    numbers: Database, repeatable: bool, runs: int
) -> None:
    begun: list[int] = []

    def work() -> None:
        begun.append(store(numbers, 2, repeatable=repeatable)[0]["value"])
        store(numbers, 1, repeatable=repeatable)

    with pytest.raises(StatementRefused):
        numbers.together(work, repeatable=repeatable)
    assert (begun, stored(numbers)) == ([2] * runs, [1])


def test_work_that_lost_against_another_is_done_once_more(numbers: Database) -> None:
    values = iter([1, 3])
    assert numbers.together(lambda: store(numbers, next(values), repeatable=True), repeatable=True) == [{"value": 3}]
    assert stored(numbers) == [1, 3]


def test_work_that_would_fail_again_is_done_once(numbers: Database) -> None:
    begun: list[int] = []

    def work() -> None:
        begun.append(store(numbers, 2, repeatable=True)[0]["value"])
        numbers.rows("SELECT 1 / 0", {}, repeatable=True)

    with pytest.raises(StatementRefused):
        numbers.together(work, repeatable=True)
    assert (begun, stored(numbers)) == ([2], [1])


@pytest.mark.parametrize("repeatable", [False, True])
@pytest.mark.parametrize("gone", [False, True], ids=["made stale by a migration", "gone"])
def test_a_stale_plan_within_a_transaction_heals_and_all_of_it_is_done_once(
    connected: Database, superuser: Database, repeatable: bool, gone: bool
) -> None:
    """The first statement was carried out when the second one meets it: it is undone, and done again."""
    prepared(connected, superuser)
    superuser.connection().execute("CREATE TABLE done (run integer); GRANT SELECT, INSERT ON done TO sallyport_app")
    before, runs = connected.connection(), list[int]()

    def work() -> list[dict[str, int]]:
        runs.append(len(runs) + 1)
        connected.rows("INSERT INTO done VALUES (%(run)s) RETURNING run", {"run": runs[-1]})
        return connected.rows("SELECT n FROM thing", {})

    if gone:
        connected.connection().pgconn.exec_(b"DEALLOCATE ALL")  # past psycopg, which would note it
    else:
        superuser.connection().execute("ALTER TABLE thing ALTER n TYPE bigint")
    assert connected.together(work, repeatable=repeatable) == []
    assert runs == [1, 2]
    assert connected.connection() is not before
    assert superuser.rows("SELECT run FROM done", {}) == [{"run": 2}]


def test_a_transaction_whose_plan_is_stale_again_and_again_is_refused_and_nothing_is_done(failing: Database) -> None:
    failing.connection().execute("CREATE TABLE done (run integer)")

    def work() -> None:
        failing.rows("INSERT INTO done VALUES (1) RETURNING run", {})
        failing.rows("SELECT fails('0A000', 9)", {})

    with pytest.raises(StatementRefused, match="0A000"):
        failing.together(work, repeatable=True)
    (row,) = failing.rows("SELECT last_value AS runs, (SELECT count(*) FROM done) AS done FROM runs", {})
    assert row == {"runs": 2, "done": 0}


def wait_until_ended(superuser: Database, pid: int) -> None:
    while superuser.rows("SELECT FROM pg_stat_activity WHERE pid = %(pid)s", {"pid": pid}):
        pass


def add_until_it_freezes(database: Database, values: list[int], frozen_ones: ExitStack) -> None:
    """Two statements, of which the second is not answered at the first time. Run again, they store 3 and 4, once."""
    for position in range(2):
        values.append(position + (3 if len(values) > 1 else 1))
        statement = "INSERT INTO done VALUES (%(value)s) ON CONFLICT DO NOTHING RETURNING value"
        database.rows(statement, {"value": values[-1]})
        if values == [1]:
            frozen_ones.enter_context(frozen(database.connection().info.backend_pid))


@pytest.mark.parametrize(("repeatable", "done"), [(False, []), (True, [3, 4])])
def test_a_session_that_froze_within_a_transaction_does_all_or_nothing(
    connected: Database, superuser: Database, impatient: None, repeatable: bool, done: list[int]
) -> None:
    superuser.connection().execute(
        "CREATE TABLE done (value integer UNIQUE); GRANT SELECT, INSERT ON done TO sallyport_app"
    )
    before, values = connected.connection(), list[int]()
    pid = before.info.backend_pid
    outcome = nullcontext() if repeatable else pytest.raises(DatabaseUnavailable)
    with ExitStack() as frozen_ones:
        with outcome:
            connected.together(lambda: add_until_it_freezes(connected, values, frozen_ones), repeatable=repeatable)
        assert before.closed
    wait_until_ended(superuser, pid)  # once it thaws it finds nobody, and takes back what it did
    assert superuser.rows("SELECT value FROM done ORDER BY value", {}) == [{"value": value} for value in done]
    assert one(connected) == 1  # outside of any transaction


def test_a_server_that_froze_within_a_transaction_is_an_outage_and_nothing_is_done(
    connected: Database, superuser: Database, postgres: Postgres, impatient: None
) -> None:
    """The second run waits for a server that lets connections in and never says a word."""
    superuser.connection().execute(
        "CREATE TABLE done (value integer UNIQUE); GRANT SELECT, INSERT ON done TO sallyport_app"
    )
    postmaster = int(Path(postgres.directory, "data/postmaster.pid").read_text(encoding="utf-8").split()[0])
    values, before = list[int](), connected.connection().info.backend_pid
    with ExitStack() as frozen_ones:
        frozen_ones.enter_context(frozen(postmaster))
        with pytest.raises(DatabaseUnavailable):
            connected.together(lambda: add_until_it_freezes(connected, values, frozen_ones), repeatable=True)
    assert values == [1, 2]
    wait_until_ended(superuser, before)
    assert superuser.rows("SELECT value FROM done", {}) == []

"""One connection per process: made on first use, re-made when it broke, never waited for too long."""

import threading
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest

from db.connection import RETRY_AFTER_SECONDS, TRUSTED_IDLE_SECONDS, Database
from domain.errors import DatabaseUnavailable, StatementRefused
from runtime.settings import DatabaseSettings
from tests.conftest import FreshDatabase


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


def test_a_connection_that_was_closed_while_idle_is_remade_without_an_error(
    connected: Database, superuser: Database
) -> None:
    before = connected.connection()
    kill(superuser)
    wait_until_gone(superuser)
    assert one(connected) == 1
    assert connected.connection() is not before


def test_a_connection_that_rested_too_long_is_not_trusted(database: FreshDatabase) -> None:
    now = [1_000_000.0]
    with closing(Database(DatabaseSettings(database_url=database.url), wall_clock=lambda: now[0])) as made:
        before = made.connection()
        now[0] += TRUSTED_IDLE_SECONDS
        assert made.connection() is before
        now[0] += TRUSTED_IDLE_SECONDS + 1
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


def test_a_read_goes_the_same_way(connected: Database) -> None:
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
        "UPDATE destination SET base_url = 'http://elsewhere' RETURNING destination_id",
        "DELETE FROM delivery RETURNING delivery_id",
        "DELETE FROM attempt RETURNING attempt_id",
        "SELECT * FROM schema_migration",
        "CREATE TABLE mine (n integer)",
    ],
)
def test_the_functions_role_may_not(connected: Database, statement: str) -> None:
    with pytest.raises(Exception, match="permission denied"):
        connected.connection().execute(statement.encode())


@pytest.mark.parametrize("table", ["delivery", "attempt", "destination"])
def test_the_operators_role_cannot_read_business_data(database: FreshDatabase, table: str) -> None:
    with (
        closing(Database(DatabaseSettings(database_url=database.operator_url))) as made,
        pytest.raises(Exception, match="permission denied"),
    ):
        made.connection().execute(f"SELECT FROM {table}".encode())


def test_what_the_schema_refuses_is_told_without_the_row(connected: Database, superuser: Database) -> None:
    row = {"name": "-".join(["A", "Secret"])}
    with pytest.raises(StatementRefused) as caught:
        superuser.rows("INSERT INTO tenant VALUES (gen_random_uuid(), %(name)s, now()) RETURNING tenant_id", row)
    assert caught.value.constraint == "tenant_name_form"
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


def test_a_connection_can_be_cut_under_whoever_waits_for_it(connected: Database) -> None:
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

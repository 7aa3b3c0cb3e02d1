"""The embedded PostgreSQL: starts, stops, survives, and says plainly what is wrong when it cannot."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest

from local.errors import Advice, LocalError
from local.functions import REPOSITORY
from local.postgres import Postgres


def test_data_survive_a_stop_and_a_start(tmp_path: Path) -> None:
    with Postgres(tmp_path / "db", durable=False) as server, psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with Postgres(tmp_path / "db", durable=False) as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_only_its_owner_reaches_it(tmp_path: Path) -> None:
    with Postgres(tmp_path / "db", durable=False):
        assert (tmp_path / "db" / "data").stat().st_mode & 0o077 == 0


def test_a_directory_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "db" / "data").mkdir(parents=True)
    with pytest.raises(LocalError, match=r"is not a PostgreSQL data directory") as caught:
        Postgres(tmp_path / "db").start()
    assert caught.value.advice is Advice.START_OVER


def test_a_directory_of_another_major_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "db" / "data").mkdir(parents=True)
    (tmp_path / "db" / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(LocalError, match=r"made by PostgreSQL 14, this is PostgreSQL 17") as caught:
        Postgres(tmp_path / "db").start()
    assert caught.value.advice is Advice.START_OVER


def test_a_damaged_database_is_one_clear_line(tmp_path: Path) -> None:
    with Postgres(tmp_path / "db", durable=False):
        pass
    (tmp_path / "db" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(LocalError, match=r"does not start.*pg_control") as caught:
        Postgres(tmp_path / "db").start()
    assert "\n" not in str(caught.value)
    assert caught.value.advice is Advice.START_OVER


def test_a_server_whose_starter_was_killed_is_taken_over(tmp_path: Path) -> None:
    """Also the lock files that it left, which by now may name any process at all: here, this one."""
    directory = tmp_path / "db"
    with Postgres(directory, durable=False) as server:
        url = server.url()
    lock = directory / "data" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{directory / 'data'}\n")
    with Postgres(directory, durable=False) as server, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert server.running


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Even when that is killed, and the next one starts on the same data."""
    script = (
        "import sys, time; from pathlib import Path; from local.postgres import Postgres; "
        "server = Postgres(Path(sys.argv[1]), durable=False); server.start(); "
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "db")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    with Postgres(tmp_path / "db", durable=False) as server:
        assert server.pid != pid
        left = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
        assert left.stdout.strip()[:1] in ("", "Z")  # gone, or waiting for an init process that does not look


def test_a_path_too_long_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with Postgres(deep, durable=False) as server:
        url = server.url()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not Path(unquote(url.partition("host=")[2].partition("&")[0])).exists()


def test_a_server_with_a_long_path_restarts_at_its_address(tmp_path: Path) -> None:
    with Postgres(tmp_path / ("d" * 60) / ("e" * 60), durable=False) as server:
        url = server.url()
        server.stop()
        server.start()
        assert server.url() == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_that_fails_is_reported(tmp_path: Path) -> None:
    with Postgres(tmp_path / "db", durable=False) as server:
        server.make_database("one")
        server.make_database("one")
        assert server.run_sql("SELECT 1, 'a'", database="one") == "1|a"
        with pytest.raises(LocalError, match="refuses a statement: ERROR:"):
            server.run_sql("SELECT nonsense")


@pytest.mark.parametrize("name", ["long" * 40, "a, b"])
def test_its_url_is_known_before_there_is_a_cluster_whatever_its_directory_is_called(tmp_path: Path, name: str) -> None:
    """PostgreSQL takes 107 bytes for the path of its socket, and divides a list of directories at commas."""
    server = Postgres(tmp_path / name, durable=False)
    url = server.url()
    with server, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

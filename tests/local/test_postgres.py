"""The embedded PostgreSQL: starts, stops, survives, and says plainly what is wrong when it cannot."""

from pathlib import Path

import psycopg
import pytest

from local.errors import LocalError
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
    with pytest.raises(LocalError, match=r"is not a PostgreSQL data directory.*make run-clean"):
        Postgres(tmp_path / "db").start()


def test_a_directory_of_another_major_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "db" / "data").mkdir(parents=True)
    (tmp_path / "db" / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(LocalError, match=r"made by PostgreSQL 14, this is PostgreSQL 17.*make run-clean"):
        Postgres(tmp_path / "db").start()


def test_a_damaged_database_is_one_clear_line(tmp_path: Path) -> None:
    with Postgres(tmp_path / "db", durable=False):
        pass
    (tmp_path / "db" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(LocalError, match=r"does not start.*pg_control.*make run-clean") as caught:
        Postgres(tmp_path / "db").start()
    assert "\n" not in str(caught.value)

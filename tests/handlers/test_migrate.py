"""The migration: a custom resource of CloudFormation, which waits for an answer and always gets one."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any

import psycopg
import pytest
from psycopg import sql

from db.migrations import MigrationError, migrations
from domain.errors import DatabaseUnavailable
from flows import migrate as flow
from handlers import migrate
from local.postgres import Postgres
from tests.egress.authorities import Authority
from tests.egress.servers import Partner, Script, Server
from tests.support.api import Context
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

NEWEST = len(migrations())
NUMBERS = list(range(1, NEWEST + 1))


@pytest.fixture
def empty(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database, for its owner, which is also what the function is set to."""
    name = sql.Identifier("to_be_migrated")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        url = postgres.url(database="to_be_migrated")
        monkeypatch.setenv("DATABASE_URL", url)
        yield url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def cloudformation(partner: StartPartner) -> Partner:
    """Where the presigned URL leads: it takes whatever it is told."""
    return partner(answers(200))


def event(kind: str, cloudformation: Partner, repository: Path) -> dict[str, Any]:
    """The event of the stack's own resource, with an address that answers."""
    stored: dict[str, Any] = json.loads((repository / "events" / "migrate.json").read_text())
    return stored | {"RequestType": kind, "ResponseURL": cloudformation.url("/answer?X-Amz-Signature=abc")}


def told(cloudformation: Partner) -> dict[str, Any]:
    """The one answer that CloudFormation got."""
    (request,) = cloudformation.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /answer?X-Amz-Signature=abc HTTP/1.1\r\n")
    assert b"content-type: \r\n" in head.lower() + b"\r\n"  # the URL is signed for none
    found: dict[str, Any] = json.loads(body)
    return found


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg.connect(url)) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_an_operator_migrates_and_gets_the_result(empty: str) -> None:
    assert migrate.handler({"action": "migrate"}, Context()) == {"applied": NUMBERS, "version": NEWEST}
    assert migrate.handler({"action": "migrate"}, Context()) == {"applied": [], "version": NEWEST}
    assert rows(empty, "SELECT count(*) FROM delivery") == [(0,)]


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_cloudformation_is_told_of_success(empty: str, cloudformation: Partner, repository: Path, kind: str) -> None:
    asked = event(kind, cloudformation, repository)
    assert migrate.handler(asked, Context()) == {"applied": NUMBERS, "version": NEWEST}
    answer = told(cloudformation)
    assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"Version": str(NEWEST)})
    for name in ("StackId", "RequestId", "LogicalResourceId"):
        assert answer[name] == asked[name]
    assert answer["PhysicalResourceId"] == migrate.PHYSICAL_ID


def test_deleting_the_resource_keeps_the_schema(empty: str, cloudformation: Partner, repository: Path) -> None:
    migrate.handler({"action": "migrate"}, Context())
    assert migrate.handler(event("Delete", cloudformation, repository), Context()) == {}
    assert told(cloudformation)["Status"] == "SUCCESS"
    assert rows(empty, "SELECT count(*) FROM delivery") == [(0,)]


def test_deleting_needs_no_database(cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    migrate.handler(event("Delete", cloudformation, repository), Context())
    assert told(cloudformation)["Status"] == "SUCCESS"


def test_a_database_that_stays_away_is_a_failure_with_a_reason(
    cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    no_time = Context(seconds_left=lambda: migrate.RESERVE_SECONDS + 1)
    assert migrate.handler(event("Create", cloudformation, repository), no_time) == {}
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "DatabaseUnavailable" in answer["Reason"]


def test_a_database_that_comes_late_is_waited_for(
    empty: str, cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "PAUSE_SECONDS", 0.01)
    rename(empty, "to_be_migrated", "not_there_yet")
    looks = 0

    def seconds_left() -> float:
        nonlocal looks
        looks += 1
        if looks == 3:
            rename(empty, "not_there_yet", "to_be_migrated")
        return migrate.RESERVE_SECONDS + 5

    migrate.handler(event("Create", cloudformation, repository), Context(seconds_left))
    assert told(cloudformation)["Status"] == "SUCCESS"
    assert looks > 3


def rename(url: str, before: str, after: str) -> None:
    server = url.replace("/to_be_migrated", "/postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        names = (sql.Identifier(before), sql.Identifier(after))
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))


def test_a_migration_that_fails_half_way_leaves_nothing_of_itself(
    empty: str, cloudformation: Partner, repository: Path
) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE TABLE delivery (in_the_way text)")
    migrate.handler(event("Create", cloudformation, repository), Context())
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "delivery" in answer["Reason"]
    assert "\n" not in answer["Reason"]
    tables = rows(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert tables == [("delivery",), ("schema_migration",)]
    assert rows(empty, "SELECT number FROM schema_migration") == []

    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("DROP TABLE delivery")
    assert migrate.handler({"action": "migrate"}, Context())["applied"] == NUMBERS


def test_files_that_were_changed_after_they_ran_are_a_failure(
    empty: str, cloudformation: Partner, repository: Path
) -> None:
    migrate.handler({"action": "migrate"}, Context())
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE schema_migration SET sha256 = '\\x00' WHERE number = 1")
    migrate.handler(event("Update", cloudformation, repository), Context())
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "changed after it was applied" in answer["Reason"]
    with pytest.raises(MigrationError):
        migrate.handler({"action": "migrate"}, Context())


def test_an_operator_sees_the_error_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        migrate.handler({"action": "migrate"}, Context(seconds_left=lambda: 0))


def test_an_answer_that_is_not_taken_fails_the_function_so_that_lambda_tries_again(
    empty: str, partner: StartPartner, repository: Path
) -> None:
    with pytest.raises(OSError, match="status 403"):
        migrate.handler(event("Create", partner(answers(403)), repository), Context())


def test_the_answer_goes_to_nobody_who_cannot_prove_who_it_is(
    empty: str, partner: StartPartner, repository: Path, tmp_path: Path
) -> None:
    impostor = Server(answers(200), tls=Authority.new(tmp_path).context("127.0.0.1"))
    asked = event("Create", impostor.partner, repository)
    with pytest.raises(SSLCertVerificationError):
        migrate.handler(asked, Context())
    impostor.stop()
    assert impostor.partner.requests == []

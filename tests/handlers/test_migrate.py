"""The migration: a custom resource of CloudFormation, which waits for an answer and always gets one."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any

import psycopg
import pytest
from psycopg import sql

from db import connection as connection_settings
from db.migrations import Migration, MigrationError, migrations
from domain.errors import DatabaseUnavailable, InvalidRequest
from flows import migrate as flow
from handlers import migrate
from local.postgres import Postgres
from runtime import cloudformation as cloudformation_answers
from tests.egress.authorities import Authority
from tests.egress.servers import SAFETY_SECONDS, Line, Partner, Script, Server
from tests.support.api import Context
from tests.support.partners import answers, takes_and_closes

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
    """The target of the presigned URL: it accepts whatever is sent."""
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
    assert migrate.handler({"action": "migrate"}, ticking(60)) == {"applied": NUMBERS, "version": NEWEST}
    assert migrate.handler({"action": "migrate"}, ticking(60)) == {"applied": [], "version": NEWEST}
    assert rows(empty, "SELECT count(*) FROM delivery") == [(0,)]


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_success_is_reported_to_cloudformation(
    empty: str, cloudformation: Partner, repository: Path, kind: str
) -> None:
    asked = event(kind, cloudformation, repository)
    assert migrate.handler(asked, ticking(60)) == {"applied": NUMBERS, "version": NEWEST}
    answer = told(cloudformation)
    assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"Version": str(NEWEST)})
    for name in ("StackId", "RequestId", "LogicalResourceId"):
        assert answer[name] == asked[name]
    assert answer["PhysicalResourceId"] == migrate.PHYSICAL_ID


def test_deleting_the_resource_leaves_the_schema(empty: str, cloudformation: Partner, repository: Path) -> None:
    migrate.handler({"action": "migrate"}, ticking(60))
    assert migrate.handler(event("Delete", cloudformation, repository), ticking(60)) == {}
    assert told(cloudformation)["Status"] == "SUCCESS"
    assert rows(empty, "SELECT count(*) FROM delivery") == [(0,)]


def test_deleting_needs_no_database(cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    migrate.handler(event("Delete", cloudformation, repository), ticking(60))
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
    migrate.handler(event("Create", cloudformation, repository), ticking(60))
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "delivery" in answer["Reason"]
    assert "\n" not in answer["Reason"]
    tables = rows(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    assert tables == [("delivery",), ("schema_migration",)]
    assert rows(empty, "SELECT number FROM schema_migration") == []

    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("DROP TABLE delivery")
    assert migrate.handler({"action": "migrate"}, ticking(60))["applied"] == NUMBERS


def test_files_that_were_changed_after_they_ran_are_a_failure(
    empty: str, cloudformation: Partner, repository: Path
) -> None:
    migrate.handler({"action": "migrate"}, ticking(60))
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE schema_migration SET sha256 = '\\x00' WHERE number = 1")
    migrate.handler(event("Update", cloudformation, repository), ticking(60))
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "changed after it was applied" in answer["Reason"]
    with pytest.raises(MigrationError):
        migrate.handler({"action": "migrate"}, ticking(60))


def test_an_operator_sees_the_error_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable):
        migrate.handler({"action": "migrate"}, Context(seconds_left=lambda: migrate.RESERVE_SECONDS + 1))


def told_at(connection: bytes) -> str:
    return str(json.loads(connection.partition(b"\r\n\r\n")[2])["Status"])


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between the tries of an answer."""
    monkeypatch.setattr(cloudformation_answers, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.mark.usefixtures("_at_once")
def test_an_answer_that_gets_lost_is_sent_again(empty: str, partner: StartPartner, repository: Path) -> None:
    def script(line: Line) -> None:
        line.read_request()
        if line.number == 1:
            return line.reset()
        line.send(b"HTTP/1.1 503 Slow Down\r\n\r\n" if line.number == 2 else b"HTTP/1.1 200 OK\r\n\r\n")
        return None

    cloudformation = partner(script)
    assert migrate.handler(event("Create", cloudformation, repository), ticking(60)) == {
        "applied": NUMBERS,
        "version": NEWEST,
    }
    assert [told_at(request) for request in cloudformation.requests] == ["SUCCESS"] * 3


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("script", [takes_and_closes, lambda line: line.send(b"SSH-2.0\r\n\r\n"), answers(500)])
def test_an_answer_that_cannot_be_delivered_fails_the_function_so_that_lambda_retries(
    empty: str, partner: StartPartner, repository: Path, script: Script
) -> None:
    cloudformation = partner(script)
    with pytest.raises(OSError, match=r"."):
        migrate.handler(event("Create", cloudformation, repository), ticking(60))
    assert cloudformation.connections == 3
    assert rows(empty, "SELECT max(number) FROM schema_migration") == [(NEWEST,)]


@pytest.mark.usefixtures("_at_once")
def test_an_address_without_a_listener_is_tried_three_times_and_then_raised(
    empty: str, cloudformation: Partner, repository: Path
) -> None:
    nowhere = event("Create", cloudformation, repository) | {"ResponseURL": "http://127.0.0.1:1/answer"}
    with pytest.raises(ConnectionRefusedError):
        migrate.handler(nowhere, ticking(60))


def test_an_address_that_has_expired_is_not_asked_again(empty: str, partner: StartPartner, repository: Path) -> None:
    expired = partner(answers(403))
    with pytest.raises(OSError, match="status 403"):
        migrate.handler(event("Create", expired, repository), ticking(60))
    assert len(expired.requests) == 1


def test_an_address_that_redirects_has_not_received_the_answer(
    empty: str, partner: StartPartner, repository: Path
) -> None:
    elsewhere = partner(answers(307))
    with pytest.raises(OSError, match="status 307"):
        migrate.handler(event("Create", elsewhere, repository), ticking(60))


@pytest.mark.parametrize("words", ["\N{PILE OF POO}" * 5000, "\ud800" * 5000, '"' * 5000, "plain" * 1000])
def test_an_answer_with_a_long_reason_is_accepted_by_cloudformation(
    cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MigrationError(words)

    monkeypatch.setattr(migrate, "_migrate", fails)
    migrate.handler(event("Create", cloudformation, repository), ticking(60))
    assert told(cloudformation)["Status"] == "FAILED"
    assert len(cloudformation.requests[0].partition(b"\r\n\r\n")[2]) <= 4096  # AWS: "Response objects"


def test_the_answer_is_sent_to_no_server_without_a_valid_certificate(
    empty: str, partner: StartPartner, repository: Path, tmp_path: Path
) -> None:
    impostor = Server(answers(200), tls=Authority.new(tmp_path).context("127.0.0.1"))
    asked = event("Create", impostor.partner, repository)
    with pytest.raises(SSLCertVerificationError):
        migrate.handler(asked, ticking(60))
    impostor.stop()
    assert impostor.partner.requests == []


# ---- Roll-backs, and what the template asks for


def test_only_what_the_template_asks_for_is_applied(empty: str, cloudformation: Partner, repository: Path) -> None:
    """So a roll-back to an older template does not run again what has just failed."""
    first = migrations()[0]
    assert migrate.handler(asking(event("Create", cloudformation, repository), first.name), ticking(60)) == {
        "applied": [1],
        "version": 1,
    }
    assert told(cloudformation)["Data"] == {"Version": "1"}


def asking(asked: dict[str, Any], latest: object) -> dict[str, Any]:
    return asked | {"ResourceProperties": asked["ResourceProperties"] | {"LatestMigration": latest}}


def test_a_roll_back_leaves_the_newer_schema_and_succeeds(
    empty: str, cloudformation: Partner, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    migrate.handler({"action": "migrate"}, ticking(60))
    older = asking(event("Update", cloudformation, repository), migrations()[0].name)
    older["OldResourceProperties"] = {"LatestMigration": migrations()[-1].name}
    assert migrate.handler(older, ticking(60)) == {"applied": [], "version": NEWEST}
    assert told(cloudformation)["Status"] == "SUCCESS"
    assert "newer than asked for" in caplog.text
    assert rows(empty, "SELECT count(*) FROM schema_migration") == [(NEWEST,)]


def test_a_roll_back_after_a_migration_that_failed_succeeds(
    empty: str, partner: StartPartner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CloudFormation drives it: the update fails, and the same resource is updated to what it was before."""
    migrate.handler({"action": "migrate"}, ticking(60))
    broken = Migration(number=NEWEST + 1, name="9999_broken", statements="CREATE TABLE half (n int); SELECT 1 / 0")
    monkeypatch.setattr(flow, "migrations", lambda: (*migrations(), broken))
    forward, back = partner(answers(200)), partner(answers(200))
    migrate.handler(asking(event("Update", forward, repository), "9999_broken"), ticking(60))
    assert told(forward)["Status"] == "FAILED"
    assert "9999_broken.sql: division by zero" in told(forward)["Reason"]
    migrate.handler(asking(event("Update", back, repository), migrations()[-1].name), ticking(60))
    assert told(back)["Status"] == "SUCCESS"
    assert rows(empty, "SELECT to_regclass('half'), max(number) FROM schema_migration") == [(None, NEWEST)]


def test_deleting_what_never_came_to_be_answers_for_the_id_that_cloudformation_gave_it(
    cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a Create that failed and a roll-back that took the database away."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    asked = event("Delete", cloudformation, repository) | {"PhysicalResourceId": "sallyport-dev-Migration-1ABC"}
    assert migrate.handler(asked, ticking(60)) == {}
    answer = told(cloudformation)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", "sallyport-dev-Migration-1ABC")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"RequestType": "Rename"}, "must be Create, Update or Delete, got Rename"),
        ({"RequestType": None}, "must be Create, Update or Delete"),
        ({"ResourceProperties": {}}, "LatestMigration: must name a migration"),
        ({"ResourceProperties": {"LatestMigration": 2}}, "LatestMigration: must name a migration"),
        ({"ResourceProperties": {"LatestMigration": "0999_unknown"}}, "this code has no migration 0999_unknown"),
    ],
)
def test_an_event_that_is_not_understood_is_a_failure_with_a_reason(
    empty: str, cloudformation: Partner, repository: Path, change: dict[str, Any], reason: str
) -> None:
    assert migrate.handler(event("Create", cloudformation, repository) | change, ticking(60)) == {}
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert reason in answer["Reason"]
    assert rows(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.parametrize("wrong", [{}, {"action": "drop"}, {"Records": []}])
def test_an_event_of_unknown_origin_migrates_nothing(empty: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match='must be "migrate"'):
        migrate.handler(wrong, ticking(60))
    assert rows(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_missing_setting_is_a_failure_that_names_it(
    cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PORT", "ten")
    migrate.handler(event("Create", cloudformation, repository), ticking(60))
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "DATABASE_PORT must be a whole number" in answer["Reason"]


def test_an_unforeseen_exception_is_a_failure_too(
    empty: str, cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "migrate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        migrate.handler(event("Create", cloudformation, repository), ticking(60))
    answer = told(cloudformation)
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "unexpected, see the log of the function")


# ---- Time


def later(statements: str) -> Migration:
    return Migration(number=NEWEST + 1, name="9999_later", statements=statements)


def ticking(seconds: float) -> Context:
    """A function that has so many seconds left for its work, and less with every moment."""
    end = time.monotonic() + seconds + migrate.RESERVE_SECONDS
    return Context(seconds_left=lambda: end - time.monotonic())


def test_a_migration_that_takes_too_long_is_a_failure_before_lambda_ends_the_function(
    empty: str, cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = later("CREATE TABLE half (n integer); SELECT pg_sleep(60)")
    monkeypatch.setattr(flow, "migrations", lambda: (*migrations(), slow))
    asked = asking(event("Update", cloudformation, repository), slow.name)
    assert migrate.handler(asked, ticking(1)) == {}
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "9999_later.sql: " in answer["Reason"]
    assert "timeout" in answer["Reason"]
    assert rows(empty, "SELECT to_regclass('half'), max(number) FROM schema_migration") == [(None, NEWEST)]


def test_a_database_that_freezes_in_the_middle_is_a_failure_in_time(
    empty: str, cloudformation: Partner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connection and ends nothing, not even what has run out of time."""
    monkeypatch.setattr(migrate, "GRACE_SECONDS", 1.0)
    frozen = later("SELECT pg_sleep(60)")
    monkeypatch.setattr(flow, "migrations", lambda: (*migrations(), frozen))
    backend: list[int] = []
    returned = threading.Event()

    def freeze() -> None:
        with closing(psycopg.connect(empty, autocommit=True)) as connection:
            statement = (
                "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND pid != pg_backend_pid()"
            )
            while not backend:
                backend.extend(pid for (pid,) in connection.execute(statement.encode()))
        os.kill(backend[0], signal.SIGSTOP)
        returned.wait(SAFETY_SECONDS)
        os.kill(backend[0], signal.SIGCONT)  # and PostgreSQL says why it ends the statement, where nobody gave it up

    freezer = threading.Thread(target=freeze)
    freezer.start()
    try:
        migrate.handler(asking(event("Update", cloudformation, repository), frozen.name), ticking(3))
    finally:
        returned.set()
        freezer.join()
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("OutOfTime: not done after")


def test_a_server_that_accepts_connections_and_stays_silent_is_a_failure_in_time(
    cloudformation: Partner, partner: StartPartner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = partner(lambda line: line.hang())
    monkeypatch.setattr(connection_settings, "CONNECT_TIMEOUT_SECONDS", 2)
    monkeypatch.setitem(connection_settings._CLIENT_OPTIONS, "connect_timeout", 2)  # libpq takes no less
    monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{silent.port}/none")
    migrate.handler(event("Create", cloudformation, repository), ticking(1))
    answer = told(cloudformation)
    assert answer["Status"] == "FAILED"
    assert "DatabaseUnavailable" in answer["Reason"]


def test_two_stacks_events_at_once_apply_each_file_once(
    empty: str, partner: StartPartner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda may deliver an event twice."""
    addresses = [partner(answers(200)) for _ in range(3)]
    done: list[list[int]] = []

    def run(address: Partner) -> None:
        done.append(migrate.handler(event("Create", address, repository), ticking(60))["applied"])

    threads = [threading.Thread(target=run, args=[address]) for address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=len) == [[], [], NUMBERS]
    assert [told(address)["Status"] for address in addresses] == ["SUCCESS"] * 3

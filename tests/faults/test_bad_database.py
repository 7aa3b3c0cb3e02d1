"""A database that goes away: callers get 503 and when to come back, nothing is lost, and nothing is sent twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.migrations import migrate
from local.postgres import Postgres
from tests.egress.servers import Line, Partner, Script
from tests.support.api import Api, Functions, Reply, deployed
from tests.support.databases import FreshDatabase
from tests.support.gateway import EmulatedQueue
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

WAIT = ("Prefer", "wait=5")
KEY = ("Idempotency-Key", "order-42")


def must_ask_to_come_back(answer: Reply) -> None:
    assert (answer.status, answer.kind) == (503, "unavailable")
    assert int(answer.header("Retry-After") or 0) > 0


@contextmanager
def locked(functions: Functions, table: str) -> Iterator[None]:
    """Meanwhile every statement on `table` waits, and is cut off at that point."""
    done = threading.Event()

    def cut_whoever_waits() -> None:
        while not done.wait(0.02):
            functions.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND wait_event_type = 'Lock'",
                functions.database.name,
            )

    with psycopg.connect(functions.database.admin_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        cutter = threading.Thread(target=cut_whoever_waits)
        cutter.start()
        try:
            yield
        finally:
            done.set()
            cutter.join()


def test_a_connection_that_was_cut_while_idle_is_made_again_unnoticed(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    functions.cut_connections()
    assert api.create_delivery().status == 202
    functions.cut_connections()
    assert len(api.get("/v1/deliveries").json["deliveries"]) == 1


def test_a_database_that_dies_while_it_accepts_has_accepted_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    with locked(functions, "delivery"):
        must_ask_to_come_back(api.create_delivery(KEY))
        must_ask_to_come_back(api.create_delivery(WAIT, KEY))
        must_ask_to_come_back(api.call("POST", "/v1/via/partner/x", body=b"{}"))
    assert functions.sql("SELECT delivery_id FROM delivery") == []

    functions.work()  # the messages of what was never accepted
    assert server.requests == []
    assert api.create_delivery(WAIT, KEY).json["state"] == "delivered"
    assert len(server.requests) == 1


def test_a_read_that_is_cut_is_repeated_and_one_that_is_cut_again_is_an_outage(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    with locked(functions, "delivery"):
        must_ask_to_come_back(api.get("/v1/deliveries"))
    assert api.get("/v1/deliveries").status == 200


def cuts_then_answers(functions: Functions) -> Script:
    """The database fails over while the request is with the partner."""

    def script(line: Line) -> None:
        while line.read_request():
            functions.cut_connections()
            line.send(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\npaid")

    return script


@pytest.mark.parametrize("call", ["wait", "via", "worker"])
def test_a_connection_cut_while_the_partner_answers_loses_no_outcome(
    functions: Functions, api: Api, partner: StartPartner, call: str
) -> None:
    server = partner(cuts_then_answers(functions))
    api.destination(server.url())
    if call == "wait":
        assert api.create_delivery(WAIT).json["response"]["body"] == "paid"
    elif call == "via":
        assert api.call("POST", "/v1/via/partner/orders", body=b"{}").body == b"paid"
    else:
        api.create_delivery()
        assert functions.work() == {"batchItemFailures": []}
    assert functions.delivery()["state"] == "delivered"
    assert [(row["number"], row["status"]) for row in functions.attempts()] == [(1, 201)]
    functions.work_early()
    assert len(server.requests) == 1


# A database that becomes a replica


@contextmanager
def read_only(functions: Functions) -> Iterator[None]:
    """A fail-over to a replica, as connections that were made meanwhile see it."""
    switch = f'ALTER ROLE sallyport_app IN DATABASE "{functions.database.name}"'
    functions.sql(f"{switch} SET default_transaction_read_only = on")
    functions.cut_connections()
    try:
        yield
    finally:
        functions.sql(f"{switch} RESET default_transaction_read_only")


def test_a_database_that_became_a_replica_is_left_for_the_new_writer(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    with read_only(functions):
        assert api.get("/v1/deliveries").json["deliveries"] == []
        must_ask_to_come_back(api.create_delivery(KEY))
        must_ask_to_come_back(api.post("/v1/destinations", {"name": "other", "base_url": "https://bank.example"}))
    assert api.create_delivery(WAIT, KEY).json["state"] == "delivered"
    assert len(server.requests) == 1


def test_a_worker_on_a_replica_puts_its_messages_back(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    api.create_delivery()
    with read_only(functions):
        assert functions.work() == {"batchItemFailures": []}
    assert (len(functions.queue.messages), server.requests) == (1, [])
    functions.work_early()
    assert (functions.delivery()["state"], len(server.requests)) == ("delivered", 1)


# A database that has a rule of its own


def test_a_rule_that_a_statement_breaks_is_our_bug_and_quotes_no_row(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    functions.sql("ALTER TABLE delivery ADD CONSTRAINT no_money_today CHECK (method <> 'POST')")
    answer = api.create_delivery(body={"iban": "DE02"})
    assert (answer.status, answer.kind) == (500, "internal")
    assert "no_money_today" not in answer.body.decode()
    log = functions.log.getvalue()
    assert "no_money_today" in log
    assert "DE02" not in log
    assert api.create_delivery(method="PUT").status == 202  # the connection is still good


# A database that is stopped


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of this file's own, to be stopped and started."""
    with Postgres(tmp_path_factory.mktemp("own-postgres"), durable=False) as server:
        server.make_database("stoppable")
        with psycopg.connect(server.url(database="stoppable"), autocommit=True) as connection:
            migrate(connection)
        yield server


@pytest.fixture
def stoppable(
    own_postgres: Postgres, queue: EmulatedQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """The functions on a server that a test may stop."""
    start(own_postgres)
    urls: dict[str, Any] = {
        "url": own_postgres.url(user="sallyport_app", database="stoppable"),
        "authorizer_url": own_postgres.url(user="sallyport_authorizer", database="stoppable"),
        "operator_url": own_postgres.url(user="sallyport_admin", database="stoppable"),
        "admin_url": own_postgres.url(database="stoppable"),
    }
    with deployed(FreshDatabase(name="stoppable", **urls), queue, tmp_path, monkeypatch) as made:
        made.sql("TRUNCATE delivery, delivery_body, attempt, destination CASCADE")
        yield made


def start(server: Postgres) -> None:
    """Starts it again, without the list of allowed ports in its environment: Linux takes 128 KiB per variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ALLOWED_PORTS", raising=False)
        if not server.running:
            server.start()


def test_a_stopped_database_is_an_outage_with_an_end(
    stoppable: Functions, own_postgres: Postgres, partner: StartPartner
) -> None:
    api, server = stoppable.api, partner(answers(200))
    api.destination(server.url())
    api.create_delivery(KEY)

    own_postgres.stop()
    for _ in range(2):
        must_ask_to_come_back(api.create_delivery(WAIT))
        must_ask_to_come_back(api.call("GET", "/v1/via/partner/x"))
        must_ask_to_come_back(api.get("/v1/deliveries"))
        must_ask_to_come_back(api.get("/v1/destinations/partner"))
    assert api.get("/healthz").status == 200
    assert stoppable.work() == {"batchItemFailures": []}
    assert server.requests == []

    start(own_postgres)
    assert api.create_delivery(KEY).header("Idempotency-Replayed") == "true"
    stoppable.work_early()
    assert stoppable.delivery()["state"] == "delivered"
    assert len(server.requests) == 1


def stops_then_answers(own_postgres: Postgres) -> Script:
    """The database stops while the request is with the partner."""

    def script(line: Line) -> None:
        while line.read_request():
            own_postgres.stop()
            line.send(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\npaid")

    return script


def test_the_caller_learns_what_the_partner_said_though_it_can_be_recorded_later_only(
    stoppable: Functions, own_postgres: Postgres, partner: StartPartner
) -> None:
    api, server = stoppable.api, partner(stops_then_answers(own_postgres))
    api.destination(server.url())
    answer = api.create_delivery(WAIT, KEY)
    assert (answer.status, answer.json["state"], answer.json["response"]["body"]) == (200, "delivered", "paid")

    start(own_postgres)
    assert stoppable.delivery()["state"] == "sending"
    lease_ends(stoppable)
    assert stoppable.delivery()["state"] == "delivered"
    assert [row["outcome"] for row in stoppable.attempts()] == ["answered"]
    assert len(server.requests) == 1


def test_a_worker_whose_outcome_cannot_be_recorded_lets_it_travel_and_sends_nothing_again(
    stoppable: Functions, own_postgres: Postgres, partner: StartPartner
) -> None:
    api, server = stoppable.api, partner(stops_then_answers(own_postgres))
    api.destination(server.url())
    api.create_delivery()
    # Time for the request, then a few tries to record: with all of Lambda's 29 s it would ask for 21 s.
    assert stoppable.work(seconds_left=15.0) == {"batchItemFailures": []}

    start(own_postgres)
    assert stoppable.delivery()["state"] == "sending"
    (carrying,) = stoppable.queue.wakeups()
    assert carrying.record is not None
    lease_ends(stoppable)
    assert stoppable.delivery()["state"] == "delivered"
    assert len(server.requests) == 1


def lease_ends(functions: Functions) -> None:
    """Time passes until the lease is over, and the attempt function looks again."""
    functions.sql("UPDATE delivery SET leased_until = created_at WHERE state = 'sending'")
    functions.work_early()

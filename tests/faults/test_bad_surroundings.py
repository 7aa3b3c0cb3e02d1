"""A queue that is down, a key that is gone: callers are told what they can do, and nothing is half accepted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.egress.servers import Line, Partner, Script
from tests.support.api import Api, Functions, forget_services
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

WAIT = ("Prefer", "wait=5")


@pytest.fixture
def without_queue(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """The functions in new processes, for which SQS is out of reach."""
    functions.api.destination("https://bank.example")
    forget_services()
    monkeypatch.setenv("SQS_ENDPOINT_URL", "http://127.0.0.1:1")
    return functions


def test_without_a_queue_nothing_is_accepted(without_queue: Functions) -> None:
    api = without_queue.api
    for answer in (
        api.create_delivery(),
        api.create_delivery(WAIT),
        api.call("POST", "/v1/via/partner/x", body=b"{}"),
        api.call("POST", "/v1/via/partner/x", body=b"{}", headers=[("Prefer", "respond-async")]),
    ):
        assert (answer.status, answer.kind) == (503, "unavailable")
        assert int(answer.header("Retry-After") or 0) > 0
    assert without_queue.sql("SELECT delivery_id FROM delivery") == []


def test_without_a_queue_everything_else_works(without_queue: Functions) -> None:
    api = without_queue.api
    assert api.get("/v1/deliveries").status == 200
    assert api.get("/v1/destinations/partner").status == 200
    api.destination("https://bank.example", name="another")


def takes_one_and_fails(line: Line) -> None:
    """An SQS API that takes a first message and then breaks down."""
    line.read_request()
    taken = b'{"Successful":[{"Id":"0","MessageId":"1","MD5OfMessageBody":"x"}],"Failed":[]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(taken)}\r\n\r\n"
    line.send(head.encode() + taken)
    while line.read_request():
        line.send(b"HTTP/1.1 500 Broken\r\nContent-Length: 2\r\n\r\n{}")


def test_a_queue_that_fails_after_the_delivery_was_accepted_does_not_make_the_caller_send_it_again(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = partner(answers(503))
    api.destination(bank.url())
    forget_services()
    monkeypatch.setenv("SQS_ENDPOINT_URL", partner(takes_one_and_fails).url(""))
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"]) == (202, "pending")  # the first message comes when the lease is over
    assert functions.delivery()["state"] == "pending"
    assert len(bank.requests) == 1


# The seal key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The file that `functions` were given."""
    return tmp_path / "seal-key"


SEALED = {"type": "bearer", "token": "hunter2"}


def test_a_key_file_that_others_may_read_is_not_used(functions: Functions, api: Api, key_file: Path) -> None:
    key_file.chmod(0o644)
    wanted = {"name": "bank", "base_url": "https://bank.example", "auth": SEALED}
    refused = api.post("/v1/destinations", wanted)
    assert (refused.status, refused.kind) == (500, "internal")
    assert "mode 0600" in functions.log.getvalue()
    assert functions.sql("SELECT destination_id FROM destination") == []
    assert api.post("/v1/destinations", wanted | {"auth": {"type": "none"}}).status == 201  # that needs no key

    key_file.chmod(0o600)
    assert api.post("/v1/destinations", wanted | {"name": "second"}).status == 201


def test_credentials_that_another_key_sealed_send_nothing(
    functions: Functions, api: Api, partner: StartPartner, key_file: Path
) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=SEALED)
    key_file.write_text("another key for tests, also long enough")
    forget_services()
    passed = api.call("GET", "/v1/via/partner/x")
    waited = api.create_delivery(WAIT)
    assert (passed.status, passed.kind) == (502, "partner-unreachable")
    assert (waited.status, waited.json["state"]) == (202, "pending")
    assert server.requests == []
    assert {row["outcome"] for row in functions.attempts()} == {"unreachable"}


def test_credentials_moved_to_another_row_do_not_open(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=SEALED)
    api.destination(server.url(), name="thief", auth={"type": "bearer", "token": "x"})
    functions.sql(
        "UPDATE destination SET sealed_credentials = "
        "(SELECT sealed_credentials FROM destination WHERE name = 'partner') WHERE name = 'thief'"
    )
    assert api.call("GET", "/v1/via/thief/x").kind == "partner-unreachable"
    assert server.requests == []


def test_a_key_that_cannot_be_read_sends_nothing_and_leaves_nothing_in_doubt(
    functions: Functions, api: Api, partner: StartPartner, key_file: Path
) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=SEALED)
    forget_services()
    key_file.chmod(0o644)
    assert api.call("POST", "/v1/via/partner/x", body=b"{}").kind == "partner-unreachable"
    accepted = api.create_delivery().json
    assert functions.work() == {"batchItemFailures": []}
    assert api.get(f"/v1/deliveries/{accepted['delivery_id']}").json["state"] == "pending"
    assert server.requests == []
    assert "mode 0600" in functions.log.getvalue()

    key_file.chmod(0o600)
    functions.work_early()
    assert api.get(f"/v1/deliveries/{accepted['delivery_id']}").json["state"] == "delivered"

"""/v1/deliveries: events in, rows and responses out."""

import gzip
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from tests.egress.servers import Line, Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions
from tests.support.partners import answers, answers_in_turn, hangs, takes_and_closes

type StartPartner = Callable[[Script], Partner]

WAIT = ("Prefer", "wait=5")


@contextmanager
def worker(functions: Functions) -> Iterator[None]:
    """The attempt function at work on the queue, as its event source has it."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.02):
            if functions.queue.messages:
                functions.work()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        try:
            yield
        finally:
            done.set()
            running.result()


def answers_after(seconds: float) -> Script:
    """Takes its time, and then answers."""

    def script(line: Line) -> None:
        line.read_request()
        time.sleep(seconds)
        line.send(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nslow")

    return script


def test_a_delivery_is_accepted_and_sent_later(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(201, b'{"id":7}', "Content-Type: application/json", "X-Partner: a", "X-Partner: b"))
    destination = api.destination(server.url("/v1"))
    accepted = api.create_delivery(query="a=1")

    assert accepted.status == 202
    body = accepted.json
    assert accepted.header("Location") == f"/dev/v1/deliveries/{body['delivery_id']}"
    assert accepted.header("Idempotency-Replayed") is None
    assert body == {
        "delivery_id": body["delivery_id"],
        "destination": "partner",
        "destination_id": destination["destination_id"],
        "state": "pending",
        "method": "POST",
        "path": "/orders",
        "query": "a=1",
        "headers": {"Content-Type": "application/json"},
        "metadata": {},
        "idempotency_key": body["delivery_id"],
        "attempts_made": 0,
        "attempts_allowed": 10,
        "next_attempt_at": body["created_at"],
        "waiting_for": None,
        "waits_until": None,
        "next_question_at": None,
        "ordering_key": None,
        "resolution": None,
        "resolved_by": None,
        "resolved_at": None,
        "note": None,
        "replay_of": None,
        "event": None,
        "event_id": None,
        "payload": "whole",
        "created_at": body["created_at"],
        "finished_at": None,
        "kept_until": None,
    }
    assert server.requests == []
    (wakeup,) = functions.queue.wakeups()
    assert str(wakeup.delivery_id) == body["delivery_id"]

    assert functions.work() == {"batchItemFailures": []}

    assert server.requests[0].startswith(b"POST /v1/orders?a=1 HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'\r\n\r\n{"amount": 1}')
    shown = api.get(f"/v1/deliveries/{body['delivery_id']}").json
    assert (shown["state"], shown["attempts_made"], shown["next_attempt_at"]) == ("delivered", 1, None)
    (attempt,) = shown["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["reason"]) == (1, "answered", None)
    assert attempt["remote_address"] == "127.0.0.1"
    assert shown["response"] == attempt["response"]
    assert shown["response"] == {
        "status": 201,
        "headers": {"Content-Length": "8", "Content-Type": "application/json", "X-Partner": ["a", "b"]},
        "body": '{"id":7}',
        "body_base64": None,
        "length_bytes": 8,
        "sha256": sha256(b'{"id":7}').hexdigest(),
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("fields", "sent", "content_type"),
    [
        ({"body": {"a": [1, None, "\u00e9"]}}, rb'{"a": [1, null, "\u00e9"]}', b"application/json"),
        ({"body": [1, 2]}, b"[1, 2]", b"application/json"),
        ({"body": [1], "headers": {"content-type": "application/vnd.bank+json"}}, b"[1]", b"application/vnd.bank+json"),
        ({"body": "grüße"}, "grüße".encode(), None),
        ({"body": ""}, b"", None),
        ({"body": None}, b"", None),
        ({"body": None, "body_base64": b64encode(bytes(range(256))).decode()}, bytes(range(256)), None),
    ],
)
def test_the_body_is_sent_as_it_was_meant(
    api: Api, partner: StartPartner, fields: dict[str, Any], sent: bytes, content_type: bytes | None
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    assert api.create_delivery(WAIT, **fields).status == 200
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    types = [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")]
    assert body == sent
    assert types == ([] if content_type is None else [content_type])


def test_a_byte_order_mark_is_ignored_and_other_encodings_than_utf_8_are_refused(
    api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    call = '{"destination": "partner", "path": "/orders", "body": {"city": "Z\u00fcrich"}}'
    sent = api.call("POST", "/v1/deliveries", body=call.encode("utf-8-sig"), headers=[WAIT])
    assert sent.status == 200
    assert server.requests[0].partition(b"\r\n\r\n")[2] == '{"city": "Z\u00fcrich"}'.encode()
    for encoding in ("utf-16", "utf-16-be", "utf-32", "latin-1"):
        assert api.call("POST", "/v1/deliveries", body=call.encode(encoding)).kind == "malformed-request"


def test_repeated_headers_go_out_in_their_order(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    api.post(
        "/v1/deliveries",
        {"destination": "partner", "headers": {"X-Tag": ["b", "a"], "X-Name": "M\u00fcller"}},
        headers=[WAIT],
    )
    lines = server.requests[0].split(b"\r\n")
    assert [line for line in lines if line.startswith(b"X-")] == [b"X-Tag: b", b"X-Tag: a", b"X-Name: M\xfcller"]


def test_metadata_is_returned_and_not_sent(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    metadata = {"order": "forty-two", "nested": {"emoji": "\U0001f600", "n": 1.5, "none": None}}
    accepted = api.create_delivery(WAIT, metadata=metadata)
    assert accepted.json["metadata"] == metadata
    assert api.get(f"/v1/deliveries/{accepted.json['delivery_id']}").json["metadata"] == metadata
    assert b"forty-two" not in server.requests[0]


# To wait


def test_who_waits_gets_the_partners_response(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(201, b"made")).url())
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.header("Preference-Applied")) == (200, "wait=5")
    assert answer.header("Location") == f"/dev/v1/deliveries/{answer.json['delivery_id']}"
    assert answer.json["state"] == "delivered"
    assert (answer.json["response"]["status"], answer.json["response"]["body"]) == (201, "made")
    assert functions.delivery()["state"] == "delivered"


def test_what_the_waiting_caller_got_is_what_is_shown_later(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(400, b"no")).url())
    answer = api.create_delivery(WAIT)
    shown = api.get(f"/v1/deliveries/{answer.json['delivery_id']}").json
    twice = {"finished_at": 0, "kept_until": 0}  # the clock was read twice
    assert (shown | twice) == (answer.json | twice)
    assert shown["state"] == "failed"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=99999", "wait=25"),
        ("WAIT = 5", "wait=5"),
        ('wait="5"', "wait=5"),
        ("respond-async, wait=5", "wait=5"),
        ("wait=5; strict, wait=7", "wait=5"),
    ],
)
def test_the_preference_is_read_as_rfc_7240_writes_it(
    api: Api, partner: StartPartner, prefer: str, applied: str
) -> None:
    api.destination(partner(answers(200)).url())
    assert api.create_delivery(("Prefer", prefer)).header("Preference-Applied") == applied


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=soon", "wait=1.5", "wait", "handling=strict", ""])
def test_a_preference_that_cannot_be_honoured_is_ignored(api: Api, partner: StartPartner, prefer: str) -> None:
    api.destination(partner(answers(200)).url())
    accepted = api.create_delivery(("Prefer", prefer))
    assert (accepted.status, accepted.header("Preference-Applied")) == (202, None)


def test_where_the_partner_may_take_longer_than_the_wait_the_worker_sends(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_after(0.2))
    api.destination(server.url(), timeouts={"total_seconds": 3})
    with worker(functions):
        answer = api.create_delivery(("Prefer", "wait=2"))
    assert (answer.status, answer.json["state"]) == (200, "delivered")
    assert (answer.json["response"]["status"], answer.json["response"]["body"]) == (201, "slow")
    assert len(server.requests) == 1


def test_when_the_time_is_up_the_caller_learns_where_to_look(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_after(1.4))
    api.destination(server.url(), timeouts={"total_seconds": 3})
    with worker(functions):
        answer = api.create_delivery(("Prefer", "wait=1"))
        assert (answer.status, answer.header("Preference-Applied")) == (202, "wait=1")
        assert answer.json["state"] in ("pending", "sending")
        assert answer.json["response"] is None
        while not server.requests:  # on a busy machine the worker may start late
            time.sleep(0.01)
    location = (answer.header("Location") or "").removeprefix("/dev")
    assert api.get(location).json["state"] == "delivered"
    assert len(server.requests) == 1


def test_a_waiting_caller_learns_that_a_retry_is_coming(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(503)).url())
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"]) == (202, "pending")
    assert answer.json["response"]["status"] == 503
    assert answer.json["next_attempt_at"] > answer.json["created_at"]
    assert len(functions.attempts()) == 1


def test_a_waiting_caller_gets_a_long_response_whole_and_the_database_its_beginning(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    long = bytes(range(256)) * 1024
    api.destination(partner(answers(200, long)).url())
    answer = api.create_delivery(WAIT).json
    assert b64decode(answer["response"]["body_base64"]) == long
    assert (answer["response"]["body"], answer["response"]["truncated"]) == (None, False)
    (kept,) = functions.attempts()
    assert kept["response_body"] == long[: 64 * 1024]
    assert (kept["response_truncated"], kept["response_length"]) == (True, len(long))
    assert kept["response_sha256"] == sha256(long).digest()


def test_a_compressed_response_is_stored_as_what_it_says(api: Api, partner: StartPartner) -> None:
    packed = gzip.compress(b'{"paid":true}')
    api.destination(partner(answers(200, packed, "Content-Encoding: gzip")).url())
    response = api.create_delivery(WAIT).json["response"]
    assert (response["body"], response["length_bytes"]) == ('{"paid":true}', 13)
    assert "Content-Encoding" not in response["headers"]


@pytest.mark.parametrize(
    ("body", "text", "in_base64"),
    [(b"caf\xc3\xa9", "caf\u00e9", None), (b"\xff\x00", None, "/wA="), (b"a\x00b", "a\u0000b", None), (b"", "", None)],
)
def test_a_response_is_shown_as_text_where_it_is_text(
    api: Api, partner: StartPartner, body: bytes, text: str | None, in_base64: str | None
) -> None:
    api.destination(partner(answers(200, body)).url())
    response = api.create_delivery(WAIT).json["response"]
    assert (response["body"], response["body_base64"]) == (text, in_base64)


def test_not_before_and_wait_exclude_each_other(refusing: Functions) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert refusing.api.create_delivery(WAIT, not_before=later).faults == ["/not_before"]


# not_before


def test_not_before_holds_the_first_attempt_back(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    later = datetime.now(UTC) + timedelta(minutes=10)
    accepted = api.create_delivery(not_before=later.isoformat()).json
    assert datetime.fromisoformat(accepted["next_attempt_at"]) == later
    assert functions.queue.delays() == [600]
    functions.work()
    assert server.requests == []
    assert [wakeup.due_at for wakeup in functions.queue.wakeups()] == [later]
    functions.work_early()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "moment",
    [
        "2020-01-01T00:00:00Z",
        "2099-01-01T00:00:00Z",
        "2026-03-01T12:00:00",
        "tomorrow",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        7,
    ],
)
def test_a_moment_that_cannot_be_is_refused(refusing: Functions, moment: object) -> None:
    assert refusing.api.create_delivery(not_before=moment).faults == ["/not_before"]


def test_a_caller_whose_clock_is_a_little_behind_is_not_refused(api: Api) -> None:
    api.destination("https://bank.example")
    assert api.create_delivery(not_before=(datetime.now(UTC) - timedelta(minutes=1)).isoformat()).status == 202


# Idempotency-Key


@pytest.mark.parametrize("status", [201, 422])
def test_a_repeat_with_the_same_key_gets_the_stored_result(api: Api, partner: StartPartner, status: int) -> None:
    server = partner(answers(status, b"result"))
    api.destination(server.url())
    headers = [WAIT, ("Idempotency-Key", "order-42")]
    first = api.create_delivery(*headers)
    again = api.create_delivery(*headers)

    assert len(server.requests) == 1
    assert b"\r\nIdempotency-Key: order-42\r\n" in server.requests[0]
    assert (first.header("Idempotency-Replayed"), again.header("Idempotency-Replayed")) == (None, "true")
    assert again.status == first.status == 200
    assert again.json["response"] == first.json["response"]
    assert again.json["delivery_id"] == first.json["delivery_id"]
    assert again.json["idempotency_key"] == "order-42"


def test_a_repeat_without_waiting_gets_the_same_delivery(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    first, again = (api.create_delivery(("Idempotency-Key", "order-42")) for _ in range(2))
    assert (first.status, again.status) == (202, 202)
    assert again.json == first.json
    assert (again.header("Location"), again.header("Idempotency-Replayed")) == (first.header("Location"), "true")
    functions.work()
    assert len(server.requests) == 1
    assert api.create_delivery(("Idempotency-Key", "order-42")).json["state"] == "delivered"


def test_the_key_may_be_quoted_as_the_ietf_draft_has_it(api: Api) -> None:
    api.destination("https://bank.example")
    bare, quoted = (api.create_delivery(("Idempotency-Key", key)) for key in ("order-42", '"order-42"'))
    assert quoted.json["delivery_id"] == bare.json["delivery_id"]


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/refunds"},
        {"query": "a=1"},
        {"method": "PUT"},
        {"body": {"amount": 2}},
        {"destination": "second"},
    ],
)
def test_a_key_with_another_request_is_refused(api: Api, other: dict[str, Any]) -> None:
    api.destination("https://bank.example")
    api.destination("https://bank.example", name="second")
    first = api.create_delivery(("Idempotency-Key", "order-42"))
    refused = api.create_delivery(("Idempotency-Key", "order-42"), **other)
    assert (refused.status, refused.kind) == (422, "key-reused")
    assert refused.json["delivery_id"] == first.json["delivery_id"]


def test_the_same_key_of_another_tenant_is_another_key(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    functions.other_api.destination("https://bank.example")
    first = api.create_delivery(("Idempotency-Key", "order-42"))
    other = functions.other_api.create_delivery(("Idempotency-Key", "order-42"), path="/other")
    assert (first.status, other.status) == (202, 202)


def test_a_waiting_repeat_of_a_request_without_a_result_is_asked_to_come_back(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_after(0.3))
    api.destination(server.url())
    key = ("Idempotency-Key", "order-42")
    delivery_id = api.create_delivery(key).json["delivery_id"]

    refused_while_pending = api.create_delivery(WAIT, key)
    with worker(functions):
        while not server.requests:
            time.sleep(0.01)
        refused_while_sending = api.create_delivery(WAIT, key)

    for refused in (refused_while_pending, refused_while_sending):
        assert (refused.status, refused.kind) == (409, "in-flight")
        assert int(refused.header("Retry-After") or 0) > 0
        assert refused.json["delivery_id"] == delivery_id
    assert len(server.requests) == 1
    assert api.create_delivery(WAIT, key).json["state"] == "delivered"


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, "\u00e9", "a\x00", "a\tb", "a\r\nX-Evil: 1"])
def test_a_malformed_key_is_refused(refusing: Functions, key: str) -> None:
    refused = refusing.api.create_delivery(("Idempotency-Key", key))
    assert (refused.status, refused.kind) == (400, "malformed-request")


def test_two_keys_are_no_key(refusing: Functions) -> None:
    refused = refusing.api.create_delivery(("Idempotency-Key", "a"), ("Idempotency-Key", "b"))
    assert (refused.status, refused.kind) == (400, "malformed-request")


# One delivery


@pytest.mark.parametrize("delivery_id", [NOBODYS_ID, "42", "%00", "x" * 400])
def test_a_delivery_that_does_not_exist_is_not_found(refusing: Functions, delivery_id: str) -> None:
    assert refusing.api.get(f"/v1/deliveries/{delivery_id}").kind == "not-found"


def test_another_tenants_delivery_is_not_found(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    delivery_id = api.create_delivery().json["delivery_id"]
    other = functions.other_api
    assert other.get(f"/v1/deliveries/{delivery_id}").kind == "not-found"
    assert other.get("/v1/deliveries").json["deliveries"] == []
    assert other.get(f"/v1/deliveries?cursor={cursor(delivery_id)}").json["deliveries"] == []


def test_who_asks_for_a_delivery_may_wait_for_its_end(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers_after(0.3)).url())
    delivery_id = api.create_delivery().json["delivery_id"]
    with worker(functions):
        shown = api.get(f"/v1/deliveries/{delivery_id}?wait=25")
    assert (shown.status, shown.json["state"], shown.json["response"]["status"]) == (200, "delivered", 201)


@pytest.mark.parametrize("wait", ["", "26", "-1", "1.5", "0x1", "%2B1", "999999999", "1&wait=2", "\u0661"])
def test_a_wait_that_cannot_be_is_refused(refusing: Functions, wait: str) -> None:
    refused = refusing.api.get(f"/v1/deliveries/{NOBODYS_ID}?wait={wait}")
    assert (refused.status, refused.faults) == (422, ["wait"])


def test_every_attempt_is_shown_the_first_one_first(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers_in_turn(503, 200)).url())
    delivery_id = api.create_delivery().json["delivery_id"]
    functions.work()
    functions.work_early()
    shown = api.get(f"/v1/deliveries/{delivery_id}").json
    assert [(attempt["number"], attempt["response"]["status"]) for attempt in shown["attempts"]] == [(1, 503), (2, 200)]
    assert (shown["state"], shown["response"]["status"]) == ("delivered", 200)


@pytest.mark.parametrize(("script", "state"), [(takes_and_closes, "unknown"), (hangs, "unknown")])
def test_an_attempt_without_an_answer_says_why(api: Api, partner: StartPartner, script: Script, state: str) -> None:
    api.destination(partner(script).url(), timeouts={"total_seconds": 0.3})
    answer = api.create_delivery(WAIT)
    assert (answer.status, answer.json["state"], answer.json["response"]) == (200, state, None)
    (attempt,) = answer.json["attempts"]
    assert (attempt["outcome"], attempt["response"]) == ("unknown", None)
    assert attempt["reason"]


# The list


def cursor(delivery_id: str) -> str:
    return urlsafe_b64encode(UUID(delivery_id).bytes).rstrip(b"=").decode()


def ids(api: Api, query: str = "") -> list[str]:
    return [delivery["delivery_id"] for delivery in api.get(f"/v1/deliveries?{query}").json["deliveries"]]


def test_the_list_is_newest_first_and_stable_while_new_ones_come_in(api: Api) -> None:
    api.destination("https://bank.example")
    made = [api.create_delivery().json["delivery_id"] for _ in range(5)]
    first = api.get("/v1/deliveries?limit=2").json
    api.create_delivery()
    second = api.get(f"/v1/deliveries?limit=2&cursor={first['next_cursor']}").json
    last = api.get(f"/v1/deliveries?limit=2&cursor={second['next_cursor']}").json
    pages = [[delivery["delivery_id"] for delivery in page["deliveries"]] for page in (first, second, last)]
    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]
    assert last["next_cursor"] is None


def test_the_list_is_narrowed_by_state_and_destination(functions: Functions, api: Api, partner: StartPartner) -> None:
    one = api.destination(partner(answers(200)).url(), name="one")
    api.destination(partner(answers(400)).url(), name="two")
    delivered = api.create_delivery(destination="one").json["delivery_id"]
    failed = api.create_delivery(destination="two").json["delivery_id"]
    functions.work()
    waiting = api.create_delivery(destination="one").json["delivery_id"]

    assert ids(api, "state=delivered") == [delivered]
    assert ids(api, "state=failed") == [failed]
    assert ids(api, "destination=one") == [waiting, delivered]
    assert ids(api, f"destination={one['destination_id']}&state=pending") == [waiting]
    assert ids(api, "state=canceled") == []


def test_the_list_is_narrowed_by_what_few_have(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url(), name="one")
    api.destination(partner(answers(404)).url(), name="two")
    api.destination(partner(takes_and_closes).url(), name="three")
    metadata = {"order": "4711", "a b]": 7, "open": True}
    made = {
        name: api.create_delivery(
            ("Idempotency-Key", f"key of {name}".replace(" ", "-")),
            destination=name,
            metadata=metadata | {"only": name},
            ordering_key=f"key of {name}",
        ).json["delivery_id"]
        for name in ("one", "two", "three")
    }
    functions.work()
    for query, found in {
        "metadata[order]=4711": ["three", "two", "one"],
        "metadata%5Border%5D=4711&metadata[only]=two": ["two"],
        "metadata[a%20b]]=7&metadata[open]=true": ["three", "two", "one"],
        "metadata[order]=4712": [],
        "metadata[]=4711": [],
        "idempotency_key=key-of-one": ["one"],
        "idempotency_key=key-of-one&destination=two": [],
        "ordering_key=key+of+two": ["two"],
        "outcome=unknown": ["three"],
        "outcome=answered": ["two", "one"],
        "status=4xx": ["two"],
        "status=2xx": ["one"],
        "may_have_happened=true": ["three"],
        "may_have_happened=false&limit=1": ["three"],
        "may_have_happened=true&state=failed": [],
    }.items():
        assert ids(api, query) == [made[name] for name in found], query
    assert ids(functions.other_api, "metadata[order]=4711") == []


def test_the_list_is_narrowed_by_time(api: Api) -> None:
    api.destination("https://bank.example")
    api.create_delivery()
    time.sleep(0.005)
    second = api.create_delivery().json
    time.sleep(0.005)
    api.create_delivery()
    at = datetime.fromisoformat(second["created_at"])
    later = at + timedelta(milliseconds=1)
    window = f"since={quote(at.isoformat())}&until={quote(later.isoformat())}"
    assert ids(api, window) == [second["delivery_id"]]
    assert ids(api, window.replace("%2B", "+")) == [second["delivery_id"]]  # a '+' that was not encoded


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=done", "state"),
        ("state=", "state"),
        ("state=pending&state=failed", "state"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("until=2026-13-01T00:00:00Z", "until"),
        ("limit=1000", "limit"),
        ("outcome=lost", "outcome"),
        ("status=500", "status"),
        ("status=0xx", "status"),
        ("may_have_happened=1", "may_have_happened"),
        ("idempotency_key=", "idempotency_key"),
        (f"idempotency_key={'k' * 256}", "idempotency_key"),
        ("ordering_key=%00", "ordering_key"),
        (f"ordering_key={'k' * 201}", "ordering_key"),
        ("&".join(f"metadata[{number}]=1" for number in range(11)), "metadata"),
        ("metadata[a]=1&metadata[a]=2", "metadata"),
        ("metadata[a]=%00", "metadata"),
        ("metadata[%00]=1", "metadata"),
        ("metadata=1", "query"),
        ("metadata.order=1", "query"),
        ("cursor=AAAA", "cursor"),
        ("stat=failed", "query"),
    ],
)
def test_a_list_never_guesses_what_a_parameter_meant(refusing: Functions, query: str, field: str) -> None:
    refused = refusing.api.get(f"/v1/deliveries?{query}")
    assert (refused.status, refused.faults) == (422, [field])


@pytest.mark.parametrize("reference", ["nobody", "%00", "b%C3%A4nk", "", "a%20b"])
def test_a_list_for_a_destination_that_does_not_exist_is_not_found(refusing: Functions, reference: str) -> None:
    assert refusing.api.get(f"/v1/deliveries?destination={reference}").kind == "not-found"


def test_unknown_parameters_are_counted_and_the_known_ones_listed(refusing: Functions) -> None:
    (fault,) = refusing.api.get("/v1/deliveries?foo=1&bar=2&state=pending").json["faults"]
    known = (
        "state, destination, since, until, idempotency_key, ordering_key, metadata[...], outcome, status, "
        "may_have_happened, limit, cursor"
    )
    assert fault == {"field": "query", "detail": f"2 unknown; known are {known}"}


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_any_moment_is_a_bound(refusing: Functions, moment: str) -> None:
    assert ids(refusing.api, f"since={moment}&until={moment}") == []


def test_a_json_body_is_sent_as_it_was_written(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    body = b'{"amount": 1.50, "exact": 0.12345678901234567890, "e": "\\u00e9"}'
    sent = b'{"destination": "partner", "path": "/orders", "body": ' + body + b"}"
    assert api.call("POST", "/v1/deliveries", body=sent, headers=[("Prefer", "wait=5")]).status == 200
    assert server.requests[0].endswith(b"\r\n\r\n" + body)


def test_the_trace_of_a_call_is_stored_and_goes_out_with_every_attempt(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(503, 200))
    api.destination(server.url())
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    made = api.create_delivery(("traceparent", trace), ("tracestate", "vendor=1")).json
    assert (made["headers"]["traceparent"], made["headers"]["tracestate"]) == (trace, "vendor=1")
    functions.work()
    functions.work_early()
    assert [f"traceparent: {trace}\r\n".encode() in request for request in server.requests] == [True, True]

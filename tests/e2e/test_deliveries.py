"""HTTP in, the partner called, and what became of it known: the promises of the API through the whole stack."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.partner import Call
from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually

type Calls = Callable[[], list[Call]]


def test_a_delivery_is_accepted_made_and_recorded(consumer: Consumer, key: str, calls: Calls) -> None:
    accepted = consumer.deliver(path="/orders", body={"amount": 10}, headers={"Idempotency-Key": key})
    assert accepted.status == 202, accepted.body
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "delivered"
    (attempt,) = done["attempts"]
    assert (attempt["outcome"], attempt["response"]["status"]) == ("answered", 201)
    assert (attempt["remote_address"], attempt["egress_address"]) == ("127.0.0.1", "127.0.0.1")
    (call,) = calls()
    assert (call.method, call.path, call.body) == ("POST", "/orders", b'{"amount": 10}')


def test_a_partner_that_fails_is_tried_again_through_the_queue(consumer: Consumer, key: str, calls: Calls) -> None:
    accepted = consumer.deliver(path="/flaky", query="failures=1", headers={"Idempotency-Key": key})
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "delivered"
    assert [attempt["response"]["status"] for attempt in done["attempts"]] == [503, 200]
    assert len(calls()) == 2
    assert {call.idempotency_key for call in calls()} == {key}


def test_a_refusal_by_the_partner_is_final(consumer: Consumer, key: str, calls: Calls) -> None:
    accepted = consumer.deliver(path="/status/422", headers={"Idempotency-Key": key})
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "failed"
    assert len(calls()) == 1


def test_the_same_key_gives_the_same_delivery(consumer: Consumer, key: str, calls: Calls) -> None:
    headers = {"Idempotency-Key": key}
    first = consumer.deliver(path="/orders", body="once", headers=headers)
    consumer.finished(first.json["delivery_id"])
    second = consumer.deliver(path="/orders", body="once", headers=headers)
    assert second.json["delivery_id"] == first.json["delivery_id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len(calls()) == 1


def test_the_same_key_with_another_request_is_refused(consumer: Consumer, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert consumer.deliver(path="/orders", body="one", headers=headers).status == 202
    assert consumer.deliver(path="/orders", body="two", headers=headers).status == 422


def test_one_key_from_many_callers_at_once_is_one_request_to_the_partner(
    consumer: Consumer, key: str, calls: Calls
) -> None:
    def send(_: int) -> int:
        return consumer.deliver(
            path="/orders", body="race", headers={"Idempotency-Key": key, "Prefer": "wait=5"}
        ).status

    with ThreadPoolExecutor(6) as threads:
        statuses = list(threads.map(send, range(6)))
    assert 200 in statuses
    assert set(statuses) <= {200, 202, 409}
    assert len(calls()) == 1


def test_prefer_wait_brings_the_partners_answer(consumer: Consumer) -> None:
    answer = consumer.deliver(path="/orders", body={"amount": 1}, headers={"Prefer": "wait=10"})
    assert answer.status == 200, answer.body
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.json["state"] == "delivered"
    assert answer.json["response"]["status"] == 201


def test_a_wait_that_is_too_short_continues_in_the_background(consumer: Consumer) -> None:
    answer = consumer.deliver(path="/slow", query="seconds=2", headers={"Prefer": "wait=1"})
    assert answer.status == 202, answer.body
    assert consumer.finished(answer.json["delivery_id"])["finished_at"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_pass_through_call_brings_the_partners_own_answer(
    consumer: Consumer, key: str, calls: Calls, method: str
) -> None:
    body = None if method in ("GET", "DELETE") else b"\x00\xffbytes"
    headers = {"Idempotency-Key": key, "X-Own": "kept"}
    answer = consumer.call(method, "/v1/via/partner/orders/a%2Fb?x=1&x=2", body=body, headers=headers)
    assert answer.status == 201, answer.body
    assert answer.json["received"]["method"] == method
    (call,) = calls()
    assert call.target == "/orders/a%2Fb?x=1&x=2"
    assert call.body == (body or b"")
    assert call.headers["x-own"] == "kept"
    assert "authorization" not in call.headers
    recorded = consumer.delivery(answer.headers["sallyport-delivery-id"])
    assert recorded["state"] == "delivered"


def test_a_pass_through_call_brings_the_partners_error_unchanged(consumer: Consumer) -> None:
    answer = consumer.call("POST", "/v1/via/partner/status/418", body=b"tea")
    assert (answer.status, answer.json) == (418, {"status": 418})
    assert consumer.delivery(answer.headers["sallyport-delivery-id"])["state"] == "failed"


def test_an_answer_that_never_comes_is_unknown_and_not_repeated(consumer: Consumer, key: str, calls: Calls) -> None:
    accepted = consumer.deliver(path="/hang-up", headers={"Idempotency-Key": key})
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "unknown"
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["unknown"]
    assert len(calls()) == 1


def test_no_token_and_a_wrong_token_are_refused_before_the_function(consumer: Consumer) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer spt_wrong"}, {"Authorization": "Basic x"}):
        answer = consumer.call("GET", "/v1/egress", headers=headers)
        assert answer.status == 401, headers
        assert answer.headers["content-type"] == "application/problem+json"


def test_what_needs_no_token_needs_no_token(consumer: Consumer) -> None:
    for path in ("/healthz", "/openapi.json", "/docs"):
        assert consumer.call("GET", path, headers={"Authorization": ""}).status == 200, path


def test_the_published_addresses_are_the_configured_ones(consumer: Consumer) -> None:
    answer = consumer.call("GET", "/v1/egress")
    assert {entry["address"] for entry in answer.json["addresses"]} == {"127.0.0.1"}  # one for each of two zones


def test_a_body_over_the_limit_is_refused_and_nothing_is_sent(consumer: Consumer, key: str, calls: Calls) -> None:
    for size in (5, 11):
        answer = consumer.call(
            "POST", "/v1/via/partner/orders", body=b"x" * (size * 1024 * 1024), headers={"Idempotency-Key": key}
        )
        assert answer.status == 413
        assert answer.headers["content-type"] == "application/problem+json"
    assert calls() == []


def test_a_poison_message_ends_in_the_dead_letter_queue_and_nothing_else_does(stack: Stack, consumer: Consumer) -> None:
    stack.queues["WakeupQueue"].send("not a wake-up", group="g")
    failed = consumer.deliver(path="/status/400")
    assert consumer.finished(failed.json["delivery_id"])["state"] == "failed"
    dead = stack.queues["DeadLetterQueue"]
    eventually(lambda: dead.count() >= 1)
    messages = dead.receive(10, wait_seconds=1)
    assert [message["Body"] for message in messages] == ["not a wake-up"]
    dead.delete(messages)

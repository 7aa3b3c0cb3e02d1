"""A bank makes the payment and loses the reply: the whole stack pays once, and says what it does not know."""

from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.conftest import Consumer


def paid(stack: Stack, key: str) -> int:
    """How many payments the bank made with this key."""
    return len(stack.partner.bank.ledger.page(limit=10, key=key))


def deliver(consumer: Consumer, stack: Stack, key: str, *, path: str, guarantee: str) -> Any:
    """The delivery of one POST to `path`, once nothing more happens to it."""
    name = f"{guarantee.replace('_', '-')}-{key[-12:]}"
    body = {"name": name, "base_url": stack.partner.url, "guarantee": guarantee}
    assert consumer.call("POST", "/v1/destinations", body=body).status == 201
    delivery = {"destination": name, "path": path, "method": "POST", "body": {"amount": 10}}
    accepted = consumer.call("POST", "/v1/deliveries", body=delivery, headers={"Idempotency-Key": key})
    assert accepted.status == 202
    return consumer.finished(accepted.json["delivery_id"])


@pytest.mark.parametrize("step", ["lose", "cut", "reset", "short"])
def test_a_payment_whose_reply_was_lost_is_held_and_was_made_once(
    consumer: Consumer, stack: Stack, key: str, step: str
) -> None:
    delivery = deliver(consumer, stack, key, path=f"/{step}/payments", guarantee="at_most_once")
    assert (delivery["state"], len(delivery["attempts"])) == ("unknown", 1)
    assert paid(stack, key) == 1


def test_a_payment_that_may_be_repeated_gets_the_banks_first_answer(consumer: Consumer, stack: Stack, key: str) -> None:
    stack.partner.bank.rules.put(f"/{key}", ("/lose/payments", "/payments"))
    delivery = deliver(consumer, stack, key, path=f"/{key}", guarantee="at_least_once")
    assert (delivery["state"], len(delivery["attempts"])) == ("delivered", 2)
    assert delivery["attempts"][-1]["response"]["status"] == 201
    assert paid(stack, key) == 1


def test_at_a_careless_bank_only_at_most_once_pays_once(consumer: Consumer, stack: Stack, key: str) -> None:
    deliver(consumer, stack, f"{key}-1", path="/careless/lose/payments", guarantee="at_most_once")
    assert paid(stack, f"{key}-1") == 1
    stack.partner.bank.rules.put(f"/{key}-2", ("/careless/lose/payments", "/careless/payments"))
    deliver(consumer, stack, f"{key}-2", path=f"/{key}-2", guarantee="at_least_once")
    assert paid(stack, f"{key}-2") == 2


@pytest.mark.parametrize("step", ["long", "twice"])
def test_what_a_bank_says_beyond_its_reply_is_never_the_answer_to_another_request(
    consumer: Consumer, stack: Stack, key: str, step: str
) -> None:
    """Bytes that are left on a connection read like a reply to the next request on it."""
    name = f"{step}-{key[-12:]}"
    made = consumer.call("POST", "/v1/destinations", body={"name": name, "base_url": stack.partner.url})
    assert made.status == 201
    for number in range(5):
        beyond = consumer.call("POST", f"/v1/via/{name}/{step}/orders", body=f"{key}-{number}".encode())
        after = consumer.call("POST", f"/v1/via/{name}/orders", body=f"{key}-{number}-after".encode())
        assert beyond.json["received"]["body"] == f"{key}-{number}"
        assert after.json["received"]["body"] == f"{key}-{number}-after"

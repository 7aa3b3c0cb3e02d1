"""What holds deliveries back: limits, breakers, windows and order."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from domain.ordering import AfterFailure
from local.stack import Stack
from tests.e2e.conftest import Answer, Consumer, Holding, eventually
from tests.e2e.features.helpers import (
    WAIT,
    arrived_at,
    change,
    created,
    held,
    kind_of,
    waiting_for,
    would_wait,
)

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]  # as datetime.weekday() counts


def test_a_rate_and_its_burst_hold_what_is_too_much(stack: Stack, user: Consumer) -> None:
    name = created(user, stack, "features-rate", limits={"rate": 0.001, "burst": 2})
    first = [user.deliver(destination=name, path=f"/orders/{name}/{number}", headers=WAIT) for number in (1, 2)]
    assert [answer.json["state"] for answer in first] == ["delivered", "delivered"]
    third = waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/3"), "rate_limit")
    would_wait(user, name, "rate_limit")
    assert arrived_at(stack.partner, name) == ["1", "2"]
    assert change(user, name, {"limits": {"rate": 1000, "burst": 1000}}).status == 200
    assert user.finished(third)["state"] == "delivered"
    # The rate before has used up the burst: the first call may come a thousandth of a second too early.
    assert eventually(lambda: user.call("POST", f"/v1/via/{name}/orders/{name}/4").status == 201)
    assert "4" in arrived_at(stack.partner, name)


def test_only_as_many_at_once_as_are_allowed(user: Consumer, stack: Stack, other: Holding, key: str) -> None:
    """The slot of the call that is held is its own for as long as a lease, which is short here: so it is held again
    where the machine was too slow to ask in that time.
    """
    base_url = f"http://127.0.0.2:{other.port}"
    name = created(user, stack, "features-concurrency", base_url=base_url, limits={"concurrency": 1})

    def told() -> tuple[Answer, Any] | None:
        with held(user, other, "POST", key=f"{key}-{uuid4()}", name=name):
            passing = user.call("POST", f"/v1/via/{name}/orders")
            made = user.deliver(destination=name, path=f"/orders/{name}/{uuid4()}")
            shown = user.delivery(made.json["delivery_id"])
        return (passing, shown) if passing.status == 429 and shown["waiting_for"] == "concurrency" else None

    refused, waiting = eventually(told)
    assert (kind_of(refused), refused.json["waiting_for"]) == ("would-wait", "concurrency")
    assert (waiting["state"], waiting["attempts"], waiting["waits_until"]) == ("pending", [], None)
    assert user.finished(waiting["delivery_id"])["state"] == "delivered"
    assert arrived_at(other, name).count(waiting["path"].rpartition("/")[2]) == 1


def test_a_circuit_breaker_sends_nothing_more_to_a_partner_that_fails(stack: Stack, user: Consumer) -> None:
    breaker = {
        "enabled": True,
        "failure_ratio": 0.5,
        "window_seconds": 3600,
        "minimum_attempts": 2,
        "open_seconds": 3600,
    }
    name = created(user, stack, "features-breaker", circuit_breaker=breaker)
    for _ in range(2):
        assert user.call("GET", f"/v1/via/{name}/status/503").status == 503
    held_back = waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/1"), "circuit_breaker")
    would_wait(user, name, "circuit_breaker")
    assert arrived_at(stack.partner, name) == []
    assert user.delivery(held_back)["waits_until"] is not None


def test_outside_of_its_windows_nothing_is_sent(stack: Stack, user: Consumer) -> None:
    """All days but three around today, so that the test is outside wherever midnight falls."""
    today = datetime.now(UTC).weekday()
    days = [day for number, day in enumerate(DAYS) if (number - today) % 7 in (2, 3, 4, 5)]
    closed = {"days": days, "from": "00:00", "to": "24:00", "time_zone": "Etc/UTC"}
    name = created(user, stack, "features-windows", windows=[closed])
    held_back = waiting_for(user, user.deliver(destination=name, path=f"/orders/{name}/1"), "sending_window")
    would_wait(user, name, "sending_window")
    assert arrived_at(stack.partner, name) == []
    opens = datetime.fromisoformat(user.delivery(held_back)["waits_until"])
    assert DAYS[opens.weekday()] == DAYS[(today + 2) % 7]
    always = created(user, stack, "features-always", windows=[closed | {"days": DAYS}])
    assert user.deliver(destination=always, path="/orders", headers=WAIT).json["state"] == "delivered"


@pytest.mark.parametrize("after_failure", AfterFailure)
def test_what_is_behind_a_failure_in_order_is_held_or_sent(
    stack: Stack, user: Consumer, after_failure: AfterFailure
) -> None:
    name = created(user, stack, f"features-order-{after_failure}", ordering={"after_failure": after_failure})
    ordered: dict[str, Any] = {"destination": name, "ordering_key": "account-17"}
    failed = user.deliver(**ordered, path="/status/422")
    assert user.finished(failed.json["delivery_id"])["state"] == "failed"
    behind = user.deliver(**ordered, path=f"/orders/{name}/2")
    if after_failure is AfterFailure.SKIP:
        assert user.finished(behind.json["delivery_id"])["state"] == "delivered"
    else:
        waiting_for(user, behind, "ordering")
    elsewhere = user.deliver(**ordered | {"ordering_key": "account-18"}, path=f"/orders/{name}/3")
    assert user.finished(elsewhere.json["delivery_id"])["state"] == "delivered"
    assert arrived_at(stack.partner, name) == (["2", "3"] if after_failure is AfterFailure.SKIP else ["3"])


def test_a_guarantee_decides_what_follows_an_unknown_outcome(stack: Stack, user: Consumer) -> None:
    """Held, held and tried again: what is tried again waits for its next attempt."""
    for name, guarantee, state in (
        ("auto", "auto", "unknown"),
        ("most", "at_most_once", "unknown"),
        ("least", "at_least_once", "pending"),
    ):
        body = {"name": f"guarantee-{name}", "base_url": stack.partner.url, "guarantee": guarantee}
        assert user.call("POST", "/v1/destinations", body=body).status == 201
        answer = user.deliver(destination=body["name"], path="/hang-up", headers={"Prefer": "wait=20"})
        assert (answer.status, answer.json["state"]) == (202 if state == "pending" else 200, state), answer.body
        assert answer.json["attempts"][0]["outcome"] == "unknown"

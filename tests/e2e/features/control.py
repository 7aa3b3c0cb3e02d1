"""What people do with single deliveries: resolve, cancel, retry, reschedule; and how they are found."""

from collections.abc import Mapping
from typing import Any

from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.e2e.features.helpers import after_an_hour, created, ended, ids, kind_of


def control(user: Consumer, delivery_id: str, act: str, body: Mapping[str, Any] | None = None) -> str:
    """The state that the delivery is in afterwards, or the kind of the problem."""
    path = f"/v1/deliveries/{delivery_id}"
    answer = user.call("PATCH", path, body=body) if act == "" else user.call("POST", f"{path}/{act}", body=body)
    return str(answer.json["state"]) if answer.status == 200 else kind_of(answer)


def test_an_unknown_delivery_is_resolved_in_each_way(stack: Stack, user: Consumer) -> None:
    name = created(user, stack, "features-resolve", guarantee="at_most_once")
    for resolution, state in (("delivered", "delivered"), ("failed", "failed")):
        delivery_id = ended(user, name, "/hang-up")
        assert control(user, delivery_id, "resolve", {"as": resolution, "note": "they said so"}) == state
        shown = user.delivery(delivery_id)
        assert (shown["resolution"], shown["note"]) == (resolution, "they said so")
        assert shown["resolved_by"].startswith("token:")
    again = ended(user, name, "/hang-up")
    assert control(user, again, "resolve", {"as": "again"}) == "pending"
    assert len(user.finished(again)["attempts"]) == 2
    assert user.call("GET", f"/v1/deliveries/{again}?wait=1").json["state"] == "unknown"
    assert control(user, ended(user, name, "/orders"), "resolve", {"as": "failed"}) == "wrong-state"


def test_a_delivery_is_canceled_retried_and_rescheduled(stack: Stack, user: Consumer) -> None:
    name = created(user, stack, "features-control")
    waits = user.deliver(destination=name, path="/orders", not_before=after_an_hour()).json["delivery_id"]
    assert control(user, waits, "", {"not_before": after_an_hour()}) == "pending"
    assert control(user, waits, "cancel") == "canceled"
    assert ids(user, f"?state=canceled&destination={name}") == [waits]
    for act, body in (("retry", None), ("", {"not_before": after_an_hour()})):
        assert control(user, waits, act, body) == "wrong-state"
    now = user.deliver(destination=name, path="/orders", not_before=after_an_hour()).json["delivery_id"]
    assert control(user, now, "", {"not_before": None}) == "pending"
    assert user.finished(now)["state"] == "delivered"
    assert control(user, now, "cancel") == "wrong-state"
    failed = ended(user, name, "/status/422")
    assert control(user, failed, "retry") == "pending"
    assert len(user.finished(failed)["attempts"]) == 2
    assert user.call("DELETE", f"/v1/destinations/{name}").status == 200
    assert control(user, failed, "retry") == "destination-deleted"


def test_deliveries_are_found_by_what_they_carry_and_how_they_went(stack: Stack, user: Consumer, key: str) -> None:
    name = created(user, stack, "features-filters", guarantee="at_most_once")
    carried: dict[str, Any] = {
        "ordering_key": key,
        "metadata": {"order": key},
        "headers": {"Idempotency-Key": key, "Prefer": "wait=20"},
    }
    answered = user.deliver(destination=name, path="/status/422", **carried).json["delivery_id"]
    unknown = ended(user, name, "/hang-up")
    for query in (f"idempotency_key={key}", f"ordering_key={key}", f"metadata[order]={key}"):
        assert ids(user, f"?{query}") == [answered], query
    outcomes = {"answered": [answered], "unknown": [unknown], "unreachable": [], "refused": []}
    for outcome, found in outcomes.items():
        assert ids(user, f"?destination={name}&outcome={outcome}") == found
    for digit in range(1, 10):
        assert ids(user, f"?destination={name}&status={digit}xx") == ([answered] if digit == 4 else [])
    assert ids(user, f"?destination={name}&may_have_happened=true") == [unknown]
    assert ids(user, f"?destination={name}&may_have_happened=false") == [unknown, answered]

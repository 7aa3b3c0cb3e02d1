"""Deliveries: what is sent, shown and listed, and idempotency keys."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stack import Stack
from tests.e2e.conftest import Consumer, Holding
from tests.e2e.features.helpers import (
    held,
    ids,
    kind_of,
)


def test_every_field_of_a_delivery_arrives_or_comes_back(stack: Stack, user: Consumer, key: str) -> None:
    sent: list[tuple[dict[str, Any], bytes]] = [
        ({"body": "text"}, b"text"),
        ({"body": {"a": 1}}, b'{"a": 1}'),
        ({"body": [1]}, b"[1]"),
    ]
    sent.append(({"body_base64": base64.b64encode(b"\xff\x00").decode()}, b"\xff\x00"))
    for number, (content, arrives) in enumerate(sent):
        answer = user.deliver(
            method="PUT",
            path="/orders/1",
            query="a=1",
            headers={"Idempotency-Key": f"{key}-{number}", "Prefer": "wait=20"},
            metadata={"order": number},
            **content,
        )
        assert (answer.status, answer.json["metadata"]) == (200, {"order": number}), answer.body
        assert answer.headers["preference-applied"] == "wait=20"
        (call,) = [call for call in list(stack.partner.calls) if call.idempotency_key == f"{key}-{number}"]
        assert (call.method, call.target, call.body) == ("PUT", "/orders/1?a=1", arrives)
    body = {"destination": "partner", "path": "/orders", "headers": {"X-Own": "kept", "X-Two": ["1", "2"]}}
    answer = user.call("POST", "/v1/deliveries", body=body, headers={"Prefer": "wait=20"})
    assert (answer.status, answer.json["headers"]) == (200, body["headers"])


def test_each_state_is_seen_and_found_by_the_list(user: Consumer, other: Holding, key: str) -> None:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = {
        "pending": user.deliver(path="/orders", not_before=later),
        "delivered": user.deliver(path="/orders", headers={"Prefer": "wait=20"}),
        "failed": user.deliver(path="/status/422", headers={"Prefer": "wait=20"}),
        "unknown": user.deliver(path="/hang-up", headers={"Prefer": "wait=20"}),
    }
    for state, answer in made.items():
        assert answer.json["state"] == state, answer.body
        assert user.delivery(answer.json["delivery_id"])["state"] == state
        assert answer.json["delivery_id"] in ids(user, f"?state={state}")
    with held(user, other, "POST", key=key) as running:
        (sending,) = ids(user, "?state=sending&destination=other")
        assert user.delivery(sending)["state"] == "sending"
    assert running.result().body == b"held\n"


def test_lists_are_paged_and_filtered(user: Consumer) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    moments = {"since": before.isoformat(), "until": (before + timedelta(hours=1)).isoformat()}
    query = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in moments.items())
    created = [user.deliver(path="/orders").json["delivery_id"] for _ in range(3)]
    assert ids(user, f"?{query}&destination=partner&limit=3") == created[::-1]
    assert ids(user, f"?until={moments['since'].replace('+', '%2B')}&destination=nobody") == []
    for noun in ("deliveries", "destinations"):
        first = user.call("GET", f"/v1/{noun}?limit=1").json
        second = user.call("GET", f"/v1/{noun}?limit=1&cursor={first['next_cursor']}").json
        assert len(first[noun]) == len(second[noun]) == 1
        assert first[noun] != second[noun]


def test_attempts_are_shown_after_a_cursor(user: Consumer) -> None:
    """Only a delivery with large attempts has a next_cursor: the number of the last one that was shown."""
    made = user.deliver(path="/orders", headers={"Prefer": "wait=20"}).json
    assert [attempt["number"] for attempt in made["attempts"]] == [1]
    after = user.call("GET", f"/v1/deliveries/{made['delivery_id']}?cursor=1")
    assert (after.status, after.json["attempts"]) == (200, [])
    wrong = user.call("GET", f"/v1/deliveries/{made['delivery_id']}?cursor=first")
    assert (wrong.status, kind_of(wrong)) == (422, "invalid-request")


def test_a_key_is_replayed_refused_or_in_flight(user: Consumer, other: Holding, key: str) -> None:
    first = user.deliver(path="/orders", headers={"Idempotency-Key": key, "Prefer": "wait=20"})
    for preference in ({}, {"Prefer": "wait=20"}):
        again = user.deliver(path="/orders", headers={"Idempotency-Key": key, **preference})
        assert (again.status, again.headers["idempotency-replayed"]) == (200 if preference else 202, "true")
        assert again.json["delivery_id"] == first.json["delivery_id"]
    reused = user.deliver(path="/orders/2", headers={"Idempotency-Key": key})
    assert (reused.status, kind_of(reused)) == (422, "key-reused")
    waiting = {"Idempotency-Key": f"{key}-waits", "Prefer": "wait=1"}
    other.released.clear()
    try:
        assert user.deliver(destination="other", path="/hold", headers=waiting).status == 202
        in_flight = user.deliver(destination="other", path="/hold", headers=waiting)
        assert (in_flight.status, kind_of(in_flight)) == (409, "in-flight")
        assert int(in_flight.headers["retry-after"]) > 0
    finally:
        other.released.set()

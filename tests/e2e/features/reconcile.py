"""Unknown deliveries about which the partner is asked."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Answer, Consumer, Holding, eventually
from tests.e2e.features.helpers import WAIT, change, created, kind_of

OF_THE_KEY = {"pointer": "/key", "values": ["{idempotency_key}"]}
ASKED: dict[str, dict[str, Any]] = {
    "received": {
        "path": "/payments/{idempotency_key}",
        "method": "GET",
        "query": "key={idempotency_key}",
        "headers": {"X-Delivery": "{delivery_id}"},
        "after": [1],
        "received": [
            {
                "status": 200,
                "where": [OF_THE_KEY, {"pointer": "/state", "values": ["executed", True, 1, 1.5, None, []]}],
            }
        ],
        "rejected": [{"status": 200, "where": [OF_THE_KEY, {"pointer": "/state", "values": ["rejected"]}]}],
        "absent": [{"status": 404, "where": [{"pointer": "/code", "values": ["payment_not_found"]}]}],
        "absent_after": 60,
        "on_absent": "again",
    },
    "by its status": {
        "path": "/payments/{idempotency_key}",
        "method": "HEAD",
        "after": [1],
        "received": [{"status": 200}],
        "on_absent": "failed",
    },
}


@pytest.mark.parametrize("asked", list(ASKED))
def test_the_partner_says_what_became_of_an_unknown_delivery(
    stack: Stack, user: Consumer, key: str, asked: str
) -> None:
    name = created(user, stack, f"features-{asked.replace(' ', '-')}", guarantee="at_most_once", reconcile=ASKED[asked])
    changed = change(user, name, {"reconcile": ASKED[asked]})
    assert changed.json["reconcile"]["method"] == ASKED[asked]["method"]
    headers = {"Idempotency-Key": key, "Prefer": "wait=20"}
    made = user.deliver(destination=name, path="/lose/payments", body={"amount": 10}, headers=headers)
    assert (made.status, made.json["state"]) == (200, "unknown"), made.body
    shown = eventually(
        lambda: now if (now := user.delivery(made.json["delivery_id"]))["state"] == "delivered" else None
    )
    assert (shown["resolved_by"], shown["resolution"]) == ("reconcile", "delivered")
    assert [attempt["kind"] for attempt in shown["attempts"]] == ["send", "reconcile"]
    assert [call.method for call in stack.partner.calls if call.path == f"/payments/{key}"] == [ASKED[asked]["method"]]


def test_while_the_partner_is_asked_on_demand_nobody_else_can_ask(
    stack: Stack, user: Consumer, other: Holding, key: str
) -> None:
    question = {"path": "/hold", "query": "asked={idempotency_key}", "after": [3600], "received": [{"status": 200}]}
    name = created(user, stack, "features-asked", guarantee="at_most_once", base_url=f"http://127.0.0.2:{other.port}")
    delivery_id = lost_delivery(user, name, key)
    refused = ask_now(user, delivery_id)
    assert (refused.status, kind_of(refused)) == (409, "no-question")
    assert change(user, name, {"reconcile": question}).status == 200
    other.released.clear()
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask_now, user, delivery_id)
        try:
            eventually(lambda: [call for call in list(other.calls) if f"asked={key}" in call.query])
            busy = ask_now(user, delivery_id)
        finally:
            other.released.set()
        answered = asking.result(GENEROUS_SECONDS)
    assert (busy.status, kind_of(busy), int(busy.headers["retry-after"]) > 0) == (409, "being-asked", True)
    assert (answered.status, answered.json["state"], answered.json["resolved_by"]) == (200, "delivered", "reconcile")
    assert kind_of(ask_now(user, delivery_id)) == "wrong-state"


def lost_delivery(user: Consumer, name: str, key: str) -> str:
    """The id of a delivery that got no answer."""
    made = user.deliver(destination=name, path="/hang-up", headers={"Idempotency-Key": key, **WAIT})
    assert (made.status, made.json["state"]) == (200, "unknown"), made.body
    delivery_id: str = made.json["delivery_id"]
    return delivery_id


def ask_now(user: Consumer, delivery_id: str) -> Answer:
    return user.call("POST", f"/v1/deliveries/{delivery_id}/ask")

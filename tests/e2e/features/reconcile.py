"""Unknown deliveries about which the partner is asked."""

from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.e2e.features.helpers import change, created

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

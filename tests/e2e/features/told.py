"""Being told: events to another destination, and numbers."""

import json

import standardwebhooks

from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.e2e.features.helpers import WAIT, change, created, kind_of, received

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_another_destination_is_told_by_a_signed_delivery(stack: Stack, user: Consumer) -> None:
    hook = f"{stack.partner.url}/orders"
    signing = [{"type": "standard_webhooks", "secret": SECRET}]
    created(user, stack, "told-hook", base_url=hook, signing=signing)
    created(user, stack, "told-of", events_to="told-hook")
    sent = user.deliver(destination="told-of", path="/status/422", headers=WAIT).json
    shown = user.delivery(sent["delivery_id"])
    event = user.finished(shown["event_id"])
    assert (event["event"], event["state"], event["destination"]) == ("delivery.failed", "delivered", "told-hook")
    call = received(stack.partner, event)
    standardwebhooks.Webhook(SECRET).verify(call.body, dict(call.headers))
    assert json.loads(call.body)["data"]["delivery_id"] == sent["delivery_id"]


def test_who_is_told_is_changed(stack: Stack, user: Consumer) -> None:
    created(user, stack, "told-first")
    name = created(user, stack, "told-nobody", events_to=None)
    assert change(user, name, {"events_to": "told-first"}).status == 200
    assert change(user, name, {"events_to": None}).json["events_to"] is None


def test_numbers_are_shown_by_destination(stack: Stack, user: Consumer) -> None:
    breaker = {"enabled": True, "failure_ratio": 0.5, "minimum_attempts": 2, "open_seconds": 3600}
    name = created(user, stack, "told-numbers", circuit_breaker=breaker)
    for _ in range(2):
        assert user.call("GET", f"/v1/via/{name}/status/503").status == 503
    (shown,) = user.call("GET", f"/v1/stats?destination={name}").json["destinations"]
    assert shown["circuit_breaker"] == "open"
    counted = eventually(lambda: _counted(user, name))
    assert counted == {"answered": 2}
    first = user.call("GET", "/v1/stats?limit=1").json
    second = user.call("GET", f"/v1/stats?limit=1&cursor={first['next_cursor']}").json
    assert first["destinations"][0]["destination_id"] != second["destinations"][0]["destination_id"]
    assert kind_of(user.call("GET", "/v1/stats?destination=nowhere")) == "not-found"
    assert kind_of(user.call("GET", "/v1/stats?limit=0")) == "invalid-request"


def _counted(user: Consumer, name: str) -> dict[str, int] | None:
    """Once the transactions that were running are over."""
    (shown,) = user.call("GET", f"/v1/stats?destination={name}").json["destinations"]
    attempts: dict[str, int] = shown["last_hour"]["attempts"]
    return attempts if attempts.get("answered") == 2 else None

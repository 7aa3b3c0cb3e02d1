"""How destinations are made, changed, paused, deleted and verified."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.e2e.features.helpers import (
    METHODS,
    WAIT,
    change,
    ids,
    kind_of,
    received,
)


def test_what_needs_no_token(user: Consumer) -> None:
    nobody = replace(user, token="")
    assert nobody.call("GET", "/healthz").json["status"] == "ok"
    assert nobody.call("GET", "/openapi.json").json["openapi"].startswith("3.1")
    assert b"swagger" in nobody.call("GET", "/docs").body.lower()
    for path in ("/console", "/console/latest/app.js"):
        shown = nobody.call("GET", path)
        assert (shown.status, shown.headers["x-content-type-options"]) == (200, "nosniff")
        assert nobody.call("GET", path, headers={"If-None-Match": shown.headers["etag"]}).status == 304
    assert nobody.call("GET", "/console/latest/api.py").status == 404


def test_each_kind_of_credential_and_guarantee_makes_a_destination(stack: Stack, user: Consumer) -> None:
    kinds: list[dict[str, str]] = [
        {"type": "none"},
        {"type": "bearer", "token": "of-a-bank"},
        {"type": "basic", "username": "user", "password": "of-a-bank"},
        {"type": "header", "name": "X-Api-Key", "value": "of-a-bank"},
    ]
    guarantees = ("auto", "at_least_once", "at_most_once", "auto")
    for auth, guarantee in zip(kinds, guarantees, strict=True):
        body = {
            "name": f"features-{auth['type']}",
            "base_url": f"{stack.partner.url}/orders",
            "auth": auth,
            "timeouts": {"connect_seconds": 2, "first_byte_seconds": 9, "total_seconds": 10},
            "guarantee": guarantee,
            "idempotent": auth["type"] == "header",
            "idempotency_header": "X-Request-Key",
        }
        created = user.call("POST", "/v1/destinations", body=body)
        assert created.status == 201, created.body
        shown = user.call("GET", f"/v1/destinations/{created.json['destination_id']}").json
        assert shown["auth"]["type"] == auth["type"]
        assert {**body, "auth": shown["auth"]}.items() <= shown.items()
        sent = user.deliver(destination=body["name"], headers=WAIT).json
        assert sent["state"] == "delivered"
        assert received(stack.partner, sent).headers["x-request-key"] == sent["idempotency_key"]


def test_a_destination_is_changed_at_its_version(stack: Stack, user: Consumer) -> None:
    policies = {
        "retry": {"schedule": [0, 1, 2], "statuses": {"add": [409], "remove": [500]}, "give_up_after": 3600},
        "allow": {"methods": list(METHODS), "paths": ["/orders"]},
    }
    body = {"name": "changing", "base_url": stack.partner.url, "auth": {"type": "bearer", "token": "first"}}
    assert user.call("POST", "/v1/destinations", body=body | policies | {"name": "policies"}).status == 201
    made = user.call("POST", "/v1/destinations", body=body)
    assert made.headers["etag"] == '"1"'
    changes = {
        "auth": {"token": "second"},
        **policies,
        "idempotent": True,
        "timeouts": {"connect_seconds": 2},
        "idempotency_header": "X-Request-Key",
        "guarantee": "at_least_once",
    }
    changed = change(user, "changing", changes, **{"If-Match": '"1"'})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"'), changed.body
    assert change(user, "changing", changed.json).json == changed.json
    late = change(user, "changing", {"idempotent": False}, **{"If-Match": '"1"'})
    assert (late.status, kind_of(late)) == (412, "precondition-failed")
    assert change(user, "changing", {"name": "other"}).status == 409
    assert change(user, "absent", {"name": "other"}).status == 404
    elsewhere = change(user, "changing", {"base_url": "https://evil.example"})
    assert (elsewhere.status, elsewhere.json["faults"][0]["field"]) == (422, "/auth")
    sent = user.deliver(destination="changing", path="/orders", headers=WAIT).json
    assert sent["attempts_allowed"] == 3
    assert received(stack.partner, sent).headers["authorization"] == "Bearer second"
    assert kind_of(user.deliver(destination="changing", path="/admin")) == "not-allowed"
    for method in METHODS:
        assert user.call(method, "/v1/via/changing/admin").status == 403
    assert change(user, "changing", {"verify": {"path": "/orders"}}).json["verify"] == {"path": "/orders"}
    assert user.call("POST", "/v1/destinations/changing/verify").json["result"] == "answered"
    assert change(user, "changing", {"retry": None, "allow": None, "auth": None}).json["allow"] is None


def test_what_a_paused_destination_is_sent_waits_and_goes_on(stack: Stack, user: Consumer) -> None:
    user.call("POST", "/v1/destinations", body={"name": "pausing", "base_url": stack.partner.url})
    path = "/v1/destinations/pausing"
    paused = user.call("POST", f"{path}/pause", body={"reason": "their cut-off"})
    assert (paused.json["state"], paused.json["state_reason"]) == ("paused", "their cut-off")
    waits = user.deliver(destination="pausing", path="/orders")
    waiting = user.deliver(destination="pausing", path="/orders", headers=WAIT)
    for answer in (waits, waiting):
        assert (answer.status, answer.json["waiting_for"]) == (202, "destination_paused")
    passed = {method: user.call(method, "/v1/via/pausing/orders") for method in METHODS}
    assert {(answer.status, answer.headers["retry-after"]) for answer in passed.values()} == {(503, "60")}
    assert kind_of(passed["GET"]) == "destination-paused"
    assert kind_of(user.call("POST", f"{path}/enable")) == "wrong-state"
    assert user.call("POST", f"{path}/resume").json["state"] == "active"
    accepted = [answer.json["delivery_id"] for answer in (waits, waiting)]
    assert eventually(lambda: {user.delivery(delivery_id)["state"] for delivery_id in accepted} == {"delivered"})


def test_a_disabled_destination_refuses_and_a_deleted_one_is_gone(stack: Stack, user: Consumer) -> None:
    user.call("POST", "/v1/destinations", body={"name": "ending", "base_url": stack.partner.url})
    path = "/v1/destinations/ending"
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    pending = user.deliver(destination="ending", not_before=later)
    assert user.call("POST", f"{path}/disable").json["state"] == "disabled"
    assert user.delivery(pending.json["delivery_id"])["waiting_for"] == "destination_disabled"
    assert kind_of(user.deliver(destination="ending")) == "destination-disabled"
    for method in METHODS:
        assert user.call(method, "/v1/via/ending/orders").status == 409
    for wrong in ("pause", "resume"):
        assert kind_of(user.call("POST", f"{path}/{wrong}")) == "wrong-state"
    assert user.call("POST", f"{path}/enable").json["state"] == "active"
    refused = user.call("DELETE", path)
    assert (refused.status, refused.json["unfinished"]) == (409, 1)
    assert user.call("DELETE", path, headers={"If-Match": '"1"'}).status == 412
    assert user.call("DELETE", path, body={}).status == 400
    deleted = user.call("DELETE", f"{path}?pending=cancel")
    assert (deleted.json["canceled"], deleted.json["unfinished"]) == (1, 0)
    assert user.call("GET", path).status == 404
    assert user.delivery(pending.json["delivery_id"])["state"] == "canceled"
    assert ids(user, f"?state=canceled&destination={deleted.json['destination_id']}") == [pending.json["delivery_id"]]


def test_each_end_of_a_verification_that_one_machine_can_have(stack: Stack, user: Consumer) -> None:
    ends = {
        "answered": f"{stack.partner.url}/orders",
        "denied": f"{stack.partner.url}/status/403",
        "no_answer": f"{stack.partner.url}/hang-up",
        "tls_failed": stack.partner.url.replace("http://", "https://"),
        "not_connected": f"http://127.23.45.67:{stack.partner.port}",
        "name_not_resolved": f"http://nobody.invalid:{stack.partner.port}",
    }
    for result, base_url in ends.items():
        name = f"verify-{result.replace('_', '-')}"
        body = {"name": name, "base_url": base_url, "verify": {"path": ""}}
        assert user.call("POST", "/v1/destinations", body=body).status == 201
        verified = user.call("POST", f"/v1/destinations/{name}/verify")
        assert (verified.status, verified.json["result"]) == (200, result), verified.body
    auth = {"type": "oauth2", "token_url": f"{stack.partner.url}/status/400", "client_id": "a", "client_secret": "b"}
    body = {"name": "verify-token", "base_url": stack.partner.url, "auth": auth}
    assert user.call("POST", "/v1/destinations", body=body).status == 201
    assert user.call("POST", "/v1/destinations/verify-token/verify").json["result"] == "no_access_token"
    again = [user.call("POST", "/v1/destinations/verify-answered/verify") for _ in range(9)]
    assert "too-soon" in {kind_of(answer) for answer in again if answer.status == 429}
    assert user.call("POST", "/v1/destinations/verify-answered/verify", body={}).status == 400

"""What is refused, of every call, and what is out of order."""

from dataclasses import replace

import pytest

from local.partner import Reply
from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.e2e.features.helpers import (
    NOBODY,
    OPEN,
    OVER_THE_LIMIT,
    TOO_LONG,
    every_call,
    kind_of,
    via,
)


def test_each_scope_opens_its_calls_and_no_others(user: Consumer, limited: dict[str, Consumer]) -> None:
    for scope, method, path in every_call():
        for held_scope, consumer in limited.items():
            status = consumer.call(method, path).status
            assert (status == 403) == (held_scope != scope), (held_scope, method, path, status)


def test_what_cannot_be_accepted_is_refused_with_a_reason(user: Consumer, key: str) -> None:
    for _, method, path in every_call():
        answer = replace(user, token="wrong").call(method, path)
        assert answer.status == 401
    for method, path in [*OPEN, *(call[1:] for call in every_call())]:
        assert user.call(method, path, body=OVER_THE_LIMIT).status == 413, (method, path)
    for method, path in [call[1:] for call in every_call() if call[1] not in ("GET", "HEAD")]:
        assert user.call(method, path, body=b"{", headers=TOO_LONG).status == 400, (method, path)
    for method, path in via():
        assert user.call(method, path, body=b"{", headers=TOO_LONG).status == 400, (method, path)
    invalid: list[tuple[str, str, object]] = [("POST", "/v1/deliveries", {}), ("POST", "/v1/destinations", {})]
    for method, path, body in [
        *invalid,
        *(("GET", f"/v1/{noun}?limit=0", None) for noun in ("deliveries", "destinations")),
    ]:
        answer = user.call(method, path, body=body)
        assert (answer.status, kind_of(answer)) == (422, "invalid-request"), path
        assert answer.json["faults"]
    taken = user.call("POST", "/v1/destinations", body={"name": "other", "base_url": "http://127.0.0.1"})
    assert (taken.status, kind_of(taken)) == (409, "name-taken")
    assert user.deliver(destination="no-such-destination", headers={"Idempotency-Key": key}).status == 404


def test_what_is_not_there(user: Consumer) -> None:
    for path in (
        f"/v1/deliveries/{NOBODY}",
        f"/v1/audit/attempts?seal={NOBODY}",
        "/v1/destinations/no-such-destination",
        "/v1/deliveries?destination=no-such-destination",
        "/v1/nothing",
    ):
        assert kind_of(user.call("GET", path)) == "not-found", path
    since = {"since": "2026-01-01T00:00:00Z", "destination": "nobody-at-all"}
    for method, path, body in (
        ("POST", "/v1/destinations/nobody-at-all/rotate-secret", {}),
        ("POST", f"/v1/deliveries/{NOBODY}/resolve", {"as": "failed"}),
        ("PATCH", f"/v1/deliveries/{NOBODY}", {"not_before": None}),
        ("POST", "/v1/replays", {"state": "failed", **since}),
        ("POST", "/v1/cancellations", since),
    ):
        assert kind_of(user.call(method, path, body=body)) == "not-found", path
    refused = user.call("PUT", "/v1/deliveries")
    assert (refused.status, kind_of(refused)) == (405, "method-not-allowed")
    assert refused.headers["allow"]


def test_what_a_call_does_not_take_is_refused(user: Consumer) -> None:
    nobody = replace(user, token="")
    answers = [nobody.call(method, f"{path}?x=1") for method, path in OPEN]
    answers += [user.call(method, f"{path}?x=1") for _, method, path in every_call() if "/via/" not in path]
    assert [(answer.status, kind_of(answer)) for answer in answers] == [(422, "invalid-request")] * len(answers)
    refused = user.call("POST", "/v1/egress/verify", body={})
    assert (refused.status, kind_of(refused)) == (400, "malformed-request")


def test_the_fixed_addresses_are_shown_and_asked_for(
    stack: Stack, user: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {entry["address"] for entry in user.call("GET", "/v1/egress").json["addresses"]} == {"127.0.0.1"}
    for accept in ("application/json", "text/plain", "text/html"):
        shown = user.call("GET", "/v1/egress/allowlist", headers={"Accept": accept})
        assert (shown.status, b"127.0.0.1/32" in shown.body) == (200, True)
    said = {"matches": "127.0.0.1\n", "differs": "8.8.4.4\n", "failed": "no address\n"}
    for verdict, text in said.items():
        echo = Reply(status=200, content=text)
        monkeypatch.setattr(stack.partner, "reply", lambda _, echo=echo: echo)
        assert user.call("POST", "/v1/egress/verify").json["verdict"] == verdict

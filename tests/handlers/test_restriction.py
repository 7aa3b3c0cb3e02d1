"""Tokens that end, and tokens for some destinations alone: each refusal with everything else valid."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handlers import admin
from handlers.authorize import CallRefused
from handlers.routes import every_operation
from tests.support.api import NOBODYS_ID, Api, Context, Functions, authorizer_context

BODY = {"method": "POST", "path": "/orders", "body": {"amount": 1}}


def token(**wanted: Any) -> dict[str, Any]:
    return admin.handler({"action": "issue_token", "tenant": "acme", **wanted}, Context())


def holder(issued: dict[str, Any]) -> Api:
    return Api(authorizer=authorizer_context(issued["token"]))


@pytest.fixture
def restricted(functions: Functions) -> Api:
    """Calls with a token for `bank` alone; there is `other` too."""
    functions.api.destination("https://bank.example", name="bank")
    functions.api.destination("https://other.example", name="other")
    return holder(token(destinations=["bank"]))


def test_a_token_works_until_it_ends(functions: Functions) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    issued = token(expires_at=ends.isoformat())
    assert issued["expires_at"] == ends.isoformat()
    assert holder(issued).get("/v1/deliveries").status == 200
    functions.sql("UPDATE token SET expires_at = now() WHERE token_id = %s", issued["token_id"])
    with pytest.raises(CallRefused):
        holder(issued)
    functions.sql("UPDATE token SET expires_at = now() + interval '1 minute' WHERE token_id = %s", issued["token_id"])
    assert holder(issued).get("/v1/deliveries").status == 200


def test_a_restricted_token_does_all_with_its_destination(restricted: Api) -> None:
    made = restricted.post("/v1/deliveries", {"destination": "bank", **BODY})
    assert made.status == 202
    assert restricted.get(f"/v1/deliveries/{made.json['delivery_id']}").status == 200
    assert len(restricted.get("/v1/deliveries?destination=bank").json["deliveries"]) == 1
    bank = restricted.get("/v1/destinations/bank")
    assert bank.status == 200
    assert restricted.get(f"/v1/destinations/{bank.json['destination_id']}").status == 200
    assert restricted.call("POST", "/v1/destinations/bank/pause").status == 200
    assert restricted.get("/v1/egress").status == 200


def test_other_destinations_and_their_deliveries_are_not_found(functions: Functions, restricted: Api) -> None:
    """By the same answer as what does not exist, or is another tenant's."""
    theirs = functions.api.post("/v1/deliveries", {"destination": "other", **BODY}).json["delivery_id"]
    stranger = functions.other_api.destination("https://x.example", name="mine")["destination_id"]
    for destination in (
        "other",
        "nowhere",
        stranger,
        functions.api.get("/v1/destinations/other").json["destination_id"],
    ):
        answers = [
            restricted.get(f"/v1/destinations/{destination}"),
            restricted.call("PATCH", f"/v1/destinations/{destination}", json={"idempotent": True}),
            restricted.call("DELETE", f"/v1/destinations/{destination}"),
            restricted.call("POST", f"/v1/destinations/{destination}/pause"),
            restricted.post("/v1/deliveries", {"destination": destination, **BODY}),
            restricted.get(f"/v1/deliveries?destination={destination}"),
            restricted.call("POST", f"/v1/via/{destination}/orders", body=b"1"),
        ]
        assert {(answer.status, answer.json["detail"]) for answer in answers} == {(404, "there is no such destination")}
    for delivery in (theirs, NOBODYS_ID):
        answers = [
            restricted.get(f"/v1/deliveries/{delivery}"),
            restricted.call("POST", f"/v1/deliveries/{delivery}/cancel"),
        ]
        assert {(answer.status, answer.json["detail"]) for answer in answers} == {(404, "there is no such delivery")}
    assert len(functions.sql("SELECT delivery_id FROM delivery")) == 1


def test_what_is_about_all_destinations_is_refused(functions: Functions, restricted: Api) -> None:
    new = {"name": "third", "base_url": "https://third.example"}
    for answer in (
        restricted.get("/v1/deliveries"),
        restricted.get("/v1/destinations"),
        restricted.post("/v1/destinations", new),
        restricted.get("/v1/audit"),
        restricted.get("/v1/audit/export"),
    ):
        assert (answer.status, answer.kind) == (403, "forbidden")
    assert len(functions.sql("SELECT name FROM destination")) == 2


def test_a_call_that_names_no_destination_is_refused_whichever_it_is(functions: Functions, restricted: Api) -> None:
    """Also one that is added later: what is let through is listed here."""
    open_to_all = {"/v1/egress", "/v1/egress/allowlist", "/v1/egress/verify"}
    looked_at = 0
    for operation in every_operation():
        if operation.scope is None or "<" in operation.path or operation.path in open_to_all:
            continue
        looked_at += 1
        answer = restricted.call(operation.method, operation.path, json=None if operation.body is None else {})
        allowed = {403, 422} if operation.path == "/v1/deliveries" else {403}
        assert answer.status in allowed, operation
    assert looked_at >= 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"destination": "bank", "destination": "other", "method": "POST", "path": "/"}',
        b'{"destination": "\\u006fther", "method": "POST", "path": "/"}',
        b'\xef\xbb\xbf{"destination": "other", "method": "POST", "path": "/"}',
        b'{"method": "POST", "path": "/", "metadata": {"destination": "bank"}, "destination": "other"}',
        b'{"destination": ["other"], "method": "POST", "path": "/"}',
        b'{"destination": "OTHER", "method": "POST", "path": "/"}',
        b'{"destination": "other", "method": "POST", "path": "/", "body": NaN}',
        b'[{"destination": "other"}]',
        b"",
    ],
)
def test_no_spelling_of_a_body_leads_elsewhere(functions: Functions, restricted: Api, body: bytes) -> None:
    answer = restricted.call("POST", "/v1/deliveries", body=body, headers=[("Content-Type", "application/json")])
    assert answer.status in {400, 404, 422}
    assert functions.sql("SELECT delivery_id FROM delivery") == []


def test_a_new_name_is_the_same_destination_and_an_old_name_is_not(functions: Functions, restricted: Api) -> None:
    issued = token(destinations=["bank"])
    assert functions.api.call("PATCH", "/v1/destinations/bank", json={"name": "bank-2"}).status == 200
    functions.api.destination("https://new.example", name="bank")
    after = holder(issued)  # the authorizer is asked again
    assert after.get("/v1/destinations/bank-2").status == 200
    assert after.get("/v1/destinations/bank").status == 404


def test_a_token_whose_destinations_are_gone_does_nothing(functions: Functions, restricted: Api) -> None:
    assert functions.api.call("DELETE", "/v1/destinations/bank").status == 200
    after = holder(token(destinations=["other"]))
    assert functions.api.call("DELETE", "/v1/destinations/other").status == 200
    for caller in (after, restricted):
        assert caller.get("/v1/deliveries").status == 403
        assert caller.post("/v1/deliveries", {"destination": "bank", **BODY}).status == 404

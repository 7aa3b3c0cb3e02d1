"""`redact`: what a destination names is not stored beyond the end of a delivery."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.egress.servers import Partner, Script
from tests.handlers.test_expunge import holders
from tests.support.api import Api, Functions, attempt_batch
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]

SECRET = "4111-1111-1111-1111"
REDACT = {"headers": ["X-CARD"], "pointers": ["/card"]}
REQUEST = {"path": "/orders", "headers": {"X-Card": SECRET, "X-Other": "other"}, "body": {"card": SECRET, "a": 1}}
ANSWER = json.dumps({"card": SECRET, "id": 7}).encode()


def look(functions: Functions) -> None:
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


def show(api: Api, delivery: str) -> Any:
    return api.get(f"/v1/deliveries/{delivery}").json


def create(api: Api, server: Partner, **more: Any) -> str:
    api.destination(server.url(), **{"redact": REDACT, "retry": {"schedule": [0, 0]}, **more})
    return str(api.create_delivery(**REQUEST).json["delivery_id"])


@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (400, "failed")])
def test_a_pending_delivery_is_whole_and_what_has_ended_is_redacted(
    functions: Functions, api: Api, partner: StartPartner, status: int, state: str
) -> None:
    server = partner(answers(status, ANSWER, f"x-card: {SECRET}"))
    delivery = create(api, server)
    assert holders(functions, SECRET) == {"delivery", "delivery_body"}
    assert show(api, delivery)["headers"]["X-Card"] == SECRET
    look(functions)
    assert SECRET.encode() in server.requests[0]
    shown = show(api, delivery)
    assert (shown["state"], shown["payload"]) == (state, "redacted")
    assert (shown["headers"]["X-Card"], shown["headers"]["X-Other"]) == ("redacted", "other")
    response = shown["attempts"][0]["response"]
    assert json.loads(response["body"]) == {"card": None, "id": 7}
    assert (response["truncated"], response["length_bytes"]) == (True, len(ANSWER))
    assert response["headers"]["x-card"] == "redacted"
    assert holders(functions, SECRET) == set()
    if state == "failed":
        refused = api.call("POST", f"/v1/deliveries/{delivery}/retry")
        assert (refused.status, refused.kind, refused.json["payload"]) == (409, "payload-gone", "redacted")


def test_a_retry_sends_what_the_first_attempt_sent(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers_in_turn(503, 200))
    delivery = create(api, server)
    look(functions)
    assert show(api, delivery)["payload"] == "whole"
    look(functions)
    assert show(api, delivery)["payload"] == "redacted"
    assert [SECRET.encode() in request for request in server.requests] == [True, True]
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [
        json.dumps(REQUEST["body"]).encode()
    ] * 2
    assert holders(functions, SECRET) == set()


@pytest.mark.parametrize("how", ["cancel", "delete", "job"])
def test_what_is_canceled_is_redacted_however_that_comes(
    functions: Functions, api: Api, partner: StartPartner, how: str
) -> None:
    delivery = create(api, partner(answers(200)))
    if how == "cancel":
        api.call("POST", f"/v1/deliveries/{delivery}/cancel")
    elif how == "delete":
        api.call("DELETE", "/v1/destinations/partner?pending=cancel")
    else:
        api.post("/v1/cancellations", {"since": "2026-01-01T00:00:00Z"})
        look(functions)
    assert (show(api, delivery)["state"], show(api, delivery)["payload"]) == ("canceled", "redacted")
    assert holders(functions, SECRET) == set()


def test_what_is_unknown_may_be_sent_again_and_is_redacted_when_it_is_resolved(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(takes_and_closes)
    delivery = create(api, server)
    look(functions)
    assert (show(api, delivery)["state"], show(api, delivery)["payload"]) == ("unknown", "whole")
    api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "again"})
    look(functions)
    assert [SECRET.encode() in request for request in server.requests] == [True, True]
    api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "delivered"})
    assert show(api, delivery)["payload"] == "redacted"
    assert holders(functions, SECRET) == set()


def test_a_call_that_is_passed_through_is_redacted_and_its_caller_gets_the_answer(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200, ANSWER)).url(), redact=REDACT)
    passed = api.call("POST", "/v1/via/partner/orders", body=json.dumps({"card": SECRET}).encode())
    assert passed.body == ANSWER
    assert holders(functions, SECRET) == set()
    waited = api.call(
        "POST", "/v1/deliveries", json={"destination": "partner", **REQUEST}, headers=[("Prefer", "wait=20")]
    )
    assert json.loads(waited.json["response"]["body"])["card"] == SECRET
    assert holders(functions, SECRET) == set()


def test_what_has_nothing_to_redact_stays_whole_and_so_does_what_ended_before(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(400)).url())
    before = str(api.create_delivery(**REQUEST).json["delivery_id"])
    look(functions)
    changed = api.call("PATCH", "/v1/destinations/partner", json={"redact": REDACT})
    assert (changed.status, changed.json["redact"]) == (200, REDACT)
    bare = str(api.create_delivery(headers={"X-Other": "other"}, body="").json["delivery_id"])
    look(functions)
    assert (show(api, before)["payload"], show(api, bare)["payload"]) == ("whole", "whole")
    assert api.call("POST", f"/v1/deliveries/{bare}/retry").status == 200
    gone = api.call("PATCH", "/v1/destinations/partner", json={"redact": None})
    assert gone.json["redact"] is None


def test_what_is_pending_is_redacted_as_its_destination_is_when_it_ends(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200)).url())
    delivery = str(api.create_delivery(**REQUEST).json["delivery_id"])
    api.call("PATCH", "/v1/destinations/partner", json={"redact": {"headers": ["X-Card"]}})
    look(functions)
    assert show(api, delivery)["payload"] == "redacted"
    assert holders(functions, SECRET) == {"delivery_body"}  # no pointer says where in it

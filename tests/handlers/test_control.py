"""Resolve, cancel, retry and reschedule deliveries."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.egress.servers import Line, Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions, Reply, attempt_batch
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]


def acts(functions: Functions) -> list[tuple[Any, ...]]:
    """What was done with deliveries, with the details."""
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    done = [line for line in lines if line["message"] == "act" and line["what"].startswith("delivery.")]
    return [(line["what"], line["on"], *line["details"].values()) for line in done]


def look(functions: Functions) -> None:
    """The worker with all messages, whether they are due or not."""
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


def in_turn(*scripts: Script) -> Script:
    """The first connection meets the first of them, and so on; the last one from then on."""
    left = list(scripts)

    def script(line: Line) -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(line)

    return script


def unknown(functions: Functions, api: Api, partner: StartPartner, then: Script, **fields: Any) -> tuple[Partner, str]:
    """A delivery whose first attempt got no answer, and the partner that behaves like `then` from then on."""
    server = partner(in_turn(takes_and_closes, then))
    api.destination(server.url())
    made = api.create_delivery(**fields).json
    look(functions)
    assert api.get(f"/v1/deliveries/{made['delivery_id']}").json["state"] == "unknown"
    return server, made["delivery_id"]


def resolve(api: Api, delivery: str, resolution: str, **fields: Any) -> Reply:
    return api.post(f"/v1/deliveries/{delivery}/resolve", {"as": resolution, **fields})


@pytest.mark.parametrize("resolution", ["delivered", "failed"])
def test_a_delivery_that_is_unknown_is_resolved_as_what_became_of_it(
    functions: Functions, api: Api, partner: StartPartner, resolution: str
) -> None:
    server, delivery = unknown(functions, api, partner, answers(200))
    answer = resolve(api, delivery, resolution, note="their statement says so")
    assert (answer.status, answer.json["state"], answer.json["resolution"]) == (200, resolution, resolution)
    assert answer.json["note"] == "their statement says so"
    assert answer.json["resolved_by"] == f"token:{(api.authorizer or {})['token_id']}"
    assert answer.json["resolved_at"] == answer.json["finished_at"]
    assert acts(functions) == [("delivery.resolved", delivery, resolution)]
    assert functions.queue.take() == []
    assert len(server.requests) == 1


def test_a_delivery_that_is_resolved_as_again_is_sent_once_more_under_its_key(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server, delivery = unknown(functions, api, partner, answers(201), destination="partner")
    answer = resolve(api, delivery, "again")
    assert (answer.status, answer.json["state"], answer.json["finished_at"]) == (200, "pending", None)
    assert (answer.json["attempts_made"], answer.json["next_attempt_at"]) == (1, answer.json["resolved_at"])
    assert answer.json["note"] is None
    look(functions)
    shown = api.get(f"/v1/deliveries/{delivery}").json
    assert (shown["state"], shown["attempts_made"], shown["resolution"]) == ("delivered", 2, "again")
    keys = [key_of(request) for request in server.requests]
    assert keys == [delivery, delivery]


def key_of(request: bytes) -> str:
    (line,) = [line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")]
    return line.partition(b": ")[2].decode()


def test_a_call_that_was_passed_through_can_be_sent_again_too(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(in_turn(takes_and_closes, answers(503)))
    api.destination(server.url())
    failed = api.call("POST", "/v1/via/partner/orders", body=b"x")
    delivery = failed.json["delivery_id"]
    assert (failed.kind, resolve(api, delivery, "again").json["attempts_allowed"]) == ("outcome-unknown", 2)
    look(functions)
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "failed"
    assert len(server.requests) == 2


def test_the_same_decision_by_the_same_one_changes_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server, delivery = unknown(functions, api, partner, answers(200))
    first = resolve(api, delivery, "again", note="first")
    assert resolve(api, delivery, "again", note="second").json == first.json
    look(functions)
    again = resolve(api, delivery, "again")
    assert (again.status, again.json["state"], again.json["note"]) == (200, "delivered", "first")
    assert acts(functions) == [("delivery.resolved", delivery, "again")]
    assert len(server.requests) == 2
    another = replace(api, authorizer={**(api.authorizer or {}), "token_id": NOBODYS_ID})
    for other in (resolve(api, delivery, "failed"), resolve(another, delivery, "again")):
        assert (other.status, other.kind, other.json["state"]) == (409, "wrong-state", "delivered")


def test_only_what_is_unknown_is_resolved_and_the_refusal_says_what_is_possible(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    pending = resolve(api, delivery, "again")
    assert (pending.status, pending.kind) == (409, "wrong-state")
    assert (pending.json["state"], pending.json["possible"]) == ("pending", ["cancel", "retry", "not_before"])
    assert pending.json["detail"] == "the delivery is pending; possible are cancel and retry and not_before"
    look(functions)
    failed = resolve(api, delivery, "failed")
    assert (failed.status, failed.json["state"], failed.json["possible"]) == (409, "failed", ["retry"])
    assert functions.queue.take() == []
    assert acts(functions) == []


def test_a_decision_is_refused_to_strangers_and_without_the_scope(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    _, delivery = unknown(functions, api, partner, answers(200))
    stranger, nobody = (
        resolve(functions.other_api, delivery, "again"),
        resolve(functions.other_api, NOBODYS_ID, "again"),
    )
    assert (stranger.status, stranger.body) == (404, nobody.body)
    assert resolve(api, "x", "again").body == nobody.body
    assert resolve(functions.api_with("read", "manage"), delivery, "again").kind == "forbidden"
    assert acts(functions) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, "/as"),
        ({"as": "lost"}, "/as"),
        ({"as": None}, "/as"),
        ({"as": "failed", "note": ""}, "/note"),
        ({"as": "failed", "note": "x" * 501}, "/note"),
        ({"as": "failed", "note": "a\nb"}, "/note"),
        ({"as": "failed", "note": 5}, "/note"),
    ],
)
def test_what_a_decision_says_is_checked(
    functions: Functions, api: Api, partner: StartPartner, body: dict[str, Any], fault: str
) -> None:
    refused = api.post(f"/v1/deliveries/{NOBODYS_ID}/resolve", body)
    assert refused.status == 422
    assert refused.faults[0] in (fault, "")


def test_what_was_for_a_deleted_destination_is_not_sent_again(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    _, delivery = unknown(functions, api, partner, answers(200))
    assert api.call("DELETE", "/v1/destinations/partner").status == 200
    assert resolve(api, delivery, "again").kind == "destination-deleted"
    assert resolve(api, delivery, "delivered").json["state"] == "delivered"


def test_a_delivery_in_order_holds_back_the_others_until_it_is_resolved(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server, delivery = unknown(functions, api, partner, answers(200), ordering_key="account")
    behind = api.create_delivery(ordering_key="account").json["delivery_id"]
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["waiting_for"] == "ordering"
    functions.queue.take()
    assert resolve(api, delivery, "failed").status == 200
    assert [str(wakeup.delivery_id) for wakeup in functions.queue.wakeups()] == [behind]
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["state"] == "delivered"
    assert len(server.requests) == 2


def test_one_that_is_sent_again_goes_before_those_that_it_held_back(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    _, delivery = unknown(functions, api, partner, answers(200), ordering_key="account")
    behind = api.create_delivery(ordering_key="account").json["delivery_id"]
    resolve(api, delivery, "again")
    look(functions)
    states = {each: api.get(f"/v1/deliveries/{each}").json for each in (delivery, behind)}
    assert (states[delivery]["state"], states[behind]["waiting_for"]) == ("delivered", "ordering")
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["state"] == "delivered"


def test_a_failure_that_holds_back_the_others_is_resolved_too(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url())
    first, behind = (api.create_delivery(ordering_key="account").json["delivery_id"] for _ in range(2))
    look(functions)
    refused = resolve(api, first, "delivered")
    assert (refused.json["state"], refused.json["possible"]) == ("failed", ["retry", "resolve"])
    assert resolve(api, first, "failed").json["state"] == "failed"
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["state"] == "delivered"

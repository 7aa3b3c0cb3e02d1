"""POST /v1/deliveries/<id>/ask: the partner is asked now, and its answer means what it always means."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db import deliveries
from flows import ask
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions, Reply
from tests.support.banks import NOT_FOUND, AskedBank, executed

type StartPartner = Callable[[Script], Partner]

ONE = {"pointer": "/key", "values": ["{idempotency_key}"]}
RECONCILE = {
    "path": "/payments/{idempotency_key}",
    "received": [{"status": 200, "where": [ONE, {"pointer": "/state", "values": ["executed"]}]}],
    "rejected": [{"status": 200, "where": [ONE, {"pointer": "/state", "values": ["rejected"]}]}],
    "absent": [{"status": 404, "where": [{"pointer": "/code", "values": ["payment_not_found"]}]}],
}


@pytest.fixture
def bank() -> AskedBank:
    return AskedBank(answers=[executed], payments=[None])


@pytest.fixture
def api(functions: Functions) -> Api:
    return functions.api


@pytest.fixture
def unknown(functions: Functions, partner: StartPartner, bank: AskedBank) -> str:
    """The id of a payment that got no answer."""
    functions.api.destination(partner(bank.script).url(), reconcile=RECONCILE)
    created = functions.api.create_delivery(path="/payments").json
    functions.work()
    assert functions.delivery()["state"] == "unknown"
    return str(created["delivery_id"])


def asked(api: Api, delivery: str) -> Reply:
    return api.call("POST", f"/v1/deliveries/{delivery}/ask")


def test_it_is_settled_by_what_the_partner_answers(functions: Functions, unknown: str, bank: AskedBank) -> None:
    answer = asked(functions.api, unknown)
    shown = answer.json
    assert (answer.status, shown["state"], shown["resolved_by"]) == (200, "delivered", "reconcile")
    assert [attempt["kind"] for attempt in shown["attempts"]] == ["send", "reconcile"]
    assert shown["attempts_made"] == 1
    assert len(bank.questions) == 1
    (entry, *_) = functions.api.get("/v1/audit").json["entries"]
    assert (entry["what"], entry["on"]) == ("delivery.asked", unknown)
    assert entry["by"] == functions.api.authorizer["token_id"]  # type: ignore[index]


def test_a_call_that_was_passed_through_is_asked_about_too(functions: Functions, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed], payments=[None])
    functions.api.destination(partner(bank.script).url(), reconcile=RECONCILE)
    passed = functions.api.post("/v1/via/partner/payments", {})
    assert passed.kind == "outcome-unknown"
    assert asked(functions.api, str(passed.json["delivery_id"])).json["state"] == "delivered"


def test_absence_counts_no_earlier_because_somebody_asked(api: Api, unknown: str, bank: AskedBank) -> None:
    bank.answers = [NOT_FOUND]
    first, second = (asked(api, unknown).json for _ in range(2))
    assert (first["state"], second["state"]) == ("unknown", "unknown")
    assert (len(second["attempts"]), len(bank.questions)) == (3, 2)
    assert second["next_question_at"] is not None


def test_one_that_nobody_asks_about_any_more_can_be_asked_about(
    functions: Functions, unknown: str, bank: AskedBank
) -> None:
    functions.sql("UPDATE delivery SET ask_at = NULL, questions_answered = 4")
    assert asked(functions.api, unknown).json["state"] == "delivered"
    assert len(bank.questions) == 1


def test_silence_settles_nothing(api: Api, unknown: str, bank: AskedBank) -> None:
    bank.answers = [None]
    shown = asked(api, unknown).json
    assert (shown["state"], shown["attempts"][-1]["outcome"]) == ("unknown", "unknown")
    assert shown["next_question_at"] is not None


@pytest.mark.parametrize("state", ["pending", "delivered", "failed", "canceled", "sending"])
def test_only_about_what_is_unknown(functions: Functions, unknown: str, bank: AskedBank, state: str) -> None:
    functions.sql(
        "UPDATE delivery SET state = %s, finished_at = CASE WHEN %s THEN finished_at END, "
        "lease_id = CASE WHEN %s THEN gen_random_uuid() END, leased_until = CASE WHEN %s THEN now() END",
        state,
        state not in ("pending", "sending"),
        *[state == "sending"] * 2,
    )
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind, refused.json["state"]) == (409, "wrong-state", state)
    assert "ask" not in refused.json["possible"]
    assert bank.questions == []


def test_what_is_unknown_says_that_it_can_be_asked_about(api: Api, unknown: str) -> None:
    refused = api.call("POST", f"/v1/deliveries/{unknown}/cancel")
    assert refused.json["possible"] == ["resolve", "ask", "expunge"]


def test_nobody_can_ask_without_a_question(functions: Functions, unknown: str, bank: AskedBank) -> None:
    assert functions.api.call("PATCH", "/v1/destinations/partner", json={"reconcile": None}).status == 200
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind) == (409, "no-question")
    assert bank.questions == []


@pytest.mark.parametrize(
    ("transition", "status", "kind"),
    [("pause", 503, "destination-paused"), ("disable", 409, "destination-disabled")],
)
@pytest.mark.parametrize("planned", [True, False])
def test_nothing_is_asked_of_a_destination_that_takes_nothing(
    functions: Functions, unknown: str, bank: AskedBank, transition: str, status: int, kind: str, planned: bool
) -> None:
    functions.api.post(f"/v1/destinations/partner/{transition}", {})
    if not planned:
        functions.sql("UPDATE delivery SET ask_at = NULL")
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind) == (status, kind)
    assert bank.questions == []


def test_nothing_is_asked_of_a_destination_that_was_deleted(functions: Functions, unknown: str) -> None:
    assert functions.api.call("DELETE", "/v1/destinations/partner").status in (200, 204)
    assert asked(functions.api, unknown).kind == "destination-deleted"


def before_the_claim(api: Api, monkeypatch: pytest.MonkeyPatch, call: str, body: object) -> None:
    """Lets somebody make a call, `METHOD /path`, right before the question is claimed."""
    claim, others = deliveries.claim, [call.split()]

    def second(*arguments: Any, **keywords: Any) -> object:
        if others:
            method, path = others.pop()
            assert api.call(method, path, json=body).status in (200, 204)
        return claim(*arguments, **keywords)

    monkeypatch.setattr(deliveries, "claim", second)


@pytest.mark.parametrize(
    ("call", "body", "status", "kind"),
    [
        ("DELETE /v1/destinations/partner", None, 409, "destination-deleted"),
        ("POST /v1/destinations/partner/pause", {}, 503, "destination-paused"),
        ("POST /v1/destinations/partner/disable", {}, 409, "destination-disabled"),
        ("POST /v1/deliveries/{unknown}/resolve", {"as": "delivered"}, 409, "wrong-state"),
    ],
)
def test_what_happens_right_before_the_question_is_claimed_is_named(
    functions: Functions,
    unknown: str,
    bank: AskedBank,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    body: object,
    status: int,
    kind: str,
) -> None:
    before_the_claim(functions.api, monkeypatch, call.format(unknown=unknown), body)
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind) == (status, kind)
    assert refused.json.get("state") == ("delivered" if kind == "wrong-state" else None)
    assert bank.questions == []


def test_a_question_that_is_taken_back_before_it_is_claimed_is_noted_and_nothing_is_sent(
    functions: Functions, unknown: str, bank: AskedBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = len(bank.payments)
    before_the_claim(functions.api, monkeypatch, "PATCH /v1/destinations/partner", {"reconcile": None})
    reply = asked(functions.api, unknown)
    assert (reply.status, reply.json["state"]) == (200, "unknown")
    attempt = reply.json["attempts"][-1]
    assert (attempt["kind"], attempt["outcome"]) == ("reconcile", "refused")
    assert (bank.questions, len(bank.payments)) == ([], paid)


def test_its_limits_hold(functions: Functions, unknown: str, bank: AskedBank) -> None:
    limits = {"limits": {"rate": 0.1, "burst": 1}}
    assert functions.api.call("PATCH", "/v1/destinations/partner", json=limits).status == 200
    bank.answers = [NOT_FOUND]
    assert asked(functions.api, unknown).status == 200
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind, refused.json["waiting_for"]) == (429, "would-wait", "rate_limit")
    assert int(refused.header("Retry-After") or 0) > 0
    assert len(bank.questions) == 1


def test_while_it_is_being_asked_about_nobody_else_asks(functions: Functions, unknown: str, bank: AskedBank) -> None:
    functions.sql(
        "UPDATE delivery SET asking_id = gen_random_uuid(), asking_until = %s",
        datetime.now(UTC) + timedelta(minutes=1),
    )
    refused = asked(functions.api, unknown)
    assert (refused.status, refused.kind, refused.header("Retry-After")) == (409, "being-asked", "2")
    assert bank.questions == []
    functions.sql("UPDATE delivery SET asking_until = now() - interval '1 second'")  # whoever it was has stopped
    assert asked(functions.api, unknown).json["state"] == "delivered"


def test_a_call_that_stops_leaves_what_was_planned(
    functions: Functions, unknown: str, bank: AskedBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: Any, **__: Any) -> None:
        raise MemoryError

    planned = functions.delivery()["ask_at"]
    with monkeypatch.context() as patched:
        patched.setattr(ask, "send_now", stops)
        assert asked(functions.api, unknown).status == 500
    assert functions.delivery()["ask_at"] == planned
    assert functions.queue.take()  # its message, for the end of the lease
    functions.sql("UPDATE delivery SET asking_until = now()")
    assert asked(functions.api, unknown).json["state"] == "delivered"


def test_another_tenant_learns_nothing(functions: Functions, unknown: str, bank: AskedBank) -> None:
    known, made_up = (asked(functions.other_api, delivery) for delivery in (unknown, NOBODYS_ID))
    assert (known.status, made_up.status) == (404, 404)
    assert bank.questions == []

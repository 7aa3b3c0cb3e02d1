"""Resolve, cancel, retry and reschedule deliveries."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db import control, deliveries
from domain.deliveries import State
from domain.errors import QueueUnavailable
from domain.ids import TenantId
from domain.wakeups import group_name
from handlers.operations import OPERATIONS
from tests.egress.servers import Line, Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions, Reply, attempt_batch
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import WakeupQueue, encode

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
    assert (failed.status, failed.json["state"], failed.json["possible"]) == (409, "failed", ["retry", "expunge"])
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
    assert (refused.json["state"], refused.json["possible"]) == ("failed", ["retry", "expunge", "resolve"])
    assert resolve(api, first, "failed").json["state"] == "failed"
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["state"] == "delivered"


# Cancel, retry, reschedule


def act(api: Api, delivery: str, name: str) -> Reply:
    return api.call("POST", f"/v1/deliveries/{delivery}/{name}")


def move(api: Api, delivery: str, not_before: object) -> Reply:
    return api.call("PATCH", f"/v1/deliveries/{delivery}", json={"not_before": not_before})


# Every call that decides about a delivery, with what it takes.
DECISIONS: dict[str, Any] = {
    "resolve": {"as": "failed"},
    **dict.fromkeys(("ask", "cancel", "retry", "expunge")),
    "not_before": {"not_before": None},
}


def decide(api: Api, delivery: str, name: str) -> Reply:
    method, below = ("PATCH", "") if name == "not_before" else ("POST", f"/{name}")
    return api.call(method, f"/v1/deliveries/{delivery}{below}", json=DECISIONS[name])


def test_the_calls_that_decide_about_a_delivery_are_these() -> None:
    below = "/v1/deliveries/{delivery_id}"
    operations = [operation for listed in OPERATIONS.values() for operation in listed if operation.method != "GET"]
    found = {operation.template for operation in operations if operation.template.startswith(below)}
    assert found == {below, *(f"{below}/{name}" for name in DECISIONS if name != "not_before")}


def bring(functions: Functions, delivery: str, *, state: State, payload: str | None) -> None:
    """Into a state, whatever it was in before; without `payload` the delivery is stored whole."""
    functions.sql(
        "UPDATE delivery SET state = %s, payload = %s, finished_at = CASE WHEN %s THEN now() END, "
        "lease_id = CASE WHEN %s THEN gen_random_uuid() END, leased_until = CASE WHEN %s THEN now() END, "
        "resolution = NULL, resolved_by = NULL, resolved_at = NULL WHERE delivery_id = %s",
        *(state.value, payload, state.finished, state is State.SENDING, state is State.SENDING, delivery),
    )


@pytest.mark.parametrize("state", list(State))
def test_a_refusal_names_the_calls_that_the_state_takes_and_no_other(
    functions: Functions, api: Api, state: State
) -> None:
    api.destination("https://bank.example")
    deliveries = [api.create_delivery(**fields).json["delivery_id"] for fields in ({}, {"ordering_key": "account"})]
    for delivery, payload in product(deliveries, (None, "expired", "expunged") if state.finished else (None,)):
        replies = {}
        for name in DECISIONS:
            bring(functions, delivery, state=state, payload=payload)
            replies[name] = decide(api, delivery, name)
        refused = [reply for reply in replies.values() if reply.status == 409 and reply.kind == "wrong-state"]
        (possible,) = {tuple(reply.json["possible"]) for reply in refused}
        taken = {name for name, reply in replies.items() if reply.status == 200 or reply.kind == "no-question"}
        repeated = {"cancel": state is State.CANCELED, "expunge": payload == "expunged"}
        assert sorted(possible) == sorted(name for name in taken if not repeated.get(name))


def at_once(monkeypatch: pytest.MonkeyPatch, *, before: Callable[[], object], behind: Callable[[], object]) -> None:
    """Lets others do something right before the change, and before the delivery is read again behind it."""
    change, find, steps = control.change, deliveries.find, [before, behind]

    def beset(*arguments: Any, **keywords: Any) -> object:
        steps.pop(0)()
        return change(*arguments, **keywords)

    def found(*arguments: Any, **keywords: Any) -> object:
        if len(steps) == 1:
            steps.pop()()
        return find(*arguments, **keywords)

    monkeypatch.setattr(control, "change", beset)
    monkeypatch.setattr(deliveries, "find", found)


@pytest.mark.parametrize(
    ("name", "state"),
    [("resolve", State.UNKNOWN), ("retry", State.FAILED), ("cancel", State.PENDING), ("not_before", State.PENDING)],
)
def test_what_a_state_refused_names_that_state_though_it_is_another_one_before_and_behind(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch, name: str, state: State
) -> None:
    api.destination("https://bank.example")
    delivery = api.create_delivery().json["delivery_id"]
    bring(functions, delivery, state=state, payload=None)
    at_once(
        monkeypatch,
        before=lambda: bring(functions, delivery, state=State.SENDING, payload=None),
        behind=lambda: bring(functions, delivery, state=state, payload=None),
    )
    refused = decide(api, delivery, name)
    assert (refused.status, refused.kind) == (409, "wrong-state")
    assert (refused.json["state"], refused.json["possible"]) == ("sending", [])
    assert acts(functions) == []


@pytest.mark.parametrize(
    ("payload", "kind"), [("expired", "payload-gone"), ("expunged", "payload-gone"), (None, "destination-deleted")]
)
def test_what_is_gone_by_the_time_of_the_change_is_named(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch, payload: str | None, kind: str
) -> None:
    api.destination("https://bank.example")
    delivery = api.create_delivery().json["delivery_id"]
    bring(functions, delivery, state=State.FAILED, payload=None)

    def goes() -> None:
        if payload is None:
            assert api.call("DELETE", "/v1/destinations/partner").status in (200, 204)
        bring(functions, delivery, state=State.FAILED, payload=payload)

    at_once(monkeypatch, before=goes, behind=lambda: bring(functions, delivery, state=State.FAILED, payload=None))
    refused = decide(api, delivery, "retry")
    assert (refused.status, refused.kind) == (409, kind)
    assert refused.json.get("payload") == payload


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_a_canceled_delivery_is_never_sent(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    canceled = act(api, delivery, "cancel")
    assert (canceled.status, canceled.json["state"], canceled.json["next_attempt_at"]) == (200, "canceled", None)
    assert canceled.json["finished_at"] is not None
    look(functions)
    assert act(api, delivery, "cancel").json == canceled.json
    assert acts(functions) == [("delivery.canceled", delivery)]
    for refused in (act(api, delivery, "retry"), move(api, delivery, None), resolve(api, delivery, "again")):
        assert (refused.status, refused.json["state"], refused.json["possible"]) == (409, "canceled", ["expunge"])
        assert refused.json["detail"] == "the delivery is canceled; possible is expunge"
    look(functions)
    assert server.requests == []


def test_a_failed_delivery_is_retried_under_its_key(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers_in_turn(400, 404, 201))
    api.destination(server.url(), retry={"schedule": [0], "give_up_after": 1})
    delivery = api.create_delivery().json["delivery_id"]
    look(functions)
    for number, state in ((2, "failed"), (3, "delivered")):
        retried = act(api, delivery, "retry")
        assert (retried.status, retried.json["state"], retried.json["attempts_allowed"]) == (200, "pending", number)
        assert (retried.json["finished_at"], retried.json["waiting_for"]) == (None, "retry")
        look(functions)
        shown = api.get(f"/v1/deliveries/{delivery}").json
        assert (shown["state"], shown["attempts_made"]) == (state, number)
    assert {key_of(request) for request in server.requests} == {delivery}
    assert act(api, delivery, "retry").json["state"] == "delivered"
    assert acts(functions) == [("delivery.retried", delivery)] * 2


def test_a_pending_delivery_does_not_wait_for_its_time(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers_in_turn(503, 200))
    api.destination(server.url())
    for fields, allowed in (({}, 10), ({"not_before": in_seconds(3600)}, 10)):
        delivery = api.create_delivery(**fields).json["delivery_id"]
        functions.work()
        functions.queue.take()
        retried = act(api, delivery, "retry").json
        assert (retried["state"], retried["attempts_allowed"]) == ("pending", allowed)
        assert datetime.fromisoformat(retried["next_attempt_at"]) <= datetime.now(UTC)
        functions.work()  # only what is due
        assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "delivered"


def test_a_retry_has_a_message_before_its_row_is_changed_and_one_for_its_time(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    look(functions)
    retried = act(api, delivery, "retry").json
    first, second = functions.queue.wakeups()
    due_at = datetime.fromisoformat(retried["next_attempt_at"])
    assert (first.due_at - due_at, second.due_at) == (timedelta(seconds=45), due_at)
    assert {first.group, second.group} == {group_name(TenantId(UUID((api.authorizer or {})["tenant_id"])), "partner")}


def test_a_queue_that_fails_leaves_the_delivery_as_it_was(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    look(functions)

    def fails(*_: object, **__: object) -> None:
        raise QueueUnavailable("away", retry_after_seconds=5)

    monkeypatch.setattr(WakeupQueue, "send", fails)
    assert act(api, delivery, "retry").status == 503
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "failed"
    assert acts(functions) == []


def test_without_a_second_message_a_retry_waits_for_its_first(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    look(functions)
    monkeypatch.setattr(WakeupQueue, "send_some", lambda _, wakeups, **__: frozenset(range(len(wakeups))))
    assert act(api, delivery, "retry").json["state"] == "pending"
    assert "the delivery waits for its first message" in functions.log.getvalue()
    assert len(functions.queue.wakeups()) == 1
    look(functions)
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "delivered"


def test_of_two_who_decide_the_same_at_once_one_has_done_it(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination("https://bank.example")
    delivery = api.create_delivery().json["delivery_id"]
    change, others = control.change, [lambda: act(api, delivery, "cancel")]

    def second(*arguments: Any, **keywords: Any) -> object:
        if others:
            assert others.pop()().status == 200
        return change(*arguments, **keywords)

    monkeypatch.setattr(control, "change", second)
    assert act(api, delivery, "cancel").json["state"] == "canceled"
    assert acts(functions) == [("delivery.canceled", delivery)]


def test_a_pending_delivery_is_moved(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    delivery = api.create_delivery().json["delivery_id"]
    later = in_seconds(86_400)
    moved = move(api, delivery, later)
    assert (moved.status, moved.json["next_attempt_at"], moved.json["waiting_for"]) == (200, later, "not_before")
    assert move(api, delivery, later).json == moved.json
    assert acts(functions) == [("delivery.rescheduled", delivery)]
    look(functions)
    assert server.requests == []
    assert move(api, delivery, None).json["state"] == "pending"
    functions.work()
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "delivered"


def test_a_limit_for_giving_up_moves_with_the_delivery(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url(), retry={"give_up_after": 60})
    delivery = api.create_delivery().json["delivery_id"]
    move(api, delivery, in_seconds(86_400))
    with psycopg.connect(functions.database.admin_url) as connection:
        (left,) = connection.execute("SELECT give_up_at - due_at FROM delivery").fetchone() or ()
    assert left == timedelta(seconds=60)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"not_before": 5},
        {"not_before": "tomorrow"},
        {"not_before": "2026-01-01T00:00:00"},
        {"not_before": "2026-01-01T00:00:00Z"},
        {"not_before": "2999-01-01T00:00:00Z"},
        {"not_before": None, "state": "canceled"},
    ],
)
def test_a_delivery_is_moved_to_a_time_of_the_next_30_days(functions: Functions, api: Api, body: object) -> None:
    refused = api.call("PATCH", f"/v1/deliveries/{NOBODYS_ID}", json=body)
    assert (refused.status, refused.kind) == (422, "invalid-request")


@pytest.mark.parametrize("name", ["cancel", "retry", "PATCH"])
def test_what_is_being_sent_is_left_alone_and_strangers_learn_nothing(
    functions: Functions, api: Api, partner: StartPartner, name: str
) -> None:
    def call(caller: Api, delivery: str) -> Reply:
        return move(caller, delivery, None) if name == "PATCH" else act(caller, delivery, name)

    met: list[Reply] = []

    def script(line: Line) -> None:
        line.read_request()
        met.append(call(api, delivery))
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    api.destination(partner(script).url())
    delivery = api.create_delivery().json["delivery_id"]
    nobody = call(functions.other_api, NOBODYS_ID)
    assert (nobody.status, nobody.body) == (404, call(functions.other_api, delivery).body)
    assert call(api, "x").body == nobody.body
    assert call(functions.api_with("read", "manage"), delivery).kind == "forbidden"
    look(functions)
    assert [(reply.status, reply.json["state"], reply.json["possible"]) for reply in met] == [(409, "sending", [])]
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "delivered"


def test_a_canceled_delivery_lets_those_behind_it_go(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    first = api.create_delivery(ordering_key="account", not_before=in_seconds(3600)).json["delivery_id"]
    behind = api.create_delivery(ordering_key="account").json["delivery_id"]
    look(functions)
    assert api.get(f"/v1/deliveries/{behind}").json["waiting_for"] == "ordering"
    functions.queue.take()
    act(api, first, "cancel")
    functions.work()
    assert api.get(f"/v1/deliveries/{behind}").json["state"] == "delivered"


def test_what_others_have_skipped_goes_behind_them_when_it_is_retried(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(400, 200))
    api.destination(server.url(), ordering={"after_failure": "skip"})
    first = api.create_delivery(ordering_key="account").json["delivery_id"]
    look(functions)
    second = api.create_delivery(ordering_key="account", not_before=in_seconds(3600)).json["delivery_id"]
    act(api, first, "retry")
    look(functions)
    assert api.get(f"/v1/deliveries/{first}").json["waiting_for"] == "ordering"
    act(api, second, "cancel")
    look(functions)
    assert api.get(f"/v1/deliveries/{first}").json["state"] == "delivered"


def test_of_a_deleted_destination_nothing_is_retried(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(400)).url())
    delivery = api.create_delivery().json["delivery_id"]
    look(functions)
    api.call("DELETE", "/v1/destinations/partner")
    assert act(api, delivery, "retry").kind == "destination-deleted"

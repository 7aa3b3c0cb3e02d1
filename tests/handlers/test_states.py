"""Pause, resume, disable, enable and delete destinations: what becomes of the deliveries."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db import deliveries, destinations
from domain.errors import DatabaseUnavailable, QueueUnavailable
from flows import destination_states, wake_waiting
from flows.destinations import RETRY_AFTER_SECONDS
from handlers import wiring
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions, Reply, attempt_batch
from tests.support.partners import answers, answers_in_turn
from wakeups.sqs import WakeupQueue, encode

type StartPartner = Callable[[Script], Partner]

PATH = "/v1/destinations/partner"
TRANSITIONS = ("pause", "resume", "disable", "enable")
# By state, what may be done and the state after it.
ALLOWED = {
    "active": {"pause": "paused", "resume": "active", "disable": "disabled", "enable": "active"},
    "paused": {"pause": "paused", "resume": "active", "disable": "disabled"},
    "disabled": {"disable": "disabled", "enable": "active"},
}
INTO: dict[str, list[str]] = {"active": [], "paused": ["pause"], "disabled": ["disable"]}


def move(api: Api, transition: str, *, reason: str | None = None) -> Reply:
    return api.call("POST", f"{PATH}/{transition}", json=None if reason is None else {"reason": reason})


def acts(functions: Functions) -> list[str]:
    """What was done after the destination was created."""
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    return [line["what"] for line in lines if line["message"] == "act"][1:]


def look(functions: Functions) -> None:
    """The worker with all messages, whether they are due or not."""
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_transition_leads_on_or_says_what_would(functions: Functions, api: Api, state: str, transition: str) -> None:
    api.destination("https://bank.example")
    for step in INTO[state]:
        assert move(api, step, reason="first").status == 200
    before, noted = api.get(PATH).json, acts(functions)

    answer = move(api, transition, reason="second")

    after = ALLOWED[state].get(transition)
    if after is None:
        assert (answer.status, answer.kind) == (409, "wrong-state")
        possible = [name for name, leads_to in ALLOWED[state].items() if leads_to != state]
        assert (answer.json["state"], answer.json["possible"]) == (state, possible)
        assert state in answer.json["detail"]
        assert all(name in answer.json["detail"] for name in possible)
    elif after == state:
        assert (answer.status, answer.json) == (200, before)
    else:
        assert (answer.status, answer.json["state"], answer.json["state_reason"]) == (200, after, "second")
        assert answer.json["state_changed_by"] == (api.authorizer or {})["token_id"]
        assert answer.json["version"] == before["version"] + 1
        assert answer.header("ETag") == f'"{answer.json["version"]}"'
        past = {"pause": "paused", "resume": "resumed", "disable": "disabled", "enable": "enabled"}
        assert acts(functions) == [*noted, f"destination.{past[transition]}"]
        return
    assert api.get(PATH).json == before
    assert acts(functions) == noted


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_reason_is_a_line_of_text_or_is_left_out(functions: Functions, api: Api, transition: str) -> None:
    api.destination("https://bank.example")
    for reason in ("", "a\nb", "\0", "x" * 501, 5):
        refused = api.post(f"{PATH}/{transition}", {"reason": reason})
        assert (refused.status, refused.faults) == (422, ["/reason"])
    assert api.post(f"{PATH}/{transition}", {"why": "x"}).faults == [""]
    assert api.call("POST", f"{PATH}/{transition}", body=b"x").kind == "malformed-request"
    assert acts(functions) == []
    assert api.post(f"{PATH}/{transition}", {"reason": None}).status == 200
    assert api.post(f"{PATH}/{transition}", {"reason": "x" * 500}).status == 200


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_destination_is_ones_own_and_a_token_that_manages_is_needed(
    functions: Functions, api: Api, transition: str
) -> None:
    made = api.destination("https://bank.example")
    assert functions.other_api.call("POST", f"/v1/destinations/{made['destination_id']}/{transition}").status == 404
    assert api.call("POST", f"/v1/destinations/nobody/{transition}").kind == "not-found"
    assert functions.api_with("read", "send").call("POST", f"{PATH}/{transition}").kind == "forbidden"
    assert api.call("POST", f"{PATH}/explode").status == 404
    assert api.call("GET", f"{PATH}/{transition}").kind == "method-not-allowed"


# Paused


def test_a_paused_destination_accepts_and_sends_nothing_and_burns_no_attempt(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    move(api, "pause", reason="their cut-off")
    accepted = api.create_delivery()
    assert (accepted.status, accepted.json["waiting_for"]) == (202, "destination_paused")
    for _ in range(3):
        look(functions)
    assert server.requests == []
    shown = api.get(f"/v1/deliveries/{accepted.json['delivery_id']}").json
    assert (shown["state"], shown["attempts_made"], shown["waiting_for"]) == ("pending", 0, "destination_paused")
    assert shown["next_attempt_at"] is not None
    assert functions.attempts() == []
    assert len(functions.queue.wakeups()) == 1  # and it keeps its message


def test_when_it_is_resumed_what_waits_goes_on_in_order(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    move(api, "pause")
    for number in range(5):
        api.create_delivery(path=f"/orders/{number}")
        look(functions)
    functions.queue.take()
    assert move(api, "resume").json["state"] == "active"
    wakeups = functions.queue.take()
    assert len({wakeup.delivery_id for wakeup in wakeups}) == 5
    assert [wakeup.delivery_id for wakeup in wakeups] == sorted(wakeup.delivery_id for wakeup in wakeups)
    assert max(wakeup.due_at for wakeup in wakeups) <= datetime.now(UTC) + timedelta(seconds=3)
    for wakeup in wakeups:
        attempt_batch([encode(replace(wakeup, due_at=datetime.now(UTC)))])
    assert [request.split(b" ")[1] for request in server.requests] == [b"/orders/%d" % n for n in range(5)]


def test_a_retry_waits_too_and_keeps_its_count(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers_in_turn(503, 200))
    api.destination(server.url())
    made = api.create_delivery().json
    functions.work()
    assert api.get(f"/v1/deliveries/{made['delivery_id']}").json["waiting_for"] == "retry"
    move(api, "pause")
    functions.work_early()
    assert len(server.requests) == 1
    move(api, "resume")
    look(functions)
    shown = api.get(f"/v1/deliveries/{made['delivery_id']}").json
    assert (shown["state"], shown["attempts_made"], shown["waiting_for"]) == ("delivered", 2, None)


def test_what_is_not_due_yet_is_left_to_its_own_message(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert api.create_delivery(not_before=later).json["waiting_for"] == "not_before"
    move(api, "pause")
    functions.queue.take()
    move(api, "resume")
    assert functions.queue.take() == []


def test_who_waits_for_a_paused_destination_is_told_so_at_once(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that must not be slept by: whoever waits fails."""
    server = partner(answers(200))
    api.destination(server.url())
    move(api, "pause", reason="their cut-off")

    def asleep(_seconds: float) -> None:
        raise AssertionError("somebody waits")

    services = replace(wiring.api(), sleep=asleep)
    with monkeypatch.context() as changed:
        changed.setattr(wiring, "api", lambda: services)
        for wait in ("1", "25"):
            waited = api.create_delivery(("Prefer", f"wait={wait}"))
            assert (waited.status, waited.json["waiting_for"]) == (202, "destination_paused")
        passed = api.call("POST", "/v1/via/partner/orders", body=b"{}")
        assert (passed.status, passed.kind, passed.json["reason"]) == (503, "destination-paused", "their cut-off")
        assert passed.header("Retry-After") == "60"
    assert (
        len(functions.sql("SELECT delivery_id FROM delivery")) == 2
    )  # the call that was passed through is not recorded
    later = api.call("POST", "/v1/via/partner/orders", body=b"{}", headers=[("Prefer", "respond-async")])
    assert (later.status, later.json["waiting_for"]) == (202, "destination_paused")
    assert server.requests == []


def test_what_is_being_sent_when_it_is_paused_ends_as_it_ends(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    paused: list[Reply] = []

    def pauses(line: Any) -> None:
        line.read_request()
        paused.append(move(api, "pause"))
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    api.destination(partner(pauses).url())
    made = api.create_delivery().json
    functions.work()
    assert paused[0].json["state"] == "paused"
    assert api.get(f"/v1/deliveries/{made['delivery_id']}").json["state"] == "delivered"


# Disabled


def test_a_disabled_destination_refuses_new_deliveries_and_says_why(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    before = api.create_delivery(("Idempotency-Key", "order-1"))
    move(api, "disable", reason="they are insolvent")
    refused = [
        api.create_delivery(),
        api.create_delivery(("Prefer", "wait=5")),
        api.call("POST", "/v1/via/partner/orders", body=b"{}"),
        api.call("POST", "/v1/via/partner/orders", body=b"{}", headers=[("Prefer", "respond-async")]),
    ]
    for answer in refused:
        assert (answer.status, answer.kind) == (409, "destination-disabled")
        assert answer.json["reason"] == "they are insolvent"
    look(functions)
    assert server.requests == []
    shown = api.get(f"/v1/deliveries/{before.json['delivery_id']}").json
    assert (shown["state"], shown["waiting_for"]) == ("pending", "destination_disabled")
    # What was accepted before is found by its key.
    again = api.create_delivery(("Idempotency-Key", "order-1"))
    assert (again.status, again.json["delivery_id"]) == (202, before.json["delivery_id"])
    assert again.header("Idempotency-Replayed") == "true"
    move(api, "enable")
    look(functions)
    assert len(server.requests) == 1
    assert api.create_delivery().status == 202


def test_a_partners_410_disables_its_destination(functions: Functions, api: Api, partner: StartPartner) -> None:
    made = api.destination(partner(answers(410)).url())
    gone = api.create_delivery().json
    waits = api.create_delivery(not_before=(datetime.now(UTC) + timedelta(hours=1)).isoformat()).json
    functions.work()
    shown = api.get(PATH).json
    assert (shown["state"], shown["version"]) == ("disabled", 2)
    assert shown["state_reason"] == "the partner answered with status 410"
    assert shown["state_changed_by"] == "partner answered 410"
    assert api.get(f"/v1/deliveries/{gone['delivery_id']}").json["state"] == "failed"
    assert api.get(f"/v1/deliveries/{waits['delivery_id']}").json["waiting_for"] == "destination_disabled"
    assert api.create_delivery().json["reason"] == "the partner answered with status 410"
    (act,) = [line for line in map(json.loads, functions.log.getvalue().splitlines()) if line["message"] == "act"][1:]
    assert (act["what"], act["on"], act["by"]) == (
        "destination.disabled",
        made["destination_id"],
        "partner answered 410",
    )
    assert "source_address" not in act


def test_a_410_to_a_waiting_caller_disables_and_one_to_a_call_that_is_passed_through_does_not(
    api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(410)).url())
    assert api.call("GET", "/v1/via/partner/orders/7").status == 410
    assert api.get(PATH).json["state"] == "active"
    assert api.create_delivery(("Prefer", "wait=5")).json["state"] == "failed"
    assert api.get(PATH).json["state"] == "disabled"


def test_a_410_from_before_it_was_enabled_again_changes_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    """The partner answers while the destination is disabled and enabled: its answer is older than that."""

    def slow(line: Any) -> None:
        line.read_request()
        move(api, "disable")
        move(api, "enable")
        line.send(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")

    api.destination(partner(slow).url())
    api.create_delivery()
    functions.work()
    assert functions.delivery()["state"] == "failed"
    assert (api.get(PATH).json["state"], acts(functions)) == (
        "active",
        ["destination.disabled", "destination.enabled"],
    )


def test_of_two_410_in_one_batch_the_first_disables(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(410)).url())
    for _ in range(3):
        api.create_delivery()
    functions.work()
    assert api.get(PATH).json["version"] == 2
    assert acts(functions) == ["destination.disabled"]


# Waking


def test_very_many_that_wait_are_woken_page_by_page(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_waiting, "PAGE", 20)
    pages: list[int] = []
    read = deliveries.waiting

    def waiting(*arguments: Any, **keywords: Any) -> Any:
        page = read(*arguments, **keywords)
        pages.append(len(page))
        return page

    monkeypatch.setattr(deliveries, "waiting", waiting)
    api.destination("https://bank.example")
    api.create_delivery()
    move(api, "pause")
    copies(functions, 104)
    functions.queue.take()
    move(api, "resume")
    woken = [wakeup.delivery_id for wakeup in functions.queue.take()]
    assert len(woken) == len(set(woken)) == 105
    assert pages == [20] * 5 + [5] + [0]  # the last one after the change


def copies(functions: Functions, count: int) -> None:
    """So many deliveries more like the only one."""
    functions.sql(
        "INSERT INTO delivery (delivery_id, tenant_id, destination_id, created_at, attempts_allowed, idempotency_key,"
        " fingerprint, method, path, query, headers, metadata, due_at, attempts_made, state)"
        " SELECT md5(n::text)::uuid, tenant_id, destination_id, created_at, attempts_allowed, n::text, fingerprint,"
        " method, path, query, headers, metadata, due_at, 0, 'pending' FROM delivery, generate_series(1, %s) AS n",
        count,
    )


def test_what_is_accepted_while_it_is_resumed_is_woken_too(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination("https://bank.example")
    move(api, "pause")
    first = api.create_delivery().json["delivery_id"]
    functions.queue.take()
    late: list[str] = []
    store = destinations.change

    def stored(*arguments: Any, **keywords: Any) -> bool:
        late.append(api.create_delivery().json["delivery_id"])
        functions.queue.take()
        return store(*arguments, **keywords)

    monkeypatch.setattr(destinations, "change", stored)
    before: list[str] = []
    send = WakeupQueue.send

    def sent(queue: WakeupQueue, wakeups: Any, *, now: datetime) -> None:
        before.extend(str(wakeup.delivery_id) for wakeup in wakeups)
        send(queue, wakeups, now=now)

    monkeypatch.setattr(WakeupQueue, "send", sent)
    move(api, "resume")
    assert before == [first, *late, *late]  # the first, before the change; the late one's own, and again after it


def test_a_call_whose_time_ends_leaves_the_rest_to_their_own_messages(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by a second at each look ends both rounds early. Called again, it wakes what is left."""
    monkeypatch.setattr(wake_waiting, "PAGE", 20)
    api.destination("https://bank.example")
    api.create_delivery()
    move(api, "pause")
    copies(functions, 299)
    functions.queue.take()
    moments = iter(datetime.now(UTC) + timedelta(seconds=number) for number in range(10_000))
    services = replace(wiring.api(), clock=lambda: next(moments))
    with monkeypatch.context() as changed:
        changed.setattr(wiring, "api", lambda: services)
        assert move(api, "resume").json["state"] == "active"
    woken = {wakeup.delivery_id for wakeup in functions.queue.take()}
    assert 10 < len(woken) < 300


def test_without_the_queue_nothing_is_resumed(functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.destination("https://bank.example")
    move(api, "pause")
    api.create_delivery()

    def fails(*_: Any, **__: Any) -> None:
        raise QueueUnavailable("SQS is away", retry_after_seconds=5)

    with monkeypatch.context() as without:
        without.setattr(WakeupQueue, "send", fails)
        refused = move(api, "resume")
    assert (refused.status, api.get(PATH).json["state"]) == (503, "paused")
    assert acts(functions) == ["destination.paused"]


def test_to_resume_again_wakes_again(functions: Functions, api: Api) -> None:
    """For a caller whose first call ended before all were woken."""
    api.destination("https://bank.example")
    api.create_delivery()
    functions.queue.take()
    assert move(api, "resume").status == 200
    assert len(functions.queue.take()) == 1


def test_looks_in_vain_grow_rare(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    move(api, "pause")
    api.create_delivery()
    functions.sql("UPDATE delivery SET due_at = due_at - interval '1 hour'")
    look(functions)
    (wakeup,) = functions.queue.wakeups()
    (waited_since,) = functions.sql("SELECT due_at FROM delivery")[0].values()
    assert wakeup.due_at - datetime.now(UTC) > timedelta(minutes=50)
    assert wakeup.due_at - waited_since < timedelta(hours=3)


# Delete


def test_a_deleted_destination_is_gone_and_its_name_is_free(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    deleted = api.call("DELETE", PATH)
    assert (deleted.status, deleted.json) == (
        200,
        {"destination_id": made["destination_id"], "canceled": 0, "unfinished": 0},
    )
    by_id = f"/v1/destinations/{made['destination_id']}"
    for path in (PATH, by_id):
        assert api.get(path).kind == "not-found"
        assert api.call("PATCH", path, json={}).kind == "not-found"
        assert api.call("DELETE", path).kind == "not-found"
        assert api.call("POST", f"{path}/enable").kind == "not-found"
    for reference in ("partner", made["destination_id"]):
        assert api.create_delivery(destination=reference).kind == "not-found"
        assert api.call("GET", f"/v1/via/{reference}/x").kind == "not-found"
    assert api.get("/v1/destinations").json["destinations"] == []
    again = api.destination("https://bank.example")
    assert again["destination_id"] != made["destination_id"]
    assert acts(functions) == ["destination.deleted", "destination.created"]


def test_the_history_of_a_deleted_destination_can_be_read(api: Api, partner: StartPartner) -> None:
    made = api.destination(partner(answers(200)).url())
    delivered = api.create_delivery(("Prefer", "wait=5")).json
    assert api.call("DELETE", PATH).status == 200
    other = api.destination("https://bank.example")
    shown = api.get(f"/v1/deliveries/{delivered['delivery_id']}").json
    assert (shown["destination"], shown["destination_id"]) == ("partner", made["destination_id"])
    by_id = api.get(f"/v1/deliveries?destination={made['destination_id']}").json["deliveries"]
    assert [delivery["delivery_id"] for delivery in by_id] == [delivered["delivery_id"]]
    assert by_id[0]["destination"] == "partner"
    assert api.get("/v1/deliveries?destination=partner").json["deliveries"] == []  # that is the new one
    assert api.get(f"/v1/deliveries?destination={other['destination_id']}").json["deliveries"] == []


def test_with_unfinished_deliveries_it_is_refused_with_their_number(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    for _ in range(3):
        api.create_delivery()
    refused = api.call("DELETE", PATH)
    assert (refused.status, refused.kind, refused.json["unfinished"]) == (409, "deliveries-unfinished", 3)
    assert "?pending=cancel" in refused.json["detail"]
    assert api.get(PATH).json == made
    assert {row["state"] for row in functions.sql("SELECT state FROM delivery")} == {"pending"}


@pytest.mark.parametrize(("count", "said"), [(1, "1 delivery to it is"), (2, "2 deliveries to it are")])
def test_their_number_is_said_as_people_would(functions: Functions, api: Api, count: int, said: str) -> None:
    api.destination("https://bank.example")
    for _ in range(count):
        api.create_delivery()
    refused = api.call("DELETE", PATH)
    assert refused.json["detail"] == f"{said} unfinished; ?pending=cancel cancels those that are pending"


def test_pending_deliveries_are_canceled_where_the_caller_asks_for_it(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    for _ in range(3):
        api.create_delivery()
    deleted = api.call("DELETE", f"{PATH}?pending=cancel")
    assert (deleted.json["canceled"], deleted.json["unfinished"]) == (3, 0)
    look(functions)
    assert (server.requests, functions.queue.take()) == ([], [])
    shown = api.get("/v1/deliveries?state=canceled").json["deliveries"]
    assert len(shown) == 3
    assert {delivery["waiting_for"] for delivery in shown} == {None}
    assert None not in {delivery["finished_at"] for delivery in shown}


def test_what_is_being_sent_ends_as_it_ends_and_is_not_repeated(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    deleted: list[Reply] = []

    def deletes(line: Any) -> None:
        line.read_request()
        deleted.append(api.call("DELETE", f"{PATH}?pending=cancel"))
        line.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    api.destination(partner(deletes).url())
    made = api.create_delivery().json
    functions.work()
    assert (deleted[0].json["canceled"], deleted[0].json["unfinished"]) == (0, 1)
    shown = api.get(f"/v1/deliveries/{made['delivery_id']}").json
    assert (shown["state"], len(shown["attempts"])) == ("pending", 1)
    functions.work_early()  # in this minute the deletion could be taken back
    assert functions.delivery()["state"] == "pending"
    functions.sql("UPDATE destination SET deleted_at = deleted_at - interval '1 minute'")
    look(functions)
    assert functions.delivery()["state"] == "canceled"
    look(functions)
    assert functions.queue.take() == []


def out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination_states, "CANCEL_SECONDS", 0.0)


def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> int:
        raise DatabaseUnavailable("away", retry_after_seconds=5)

    monkeypatch.setattr(deliveries, "cancel_waiting", fails)


@pytest.mark.parametrize("hindered", [out_of_time, out_of_reach])
def test_what_could_not_be_canceled_at_once_is_canceled_when_it_would_be_due(
    functions: Functions,
    api: Api,
    partner: StartPartner,
    monkeypatch: pytest.MonkeyPatch,
    hindered: Callable[[pytest.MonkeyPatch], None],
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    api.create_delivery()
    hindered(monkeypatch)
    deleted = api.call("DELETE", f"{PATH}?pending=cancel").json
    assert (deleted["canceled"], deleted["unfinished"]) == (0, 1)
    functions.sql("UPDATE destination SET deleted_at = deleted_at - interval '1 minute'")
    look(functions)
    assert (functions.delivery()["state"], server.requests) == ("canceled", [])


def test_very_many_are_canceled_page_by_page(functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination_states, "CANCEL_PAGE", 2)
    api.destination("https://bank.example")
    for _ in range(5):
        api.create_delivery()
    deleted = api.call("DELETE", f"{PATH}?pending=cancel").json
    assert (deleted["canceled"], deleted["unfinished"]) == (5, 0)


def test_of_two_who_change_a_destination_at_once_the_second_begins_again(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination("https://bank.example")
    store = destinations.change
    others = [lambda: api.call("PATCH", PATH, json={"idempotent": True})]

    def stored(*arguments: Any, **keywords: Any) -> bool:
        if others:
            assert others.pop()().status == 200
        return store(*arguments, **keywords)

    monkeypatch.setattr(destinations, "change", stored)
    moved = move(api, "pause")
    assert (moved.status, moved.json["state"], moved.json["idempotent"]) == (200, "paused", True)
    assert (moved.json["version"], acts(functions)) == (3, ["destination.changed", "destination.paused"])


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ("change", lambda api: move(api, "pause")),
        ("change", lambda api: api.call("PATCH", PATH, json={"idempotent": True})),
        ("delete", lambda api: api.call("DELETE", PATH)),
    ],
    ids=["paused", "changed", "deleted"],
)
def test_who_never_wins_is_asked_to_come_back(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch, statement: str, call: Callable[[Api], Reply]
) -> None:
    before = api.destination("https://bank.example")
    monkeypatch.setattr(destinations, statement, lambda *_, **__: False)
    refused = call(api)
    assert (refused.status, refused.header("Retry-After")) == (503, str(RETRY_AFTER_SECONDS))
    assert "is being changed by others" in refused.json["detail"]
    assert (api.get(PATH).json, acts(functions)) == (before, [])


def test_when_the_queue_fails_after_it_was_resumed_what_is_left_has_its_own_message(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination("https://bank.example")
    move(api, "pause")
    api.create_delivery()
    store = destinations.change

    def stored(*arguments: Any, **keywords: Any) -> bool:
        api.create_delivery()
        monkeypatch.setattr(WakeupQueue, "send", fails)
        return store(*arguments, **keywords)

    def fails(*_: Any, **__: Any) -> None:
        raise QueueUnavailable("SQS is away", retry_after_seconds=5)

    monkeypatch.setattr(destinations, "change", stored)
    assert move(api, "resume").json["state"] == "active"
    assert "deliveries wait for their own messages" in functions.log.getvalue()
    assert len({wakeup.delivery_id for wakeup in functions.queue.take()}) == 2


def test_when_the_queue_fails_after_its_limits_were_changed_what_waits_has_its_own_message(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise QueueUnavailable("SQS is away", retry_after_seconds=5)

    api.destination("https://bank.example")
    api.create_delivery()
    monkeypatch.setattr(WakeupQueue, "send", fails)
    assert api.call("PATCH", PATH, json={"limits": {"concurrency": 3}}).status == 200
    assert "deliveries wait for their own messages" in functions.log.getvalue()
    assert len(functions.queue.take()) == 1


def test_a_delivery_that_is_accepted_at_the_same_moment_is_not_lost(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion does not see it, nor does it see the deletion: that is taken back."""
    made = api.destination("https://bank.example")
    move(api, "pause", reason="x")
    before = api.get(PATH).json
    unfinished = deliveries.unfinished

    def late(*arguments: Any) -> int:
        """The first look after the deletion."""
        monkeypatch.setattr(deliveries, "unfinished", unfinished)
        functions.sql(
            "INSERT INTO delivery (delivery_id, tenant_id, destination_id, created_at, attempts_allowed,"
            " idempotency_key, fingerprint, method, path, query, headers, metadata, due_at, attempts_made, state)"
            " SELECT destination_id, tenant_id, destination_id, created_at, 1, 'k', sha256(''), 'GET', '', '', '[]',"
            " '{}', created_at, 0, 'pending' FROM destination"
        )
        return unfinished(*arguments)

    monkeypatch.setattr(deliveries, "unfinished", late)
    refused = api.call("DELETE", PATH)
    assert (refused.kind, refused.json["unfinished"]) == ("deliveries-unfinished", 1)
    after = api.get(PATH).json
    assert after == before | {"version": after["version"]}
    assert (after["destination_id"], acts(functions)) == (
        made["destination_id"],
        ["destination.paused", "destination.deleted", "destination.restored"],
    )


def test_where_the_name_is_taken_by_then_it_is_canceled(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same moment; and before the deletion is taken back another destination gets the name."""
    first = api.destination("https://bank.example")
    unfinished = deliveries.unfinished

    def late(*arguments: Any) -> int:
        """The first look after the deletion."""
        monkeypatch.setattr(deliveries, "unfinished", unfinished)
        functions.sql(
            "INSERT INTO delivery (delivery_id, tenant_id, destination_id, created_at, attempts_allowed,"
            " idempotency_key, fingerprint, method, path, query, headers, metadata, due_at, attempts_made, state)"
            " SELECT destination_id, tenant_id, destination_id, created_at, 1, 'k', sha256(''), 'GET', '', '', '[]',"
            " '{}', created_at, 0, 'pending' FROM destination"
        )
        api.destination("https://other.example")
        return unfinished(*arguments)

    monkeypatch.setattr(deliveries, "unfinished", late)
    deleted = api.call("DELETE", PATH).json
    assert (deleted["canceled"], deleted["unfinished"]) == (1, 0)
    assert api.get(PATH).json["destination_id"] != first["destination_id"]
    assert functions.sql("SELECT state FROM delivery") == [{"state": "canceled"}]
    assert "a name was taken before its deletion was taken back" in functions.log.getvalue()


def test_a_version_is_deleted_and_no_other(api: Api) -> None:
    api.destination("https://bank.example")
    refused = api.call("DELETE", PATH, headers=[("If-Match", '"2"')])
    assert (refused.status, refused.json["version"]) == (412, 1)
    assert api.call("DELETE", PATH, headers=[("If-Match", '"1"')]).status == 200


@pytest.mark.parametrize("query", ["pending=", "pending=yes", "pending=cancel&pending=cancel", "cancel=pending"])
def test_an_unknown_wish_deletes_nothing(api: Api, query: str) -> None:
    made = api.destination("https://bank.example")
    refused = api.call("DELETE", f"{PATH}?{query}")
    assert (refused.status, refused.kind) == (422, "invalid-request")
    assert api.get(PATH).json == made


def test_anothers_destination_is_not_deleted(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    by_id = f"/v1/destinations/{made['destination_id']}"
    assert functions.other_api.call("DELETE", f"{by_id}?pending=cancel").kind == "not-found"
    assert functions.api_with("read", "send").call("DELETE", by_id).kind == "forbidden"
    assert api.call("DELETE", f"/v1/destinations/{NOBODYS_ID}").kind == "not-found"
    assert api.call("DELETE", by_id, body=b"{}").kind == "malformed-request"
    assert api.get(PATH).json == made

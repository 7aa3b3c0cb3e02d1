"""Expunge a delivery: its payload is deleted, and its record stays."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from db import attempts
from domain.deliveries import Attempt, AttemptKind, Record, State, StoredResponse
from domain.ids import AttemptId, DeliveryId, LeaseId
from domain.outcomes import OutcomeKind, Timings
from flows import control
from flows.seal_attempts import seal_attempts
from handlers import admin, wiring
from sallyport_audit.__main__ import verify
from tests.egress.servers import Line, Partner, Script
from tests.support.api import NOBODYS_ID, Api, Context, Functions, Reply, attempt_batch
from tests.support.partners import answers, takes_and_closes
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]

SECRET = "4111-1111-1111-1111"
REQUEST = {
    "path": "/orders",
    "query": f"card={SECRET}",
    "headers": {"X-Card": SECRET},
    "body": {"card": SECRET},
    "metadata": {"card": SECRET, "order": "4711"},
}
ANSWER = json.dumps({"card": SECRET}).encode()


def expunge(api: Api, delivery: str) -> Reply:
    return api.call("POST", f"/v1/deliveries/{delivery}/expunge")


def look(functions: Functions) -> None:
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


def ended(functions: Functions, api: Api, partner: StartPartner, script: Script) -> tuple[Partner, str]:
    """A delivery whose only attempt met `script`, and the partner."""
    server = partner(script)
    api.destination(server.url(), retry={"schedule": [0]})
    delivery = str(api.create_delivery(**REQUEST).json["delivery_id"])
    look(functions)
    return server, delivery


def holders(functions: Functions, text: str) -> set[str]:
    """The tables that have `text` in any column, be it in bytes."""
    tables = functions.sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    rows = {
        table: " ".join(row["whole"] for row in functions.sql(f"SELECT listed::text AS whole FROM {table} AS listed"))  # noqa: S608 - our own tables' names
        for table in (row["relname"] for row in tables)
    }
    return {table for table, whole in rows.items() if text in whole or text.encode().hex() in whole}


def terms(functions: Functions) -> int:
    return int(functions.sql("SELECT count(*) AS count FROM delivery_term")[0]["count"])


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (answers(200, ANSWER, f"X-Card: {SECRET}"), "delivered"),
        (answers(400, body=ANSWER), "failed"),
        (takes_and_closes, "unknown"),
    ],
)
def test_the_payload_goes_and_the_record_stays(
    functions: Functions, api: Api, partner: StartPartner, script: Script, state: str
) -> None:
    _, delivery = ended(functions, api, partner, script)
    before = api.get(f"/v1/deliveries/{delivery}").json
    assert {"delivery", "delivery_body"} <= holders(functions, SECRET)
    assert api.get("/v1/deliveries?metadata[order]=4711").json["deliveries"]

    answer = expunge(api, delivery)
    assert (answer.status, answer.json["payload"], answer.json["state"]) == (200, "expunged", state)
    assert holders(functions, SECRET) == set()
    after = api.get(f"/v1/deliveries/{delivery}").json
    gone = {"query": "", "headers": {}, "metadata": {}, "payload": "expunged"}
    assert {name: value for name, value in after.items() if name not in ("attempts", "response")} == {
        **{name: value for name, value in before.items() if name not in ("attempts", "response")},
        **gone,
    }
    for was, now in zip(before["attempts"], after["attempts"], strict=True):
        assert now == {**was, "response": now["response"]}
        if now["response"] is not None:
            assert now["response"] == {
                **was["response"],
                "headers": {"Sallyport-Note": "deleted: the delivery was expunged"},
                "body": "",
                "truncated": True,
            }
    assert api.get("/v1/deliveries?metadata[order]=4711").json["deliveries"] == []
    left = {"failed": 1, "unknown": 2, "delivered": 0}[state]  # of outcome and status, and nothing of its metadata
    assert terms(functions) in (left, 2)


def test_the_seals_over_its_attempts_stay_verifiable(functions: Functions, api: Api, partner: StartPartner) -> None:
    _, delivery = ended(functions, api, partner, answers(200, ANSWER, f"X-Card: {SECRET}"))
    api.create_delivery()
    look(functions)

    def exported() -> list[bytes]:
        entries = api.get("/v1/audit?what=attempts.sealed").json["entries"]
        targets = ["/v1/audit/export", *(f"/v1/audit/attempts?seal={entry['on']}" for entry in entries)]
        return [line for target in targets for line in api.get(target).body.splitlines(keepends=True)]

    seal_attempts(services=wiring.attempt())
    before = [line for line in exported() if line.startswith(b'{"attempt"')]
    expunge(api, delivery)
    assert "2 of 2 attempts of 1 intervals" in verify(exported(), complete=True)
    assert [line for line in exported() if line.startswith(b'{"attempt"')] == before
    other = api.create_delivery(body="x").json["delivery_id"]
    look(functions)
    expunge(api, other)  # before it is sealed
    seal_attempts(services=wiring.attempt())
    assert "3 of 3 attempts of 2 intervals" in verify(exported(), complete=True)


def test_to_expunge_twice_changes_nothing_and_one_entry_says_who_did_it(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    _, delivery = ended(functions, api, partner, answers(200))
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda _: expunge(api, delivery), range(3)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert {reply.body for reply in replies} == {expunge(api, delivery).body}
    (entry,) = api.get(f"/v1/audit?on={delivery}").json["entries"]
    assert (entry["what"], entry["by"]) == ("delivery.expunged", (api.authorizer or {})["token_id"])
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["message"] == "act" and line["what"] == "delivery.expunged"]
    assert line["audit_sequence"] == entry["sequence"]


def test_what_has_not_ended_is_not_expunged_and_strangers_learn_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    met: list[Reply] = []

    def script(line: Line) -> None:
        line.read_request()
        met.append(expunge(api, delivery))
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    api.destination(partner(script).url())
    delivery = str(api.create_delivery(**REQUEST).json["delivery_id"])
    pending = expunge(api, delivery)
    assert (pending.status, pending.kind, pending.json["state"]) == (409, "wrong-state", "pending")
    assert pending.json["possible"] == ["cancel", "retry", "not_before"]
    nobody = expunge(functions.other_api, NOBODYS_ID)
    assert (nobody.status, nobody.body) == (404, expunge(functions.other_api, delivery).body)
    assert expunge(api, "x").body == nobody.body
    assert expunge(functions.api_with("read", "send"), delivery).kind == "forbidden"
    look(functions)
    assert [(reply.status, reply.json["state"], reply.json["possible"]) for reply in met] == [(409, "sending", [])]
    assert expunge(functions.other_api, delivery).body == nobody.body
    assert api.get(f"/v1/deliveries/{delivery}").json["payload"] == "whole"
    assert api.get(f"/v1/audit?on={delivery}").json["entries"] == []


@pytest.mark.parametrize("script", [answers(400), takes_and_closes, answers(200)])
def test_what_was_expunged_is_never_sent_again(
    functions: Functions, api: Api, partner: StartPartner, script: Script
) -> None:
    server, delivery = ended(functions, api, partner, script)
    state = expunge(api, delivery).json["state"]
    refused: Reply | None = None
    if state == "failed":
        refused = api.call("POST", f"/v1/deliveries/{delivery}/retry")
    if state == "unknown":
        refused = api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "again"})
    if refused is not None:
        assert (refused.status, refused.kind, refused.json["payload"]) == (409, "payload-gone", "expunged")
    replay = {"state": state, "since": "2026-01-01T00:00:00Z"}
    assert api.post("/v1/replays", {**replay, "dry_run": True}).json["count"] == 0
    job = api.post("/v1/replays", replay).json["job_id"]
    look(functions)
    assert {name: api.get(f"/v1/jobs/{job}").json[name] for name in ("state", "changed")} == {
        "state": "done",
        "changed": 0,
    }
    look(functions)
    assert len(server.requests) == 1
    if state == "unknown":
        assert api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "failed"}).json["state"] == "failed"


def test_what_is_expunged_between_the_look_and_the_decision_is_not_sent_either(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, delivery = ended(functions, api, partner, takes_and_closes)

    def meanwhile(*_: object, **__: object) -> None:
        expunge(api, delivery)

    monkeypatch.setattr("flows.control._refusal_of", meanwhile)
    refused = api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "again"})
    assert (refused.status, refused.kind) == (409, "payload-gone")
    look(functions)
    assert len(server.requests) == 1


def test_one_that_ends_its_waiting_between_look_and_act_is_refused(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = ended(functions, api, partner, takes_and_closes)

    def resolves(*_: object, **__: object) -> None:
        api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "again"})

    monkeypatch.setattr("flows.expunge.need_approval", resolves)
    refused = expunge(api, delivery)
    assert (refused.status, refused.kind, refused.json["state"]) == (409, "wrong-state", "pending")


def test_one_that_is_deleted_between_look_and_act_is_not_found(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = ended(functions, api, partner, answers(200))
    monkeypatch.setattr(
        "flows.expunge.need_approval", lambda *_, **__: functions.sql("DELETE FROM delivery RETURNING delivery_id")
    )
    assert expunge(api, delivery).kind == "not-found"


def test_expunging_waits_for_another_token_where_the_tenant_wants_that(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    _, delivery = ended(functions, api, partner, answers(200, body=ANSWER))
    admin.handler({"action": "set_approvals", "tenant": "acme", "above": 100}, Context())
    proposed = expunge(api, delivery)
    assert (proposed.status, proposed.json["act"]) == (202, "delivery.expunge")
    assert api.get(f"/v1/deliveries/{delivery}").json["payload"] == "whole"
    second = replace(api, authorizer={**(api.authorizer or {}), "token_id": str(UUID(int=7))})
    approved = second.call("POST", f"/v1/proposals/{proposed.json['proposal_id']}/approve").json
    assert (approved["status"], approved["answer"]["payload"]) == (200, "expunged")
    assert holders(functions, SECRET) == set()
    assert expunge(api, delivery).status == 200  # nothing is left that would need an approval


def late(delivery: str, state: State) -> Record:
    """The answer to the first attempt, which somebody recorded as unknown meanwhile."""
    return Record(
        attempt=Attempt(
            attempt_id=AttemptId(UUID(int=1)),
            delivery_id=DeliveryId(UUID(delivery)),
            number=1,
            outcome=OutcomeKind.ANSWERED,
            reason=None,
            started_at=datetime.now(UTC),
            timings=Timings(total_ms=1.0),
            remote_address=None,
            egress_address=None,
            response=StoredResponse(
                status=200,
                headers=(("X-Card", SECRET),),
                body=ANSWER,
                length_bytes=23,
                sha256=b"s" * 32,
                truncated=False,
            ),
        ),
        lease_id=LeaseId(UUID(int=2)),
        next_state=state,
        due_at=None,
    )


@pytest.mark.parametrize("resolution", [None, "failed"])
def test_what_comes_late_of_it_is_noted_without_its_payload(
    functions: Functions, api: Api, partner: StartPartner, resolution: str | None
) -> None:
    """Be it that it changes the state of the delivery, or that it is only logged."""
    _, delivery = ended(functions, api, partner, takes_and_closes)
    if resolution is not None:
        api.post(f"/v1/deliveries/{delivery}/resolve", {"as": resolution})
    expunge(api, delivery)
    attempts.record(wiring.attempt().database, [late(delivery, State.DELIVERED)], now=datetime.now(UTC))
    shown: dict[str, Any] = api.get(f"/v1/deliveries/{delivery}").json
    assert (shown["state"], shown["payload"]) == (resolution or "delivered", "expunged")
    (attempt,) = shown["attempts"]
    assert (attempt["outcome"], attempt["response"]["status"], attempt["response"]["body"]) == ("answered", 200, "")
    assert (attempt["response"]["length_bytes"], attempt["response"]["truncated"]) == (23, True)
    assert holders(functions, SECRET) == set()
    (facts,) = functions.sql("SELECT headers_sha256 FROM attempt")
    (wanted,) = functions.sql(f"""SELECT sha256(convert_to('[["X-Card", "{SECRET}"]]'::jsonb::text, 'UTF8')) AS hash""")
    assert bytes(facts["headers_sha256"]) == bytes(wanted["hash"])


def test_where_a_partner_has_nothing_of_it_it_ends_as_failed(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    """Another delivery would be sent again."""
    _, delivery = ended(functions, api, partner, takes_and_closes)
    expunge(api, delivery)
    functions.sql("UPDATE delivery SET asking_id = delivery_id, asking_until = now() RETURNING delivery_id")
    absent = late(delivery, State.PENDING)
    question = replace(absent.attempt, number=2, kind=AttemptKind.RECONCILE)
    record = replace(absent, attempt=question, lease_id=LeaseId(UUID(delivery)), due_at=datetime.now(UTC), sends=1)
    attempts.record(wiring.attempt().database, [record], now=datetime.now(UTC))
    shown = api.get(f"/v1/deliveries/{delivery}").json
    assert {name: shown[name] for name in ("state", "resolution", "resolved_by")} == {
        "state": "failed",
        "resolution": "failed",
        "resolved_by": "reconcile",
    }
    assert shown["finished_at"] is not None
    assert holders(functions, SECRET) == set()


def test_a_repeat_under_its_key_still_finds_it(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200, body=ANSWER))
    api.destination(server.url())
    key = [("Idempotency-Key", "order-1")]
    first = api.call("POST", "/v1/via/partner/orders", body=b"x", headers=key)
    expunge(api, str(first.header("Sallyport-Delivery-Id")))
    again = api.call("POST", "/v1/via/partner/orders", body=b"x", headers=key)
    assert (again.status, again.kind) == (409, "response-not-stored")
    assert len(server.requests) == 1


def test_three_who_send_it_again_at_once_lead_to_one_attempt(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one looks before the first one acts, and acts when that attempt has ended as unknown too."""
    server = partner(takes_and_closes)
    api.destination(server.url())
    delivery = str(api.create_delivery().json["delivery_id"])
    look(functions)
    again = {"as": "again"}
    inner: list[Reply] = []

    def meanwhile(*_: object, **__: object) -> None:
        monkeypatch.setattr("flows.control.need_approval", lambda *_, **__: None)
        inner.append(api.post(f"/v1/deliveries/{delivery}/resolve", again))
        look(functions)

    monkeypatch.setattr("flows.control.need_approval", meanwhile)
    outer = api.post(f"/v1/deliveries/{delivery}/resolve", again)
    assert [reply.status for reply in (outer, *inner)] == [200, 200]
    assert (outer.json["state"], outer.json["attempts_made"]) == ("unknown", 2)
    look(functions)
    assert len(server.requests) == 2
    # Whoever says which attempt it is about may repeat the call whenever.
    stale = api.post(f"/v1/deliveries/{delivery}/resolve", {**again, "attempts_made": 1})
    assert (stale.status, stale.json["attempts_made"]) == (200, 2)
    about = api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "failed", "attempts_made": 1})
    assert (about.status, about.kind, about.json["state"]) == (409, "wrong-state", "unknown")
    look(functions)
    assert len(server.requests) == 2


def test_of_two_who_retry_at_once_one_leads_to_an_attempt(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers(400))
    api.destination(server.url())
    delivery = str(api.create_delivery().json["delivery_id"])
    look(functions)

    def retry() -> Reply:
        return api.call("POST", f"/v1/deliveries/{delivery}/retry")

    wakeups = control._wakeups

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr("flows.control._wakeups", wakeups)
        retry()
        look(functions)
        return wakeups(*args, **kwargs)

    monkeypatch.setattr("flows.control._wakeups", meanwhile)
    second = retry()
    assert (second.status, second.json["state"], second.json["attempts_made"]) == (200, "failed", 2)
    look(functions)
    assert len(server.requests) == 2

"""A partner's answer that comes after somebody has decided otherwise is an entry of the audit log."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from db import attempts
from domain.deliveries import Attempt, Record, State, StoredResponse
from domain.ids import AttemptId, DeliveryId, LeaseId
from domain.outcomes import OutcomeKind, Timings
from handlers import wiring
from sallyport_audit.__main__ import verify
from tests.egress.servers import Partner, Script
from tests.support.api import Api, Functions
from tests.support.partners import takes_and_closes

type StartPartner = Callable[[Script], Partner]

STATES = {2: State.DELIVERED, 4: State.FAILED, 5: State.UNKNOWN}


def late(delivery: str, status: int | None, *, number: int = 1) -> Record:
    """What became of an attempt that was recorded as unknown meanwhile; None where it was not sent after all."""
    response = None
    if status is not None:
        response = StoredResponse(
            status=status, headers=(), body=b"{}", length_bytes=2, sha256=b"s" * 32, truncated=False
        )
    return Record(
        attempt=Attempt(
            attempt_id=AttemptId(UUID(int=number)),
            delivery_id=DeliveryId(UUID(delivery)),
            number=number,
            outcome=OutcomeKind.UNREACHABLE if status is None else OutcomeKind.ANSWERED,
            reason="no connection" if status is None else None,
            started_at=datetime.now(UTC),
            timings=Timings(total_ms=1.0),
            remote_address=None,
            egress_address=None,
            response=response,
        ),
        lease_id=LeaseId(UUID(int=2)),
        next_state=State.FAILED if status is None else STATES[status // 100],
        due_at=None,
    )


def arrives(record: Record) -> None:
    attempts.record(wiring.attempt().database, [record], now=datetime.now(UTC))


def contradictions(api: Api) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = api.get("/v1/audit?what=delivery.contradicted").json["entries"]
    return entries


@pytest.fixture
def unknown(functions: Functions, api: Api, partner: StartPartner) -> str:
    api.destination(partner(takes_and_closes).url())
    delivery = str(api.create_delivery().json["delivery_id"])
    functions.work()
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "unknown"
    return delivery


def resolve(api: Api, delivery: str, decision: str) -> None:
    assert api.post(f"/v1/deliveries/{delivery}/resolve", {"as": decision}).status == 200


@pytest.mark.parametrize(
    ("decision", "status", "outcome"),
    [("failed", 201, "answered"), ("delivered", 404, "answered"), ("delivered", None, "unreachable")],
)
def test_an_answer_that_contradicts_a_decision_is_noted_and_changes_nothing_else(
    api: Api, unknown: str, decision: str, status: int | None, outcome: str
) -> None:
    resolve(api, unknown, decision)
    before = api.get(f"/v1/deliveries/{unknown}").json
    for _ in range(2):
        arrives(late(unknown, status))
    (entry,) = contradictions(api)
    assert (entry["on"], entry["by"]) == (unknown, "an answer that came late")
    assert entry["details"] == {
        "attempt": 1,
        "outcome": outcome,
        "resolution": decision,
        "resolved_by": before["resolved_by"],
        "status": status,
    }
    shown = api.get(f"/v1/deliveries/{unknown}").json
    assert (shown["state"], shown["resolution"]) == (decision, decision)
    assert shown["attempts"][0]["outcome"] == outcome
    assert verify(api.get("/v1/audit/export").body.splitlines(keepends=True), checkpoints=[])


@pytest.mark.parametrize(
    ("decision", "status"), [("failed", 404), ("failed", 500), ("delivered", 201), ("delivered", 500)]
)
def test_an_answer_that_agrees_with_a_decision_or_leaves_it_open_is_not(
    api: Api, unknown: str, decision: str, status: int
) -> None:
    resolve(api, unknown, decision)
    arrives(late(unknown, status))
    assert contradictions(api) == []


def test_what_nobody_has_decided_cannot_be_contradicted(api: Api, unknown: str) -> None:
    arrives(late(unknown, 201))
    assert api.get(f"/v1/deliveries/{unknown}").json["state"] == "delivered"
    assert contradictions(api) == []


def test_one_attempt_of_two_that_did_nothing_says_nothing_about_the_other(
    functions: Functions, api: Api, unknown: str
) -> None:
    resolve(api, unknown, "again")
    functions.work_early()
    resolve(api, unknown, "delivered")
    arrives(late(unknown, 404))
    assert contradictions(api) == []
    second = late(unknown, 404, number=2)
    arrives(replace(second, lease_id=LeaseId(UUID(int=3))))
    assert [entry["details"]["attempt"] for entry in contradictions(api)] == [2]

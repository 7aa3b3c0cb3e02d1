"""Four eyes: acts that wait for the approval of another token."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from domain.errors import DatabaseUnavailable
from handlers import admin
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Context, Functions, Reply, attempt_batch
from tests.support.partners import answers, takes_and_closes
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]

SINCE = "2026-01-01T00:00:00Z"
PATCH = {"auth": {"type": "bearer", "token": "a-new-secret-token"}}


def want_approvals(above: int | None = 1) -> None:
    admin.handler({"action": "set_approvals", "tenant": "acme", "above": above}, Context())


@pytest.fixture
def second(api: Api) -> Api:
    """Another token of the same tenant."""
    return replace(api, authorizer={**(api.authorizer or {}), "token_id": str(UUID(int=7))})


def look(functions: Functions) -> None:
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


def unknown(functions: Functions, api: Api, partner: StartPartner) -> str:
    api.destination(partner(takes_and_closes).url())
    delivery = str(api.create_delivery().json["delivery_id"])
    look(functions)
    return delivery


def resolve(api: Api, delivery: str) -> Reply:
    return api.post(f"/v1/deliveries/{delivery}/resolve", {"as": "failed", "note": "asked them"})


def decide(api: Api, proposal: str, decision: str = "approve") -> Reply:
    return api.call("POST", f"/v1/proposals/{proposal}/{decision}")


def acts(functions: Functions) -> list[tuple[str, str, dict[str, Any]]]:
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    done = [line for line in lines if line["message"] == "act" and line["what"].startswith(("proposal.", "delivery."))]
    return [(line["what"], line["by"], line["details"]) for line in done]


def test_a_resolution_waits_for_another_token(
    functions: Functions, api: Api, second: Api, partner: StartPartner
) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    proposed = resolve(api, delivery)
    proposal = proposed.json
    assert (proposed.status, proposal["state"], proposal["act"]) == (202, "open", "delivery.resolve")
    assert proposed.header("Location") == f"/dev/v1/proposals/{proposal['proposal_id']}"
    assert proposal["target"] == f"/v1/deliveries/{delivery}/resolve"
    assert proposal["request"] == {"as": "failed", "note": "asked them"}
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "unknown"

    own = decide(api, proposal["proposal_id"])
    assert (own.status, own.kind) == (409, "same-token")
    assert decide(functions.api_with("read", "send"), proposal["proposal_id"]).kind == "forbidden"

    approved = decide(second, proposal["proposal_id"])
    assert (approved.status, approved.json["status"]) == (200, 200)
    assert approved.json["proposal"]["state"] == "done"
    assert approved.json["proposal"]["decided_by"] == str(UUID(int=7))
    shown = api.get(f"/v1/deliveries/{delivery}").json
    assert {name: approved.json["answer"][name] for name in ("state", "note")} == {
        "state": "failed",
        "note": "asked them",
    }
    assert (shown["state"], shown["resolved_by"]) == ("failed", f"approval:{proposal['proposal_id']}")
    token = (api.authorizer or {})["token_id"]
    said = {"act": "delivery.resolve", "target": proposal["target"]}
    assert acts(functions) == [
        ("proposal.created", token, said),
        ("proposal.approved", str(UUID(int=7)), said),
        ("delivery.resolved", token, {"as": "failed", "approval": proposal["proposal_id"]}),
    ]
    for caller in (second, replace(api, authorizer={**(api.authorizer or {}), "token_id": str(UUID(int=8))})):
        again = decide(caller, proposal["proposal_id"])
        assert (again.status, again.kind, again.json["state"]) == (409, "wrong-state", "done")
    assert stored_call(functions) is None


def stored_call(functions: Functions) -> Any:
    with psycopg.connect(functions.database.admin_url) as connection:
        (sealed,) = connection.execute("SELECT sealed_request FROM proposal").fetchone() or (None,)
    return sealed


def test_a_replay_of_more_than_the_tenant_said_waits(
    functions: Functions, api: Api, second: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(400)).url())
    for _ in range(2):
        api.create_delivery()
    look(functions)
    want_approvals(2)
    replay = {"state": "failed", "since": SINCE}
    assert api.post("/v1/replays", {**replay, "dry_run": True}).status == 200
    small = api.post("/v1/replays", replay)
    assert (small.status, small.json["expected"]) == (201, 2)
    api.call("POST", f"/v1/jobs/{small.json['job_id']}/cancel")

    want_approvals(1)
    proposed = api.post("/v1/replays", replay)
    assert (proposed.status, proposed.json["act"]) == (202, "replay.create")
    api.create_delivery()
    look(functions)  # another failure, which was not proposed
    approved = decide(second, proposed.json["proposal_id"]).json
    job = approved["answer"]
    assert (approved["status"], job["created_by"]) == (201, f"approval:{proposed.json['proposal_id']}")
    assert (job["expected"], len(api.get("/v1/jobs").json["jobs"])) == (2, 2)
    for _ in range(2):
        api.create_delivery()
    assert api.post("/v1/cancellations", {"since": SINCE}).json["act"] == "cancel.create"


def test_changed_credentials_wait_and_are_not_shown(
    functions: Functions, api: Api, second: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200)).url())
    want_approvals()
    assert api.call("PATCH", "/v1/destinations/partner", json={"idempotent": True}).status == 200
    proposed = api.call("PATCH", "/v1/destinations/partner", json=PATCH)
    assert (proposed.status, proposed.json["request"]) == (202, {"members": ["auth"]})
    assert b"a-new-secret-token" not in bytes(stored_call(functions))
    assert "a-new-secret-token" not in functions.log.getvalue()
    assert api.get("/v1/destinations/partner").json["auth"]["type"] == "none"
    for member in ({"base_url": "https://other.example"}, {"signing": [{"type": "standard_webhooks"}]}):
        assert api.call("PATCH", "/v1/destinations/partner", json=member).status == 202
    rotated = api.post("/v1/destinations/partner/rotate-secret", {})
    assert rotated.kind == "invalid-request"  # what is not possible is refused, and not proposed
    approved = decide(second, proposed.json["proposal_id"]).json
    assert (approved["status"], approved["answer"]["auth"]["type"]) == (200, "bearer")


def test_an_act_that_is_not_possible_any_more_when_it_is_approved_fails(
    functions: Functions, api: Api, second: Api, partner: StartPartner
) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    first, other = resolve(api, delivery).json["proposal_id"], resolve(api, delivery).json["proposal_id"]
    assert decide(second, first).json["status"] == 200
    late = decide(second, other).json
    assert (late["status"], late["proposal"]["state"]) == (409, "failed")
    assert late["answer"]["type"] == "urn:sallyport:problem:wrong-state"
    refused = resolve(api, delivery)
    assert (refused.status, refused.kind) == (409, "wrong-state")  # nothing is proposed that cannot be done


def test_a_proposal_is_rejected_by_anybody_and_expires(
    functions: Functions, api: Api, second: Api, partner: StartPartner
) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    proposals = [resolve(api, delivery).json["proposal_id"] for _ in range(3)]
    for caller, proposal in zip((api, second), proposals[:2], strict=True):
        assert decide(caller, proposal, "reject").json["state"] == "rejected"
        assert decide(caller, proposal, "reject").json["state"] == "rejected"
        assert decide(second, proposal).json["state"] == "rejected"
    with psycopg.connect(functions.database.admin_url) as connection:
        connection.execute("UPDATE proposal SET expires_at = created_at")
    late = decide(second, proposals[2])
    assert (late.status, late.json["state"], late.json["possible"]) == (409, "expired", [])
    assert decide(api, proposals[2], "reject").json["state"] == "expired"
    assert api.get(f"/v1/proposals/{proposals[2]}").json["state"] == "expired"
    assert api.get(f"/v1/deliveries/{delivery}").json["state"] == "unknown"


def test_what_could_not_be_carried_out_is_approved_once_more_by_the_same_token(
    functions: Functions, api: Api, second: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    proposal = resolve(api, delivery).json["proposal_id"]
    with monkeypatch.context() as patched:

        def fails(*_: object, **__: object) -> None:
            raise DatabaseUnavailable("away", retry_after_seconds=5)

        patched.setattr("flows.control.table.change", fails)
        assert decide(second, proposal).status == 503
    third = replace(api, authorizer={**(api.authorizer or {}), "token_id": str(UUID(int=8))})
    refused = decide(third, proposal)
    assert (refused.status, refused.json["state"]) == (409, "approved")
    assert decide(second, proposal).json["proposal"]["state"] == "done"


def test_strangers_learn_nothing_of_proposals(functions: Functions, api: Api, partner: StartPartner) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    ids = [resolve(api, delivery).json["proposal_id"] for _ in range(3)]
    first = api.get("/v1/proposals?limit=2").json
    rest = api.get(f"/v1/proposals?limit=2&cursor={first['next_cursor']}").json
    assert [each["proposal_id"] for each in (*first["proposals"], *rest["proposals"])] == ids[::-1]
    stranger = functions.other_api
    assert stranger.get("/v1/proposals").json == {"proposals": [], "next_cursor": None}
    nobody = stranger.get(f"/v1/proposals/{NOBODYS_ID}")
    assert (nobody.status, nobody.body) == (404, stranger.get(f"/v1/proposals/{ids[0]}").body)
    for decision in ("approve", "reject"):
        assert decide(stranger, ids[0], decision).body == nobody.body
    assert resolve(stranger, delivery).status == 404
    assert api.get(f"/v1/proposals/{ids[0]}").json["state"] == "open"


def test_without_the_setting_nothing_waits_and_open_proposals_are_bounded(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = unknown(functions, api, partner)
    want_approvals()
    monkeypatch.setattr("db.proposals.MOST_OPEN", 1)
    assert resolve(api, delivery).status == 202
    refused = resolve(api, delivery)
    assert (refused.status, refused.kind) == (409, "too-many-proposals")
    want_approvals(None)
    assert resolve(api, delivery).status == 200

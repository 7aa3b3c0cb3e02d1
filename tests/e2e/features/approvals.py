"""What waits for another token's approval, and tokens that may do less than others."""

from typing import Any

import pytest

from local.demonstration import TENANT
from local.stack import Stack
from tests.e2e.conftest import Answer, Consumer
from tests.e2e.features.helpers import after_an_hour, change, created, ended, issued, kind_of

MOST_OPEN = 100
RESOLVED = {"as": "delivered", "note": "they said so"}


@pytest.fixture(scope="module")
def four_eyes(stack: Stack, user: Consumer) -> tuple[Consumer, Consumer]:
    """Two tokens of a tenant that wants approvals."""
    first, second = (issued(stack, user, "features-four-eyes") for _ in range(2))
    command: dict[str, Any] = {"action": "set_approvals", "tenant": "features-four-eyes", "above": 0}
    assert stack.functions["AdminFunction"].invoke(command)["above"] == 0
    return first, second


def acts(user: Consumer, name: str, unknown: str) -> list[Answer]:
    """Every act that waits, each of them possible."""
    since = {"since": after_an_hour(-1)}
    return [
        change(user, name, {"auth": {"type": "bearer", "token": "another-one"}}),
        user.call("POST", f"/v1/destinations/{name}/rotate-secret", body={}),
        user.call("POST", f"/v1/deliveries/{unknown}/resolve", body=RESOLVED),
        user.call("POST", "/v1/replays", body={"state": "failed", **since}),
        user.call("POST", "/v1/cancellations", body=since),
    ]


def decide(user: Consumer, proposed: Answer, decision: str) -> Answer:
    return user.call("POST", f"/v1/proposals/{proposed.json['proposal_id']}/{decision}")


def test_each_act_that_wants_four_eyes_waits_is_approved_rejected_or_fails(
    stack: Stack, four_eyes: tuple[Consumer, Consumer]
) -> None:
    first, second = four_eyes
    name = created(first, stack, "watched", guarantee="at_most_once", signing=[{"type": "standard_webhooks"}])
    unknown = ended(first, name, "/hang-up")
    ended(first, name, "/status/422")
    first.deliver(destination=name, path="/orders", not_before=after_an_hour())
    proposed = acts(first, name, unknown)
    assert [answer.status for answer in proposed] == [202] * len(proposed), proposed
    late = first.call("POST", f"/v1/deliveries/{unknown}/resolve", body=RESOLVED)
    own = decide(first, proposed[2], "approve")
    assert (own.status, kind_of(own)) == (409, "same-token")
    approved = decide(second, proposed[2], "approve").json
    assert (approved["status"], approved["proposal"]["state"]) == (200, "done")
    assert first.delivery(unknown)["state"] == "delivered"
    failed = decide(second, late, "approve").json
    assert (failed["status"], failed["proposal"]["state"]) == (409, "failed")
    for other in (*proposed[:2], *proposed[3:]):
        assert decide(first, other, "reject").json["state"] == "rejected"
    for decision in ("approve", "reject"):
        assert kind_of(decide(second, proposed[2], decision)) == "wrong-state"
    shown = first.call("GET", f"/v1/proposals/{late.json['proposal_id']}").json
    page = first.call("GET", "/v1/proposals?limit=1").json
    assert page["proposals"] == [shown]
    rest = first.call("GET", f"/v1/proposals?cursor={page['next_cursor']}").json["proposals"]
    assert len(rest) == len(proposed)


def test_a_tenant_has_a_hundred_open_proposals_and_no_more(stack: Stack, four_eyes: tuple[Consumer, Consumer]) -> None:
    first, _ = four_eyes
    name = created(first, stack, "watched-too", guarantee="at_most_once", signing=[{"type": "standard_webhooks"}])
    unknown = ended(first, name, "/hang-up")
    ended(first, name, "/status/422")
    first.deliver(destination=name, path="/orders", not_before=after_an_hour())
    for _ in range(MOST_OPEN):
        assert first.call("POST", f"/v1/deliveries/{unknown}/resolve", body=RESOLVED).status == 202
    refused = acts(first, name, unknown)
    assert [(each.status, kind_of(each)) for each in refused] == [(409, "too-many-proposals")] * len(refused)


def test_a_token_of_some_destinations_and_for_a_time_does_no_more(stack: Stack, user: Consumer) -> None:
    for name in ("features-mine", "features-theirs"):
        created(user, stack, name)
    bound = issued(stack, user, TENANT, destinations=["features-mine"], expires_at=after_an_hour())
    assert bound.deliver(destination="features-mine", path="/orders").status == 202
    for answer in (
        bound.deliver(destination="features-theirs", path="/orders"),
        bound.call("GET", "/v1/destinations/features-theirs"),
        bound.call("POST", "/v1/via/features-theirs/orders"),
    ):
        assert (answer.status, kind_of(answer)) == (404, "not-found")

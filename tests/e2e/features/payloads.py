"""What is not stored, or no longer: redaction, retention by destination, and deliveries that are expunged."""

import json

from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.e2e.features.approvals import decide
from tests.e2e.features.helpers import WAIT, after_an_hour, change, created, ended, issued, kind_of


def test_a_delivery_is_expunged_and_cannot_be_sent_again(stack: Stack, user: Consumer) -> None:
    failed = ended(user, created(user, stack, "payloads"), "/status/422")
    expunged = user.call("POST", f"/v1/deliveries/{failed}/expunge")
    assert (expunged.status, expunged.json["payload"]) == (200, "expunged")
    assert kind_of(user.call("POST", f"/v1/deliveries/{failed}/retry")) == "payload-gone"
    pending = user.deliver(destination="payloads", path="/orders", not_before=after_an_hour()).json["delivery_id"]
    assert kind_of(user.call("POST", f"/v1/deliveries/{pending}/expunge")) == "wrong-state"


def test_to_expunge_waits_for_another_token_where_the_tenant_wants_that(stack: Stack, user: Consumer) -> None:
    first, second = (issued(stack, user, "payloads-four-eyes") for _ in range(2))
    stack.functions["AdminFunction"].invoke({"action": "set_approvals", "tenant": "payloads-four-eyes", "above": 0})
    delivery_id = ended(first, created(first, stack, "payloads"), "/orders")
    proposed = first.call("POST", f"/v1/deliveries/{delivery_id}/expunge")
    assert proposed.status == 202, proposed.body
    assert decide(second, proposed, "approve").json["answer"]["payload"] == "expunged"


def test_what_a_destination_redacts_is_not_shown_once_the_delivery_has_ended(stack: Stack, user: Consumer) -> None:
    redact = {"headers": ["X-Card"], "pointers": ["/card", "/received/body"]}
    retention = {"bodies_days": 1, "responses_days": 2, "record_days": 3}
    name = created(user, stack, "payloads-redacted", redact=redact, retention=retention)
    sent = {"destination": name, "path": "/orders", "headers": {"X-Card": "4111"}, "body": {"card": "4111"}}
    answer = user.call("POST", "/v1/deliveries", body=sent, headers=WAIT)
    shown = user.delivery(answer.json["delivery_id"])
    assert (shown["state"], shown["payload"]) == ("delivered", "redacted")
    assert "4111" not in json.dumps(shown)
    assert change(user, name, {"redact": None, "retention": None}).json["redact"] is None
    assert change(user, name, {"redact": redact, "retention": retention}).json["retention"] == retention


def test_only_the_attempts_that_somebody_saw_are_resolved(stack: Stack, user: Consumer) -> None:
    unknown = ended(user, created(user, stack, "payloads-resolved", guarantee="at_most_once"), "/hang-up")
    for seen, status in ((0, 409), (1, 200)):
        answer = user.call("POST", f"/v1/deliveries/{unknown}/resolve", body={"as": "failed", "attempts_made": seen})
        assert answer.status == status, answer.body

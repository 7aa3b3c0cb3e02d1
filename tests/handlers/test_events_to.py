"""Which destination is told, as callers say it."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.events import EVENT_KEY_PREFIX
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from handlers import admin
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Context, Functions, attempt_batch, authorizer_context
from tests.support.partners import answers
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]

URL = "https://127.0.0.1:8443"


def test_it_is_named_or_given_by_its_id_and_shown_by_that(api: Api) -> None:
    hook = api.destination(URL, name="hook")["destination_id"]
    assert api.destination(URL, name="by-name", events_to="hook")["events_to"] == hook
    assert api.destination(URL, name="by-id", events_to=hook)["events_to"] == hook


def test_what_is_shown_may_be_sent_back_and_taken_away(api: Api) -> None:
    hook = api.destination(URL, name="hook")["destination_id"]
    shown = api.destination(URL, events_to="hook")
    assert api.call("PATCH", "/v1/destinations/partner", json={"events_to": hook}).json == shown
    assert api.call("PATCH", "/v1/destinations/partner", json={"idempotent": True}).json["events_to"] == hook
    assert api.call("PATCH", "/v1/destinations/partner", json={"events_to": None}).json["events_to"] is None
    assert api.call("PATCH", "/v1/destinations/partner", json={"events_to": "hook"}).json["events_to"] == hook


def test_one_that_was_deleted_stays_named_and_cannot_be_named_again(api: Api) -> None:
    hook = api.destination(URL, name="hook")["destination_id"]
    api.destination(URL, events_to="hook")
    assert api.call("DELETE", "/v1/destinations/hook").status == 200
    assert api.call("PATCH", "/v1/destinations/partner", json={"idempotent": True}).json["events_to"] == hook
    for gone in ("hook", hook):
        refused = api.post("/v1/destinations", {"name": "other", "base_url": URL, "events_to": gone})
        assert refused.faults == ["/events_to"]


@pytest.mark.parametrize("reference", ["nobody", NOBODYS_ID, "theirs", "", "Not a name", "x" * 64, 5])
def test_it_must_be_a_destination_of_the_tenant(functions: Functions, api: Api, reference: object) -> None:
    functions.other_api.destination(URL, name="theirs")
    api.destination(URL)
    new = {"name": "other", "base_url": URL, "events_to": reference}
    assert api.post("/v1/destinations", new).faults == ["/events_to"]
    assert api.call("PATCH", "/v1/destinations/partner", json={"events_to": reference}).faults == ["/events_to"]


def test_it_must_not_be_the_destination_itself(api: Api) -> None:
    own = api.destination(URL)["destination_id"]
    for reference in ("partner", own):
        assert api.call("PATCH", "/v1/destinations/partner", json={"events_to": reference}).faults == ["/events_to"]


def test_a_delivery_and_its_event_show_each_other(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(204)).url(), name="hook")
    api.destination(partner(answers(400)).url(), events_to="hook")
    delivery = api.create_delivery().json["delivery_id"]
    functions.work()
    ended = api.get(f"/v1/deliveries/{delivery}").json
    assert ended["event"] is None
    event = api.get(f"/v1/deliveries/{ended['event_id']}").json
    assert (event["event"], event["destination"], event["state"]) == ("delivery.failed", "hook", "pending")
    assert event["idempotency_key"].startswith(EVENT_KEY_PREFIX)
    functions.work_early()
    assert api.get(f"/v1/deliveries/{ended['event_id']}").json["state"] == "delivered"


def test_a_caller_that_waits_is_told_which_delivery_tells_of_its_end(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(204)).url(), name="hook")
    api.destination(partner(answers(201)).url(), events_to="hook")
    waited = api.create_delivery(("Prefer", "wait=25")).json
    assert waited["event_id"] == api.get(f"/v1/deliveries/{waited['delivery_id']}").json["event_id"]
    assert api.get(f"/v1/deliveries/{waited['event_id']}").json["event"] == "delivery.delivered"


def test_callers_cannot_take_the_key_of_an_event(api: Api) -> None:
    api.destination(URL)
    refused = api.create_delivery(("Idempotency-Key", f"{EVENT_KEY_PREFIX}1"))
    assert (refused.status, refused.kind) == (400, "malformed-request")


def test_a_restricted_token_names_only_its_own_destinations(functions: Functions, api: Api) -> None:
    for name in ("bank", "other"):
        api.destination(URL, name=name)
    issued = admin.handler({"action": "issue_token", "tenant": "acme", "destinations": ["bank"]}, Context())
    restricted = Api(authorizer=authorizer_context(issued["token"]))
    refused = restricted.call("PATCH", "/v1/destinations/bank", json={"events_to": "other"})
    assert (refused.status, refused.json["detail"]) == (404, "there is no such destination")


def test_what_a_job_cancels_is_told(functions: Functions, api: Api) -> None:
    """Each with a message before its row."""
    api.destination(URL, name="hook")
    api.destination(URL, events_to="hook")
    for _ in range(3):
        api.create_delivery()
    job = api.post("/v1/cancellations", {"since": "2020-01-01T00:00:00Z", "destination": "partner"}).json["job_id"]
    functions.queue.take()
    wakeup = Wakeup(delivery_id=DeliveryId(UUID(job)), due_at=datetime.now(UTC), group="job", of_job=True)
    attempt_batch([encode(wakeup)])
    told = functions.sql("SELECT delivery_id, event FROM delivery WHERE event IS NOT NULL")
    assert [row["event"] for row in told] == ["delivery.canceled"] * 3
    assert {row["delivery_id"] for row in told} <= {queued.delivery_id for queued in functions.queue.take()}

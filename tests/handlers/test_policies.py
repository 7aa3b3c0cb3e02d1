"""What a destination says of retries and of what callers may send."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.egress.servers import Partner, Script
from tests.support.api import Api, Functions
from tests.support.partners import answers, answers_in_turn, takes_and_closes

type StartPartner = Callable[[Script], Partner]

PATH = "/v1/destinations/partner"


# Retries


def test_a_destination_has_a_schedule_of_its_own(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(503))
    retry = {"schedule": [0, 10, 1000]}
    shown = api.destination(server.url(), retry=retry)["retry"]
    assert shown == {**retry, "statuses": {"add": [], "remove": []}, "give_up_after": None}
    made = api.create_delivery()
    assert made.json["attempts_allowed"] == 3
    for number, delay in ((1, 10), (2, 1000)):
        functions.work_early()
        row = functions.delivery()
        waits = row["due_at"] - functions.attempts()[-1]["started_at"]
        assert timedelta(seconds=0.8 * delay) <= waits <= timedelta(seconds=1.2 * delay + 60)
        assert (row["state"], row["attempts_made"]) == ("pending", number)
    functions.work_early()
    assert functions.delivery()["state"] == "failed"
    assert len(server.requests) == 3
    assert api.get(PATH).json["retry"] == shown


@pytest.mark.parametrize(
    ("status", "statuses", "state"),
    [
        (409, {"add": [409]}, "pending"),
        (409, {}, "failed"),
        (503, {"remove": [503]}, "failed"),
        (520, {}, "pending"),
        (520, {"remove": [500]}, "failed"),  # counts as 500
        (520, {"remove": [520]}, "failed"),
        (521, {"remove": [520]}, "pending"),
        (520, {"remove": [500], "add": [520]}, "pending"),
        (501, {"add": [501]}, "pending"),
        (301, {"add": [301]}, "pending"),
    ],
)
def test_which_statuses_are_tried_again_is_said_beside_the_usual_ones(
    functions: Functions, api: Api, partner: StartPartner, status: int, statuses: dict[str, Any], state: str
) -> None:
    api.destination(partner(answers(status)).url(), retry={"statuses": statuses})
    api.create_delivery()
    functions.work()
    assert functions.delivery()["state"] == state


def test_what_may_have_been_done_is_not_repeated_whatever_the_policy_adds(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(504))
    api.destination(server.url(), guarantee="at_most_once", retry={"statuses": {"add": [504]}})
    api.create_delivery()
    functions.work()
    assert functions.delivery()["state"] == "unknown"


def test_a_410_that_is_to_be_tried_again_disables_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(410)).url(), retry={"schedule": [0, 5], "statuses": {"add": [410]}})
    api.create_delivery()
    functions.work()
    assert (functions.delivery()["state"], api.get(PATH).json["state"]) == ("pending", "active")
    functions.work_early()
    assert (functions.delivery()["state"], api.get(PATH).json["state"]) == ("failed", "disabled")


def test_with_a_schedule_of_one_attempt_a_410_disables_too(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(410)).url(), retry={"schedule": [0]})
    assert api.create_delivery().json["attempts_allowed"] == 1
    functions.work()
    assert api.get(PATH).json["state"] == "disabled"


def test_it_gives_up_after_its_time(functions: Functions, api: Api, partner: StartPartner) -> None:
    """The second delay is 5 s, the third is longer than the limit: after the second attempt nothing is planned."""
    server = partner(answers(503))
    api.destination(server.url(), retry={"give_up_after": 60})
    api.create_delivery()
    for _ in range(2):
        functions.work_early()
    row = functions.delivery()
    assert (row["state"], row["attempts_made"]) == ("failed", 2)
    assert row["give_up_at"] - row["created_at"] == timedelta(seconds=60)


@pytest.mark.parametrize("guarantee", ["at_least_once", "at_most_once"])
def test_what_waited_longer_than_that_is_not_sent(
    functions: Functions, api: Api, partner: StartPartner, guarantee: str
) -> None:
    server = partner(answers(200))
    api.destination(server.url(), retry={"give_up_after": 60}, guarantee=guarantee)
    api.create_delivery()
    functions.sql("UPDATE delivery SET give_up_at = created_at - interval '1 second'")
    functions.work()
    (attempt,) = functions.attempts()
    assert (attempt["outcome"], functions.delivery()["state"], server.requests) == ("unreachable", "failed", [])
    assert "give_up_after" in attempt["reason"]


def test_the_time_begins_when_the_first_attempt_may_start(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example", retry={"give_up_after": 60})
    later = datetime.now(UTC) + timedelta(hours=1)
    api.create_delivery(not_before=later.isoformat())
    row = functions.delivery()
    assert row["give_up_at"] == row["due_at"] + timedelta(seconds=60)


def test_an_open_outcome_is_held_when_the_time_is_over(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(takes_and_closes).url(), guarantee="at_least_once", retry={"give_up_after": 1})
    api.create_delivery()
    functions.work()
    assert functions.delivery()["state"] == "unknown"


def test_a_call_that_is_passed_through_has_one_attempt_whatever_the_policy(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(500))
    api.destination(server.url(), retry={"schedule": [0, 1, 2], "give_up_after": 60})
    assert api.call("GET", "/v1/via/partner/x").status == 500
    row = functions.delivery()
    assert (row["attempts_allowed"], row["state"], row["give_up_at"]) == (1, "failed", None)


def test_a_change_of_the_policy_counts_for_statuses_at_once_and_for_the_number_of_new_ones(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers_in_turn(409, 503)).url())
    api.create_delivery()
    changed = api.call("PATCH", PATH, json={"retry": {"schedule": [0, 5], "statuses": {"add": [409]}}})
    assert changed.status == 200, changed.body
    functions.work()
    row = functions.delivery()
    assert (row["state"], row["attempts_allowed"]) == ("pending", 10)
    assert api.call("PATCH", PATH, json={"retry": None}).json["retry"] is None


@pytest.mark.parametrize(
    ("retry", "field"),
    [
        ({"schedule": []}, "/retry/schedule"),
        ({"schedule": [0] * 21}, "/retry/schedule"),
        ({"schedule": [5, 10]}, "/retry/schedule/0"),
        ({"schedule": [0, 10, 5]}, "/retry/schedule/2"),
        ({"schedule": [0, -1]}, "/retry/schedule"),
        ({"schedule": [0, 604_801]}, "/retry/schedule"),
        ({"schedule": [0, "5"]}, "/retry/schedule"),
        ({"statuses": {"add": [200]}}, "/retry/statuses/add"),
        ({"statuses": {"add": [600]}}, "/retry/statuses/add"),
        ({"statuses": {"add": [409], "remove": [409]}}, "/retry/statuses/remove/0"),
        ({"give_up_after": 0}, "/retry/give_up_after"),
        ({"delays": [0]}, "/retry"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(refusing: Functions, retry: dict[str, Any], field: str) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "b", "base_url": "https://bank.example", "retry": retry})
    assert refused.status == 422
    assert [fault.startswith(field) for fault in refused.faults] == [True]


# What callers may send

ALLOWED = {"methods": ["POST", "GET"], "paths": ["/orders", "/v1/refunds/"]}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/orders", True),
        ("GET", "/orders/7", True),
        ("POST", "/orders/7%2F8", True),
        ("POST", "/%6Frders/7", True),
        ("POST", "/v1/refunds/7", True),
        ("DELETE", "/orders/7", False),
        ("HEAD", "/orders/7", False),
        ("POST", "/orders-of-others", False),
        ("POST", "/ordersx", False),
        ("POST", "/v1/refunds", False),
        ("POST", "/Orders", False),
        ("POST", "//orders", False),
        ("POST", "/admin", False),
        ("POST", "", False),
        ("POST", "/%2Forders", False),
        ("POST", "/orders%2F..%2Fadmin", None),
        ("POST", "/orders/..;/admin", None),
        ("POST", "/orders/%252e%252e/admin", None),
    ],
)
def test_methods_and_paths_that_are_not_allowed_are_refused_in_every_way_to_send(
    functions: Functions, api: Api, partner: StartPartner, method: str, path: str, allowed: bool | None
) -> None:
    """None: is refused as a path, whatever the destination allows."""
    server = partner(answers(200))
    api.destination(server.url("/base"), allow=ALLOWED)
    body: dict[str, Any] = {"method": method, "path": path, **({"body": None} if method == "HEAD" else {})}
    calls = [
        api.create_delivery(**body),
        api.create_delivery(("Prefer", "wait=5"), **body),
        api.call(method, f"/v1/via/partner{path}"),
        api.call(method, f"/v1/via/partner{path}", headers=[("Prefer", "respond-async")]),
    ]
    if allowed:
        assert [call.status for call in calls] == [202, 200, 200, 202]
        assert len(server.requests) == 2
        return
    assert {call.status for call in calls} == {403 if allowed is False else 422}
    assert functions.sql("SELECT delivery_id FROM delivery") == []
    assert server.requests == []
    if allowed is False:
        assert {call.kind for call in calls if call.body} == {"not-allowed"}
        assert ("method" in calls[0].json["detail"]) == (method in ("DELETE", "HEAD"))


def test_what_was_accepted_before_is_found_by_its_key(api: Api) -> None:
    api.destination("https://bank.example")
    first = api.create_delivery(("Idempotency-Key", "order-1"))
    assert api.call("PATCH", PATH, json={"allow": {"methods": ["GET"]}}).status == 200
    again = api.create_delivery(("Idempotency-Key", "order-1"))
    assert (again.status, again.json["delivery_id"]) == (202, first.json["delivery_id"])
    assert api.create_delivery().kind == "not-allowed"
    assert api.call("PATCH", PATH, json={"allow": None}).json["allow"] is None
    assert api.create_delivery().status == 202


def test_the_root_allows_every_path(api: Api) -> None:
    shown = api.destination("https://bank.example", allow={"paths": ["/"]})["allow"]
    assert shown == {"methods": None, "paths": ["/"]}
    for path in ("", "/", "/x/y"):
        assert api.create_delivery(path=path).status == 202


@pytest.mark.parametrize(
    ("allow", "field"),
    [
        ({"methods": []}, "/allow/methods"),
        ({"methods": ["get"]}, "/allow/methods"),
        ({"methods": ["TRACE"]}, "/allow/methods"),
        ({"paths": []}, "/allow/paths"),
        ({"paths": ["orders"]}, "/allow/paths/0"),
        ({"paths": ["/ok", "/a/../b"]}, "/allow/paths/1"),
        ({"paths": ["/a?b"]}, "/allow/paths/0"),
        ({"paths": ["/a b"]}, "/allow/paths/0"),
        ({"path": ["/a"]}, "/allow"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(refusing: Functions, allow: dict[str, Any], field: str) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "b", "base_url": "https://bank.example", "allow": allow})
    assert refused.status == 422
    assert [fault.startswith(field) for fault in refused.faults] == [True]

"""Partners and callers who make answers large: none grows over what Lambda returns, and everything can be paged to."""

import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

import pytest

from handlers import admin
from handlers import answers as limits
from handlers import api as function
from handlers.openapi import document
from handlers.routes import every_operation
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Context, Functions
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

WORST = b"\x01" * 64 * 1024  # six characters each in JSON, of which one is escaped again
QUOTES = [[f"X-{number}", '"' * 30_000] for number in range(8)]  # as rows from before headers were bounded have it


def size_of(api: Api, target: str) -> int:
    """What Lambda would have to return."""
    answer = function.handler(api.event("GET", target), Context())
    return len(json.dumps(answer, ensure_ascii=False).encode())


def test_a_partner_cannot_make_a_delivery_unreadable(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(503, WORST)).url())
    delivery_id = api.create_delivery().json["delivery_id"]
    for _ in range(10):
        functions.work_early()
    functions.sql("UPDATE attempt SET response_headers = %s::text::jsonb", json.dumps(QUOTES))
    numbers: list[int] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        target = f"/v1/deliveries/{delivery_id}" + (f"?cursor={cursor}" if cursor else "")
        assert size_of(api, target) <= limits.LAMBDA_ANSWER_BYTES
        shown = api.get(target).json
        assert shown["response"]["body"] == WORST.decode()
        numbers += [attempt["number"] for attempt in shown["attempts"]]
        cursor, pages = shown["next_cursor"], pages + 1
    assert numbers == list(range(1, 11))
    assert pages > 1


def test_a_waiting_call_whose_answer_is_full_leaves_the_attempt_to_the_next_page(
    api: Api, partner: StartPartner
) -> None:
    long = WORST + bytes(4 * 1024 * 1024 - len(WORST))
    api.destination(partner(answers(200, long)).url(), timeouts={"total_seconds": 5})
    answer = api.create_delivery(("Prefer", "wait=20"))
    body = answer.json
    assert (answer.status, body["response"]["truncated"], body["response"]["length_bytes"]) == (200, False, len(long))
    assert answer.header("Sallyport-Delivery-Id") == body["delivery_id"]
    if body["next_cursor"] is not None:
        assert (body["attempts"], body["next_cursor"]) == ([], "0")
    shown = api.get(f"/v1/deliveries/{body['delivery_id']}?cursor=0").json
    assert [attempt["number"] for attempt in shown["attempts"]] == [1]


def test_a_waiting_call_without_room_for_the_whole_response_gets_the_stored_one(
    api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.schemas.deliveries.ANSWER_BYTES", 1_000_000)
    api.destination(partner(answers(200, bytes(1_000_000))).url(), timeouts={"total_seconds": 5})
    body = api.create_delivery(("Prefer", "wait=20")).json
    assert body["response"]["truncated"] is True
    assert [attempt["response"] for attempt in body["attempts"]] == [body["response"]]


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.5", "\u0661", "100000", "AAAA"])
def test_a_cursor_of_attempts_is_a_next_cursor(refusing: Functions, cursor: str) -> None:
    answer = refusing.api.get(f"/v1/deliveries/{NOBODYS_ID}?cursor={quote(cursor)}")
    assert answer.faults == ["cursor"]


def test_a_page_of_large_deliveries_ends_early_and_the_next_continues(api: Api) -> None:
    api.destination("https://bank.example")
    large: dict[str, Any] = {"metadata": {"a": '"' * 2040}, "headers": {"X-A": '"' * 16_000}}
    made = [api.create_delivery(**large).json["delivery_id"] for _ in range(110)]
    shown: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        target = "/v1/deliveries?limit=200" + (f"&cursor={cursor}" if cursor else "")
        assert size_of(api, target) <= limits.LAMBDA_ANSWER_BYTES
        page = api.get(target).json
        shown += [delivery["delivery_id"] for delivery in page["deliveries"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert sorted(shown) == sorted(made)
    assert len(shown) == len(made)
    assert pages == 2


@pytest.mark.parametrize("about_a_delivery", [True, False])
def test_what_slips_through_is_a_problem_and_never_silence(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch, about_a_delivery: bool
) -> None:
    api.destination("https://bank.example")
    monkeypatch.setattr(limits, "_SURELY_SMALL_CHARACTERS", 0)
    monkeypatch.setattr(limits, "LAMBDA_ANSWER_BYTES", 500)
    answer = api.create_delivery() if about_a_delivery else api.get("/openapi.json")
    assert (answer.status, answer.kind) == (500, "answer-too-large")
    delivery_id = answer.json.get("delivery_id")
    assert answer.header("Sallyport-Delivery-Id") == delivery_id
    assert delivery_id == (str(functions.delivery()["delivery_id"]) if about_a_delivery else None)
    assert "larger than Lambda can return" in functions.log.getvalue()


type Fill = Callable[[Functions], object]


def three_of(make: Callable[[Api, int], object]) -> Fill:
    return lambda functions: [make(functions.api, number) for number in range(3)]


def destination(api: Api, number: int) -> object:
    return api.destination("https://bank.example", name=f"bank-{number}")


def delivery(api: Api, number: int) -> object:
    return number or api.destination("https://bank.example"), api.create_delivery()


def job(api: Api, _: int) -> object:
    return api.post("/v1/cancellations", {"since": "2026-01-01T00:00:00Z"})


def proposals(functions: Functions) -> None:
    """A change of credentials each, which another token has to approve."""
    functions.api.destination("https://bank.example")
    admin.handler({"action": "set_approvals", "tenant": "acme", "above": 0}, Context())
    for _ in range(3):
        changed = functions.api.call("PATCH", "/v1/destinations/partner", json={"base_url": "https://other.example"})
        assert changed.status == 202


# Of each list the member with the items, and what makes three of them.
LISTS: dict[str, tuple[str, Fill]] = {
    "/v1/destinations": ("destinations", three_of(destination)),
    "/v1/deliveries": ("deliveries", three_of(delivery)),
    "/v1/jobs": ("jobs", three_of(job)),
    "/v1/proposals": ("proposals", proposals),
    "/v1/audit": ("entries", three_of(destination)),
    "/v1/stats": ("destinations", three_of(destination)),
}
# Its attempts, of which `test_a_partner_cannot_make_a_delivery_unreadable` is.
OF_ONE_DELIVERY = "/v1/deliveries/{delivery_id}"
# As many as the stack has zones or addresses.
FEW = {"/v1/egress": "addresses", "/v1/egress/allowlist": "addresses"}


def test_every_operation_that_answers_with_a_list_is_here() -> None:
    schemas = document(server="")["components"]["schemas"]
    listing, paged = set(), set()
    for operation in every_operation():
        names = {parameter.name for parameter in operation.parameters}
        if "cursor" in names:
            paged.add(operation.template)
        body = operation.responses[min(operation.responses)].body
        properties = {} if body is None else schemas[body.__name__]["properties"]
        is_list = any("$ref" in kind.get("items", {}) for kind in properties.values())
        if operation.method == "GET" and is_list:
            listing.add(operation.template)
    ones = {"/v1/destinations/{destination}"}  # signing schemes and windows, of which there are at most five and twenty
    assert paged == LISTS.keys() | {OF_ONE_DELIVERY}
    assert listing - ones == paged | FEW.keys()


@pytest.mark.parametrize("path", LISTS)
def test_a_page_ends_where_the_room_does_and_the_next_one_goes_on(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    member, fill = LISTS[path]
    fill(functions)
    whole = api.get(path).json[member]
    assert len(whole) >= 3
    sizes = [limits.weight(item) for item in whole]
    monkeypatch.setitem(
        cast("dict[str, Any]", limits.fitting.__kwdefaults__), "room_bytes", max(sizes) + min(sizes) // 2
    )
    shown: list[Any] = []
    cursor: str | None = ""
    for _ in whole:
        page = api.get(path + (f"?cursor={cursor}" if cursor else "")).json
        assert len(page[member]) == 1
        shown += page[member]
        cursor = page["next_cursor"]
    assert (shown, cursor) == (whole, None)

"""GET /v1/stats, as a caller sees it."""

from collections.abc import Callable

from tests.egress.servers import Partner, Script
from tests.support.api import Api, Functions
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]


def test_the_numbers_of_a_destination(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(201)).url())
    api.create_delivery()
    functions.work()
    api.create_delivery()
    (shown,) = api.get("/v1/stats").json["destinations"]
    assert (shown["destination"], shown["circuit_breaker"], shown["state"]) == ("partner", "closed", "active")
    assert shown["unfinished"]["count"] == 1
    assert shown["last_hour"] == shown["last_day"] == shown["last_30_days"]
    assert (shown["last_hour"]["ended"], shown["last_hour"]["attempts"]) == ({"delivered": 1}, {"answered": 1})
    assert shown["last_hour"]["latency_ms"]["p99"] > 0


def test_pages_follow_each_other(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.destination("https://bank.example", name=name)
    first = api.get("/v1/stats?limit=2").json
    second = api.get(f"/v1/stats?limit=2&cursor={first['next_cursor']}").json
    names = [each["destination"] for page in (first, second) for each in page["destinations"]]
    assert names == ["c", "b", "a"]
    assert second["next_cursor"] is None


def test_strangers_see_nothing(functions: Functions, api: Api) -> None:
    shown = api.destination("https://bank.example")
    assert functions.other_api.get("/v1/stats").json["destinations"] == []
    for reference in ("partner", shown["destination_id"], "nobody", "Not-a-Name"):
        assert functions.other_api.get(f"/v1/stats?destination={reference}").status == 404

"""PATCH /v1/destinations/{destination}: JSON merge patches (RFC 7396), ETags, and what is never shown."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db import destinations
from db.connection import Database
from handlers import wiring
from runtime.settings import DatabaseSettings
from tests.egress.authorities import Authority
from tests.egress.servers import Partner, Script
from tests.support.api import HOST, NOBODYS_ID, Api, Functions, Reply
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

SECRET = "hunter2-and-then-some"
BEARER = {"type": "bearer", "token": SECRET}
BASIC = {"type": "basic", "username": "ann", "password": SECRET}
PATH = "/v1/destinations/partner"
JSON = ("Content-Type", "application/json")


def patch(api: Api, members: object, *headers: tuple[str, str], path: str = PATH) -> Reply:
    return api.call("PATCH", path, json=members, headers=headers)


def acts(functions: Functions) -> list[dict[str, Any]]:
    """The acts that were noted after the first one, that of creating it."""
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    return [line for line in lines if line["message"] == "act"][1:]


# Each with what it is at first, so that a random walk comes back.
CHANGES: list[dict[str, Any]] = [
    {"name": "bank"},
    {"base_url": "https://bank.example/v2"},
    {"guarantee": "at_most_once"},
    {"idempotent": True},
    {"idempotency_header": "X-Key"},
    {"timeouts": {"connect_seconds": 0.5}},
    {"timeouts": {"total_seconds": 9, "first_byte_seconds": 8.5}},
    {"guarantee": None, "idempotent": None},
    {"timeouts": None},
    {"auth": BEARER},
    {"auth": BASIC},
    {"auth": None},
    {"auth": {"type": "header", "name": "X-Api-Key", "value": SECRET}},
]


def test_the_patch_of_what_is_shown_with_itself_changes_nothing(functions: Functions, api: Api) -> None:
    """After every one of many changes, in an order by chance: nothing, not even the version."""
    chance = random.Random(20261127)
    made = api.destination("https://bank.example")
    path = f"/v1/destinations/{made['destination_id']}"
    for change in chance.choices(CHANGES, k=40):
        changed = patch(api, change, path=path)
        assert changed.status == 200, changed.body
        before = functions.sql("SELECT * FROM destination")
        noted = len(acts(functions))
        again = patch(api, changed.json, path=path)
        assert (again.status, again.json) == (200, changed.json)
        assert again.header("ETag") == changed.header("ETag")
        whole = patch(api, api.get(path).json | {"timeouts": whole_numbers(changed.json["timeouts"])}, path=path)
        assert whole.json == changed.json
        assert functions.sql("SELECT * FROM destination") == before
        assert len(acts(functions)) == noted


def whole_numbers(timeouts: dict[str, float]) -> dict[str, float]:
    """As JavaScript writes them: 5 for 5.0."""
    return {name: int(value) if value == int(value) else value for name, value in timeouts.items()}


def test_each_change_is_shown_and_the_rest_stays(api: Api) -> None:
    shown = api.destination("https://bank.example")
    changed = patch(api, {"guarantee": "at_most_once", "timeouts": {"total_seconds": 2}})
    assert changed.json == shown | {
        "guarantee": "at_most_once",
        "timeouts": shown["timeouts"] | {"total_seconds": 2.0},
        "version": 2,
    }
    assert changed.header("ETag") == '"2"'
    assert api.get(PATH).json == changed.json
    assert api.get(PATH).header("ETag") == '"2"'


def test_null_takes_away_what_was_said(api: Api) -> None:
    api.destination("https://bank.example", guarantee="at_most_once", idempotency_header="X-Key", auth=BEARER)
    nulls = {"guarantee": None, "idempotency_header": None, "timeouts": {"connect_seconds": None}, "auth": None}
    changed = patch(api, nulls).json
    assert (changed["guarantee"], changed["idempotency_header"]) == ("auto", "Idempotency-Key")
    assert changed["timeouts"]["connect_seconds"] == 1.0  # as without it: total_seconds, which is less than 5
    assert changed["auth"]["type"] == "none"


def test_a_patch_may_be_sent_under_either_media_type(api: Api) -> None:
    api.destination("https://bank.example")
    for number, media_type in enumerate(("application/merge-patch+json", "application/json")):
        body = json.dumps({"idempotent": number == 0}).encode()
        answer = api.call("PATCH", PATH, body=body, headers=[("Content-Type", media_type)])
        assert (answer.status, answer.json["idempotent"]) == (200, number == 0)


def test_a_name_may_change_unless_it_is_taken(api: Api) -> None:
    made = api.destination("https://bank.example")
    api.destination("https://post.example", name="post")
    taken = patch(api, {"name": "post"})
    assert (taken.status, taken.kind) == (409, "name-taken")
    assert patch(api, {"name": "bank"}).json["destination_id"] == made["destination_id"]
    assert api.get(PATH).kind == "not-found"
    assert api.get("/v1/destinations/bank").json["version"] == 2
    api.destination("https://bank.example")  # the old name is free


def test_only_a_destination_of_ones_own_that_exists_is_changed(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    for path in ("/v1/destinations/nobody", f"/v1/destinations/{NOBODYS_ID}"):
        assert patch(api, {"idempotent": True}, path=path).kind == "not-found"
    theirs = patch(functions.other_api, {"idempotent": True}, path=f"/v1/destinations/{made['destination_id']}")
    assert theirs.kind == "not-found"
    assert functions.api_with("read", "send").call("PATCH", PATH, json={"idempotent": True}).kind == "forbidden"
    assert api.get(PATH).json == made


# Credentials


def sent_lines(api: Api, server: Partner) -> list[bytes]:
    api.call("GET", "/v1/via/partner/x")
    return server.requests[-1].split(b"\r\n")


def test_credentials_stay_as_they_are_stored_where_a_patch_does_not_name_them(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=BEARER)
    (before,) = functions.sql("SELECT sealed_credentials, credentials_changed_at FROM destination")
    assert patch(api, {"idempotent": True, "auth": {"type": "bearer"}}).status == 200
    assert functions.sql("SELECT sealed_credentials, credentials_changed_at FROM destination") == [before]
    assert f"Authorization: Bearer {SECRET}".encode() in sent_lines(api, server)


def test_a_part_of_the_credentials_may_change(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=BASIC)
    assert patch(api, {"auth": {"username": "bob"}}).status == 200
    assert b"Authorization: Basic Ym9iOmh1bnRlcjItYW5kLXRoZW4tc29tZQ==" in sent_lines(api, server)
    assert patch(api, {"auth": {"password": "new-one"}}).status == 200
    assert b"Authorization: Basic Ym9iOm5ldy1vbmU=" in sent_lines(api, server)
    (row,) = functions.sql("SELECT credentials_changed_at FROM destination")
    assert row["credentials_changed_at"] is not None
    assert SECRET not in functions.log.getvalue()


def test_another_kind_of_credentials_brings_all_of_its_own(api: Api) -> None:
    api.destination("https://bank.example", auth=BEARER)
    half = patch(api, {"auth": {"type": "basic", "username": "ann"}})
    assert (half.status, half.faults) == (422, ["/auth/password"])
    assert patch(api, {"auth": BASIC}).json["auth"]["type"] == "basic"
    assert patch(api, {"auth": {"password": None}}).faults == ["/auth/password"]


def test_pending_deliveries_use_the_destination_as_it_is_when_they_are_sent(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url("/old"), auth=BEARER)
    api.create_delivery()
    assert patch(api, {"auth": {"token": "the-next-one"}, "base_url": server.url("/new")}).status == 200
    functions.work()
    (request,) = server.requests
    assert request.startswith(b"POST /new/orders ")
    assert b"Authorization: Bearer the-next-one" in request.split(b"\r\n")


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "http://bank.example/v1", "https://bank.example:8443/v1", "https://a.bank.example/v1"],
)
def test_stored_credentials_are_not_sent_to_another_place_by_who_never_knew_them(
    functions: Functions, api: Api, elsewhere: str
) -> None:
    api.destination("https://bank.example/v1", auth=BASIC)
    before = functions.sql("SELECT * FROM destination")
    refused = patch(api, {"base_url": elsewhere})
    assert (refused.status, refused.faults) == (422, ["/auth"])
    assert "given again" in refused.json["detail"]
    # Nor with a part of them, nor with the kind alone, which is shown.
    assert patch(api, {"base_url": elsewhere, "auth": {"username": "bob"}}).faults == ["/auth/password"]
    assert patch(api, {"base_url": elsewhere, "auth": {"type": "basic"}}).faults == ["/auth"]
    assert functions.sql("SELECT * FROM destination") == before
    assert patch(api, {"base_url": elsewhere, "auth": BASIC}).status == 200
    assert patch(api, {"base_url": "https://bank.example", "auth": None}).status == 200
    assert patch(api, {"base_url": elsewhere}).status == 200


@pytest.mark.parametrize(
    "scheme",
    [
        {"type": "hmac", "header": "X-Signature", "signed": "{body}", "secret": "s" * 32},
        {"type": "standard_webhooks", "version": "v1a", "name": "ours"},
    ],
)
def test_stored_keys_do_not_sign_for_another_place(functions: Functions, api: Api, scheme: dict[str, Any]) -> None:
    """Who gets signed requests could send them on to the partner."""
    made = api.destination("https://bank.example/v1", signing=[scheme])
    before = functions.sql("SELECT * FROM destination")
    elsewhere = {"base_url": "https://evil.example"}
    refused = patch(api, elsewhere)
    assert (refused.status, refused.faults) == (422, ["/signing"])
    assert patch(api, {**elsewhere, "signing": made["signing"]}).faults == ["/signing"]  # as it is shown
    keyless = {name: value for name, value in scheme.items() if name != "secret"}
    changed = {**keyless, "keyid": "other"}
    assert patch(api, {**elsewhere, "signing": [changed]}).faults == ["/signing/0"]
    assert functions.sql("SELECT * FROM destination") == before
    assert patch(api, {**elsewhere, "signing": [{**keyless, "name": "another"}]}).status == 200
    assert patch(api, {"base_url": "https://third.example", "signing": None}).status == 200


@pytest.mark.parametrize("url", [None, "", "x", 7])
def test_a_base_url_that_is_none_is_all_that_is_said(api: Api, url: object) -> None:
    api.destination("https://bank.example", auth=BASIC)
    assert patch(api, {"base_url": url}).faults == ["/base_url"]


def test_another_path_of_the_same_place_needs_no_credentials(api: Api) -> None:
    api.destination("https://bank.example/v1", auth=BASIC)
    for same in ("https://bank.example/v2", "https://BANK.example:443/v3"):
        assert patch(api, {"base_url": same}).status == 200


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://10.0.0.1", "https://bank.example?x=1", f"https://{HOST}/dev", "x", ""]
)
def test_a_changed_base_url_passes_the_guard(api: Api, url: str) -> None:
    made = api.destination("https://bank.example")
    refused = patch(api, {"base_url": url})
    assert (refused.status, refused.faults) == (422, ["/base_url"])
    assert api.get(PATH).json == made


def test_who_changed_which_members_is_noted_and_no_value(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    patch(api, {"auth": BEARER, "idempotent": True})
    (act,) = acts(functions)
    assert (act["what"], act["on"]) == ("destination.changed", made["destination_id"])
    assert act["members"] == ["auth", "idempotent"]
    assert SECRET not in functions.log.getvalue()


# Bad input


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({"name": "Bank!"}, ["/name"]),
        ({"name": None}, ["/name"]),
        ({"base_url": None}, ["/base_url"]),
        ({"name": NOBODYS_ID}, ["/name"]),
        ({"nmae": "bank"}, [""]),
        ({"nmae": None}, [""]),
        ({"state": "paused"}, ["/state"]),
        ({"version": 7, "created_at": "2026-01-01T00:00:00Z"}, ["/created_at", "/version"]),
        ({"destination_id": NOBODYS_ID}, ["/destination_id"]),
        ({"timeouts": {"connect_seconds": 5}}, ["/timeouts/connect_seconds"]),
        ({"timeouts": 5}, ["/timeouts"]),
        ({"timeouts": {"x": 5}}, ["/timeouts"]),
        ({"auth": "secret"}, ["/auth"]),
        ({"auth": {"type": "none", "token": "x"}}, ["/auth"]),
        ({"auth": {"type": "bearer", "token": "a\nb"}}, ["/auth/token"]),
        ({"guarantee": "once", "idempotent": 1}, ["/guarantee", "/idempotent"]),
        ({"state_reason": "x", "idempotent": 1, "y": 2}, ["", "/idempotent", "/state_reason"]),
        ({"name": "\ud800"}, ["/name"]),
    ],
)
def test_a_patch_that_leads_to_nothing_valid_is_refused_with_every_fault(
    functions: Functions, api: Api, members: dict[str, Any], fields: list[str]
) -> None:
    api.destination("https://bank.example")
    before = functions.sql("SELECT * FROM destination")
    refused = patch(api, members)
    assert (refused.status, sorted(refused.faults)) == (422, fields)
    assert functions.sql("SELECT * FROM destination") == before


def test_an_unknown_member_is_named_by_its_position_in_the_patch(api: Api) -> None:
    api.destination("https://bank.example")
    refused = patch(api, {"idempotent": True, "nmae": "bank"})
    assert refused.json["faults"][0]["detail"].startswith("member 2 is unknown")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"1", b"{", b'{"name": "a", "name": "b"}', b"\xff"])
def test_what_is_no_json_object_is_malformed(api: Api, body: bytes) -> None:
    made = api.destination("https://bank.example")
    assert api.call("PATCH", PATH, body=body).kind == "malformed-request"
    assert api.get(PATH).json == made


@pytest.mark.parametrize("member", ["limits", "auth", "unknown"])
def test_a_patch_that_is_nested_deeply_is_refused(api: Api, member: str) -> None:
    """Whatever reads it: nothing follows it to an end that it does not come back from."""
    api.destination("https://bank.example", auth=BEARER)
    for depth in (50, 500, 900, 5_000, 100_000):
        for begin, end in ((b'{"a":', b"}"), (b"[", b"]")):
            nested = b'{"%s":%s1%s}' % (member.encode(), begin * depth, end * depth)
            assert api.call("PATCH", PATH, body=nested, headers=[JSON]).status in (400, 422)


def test_a_header_that_carries_credentials_stays_free_of_the_key(api: Api) -> None:
    api.destination("https://bank.example", auth={"type": "header", "name": "X-Key", "value": SECRET})
    assert patch(api, {"idempotency_header": "x-key"}).faults == ["/idempotency_header"]
    assert patch(api, {"idempotency_header": "x-key-2"}).status == 200
    assert patch(api, {"auth": {"name": "X-KEY-2"}}).faults == ["/idempotency_header"]


def test_an_empty_patch_changes_nothing(api: Api) -> None:
    made = api.destination("https://bank.example")
    assert patch(api, {}).json == made
    assert patch(api, {"timeouts": {}}).json == made


# Versions


@pytest.mark.parametrize("tags", ['"1"', "*", '"7", "1"', '"1" , "x"'])
def test_a_version_that_is_named_is_changed(api: Api, tags: str) -> None:
    api.destination("https://bank.example")
    assert patch(api, {"idempotent": True}, ("If-Match", tags)).status == 200


@pytest.mark.parametrize("tags", ['"2"', 'W/"1"', "1", '""', "", '"1', '"\u0661"', f'"{"1" * 400}"'])
def test_another_version_fails_and_says_which_there_is(api: Api, tags: str) -> None:
    made = api.destination("https://bank.example")
    refused = patch(api, {"idempotent": True}, ("If-Match", tags))
    assert (refused.status, refused.kind) == (412, "precondition-failed")
    assert refused.json["version"] == 1
    assert api.get(PATH).json == made


def test_of_two_who_read_the_same_version_the_second_is_told(api: Api) -> None:
    read = api.destination("https://bank.example")
    assert patch(api, {"idempotent": True}, ("If-Match", f'"{read["version"]}"')).status == 200
    refused = patch(api, {"guarantee": "at_most_once"}, ("If-Match", f'"{read["version"]}"'))
    assert (refused.status, refused.json["version"]) == (412, 2)


def test_of_changes_at_the_same_time_none_is_lost(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is always quicker than the first two tries: what they change stays."""
    api.destination("https://bank.example")
    quicker = [{"idempotent": True}, {"timeouts": {"total_seconds": 7}}]
    store = destinations.change

    def late(*arguments: Any, **keywords: Any) -> bool:
        if quicker:
            wanted = quicker.pop(0)
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(destinations, "change", store)
                assert patch(api, wanted).status == 200
        return store(*arguments, **keywords)

    monkeypatch.setattr(destinations, "change", late)
    changed = patch(api, {"guarantee": "at_least_once"}).json
    assert (changed["idempotent"], changed["timeouts"]["total_seconds"], changed["guarantee"]) == (
        True,
        7.0,
        "at_least_once",
    )
    assert changed["version"] == 4
    assert [act["members"] for act in acts(functions)] == [["idempotent"], ["timeouts"], ["guarantee"]]


def test_who_is_always_too_late_is_asked_to_come_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.destination("https://bank.example")
    monkeypatch.setattr(destinations, "change", lambda *_, **__: False)
    refused = patch(api, {"idempotent": True})
    assert (refused.status, refused.kind) == (503, "unavailable")


def test_a_version_is_stored_once(functions: Functions, api: Api) -> None:
    """The statement itself, by eight at once from eight connections: one of them stores the next version."""
    made = api.destination("https://bank.example")
    services = wiring.api()
    current = destinations.find(
        services.database,
        tenant_id=next(iter(functions.sql("SELECT tenant_id FROM destination")))["tenant_id"],
        reference="partner",
    )
    assert current is not None
    assert current.version == made["version"]

    def store(number: int) -> bool:
        with closing(Database(DatabaseSettings(database_url=functions.database.url))) as database:
            return destinations.change(database, replace(current, version=2, idempotency_header=f"X-{number}"))

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(store, range(8))) == [False] * 7 + [True]


# Other kinds of credentials, certificates and schemes to sign with

OAUTH = {
    "type": "oauth2",
    "token_url": "https://login.bank.example/token",
    "client_id": "acme",
    "client_secret": SECRET,
    "scope": "payments",
}
AWS = {
    "type": "aws_sigv4",
    "region": "eu-central-1",
    "service": "execute-api",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": SECRET,
}
TWO_HEADERS = {"type": "header", "headers": [{"name": "X-Id", "value": "acme"}, {"name": "X-Key", "value": SECRET}]}
SIGNING = [{"type": "standard_webhooks", "version": "v1"}, {"type": "hmac", "name": "own", "header": "X-Signature"}]


def seals(functions: Functions) -> dict[str, Any]:
    (row,) = functions.sql("SELECT sealed_credentials, sealed_certificate, sealed_signing FROM destination")
    return row


def certified(tmp_path: Path) -> dict[str, str]:
    """A client certificate and its key, as they are sent."""
    authority = Authority.new(tmp_path)
    chain, key = authority.client("acme")
    return {"certificate": chain, "key": key}


@pytest.mark.parametrize("auth", [OAUTH, AWS, TWO_HEADERS], ids=lambda auth: auth["type"])
def test_whatever_is_sealed_stays_while_something_else_changes(
    functions: Functions, api: Api, tmp_path: Path, auth: dict[str, Any]
) -> None:
    given = {"auth": auth, "client_certificate": certified(tmp_path), "signing": SIGNING}
    shown = api.destination("https://bank.example", **given)
    sealed = seals(functions)
    assert None not in sealed.values()
    again = patch(api, api.get(PATH).json)
    assert (again.status, again.json["version"]) == (200, 1)
    changed = patch(api, {"idempotent": True, "tls": {"minimum_version": "1.3"}}).json
    assert seals(functions) == sealed
    for member in ("auth", "client_certificate"):
        assert changed[member] == shown[member]
    assert patch(api, api.get(PATH).json).json["version"] == 2
    without = patch(api, {"client_certificate": None, "signing": [], "auth": None, "tls": None}).json
    assert (without["client_certificate"], without["signing"], without["auth"]) == (None, [], {"type": "none"})
    assert set(seals(functions).values()) == {None}


@pytest.mark.parametrize(
    ("auth", "changes", "shown"),
    [
        (OAUTH, {"scope": "payouts"}, {"scope": "payouts"}),
        (OAUTH, {"scope": None}, {}),
        (
            OAUTH,
            {"token_url": "https://login.bank.example/v2/token"},
            {"token_url": "https://login.bank.example/v2/token"},
        ),
        (AWS, {"region": "eu-west-1"}, {"region": "eu-west-1"}),
        (AWS, {"secret_access_key": "another"}, {}),
        (TWO_HEADERS, {"headers": [{"name": "X-New", "value": "v"}]}, {"headers": [{"name": "X-New"}]}),
    ],
)
def test_a_part_of_any_credentials_may_change(
    api: Api, auth: dict[str, Any], changes: dict[str, Any], shown: dict[str, Any]
) -> None:
    api.destination("https://bank.example", auth=auth)
    changed = patch(api, {"auth": changes})
    assert changed.status == 200, changed.body
    assert shown.items() <= changed.json["auth"].items()
    assert ("scope" in changed.json["auth"]) == (auth is OAUTH and changes.get("scope", "kept") is not None)


def test_a_client_secret_is_not_sent_to_another_token_endpoint(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example", auth=OAUTH)
    before = functions.sql("SELECT * FROM destination")
    elsewhere = {"token_url": "https://login.evil.example/token"}
    refused = patch(api, {"auth": elsewhere})
    assert (refused.status, refused.faults) == (422, ["/auth/client_secret"])
    private = patch(api, {"auth": {"token_url": "https://10.0.0.1/token", "client_secret": SECRET}})
    assert private.faults == ["/auth/token_url"]
    assert functions.sql("SELECT * FROM destination") == before
    assert patch(api, {"auth": {**elsewhere, "client_secret": SECRET}}).status == 200


def test_a_certificate_comes_with_its_key_and_is_there_for_https_alone(
    functions: Functions, api: Api, tmp_path: Path
) -> None:
    api.destination("https://bank.example", client_certificate=certified(tmp_path))
    before = seals(functions)["sealed_certificate"]
    (tmp_path / "next").mkdir()
    renewed = certified(tmp_path / "next")
    assert patch(api, {"client_certificate": {"certificate": renewed["certificate"]}}).faults == [
        "/client_certificate/key"
    ]
    assert patch(api, {"base_url": "http://bank.example"}).faults == ["/client_certificate"]
    assert patch(api, {"client_certificate": renewed}).status == 200
    assert seals(functions)["sealed_certificate"] != before


def test_a_certificate_that_the_client_authenticates_with_stays_as_long_as_it_does(api: Api, tmp_path: Path) -> None:
    client = {
        "token_url": "https://bank.example/token",
        "client_id": "acme",
        "client_authentication": "tls_client_auth",
    }
    api.destination("https://bank.example", auth={"type": "oauth2", **client}, client_certificate=certified(tmp_path))
    refused = patch(api, {"client_certificate": None})
    assert (refused.status, refused.faults) == (422, ["/client_certificate"])
    assert patch(api, {"auth": {"scope": "payments"}}).status == 200
    assert patch(api, {"client_certificate": None, "auth": BEARER}).status == 200


def test_tokens_that_the_stored_certificate_gets_are_not_sent_to_another_place(
    functions: Functions, api: Api, tmp_path: Path
) -> None:
    """Neither in one step nor in several: by a part of the credentials, by all of them, by taking them away first."""
    client = {
        "token_url": "https://bank.example/token",
        "client_id": "acme",
        "client_authentication": "tls_client_auth",
    }
    auth, certificate = {"type": "oauth2", **client}, certified(tmp_path)
    api.destination("https://bank.example", auth=auth, client_certificate=certificate)
    before = functions.sql("SELECT * FROM destination")
    for changes in ({"scope": "payments"}, {**auth, "type": "oauth2", "scope": "payments"}, None):
        refused = patch(api, {"base_url": "https://evil.example", "auth": changes})
        assert (refused.status, refused.faults) == (422, ["/client_certificate"])
    moved = {"base_url": "https://evil.example", "client_certificate": certificate}
    assert patch(api, moved).faults == ["/auth"]
    assert functions.sql("SELECT * FROM destination") == before
    assert patch(api, {**moved, "auth": {"scope": "payments"}}).status == 200
    assert patch(api, {"base_url": "https://bank.example", "client_certificate": None, "auth": None}).status == 200


def test_a_scheme_to_sign_with_keeps_its_keys_unless_they_are_given(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example", signing=SIGNING)
    shown = api.get(PATH).json["signing"]
    assert made["signing"][0]["keys"][0]["secret"].startswith("whsec_")
    longer = [shown[0], shown[1] | {"prefix": "sha256="} if "prefix" in shown[1] else shown[1] | {"header": "X-Own"}]
    changed = patch(api, {"signing": longer})
    assert changed.status == 200, changed.body
    assert [scheme["keys"] for scheme in changed.json["signing"]] == [scheme["keys"] for scheme in shown]
    fewer = patch(api, {"signing": [shown[1]]}).json["signing"]
    assert [scheme["name"] for scheme in fewer] == ["own"]
    more = patch(api, {"signing": [*SIGNING]}).json["signing"]
    assert "secret" in more[0]["keys"][0]  # it is new, and is told this once
    assert "secret" not in more[1]["keys"][0]
    assert "secret" not in api.get(PATH).json["signing"][0]["keys"][0]


def test_a_header_that_signs_is_not_that_of_the_credentials(api: Api) -> None:
    api.destination("https://bank.example", signing=SIGNING)
    clash = patch(api, {"auth": {"type": "header", "name": "X-Signature", "value": SECRET}})
    assert (clash.status, clash.faults) == (422, ["/signing/1/header"])
    assert patch(api, {"auth": {"type": "header", "name": "X-Key", "value": SECRET}}).status == 200
    assert patch(api, {"signing": [SIGNING[1] | {"header": "x-key"}]}).faults == ["/signing/0/header"]

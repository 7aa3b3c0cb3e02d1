"""/v1/destinations: events in, rows and responses out."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.egress.authorities import Authority
from tests.egress.servers import Partner, Script
from tests.support.api import HOST, NOBODYS_ID, Api, Functions
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

SECRET = "hunter2-and-then-some"
CREDENTIALS = [
    ({"type": "bearer", "token": SECRET}, b"Authorization: Bearer hunter2-and-then-some"),
    (
        {"type": "basic", "username": "ann", "password": SECRET},
        b"Authorization: Basic YW5uOmh1bnRlcjItYW5kLXRoZW4tc29tZQ==",
    ),
    ({"type": "header", "name": "X-Api-Key", "value": SECRET}, b"X-Api-Key: hunter2-and-then-some"),
    (
        {"type": "header", "headers": [{"name": "X-Id", "value": "acme"}, {"name": "X-Key", "value": SECRET}]},
        b"X-Id: acme\r\nX-Key: hunter2-and-then-some",
    ),
]
AWS = {"region": "eu-central-1", "service": "execute-api", "access_key_id": "AKIDEXAMPLE26NOV"}
CLIENT = {"token_url": "https://login.bank.example/token", "client_id": "acme", "scope": "payments"}
SHOWN = [
    ({"type": "header", "name": "X-Api-Key", "value": SECRET}, {"headers": [{"name": "X-Api-Key"}]}),
    (
        {"type": "header", "headers": [{"name": "A", "value": SECRET}, {"name": "B", "value": SECRET}]},
        {"headers": [{"name": "A"}, {"name": "B"}]},
    ),
    ({"type": "aws_sigv4", **AWS, "secret_access_key": SECRET, "session_token": SECRET}, AWS),
    (
        {"type": "oauth2", **CLIENT, "client_secret": SECRET, "parameters": {"resource": "a"}},
        CLIENT | {"client_authentication": "client_secret_basic", "parameters": {"resource": "a"}},
    ),
]


def test_a_destination_is_created_with_what_was_left_out_filled_in(functions: Functions, api: Api) -> None:
    made = api.post("/v1/destinations", {"name": "bank", "base_url": "https://api.bank.example/v1"})

    assert (made.status, made.header("ETag")) == (201, '"1"')
    body = made.json
    assert made.header("Location") == f"/dev/v1/destinations/{body['destination_id']}"
    assert body == {
        "destination_id": body["destination_id"],
        "name": "bank",
        "base_url": "https://api.bank.example/v1",
        "auth": {"type": "none"},
        "client_certificate": None,
        "tls": None,
        "timeouts": {"connect_seconds": 5.0, "first_byte_seconds": 15.0, "total_seconds": 20.0},
        "guarantee": "auto",
        "idempotent": False,
        "idempotency_header": "Idempotency-Key",
        "signing": [],
        "retry": None,
        "allow": None,
        "verify": None,
        "reconcile": None,
        "events_to": None,
        "redact": None,
        "retention": None,
        "limits": None,
        "circuit_breaker": {
            "enabled": True,
            "failure_ratio": 0.9,
            "window_seconds": 60,
            "minimum_attempts": 20,
            "open_seconds": 30,
        },
        "windows": [],
        "ordering": {"after_failure": "hold"},
        "state": "active",
        "state_reason": None,
        "state_changed_at": None,
        "state_changed_by": None,
        "version": 1,
        "created_at": body["created_at"],
    }
    (row,) = functions.sql("SELECT * FROM destination")
    assert row["destination_id"] == UUID(body["destination_id"])
    assert row["sealed_credentials"] is None


@pytest.mark.parametrize(("auth", "rest"), SHOWN)
def test_what_is_not_secret_of_credentials_is_shown_and_the_rest_is_sealed(
    functions: Functions, api: Api, auth: dict[str, Any], rest: dict[str, Any]
) -> None:
    made = api.destination("https://api.bank.example", auth=auth)
    assert made["auth"] == {"type": auth["type"], **rest}
    assert api.get("/v1/destinations/partner").json["auth"] == made["auth"]
    assert SECRET not in str(functions.sql("SELECT * FROM destination"))
    assert SECRET not in functions.log.getvalue()


def test_a_certificate_is_shown_without_its_key_and_sealed(functions: Functions, api: Api, tmp_path: Path) -> None:
    certificate, key = Authority.new(tmp_path).client(
        "acme", starts_in=timedelta(days=-3650), lasts=timedelta(days=7300)
    )
    made = api.destination(
        "https://api.bank.example",
        client_certificate={"certificate": certificate, "key": key},
        tls={"minimum_version": "1.3"},
    )
    shown = made["client_certificate"]
    assert (shown["subject"], shown["issuer"], len(shown["sha256"])) == ("CN=acme", "CN=tests", 64)
    assert shown["not_before"] < "2026" < shown["not_after"]
    assert made["tls"] == {"ca": None, "pins": [], "minimum_version": "1.3"}
    assert api.get("/v1/destinations/partner").json == made
    assert "PRIVATE KEY" not in str(functions.sql("SELECT * FROM destination")) + functions.log.getvalue()


@pytest.mark.parametrize(
    ("token_url", "detail"),
    [
        ("http://10.0.0.1/token", "private use"),
        ("http://169.254.169.254/token", "link local"),
        (f"https://{HOST}/token", "must not be this API itself"),
        ("ftp://login.bank.example", "must begin with http"),
        ("https://user@login.bank.example", "must not contain a user name"),
    ],
)
def test_a_token_url_goes_through_the_same_guard(api: Api, token_url: str, detail: str) -> None:
    auth = {"type": "oauth2", **CLIENT, "client_secret": SECRET, "token_url": token_url}
    answer = api.post("/v1/destinations", {"name": "bank", "base_url": "https://api.bank.example", "auth": auth})
    assert answer.status == 422
    (fault,) = answer.json["faults"]
    assert (fault["field"], detail in fault["detail"]) == ("/auth/token_url", True)


def test_the_faults_of_urls_are_said_with_all_others(api: Api) -> None:
    auth = {"type": "oauth2", **CLIENT, "token_url": "http://10.0.0.1/"}
    answer = api.post("/v1/destinations", {"name": "bank", "base_url": "http://127.0.0.1:99999", "auth": auth})
    assert [fault["field"] for fault in answer.json["faults"]] == [
        "/base_url",
        "/auth/token_url",
        "/auth/client_secret",
    ]


def test_all_faults_are_said_at_once_whoever_finds_them(api: Api) -> None:
    """Types, what looks at values, the guard for URLs and the database for time zones."""
    window = {"days": ["mon"], "from": "08:00", "to": "16:30", "time_zone": "Europe/Berln"}
    members = {
        "limits": {"rate": 0},
        "retry": {"schedule": [0, 5, 3]},
        "windows": [window, {**window, "time_zone": "UTC"}, {**window, "to": "08:00"}],
        "base_url": "https://169.254.169.254",
        "unknown": 1,
    }
    fields = ["", "/limits/rate", "/base_url", "/windows/0/time_zone", "/windows/2/time_zone", "/retry/schedule/2"]
    fields += ["/windows/2/to"]
    assert api.post("/v1/destinations", {"name": "bank", **members}).faults == fields
    api.destination("https://bank.example", name="bank")
    refused = api.call("PATCH", "/v1/destinations/bank", body=json.dumps(members).encode())
    assert sorted(refused.faults) == sorted(fields)


def test_who_created_a_destination_is_noted_from_where_and_no_value(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example", auth={"type": "bearer", "token": SECRET})
    (act,) = acts(functions)
    assert act["what"] == "destination.created"
    assert act["on"] == made["destination_id"]
    assert act["by"] == (api.authorizer or {})["token_id"]
    assert act["source_address"] == "198.51.100.7"
    assert SECRET not in functions.log.getvalue()


def acts(functions: Functions) -> list[dict[str, Any]]:
    """The acts that were noted, in their order."""
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    return [line for line in lines if line["message"] == "act"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, (5.0, 15.0, 20.0)),
        ({"total_seconds": 3}, (3.0, 3.0, 3.0)),
        ({"total_seconds": 10}, (5.0, 10.0, 10.0)),
        ({"total_seconds": 25, "first_byte_seconds": 25, "connect_seconds": 25}, (25.0, 25.0, 25.0)),
        ({"total_seconds": 0.1, "first_byte_seconds": 0.1}, (0.1, 0.1, 0.1)),
        ({"connect_seconds": 1, "first_byte_seconds": 2}, (1.0, 2.0, 20.0)),
    ],
)
def test_deadlines_that_are_not_given_fit_into_the_total(
    api: Api, given: dict[str, float], made: tuple[float, float, float]
) -> None:
    timeouts = api.destination("https://bank.example", timeouts=given)["timeouts"]
    assert (timeouts["connect_seconds"], timeouts["first_byte_seconds"], timeouts["total_seconds"]) == made


def test_deadlines_longer_than_the_total_are_refused_and_not_cut(refusing: Functions) -> None:
    timeouts = {"connect_seconds": 3.5, "first_byte_seconds": 4, "total_seconds": 3}
    body = {"name": "bank", "base_url": "https://bank.example"}
    refused = refusing.api.post("/v1/destinations", body | {"timeouts": timeouts})
    assert (refused.status, refused.faults) == (422, ["/timeouts/connect_seconds", "/timeouts/first_byte_seconds"])
    assert {fault["detail"] for fault in refused.json["faults"]} == {"must be at most total_seconds, which is 3"}
    refused = refusing.api.post("/v1/destinations", body | {"timeouts": {"first_byte_seconds": 20.5}})
    assert refused.json["faults"] == [
        {"field": "/timeouts/first_byte_seconds", "detail": "must be at most total_seconds, which is 20"}
    ]


def test_a_name_as_long_as_an_id_is_a_name_where_it_is_none(api: Api) -> None:
    name = "a-bank-whose-name-has-36-characters-"
    assert len(name) == 36
    assert api.destination("https://bank.example", name=name)["name"] == name
    assert api.get(f"/v1/destinations/{name}").json["name"] == name


def test_a_destination_is_found_by_its_name_and_by_its_id(api: Api) -> None:
    made = api.destination("https://bank.example")
    assert api.get("/v1/destinations/partner").json == made
    assert api.get(f"/v1/destinations/{made['destination_id']}").json == made


@pytest.mark.parametrize("reference", ["nobody", NOBODYS_ID, "%00", "a%2Fb", "x" * 300])
def test_what_does_not_exist_is_not_found(refusing: Functions, reference: str) -> None:
    assert refusing.api.get(f"/v1/destinations/{reference}").kind == "not-found"


def test_a_name_is_taken_once_per_tenant(functions: Functions, api: Api) -> None:
    api.destination("https://bank.example")
    again = api.post("/v1/destinations", {"name": "partner", "base_url": "https://other.example"})
    assert (again.status, again.kind) == (409, "name-taken")
    functions.other_api.destination("https://other.example")


def test_another_tenants_destination_is_not_there(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    other = functions.other_api
    assert other.get("/v1/destinations/partner").status == 404
    assert other.get(f"/v1/destinations/{made['destination_id']}").status == 404
    assert other.get("/v1/destinations").json == {"destinations": [], "next_cursor": None}
    assert other.create_delivery(destination=made["destination_id"]).kind == "not-found"
    assert other.call("GET", f"/v1/via/{made['destination_id']}/x").kind == "not-found"


def test_the_list_is_newest_first_and_its_pages_do_not_shift_while_new_ones_come_in(api: Api) -> None:
    names = [f"bank-{number}" for number in range(5)]
    for name in names:
        api.destination("https://bank.example", name=name)
        time.sleep(0.002)  # the order is that of the milliseconds
    first = api.get("/v1/destinations?limit=2").json
    api.destination("https://bank.example", name="a-late-one")
    second = api.get(f"/v1/destinations?limit=2&cursor={first['next_cursor']}").json
    last = api.get(f"/v1/destinations?limit=2&cursor={second['next_cursor']}").json

    shown = [destination["name"] for page in (first, second, last) for destination in page["destinations"]]
    assert shown == names[::-1]
    assert last["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("limit=-1", "limit"),
        ("limit=0001000", "limit"),
        (f"limit={'0' * 3}200{'0' * 5000}", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=zzz", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("curser=x", "query"),
    ],
)
def test_a_list_says_which_parameter_is_wrong(refusing: Functions, query: str, field: str) -> None:
    answer = refusing.api.get(f"/v1/destinations?{query}")
    assert (answer.status, answer.faults) == (422, [field])


@pytest.mark.parametrize(("auth", "line"), CREDENTIALS)
def test_credentials_reach_the_partner_and_nothing_else(
    functions: Functions,
    api: Api,
    partner: StartPartner,
    capfd: pytest.CaptureFixture[str],
    auth: dict[str, Any],
    line: bytes,
) -> None:
    server = partner(answers(200))
    made = api.destination(server.url(), auth=auth)
    waited = api.create_delivery(("Prefer", "wait=5"))
    shown = [
        waited.body,
        api.get("/v1/destinations").body,
        api.get("/v1/destinations/partner").body,
        api.call("POST", "/v1/via/partner/x", body=b"{}").body,
        api.get("/v1/deliveries").body,
        api.get(f"/v1/deliveries/{waited.json['delivery_id']}").body,
    ]

    assert [request.count(b"\r\n" + line + b"\r\n") for request in server.requests] == [1, 1]
    assert made["auth"]["type"] == auth["type"]
    everywhere = [str(made), *map(str, shown), functions.log.getvalue(), *capfd.readouterr(), *stored(functions)]
    assert not [text for text in everywhere if SECRET in text]
    assert "attempt made" in functions.log.getvalue()


def stored(functions: Functions) -> list[str]:
    """All that the tables hold, as text; bytea as the bytes they are."""
    rows = [
        *functions.sql("SELECT * FROM destination"),
        *functions.sql("SELECT * FROM delivery"),
        *functions.sql("SELECT * FROM attempt"),
    ]
    return [str(value) for row in rows for value in row.values()]


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        ({"type": "bearer", "token": f"{SECRET}\r\nX-Evil: 1"}, "/auth/token"),
        ({"type": "bearer", "token": ""}, "/auth/token"),
        ({"type": "bearer"}, "/auth/token"),
        ({"type": "bearer", "token": SECRET, "tokn": SECRET}, "/auth"),
        ({"type": "basic", "username": f"a:{SECRET}", "password": "b"}, "/auth/username"),
        ({"type": "basic", "username": "a", "password": f"{SECRET}\n"}, "/auth/password"),
        ({"type": "header", "name": "X-Key", "value": f"{SECRET}\u20ac"}, "/auth/value"),
        ({"type": "header", "name": "X Key", "value": SECRET}, "/auth/name"),
        ({"type": "header", "name": "Host", "value": SECRET}, "/auth/name"),
        ({"type": "header", "name": "Sallyport-Key", "value": SECRET}, "/auth/name"),
        ({"type": "oauth", "token": SECRET}, "/auth/type"),
        ({"token": SECRET}, "/auth"),
        (SECRET, "/auth"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_without_repeating_them(
    refusing: Functions, auth: object, field: str
) -> None:
    wanted = {"name": "bank", "base_url": "https://bank.example", "auth": auth}
    refused = refusing.api.post("/v1/destinations", wanted)
    assert (refused.status, refused.faults) == (422, [field])
    assert SECRET not in refused.body.decode() + refusing.log.getvalue()


def test_a_destination_may_carry_its_own_authorization_and_key_headers(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    auth = {"type": "header", "name": "Authorization", "value": "Token abc"}
    api.destination(server.url(), auth=auth, idempotency_header="X-Request-Id")
    api.create_delivery(("Prefer", "wait=5"), ("Idempotency-Key", "order-1"))
    lines = server.requests[0].split(b"\r\n")
    assert b"Authorization: Token abc" in lines
    assert b"X-Request-Id: order-1" in lines
    assert not [line for line in lines if line.lower().startswith(b"idempotency-key")]


PRIVATE_OR_ODD = [
    "http://10.0.0.1",
    "http://172.16.0.1",
    "http://192.168.1.1",
    "http://169.254.169.254/latest/meta-data",
    "http://[fd00:ec2::254]/",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[2002:a9fe:a9fe::1]",
    "http://[::ffff:10.0.0.1]",
    "http://0177.0.0.1",
    "http://127.1",
    "http://0x7f000001",
    "http://2130706433",
    "http://user:password@bank.example",
    "http://bank.example#x",
    "http://bank.example:99999",
    "http://bank.example.",
    "ftp://bank.example",
    "file:///etc/passwd",
    "//bank.example",
    "bank.example",
    "",
    "http://",
    "http://bank.example/a b",
    "http://bank.example/\r\nX-Evil: 1",
    "http://bank.example\\@evil.example",
    "http://b\u00e4nk.example",
    "https://bank.example/v1?key=1",
    "https://bank.example/v1?",
    "https://bank.example/v1/../admin",
    "https://bank.example/%2e%2e/admin",
    "http://198.51.100.10",  # one of our own fixed addresses, and TEST-NET-2
    f"https://{HOST}/dev",
    f"https://{HOST.upper()}:443/dev",
]


@pytest.mark.parametrize("url", PRIVATE_OR_ODD)
def test_a_private_or_odd_url_is_refused_at_the_door(refusing: Functions, url: str) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "bank", "base_url": url})
    assert (refused.status, refused.faults) == (422, ["/base_url"])


def test_every_field_at_fault_is_listed(refusing: Functions) -> None:
    refused = refusing.api.post(
        "/v1/destinations",
        {"name": "Bank!", "auth": {"type": "bearer", "token": 7}, "timeouts": {"total_seconds": 26, "x": 1}, "nmae": 1},
    )
    assert sorted(refused.faults) == [
        "",
        "/auth/token",
        "/base_url",
        "/name",
        "/timeouts",
        "/timeouts/total_seconds",
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": NOBODYS_ID}, "/name"),
        ({"name": "bank\n"}, "/name"),
        ({"name": "bank\r\nX-Evil: 1"}, "/name"),
        ({"name": "b\u0000"}, "/name"),
        ({"name": "x" * 64}, "/name"),
        ({"idempotency_header": "X Key"}, "/idempotency_header"),
        ({"idempotency_header": "X-Key\n"}, "/idempotency_header"),
        ({"idempotency_header": "Content-Length"}, "/idempotency_header"),
        ({"guarantee": "exactly_once"}, "/guarantee"),
        ({"idempotent": "yes"}, "/idempotent"),
        ({"timeouts": {"connect_seconds": 0}}, "/timeouts/connect_seconds"),
        ({"timeouts": {"connect_seconds": True}}, "/timeouts/connect_seconds"),
        ({"timeouts": 5}, "/timeouts"),
    ],
)
def test_a_wrong_field_is_named(refusing: Functions, fields: dict[str, Any], field: str) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "bank", "base_url": "https://bank.example"} | fields)
    assert (refused.status, refused.faults) == (422, [field])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"idempotency_header": "Content-Type"}, "/idempotency_header"),
        ({"idempotency_header": "Authorization"}, "/idempotency_header"),
        ({"idempotency_header": "Cookie"}, "/idempotency_header"),
        (
            {"idempotency_header": "X-Key", "auth": {"type": "header", "name": "x-key", "value": "v"}},
            "/idempotency_header",
        ),
        ({"auth": {"type": "header", "name": "Content-Length", "value": "v"}}, "/auth/name"),
    ],
)
def test_the_header_of_the_key_is_free_of_other_uses(refusing: Functions, fields: dict[str, Any], field: str) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "bank", "base_url": "https://bank.example", **fields})
    assert (refused.status, refused.faults) == (422, [field])

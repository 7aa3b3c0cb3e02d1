"""Callers that send what nobody can accept: each is told what is wrong with it, and nothing is stored."""

import json
from typing import Any

import pytest

from tests.support.api import NOBODYS_ID, Functions

NUL = "\u0000"
LONE = "\ud83d"
LIMIT = 4 * 1024 * 1024


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/destinations"])
@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"{",
        b'{"destination": "partner"',
        b'{"destination": "partner",}',
        b"{'destination': 'partner'}",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"metadata": {"a": 1e999}}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b'{"a": "\xe9"}',
        b'{"a": "\x00"}',
        b'{"name": "a", "name": "b"}',
        b'{"metadata": {"a": 1, "\\u0061": 2}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_body_that_cannot_be_read_is_malformed(refusing: Functions, path: str, body: bytes | None) -> None:
    answer = refusing.api.call("POST", path, body=body)
    assert (answer.status, answer.kind) == (400, "malformed-request")
    assert len(answer.body) < 500


def test_where_a_body_stops_being_json_is_said(refusing: Functions) -> None:
    answer = refusing.api.call("POST", "/v1/deliveries", body=b'{"destination": "partner",\n  "body": }')
    assert "line 2, column 11" in answer.json["detail"]


def test_the_position_of_a_duplicate_name_is_reported(refusing: Functions) -> None:
    answer = refusing.api.call("POST", "/v1/deliveries", body=b'{"destination": "a", "b": 1, "destination": "b"}')
    assert "same name; the second is number 3" in answer.json["detail"]


def test_every_field_at_fault_is_listed_at_once(refusing: Functions) -> None:
    answer = refusing.api.post(
        "/v1/deliveries",
        {
            "method": "post",
            "path": 7,
            "query": ["a"],
            "headers": {"X-A": 1},
            "body": 7,
            "not_before": "soon",
            "metadata": [],
            "extra": True,
            "a/b~c": 1,
        },
    )
    assert sorted(answer.faults) == [
        "",
        "/body",
        "/destination",
        "/headers",
        "/metadata",
        "/method",
        "/not_before",
        "/path",
        "/query",
    ]


def test_faults_that_the_types_cannot_show_are_listed_at_once_too(refusing: Functions) -> None:
    answer = refusing.api.create_delivery(
        path="no-slash",
        query="a b",
        headers={"X Bad": "1", "Host": "evil.example", "X-Line": "a\r\nb"},
        body="text",
        body_base64="dGV4dA==",
        metadata={"a": "x" * 5000},
        not_before="2020-01-01T00:00:00Z",
    )
    assert sorted(answer.faults) == [
        "/body_base64",
        "/headers",
        "/headers",
        "/headers",
        "/metadata",
        "/not_before",
        "/path",
        "/query",
    ]


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"method": "TRACE"}, "/method"),
    ({"method": "CONNECT"}, "/method"),
    ({"method": "POST\n"}, "/method"),
    ({"method": "GET / HTTP/1.1\r\nX: "}, "/method"),
    ({"path": "orders"}, "/path"),
    ({"path": "/a b"}, "/path"),
    ({"path": "/a\r\nX-Evil: 1"}, "/path"),
    ({"path": "/a\n"}, "/path"),
    ({"path": "/a?b"}, "/path"),
    ({"path": "/a#b"}, "/path"),
    ({"path": "/%zz"}, "/path"),
    ({"path": "/\u00e9"}, "/path"),
    ({"path": "/../x"}, "/path"),
    ({"path": "/a/%2e%2E"}, "/path"),
    ({"path": f"/{NUL}"}, "/path"),
    ({"path": "/" + "a" * 4096}, "/path"),
    ({"query": "a=1#b"}, "/query"),
    ({"query": "a=1\r\nX-Evil: 1"}, "/query"),
    ({"query": "a=%"}, "/query"),
    ({"headers": {"X-A": "a\r\nX-Evil: 1"}}, "/headers"),
    ({"headers": {"X-A": "a\n"}}, "/headers"),
    ({"headers": {"X-A": ["fine", f"a{NUL}"]}}, "/headers"),
    ({"headers": {"X-A": "\u20ac"}}, "/headers"),
    ({"headers": {"X-A": LONE}}, "/headers"),
    ({"headers": {"X-A\r\nX-Evil": "1"}}, "/headers"),
    ({"headers": {"X-A\n": "1"}}, "/headers"),
    ({"headers": {"": "1"}}, "/headers"),
    ({"headers": {"X/A": "\n"}}, "/headers"),
    ({"headers": {"Content-Length": "5"}}, "/headers"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "/headers"),
    ({"headers": {"connection": "close"}}, "/headers"),
    ({"headers": {"Authorization": "Bearer x"}}, "/headers"),
    ({"headers": {"Idempotency-Key": "x"}}, "/headers"),
    ({"headers": {"Sallyport-X": "x"}}, "/headers"),
    ({"headers": {"X-Long": "x" * 16 * 1024}}, "/headers"),
    ({"headers": ["X-A"]}, "/headers"),
    ({"body": 7}, "/body"),
    ({"body": True}, "/body"),
    ({"body": LONE}, "/body"),
    ({"body": {"a": LONE}}, "/body"),
    ({"body": {LONE: 1}}, "/body"),
    ({"body": None, "body_base64": "not base64!"}, "/body_base64"),
    ({"body": None, "body_base64": "YQ"}, "/body_base64"),
    ({"body": None, "body_base64": "YQ==\n"}, "/body_base64"),
    ({"body": None, "body_base64": "\u00e9"}, "/body_base64"),
    ({"method": "HEAD"}, "/body"),
    ({"metadata": {"a": NUL}}, "/metadata"),
    ({"metadata": {NUL: 1}}, "/metadata"),
    ({"metadata": {"a": [{"b": LONE}]}}, "/metadata"),
    ({"metadata": {LONE: 1}}, "/metadata"),
    ({"metadata": {"a": "x" * 4096}}, "/metadata"),
    ({"metadata": "text"}, "/metadata"),
    ({"destination": ""}, "/destination"),
    ({"destination": None}, "/destination"),
    ({"destination": LONE}, "/destination"),
    ({"not_before": LONE}, "/not_before"),
    ({LONE: 1}, ""),
    ({"headers": {LONE: "1"}}, "/headers"),
    ({"headers": {"X-A": ["1"] * 101}}, "/headers"),
    ({"metadata": {"a": "\u20ac" * 1363}}, "/metadata"),  # 4097 bytes
    ({"destination": "x" * 64}, "/destination"),
    ({"idempotency_key": "a"}, ""),
]


@pytest.mark.parametrize(("fields", "field"), BAD_FIELDS)
def test_a_wrong_field_is_named(refusing: Functions, fields: dict[str, Any], field: str) -> None:
    answer = refusing.api.create_delivery(**fields)
    assert (answer.status, answer.faults) == (422, [field])
    assert refusing.queue.messages == []


@pytest.mark.parametrize(
    "reference",
    ["nobody", NOBODYS_ID, "a b", "Partner", "b\u00e4nk", f"a{NUL}", "partner\n", "../partner", "a\r\nb", "-"],
)
def test_a_destination_that_does_not_exist_is_not_found(refusing: Functions, reference: str) -> None:
    assert refusing.api.create_delivery(destination=reference).kind == "not-found"
    assert len(refusing.queue.messages) == (1 if reference in ("nobody", NOBODYS_ID) else 0)


def test_another_tenants_ids_are_nobodys(refusing: Functions) -> None:
    destination_id = refusing.api.get("/v1/destinations/partner").json["destination_id"]
    other = refusing.other_api
    for reference in ("partner", destination_id, destination_id.upper()):
        assert other.create_delivery(destination=reference).kind == "not-found"
        assert other.call("POST", f"/v1/via/{reference}/x", body=b"{}").kind == "not-found"
        assert other.get(f"/v1/destinations/{reference}").kind == "not-found"
        assert other.get(f"/v1/deliveries?destination={reference}").kind == "not-found"


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/destinations", "/v1/via/partner/x"])
def test_a_body_over_four_mebibytes_is_too_large(refusing: Functions, path: str) -> None:
    answer = refusing.api.call("POST", path, body=bytes(LIMIT + 1))
    assert (answer.status, answer.kind) == (413, "too-large")
    assert refusing.queue.messages == []


def test_a_body_of_exactly_four_mebibytes_is_read(refusing: Functions) -> None:
    frame = json.dumps({"destination": "nobody", "body": ""}).encode()
    body = frame.replace(b'""', b'"' + b"x" * (LIMIT - len(frame)) + b'"')
    assert len(body) == LIMIT
    assert refusing.api.call("POST", "/v1/deliveries", body=body).kind == "not-found"


def test_metadata_may_be_nested_deeply_within_its_length(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    accepted = functions.api.create_delivery(metadata={"a": deep})
    assert accepted.json["metadata"] == {"a": deep}


def test_escapes_that_only_look_like_nul_are_text(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    metadata = {"a": "\\u0000", "b": "\\\\u0000", "c": "\\ud800"}
    assert functions.api.create_delivery(metadata=metadata).json["metadata"] == metadata


def test_a_body_with_nul_is_the_partners_to_judge(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    assert functions.api.create_delivery(body={"a": NUL}).status == 202
    assert functions.api.create_delivery(body=f"a{NUL}").status == 202
    assert {row["body"] for row in functions.sql("SELECT body FROM delivery_body")} == {b'{"a": "\\u0000"}', b"a\x00"}


def test_what_is_exactly_at_a_limit_is_accepted(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    at_the_limit: list[dict[str, Any]] = [
        {"path": "/" + "a" * 4095},
        {"query": "a" * 4096},
        {"headers": {"X-A": ["1"] * 100}},
        {"headers": {"X-Long": "x" * (16 * 1024 - 6)}},
        {"metadata": {"a": "x" * 4087}},
        {"metadata": {"a": "\u20ac" * 1362 + "x"}},  # both 4096 bytes of JSON
    ]
    assert [functions.api.create_delivery(**fields).status for fields in at_the_limit] == [202] * len(at_the_limit)


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"X-Long": "x" * (16 * 1024 - 5)}},
        {"query": "a" * 4097},
        {"metadata": {"a": "x" * 4089}},
    ],
)
def test_what_is_beyond_a_limit_is_refused(refusing: Functions, fields: dict[str, Any]) -> None:
    assert refusing.api.create_delivery(**fields).faults == [f"/{name}" for name in fields]


def test_of_very_many_faults_the_first_are_listed_and_the_others_counted(refusing: Functions) -> None:
    answer = refusing.api.create_delivery(headers={f"X {number}": "" for number in range(30_000)})
    assert len(answer.faults) == 100
    assert answer.json["faults_in_all"] == 30_002  # each name, their number, and their length
    assert len(answer.body) < 50_000


SECRET = "hunter2"
MISPLACED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/destinations", {SECRET: 1}),
    ("/v1/destinations", {"name": SECRET.upper()}),
    ("/v1/destinations", {"base_url": SECRET}),
    ("/v1/destinations", {"base_url": f"https://user:{SECRET}@bank.example"}),
    ("/v1/destinations", {"base_url": f"{SECRET}://bank.example"}),
    ("/v1/destinations", {"base_url": f"https://bank.example:{SECRET}"}),
    ("/v1/destinations", {"auth": SECRET}),
    ("/v1/destinations", {"auth": {SECRET: SECRET}}),
    ("/v1/destinations", {"auth": {"type": SECRET}}),
    ("/v1/destinations", {"auth": {"type": "bearer", SECRET: 1, "token": "t"}}),
    ("/v1/destinations", {"auth": {"type": "header", "name": f"content-{SECRET}", "value": "v"}}),
    ("/v1/destinations", {"auth": {"type": "header", "name": f"sallyport-{SECRET}", "value": "v"}}),
    ("/v1/destinations", {"auth": {"type": "header", "name": f"{SECRET} ", "value": "v"}}),
    ("/v1/destinations", {"auth": {"type": "basic", "username": f":{SECRET}", "password": "p"}}),
    ("/v1/destinations", {"guarantee": SECRET}),
    ("/v1/destinations", {"idempotent": SECRET}),
    ("/v1/destinations", {"idempotency_header": f"content-{SECRET}"}),
    ("/v1/destinations", {"timeouts": {SECRET: 1, "total_seconds": SECRET}}),
    ("/v1/deliveries", {SECRET: SECRET}),
    ("/v1/deliveries", {"destination": SECRET}),
    ("/v1/deliveries", {"method": SECRET}),
    ("/v1/deliveries", {"path": SECRET}),
    ("/v1/deliveries", {"query": f"#{SECRET}"}),
    ("/v1/deliveries", {"headers": {SECRET: "\n"}}),
    ("/v1/deliveries", {"headers": {SECRET: 1}}),
    ("/v1/deliveries", {"headers": {f"X {SECRET}": SECRET}}),
    ("/v1/deliveries", {"headers": {f"sallyport-{SECRET}": SECRET}}),
    ("/v1/deliveries", {"headers": {"authorization": SECRET}}),
    ("/v1/deliveries", {"body_base64": SECRET}),
    ("/v1/deliveries", {"not_before": SECRET}),
    ("/v1/deliveries", {"metadata": SECRET}),
    ("/v1/deliveries", {"metadata": {SECRET: NUL}}),
]


@pytest.mark.parametrize(("path", "fields"), MISPLACED)
def test_a_secret_in_the_wrong_place_is_not_repeated(refusing: Functions, path: str, fields: dict[str, Any]) -> None:
    complete: dict[str, dict[str, Any]] = {
        "/v1/destinations": {"name": "bank", "base_url": "https://bank.example"},
        "/v1/deliveries": {"destination": "partner"},
    }
    answer = refusing.api.post(path, complete[path] | fields)
    assert answer.status in (404, 422)
    assert SECRET not in (answer.body.decode() + str(answer.headers) + refusing.log.getvalue()).lower()


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", f"/v1/deliveries?{SECRET}=1", []),
        *(("GET", f"/v1/deliveries?{name}={SECRET}", []) for name in ("state", "since", "until", "limit", "cursor")),
        ("GET", f"/v1/deliveries?destination={SECRET}", []),
        ("GET", f"/v1/destinations?{SECRET}={SECRET}", []),
        ("GET", f"/v1/deliveries/{SECRET}", []),
        ("GET", f"/v1/destinations/{SECRET}", []),
        ("GET", f"/{SECRET}", []),
        ("PUT", f"/v1/destinations/{SECRET}", []),
        ("POST", f"/v1/via/{SECRET}/x", []),
        ("POST", f"/v1/via/partner/{SECRET}/..", []),
        ("POST", "/v1/via/partner/x", [("Idempotency-Key", f"{SECRET} {SECRET}")]),
        ("POST", "/v1/deliveries", [("Idempotency-Key", f"{SECRET} {SECRET}"), ("Prefer", f"wait={SECRET}")]),
    ],
)
def test_nor_is_one_in_a_path_a_parameter_or_a_header(
    refusing: Functions, method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    body = b'{"destination": "partner"}' if method == "POST" else None
    answer = refusing.api.call(method, target, body=body, headers=headers)
    assert answer.status in (400, 404, 405, 422)
    assert SECRET not in answer.body.decode() + str(answer.headers) + refusing.log.getvalue()


@pytest.mark.parametrize(
    "body", [b'{"hunter2": 1, "hunter2": 2}', b'{"a": hunter2}', b'{"a": "\\hunter2"}', b"hunter2", b'"hunter2"']
)
def test_nor_is_one_in_a_body_that_cannot_be_read(refusing: Functions, body: bytes) -> None:
    answer = refusing.api.call("POST", "/v1/deliveries", body=body)
    assert answer.kind == "malformed-request"
    assert SECRET not in answer.body.decode() + refusing.log.getvalue()


def test_nor_is_the_name_of_a_destination_that_there_is(refusing: Functions) -> None:
    refused = refusing.api.post("/v1/destinations", {"name": "partner", "base_url": "https://bank.example"})
    assert refused.kind == "name-taken"
    assert "partner" not in refused.json["detail"]

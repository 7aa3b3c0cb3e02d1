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


def test_the_name_that_stands_twice_is_said(refusing: Functions) -> None:
    answer = refusing.api.call("POST", "/v1/deliveries", body=b'{"destination": "a", "destination": "b"}')
    assert "'destination' stands twice" in answer.json["detail"]


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
        "/a~1b~0c",
        "/body",
        "/destination",
        "/extra",
        "/headers",
        "/metadata",
        "/method",
        "/not_before",
        "/path",
        "/query",
    ]


def test_faults_that_the_types_cannot_show_are_listed_at_once_too(refusing: Functions) -> None:
    answer = refusing.api.hand_over(
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
        "/headers/Host",
        "/headers/X Bad",
        "/headers/X-Line",
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
    ({"headers": {"X-A": "a\r\nX-Evil: 1"}}, "/headers/X-A"),
    ({"headers": {"X-A": "a\n"}}, "/headers/X-A"),
    ({"headers": {"X-A": ["fine", f"a{NUL}"]}}, "/headers/X-A"),
    ({"headers": {"X-A": "\u20ac"}}, "/headers/X-A"),
    ({"headers": {"X-A": LONE}}, "/headers/X-A"),
    ({"headers": {"X-A\r\nX-Evil": "1"}}, "/headers/X-A\r\nX-Evil"),
    ({"headers": {"X-A\n": "1"}}, "/headers/X-A\n"),
    ({"headers": {"": "1"}}, "/headers/"),
    ({"headers": {"X/A": "\n"}}, "/headers/X~1A"),
    ({"headers": {"Content-Length": "5"}}, "/headers/Content-Length"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "/headers/Transfer-Encoding"),
    ({"headers": {"connection": "close"}}, "/headers/connection"),
    ({"headers": {"Authorization": "Bearer x"}}, "/headers/Authorization"),
    ({"headers": {"Idempotency-Key": "x"}}, "/headers/Idempotency-Key"),
    ({"headers": {"Sallyport-X": "x"}}, "/headers/Sallyport-X"),
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
    ({"destination": "x" * 64}, "/destination"),
    ({"idempotency_key": "a"}, "/idempotency_key"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_FIELDS)
def test_a_wrong_field_is_named(refusing: Functions, fields: dict[str, Any], field: str) -> None:
    answer = refusing.api.hand_over(**fields)
    assert (answer.status, answer.faults) == (422, [field])
    assert refusing.queue.messages == []


@pytest.mark.parametrize(
    "reference",
    ["nobody", NOBODYS_ID, "a b", "Partner", "b\u00e4nk", f"a{NUL}", LONE, "partner\n", "../partner", "a\r\nb", "-"],
)
def test_a_destination_that_does_not_exist_is_not_found(refusing: Functions, reference: str) -> None:
    assert refusing.api.hand_over(destination=reference).kind == "not-found"
    assert len(refusing.queue.messages) == (1 if reference in ("nobody", NOBODYS_ID) else 0)


def test_another_tenants_ids_are_nobodys(refusing: Functions) -> None:
    destination_id = refusing.api.get("/v1/destinations/partner").json["destination_id"]
    other = refusing.other_api
    for reference in ("partner", destination_id, destination_id.upper()):
        assert other.hand_over(destination=reference).kind == "not-found"
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
    accepted = functions.api.hand_over(metadata={"a": deep})
    assert accepted.json["metadata"] == {"a": deep}


def test_escapes_that_only_look_like_nul_are_text(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    metadata = {"a": "\\u0000", "b": "\\\\u0000", "c": "\\ud800"}
    assert functions.api.hand_over(metadata=metadata).json["metadata"] == metadata


def test_a_body_with_nul_is_the_partners_to_judge(functions: Functions) -> None:
    functions.api.destination("https://bank.example")
    assert functions.api.hand_over(body={"a": NUL}).status == 202
    assert functions.api.hand_over(body=f"a{NUL}").status == 202
    assert {row["body"] for row in functions.sql("SELECT body FROM delivery")} == {b'{"a": "\\u0000"}', b"a\x00"}

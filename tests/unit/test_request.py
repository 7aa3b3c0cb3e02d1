"""One call, read from API Gateway's event."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Forbidden, InvalidRequest, Malformed, NotFound, TooLarge
from handlers.request import BODY_LIMIT_BYTES, Request, request_of, uuid_of
from tests.support.api import NOBODYS_ID


def request(**event: Any) -> Request:
    return request_of({"httpMethod": "GET", "path": "/v1/x", "requestContext": {}} | event)


def with_header(name: str, *values: str) -> Request:
    return request(multiValueHeaders={name: list(values)})


def test_repeated_names_are_read_in_their_order() -> None:
    found = request(
        headers={"X-A": "2"},
        multiValueHeaders={"X-A": ["1", "2"], "X-B": ["3"]},
        queryStringParameters={"a": "2"},
        multiValueQueryStringParameters={"a": ["1", "2"], "b": [""]},
    )
    assert found.headers == (("X-A", "1"), ("X-A", "2"), ("X-B", "3"))
    assert found.query == (("a", "1"), ("a", "2"), ("b", ""))
    assert found.values("x-a") == ["1", "2"]
    assert found.raw_query() == "a=1&a=2&b="


def test_an_event_without_repeated_names_is_read_too() -> None:
    found = request(headers={"X-A": "1"}, queryStringParameters={"a": "b c/d+e"})
    assert (found.headers, found.raw_query()) == ((("X-A", "1"),), "a=b%20c%2Fd%2Be")


def test_an_event_with_nothing_in_it_is_a_call_with_nothing_in_it() -> None:
    found = request(headers=None, multiValueHeaders=None, queryStringParameters=None, body=None, requestContext=None)
    assert (found.headers, found.query, found.body, found.host, found.tenant) == ((), (), b"", "", "")
    assert found.scopes == frozenset()


@pytest.mark.parametrize(
    ("path", "in_context", "stage_path"),
    [("/v1/x", "/dev/v1/x", "/dev"), ("/v1/x", "/v1/x", ""), ("/v1/x", None, ""), ("/v1/x", "/base/v1/x", "/base")],
)
def test_the_prefix_of_the_path_is_the_stage_or_the_base_path(
    path: str, in_context: str | None, stage_path: str
) -> None:
    assert request(path=path, requestContext={"path": in_context}).stage_path == stage_path


@given(st.binary(max_size=50))
def test_the_body_is_bytes(body: bytes) -> None:
    assert request(body=b64encode(body).decode(), isBase64Encoded=True).body == body


def test_a_body_that_is_text_is_utf_8() -> None:
    assert request(body="\u20ac", isBase64Encoded=False).body == b"\xe2\x82\xac"


def test_a_body_over_the_limit_is_refused() -> None:
    assert len(request(body="x" * BODY_LIMIT_BYTES).body) == BODY_LIMIT_BYTES
    with pytest.raises(TooLarge, match="4194304 bytes"):
        request(body="x" * (BODY_LIMIT_BYTES + 1))


def test_scopes_come_from_the_authorizer_alone() -> None:
    found = request(requestContext={"authorizer": {"tenant_id": NOBODYS_ID, "scopes": "read send"}})
    found.need("read")
    assert str(found.tenant_id) == NOBODYS_ID
    with pytest.raises(Forbidden, match="manage"):
        found.need("manage")
    with pytest.raises(Forbidden):
        with_header("scopes", "read").need("read")


def test_a_parameter_may_stand_once() -> None:
    found = request(multiValueQueryStringParameters={"a": ["1"], "b": ["1", "1"]})
    assert (found.parameter("a"), found.parameter("c")) == ("1", None)
    with pytest.raises(InvalidRequest, match="must not be repeated"):
        found.parameter("b")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("a", "a"),
        ('"a"', "a"),
        ('"a', '"a'),
        ('a"b', 'a"b'),
        ("x" * 255, "x" * 255),
        ('"' + "x" * 255 + '"', "x" * 255),
    ],
)
def test_a_key_is_bare_or_quoted(value: str, key: str) -> None:
    assert with_header("idempotency-KEY", value).idempotency_key() == key


@pytest.mark.parametrize("values", [("",), ('""',), ("a b",), ("x" * 256,), ("\u00e9",), ("a\n",), ("a", "a")])
def test_any_other_key_is_malformed(values: tuple[str, ...]) -> None:
    with pytest.raises(Malformed, match="Idempotency-Key"):
        with_header("Idempotency-Key", *values).idempotency_key()


def test_without_the_header_there_is_no_key() -> None:
    assert request().idempotency_key() is None


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (("wait=5",), 5),
        (("wait=25",), 25),
        (("wait=26",), 25),
        (("wait=99999999999999999999",), 25),
        (("wait=" + "9" * 9000,), 25),
        (("wait=00000000000012",), 12),
        (("Wait=5",), 5),
        ((' wait = "5" ; foo="a"',), 5),
        (("foo, wait=5", "wait=9"), 5),
        (("foo", "wait=9"), 9),
        ((), None),
        (("",), None),
        (("wait",), None),
        (("wait=0",), None),
        (("wait=00000000",), None),
        (("wait=-5",), None),
        (("wait=5.5",), None),
        (("wait=five",), None),
        (("waits=5",), None),
    ],
)
def test_how_long_a_caller_waits(values: tuple[str, ...], seconds: int | None) -> None:
    assert with_header("Prefer", *values).wait_seconds() == seconds


@given(st.text())
def test_no_preference_can_make_it_fail(value: str) -> None:
    found = with_header("Prefer", value)
    seconds = found.wait_seconds()
    assert seconds is None or 1 <= seconds <= 25


def test_an_id_in_a_path_is_a_uuid_or_nobodys() -> None:
    assert str(uuid_of(NOBODYS_ID, noun="delivery")) == NOBODYS_ID
    with pytest.raises(NotFound, match="there is no such delivery"):
        uuid_of("42", noun="delivery")


@pytest.mark.parametrize(
    "event",
    [
        {"path": "/v1/via/partner/\ud800"},
        {"queryStringParameters": {"a": "\ud800"}},
        {"queryStringParameters": {"\ud800": "a"}},
        {"headers": {"X-A": "\ud800"}},
        {"headers": {"\ud800": "a"}},
        {"body": "\ud800"},
        {"body": "x", "isBase64Encoded": True},
    ],
)
def test_what_is_no_unicode_text_is_malformed(event: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        request(**event)

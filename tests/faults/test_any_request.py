"""Requests that chance makes: whatever comes, the answer is one that docs/problems.md knows, and never a 500."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import api as function
from handlers.problems import TITLES
from tests.support.api import NOBODYS_ID, Context, Functions, reply

bounded = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ANY_TEXT = st.text(st.characters(codec=None), max_size=20)  # lone surrogates and NUL included
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, 0, -1, 10**30, 10**4000, 1e308, "", "\u0000", "\ud800", "\udfff\ud800", "a" * 5000, [], {}, [[]],
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-27T00:00:00Z\ud800", NOBODYS_ID, 7.5, "/..",
    ]
)  # fmt: skip
JSON = st.recursive(
    ODD | ANY_TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
# Of nobody: everything is refused here, and nothing may be sent.
DELIVERY = st.fixed_dictionaries(
    {"destination": st.just("nobody") | JSON},
    optional=dict.fromkeys(
        ("method", "path", "query", "headers", "body", "body_base64", "not_before", "metadata", "x"), JSON
    ),
)
DESTINATION = st.fixed_dictionaries(
    {"name": st.just("partner"), "base_url": st.just("http://10.0.0.1") | JSON},
    optional=dict.fromkeys(("auth", "timeouts", "guarantee", "idempotent", "idempotency_header", "x"), JSON)
    | {"auth": st.dictionaries(st.sampled_from(["type", "token", "username", "name", "value"]) | ANY_TEXT, JSON)},
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Idempotency-Key", "Prefer", "Content-Type", "X-Any", "Connection"]) | ANY_TEXT,
        ANY_TEXT | st.sampled_from(["wait=1" + "0" * 5000, "respond-async", "wait=\u0663", '""']),
    ),
    max_size=4,
)


def must_be_known(functions: Functions, event: dict[str, Any]) -> None:
    answer = reply(function.handler(event, Context()))
    assert answer.status < 500, (answer.body, functions.log.getvalue()[-3000:])
    if answer.status >= 400:
        assert answer.kind in TITLES


@bounded
@given(DELIVERY, HEADERS)
def test_deliveries(refusing: Functions, body: dict[str, Any], headers: list[tuple[str, str]]) -> None:
    must_be_known(refusing, refusing.api.event("POST", "/v1/deliveries", body=json.dumps(body).encode(), headers=[])
        | {"multiValueHeaders": {name: [value] for name, value in headers}})  # fmt: skip


@bounded
@given(DESTINATION)
def test_destinations(refusing: Functions, body: dict[str, Any]) -> None:
    must_be_known(refusing, refusing.api.event("POST", "/v1/destinations", body=json.dumps(body).encode()))


@bounded
@given(st.sampled_from(["/v1/deliveries", "/v1/destinations"]), st.binary(max_size=60))
def test_bytes(refusing: Functions, path: str, body: bytes) -> None:
    must_be_known(refusing, refusing.api.event("POST", path, body=body))


@bounded
@given(
    st.sampled_from(["/v1/deliveries", f"/v1/deliveries/{NOBODYS_ID}", "/v1/destinations", "/v1/egress", "/healthz"]),
    st.dictionaries(
        st.sampled_from(["limit", "cursor", "since", "until", "state", "destination"]) | ANY_TEXT,
        ANY_TEXT | ODD.map(str),
        max_size=3,
    ),
)
def test_query_strings(refusing: Functions, path: str, query: dict[str, str]) -> None:
    event = refusing.api.event("GET", path)
    listed = {name: [value] for name, value in query.items()}
    must_be_known(refusing, event | {"queryStringParameters": query, "multiValueQueryStringParameters": listed})


@bounded
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "DELETE", "PATCH", "CONNECT", "x"]),
    st.sampled_from(["", "/v1/deliveries/", "/v1/destinations/", "/v1/egress/", "/v1/via/", "/v1/via/nobody/"]),
    ANY_TEXT | st.sampled_from(["%00", "%ff", "..%2f", "a" * 20_000, "\u0130", "a\nb"]),
)
def test_methods_and_paths(refusing: Functions, method: str, start: str, rest: str) -> None:
    event = refusing.api.event(method, "/") | {"path": start + rest or "/", "resource": start + rest}
    event["requestContext"] = event["requestContext"] | {"path": f"/dev{start}{rest}"}
    must_be_known(refusing, event)


@bounded
@given(HEADERS, ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2))
def test_pass_through_calls(
    refusing: Functions, headers: list[tuple[str, str]], path: str, query: dict[str, str]
) -> None:
    event = refusing.api.event("POST", "/v1/via/nobody/x", body=b"x") | {"path": f"/v1/via/nobody/{path}"}
    listed = {name: [value] for name, value in query.items()}
    given_headers = {name: [value] for name, value in headers}
    must_be_known(refusing, event | {"multiValueHeaders": given_headers, "multiValueQueryStringParameters": listed})

"""What is open to everybody, and what every route has in common."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handlers import api as function
from handlers.openapi import document
from handlers.routes import every_operation
from runtime.version import VERSION
from tests.support.api import NOBODYS_ID, Context, Functions, reply

OPEN = ["/healthz", "/openapi.json", "/docs", "/console"]
SCOPED = [
    ("GET", "/v1/egress", "read"),
    ("POST", "/v1/egress/verify", "send"),
    ("GET", "/v1/destinations", "read"),
    ("GET", "/v1/destinations/partner", "read"),
    ("POST", "/v1/destinations", "manage"),
    ("GET", "/v1/deliveries", "read"),
    ("GET", f"/v1/deliveries/{NOBODYS_ID}", "read"),
    ("POST", "/v1/deliveries", "send"),
    ("GET", "/v1/via/partner/x", "send"),
    ("DELETE", "/v1/via/partner/x", "send"),
]


@pytest.mark.parametrize("path", OPEN)
def test_the_open_routes_need_neither_token_nor_database(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for name in ("DATABASE_URL", "WAKEUP_QUEUE_URL", "SEAL_KEY_FILE"):
        monkeypatch.delenv(name)
    assert functions.open_api.get(path).status == 200


def test_health_says_which_version_is_alive(refusing: Functions) -> None:
    assert refusing.open_api.get("/healthz").json == {"status": "ok", "version": VERSION}


def test_the_document_is_openapi_3_1_and_has_every_route(refusing: Functions) -> None:
    answer = refusing.open_api.get("/openapi.json")
    assert answer.header("Content-Type") == "application/json"
    served: dict[str, Any] = answer.json
    assert served == document(server="/dev")  # which tests/unit/test_openapi.py validates: that takes seconds
    documented = {(method.upper(), path) for path, operations in served["paths"].items() for method in operations}
    assert documented == {(operation.method, operation.template) for operation in every_operation()}
    assert len(documented) == len(every_operation())
    names = [operation["operationId"] for operations in served["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_the_documentation_page_brings_all_it_needs(refusing: Functions) -> None:
    page = refusing.open_api.get("/docs")
    text = page.body.decode()
    policy = page.header("Content-Security-Policy") or ""
    (nonce,) = set(re.findall(r'<script nonce="([^"]+)"', text))
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert "openapi.json" in text
    assert f"script-src 'nonce-{nonce}'" in policy
    assert len(nonce) == 22  # 128 bits (CSP, "Nonces"), in base64
    assert "default-src 'none'" in policy
    assert not re.findall(r'(?:src|href)="https?://', text)
    assert refusing.open_api.get("/docs").body != page.body  # a nonce is used once


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v2/deliveries", "/v1/deliveries/a/b", "/v1/via/"])
def test_a_path_that_is_none_is_a_problem(refusing: Functions, path: str) -> None:
    answer = refusing.api.get(path)
    assert (answer.status, answer.kind) == (404, "not-found")


def test_a_part_of_a_path_with_odd_characters_is_not_found_and_its_method_not_blamed(refusing: Functions) -> None:
    answer = refusing.api.get('/v1/destinations/a"b')
    assert (answer.status, answer.kind) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/deliveries", "GET, POST"),
        ("PUT", "/v1/destinations/partner", "DELETE, GET, PATCH"),
        ("POST", "/healthz", "GET"),
        ("TRACE", "/docs", "GET"),
        ("OPTIONS", "/v1/egress", "GET"),
        ("HEAD", "/v1/egress/verify", "POST"),
        ("TRACE", "/v1/via/partner/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    ],
)
def test_a_method_that_a_resource_does_not_take_is_a_problem(
    refusing: Functions, method: str, path: str, allowed: str
) -> None:
    answer = refusing.api.call(method, path)
    assert (answer.status, answer.kind, answer.header("Allow")) == (405, "method-not-allowed", allowed)


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_a_token_needs_the_scope_of_the_route(functions: Functions, method: str, path: str, scope: str) -> None:
    others = {"read", "send", "manage"} - {scope}
    for allowed in (others, set()):
        answer = functions.api_with(*allowed).call(method, path)
        assert (answer.status, answer.kind) == (403, "forbidden")
        assert scope in answer.json["detail"]
    assert functions.api_with(scope).call(method, path).status != 403


def test_every_route_but_the_open_ones_has_a_scope() -> None:
    assert {operation.path for operation in every_operation() if operation.scope is None} == {
        *OPEN,
        "/console/<version>/<file>",
    }


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_without_an_authorizer_nothing_is_allowed(refusing: Functions, method: str, path: str, scope: str) -> None:
    assert refusing.open_api.call(method, path).status == 403


def test_the_request_id_of_api_gateway_is_in_the_log(refusing: Functions) -> None:
    event = refusing.api.event("GET", f"/v1/deliveries/{NOBODYS_ID}")
    assert reply(function.handler(event, Context())).kind == "not-found"
    line = json.loads(refusing.log.getvalue().splitlines()[-1])
    assert (line["correlation_id"], line["kind"]) == (event["requestContext"]["requestId"], "not-found")


def test_a_setting_that_is_missing_is_our_fault_and_named_in_the_log_alone(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAKEUP_QUEUE_URL")
    answer = functions.api.get("/v1/egress")
    assert (answer.status, answer.kind) == (500, "internal")
    assert b"WAKEUP_QUEUE_URL" not in answer.body
    assert "WAKEUP_QUEUE_URL must be set" in functions.log.getvalue()

    monkeypatch.setenv("WAKEUP_QUEUE_URL", functions.queue.url)
    assert functions.api.get("/v1/egress").status == 200


def test_the_api_starts_without_the_document_that_it_is_seldom_asked_for(repository: Path) -> None:
    program = "import sys, handlers.api; assert not {'handlers.openapi', 'handlers.examples'} & sys.modules.keys()"
    environment = {"PYTHONPATH": str(repository / "src"), "POWERTOOLS_SERVICE_NAME": "sallyport"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdin=subprocess.DEVNULL)

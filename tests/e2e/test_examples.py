"""Every example of a request that the OpenAPI document shows works unchanged, with the demo partner."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest

from local.demonstration import TENANT
from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Consumer
from tests.support.contract import must_be_documented


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One call as the document shows it: an operation, with at most one of its optional parameters."""

    method: str
    template: str
    parameters: tuple[dict[str, Any], ...]
    media_type: str = ""
    body: bytes | None = None
    named: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.template} {self.named}".strip()


# By act, what a delivery is made of that the act is possible for.
BEFORE: dict[str, dict[str, Any]] = {
    "resolve": {"path": "/hang-up"},
    "ask": {"path": "/hang-up", "destination": "asked"},
    "retry": {"path": "/status/404"},
    "expunge": {"path": "/orders"},
    "cancel": {"not_before": "now"},
    "PATCH": {"not_before": "now"},
}


# What no scene can make in time: the worker seals after four minutes. tests/handlers/test_sealed_attempts.py exports.
ELSEWHERE = {"/v1/audit/attempts"}


def examples(document: dict[str, Any]) -> Iterator[Example]:
    """Every operation with each of its bodies, and with each of its optional parameters by itself."""
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            required = tuple(part for part in operation["parameters"] if part["required"])
            bare = Example(method=method.upper(), template=template, parameters=required)
            bodies = list(_with_bodies(bare, operation))
            yield from bodies
            for part in operation["parameters"]:
                if not part["required"]:
                    yield replace(bodies[0], parameters=(*required, part), named=part["name"])


def _with_bodies(bare: Example, operation: dict[str, Any]) -> Iterator[Example]:
    if "requestBody" not in operation:
        yield bare
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        shown = {media_type: content["example"]} if "example" in content else {}
        shown |= {name: example["value"] for name, example in content.get("examples", {}).items()}
        for name, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value)
            yield replace(bare, media_type=media_type, body=text.encode(), named=name)


@pytest.fixture(scope="session")
def document(consumer: Consumer) -> dict[str, Any]:
    served: dict[str, Any] = consumer.call("GET", "/openapi.json").json
    return served


def test_every_example_of_a_request_works_unchanged(stack: Stack, consumer: Consumer, document: dict[str, Any]) -> None:
    led_to: dict[str, str] = {}
    assert set(document["paths"]) >= ELSEWHERE
    tried = [example for example in examples(document) if example.template not in ELSEWHERE]
    makes = {json.loads(example.body or b"")["name"]: example for example in tried if _makes_a_destination(example)}
    waiting = [example for example in tried if _needs_a_link(example)]
    for example in [*(example for example in tried if example not in waiting), *waiting]:
        led_to |= _scene(stack, example, consumer)
        status, headers, body = _call(stack, consumer, example, led_to)
        described = document["paths"][example.template][example.method.lower()]["responses"]
        assert status < 400, (str(example), status, body)
        assert str(status) in described or "default" in described, (str(example), status)
        must_be_documented(example.method, _path(example, led_to), status, headers, body)
        _follow(described.get(str(status), {}), body, led_to)
        if example.method == "DELETE" and "/via/" not in example.template:  # each is tried on one that is there
            deleted = _path(example, led_to).rpartition("/")[2]
            assert _call(stack, consumer, makes[deleted], led_to)[0] == 201, str(example)
    assert len(tried) > 50  # as many bodies and parameters has the document
    assert {example.template for example in tried} == set(document["paths"]) - ELSEWHERE


def _scene(stack: Stack, example: Example, consumer: Consumer) -> dict[str, str]:
    """What must be there for an act: a delivery in the state that it is for."""
    if example.template.startswith("/v1/jobs/"):
        return _job_scene(example, consumer)
    if example.template.startswith("/v1/proposals/"):
        return _proposal_scene(stack, consumer)
    delivery, _, act = example.template.removeprefix("/v1/deliveries/").partition("/")
    before = BEFORE.get(act or example.method)
    if delivery != "{delivery_id}" or before is None:
        return {}
    later = {"not_before": (datetime.now(UTC) + timedelta(days=1)).isoformat()} if "not_before" in before else {}
    body = {"destination": "partner", "path": "/orders", **before, **later}
    if act == "ask":
        _make_asked(stack, consumer)
    made = consumer.call("POST", "/v1/deliveries", body=body, headers={} if later else {"Prefer": "wait=25"})
    return {"delivery_id": made.json["delivery_id"]}


def _make_asked(stack: Stack, consumer: Consumer) -> None:
    """A destination whose partner is asked on demand alone, as its first question is an hour away."""
    question = {"path": "/status/200", "query": "key={idempotency_key}", "after": [3600], "received": [{"status": 200}]}
    body = {"name": "asked", "base_url": stack.partner.url, "guarantee": "at_most_once", "reconcile": question}
    assert consumer.call("POST", "/v1/destinations", body=body).status == 201


def _proposal_scene(stack: Stack, consumer: Consumer) -> dict[str, str]:
    """A replay that another token proposed."""
    admin = stack.functions["AdminFunction"]
    token = admin.invoke({"action": "issue_token", "tenant": TENANT, "scopes": ["manage"]})["token"]
    admin.invoke({"action": "set_approvals", "tenant": TENANT, "above": 0})
    body = {"state": "delivered", "since": "2026-01-01T00:00:00Z", "rate": 0.01}
    made = replace(consumer, token=token).call("POST", "/v1/replays", body=body)
    admin.invoke({"action": "set_approvals", "tenant": TENANT, "above": None})
    assert made.status == 202
    return {"proposal_id": made.json["proposal_id"]}


def _job_scene(example: Example, consumer: Consumer) -> dict[str, str]:
    """A job that goes on for minutes, as there are several deliveries; where it is to be resumed, it is paused."""
    body = {"state": "delivered", "since": "2026-01-01T00:00:00Z", "rate": 0.01}
    job = str(consumer.call("POST", "/v1/replays", body=body).json["job_id"])
    if example.template.endswith("/resume"):
        assert consumer.call("POST", f"/v1/jobs/{job}/pause").status == 200
    return {"job_id": job}


def _makes_a_destination(example: Example) -> bool:
    return (example.method, example.template) == ("POST", "/v1/destinations")


def _needs_a_link(example: Example) -> bool:
    """A required parameter without an example: its value comes from another answer, by that answer's link."""
    return any("example" not in part for part in example.parameters if part["in"] == "path")


def _follow(described: dict[str, Any], body: bytes, led_to: dict[str, str]) -> None:
    for link in described.get("links", {}).values() if body else ():
        for name, expression in link["parameters"].items():
            led_to[name] = json.loads(body)[expression.removeprefix("$response.body#/")]


def _pairs(part: dict[str, Any], led_to: dict[str, str]) -> list[tuple[str, str]]:
    if part.get("style") == "deepObject":
        return [(f"{part['name']}[{name}]", value) for name, value in part["schema"]["examples"][0].items()]
    return [(part["name"], _value(part, led_to))]


def _value(part: dict[str, Any], led_to: dict[str, str]) -> str:
    if part["in"] == "path":
        return str(part["example"]) if "example" in part else led_to[part["name"]]
    return str(part["schema"]["examples"][0])


def _path(example: Example, led_to: dict[str, str]) -> str:
    path = example.template
    for part in example.parameters:
        if part["in"] == "path":
            path = path.replace(f"{{{part['name']}}}", quote(_value(part, led_to), safe=""))
    return path


def _call(
    stack: Stack, consumer: Consumer, example: Example, led_to: dict[str, str]
) -> tuple[int, list[tuple[str, str]], bytes]:
    query = urlencode([pair for part in example.parameters if part["in"] == "query" for pair in _pairs(part, led_to)])
    headers = {part["name"]: _value(part, led_to) for part in example.parameters if part["in"] == "header"}
    if (
        "Idempotency-Key" in headers
    ):  # a key belongs to one request, so each call has its own beginning with the example
        headers["Idempotency-Key"] += f"-{uuid4()}"
    headers["Authorization"] = f"Bearer {consumer.token}"
    if example.media_type:
        headers["Content-Type"] = example.media_type
    connection = HTTPConnection("127.0.0.1", stack.front.port, timeout=GENEROUS_SECONDS)
    try:
        target = _path(example, led_to) + (f"?{query}" if query else "")
        connection.request(example.method, target, example.body, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()

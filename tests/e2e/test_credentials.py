"""A destination's credentials through the whole stack: each kind arrives at the partner, and nothing shows it."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from local.partner import Call
from local.stack import Stack
from tests.e2e.conftest import Consumer

SECRET = "s3cret-of-a-partner"
BASIC = base64.b64encode(f"user:{SECRET}".encode()).decode()
KINDS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "none": ({}, {}, "none"),
    "bearer": ({"token": SECRET}, {"authorization": f"Bearer {SECRET}"}, "Bearer"),
    "basic": ({"username": "user", "password": SECRET}, {"authorization": f"Basic {BASIC}"}, "Basic"),
    "header": ({"name": "X-Api-Key", "value": SECRET}, {"x-api-key": SECRET}, "x-api-key"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_partner_receives_the_credentials_and_nobody_else_sees_them(
    stack: Stack, consumer: Consumer, key: str, calls: Callable[[], list[Call]], kind: str
) -> None:
    members, received, described = KINDS[kind]
    name = f"auth-{kind}"
    body: dict[str, Any] = {"name": name, "base_url": stack.partner.url, "auth": {"type": kind, **members}}
    created = consumer.call("POST", "/v1/destinations", body=body)
    assert created.status == 201, created.body
    answers = [
        created,
        consumer.call("GET", f"/v1/destinations/{name}"),
        consumer.deliver(destination=name, path="/orders", headers={"Idempotency-Key": key, "Prefer": "wait=20"}),
        consumer.call("POST", f"/v1/via/{name}/orders", headers={"Idempotency-Key": f"{key}-via"}),
    ]
    (call,) = calls()
    assert {name: call.headers[name] for name in ("authorization", "x-api-key") if name in call.headers} == received
    assert f" auth={described} " in call.described()
    said = call.described() + "".join(str((answer.headers, answer.body)) for answer in answers)
    assert SECRET not in said
    assert BASIC not in said
    assert answers[2].json["state"] == "delivered"
    assert answers[3].status == 201

"""Every fault that the types alone cannot find: alone, with all else valid, and beside the nearest that is none.

The last test fails for a refusal in src/handlers/schemas/ that has no row here.
"""

import ast
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeGuard
from uuid import UUID

import pytest

from domain.errors import Fault, InvalidRequest
from domain.ids import TenantId
from handlers import schemas
from handlers.parsing import body_as
from handlers.schemas.deliveries import CLOCK_SKEW, METADATA_LIMIT_BYTES, NewDeliveryBody, new_delivery
from handlers.schemas.destinations import NewDestinationBody, new_destination
from handlers.schemas.headers import HEADERS_LIMIT, HEADERS_LIMIT_BYTES

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT = TenantId(UUID(int=1))
AN_ID = "01a203c7-77fb-788f-a3b0-54d47b8c9561"
MONTH = timedelta(days=30)
METADATA_ROOM = METADATA_LIMIT_BYTES - len('{"a": ""}')
MOMENT = timedelta(microseconds=1)

type Members = dict[str, Any]


def at(moment: datetime) -> Members:
    return {"not_before": moment.isoformat()}


def basic(username: str, password: str) -> Members:
    return {"auth": {"type": "basic", "username": username, "password": password}}


def header(name: str, value: str = "of-a-bank", **more: str) -> Members:
    return {"auth": {"type": "header", "name": name, "value": value}, **more}


# The field of the fault, a call at fault, and the nearest call that is not.
DELIVERIES: list[tuple[str, Members, Members]] = [
    ("/headers", {"headers": {"X-A": "a\n"}}, {"headers": {"X-A": "a\t"}}),
    ("/headers", {"headers": {"X-A": ["a", "\0"]}}, {"headers": {"X-A": ["a", "b"]}}),
    ("/headers", {"headers": {"Host": "a"}}, {"headers": {"Hosts": "a"}}),
    ("/headers", {"headers": {"X": [""] * (HEADERS_LIMIT + 1)}}, {"headers": {"X": [""] * HEADERS_LIMIT}}),
    (
        "/headers",
        {"headers": {"X": "a" * HEADERS_LIMIT_BYTES}},
        {"headers": {"X": "a" * (HEADERS_LIMIT_BYTES - 1)}},
    ),
    ("/body_base64", {"body": "", "body_base64": ""}, {"body_base64": ""}),
    ("/body", {"method": "HEAD", "body": "a"}, {"method": "HEAD", "body": ""}),
    ("/body", {"method": "HEAD", "body_base64": "AA=="}, {"method": "HEAD", "body_base64": ""}),
    ("/body_base64", {"body_base64": "AA==\n"}, {"body_base64": "AA=="}),
    ("/body_base64", {"body_base64": "_-8="}, {"body_base64": "/+8="}),
    ("/path", {"path": "/a/%2e%2e/b"}, {"path": "/a/%2e%2ec/b"}),
    ("/path", {"path": "a"}, {"path": "/a"}),
    ("/query", {"query": "a=b c"}, {"query": "a=b%20c"}),
    (
        "/metadata",
        {"metadata": {"a": "b" * (METADATA_ROOM + 1)}},
        {"metadata": {"a": "b" * METADATA_ROOM}},
    ),
    ("/metadata", {"metadata": {"a": "\0"}}, {"metadata": {"a": "\\u0000"}}),
    ("/not_before", at(NOW - CLOCK_SKEW - MOMENT), at(NOW - CLOCK_SKEW)),
    ("/not_before", at(NOW + MONTH + MOMENT), at(NOW + MONTH)),
]
DESTINATIONS: list[tuple[str, Members, Members]] = [
    ("/name", {"name": AN_ID}, {"name": AN_ID.replace("-", "x")}),
    ("/auth/username", basic("a:b", "secret"), basic("a", "b:secret")),
    ("/auth/username", basic("a\n", "secret"), basic("a", "secret")),
    ("/auth/password", basic("a", "secret\n"), basic("a", "secret")),
    ("/auth/token", {"auth": {"type": "bearer", "token": "a\nb"}}, {"auth": {"type": "bearer", "token": "a b"}}),
    ("/auth/value", header("X-Api-Key", "a\rb"), header("X-Api-Key", "ab")),
    ("/auth/name", header("Content-Type"), header("X-Content-Type")),
    ("/auth/name", header("Cookie"), header("Authorization")),
    ("/auth/name", header("X Key"), header("X-Key")),
    ("/idempotency_header", {"idempotency_header": "Accept"}, {"idempotency_header": "Accepted"}),
    (
        "/idempotency_header",
        header("X-Key", idempotency_header="x-KEY"),
        header("X-Key", idempotency_header="X-Key-2"),
    ),
    (
        "/timeouts/connect_seconds",
        {"timeouts": {"connect_seconds": 20.5, "total_seconds": 20}},
        {"timeouts": {"connect_seconds": 20, "total_seconds": 20}},
    ),
]


def delivery(members: Members) -> None:
    sent = json.dumps({"destination": "partner", **members}).encode()
    new_delivery(body_as(sent, NewDeliveryBody), sent=sent, tenant_id=TENANT, idempotency_key=None, now=NOW)


def destination(members: Members) -> None:
    sent = json.dumps({"name": "partner", "base_url": "https://partner.example.com", **members}).encode()
    new_destination(body_as(sent, NewDestinationBody), tenant_id=TENANT)


CASES = [(delivery, *case) for case in DELIVERIES] + [(destination, *case) for case in DESTINATIONS]


@pytest.mark.parametrize(("made", "field", "wrong", "right"), CASES)
def test_a_fault_alone_is_refused_and_its_nearest_neighbour_is_not(
    made: Any, field: str, wrong: Members, right: Members
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        made(wrong)
    assert [fault.field for fault in refused.value.faults] == [field]
    made(right)


def makes_a_fault(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault"


def test_every_refusal_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    made_at: set[tuple[str, int]] = set()

    def noted(**members: str) -> Fault:
        caller = sys._getframe(1)
        made_at.add((caller.f_code.co_filename, caller.f_lineno))
        return Fault(**members)

    for name, module in list(sys.modules.items()):
        if name.startswith(f"{schemas.__name__}.") and hasattr(module, "Fault"):
            monkeypatch.setattr(module, "Fault", noted)
    for made, _, wrong, _ in CASES:
        with pytest.raises(InvalidRequest):
            made(wrong)
    modules = Path(schemas.__file__).parent.rglob("*.py")
    sites = {
        (str(path), node.lineno)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if makes_a_fault(node)
    }
    assert len(sites) > 10
    assert sites - made_at == set()

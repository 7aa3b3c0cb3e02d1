"""The events that both sides are called with: those of events/, with a tenant and a token that exist."""

import copy
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from bench.stage import Stage
from local.functions import REPOSITORY

ORDER = {
    "destination": "partner",
    "method": "POST",
    "path": "/orders",
    "query": "dry=false",
    "headers": {"Accept": "application/json", "X-Trace": "0123456789abcdef"},
    "body": {
        "order": 42,
        "amount": "19.90",
        "currency": "EUR",
        "lines": [{"sku": f"A-{number:05}", "quantity": number, "price": "1.99"} for number in range(12)],
        "note": "x" * 100,
    },
    "metadata": {"order": "42", "shop": "north"},
}

type LambdaEvent = dict[str, Any]


def post(stage: Stage, *, destination: str = "partner", **headers: str) -> LambdaEvent:
    """POST /v1/deliveries with about 1 KB of JSON and a key of its own."""
    event = _event_of_tenant("api-post-delivery.json", stage)
    given = event["headers"] | {"Idempotency-Key": str(uuid4())} | headers
    event["headers"] = given
    event["multiValueHeaders"] = {name: [value] for name, value in given.items()}
    event["body"] = b64encode(json.dumps(ORDER | {"destination": destination}).encode()).decode()
    return event


def via(stage: Stage) -> LambdaEvent:
    """POST /v1/via/partner/orders: the same body, passed through."""
    event = post(stage)
    path = "/v1/via/partner/orders"
    event |= {"path": path, "pathParameters": {"proxy": path.removeprefix("/v1/")}}
    event["requestContext"]["path"] = f"/dev{path}"
    return event


def get(stage: Stage, delivery_id: UUID | str) -> LambdaEvent:
    """GET /v1/deliveries/{id}."""
    event = _event_of_tenant("api-get.json", stage)
    path = f"/v1/deliveries/{delivery_id}"
    event |= {
        "path": path,
        "pathParameters": {"proxy": path.removeprefix("/v1/")},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
    }
    event["requestContext"]["path"] = f"/dev{path}"
    return event


def authorize(stage: Stage) -> LambdaEvent:
    """Of the authorizer."""
    event = _read("authorize.json")
    event["headers"]["Authorization"] = f"Bearer {stage.token}"
    event["multiValueHeaders"]["Authorization"] = [f"Bearer {stage.token}"]
    return event


def batch(stage: Stage, delivery_ids: Sequence[UUID | str]) -> LambdaEvent:
    """An SQS batch of due wake-ups."""
    event = _read("attempt.json")
    record = event["Records"][0]
    event["Records"] = [_message(record, stage, delivery_id) for delivery_id in delivery_ids]
    return event


def migrate() -> LambdaEvent:
    """A migration by hand."""
    return {"action": "migrate"}


def admin() -> LambdaEvent:
    """One more token for the tenant."""
    return {"action": "issue_token", "tenant": "acme", "scopes": ["read", "send"]}


def _message(record: LambdaEvent, stage: Stage, delivery_id: UUID | str) -> LambdaEvent:
    wakeup = {
        "delivery_id": str(delivery_id),
        "due_at": "2026-01-01T00:00:00+00:00",
        "group": f"{stage.tenant_id}:partner",
        "misses": 0,
    }
    return copy.deepcopy(record) | {"messageId": str(uuid4()), "body": json.dumps(wakeup)}


def _event_of_tenant(name: str, stage: Stage) -> LambdaEvent:
    event = _read(name)
    event["requestContext"]["authorizer"] |= {"tenant_id": str(stage.tenant_id), "principalId": str(stage.tenant_id)}
    return event


def _read(name: str) -> LambdaEvent:
    event: LambdaEvent = json.loads((REPOSITORY / "events" / name).read_text(encoding="utf-8"))
    return event

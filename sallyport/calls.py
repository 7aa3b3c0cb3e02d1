"""Calls of the API as values: what is sent, and whether it can be sent twice. No call is made here."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from sallyport import exact

LONGEST_WAIT_SECONDS = 25  # docs/api.md, "Waiting for the answer"
GRACE_SECONDS = 10.0  # API Gateway answers within 29 s, a call that waits 25 s among them


@dataclass(frozen=True, slots=True, kw_only=True)
class RawJson:
    """A body that is sent as it is written, digit by digit. It must be a JSON object or array."""

    text: str


type DeliveryContent = RawJson | str | bytes | Mapping[str, Any] | list[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One call. `repeatable`: a second one changes nothing that the first has not. It may take `seconds`."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True
    seconds: float = 35.0

    @property
    def key(self) -> str | None:
        """Its idempotency key, if it has one."""
        return self.headers.get("Idempotency-Key")

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def part(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def query_of(values: Mapping[str, object]) -> str:
    """The parameters that have a value. True and False as JSON writes them."""
    return urlencode([(name, _text(value)) for name, value in values.items() if value is not None])


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def moment(at: datetime | str) -> str:
    """A time as the API takes it. Raises ValueError for one without a zone."""
    if isinstance(at, str):
        return at
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone")
    return at.isoformat()


def json_call(method: str, path: str, body: object = None, **options: Any) -> ApiCall:
    """A call whose body is JSON."""
    content = None if body is None else json.dumps(body).encode()
    return ApiCall(method=method, path=path, content=content, **options)


def get(path: str, parameters: Mapping[str, object] | None = None, *, seconds: float = 35.0) -> ApiCall:
    """A call that reads."""
    return ApiCall(method="GET", path=path, query=query_of(parameters or {}), seconds=seconds)


def send(
    destination: str,
    *,
    key: str,
    body: DeliveryContent = None,
    wait_seconds: int | None = None,
    **fields: Any,
) -> ApiCall:
    """POST /v1/deliveries. Fields that are None are left out."""
    members = {"destination": destination, **{name: value for name, value in fields.items() if value is not None}}
    if isinstance(members.get("not_before"), datetime):
        members["not_before"] = moment(members["not_before"])
    texts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members.items()]
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    if wait_seconds:
        headers["Prefer"] = f"wait={wait_seconds}"
    return ApiCall(
        method="POST",
        path="/v1/deliveries",
        headers=headers,
        content=("{" + ", ".join([*texts, *_body_members(body)]) + "}").encode(),
        seconds=(wait_seconds or LONGEST_WAIT_SECONDS) + GRACE_SECONDS,
    )


def _body_members(body: DeliveryContent) -> list[str]:
    """A JSON object or array is sent byte for byte as it is in the call, so it is not parsed here."""
    match body:
        case None:
            return []
        case RawJson(text=text):
            if not isinstance(exact.loads(text), dict | list):
                raise ValueError("a body of JSON is an object or an array")
            return [f'"body": {text}']
        case bytes():
            return [f'"body_base64": "{base64.b64encode(body).decode()}"']
        case _:
            return [f'"body": {json.dumps(body)}']


def show(delivery_id: str, *, wait_seconds: int | None = None, cursor: str | None = None) -> ApiCall:
    """GET /v1/deliveries/{delivery_id}."""
    seconds = (wait_seconds or LONGEST_WAIT_SECONDS) + GRACE_SECONDS
    return get(f"/v1/deliveries/{part(delivery_id)}", {"wait": wait_seconds, "cursor": cursor}, seconds=seconds)


def act(delivery_id: str, name: str, body: object = None, *, repeatable: bool = True) -> ApiCall:
    """POST /v1/deliveries/{delivery_id}/{name}."""
    return json_call("POST", f"/v1/deliveries/{part(delivery_id)}/{name}", body, repeatable=repeatable)


def resolve(delivery_id: str, as_: str, *, note: str | None, attempts_made: int | None) -> ApiCall:
    """The same decision by the same token changes nothing; `again` only with the attempts that were seen."""
    body: dict[str, Any] = {"as": as_}
    if note is not None:
        body["note"] = note
    if attempts_made is not None:
        body["attempts_made"] = attempts_made
    return act(delivery_id, "resolve", body, repeatable=as_ != "again" or attempts_made is not None)


def of_destination(name: str, act: str = "", *, method: str = "GET", body: object = None, **options: Any) -> ApiCall:
    """A call about one destination."""
    path = f"/v1/destinations/{part(name)}" + (f"/{act}" if act else "")
    return json_call(method, path, body, **options)


def change_destination(name: str, patch: object, *, version: int | None) -> ApiCall:
    """PATCH /v1/destinations/{name}; repeatable where a version says what it was based on."""
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    return of_destination(name, method="PATCH", body=patch, headers=headers, repeatable=False)


def bulk(path: str, key: str, body: object) -> ApiCall:
    """A replay or a cancellation: under its key the same call leads to the same job."""
    return json_call("POST", path, body, headers={"Idempotency-Key": key})

"""Plain, with msgspec for all JSON and for what a delivery must be."""

from base64 import b64decode
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from bench import plain


def dumps(value: Any) -> str:
    """JSON as msgspec writes it: UUIDs and times too."""
    return msgspec.json.encode(value).decode()


class DeliveryStruct(Struct, forbid_unknown_fields=True):
    """The body of a POST."""

    destination: Annotated[str, Meta(pattern=rf"^{plain.NAME.pattern}\Z")]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    path: Annotated[str, Meta(max_length=4096, pattern=rf"^{plain.PATH.pattern}\Z")] = ""
    query: Annotated[str, Meta(pattern=rf"^{plain.QUERY.pattern}\Z")] = ""
    headers: dict[str, str] = {}
    body: str | dict[str, Any] | list[Any] = ""
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        plain.check_segments(self.path)
        plain.check_headers(self.headers)
        plain.check_metadata(self.metadata, dumps)


@cache
def decoder() -> msgspec.json.Decoder[DeliveryStruct]:
    """Made once."""
    return msgspec.json.Decoder(DeliveryStruct)


def stored(caller: Any, key: str | None, new: DeliveryStruct) -> Any:
    """The row."""
    return plain.stored(
        caller["tenant_id"],
        plain.checked_key(key) if key else None,
        destination=new.destination,
        method=new.method,
        path=new.path,
        query=new.query,
        headers=new.headers,
        body=new.body,
        metadata=new.metadata,
        dumps=dumps,
        compact=dumps,
    )


def handler(event: Any, _context: object) -> Any:
    """POST /v1/deliveries and GET /v1/deliveries/{id}."""
    try:
        return _create(event) if event["httpMethod"] == "POST" else _show(event)
    except plain.Declined as refused:
        return _answer(refused.status, {"detail": str(refused)})
    except ValueError as error:  # msgspec's are some
        return _answer(422, {"detail": str(error)})


def _create(event: Any) -> Any:
    caller = event["requestContext"]["authorizer"]
    plain.permit(caller, "send")
    new = decoder().decode(b64decode(event["body"]))
    keys = [value for name, value in event["headers"].items() if name.lower() == "idempotency-key"]
    row = stored(caller, keys[0] if keys else None, new)
    print(dumps({"level": "INFO", "message": "delivery accepted", "delivery_id": row[0]}))
    return _answer(202, plain.shown(row), {"Location": [f"{event['requestContext']['path']}/{row[0]}"]})


def _show(event: Any) -> Any:
    caller = event["requestContext"]["authorizer"]
    plain.permit(caller, "read")
    return _answer(200, plain.found(UUID(event["path"].rpartition("/")[2]), caller["tenant_id"]))


def _answer(status: int, document: Any, headers: dict[str, list[str]] | None = None) -> Any:
    return {
        "statusCode": status,
        "multiValueHeaders": {"Content-Type": ["application/json"], **(headers or {})},
        "body": dumps(document),
        "isBase64Encoded": False,
    }

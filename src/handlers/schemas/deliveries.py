"""The bodies of /v1/deliveries."""

import json
from base64 import b64decode
from codecs import BOM_UTF8
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from domain.bodies import stored_response
from domain.deliveries import Delivery, NewDelivery, Payload, Resolution, State, WaitingFor
from domain.errors import Fault, InvalidRequest
from domain.ids import TenantId
from domain.ordering import ordering_key_fault
from domain.outcomes import Headers
from domain.targets import path_fault, query_fault
from flows.deliver import Progress
from handlers.answers import ANSWER_BYTES, fitting, surely_fits, weight
from handlers.schemas.attempts import AttemptBody, ResponseBody, attempt_body, response_body
from handlers.schemas.common import IS_LINE, LINE, CreatedAt, Cursor, DestinationId, holds_nul
from handlers.schemas.headers import HeaderValues, header_faults, header_values

METADATA_LIMIT_BYTES = 4096
SYNC_RESPONSE_BYTES = 4 * 1024 * 1024  # as base64 it still fits into the 6 MB that Lambda may answer
NOT_BEFORE_LIMIT = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=5)  # "now" by a caller's clock
_AS_TEXT = json.JSONEncoder(ensure_ascii=False)


class NewDeliveryBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request to deliver."""

    destination: Annotated[str, Meta(min_length=1, max_length=63, description="Its name or id")]
    method: Annotated[
        str,
        Meta(
            pattern="^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$(?!\\n)",
            extra={"must": "one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, in upper case"},
            description="In upper case",
        ),
    ] = "POST"
    path: Annotated[str, Meta(max_length=4096, description="Below the base URL, percent-encoded")] = ""
    query: Annotated[str, Meta(max_length=4096, description="Raw, without '?'")] = ""
    headers: HeaderValues = {}
    body: Annotated[
        str | dict[str, Any] | list[Any] | None,
        Meta(description="Text, sent as UTF-8; or a JSON object or array, sent as application/json"),
    ] = None
    body_base64: Annotated[str | None, Meta(description="Bytes in base64, instead of body")] = None
    not_before: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When the first attempt may start, at most 30 days off"),
    ] = None
    metadata: Annotated[
        dict[str, Any], Meta(description="Yours: comes back with the delivery, is not sent; at most 4096 bytes of JSON")
    ] = {}
    ordering_key: Annotated[
        str | None,
        Meta(
            description="Deliveries with the same key to one destination are sent one after the other, in the order of "
            "their acceptance; 1 to 200 characters, no control characters"
        ),
    ] = None


class DeliveryBody(Struct, frozen=True, kw_only=True):
    """A delivery. `next_attempt_at` is null once it is finished, `finished_at` until then."""

    delivery_id: Annotated[UUID, Meta(description="The delivery's id")]
    destination: Annotated[str, Meta(description="The destination's name")]
    destination_id: DestinationId
    state: Annotated[
        State,
        Meta(
            description="pending: waits for its next attempt. sending: an attempt is being made. delivered: "
            "the partner answered with 2xx. failed: not delivered, and not tried again. unknown: it may have been "
            "delivered. canceled: it was canceled, or its destination deleted, before it was sent"
        ),
    ]
    method: Annotated[str, Meta(description="In upper case")]
    path: Annotated[str, Meta(description="Below the destination's base URL, percent-encoded")]
    query: Annotated[str, Meta(description="Raw, without '?'")]
    headers: HeaderValues
    metadata: Annotated[dict[str, Any], Meta(description="The caller's own; was not sent")]
    idempotency_key: Annotated[
        str, Meta(description="What the partner gets on every attempt; the delivery's id where the caller gave no key")
    ]
    attempts_made: Annotated[int, Meta(ge=0, description="How many attempts were begun")]
    attempts_allowed: Annotated[int, Meta(ge=1, description="How many there may be")]
    next_attempt_at: Annotated[
        datetime | None, Meta(description="When the next attempt may start; null unless the state is pending")
    ]
    waiting_for: Annotated[
        WaitingFor | None,
        Meta(
            description="Why it is pending. not_before: for the time that its caller chose. retry: for the time of its "
            "next attempt. destination_paused, destination_disabled: for its destination to be resumed or enabled, "
            "though next_attempt_at may be over. ordering: for one before it under the same ordering_key. "
            "sending_window, circuit_breaker, rate_limit, concurrency: for its destination's limits. null where its "
            "first attempt is about to start, and where it is not pending"
        ),
    ]
    waits_until: Annotated[
        datetime | None, Meta(description="When its turn is expected; null where nobody knows, or it does not wait")
    ]
    next_question_at: Annotated[
        datetime | None,
        Meta(description="When its partner is asked next what became of it; null unless it is unknown and asked about"),
    ]
    ordering_key: Annotated[str | None, Meta(description="The caller's; null where it gave none")]
    resolution: Annotated[
        Resolution | None,
        Meta(
            description="What it was resolved as when its outcome was unknown: delivered, failed, or again for another "
            "attempt; null where it was not"
        ),
    ]
    resolved_by: Annotated[str | None, Meta(description="Who resolved it: token:<id>; null where nobody did")]
    resolved_at: Annotated[datetime | None, Meta(description="When it was resolved; null where it was not")]
    note: Annotated[str | None, Meta(description="What was noted when it was resolved; null where nothing was")]
    replay_of: Annotated[UUID | None, Meta(description="The delivery that it repeats; null where it repeats none")]
    payload: Annotated[
        Payload,
        Meta(
            description="What is stored of what it sent; only what is whole can be sent again. redacted: not the "
            "values that its destination redacts. expired: not the body. expunged: neither query, headers, body, "
            "metadata nor responses"
        ),
    ]
    event: Annotated[
        str | None, Meta(description="What it tells of, such as delivery.failed; null where it is not an event")
    ]
    event_id: Annotated[
        UUID | None,
        Meta(
            description="The delivery that told of its last end; null where nobody was told. It is not there where the "
            "destination of events was disabled or deleted by then"
        ),
    ]
    created_at: CreatedAt
    finished_at: Annotated[datetime | None, Meta(description="When it ended; null until then")]
    kept_until: Annotated[
        datetime | None,
        Meta(
            description="Until when it is stored, and a repeat under its idempotency key finds it; null while another "
            "attempt or question may follow, for until then it is stored in any case"
        ),
    ]


class DeliveryDetailsBody(DeliveryBody, frozen=True, kw_only=True):
    """A delivery with its attempts, the first one first.

    `response` is the partner's response to the last attempt; null where there is none.
    """

    attempts: Annotated[list[AttemptBody], Meta(description="The first one first")]
    response: Annotated[
        ResponseBody | None, Meta(description="The answer to the last attempt; null where there is none")
    ]
    next_cursor: Annotated[
        str | None,
        Meta(description="Where attempts were left out because the answer is full: the cursor that shows them"),
    ]


class DeliveryPatchBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of a pending delivery can be changed."""

    not_before: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        Meta(description="When the next attempt may start, at most 30 days off; null is now"),
    ]


class ResolutionBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"resolution": "as"}):
    """What became of a delivery whose outcome is unknown, or that it is to be sent again."""

    resolution: Annotated[
        Resolution,
        Meta(
            description="delivered: the partner has it. failed: the partner does not have it, and it is not sent "
            "again. again: it is sent once more, under the key that the partner saw"
        ),
    ]
    note: Annotated[
        Annotated[str, Meta(pattern=LINE, extra=IS_LINE)] | None,
        Meta(description="For people, such as whom you asked: shown with the delivery"),
    ] = None
    attempts_made: Annotated[
        Annotated[int, Meta(ge=0, le=32767)] | None,
        Meta(
            description="How many attempts there were when you decided. Where another one was begun since, nothing is "
            "changed: so a call that is repeated leads to one attempt"
        ),
    ] = None


class DeliveriesBody(Struct, frozen=True):
    """A page of deliveries, newest first. `next_cursor` is null on the last page. A page ends before its limit where
    the answer would become too large.
    """

    deliveries: Annotated[list[DeliveryBody], Meta(description="The deliveries of this page")]
    next_cursor: Cursor


class _Sent(Struct):
    """A call's body, of which only the bytes of `body` are read."""

    body: msgspec.Raw


_SENT = msgspec.json.Decoder(_Sent)


# What is judged in place of the required member where it is at fault, and which members are judged with others.
STAND_INS: Mapping[str, Any] = MappingProxyType({"destination": "a"})
JUDGED_WITH: Mapping[str, frozenset[str]] = MappingProxyType(
    {"body": frozenset({"method", "body_base64"}), "body_base64": frozenset({"method", "body"})}
)


def new_delivery(
    body: NewDeliveryBody, *, sent: bytes, tenant_id: TenantId, idempotency_key: str | None, now: datetime
) -> NewDelivery:
    """Raises InvalidRequest with every field that the types alone cannot judge.

    `sent` is the call's whole body: a JSON `body` in it is sent byte for byte, so that no number loses a digit.
    """
    faults: list[Fault] = []
    headers = _request_headers(body.headers, faults)
    content = _content(body, sent, faults)
    for name, fault in (("/path", path_fault(body.path)), ("/query", query_fault(body.query))):
        if fault:
            faults.append(Fault(field=name, detail=fault))
    faults += _metadata_faults(body.metadata)
    if body.ordering_key is not None and (fault := ordering_key_fault(body.ordering_key)):
        faults.append(Fault(field="/ordering_key", detail=fault))
    faults += _not_before_faults(body.not_before, now=now)
    if faults:
        raise InvalidRequest(*faults)
    if isinstance(body.body, dict | list) and not any(name.lower() == "content-type" for name, _ in headers):
        headers = (*headers, ("Content-Type", "application/json"))
    return NewDelivery(
        tenant_id=tenant_id,
        destination=body.destination,
        method=body.method,
        path=body.path,
        query=body.query,
        headers=headers,
        body=content,
        metadata=body.metadata,
        idempotency_key=idempotency_key,
        not_before=body.not_before,
        ordering_key=body.ordering_key,
    )


def rescheduled(body: DeliveryPatchBody, *, now: datetime) -> datetime | None:
    """The time of the next attempt, None for now. Raises InvalidRequest for one too far off."""
    if faults := _not_before_faults(body.not_before, now=now):
        raise InvalidRequest(*faults)
    return body.not_before


def _not_before_faults(not_before: datetime | None, *, now: datetime) -> list[Fault]:
    if not_before is None or now - CLOCK_SKEW <= not_before <= now + NOT_BEFORE_LIMIT:
        return []
    return [Fault(field="/not_before", detail="must be from now to 30 days from now")]


def delivery_body(delivery: Delivery, *, stack_days: int) -> DeliveryBody:
    """What a list shows of a delivery. `stack_days` is for how long this stack stores records."""
    return DeliveryBody(**_delivery_fields(delivery, stack_days))


def delivery_details(progress: Progress, *, stack_days: int, after: int = 0) -> DeliveryDetailsBody:
    """A delivery with its attempts from number `after` + 1 on; the response in full where this call got it from the
    partner itself. What would make the answer too large is left out: attempts, and all but the stored response.
    """
    attempts = [attempt_body(attempt) for attempt in progress.attempts]
    deciding = progress.deciding
    stored = next(
        (body.response for made, body in zip(progress.attempts, attempts, strict=True) if made is deciding), None
    )
    left = [attempt for attempt in attempts if attempt.number > after]
    whole = DeliveryDetailsBody(
        **_delivery_fields(progress.delivery, stack_days),
        attempts=left,
        response=_response_shown(progress, stored),
        next_cursor=None,
    )
    if surely_fits(whole, room_bytes=ANSWER_BYTES):
        return whole
    bare = replace(whole, attempts=[])
    if weight(bare) > ANSWER_BYTES:
        bare = replace(bare, response=stored)
    shown = fitting(left, room_bytes=ANSWER_BYTES - weight(bare))
    following = str(shown[-1].number if shown else after) if len(shown) < len(left) else None
    return replace(bare, attempts=shown, next_cursor=following)


def _response_shown(progress: Progress, stored: ResponseBody | None) -> ResponseBody | None:
    if progress.answer is None or stored is None or not stored.truncated:
        return stored
    return response_body(stored_response(progress.answer, limit_bytes=SYNC_RESPONSE_BYTES))


def _request_headers(headers: Mapping[str, str | list[str]], faults: list[Fault]) -> Headers:
    pairs = [
        (name, value) for name, values in headers.items() for value in ([values] if isinstance(values, str) else values)
    ]
    faults += header_faults(pairs, field="/headers")
    return tuple(pairs)


def _content(body: NewDeliveryBody, sent: bytes, faults: list[Fault]) -> bytes:
    if body.body is not None and body.body_base64 is not None:
        faults.append(Fault(field="/body_base64", detail="cannot be combined with body"))
    if body.method == "HEAD" and (body.body or body.body_base64):
        faults.append(Fault(field="/body", detail="a HEAD request has none"))
    if body.body_base64 is not None:
        try:
            return b64decode(body.body_base64, validate=True)
        except ValueError:
            faults.append(Fault(field="/body_base64", detail="must be base64 (RFC 4648 section 4)"))
            return b""
    if body.body is None:
        return b""
    return body.body.encode() if isinstance(body.body, str) else _bytes_as_sent(sent)


def _bytes_as_sent(sent: bytes) -> bytes:
    """The bytes of the member `body` in the call, byte for byte."""
    return bytes(_SENT.decode(sent.removeprefix(BOM_UTF8)).body)


def _metadata_faults(metadata: Mapping[str, Any]) -> list[Fault]:
    """Its size is that of JSON as Python writes it, with a blank after each comma and colon: at most twice as much as
    without them."""
    compact = msgspec.json.encode(metadata)
    if 2 * len(compact) <= METADATA_LIMIT_BYTES and b"\\u0000" not in compact:
        return []
    encoded = _AS_TEXT.encode(metadata)
    if len(encoded.encode()) > METADATA_LIMIT_BYTES:
        return [Fault(field="/metadata", detail=f"must be at most {METADATA_LIMIT_BYTES} bytes of JSON")]
    if holds_nul(encoded.encode()):
        return [Fault(field="/metadata", detail="must not contain U+0000")]
    return []


def _delivery_fields(delivery: Delivery, stack_days: int) -> dict[str, Any]:
    return {
        "delivery_id": delivery.delivery_id,
        "destination": delivery.destination_name,
        "destination_id": delivery.destination_id,
        "state": delivery.state,
        "method": delivery.method,
        "path": delivery.path,
        "query": delivery.query,
        "headers": header_values(delivery.headers),
        "metadata": dict(delivery.metadata),
        "idempotency_key": delivery.idempotency_key,
        "attempts_made": delivery.attempts_made,
        "attempts_allowed": delivery.attempts_allowed,
        "next_attempt_at": delivery.due_at if delivery.state is State.PENDING else None,
        "waiting_for": delivery.waiting_for,
        "waits_until": delivery.waits_until if delivery.state is State.PENDING else None,
        "next_question_at": delivery.ask_at if delivery.state is State.UNKNOWN else None,
        "ordering_key": delivery.ordering_key,
        "resolution": delivery.resolution,
        "resolved_by": delivery.resolved_by,
        "resolved_at": delivery.resolved_at,
        "note": delivery.note,
        "replay_of": delivery.replay_of,
        "payload": delivery.payload,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "kept_until": delivery.kept_until(stack_days=stack_days),
    }

"""The JSON of the API: what comes in, what goes out, and the translation to and from the domain.

The OpenAPI document is generated from these types, so their descriptions are the API's documentation.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from domain.bodies import STORED_RESPONSE_BYTES, stored_response
from domain.checks import Check, CheckStatus
from domain.deliveries import Attempt, Delivery, NewDelivery, State, StoredResponse
from domain.destinations import (
    Auth,
    AuthType,
    BasicAuth,
    BearerAuth,
    Destination,
    Guarantee,
    HeaderAuth,
    NoAuth,
    Timeouts,
)
from domain.errors import Fault, InvalidRequest
from domain.headers import header_fault
from domain.ids import TenantId
from domain.outcomes import Headers, OutcomeKind
from domain.targets import path_fault, query_fault
from flows.check_egress import NO_FIXED_ADDRESS, Verified
from flows.deliver import Progress
from flows.destinations import NewDestination
from handlers.answers import ANSWER_BYTES, fitting, weight
from runtime.settings import EgressAddress

# Python's $ also matches before a line feed at the end; (?!\n) takes that back and changes nothing elsewhere.
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$(?!\n)"
FIELD_NAME = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$(?!\n)"
METADATA_LIMIT_BYTES = 4096
SYNC_RESPONSE_BYTES = 4 * 1024 * 1024  # as base64 it still fits into the 6 MB that Lambda may answer
HEADERS_LIMIT_BYTES = 16 * 1024
HEADERS_LIMIT = 100  # how many, each value of a repeated one by itself
NOT_BEFORE_LIMIT = timedelta(days=30)
# An escape that is not itself escaped. PostgreSQL's jsonb does not take it.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_AS_TEXT = json.JSONEncoder(ensure_ascii=False)
CLOCK_SKEW = timedelta(minutes=5)  # "now" by a caller's clock
Secret = Annotated[str, Meta(min_length=1, max_length=8192, extra_json_schema={"writeOnly": True})]
Name = Annotated[str, Meta(pattern=NAME, description="1 to 63 lower-case letters, digits and hyphens")]
Seconds = Annotated[float, Meta(gt=0, le=25)]
HeaderValues = Annotated[
    dict[str, str | list[str]], Meta(description="Header names with their value, or all values of a repeated one")
]
Cursor = Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last page")]
BaseUrl = Annotated[
    str,
    Meta(
        max_length=2048,
        description="Paths go below it; http or https",
    ),
]
Idempotent = Annotated[bool, Meta(description="The partner makes sure itself that a repeat does nothing")]
KeyHeader = Annotated[
    str,
    Meta(pattern=FIELD_NAME, description="The header that carries the key which all attempts of a delivery share"),
]
Promise = Annotated[
    Guarantee,
    Meta(
        description="What follows an attempt that was sent and not answered. at_least_once: it is tried again. "
        "at_most_once: the delivery is held in state unknown. auto: tried again where a repeat is harmless "
        "(an idempotent method, or idempotent is true), held otherwise"
    ),
]
DestinationId = Annotated[UUID, Meta(description="The destination's id")]
CreatedAt = Annotated[datetime, Meta(description="When it was recorded")]


class NoAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    """No credentials."""


class BearerAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bearer"):
    """`Authorization: Bearer ...`"""

    token: Annotated[Secret, Meta(description="What stands after `Bearer`")]


class BasicAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="basic"):
    """`Authorization: Basic ...`"""

    username: Annotated[Secret, Meta(description="Without a colon")]
    password: Annotated[Secret, Meta(description="What stands after the colon")]


class HeaderAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="header"):
    """A header of the partner's own."""

    name: Annotated[str, Meta(pattern=FIELD_NAME, description="The header's name")]
    value: Annotated[Secret, Meta(description="The header's value")]


AuthBody = NoAuthBody | BearerAuthBody | BasicAuthBody | HeaderAuthBody


class TimeoutsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines of one attempt in seconds, the total at most 25; the other two are cut to the total."""

    connect_seconds: Annotated[Seconds, Meta(description="To a connection, name and TLS included")] = 5.0
    first_byte_seconds: Annotated[Seconds, Meta(description="To the first byte of the answer")] = 15.0
    total_seconds: Annotated[Seconds, Meta(description="To the end of the answer")] = 20.0


Deadlines = Annotated[TimeoutsBody, Meta(description="How long an attempt may take")]


class NewDestinationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A third party to call."""

    name: Name
    base_url: BaseUrl
    auth: Annotated[AuthBody, Meta(description="Write-only: sealed, and never shown again")] = NoAuthBody()
    timeouts: Deadlines = TimeoutsBody()
    guarantee: Promise = Guarantee.AUTO
    idempotent: Idempotent = False
    idempotency_header: KeyHeader = "Idempotency-Key"


class AuthTypeBody(Struct, frozen=True):
    """The kind of credentials, without them."""

    type: Annotated[AuthType, Meta(description="Which kind they are")]


class DestinationBody(Struct, frozen=True, kw_only=True):
    """A third party, without its credentials."""

    destination_id: DestinationId
    name: Name
    base_url: BaseUrl
    auth: Annotated[AuthTypeBody, Meta(description="The kind of its credentials, without them")]
    timeouts: Deadlines
    guarantee: Promise
    idempotent: Idempotent
    idempotency_header: KeyHeader
    created_at: CreatedAt


class DestinationsBody(Struct, frozen=True):
    """A page of destinations, newest first. `next_cursor` is null on the last page."""

    destinations: Annotated[list[DestinationBody], Meta(description="The destinations of this page")]
    next_cursor: Cursor


class NewDeliveryBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request to hand over."""

    destination: Annotated[str, Meta(min_length=1, max_length=63, description="Its name or id")]
    method: Annotated[
        str, Meta(pattern="^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$(?!\\n)", description="In upper case")
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


class TimingsBody(Struct, frozen=True):
    """Milliseconds from the start of the attempt; null where that step was not reached."""

    dns_ms: Annotated[float | None, Meta(description="Until the partner's name was resolved")]
    connect_ms: Annotated[float | None, Meta(description="Until the connection stood")]
    tls_ms: Annotated[float | None, Meta(description="Until TLS was agreed")]
    first_byte_ms: Annotated[float | None, Meta(description="Until the first byte of the answer")]
    total_ms: Annotated[float, Meta(description="Until the attempt was over")]


class ResponseBody(Struct, frozen=True, kw_only=True):
    """A partner's response. Its body is in `body` where it is text and in `body_base64` otherwise, the other is null.

    `length_bytes` and `sha256` (hex) speak of the whole body, decoded; null where it was not read to its end.
    `truncated` says that what is here is not the whole answer as it came: the body was cut, headers were left out or
    cut, or credentials that the partner sent back were masked.
    """

    status: Annotated[int, Meta(description="The partner's status")]
    headers: HeaderValues
    body: Annotated[str | None, Meta(description="The body where it is text; null otherwise")]
    body_base64: Annotated[str | None, Meta(description="The body in base64 where it is no text; null otherwise")]
    length_bytes: Annotated[
        int | None, Meta(description="Of the whole body, decoded; null where it was not read to its end")
    ]
    sha256: Annotated[
        str | None,
        Meta(description="Of the whole body, decoded, in hexadecimal; null where it was not read to its end"),
    ]
    truncated: Annotated[
        bool,
        Meta(
            description="Not the whole answer as it came: its body was cut, headers were left out or cut, or "
            "credentials that the partner sent back were masked. A header `Sallyport-Note` says more"
        ),
    ]


class AttemptBody(Struct, frozen=True, kw_only=True):
    """One try. `reason` is null when answered, `response` unless answered."""

    attempt_id: Annotated[UUID, Meta(description="The attempt's id")]
    number: Annotated[int, Meta(ge=1, description="1 for the first attempt")]
    outcome: Annotated[
        OutcomeKind,
        Meta(
            description="answered: an answer came. unreachable: nothing was sent. unknown: some of it was sent and no "
            "complete answer came. refused: Sallyport did not let it out"
        ),
    ]
    reason: Annotated[str | None, Meta(description="Why no answer came, in words; null when answered")]
    started_at: Annotated[datetime, Meta(description="When the attempt began")]
    timings: Annotated[TimingsBody, Meta(description="How long its steps took")]
    remote_address: Annotated[str | None, Meta(description="The partner's address that was connected to")]
    egress_address: Annotated[str | None, Meta(description="The fixed address it left from, where one is known")]
    response: Annotated[ResponseBody | None, Meta(description="What is stored of the answer; null unless answered")]


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
            "delivered. canceled: reserved"
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
    created_at: CreatedAt
    finished_at: Annotated[datetime | None, Meta(description="When it ended; null until then")]


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


class DeliveriesBody(Struct, frozen=True):
    """A page of deliveries, newest first. `next_cursor` is null on the last page. A page ends before its limit where
    the answer would become too large.
    """

    deliveries: Annotated[list[DeliveryBody], Meta(description="The deliveries of this page")]
    next_cursor: Cursor


EgressReason = Annotated[str | None, Meta(description="What is wrong, in words; null when nothing is")]
Judgement = Annotated[
    CheckStatus,
    Meta(
        description="matches: seen from outside. differs: another address was seen. failed: the echo service was asked "
        "in vain. unverified: no check has told anything lately"
    ),
]
SeenAddress = Annotated[str | None, Meta(description="Where our request came from, as the echo service saw it")]


class EgressAddressBody(Struct, frozen=True, kw_only=True):
    """A fixed address, and what the last check of it found. Zones with one way out share their address.

    `unverified` says that no check has told anything about this address lately; `failed` that the echo service was
    asked in vain, which says nothing about the address.
    """

    availability_zone: Annotated[str, Meta(description="The zone whose traffic leaves from this address")]
    address: Annotated[str, Meta(description="What partners allowlist")]
    verdict: Judgement
    seen_address: SeenAddress
    reason: EgressReason
    last_checked_at: Annotated[datetime | None, Meta(description="When this address was last checked")]
    last_verified_at: Annotated[datetime | None, Meta(description="When this address was last seen from outside")]


class EgressBody(Struct, frozen=True):
    """The addresses that partners must allowlist; none where the stack has no way to the internet."""

    addresses: Annotated[list[EgressAddressBody], Meta(description="One entry per Availability Zone")]
    reason: Annotated[str | None, Meta(description="Why there are none; null where there are")]


class VerifiedEgressBody(Struct, frozen=True, kw_only=True):
    """What the echo service saw just now. `matches` says that it is one of `addresses`."""

    addresses: Annotated[list[str], Meta(description="All published addresses, each once")]
    verdict: Judgement
    seen_address: SeenAddress
    reason: EgressReason
    checked_at: Annotated[datetime, Meta(description="When the echo service was asked")]


class HealthBody(Struct, frozen=True):
    """The process answers. It says nothing of the database, which may be paused."""

    status: Annotated[str, Meta(description="Always ok", extra_json_schema={"enum": ["ok"]})]
    version: Annotated[str, Meta(description="Sallyport's version")]


class FaultBody(Struct, frozen=True):
    """One field at fault: a JSON pointer or a header's or parameter's name, and what would be right."""

    field: Annotated[str, Meta(description="A JSON pointer, or the name of a header or a parameter")]
    detail: Annotated[str, Meta(description="What would be right")]


class ProblemBody(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem. Some kinds carry more members, such as `delivery_id`."""

    type: Annotated[str, Meta(description="The kind of problem: what programs look at")]
    title: Annotated[str, Meta(description="Fixed for each type")]
    status: Annotated[int, Meta(description="The HTTP status of the answer")]
    detail: Annotated[str, Meta(description="For people; may change")]
    faults: Annotated[list[FaultBody], Meta(description="Of an invalid-request: the fields at fault")] = []


def new_destination(body: NewDestinationBody, *, tenant_id: TenantId) -> NewDestination:
    """Raises InvalidRequest with every field that the types alone cannot judge."""
    faults = _auth_faults(body.auth)
    faults += _key_faults(body)
    if len(body.name) == 36 and _is_uuid(body.name):
        faults.append(Fault(field="/name", detail="must not have the form of an id"))
    if faults:
        raise InvalidRequest(*faults)
    return NewDestination(
        tenant_id=tenant_id,
        name=body.name,
        base_url=body.base_url,
        auth=_auth(body.auth),
        guarantee=body.guarantee,
        idempotent=body.idempotent,
        idempotency_header=body.idempotency_header,
        timeouts=Timeouts(
            connect_seconds=min(body.timeouts.connect_seconds, body.timeouts.total_seconds),
            first_byte_seconds=min(body.timeouts.first_byte_seconds, body.timeouts.total_seconds),
            total_seconds=body.timeouts.total_seconds,
        ),
    )


def destination_body(destination: Destination) -> DestinationBody:
    """What the API shows of a destination."""
    return DestinationBody(
        destination_id=destination.destination_id,
        name=destination.name,
        base_url=destination.base_url,
        auth=AuthTypeBody(type=destination.auth_type),
        timeouts=TimeoutsBody(
            connect_seconds=destination.timeouts.connect_seconds,
            first_byte_seconds=destination.timeouts.first_byte_seconds,
            total_seconds=destination.timeouts.total_seconds,
        ),
        guarantee=destination.guarantee,
        idempotent=destination.idempotent,
        idempotency_header=destination.idempotency_header,
        created_at=destination.created_at,
    )


class _Sent(Struct):
    """A call's body, of which only the place where `body` stands is looked for."""

    body: msgspec.Raw


_SENT = msgspec.json.Decoder(_Sent)


def new_delivery(
    body: NewDeliveryBody, *, sent: bytes, tenant_id: TenantId, idempotency_key: str | None, now: datetime
) -> NewDelivery:
    """Raises InvalidRequest with every field that the types alone cannot judge.

    `sent` is the call's whole body: a JSON `body` in it goes on as it stands there, so that no number loses a digit.
    """
    faults: list[Fault] = []
    headers = _request_headers(body.headers, faults)
    content = _content(body, sent, faults)
    for name, fault in (("/path", path_fault(body.path)), ("/query", query_fault(body.query))):
        if fault:
            faults.append(Fault(field=name, detail=fault))
    faults += _metadata_faults(body.metadata)
    if body.not_before and not now - CLOCK_SKEW <= body.not_before <= now + NOT_BEFORE_LIMIT:
        faults.append(Fault(field="/not_before", detail="must be from now to 30 days from now"))
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
    )


def delivery_body(delivery: Delivery) -> DeliveryBody:
    """What a list shows of a delivery."""
    return DeliveryBody(**_delivery_fields(delivery))


def delivery_details(progress: Progress, *, after: int = 0) -> DeliveryDetailsBody:
    """A delivery with its attempts from number `after` + 1 on; the response in full where this call got it from the
    partner itself. What would make the answer too large is left out: attempts, and all but the stored response.
    """
    attempts = [_attempt_body(attempt) for attempt in progress.attempts]
    stored = attempts[-1].response if attempts else None
    bare = DeliveryDetailsBody(
        **_delivery_fields(progress.delivery), attempts=[], response=_response_shown(progress, stored), next_cursor=None
    )
    if weight(bare) > ANSWER_BYTES:
        bare = replace(bare, response=stored)
    left = [attempt for attempt in attempts if attempt.number > after]
    shown = fitting(left, room_bytes=ANSWER_BYTES - weight(bare))
    following = str(shown[-1].number if shown else after) if len(shown) < len(left) else None
    return replace(bare, attempts=shown, next_cursor=following)


def _response_shown(progress: Progress, stored: ResponseBody | None) -> ResponseBody | None:
    if progress.answer is None or stored is None or not stored.truncated:
        return stored
    return _response_body(stored_response(progress.answer, limit_bytes=SYNC_RESPONSE_BYTES))


def egress_body(shown: Iterable[tuple[EgressAddress, Check]]) -> EgressBody:
    """The fixed addresses with what is known about each."""
    addresses = [
        EgressAddressBody(
            availability_zone=item.availability_zone,
            address=item.address,
            verdict=check.verdict,
            seen_address=check.seen,
            reason=check.reason,
            last_checked_at=check.checked_at,
            last_verified_at=check.verified_at,
        )
        for item, check in shown
    ]
    return EgressBody(addresses=addresses, reason=None if addresses else NO_FIXED_ADDRESS)


def verified_egress_body(found: Verified) -> VerifiedEgressBody:
    """What was seen just now."""
    return VerifiedEgressBody(
        addresses=list(found.published),
        verdict=found.verdict,
        seen_address=found.seen,
        reason=found.reason,
        checked_at=found.checked_at,
    )


def _auth(body: AuthBody) -> Auth:
    match body:
        case NoAuthBody():
            return NoAuth()
        case BearerAuthBody(token=token):
            return BearerAuth(token=token)
        case BasicAuthBody(username=username, password=password):
            return BasicAuth(username=username, password=password)
        case HeaderAuthBody(name=name, value=value):
            return HeaderAuth(name=name, value=value)
        case _:
            assert_never(body)


def _auth_faults(body: AuthBody) -> list[Fault]:
    """Credentials become header values, so they are judged as such; no fault repeats the value."""
    match body:
        case NoAuthBody():
            return []
        case BearerAuthBody(token=token):
            return _secret_faults({"/auth/token": token})
        case BasicAuthBody(username=username, password=password):
            colon = [Fault(field="/auth/username", detail="must not contain ':' (RFC 7617)")] if ":" in username else []
            return [*colon, *_secret_faults({"/auth/username": username, "/auth/password": password})]
        case HeaderAuthBody(name=name, value=value):
            fault = None if name.lower() == "authorization" else _reserved(name)
            reserved = [Fault(field="/auth/name", detail=fault)] if fault else []
            return [*reserved, *_secret_faults({"/auth/value": value})]
        case _:
            assert_never(body)


def _secret_faults(values: Mapping[str, str]) -> list[Fault]:
    detail = "must be one line of Latin-1 text without control characters"
    return [Fault(field=where, detail=detail) for where, value in values.items() if header_fault("X", value)]


def _reserved(name: str) -> str | None:
    """Why a destination must not use the header `name` for credentials of its own or for the key."""
    lowered = name.lower()
    if lowered.startswith("content-") or lowered in ("cookie", "accept", "user-agent"):
        return "a header of that name says something else already"
    return None if lowered == "idempotency-key" else header_fault(name, "")


def _key_faults(body: NewDestinationBody) -> list[Fault]:
    """The header of the key must be free: a credential of the same name would silently take its place."""
    name = body.idempotency_header.lower()
    if fault := _reserved(name):
        return [Fault(field="/idempotency_header", detail=fault)]
    if isinstance(body.auth, HeaderAuthBody) and body.auth.name.lower() == name:
        return [Fault(field="/idempotency_header", detail="must not be the header of the credentials")]
    return []


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _request_headers(headers: Mapping[str, str | list[str]], faults: list[Fault]) -> Headers:
    pairs = [
        (name, value) for name, values in headers.items() for value in ([values] if isinstance(values, str) else values)
    ]
    faults += header_faults(pairs, field="/headers")
    return tuple(pairs)


def header_faults(pairs: Sequence[tuple[str, str]], *, field: str) -> Iterator[Fault]:
    """What is wrong with headers that a caller wants to send. They go by position: a name may be a misplaced secret."""
    for position, (name, value) in enumerate(pairs, start=1):
        if fault := header_fault(name, value):
            yield Fault(field=field, detail=f"header {position}: {fault}")
    if len(pairs) > HEADERS_LIMIT:
        yield Fault(field=field, detail=f"must be at most {HEADERS_LIMIT} in all")
    if sum(len(name) + len(value) for name, value in pairs) > HEADERS_LIMIT_BYTES:
        yield Fault(field=field, detail=f"must be at most {HEADERS_LIMIT_BYTES} bytes in all")


def _content(body: NewDeliveryBody, sent: bytes, faults: list[Fault]) -> bytes:
    if body.body is not None and body.body_base64 is not None:
        faults.append(Fault(field="/body_base64", detail="must not stand beside body"))
    if body.method == "HEAD" and (body.body or body.body_base64):
        faults.append(Fault(field="/body", detail="a HEAD request carries none"))
    if body.body_base64 is not None:
        try:
            return b64decode(body.body_base64, validate=True)
        except ValueError:
            faults.append(Fault(field="/body_base64", detail="must be base64 (RFC 4648 section 4)"))
            return b""
    if body.body is None:
        return b""
    return body.body.encode() if isinstance(body.body, str) else _as_it_stands(body.body, sent)


def _as_it_stands(content: dict[str, Any] | list[Any], sent: bytes) -> bytes:
    """The bytes of `content` in `sent`; encoded anew where the call is not UTF-8."""
    try:
        return bytes(_SENT.decode(sent).body)
    except msgspec.DecodeError:
        return msgspec.json.encode(content)


def _metadata_faults(metadata: Mapping[str, Any]) -> list[Fault]:
    encoded = _AS_TEXT.encode(metadata)
    if len(encoded.encode()) > METADATA_LIMIT_BYTES:
        return [Fault(field="/metadata", detail=f"must be at most {METADATA_LIMIT_BYTES} bytes of JSON")]
    if _NUL.search(encoded):
        return [Fault(field="/metadata", detail="must not contain U+0000")]
    return []


def _delivery_fields(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.delivery_id,
        "destination": delivery.destination_name,
        "destination_id": delivery.destination_id,
        "state": delivery.state,
        "method": delivery.method,
        "path": delivery.path,
        "query": delivery.query,
        "headers": _header_values(delivery.headers),
        "metadata": dict(delivery.metadata),
        "idempotency_key": delivery.idempotency_key,
        "attempts_made": delivery.attempts_made,
        "attempts_allowed": delivery.attempts_allowed,
        "next_attempt_at": delivery.due_at if delivery.state is State.PENDING else None,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
    }


def _attempt_body(attempt: Attempt) -> AttemptBody:
    timings = attempt.timings
    return AttemptBody(
        attempt_id=attempt.attempt_id,
        number=attempt.number,
        outcome=attempt.outcome,
        reason=attempt.reason,
        started_at=attempt.started_at,
        timings=TimingsBody(
            dns_ms=_rounded(timings.dns_ms),
            connect_ms=_rounded(timings.connect_ms),
            tls_ms=_rounded(timings.tls_ms),
            first_byte_ms=_rounded(timings.first_byte_ms),
            total_ms=round(timings.total_ms, 3),
        ),
        remote_address=attempt.remote_address,
        egress_address=attempt.egress_address,
        response=None if attempt.response is None else _response_body(attempt.response),
    )


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _response_body(response: StoredResponse) -> ResponseBody:
    text = _text(response.body)
    return ResponseBody(
        status=response.status,
        headers=_header_values(response.headers),
        body=text,
        body_base64=b64encode(response.body).decode() if text is None else None,
        length_bytes=response.length_bytes,
        sha256=response.sha256.hex() if response.sha256 else None,
        truncated=response.truncated,
    )


def _text(body: bytes) -> str | None:
    """The body as text; None where it is none, or where escaping it in JSON could take more room than base64 does."""
    if len(body) > STORED_RESPONSE_BYTES:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _header_values(headers: Headers) -> dict[str, str | list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}

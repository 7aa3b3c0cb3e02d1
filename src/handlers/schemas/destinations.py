"""The bodies of /v1/destinations."""

from collections.abc import Mapping
from typing import Annotated, assert_never
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.destinations import (
    MAX_TOTAL_SECONDS,
    MIN_TIMEOUT_SECONDS,
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
from flows.destinations import NewDestination
from handlers.schemas.common import CreatedAt, Cursor, DestinationId

# Python's $ also matches before a line feed at the end; (?!\n) takes that back and changes nothing elsewhere.
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$(?!\n)"
FIELD_NAME = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$(?!\n)"
Secret = Annotated[str, Meta(min_length=1, max_length=8192, extra_json_schema={"writeOnly": True})]
# `must` is what a fault says instead of the pattern.
_IS_NAME = {"must": "1 to 63 lower-case letters, digits and hyphens, and must not start with a hyphen"}
_IS_HEADER = {"must": "the name of a header: 1 to 100 letters, digits and characters of !#$%&'*+-.^_`|~"}
Name = Annotated[str, Meta(pattern=NAME, extra=_IS_NAME, description="1 to 63 lower-case letters, digits and hyphens")]
Seconds = Annotated[float, Meta(ge=MIN_TIMEOUT_SECONDS, le=MAX_TOTAL_SECONDS)]
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
    Meta(
        pattern=FIELD_NAME,
        extra=_IS_HEADER,
        description="The header that carries the key which all attempts of a delivery share",
    ),
]
Promise = Annotated[
    Guarantee,
    Meta(
        description="What follows an attempt that was sent and not answered. at_least_once: it is tried again. "
        "at_most_once: the delivery is held in state unknown. auto: tried again where a repeat is harmless "
        "(an idempotent method, or idempotent is true), held otherwise"
    ),
]


class NoAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    """No credentials."""


class BearerAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bearer"):
    """`Authorization: Bearer ...`"""

    token: Annotated[Secret, Meta(description="The token after `Bearer`")]


class BasicAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="basic"):
    """`Authorization: Basic ...`"""

    username: Annotated[Secret, Meta(description="Without a colon")]
    password: Annotated[Secret, Meta(description="The part after the colon")]


class HeaderAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="header"):
    """A header of the partner's own."""

    name: Annotated[str, Meta(pattern=FIELD_NAME, extra=_IS_HEADER, description="The header's name")]
    value: Annotated[Secret, Meta(description="The header's value")]


AuthBody = NoAuthBody | BearerAuthBody | BasicAuthBody | HeaderAuthBody


class NewTimeoutsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines of one attempt in seconds. Neither of the first two may be longer than `total_seconds`."""

    connect_seconds: Annotated[
        Seconds | UnsetType,
        Meta(description="To a connection, name and TLS included. Without it 5, or total_seconds if that is less"),
    ] = UNSET
    first_byte_seconds: Annotated[
        Seconds | UnsetType,
        Meta(description="To the first byte of the answer. Without it 15, or total_seconds if that is less"),
    ] = UNSET
    total_seconds: Annotated[Seconds, Meta(description="To the end of the answer")] = Timeouts().total_seconds


class TimeoutsBody(Struct, frozen=True):
    """Deadlines of one attempt in seconds."""

    connect_seconds: Annotated[float, Meta(description="To a connection, name and TLS included")]
    first_byte_seconds: Annotated[float, Meta(description="To the first byte of the answer")]
    total_seconds: Annotated[float, Meta(description="To the end of the answer")]


class NewDestinationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A third party to call."""

    name: Name
    base_url: BaseUrl
    auth: Annotated[AuthBody, Meta(description="Write-only: sealed, and never shown again")] = NoAuthBody()
    timeouts: Annotated[NewTimeoutsBody, Meta(description="How long an attempt may take")] = NewTimeoutsBody()
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
    timeouts: Annotated[TimeoutsBody, Meta(description="How long an attempt may take")]
    guarantee: Promise
    idempotent: Idempotent
    idempotency_header: KeyHeader
    created_at: CreatedAt


class DestinationsBody(Struct, frozen=True):
    """A page of destinations, newest first. `next_cursor` is null on the last page."""

    destinations: Annotated[list[DestinationBody], Meta(description="The destinations of this page")]
    next_cursor: Cursor


def new_destination(body: NewDestinationBody, *, tenant_id: TenantId) -> NewDestination:
    """Raises InvalidRequest with every field that the types alone cannot judge."""
    faults = _auth_faults(body.auth)
    faults += _key_faults(body)
    faults += _timeout_faults(body.timeouts)
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
        timeouts=_timeouts(body.timeouts),
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


def _timeouts(body: NewTimeoutsBody) -> Timeouts:
    default, total = Timeouts(), body.total_seconds
    connect, first_byte = body.connect_seconds, body.first_byte_seconds
    return Timeouts(
        connect_seconds=min(default.connect_seconds, total) if connect is UNSET else connect,
        first_byte_seconds=min(default.first_byte_seconds, total) if first_byte is UNSET else first_byte,
        total_seconds=total,
    )


def _timeout_faults(body: NewTimeoutsBody) -> list[Fault]:
    """A deadline that could never be reached is a slip, and is not cut silently."""
    parts = {"connect_seconds": body.connect_seconds, "first_byte_seconds": body.first_byte_seconds}
    detail = f"must be at most total_seconds, which is {body.total_seconds:g}"
    return [
        Fault(field=f"/timeouts/{name}", detail=detail)
        for name, seconds in parts.items()
        if seconds is not UNSET and seconds > body.total_seconds
    ]


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

"""The bodies of /v1/destinations.

Each group of members has a module of its own, with `faults` (what the types alone cannot judge), `domain` (the body as
the flows take it) and `shown` (as the API shows it). A new group is added here in four places: the two bodies,
`_faults` and what `new_destination` or `destination_body` passes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from domain.destinations import DestinationState, Guarantee, ManagedDestination
from domain.errors import Fault, InvalidRequest
from domain.ids import TenantId
from domain.values import value_class
from flows.destinations import BASE_URL, TOKEN_URL, NewDestination
from handlers.schemas.common import IS_LINE, LINE, CreatedAt, Cursor, DestinationId, holds_nul
from handlers.schemas.destinations import (
    allow,
    auth,
    certificate,
    flow,
    reconcile,
    redact,
    retention,
    retry,
    signing,
    timeouts,
    tls,
    verify,
)
from handlers.schemas.destinations.allow import AllowBody
from handlers.schemas.destinations.auth import AuthBody, AuthTypeBody, NoAuthBody, OAuth2AuthBody
from handlers.schemas.destinations.certificate import ClientCertificateBody, NewClientCertificateBody
from handlers.schemas.destinations.fields import FIELD_NAME, IS_HEADER, reserved
from handlers.schemas.destinations.flow import (
    CircuitBreakerBody,
    NewCircuitBreaker,
    NewLimits,
    Order,
    OrderingBody,
    ShownCircuitBreaker,
    Windows,
)
from handlers.schemas.destinations.reconcile import ReconcileBody
from handlers.schemas.destinations.redact import RedactBody
from handlers.schemas.destinations.retention import RetentionBody
from handlers.schemas.destinations.retry import RetryBody
from handlers.schemas.destinations.signing import NewSchemes, Schemes
from handlers.schemas.destinations.timeouts import NewTimeoutsBody, TimeoutsBody
from handlers.schemas.destinations.tls import TlsBody
from handlers.schemas.destinations.verify import VerifyBody

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$(?!\n)"
_IS_NAME = {"must": "1 to 63 lower-case letters, digits and hyphens, and must not start with a hyphen"}
Name = Annotated[str, Meta(pattern=NAME, extra=_IS_NAME, description="1 to 63 lower-case letters, digits and hyphens")]
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
        extra=IS_HEADER,
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


class NewDestinationBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A third party to call."""

    name: Name
    base_url: BaseUrl
    auth: Annotated[AuthBody, Meta(description="Write-only: sealed, and never shown again")] = NoAuthBody()
    client_certificate: Annotated[
        NewClientCertificateBody | None,
        Meta(description="What we show to the partner in TLS, beside any auth; null for nothing"),
    ] = None
    tls: Annotated[TlsBody | None, Meta(description="What is asked of TLS; null for the usual")] = None
    timeouts: Annotated[NewTimeoutsBody, Meta(description="How long an attempt may take")] = NewTimeoutsBody()
    guarantee: Promise = Guarantee.AUTO
    idempotent: Idempotent = False
    idempotency_header: KeyHeader = "Idempotency-Key"
    signing: NewSchemes = []
    retry: Annotated[RetryBody | None, Meta(description="When it is tried again; null for the usual")] = None
    allow: Annotated[AllowBody | None, Meta(description="What callers may send; null for everything")] = None
    verify: Annotated[VerifyBody | None, Meta(description="How it is verified; null for OPTIONS")] = None
    limits: NewLimits = None
    circuit_breaker: NewCircuitBreaker = CircuitBreakerBody()
    windows: Windows = []
    ordering: Order = OrderingBody()
    reconcile: Annotated[
        ReconcileBody | None, Meta(description="How to ask what became of an unknown delivery; null: it is not asked")
    ] = None
    redact: Annotated[RedactBody | None, Meta(description="What is never stored; null for nothing")] = None
    events_to: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63)] | None,
        Meta(description="The name or id of another destination, which is told when deliveries end; null for none"),
    ] = None
    retention: Annotated[
        RetentionBody | None,
        Meta(description="For how long what has ended is stored; null for as long as the stack says"),
    ] = None


class DestinationBody(Struct, frozen=True, kw_only=True):
    """A third party, without its credentials."""

    destination_id: DestinationId
    name: Name
    base_url: BaseUrl
    auth: Annotated[AuthTypeBody, Meta(description="The kind of its credentials, and what is not secret of them")]
    client_certificate: Annotated[
        ClientCertificateBody | None, Meta(description="What we show to the partner in TLS; null for nothing")
    ]
    tls: Annotated[TlsBody | None, Meta(description="What is asked of TLS; null for the usual")]
    timeouts: Annotated[TimeoutsBody, Meta(description="How long an attempt may take")]
    guarantee: Promise
    idempotent: Idempotent
    idempotency_header: KeyHeader
    signing: Schemes
    retry: Annotated[RetryBody | None, Meta(description="When it is tried again; null for the usual")]
    allow: Annotated[AllowBody | None, Meta(description="What callers may send; null for everything")]
    verify: Annotated[VerifyBody | None, Meta(description="How it is verified; null for OPTIONS")]
    limits: NewLimits
    circuit_breaker: ShownCircuitBreaker
    windows: Windows
    ordering: Order
    reconcile: Annotated[
        ReconcileBody | None, Meta(description="How to ask what became of an unknown delivery; null: it is not asked")
    ]
    redact: Annotated[RedactBody | None, Meta(description="What is never stored; null for nothing")]
    events_to: Annotated[
        UUID | None, Meta(description="The id of the destination that is told when deliveries end; null for none")
    ]
    retention: Annotated[
        RetentionBody | None,
        Meta(description="For how long what has ended is stored; null for as long as the stack says"),
    ]
    state: Annotated[
        DestinationState,
        Meta(
            description="active: what is due is sent. paused: deliveries are accepted and wait. disabled: new ones are "
            "refused, and those that are pending wait"
        ),
    ]
    state_reason: Annotated[str | None, Meta(description="The reason that was given for the state, if any")]
    state_changed_at: Annotated[
        datetime | None, Meta(description="Since when it is in this state; null from the start")
    ]
    state_changed_by: Annotated[
        str | None, Meta(description="Who changed it: a token's id, or `partner answered 410`; null from the start")
    ]
    version: Annotated[int, Meta(ge=1, description="Counts its changes; in quotes it is the ETag")]
    created_at: CreatedAt


class ReasonBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the state is changed."""

    reason: Annotated[
        Annotated[str, Meta(pattern=LINE, extra=IS_LINE)] | None,
        Meta(description="For people: shown with the destination, and to whoever is refused because of it"),
    ] = None


class DeletedDestinationBody(Struct, frozen=True, kw_only=True):
    """What became of a destination's unfinished deliveries."""

    destination_id: DestinationId
    canceled: Annotated[int, Meta(ge=0, description="How many pending deliveries were canceled")]
    unfinished: Annotated[
        int,
        Meta(
            ge=0,
            description="How many were left: attempts that are being made end as they end, and are not repeated; what "
            "else is left here is canceled when it would be due",
        ),
    ]


class DestinationsBody(Struct, frozen=True):
    """A page of destinations, newest first. `next_cursor` is null on the last page."""

    destinations: Annotated[list[DestinationBody], Meta(description="The destinations of this page")]
    next_cursor: Cursor


@value_class(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a destination has already and a body does not say again: the headers, in lower case, that carry its
    credentials, whether these need a client certificate, and whether it has one."""

    header_names: frozenset[str] = frozenset()
    needs_certificate: bool = False
    has_certificate: bool = False


NOTHING_KEPT = Kept()
# What is judged in place of required members that are at fault; of no member does anything wrong follow from them.
STAND_INS: Mapping[str, Any] = MappingProxyType({"name": "a", "base_url": "https://a.example"})
# The members that others are judged with: a scheme may not write the header of the key, whichever that is to be.
JUDGED_WITH: Mapping[str, frozenset[str]] = MappingProxyType({"signing": frozenset({"idempotency_header"})})
# Finds what services alone can judge, such as where a URL leads.
type Judge = Callable[["NewDestinationBody"], Iterable[Fault]]


def new_destination(
    body: NewDestinationBody, *, tenant_id: TenantId, now: datetime, judge: Judge, kept: Kept = NOTHING_KEPT
) -> NewDestination:
    """Raises InvalidRequest with every field that the types alone cannot judge; `judge` is asked about those too where
    there are any, since otherwise the flows do that."""
    faults = _faults(body, now=now, kept=kept)
    faults += _nul_faults(body, besides=faults)
    if faults:
        raise InvalidRequest(*judge(body), *faults)
    given = body.client_certificate
    client_certificate, facts = (None, None) if given is None else certificate.domain(given, now=now)
    flow_options = flow.options(body.limits, body.circuit_breaker, body.windows, body.ordering)
    return NewDestination(
        tenant_id=tenant_id,
        name=body.name,
        base_url=body.base_url,
        auth=auth.domain(body.auth),
        guarantee=body.guarantee,
        idempotent=body.idempotent,
        idempotency_header=body.idempotency_header,
        timeouts=timeouts.domain(body.timeouts),
        options=replace(
            flow_options,
            certificate=facts,
            tls=tls.domain(body.tls),
            retry=retry.domain(body.retry),
            allow=allow.domain(body.allow),
            verify=verify.domain(body.verify),
            reconcile=reconcile.domain(body.reconcile),
            redact=redact.domain(body.redact),
            retention=retention.domain(body.retention),
        ),
        client_certificate=client_certificate,
        signing=signing.domain(body.signing),
        events_to=body.events_to,
    )


def urls_of(body: NewDestinationBody) -> Mapping[str, str]:
    """The URLs that requests would go to, by their members."""
    urls = {BASE_URL: body.base_url}
    return urls | {TOKEN_URL: body.auth.token_url} if isinstance(body.auth, OAuth2AuthBody) else urls


def time_zones_of(body: NewDestinationBody) -> list[str]:
    """Of each sending window."""
    return [window.time_zone for window in body.windows]


def destination_body(
    destination: ManagedDestination, *, texts: Mapping[str, str] = MappingProxyType({})
) -> DestinationBody:
    """What the API shows of a destination. `texts` are shared secrets that were made by this very call."""
    return DestinationBody(
        destination_id=destination.destination_id,
        name=destination.name,
        base_url=destination.base_url,
        auth=auth.shown(destination),
        client_certificate=certificate.shown(destination.options.certificate),
        tls=tls.shown(destination.options.tls),
        timeouts=timeouts.shown(destination.timeouts),
        guarantee=destination.guarantee,
        idempotent=destination.idempotent,
        idempotency_header=destination.idempotency_header,
        signing=signing.shown(destination.options.signing or (), texts=texts),
        retry=retry.shown(destination.options.retry),
        allow=allow.shown(destination.options.allow),
        verify=verify.shown(destination.options.verify),
        limits=flow.shown_limits(destination.options.limits),
        circuit_breaker=flow.shown_breaker(destination.options.circuit_breaker),
        windows=flow.shown_windows(destination.options.windows),
        ordering=flow.shown_ordering(destination.options.ordering),
        reconcile=reconcile.shown(destination.options.reconcile),
        redact=redact.shown(destination.options.redact),
        events_to=destination.options.events_to,
        retention=retention.shown(destination.options.retention),
        state=destination.state,
        state_reason=destination.state_reason,
        state_changed_at=destination.state_changed_at,
        state_changed_by=destination.state_changed_by,
        version=destination.version,
        created_at=destination.created_at,
    )


def _faults(body: NewDestinationBody, *, now: datetime, kept: Kept) -> list[Fault]:
    """Of all groups of members, then those of members together."""
    return [
        *auth.faults(body.auth, has_certificate=kept.has_certificate or body.client_certificate is not None),
        *certificate.faults(body.client_certificate, base_url=body.base_url, now=now),
        *tls.faults(body.tls, base_url=body.base_url, now=now),
        *timeouts.faults(body.timeouts),
        *retry.faults(body.retry),
        *allow.faults(body.allow),
        *verify.faults(body.verify),
        *reconcile.faults(body.reconcile),
        *redact.faults(body.redact),
        *retention.faults(body.retention),
        *_name_faults(body.name),
        *_certificate_faults(body, kept),
        *_key_faults(body, kept),
        *signing.faults(
            body.signing,
            credentials=kept.header_names | auth.header_names(body.auth),
            key_header=body.idempotency_header.lower(),
        ),
        *flow.faults(body.limits, body.windows),
    ]


def _nul_faults(body: NewDestinationBody, *, besides: Sequence[Fault]) -> list[Fault]:
    """PostgreSQL stores no U+0000, neither as text nor in JSON. A member that is at fault anyway is not named again."""
    named = {fault.field.split("/")[1] for fault in besides}
    return [
        Fault(field=f"/{name}", detail="must not contain U+0000")
        for name, value in msgspec.to_builtins(body).items()
        if name not in named and holds_nul(msgspec.json.encode(value))
    ]


def _name_faults(name: str) -> list[Fault]:
    """No name has the form of an id, so that a reference is one or the other."""
    return [Fault(field="/name", detail="must not have the form of an id")] if _is_uuid(name) else []


def _certificate_faults(body: NewDestinationBody, kept: Kept) -> list[Fault]:
    if not kept.needs_certificate or kept.has_certificate or body.client_certificate is not None:
        return []
    return [Fault(field="/client_certificate", detail="must stay: the client of auth authenticates with it")]


def _key_faults(body: NewDestinationBody, kept: Kept) -> list[Fault]:
    """The header of the key must be free: a credential of the same name would silently take its place."""
    name = body.idempotency_header.lower()
    if fault := reserved(name):
        return [Fault(field="/idempotency_header", detail=fault)]
    if name in kept.header_names | auth.header_names(body.auth):
        return [Fault(field="/idempotency_header", detail="must not be the header of the credentials")]
    return []


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and UUID(text) is not None
    except ValueError:
        return False

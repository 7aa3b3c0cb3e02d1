"""The examples of the OpenAPI document: whole bodies that fit together, made of the types that the API answers with.

The examples of single properties are taken from them, so that they cannot differ. Requests work unchanged against `make
run`, whose demo destination is `partner`. They are made when the document is requested, not on import.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict, replace

from domain.checks import CheckStatus
from domain.deliveries import ASYNC_ATTEMPTS, State
from domain.destinations import AuthType, Guarantee
from domain.outcomes import OutcomeKind
from handlers.descriptions import ALL_TITLES, EXAMPLE_ID, KINDS
from handlers.problems import TYPE_PREFIX
from handlers.schemas.about import HealthBody
from handlers.schemas.attempts import AttemptBody, ResponseBody, TimingsBody
from handlers.schemas.deliveries import DeliveriesBody, DeliveryBody, DeliveryDetailsBody, NewDeliveryBody
from handlers.schemas.destinations import DestinationBody, DestinationsBody, NewDestinationBody
from handlers.schemas.destinations.auth import AuthTypeBody
from handlers.schemas.destinations.timeouts import TimeoutsBody
from handlers.schemas.egress import EgressAddressBody, EgressBody, VerifiedEgressBody
from handlers.schemas.problems import ProblemBody
from runtime.version import VERSION

_AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
_DELIVERY = UUID(EXAMPLE_ID)
_DESTINATION = UUID("01a203c3-0d5e-7c11-8a4f-3f1d6f0b7a20")
_CURSOR = "AaIDx3f7eI-gs1TUe4yVYQ"

REQUESTS: Mapping[type[Struct], Mapping[str, Mapping[str, Any]]] = {
    NewDeliveryBody: {
        "json": {"destination": "partner", "path": "/orders", "body": {"amount": 10}},
        "text": {
            "destination": "partner",
            "method": "PUT",
            "path": "/orders",
            "query": "dry=1",
            "headers": {"Content-Type": "text/plain", "Accept-Language": ["en", "de"]},
            "body": "amount=10",
            "metadata": {"order": "4711"},
        },
        "bytes": {
            "destination": "partner",
            "path": "/orders",
            "headers": {"Content-Type": "application/octet-stream"},
            "body_base64": "AAEC/w==",
        },
    },
    NewDestinationBody: {
        "bearer": {
            "name": "example-bank",
            "base_url": "https://api.bank.example/v1",
            "auth": {"type": "bearer", "token": "what-the-bank-gave-you"},
        },
        "basic": {
            "name": "example-post",
            "base_url": "https://api.post.example",
            "auth": {"type": "basic", "username": "sallyport", "password": "what-the-post-gave-you"},
            "timeouts": {"connect_seconds": 3, "first_byte_seconds": 10, "total_seconds": 15},
        },
        "header": {
            "name": "example-courier",
            "base_url": "https://api.courier.example",
            "auth": {"type": "header", "name": "X-Api-Key", "value": "what-the-courier-gave-you"},
            "guarantee": "at_most_once",
        },
        "none": {
            "name": "example-weather",
            "base_url": "https://api.weather.example",
            "auth": {"type": "none"},
            "idempotent": True,
            "idempotency_header": "Request-Id",
        },
    },
}


def requests(kind: type[Struct]) -> dict[str, Any]:
    """The examples of a request body, as OpenAPI lists them."""
    return {name: {"value": dict(value)} for name, value in REQUESTS[kind].items()}


def shared() -> dict[str, Any]:
    """The examples of response bodies, each once, for the components: by their type, or by kind and status."""
    bodies = {type(body).__name__: {"value": msgspec.to_builtins(body)} for body in _answers()}
    problems = {
        f"{kind}-{status}": {"value": problem(kind, status)} for kind in KINDS for status in KINDS[kind].statuses
    }
    return bodies | problems


def problem(kind: str, status: int) -> dict[str, Any]:
    """An example of a kind of problem."""
    described = KINDS[kind]
    return {
        "type": TYPE_PREFIX + kind,
        "title": ALL_TITLES[kind],
        "status": status,
        "detail": described.detail,
        **described.members,
    }


def properties() -> dict[str, dict[str, Any]]:
    """The example of each property of each schema, as JSON: the first that is not null, or null."""
    examples: dict[str, dict[str, Any]] = {}
    requested = [msgspec.convert(raw, kind) for kind, raws in REQUESTS.items() for raw in raws.values()]
    for body in (*requested, *_answers(), _in_bytes(), _problem_body()):
        for part in _parts(body):
            known = examples.setdefault(type(part).__name__, {})
            for name, value in asdict(part).items():
                if value is not UNSET and known.get(name) in (None, "", {}, []):
                    known[name] = msgspec.to_builtins(value)
    return examples


def _parts(value: object) -> Iterator[Struct]:
    """`value` with all structs in it, the whole first."""
    if isinstance(value, Struct):
        yield value
        for inner in asdict(value).values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def _answers() -> tuple[Struct, ...]:
    delivery = _pending()
    return (
        _destination(),
        DestinationsBody([_destination()], _CURSOR),
        delivery,
        _delivered(),
        DeliveriesBody([delivery], _CURSOR),
        EgressBody(addresses=[_egress_address()], reason=None),
        VerifiedEgressBody(
            addresses=["203.0.113.10"],
            verdict=CheckStatus.MATCHES,
            seen_address="203.0.113.10",
            reason=None,
            checked_at=_AT,
        ),
        HealthBody(status="ok", version=VERSION),
    )


def _destination() -> DestinationBody:
    return DestinationBody(
        destination_id=_DESTINATION,
        name="partner",
        base_url="https://api.partner.example/v1",
        auth=AuthTypeBody(type=AuthType.BEARER),
        timeouts=TimeoutsBody(connect_seconds=5.0, first_byte_seconds=15.0, total_seconds=20.0),
        guarantee=Guarantee.AUTO,
        idempotent=False,
        idempotency_header="Idempotency-Key",
        created_at=_AT - timedelta(days=1),
    )


def _pending() -> DeliveryBody:
    return DeliveryBody(
        **_delivery_fields(), state=State.PENDING, attempts_made=0, next_attempt_at=_AT, finished_at=None
    )


def _delivered() -> DeliveryDetailsBody:
    response = _response()
    return DeliveryDetailsBody(
        **_delivery_fields(),
        state=State.DELIVERED,
        attempts_made=2,
        next_attempt_at=None,
        finished_at=_AT + timedelta(seconds=6),
        attempts=[
            _attempt(1, outcome=OutcomeKind.UNREACHABLE, reason="the connection was refused", response=None),
            _attempt(2, outcome=OutcomeKind.ANSWERED, reason=None, response=response),
        ],
        response=response,
        next_cursor=None,
    )


def _delivery_fields() -> dict[str, Any]:
    return {
        "delivery_id": _DELIVERY,
        "destination": "partner",
        "destination_id": _DESTINATION,
        "method": "POST",
        "path": "/orders",
        "query": "dry=1",
        "headers": {"Content-Type": "application/json"},
        "metadata": {"order": "4711"},
        "idempotency_key": "order-4711",
        "attempts_allowed": ASYNC_ATTEMPTS,
        "created_at": _AT,
    }


def _attempt(number: int, *, outcome: OutcomeKind, reason: str | None, response: ResponseBody | None) -> AttemptBody:
    sent = response is not None
    return AttemptBody(
        attempt_id=UUID(int=_DELIVERY.int + number),
        number=number,
        outcome=outcome,
        reason=reason,
        started_at=_AT + timedelta(seconds=5 * (number - 1)),
        timings=TimingsBody(
            dns_ms=1.204,
            connect_ms=8.51 if sent else None,
            tls_ms=21.337 if sent else None,
            first_byte_ms=58.92 if sent else None,
            total_ms=59.488 if sent else 9.02,
        ),
        remote_address="198.51.100.20",
        egress_address="203.0.113.10" if sent else None,
        response=response,
    )


def _response() -> ResponseBody:
    return ResponseBody(
        status=201,
        headers={"Content-Type": "application/json", "Set-Cookie": ["a=1", "b=2"]},
        body='{"id":7}',
        body_base64=None,
        length_bytes=8,
        sha256="a3c90e3b7448d23d9eacebd0ebf15cae100e21f9b2c688f3f9d238edcd26d67f",
        truncated=False,
    )


def _in_bytes() -> ResponseBody:
    return replace(_response(), body=None, body_base64="AAEC/w==")


def _egress_address() -> EgressAddressBody:
    return EgressAddressBody(
        availability_zone="eu-central-1a",
        address="203.0.113.10",
        verdict=CheckStatus.MATCHES,
        seen_address="203.0.113.10",
        reason=None,
        last_checked_at=_AT,
        last_verified_at=_AT,
    )


def _problem_body() -> ProblemBody:
    return msgspec.convert(problem("invalid-request", 422), ProblemBody)

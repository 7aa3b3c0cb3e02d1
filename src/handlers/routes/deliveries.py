"""/v1/deliveries: create deliveries, and see what became of them."""

import re
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import Response

from db import deliveries as table
from domain.deliveries import State
from domain.destinations import MAX_TOTAL_SECONDS
from domain.errors import Fault, InvalidRequest
from domain.ids import DeliveryId, DestinationId, uuid7_floor
from domain.outcomes import OutcomeKind
from domain.scopes import READ, SEND
from domain.trace import TRACEPARENT, TRACESTATE, with_trace
from flows.accept import accept
from flows.deliver import deliver, follow
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, Parameter, as_json, new_router, serves
from handlers.paging import ATTEMPT_CURSOR, CURSOR, LIMIT, attempt_cursor_of, cursor_behind, cursor_of, limit_of
from handlers.parsing import made_of
from handlers.request import Request, uuid_of
from handlers.schemas.deliveries import (
    JUDGED_WITH,
    STAND_INS,
    DeliveriesBody,
    DeliveryBody,
    DeliveryDetailsBody,
    NewDeliveryBody,
    delivery_body,
    delivery_details,
    new_delivery,
)

router = new_router()

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Makes a repeat of this call harmless: it answers with what the first one led to",
    example="order-4711",
    schema={"type": "string", "minLength": 1, "maxLength": 255},
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="wait=n waits up to n seconds (at most 25) for the partner's response",
    example="wait=10",
)
WAIT = Parameter(
    name="wait",
    place="query",
    description="How many seconds to wait for the end of a delivery that has not ended",
    example=0,
    schema={"type": "integer", "minimum": 0, "maximum": MAX_TOTAL_SECONDS, "default": 0},
)
MOST_MEMBERS = 10
NAMED = ("Location", "Sallyport-Delivery-Id")
FILTERS = (
    Parameter(
        name="state",
        place="query",
        description="Only deliveries in this state",
        example="delivered",
        schema={"type": "string", "enum": [state.value for state in State]},
    ),
    Parameter(
        name="destination",
        place="query",
        description="Only deliveries for this destination, by name or id",
        example="partner",
    ),
    Parameter(
        name="since",
        place="query",
        description="Only deliveries accepted at or after this moment",
        example="2026-11-01T00:00:00Z",
        schema={"type": "string", "format": "date-time"},
    ),
    Parameter(
        name="until",
        place="query",
        description="Only deliveries accepted before this moment",
        example="2100-01-01T00:00:00Z",
        schema={"type": "string", "format": "date-time"},
    ),
    Parameter(
        name="idempotency_key",
        place="query",
        description="Only the delivery of this idempotency key",
        example="order-4711",
        schema={"type": "string", "minLength": 1, "maxLength": 255},
    ),
    Parameter(
        name="ordering_key",
        place="query",
        description="Only deliveries with this ordering key",
        example="account-42",
        schema={"type": "string", "minLength": 1, "maxLength": 200},
    ),
    Parameter(
        name="metadata",
        place="query",
        description="Only deliveries whose metadata has these members, such as metadata[order]=4711. A value is a "
        "text, or a number, true or false as JSON writes it",
        example={"order": "4711"},
        schema={"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": MOST_MEMBERS},
        members=True,
    ),
    Parameter(
        name="outcome",
        place="query",
        description="Only deliveries with an attempt that ended so",
        example="unreachable",
        schema={"type": "string", "enum": [kind.value for kind in OutcomeKind]},
    ),
    Parameter(
        name="status",
        place="query",
        description="Only deliveries with an attempt that the partner answered with a status of this class",
        example="5xx",
        schema={"type": "string", "enum": [f"{digit}xx" for digit in range(1, 10)]},
    ),
    Parameter(
        name="may_have_happened",
        place="query",
        description="true: only deliveries that are not delivered though the partner may have acted, since one attempt "
        "left that open",
        example="true",
        schema={"type": "string", "enum": ["true", "false"], "default": "false"},
    ),
    LIMIT,
    CURSOR,
)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries",
        summary="Create a delivery",
        description="Answers 202 once the request cannot be lost any more. With `Prefer: wait=n` it answers 200 with "
        "the partner's response, or 202 where the delivery has not ended when the time is up; it then goes on alone.",
        scope=SEND,
        body=NewDeliveryBody,
        parameters=(IDEMPOTENCY_KEY, PREFER),
        responses={
            200: OperationResponse(
                description="The delivery has ended",
                body=DeliveryDetailsBody,
                headers=(*NAMED, "Preference-Applied"),
                some_headers=("Idempotency-Replayed",),
            ),
            202: OperationResponse(
                description="Accepted, or not ended yet",
                body=DeliveryBody,
                headers=NAMED,
                some_headers=("Idempotency-Replayed", "Preference-Applied"),
            ),
        },
        problems=("not-found", "not-allowed", "destination-disabled", "in-flight", "key-reused"),
    ),
)
def create(request: Request) -> Response[Any]:
    """Asynchronous unless the caller prefers to wait."""
    services = wiring.api()
    make = partial(
        new_delivery,
        sent=request.body,
        tenant_id=request.tenant_id,
        idempotency_key=request.idempotency_key(),
        now=services.clock(),
    )
    new = made_of(request.body, NewDeliveryBody, make, stand_ins=STAND_INS, judged_with=JUDGED_WITH)
    parents, states = request.values(TRACEPARENT), request.values(TRACESTATE)
    new = replace(new, headers=with_trace(new.headers, parents=parents, states=states)) if parents else new
    wait = request.wait_seconds()
    if wait is None:
        acceptance = accept(new, wait_seconds=None, services=services)
        headers = _headers(request, acceptance.delivery.delivery_id, replayed=acceptance.replayed)
        return as_json(202, delivery_body(acceptance.delivery, stack_days=services.retention_days), headers)
    if new.not_before is not None:
        raise InvalidRequest(Fault(field="/not_before", detail="cannot be combined with Prefer: wait"))
    progress = deliver(new, wait_seconds=wait, services=services)
    headers = _headers(request, progress.delivery.delivery_id, replayed=progress.replayed)
    status = 200 if progress.delivery.state.finished else 202
    return as_json(
        status,
        delivery_details(progress, stack_days=services.retention_days),
        headers | {"Preference-Applied": f"wait={wait}"},
    )


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/deliveries",
        summary="List deliveries, newest first",
        description="Filters can be combined. A page may have fewer deliveries than its limit, even none, and not be "
        "the last: go on for as long as `next_cursor` is not null.",
        scope=READ,
        parameters=FILTERS,
        responses={200: OperationResponse(description="A page of deliveries", body=DeliveriesBody)},
        problems=("not-found",),
    ),
)
def list_deliveries(request: Request) -> Response[Any]:
    """Keyset pagination, stable under inserts."""
    services = wiring.api()
    page = table.page(services.database, _filter(request), limit=limit_of(request))
    days = services.retention_days
    shown = fitting([delivery_body(delivery, stack_days=days) for delivery in page.deliveries])
    last = page.next_before if len(shown) == len(page.deliveries) else shown[-1].delivery_id
    return as_json(200, DeliveriesBody(shown, cursor_behind(last)))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/deliveries/<delivery_id>",
        summary="Show a delivery and its attempts",
        scope=READ,
        description="With `wait=n` it answers as soon as the delivery has ended, and after n seconds in any case. "
        "Attempts that would make the answer too large are left out; `next_cursor` leads to them.",
        parameters=(WAIT, ATTEMPT_CURSOR),
        responses={
            200: OperationResponse(
                description="The delivery", body=DeliveryDetailsBody, headers=("Sallyport-Delivery-Id",)
            )
        },
        problems=("not-found",),
    ),
)
def show_one(request: Request, delivery_id: str) -> Response[Any]:
    """With every attempt that fits, the first one first."""
    after, wait_seconds = attempt_cursor_of(request), _wait_seconds(request)
    wanted = id_of(delivery_id)
    services = wiring.api()
    progress = follow(wanted, tenant_id=request.tenant_id, wait_seconds=wait_seconds, services=services)
    shown = delivery_details(progress, stack_days=services.retention_days, after=after)
    return as_json(200, shown, {"Sallyport-Delivery-Id": str(wanted)})


def id_of(text: str) -> DeliveryId:
    """Raises NotFound."""
    return DeliveryId(uuid_of(text, noun="delivery"))


def _headers(request: Request, delivery_id: DeliveryId, *, replayed: bool) -> dict[str, str]:
    named = {
        "Location": f"{request.stage_path}/v1/deliveries/{delivery_id}",
        "Sallyport-Delivery-Id": str(delivery_id),
    }
    return named | {"Idempotency-Replayed": "true"} if replayed else named


def _wait_seconds(request: Request) -> int:
    """Raises InvalidRequest."""
    text = request.parameter("wait")
    if text is None:
        return 0
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > MAX_TOTAL_SECONDS:
        raise InvalidRequest(Fault(field="wait", detail=f"must be a whole number from 0 to {MAX_TOTAL_SECONDS}"))
    return int(text)


def _filter(request: Request) -> table.Filter:
    before, destination = cursor_of(request), request.parameter("destination")
    return table.Filter(
        tenant_id=request.tenant_id,
        state=_one_of(State, request, "state"),
        destination_id=None if destination is None else _destination_id(destination, request),
        since=_bound(request, "since"),
        until=_bound(request, "until"),
        before=None if before is None else DeliveryId(before),
        idempotency_key=_text(request, "idempotency_key", most=255),
        ordering_key=_text(request, "ordering_key", most=200),
        metadata=_members(request),
        outcome=_one_of(OutcomeKind, request, "outcome"),
        status_class=_status_class(request),
        may_have_happened=_flag(request, "may_have_happened"),
    )


def _destination_id(reference: str, request: Request) -> DestinationId:
    """Also of one that was deleted, by its id: what was delivered to it can still be read."""
    from flows.destinations import find as find_destination  # with all that changes destinations, which few calls need

    found = find_destination(reference, tenant_id=request.tenant_id, services=wiring.api(), deleted=True)
    return found.destination_id


def _one_of[T: StrEnum](kind: type[T], request: Request, name: str) -> T | None:
    text = request.parameter(name)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        raise InvalidRequest(Fault(field=name, detail=f"must be one of {known}")) from error


def _text(request: Request, name: str, *, most: int) -> str | None:
    text = request.parameter(name)
    if text is not None and (not 0 < len(text) <= most or "\0" in text):
        raise InvalidRequest(Fault(field=name, detail=f"must have 1 to {most} characters, and not U+0000"))
    return text


def _members(request: Request) -> dict[str, str]:
    given = [(name[len("metadata[") : -1], value) for name, value in request.query if name.startswith("metadata[")]
    members = dict(given)
    if len(members) < len(given):
        raise InvalidRequest(Fault(field="metadata", detail="must not name a member twice"))
    if len(members) > MOST_MEMBERS or any("\0" in member + content for member, content in members.items()):
        raise InvalidRequest(Fault(field="metadata", detail=f"must be at most {MOST_MEMBERS} members, without U+0000"))
    return members


def _status_class(request: Request) -> int | None:
    text = request.parameter("status")
    if text is None:
        return None
    if not re.fullmatch("[1-9]xx", text):
        raise InvalidRequest(Fault(field="status", detail="must be a class from 1xx to 9xx"))
    return int(text[0])


def _flag(request: Request, name: str) -> bool:
    text = request.parameter(name)
    if text not in (None, "true", "false"):
        raise InvalidRequest(Fault(field=name, detail="must be true or false"))
    return text == "true"


def _bound(request: Request, name: str) -> DeliveryId | None:
    """A moment as the smallest id that a delivery of that moment may have."""
    text = request.parameter(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text.replace(" ", "+"), datetime)  # a '+' that was not encoded arrives as a space
    except msgspec.ValidationError as error:
        raise InvalidRequest(Fault(field=name, detail="must be an RFC 3339 date and time")) from error
    if moment.tzinfo is None:
        raise InvalidRequest(Fault(field=name, detail="must have a zone, such as Z"))
    return DeliveryId(uuid7_floor(moment))

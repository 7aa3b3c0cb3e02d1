"""/v1/deliveries/<delivery_id>: what people and programs decide about one delivery."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from domain.deliveries import Delivery
from domain.scopes import MANAGE, SEND
from flows import control
from flows.ask import ask as ask_now
from flows.expunge import expunge as expunge_payload
from handlers import wiring
from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.parsing import body_as
from handlers.request import Request, actor_of
from handlers.routes.deliveries import id_of
from handlers.schemas.deliveries import (
    DeliveryBody,
    DeliveryDetailsBody,
    DeliveryPatchBody,
    ResolutionBody,
    delivery_body,
    delivery_details,
    rescheduled,
)

router = new_router()

CONTROLLED = OperationResponse(
    description="The delivery as it is now", body=DeliveryBody, headers=("Sallyport-Delivery-Id",)
)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries/<delivery_id>/resolve",
        summary="Resolve a delivery whose outcome is unknown",
        description="As `delivered` or `failed`, where you know what became of it; or `again`, to send it once more "
        "under the idempotency key that the partner saw. A `failed` one that holds back those behind it under its "
        "ordering key can be resolved as `failed`, which lets them go. The same decision by the same token again "
        "changes nothing.",
        scope=SEND,
        body=ResolutionBody,
        responses={200: CONTROLLED},
        may_wait=True,
        problems=("not-found", "wrong-state", "destination-deleted", "payload-gone", "too-many-proposals"),
    ),
)
def resolve(request: Request, delivery_id: str) -> Response[Any]:
    """By a person, or a program that knows."""
    body = body_as(request.body, ResolutionBody)
    resolved = control.resolve(
        id_of(delivery_id),
        body.resolution,
        note=body.note,
        attempts_seen=body.attempts_made,
        tenant_id=request.tenant_id,
        actor=actor_of(request),
        services=wiring.api(),
    )
    return _controlled(resolved)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries/<delivery_id>/ask",
        summary="Ask the partner now what became of a delivery",
        description="Of one whose outcome is unknown, by the `reconcile` of its destination, without waiting for "
        "`next_question_at`. The answer means what it always means: it may settle the delivery, or leave it unknown. "
        "It counts as one of the questions in `after`.",
        scope=SEND,
        responses={
            200: OperationResponse(
                description="The delivery after the question, which is the last of its attempts",
                body=DeliveryDetailsBody,
                headers=("Sallyport-Delivery-Id",),
            )
        },
        problems=(
            "not-found",
            "wrong-state",
            "no-question",
            "being-asked",
            "destination-deleted",
            "destination-disabled",
            "destination-paused",
            "would-wait",
        ),
    ),
)
def ask(request: Request, delivery_id: str) -> Response[Any]:
    """As often as somebody wants to know."""
    wanted, services = id_of(delivery_id), wiring.api()
    progress = ask_now(wanted, tenant_id=request.tenant_id, actor=actor_of(request), services=services)
    details = delivery_details(progress, stack_days=services.retention_days)
    return as_json(200, details, {"Sallyport-Delivery-Id": str(wanted)})


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries/<delivery_id>/cancel",
        summary="Cancel a pending delivery",
        description="It is not sent any more. An attempt that is being made is not interrupted: then this is a 409.",
        scope=SEND,
        responses={200: CONTROLLED},
        problems=("not-found", "wrong-state"),
    ),
)
def cancel(request: Request, delivery_id: str) -> Response[Any]:
    """One that is canceled stays so."""
    canceled = control.cancel(
        id_of(delivery_id), tenant_id=request.tenant_id, actor=actor_of(request), services=wiring.api()
    )
    return _controlled(canceled)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries/<delivery_id>/retry",
        summary="Retry a delivery now",
        description="One more attempt of a failed delivery, under the same idempotency key; or the next attempt of a "
        "pending one, without waiting for its time. It still waits for what else it is `waiting_for`.",
        scope=SEND,
        responses={200: CONTROLLED},
        problems=("not-found", "wrong-state", "destination-deleted", "payload-gone"),
    ),
)
def retry(request: Request, delivery_id: str) -> Response[Any]:
    """As often as somebody wants it."""
    retried = control.retry(
        id_of(delivery_id), tenant_id=request.tenant_id, actor=actor_of(request), services=wiring.api()
    )
    return _controlled(retried)


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/deliveries/<delivery_id>/expunge",
        summary="Delete the payload of a delivery that has ended",
        description="Its query, headers, body and metadata, and the responses to its attempts. What stays says who "
        "sent it, when, under which keys and with what result, with digests of what is gone. It cannot be sent again. "
        "To expunge one that is expunged changes nothing.",
        scope=MANAGE,
        responses={200: CONTROLLED},
        may_wait=True,
        problems=("not-found", "wrong-state", "too-many-proposals"),
    ),
)
def expunge(request: Request, delivery_id: str) -> Response[Any]:
    """Nothing brings it back."""
    expunged = expunge_payload(
        id_of(delivery_id), tenant_id=request.tenant_id, actor=actor_of(request), services=wiring.api()
    )
    return _controlled(expunged)


@serves(
    router,
    Operation(
        method="PATCH",
        path="/v1/deliveries/<delivery_id>",
        summary="Reschedule a pending delivery",
        description="Its next attempt starts at `not_before` or later.",
        scope=SEND,
        body=DeliveryPatchBody,
        body_types=("application/merge-patch+json", "application/json"),
        responses={200: CONTROLLED},
        problems=("not-found", "wrong-state", "destination-deleted"),
    ),
)
def patch(request: Request, delivery_id: str) -> Response[Any]:
    """Nothing else of a delivery can be changed."""
    services = wiring.api()
    not_before = rescheduled(body_as(request.body, DeliveryPatchBody), now=services.clock())
    moved = control.reschedule(
        id_of(delivery_id), not_before, tenant_id=request.tenant_id, actor=actor_of(request), services=services
    )
    return _controlled(moved)


def _controlled(delivery: Delivery) -> Response[Any]:
    shown = delivery_body(delivery, stack_days=wiring.api().retention_days)
    return as_json(200, shown, {"Sallyport-Delivery-Id": str(delivery.delivery_id)})

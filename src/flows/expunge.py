"""Expunge a delivery: its payload is deleted, and its record stays."""

from dataclasses import replace

from db import deliveries, payloads
from domain.deliveries import Delivery, Payload
from domain.errors import NotFound, WrongState
from domain.ids import DeliveryId, TenantId
from flows.approvals import need_approval
from flows.audit import Act, Actor, entry_of, log_act
from flows.control import possible
from flows.services import Services


def expunge(delivery_id: DeliveryId, *, tenant_id: TenantId, actor: Actor, services: Services) -> Delivery:
    """Deletes query, headers, body, metadata and responses of a delivery that has ended; of one that is expunged
    already nothing is left to be deleted. The entry of the audit log is written by the same statement.

    Raises NotFound, WrongState where the payload is still needed, ApprovalNeeded and DatabaseUnavailable.
    """
    current = _found(delivery_id, tenant_id=tenant_id, services=services)
    if current.payload is Payload.EXPUNGED:
        return current
    if not current.state.finished:
        raise _needed(current)
    need_approval("delivery.expunge", tenant_id=tenant_id, actor=actor, services=services)
    act = Act(tenant_id=tenant_id, actor=actor, what="delivery.expunged", on=delivery_id)
    done = payloads.expunge(
        services.database, tenant_id=tenant_id, delivery_id=delivery_id, entry=entry_of(act, services=services)
    )
    after = _found(delivery_id, tenant_id=tenant_id, services=services)
    if done is None or not done.done:
        raise _needed(after if done is None else replace(after, state=done.state))
    if done.checkpoint is not None:
        log_act(act, done.checkpoint, services=services)
    return after


def _found(delivery_id: DeliveryId, *, tenant_id: TenantId, services: Services) -> Delivery:
    found = deliveries.find(services.database, tenant_id=tenant_id, delivery_id=delivery_id)
    if found is None:
        raise NotFound("delivery", str(delivery_id))
    return found


def _needed(delivery: Delivery) -> WrongState:
    return WrongState(noun="delivery", state=delivery.state.value, possible=possible(delivery))

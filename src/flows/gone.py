"""A partner's answer 410: its destination is disabled, and that is an act."""

from functools import partial

from domain.destinations import GONE
from domain.ids import DestinationId, TenantId
from flows.services import Services
from runtime.isolation import isolated
from runtime.observability import logger


def note_gone(tenant_id: TenantId, destination_id: DestinationId, *, services: Services) -> None:
    """Notes that a partner's answer 410 disabled its destination. A trigger of the table writes the entry of the audit
    log, in the statement that recorded the answer."""
    isolated(partial(_note, tenant_id, destination_id, services), otherwise=lambda _: None, step="note gone")


def _note(tenant_id: TenantId, destination_id: DestinationId, services: Services) -> None:
    from flows.audit import Act, Actor, log_act  # with the audit log: hardly any attempt ends so

    logger.warning("a partner wants no more deliveries", destination_id=str(destination_id))
    act = Act(tenant_id=tenant_id, actor=Actor(by=GONE), what="destination.disabled", on=destination_id)
    log_act(act, None, services=services)

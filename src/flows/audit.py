"""Acts: what tokens and partners changed. Every transition of what a tenant manages is noted by one call."""

from dataclasses import dataclass
from uuid import UUID

from domain.destinations import GONE
from domain.ids import DestinationId, TenantId
from flows.services import Services
from runtime.observability import logger


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: `by` is the id of a token, or says that it was a partner; `source_address` is where the call came from,
    None where there was no call.
    """

    by: str
    source_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """`what` is a noun and what became of it, such as `destination.changed`; `on` is the id of that. `members` are the
    names of what was changed, never values."""

    tenant_id: TenantId
    actor: Actor
    what: str
    on: UUID
    members: tuple[str, ...] = ()


def note_act(act: Act, *, services: Services) -> None:
    """Notes what was done. It is done by now, so nothing is raised."""
    logger.info(
        "act",
        what=act.what,
        on=str(act.on),
        by=act.actor.by,
        source_address=act.actor.source_address,
        tenant_id=str(act.tenant_id),
        members=list(act.members),
        at=services.clock().isoformat(),
    )


def note_gone(tenant_id: TenantId, destination_id: DestinationId, *, services: Services) -> None:
    """Notes that a partner's answer 410 disabled its destination."""
    logger.warning("a partner wants no more deliveries", destination_id=str(destination_id))
    act = Act(tenant_id=tenant_id, actor=Actor(by=GONE), what="destination.disabled", on=destination_id)
    note_act(act, services=services)

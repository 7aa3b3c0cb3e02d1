"""The fair-queue groups of wake-ups: one per destination, whether its callers use its name or its id.

A group has the destination's name in it, and is needed before the one statement that could look the name up. What
callers named by its id gets its name from earlier acceptances in the same process: neither ever changes
(docs/adr/0029).
"""

from uuid import UUID

from db.destinations import as_id
from domain.deliveries import Claim, Delivery, NewDelivery
from domain.ids import TenantId
from domain.wakeups import group_name

REMEMBERED_NAMES = 1000  # some 200 bytes each


class WakeupGroups:
    """Names the groups, and remembers the names of destinations that callers used by id."""

    def __init__(self) -> None:
        self._names: dict[tuple[TenantId, UUID], str] = {}

    def of_new(self, new: NewDelivery) -> str:
        """The group of a delivery before it is stored. A destination that is used by its id for the first time in this
        process gets one by its id, for this one message."""
        destination_id = as_id(new.destination)
        if destination_id is None:
            return group_name(new.tenant_id, new.destination)
        return group_name(new.tenant_id, self._names.get((new.tenant_id, destination_id), str(destination_id)))

    def remember(self, new: NewDelivery, delivery: Delivery) -> None:
        """Notes the destination's name where `new` used its id; the oldest of too many is forgotten."""
        if as_id(new.destination) is None:
            return
        self._names[(new.tenant_id, delivery.destination_id)] = delivery.destination_name
        while len(self._names) > REMEMBERED_NAMES:
            del self._names[next(iter(self._names))]


def group_of(claim: Claim) -> str:
    """The group of a delivery that was claimed."""
    return group_name(claim.tenant_id, claim.destination.name)

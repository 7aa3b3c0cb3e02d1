"""Destinations that callers use by id: their names are remembered, and not without a bound."""

from datetime import UTC, datetime
from uuid import UUID

from domain.deliveries import Delivery, NewDelivery, State
from domain.ids import DeliveryId, DestinationId, TenantId
from flows.groups import REMEMBERED_NAMES, WakeupGroups

TENANT = TenantId(UUID(int=1))
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def by_id(number: int, tenant_id: TenantId = TENANT) -> NewDelivery:
    return NewDelivery(tenant_id=tenant_id, destination=str(UUID(int=number)), method="GET", path="/")


def delivery(number: int) -> Delivery:
    return Delivery(
        delivery_id=DeliveryId(UUID(int=0)),
        tenant_id=TENANT,
        destination_id=DestinationId(UUID(int=number)),
        destination_name=f"partner-{number}",
        state=State.PENDING,
        method="GET",
        path="/",
        query="",
        headers=(),
        metadata={},
        idempotency_key="",
        fingerprint=b"",
        attempts_made=0,
        attempts_allowed=1,
        due_at=NOW,
        created_at=NOW,
        finished_at=None,
    )


def test_a_tenant_learns_nothing_of_anothers_names() -> None:
    groups, other = WakeupGroups(), TenantId(UUID(int=2))
    groups.remember(by_id(7), delivery(7))
    assert groups.of_new(by_id(7)) == f"{TENANT}:partner-7"
    assert groups.of_new(by_id(7, other)) == f"{other}:{UUID(int=7)}"


def test_of_too_many_names_the_oldest_is_forgotten() -> None:
    groups = WakeupGroups()
    for number in range(REMEMBERED_NAMES + 1):
        groups.remember(by_id(number), delivery(number))
    assert groups.of_new(by_id(0)) == f"{TENANT}:{UUID(int=0)}"
    assert groups.of_new(by_id(1)) == f"{TENANT}:partner-1"
    assert groups.of_new(by_id(REMEMBERED_NAMES)) == f"{TENANT}:partner-{REMEMBERED_NAMES}"

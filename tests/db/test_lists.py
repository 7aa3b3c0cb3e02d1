"""Pages of deliveries and destinations: newest first, stable under inserts, one tenant's only."""

from contextlib import closing
from datetime import timedelta
from typing import Any, LiteralString

import pytest

from db import deliveries, destinations
from db.connection import Database, Parameters, Row
from db.deliveries import Filter
from domain.deliveries import State
from domain.ids import DeliveryId, uuid7_floor
from flows.accept import accept
from flows.attempt import attempt_due
from runtime.settings import DatabaseSettings
from tests.support.gateway import Gateway, make_gateway


def create_delivery(gateway: Gateway, count: int, **overrides: object) -> list[DeliveryId]:
    made = []
    for _ in range(count):
        gateway.clock.forward(1)
        made.append(accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services).delivery.delivery_id)
    return made


def ids(gateway: Gateway, limit: int = 100, **wanted: object) -> list[DeliveryId]:
    found = deliveries.page(gateway.services.database, Filter(tenant_id=gateway.tenant_id, **wanted), limit=limit)  # type: ignore[arg-type]
    return [delivery.delivery_id for delivery in found]


def test_the_newest_comes_first_and_pages_do_not_shift_while_new_ones_come_in(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    made = create_delivery(gateway, 5)
    first = ids(gateway, limit=2)
    create_delivery(gateway, 3)
    second = ids(gateway, limit=2, before=first[-1])
    assert first + second == [made[4], made[3], made[2], made[1]]


def test_filters_narrow_the_list(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    other = gateway.destination("http://169.254.169.254", name="other")
    pending = create_delivery(gateway, 2)
    gateway.queue.take()
    failed = create_delivery(gateway, 2, destination="other")
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert ids(gateway, state=State.FAILED) == failed[::-1]
    assert ids(gateway, destination_id=other.destination_id) == failed[::-1]
    assert ids(gateway, destination_id=other.destination_id, state=State.PENDING) == []
    assert ids(gateway, state=State.PENDING) == pending[::-1]


def test_since_is_inclusive_and_until_is_exclusive(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 1)
    (second,) = create_delivery(gateway, 1)
    moment = DeliveryId(uuid7_floor(gateway.clock()))
    (third,) = create_delivery(gateway, 1)
    assert ids(gateway, since=moment) == [third, second]
    assert second not in ids(gateway, until=moment)


def test_another_tenants_deliveries_are_not_there(gateway: Gateway) -> None:
    partner = gateway.destination("http://127.0.0.1:1")
    (mine,) = create_delivery(gateway, 1)
    stranger = make_gateway(gateway.database, gateway.queue, tenant_name="stranger")
    try:
        assert ids(stranger) == []
        assert ids(stranger, destination_id=partner.destination_id) == []
        found = deliveries.find(gateway.services.database, tenant_id=stranger.tenant_id, delivery_id=mine)
        assert found is None
        assert destinations.page(gateway.services.database, tenant_id=stranger.tenant_id, before=None, limit=9) == []
    finally:
        stranger.services.database.close()
        stranger.services.client.close()


class Explained(Database):
    """Keeps the plan of each read."""

    plan = ""

    def read(self, statement: LiteralString, parameters: Parameters) -> list[Row]:
        self.plan = str(super().read("EXPLAIN " + statement, parameters))
        return super().read(statement, parameters)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "delivery_by_tenant"),
        ({"state": State.FAILED}, "delivery_by_state"),
        ({"destination_id": "the rare one"}, "delivery_by_destination"),
    ],
)
def test_a_list_is_read_off_an_index_in_its_order(gateway: Gateway, wanted: dict[str, Any], index: str) -> None:
    rare = gateway.destination("http://127.0.0.1:1", name="rare")
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 1)
    gateway.sql(
        """
        INSERT INTO delivery
        SELECT gen_random_uuid(), tenant_id, destination_id, 'key-' || n, fingerprint, method, path, query, headers,
               body, metadata, CASE WHEN mod(n, 100) = 0 THEN 'failed' ELSE 'delivered' END, 1, 10, due_at, NULL, NULL,
               created_at, created_at
        FROM delivery, generate_series(1, 20000) AS n
        """
    )
    gateway.sql("ANALYZE delivery")
    if "destination_id" in wanted:
        wanted = {"destination_id": rare.destination_id}
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        deliveries.page(database, Filter(tenant_id=gateway.tenant_id, **wanted), limit=50)
    assert index in database.plan
    assert "Sort" not in database.plan


def overdue(gateway: Gateway, *, after: DeliveryId | None = None, limit: int = 9) -> list[DeliveryId]:
    since = gateway.clock() - timedelta(seconds=600)
    found = deliveries.overdue(gateway.services.database, since=since, after=after, limit=limit)
    return [delivery.delivery_id for delivery in found]


def test_overdue_is_what_is_unfinished_and_was_due_or_leased_until_before_that_moment(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    pending, sending, leased, finished = create_delivery(gateway, 4)
    lease = gateway.services.new_lease(gateway.clock())
    deliveries.claim(gateway.services.database, [sending], lease=lease, now=gateway.clock())
    gateway.sql("UPDATE delivery SET state = 'failed', finished_at = now() WHERE delivery_id = %s", finished)
    gateway.clock.forward(590)
    lease = gateway.services.new_lease(gateway.clock())
    deliveries.claim(gateway.services.database, [leased], lease=lease, now=gateway.clock())
    (later,) = create_delivery(gateway, 1, not_before=gateway.clock() + timedelta(days=1))
    assert overdue(gateway) == []
    gateway.clock.forward(20)
    assert overdue(gateway) == [pending]  # the lease on the next one was over only 40 s after it was due
    gateway.clock.forward(30)
    assert overdue(gateway) == [pending, sending]
    gateway.clock.forward(700)
    assert overdue(gateway) == [pending, sending, leased]
    assert later not in overdue(gateway)


def test_what_was_due_at_that_very_moment_is_not_overdue(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    (made,) = create_delivery(gateway, 1)
    gateway.clock.forward(600)
    assert overdue(gateway) == []
    gateway.clock.forward(1)
    assert overdue(gateway) == [made]


def test_overdue_deliveries_of_all_tenants_are_paged_by_their_ids(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    stranger = make_gateway(gateway.database, gateway.queue, tenant_name="stranger")
    try:
        stranger.destination("http://127.0.0.1:1")
        made = []
        for _ in range(3):
            made += create_delivery(gateway, 1)
            stranger.clock.now = gateway.clock.now
            made += create_delivery(stranger, 1)
            gateway.clock.now = stranger.clock.now
        gateway.clock.forward(1000)
        pages = [overdue(gateway, limit=4)]
        pages.append(overdue(gateway, limit=4, after=pages[0][-1]))
        assert pages == [made[:4], made[4:]]
    finally:
        stranger.services.database.close()
        stranger.services.client.close()


def test_what_is_overdue_is_found_without_reading_what_is_finished(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 1)
    gateway.sql(
        """
        INSERT INTO delivery
        SELECT gen_random_uuid(), tenant_id, destination_id, 'key-' || n, fingerprint, method, path, query, headers,
               body, metadata, 'delivered', 1, 10, due_at, NULL, NULL, created_at, created_at
        FROM delivery, generate_series(1, 20000) AS n
        """
    )
    gateway.sql("ANALYZE delivery")
    gateway.clock.forward(1000)
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        (found,) = deliveries.overdue(database, since=gateway.clock(), after=None, limit=500)
    assert found.destination_name == "partner"
    assert "delivery_by_state" in database.plan
    assert "Seq Scan on delivery" not in database.plan

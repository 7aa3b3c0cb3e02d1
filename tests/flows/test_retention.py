"""Deliveries whose retention is over are deleted, page by page, and nothing else is."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from db import retention as table
from db.retention import Place
from domain.errors import StatementRefused
from domain.ids import DeliveryId
from flows.accept import accept
from flows.attempt import attempt_due
from flows.retention import PAGE_SECONDS, WALK_SECONDS, Retention, delete_old
from tests.egress.servers import Partner, Script
from tests.support.gateway import Gateway, statements
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

DAYS = 90


def create(gateway: Gateway, count: int = 1, **overrides: object) -> list[DeliveryId]:
    made = []
    for _ in range(count):
        gateway.clock.forward(1)
        made.append(accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services).delivery.delivery_id)
    return made


def end(gateway: Gateway, state: str = "delivered") -> None:
    gateway.sql("UPDATE delivery SET state = %s, finished_at = %s WHERE phase = 'open'", state, gateway.clock())
    gateway.queue.take()


def stored(gateway: Gateway) -> list[DeliveryId]:
    return [row["delivery_id"] for row in gateway.sql("SELECT delivery_id FROM delivery ORDER BY delivery_id")]


def delete_all(gateway: Gateway, seconds: float = 600) -> int:
    deleted = delete_old(place=None, end_at=gateway.clock() + timedelta(seconds=seconds), services=gateway.services)
    assert deleted.following is None
    return deleted.count


def test_what_ended_long_enough_ago_goes_with_all_that_belongs_to_it(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(404)).url())
    create(gateway, 3, metadata={"order": "1"})
    attempt_due(gateway.queue.take(), services=gateway.services)
    gateway.clock.forward(DAYS * 86_400)
    assert delete_all(gateway) == 0  # it has ended just so long ago
    gateway.clock.forward(1)
    assert delete_all(gateway) == 3
    for name in ("delivery", "delivery_body", "attempt", "delivery_term"):
        assert gateway.sql(f"SELECT * FROM {name}") == [], name  # noqa: S608 - our own tables' names


def test_an_idempotency_key_is_free_again_once_its_delivery_is_deleted(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    (first,) = create(gateway, idempotency_key="k")
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    assert create(gateway, idempotency_key="k") == [first]
    delete_all(gateway)
    assert create(gateway, idempotency_key="k") != [first]


@pytest.mark.parametrize("state", ["failed", "unknown", "canceled", "delivered"])
def test_time_counts_from_the_end_and_not_from_the_beginning(gateway: Gateway, state: str) -> None:
    gateway.destination("http://127.0.0.1:1")
    create(gateway)
    gateway.clock.forward(200 * 86_400)
    assert delete_all(gateway) == 0  # it is pending still
    end(gateway, state)
    gateway.clock.forward(DAYS * 86_400)
    assert delete_all(gateway) == 0
    gateway.clock.forward(1)
    assert delete_all(gateway) == 1


def test_what_holds_back_an_ordering_key_stays(gateway: Gateway) -> None:
    """Deleted, it would let the next one go though nobody has resolved it."""
    gateway.destination("http://127.0.0.1:1")
    held, _ = create(gateway, 2, ordering_key="k")
    gateway.sql("UPDATE delivery SET state = 'failed', finished_at = %s WHERE delivery_id = %s", gateway.clock(), held)
    gateway.clock.forward(DAYS * 86_400 + 1)
    assert delete_all(gateway) == 0
    gateway.sql("DELETE FROM ordering_place")
    assert delete_all(gateway) == 1


def test_what_another_statement_holds_is_left_for_the_next_walk(gateway: Gateway) -> None:
    """Such as a caller who has just resolved it."""
    gateway.destination("http://127.0.0.1:1")
    (first, second) = create(gateway, 2)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    with psycopg.connect(gateway.database.admin_url) as other:
        other.execute("SELECT FROM delivery WHERE delivery_id = %s FOR UPDATE", [first])
        assert delete_all(gateway) == 1
    assert stored(gateway) == [first]
    assert second not in stored(gateway)


def test_a_walk_goes_through_all_destinations_page_by_page(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE", 2)
    for name in ("one", "two", "three"):
        gateway.destination("http://127.0.0.1:1", name=name)
        create(gateway, 5, destination=name)
        end(gateway)
    gateway.destination("http://127.0.0.1:1", name="empty")
    (young,) = create(gateway, destination="one", not_before=gateway.clock() + timedelta(days=20))
    gateway.clock.forward(DAYS * 86_400 + 1)
    assert delete_all(gateway) == 15
    assert stored(gateway) == [young]


def test_a_walk_that_has_no_more_time_says_where_to_go_on(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE", 2)
    gateway.destination("http://127.0.0.1:1")
    create(gateway, 5)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    counts, place, calls = [], None, 0
    while place is not None or not calls:
        calls += 1
        monkeypatch.setattr(table, "delete_page", takes(20, gateway))
        deleted = delete_old(place=place, end_at=gateway.clock() + timedelta(seconds=30), services=gateway.services)
        monkeypatch.undo()
        monkeypatch.setattr(table, "PAGE", 2)
        counts.append(deleted.count)
        place = deleted.following
    assert counts == [2, 2, 1]


def takes(seconds: float, gateway: Gateway) -> Callable[..., table.DeletedPage]:
    real = table.delete_page

    def slow(*arguments: object, **keywords: object) -> table.DeletedPage:
        gateway.clock.forward(seconds)
        return real(*arguments, **keywords)  # type: ignore[arg-type]

    return slow


def test_the_role_of_the_gateway_deletes_nothing_that_ended_today(gateway: Gateway) -> None:
    """Not even if its clock is wrong, or somebody else has its password."""
    partner = gateway.destination("http://127.0.0.1:1")
    create(gateway)
    end(gateway)
    (row,) = gateway.sql("SELECT clock_timestamp() - interval '23 hours' AS moment")
    with pytest.raises(StatementRefused):
        table.delete_page(
            gateway.services.database, Place(destination_id=partner.destination_id), ended_before=row["moment"]
        )
    assert len(stored(gateway)) == 1


def test_beside_other_work_a_page_is_deleted_now_and_then(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE", 2)
    gateway.destination("http://127.0.0.1:1")
    create(gateway, 5)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    retention = Retention()
    left = []
    for _ in range(5):  # the last one is a walk of its own: the first one began anywhere
        for _ in range(3):  # batches that follow each other at once
            retention.go_on(services=gateway.services)
        left.append(len(stored(gateway)))
        gateway.clock.forward(PAGE_SECONDS)
    assert left == [5, 3, 1, 0, 0]
    with statements(gateway) as counted:
        for _ in range(10):
            gateway.clock.forward(WALK_SECONDS / 11)
            retention.go_on(services=gateway.services)
    assert counted == []


def test_a_gateway_without_destinations_is_asked_for_them_once_per_walk(gateway: Gateway) -> None:
    """A process's first walk, the second one, which follows it at once, and nothing before the third is due."""
    retention = Retention()
    with statements(gateway) as counted:
        for _ in range(5):
            retention.go_on(services=gateway.services)
            gateway.clock.forward(PAGE_SECONDS)
    assert len(counted) == 2


def test_a_database_that_is_away_does_not_fail_the_batch(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    retention = Retention()
    retention.go_on(services=gateway.services)
    gateway.clock.forward(PAGE_SECONDS)
    gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
    gateway.services.database.close()
    try:
        retention.go_on(services=gateway.services)
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")

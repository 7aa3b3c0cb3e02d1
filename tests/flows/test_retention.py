"""Deliveries whose retention is over are deleted, page by page, and nothing else is."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from db import retention as table
from db.connection import Database
from db.retention import Place, RetiredPage
from domain.ids import DeliveryId
from domain.options import DestinationOptions
from domain.retention import Cutoffs, RetentionOptions
from flows import retention as flow
from flows.accept import accept
from flows.attempt import attempt_due
from flows.retention import LOOK_SECONDS, TURN_SECONDS, WALK_SECONDS, RetentionWalk, Retired, retire_old
from runtime.settings import DatabaseSettings
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


def retire_all(gateway: Gateway) -> Retired:
    retired = retire_old(place=None, end_at=gateway.clock() + timedelta(seconds=600), services=gateway.services)
    assert retired.following is None
    return retired


def delete_all(gateway: Gateway) -> int:
    return retire_all(gateway).deleted


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
        monkeypatch.setattr(table, "retire_page", takes(20, gateway))
        retired = retire_old(place=place, end_at=gateway.clock() + timedelta(seconds=30), services=gateway.services)
        monkeypatch.undo()
        monkeypatch.setattr(table, "PAGE", 2)
        counts.append(retired.deleted)
        place = retired.following
    assert counts == [2, 2, 1]


def takes(seconds: float, gateway: Gateway) -> Callable[..., table.RetiredPage]:
    real = table.retire_page

    def slow(*arguments: object, **keywords: object) -> table.RetiredPage:
        gateway.clock.forward(seconds)
        return real(*arguments, **keywords)  # type: ignore[arg-type]

    return slow


def test_the_role_of_the_gateway_deletes_nothing_that_ended_today(gateway: Gateway) -> None:
    """Not even if its clock is wrong, or somebody else has its password."""
    partner = gateway.destination("http://127.0.0.1:1")
    create(gateway, 2)
    (row,) = gateway.sql("SELECT clock_timestamp() AS moment")
    hours_ago = iter([23, 25])
    for delivery in stored(gateway):
        moment = row["moment"] - timedelta(hours=next(hours_ago))
        gateway.sql("UPDATE delivery SET state = 'failed', finished_at = %s WHERE delivery_id = %s", moment, delivery)
    later = row["moment"] + timedelta(days=400)
    for when, left, bodies in (
        (Cutoffs(records=row["moment"] - timedelta(days=90), bodies=later, responses=later), 2, 1),
        (Cutoffs(records=later, bodies=later, responses=later), 1, 1),
    ):
        table.retire_page(gateway.services.database, Place(destination_id=partner.destination_id), cutoffs=when)
        assert (len(stored(gateway)), len(gateway.sql("SELECT * FROM delivery_body"))) == (left, bodies)


def test_beside_other_work_a_few_pages_are_deleted_now_and_then(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "PAGE", 2)
    monkeypatch.setattr(flow, "TURN_PAGES", 2)
    gateway.destination("http://127.0.0.1:1")
    create(gateway, 9)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    walk = RetentionWalk()
    left = []
    for _ in range(4):
        for _ in range(3):  # batches that follow each other at once
            walk.go_on(services=gateway.services)
        left.append(len(stored(gateway)))
        gateway.clock.forward(TURN_SECONDS)
    assert left == [9, 5, 1, 0]
    with statements(gateway) as counted:
        walk.go_on(services=gateway.services)
    assert counted == []


def test_all_processes_make_one_walk_a_day_together(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them leaves, another one goes on with."""
    monkeypatch.setattr(table, "PAGE", 2)
    monkeypatch.setattr(flow, "TURN_PAGES", 1)
    for name in ("one", "two"):
        gateway.destination("http://127.0.0.1:1", name=name)
        create(gateway, 3, destination=name)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400 + 1)
    left, walk = [], RetentionWalk()
    for _ in range(5):
        walk = RetentionWalk()
        walk.go_on(services=gateway.services)
        gateway.clock.forward(TURN_SECONDS)
        walk.go_on(services=gateway.services)
        left.append(len(stored(gateway)))
    assert left == [4, 3, 1, 0, 0]
    create(gateway, destination="one")
    end(gateway)
    gateway.sql("UPDATE delivery SET finished_at = finished_at - interval '91 days', created_at = '2026-01-01Z'")
    gateway.sql("DELETE FROM delivery_body")
    gateway.sql("UPDATE delivery SET delivery_id = '00000000-0000-7000-8000-000000000001'")
    for _ in range(10):
        gateway.clock.forward(WALK_SECONDS / 11)
        walk.go_on(services=gateway.services)
    assert len(stored(gateway)) == 1
    gateway.clock.forward(WALK_SECONDS / 11 + LOOK_SECONDS)
    other = gateway.services.new_id(gateway.clock())
    taken = table.take_walk(gateway.services.database, walker_id=other, now=gateway.clock(), for_seconds=3600)
    assert taken is not None
    walk.go_on(services=gateway.services)
    assert len(stored(gateway)) == 1  # the other one has it, or has stopped
    gateway.clock.forward(3600)
    walk.go_on(services=gateway.services)
    assert stored(gateway) == []


def test_while_one_process_makes_its_pages_another_makes_none(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    retire, pages, walks = table.retire_page, list[Database](), [RetentionWalk(), RetentionWalk()]
    with closing(Database(DatabaseSettings(database_url=gateway.database.url))) as database:
        others = replace(gateway.services, database=database)

        def while_another_looks(database: Database, place: Place, *, cutoffs: Cutoffs) -> RetiredPage:
            pages.append(database)
            walks[1].go_on(services=others)
            return retire(database, place, cutoffs=cutoffs)

        gateway.destination("http://127.0.0.1:1")
        create(gateway, 3)
        end(gateway)
        gateway.clock.forward(DAYS * 86_400 + 1)
        for walk in walks:
            walk.go_on(services=others)
        gateway.clock.forward(TURN_SECONDS)
        monkeypatch.setattr(table, "retire_page", while_another_looks)
        walks[0].go_on(services=gateway.services)
    assert pages == [gateway.services.database]
    assert stored(gateway) == []


def test_a_database_that_is_away_does_not_fail_the_batch(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    walk = RetentionWalk()
    walk.go_on(services=gateway.services)
    gateway.clock.forward(TURN_SECONDS)
    gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
    gateway.services.database.close()
    try:
        walk.go_on(services=gateway.services)
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")


# By destination


def options(**days: int) -> DestinationOptions:
    return DestinationOptions(retention=RetentionOptions(**days))


def payload(gateway: Gateway) -> tuple[object, ...]:
    """What is left of a delivery: what became of its payload, how many bodies, and the bytes of its responses."""
    rows = gateway.sql("SELECT payload FROM delivery")
    answers_left = gateway.sql("SELECT sum(octet_length(response_body))::int AS bytes FROM attempt")[0]["bytes"]
    return (*[row["payload"] for row in rows], len(gateway.sql("SELECT * FROM delivery_body")), answers_left)


def test_bodies_and_responses_go_before_the_record(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(404, b"no such thing"))
    gateway.destination(server.url(), options=options(bodies_days=2, responses_days=4, record_days=8))
    create(gateway)
    attempt_due(gateway.queue.take(), services=gateway.services)
    found = []
    for day in range(1, 9):
        gateway.clock.forward(86_400 + (day == 1))
        retired = retire_all(gateway)
        found.append((retired.deleted, retired.bodies, retired.responses, *payload(gateway)))
        assert retire_all(gateway) == Retired(following=None)
    assert found == [
        (0, 0, 0, None, 1, 13),
        (0, 1, 0, "expired", 0, 13),
        (0, 0, 0, "expired", 0, 13),
        (0, 0, 1, "expired", 0, 0),
        *[(0, 0, 0, "expired", 0, 0)] * 3,
        (1, 0, 0, 0, None),
    ]


def test_the_stacks_retention_is_the_longest(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1", options=options(bodies_days=200, record_days=300))
    create(gateway)
    end(gateway)
    gateway.clock.forward(DAYS * 86_400)
    assert retire_all(gateway) == Retired(following=None)
    gateway.clock.forward(1)
    assert delete_all(gateway) == 1


def test_what_is_being_asked_about_stays_whole_until_nobody_asks_any_more(gateway: Gateway) -> None:
    """It may be sent again, and its key must not be free before."""
    gateway.destination("http://127.0.0.1:1", options=options(bodies_days=1, record_days=2))
    create(gateway)
    end(gateway, "unknown")
    gateway.sql("UPDATE delivery SET ask_at = %s", gateway.clock())
    gateway.clock.forward(40 * 86_400)
    assert retire_all(gateway) == Retired(following=None)
    gateway.sql("UPDATE destination SET deleted_at = %s, deleted_name = name, name = 'gone'", gateway.clock())
    assert delete_all(gateway) == 1  # nobody asks for a deleted destination


def test_what_was_expunged_or_redacted_is_not_counted_again(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1", options=options(bodies_days=1, responses_days=1))
    expunged, redacted = create(gateway, 2)
    end(gateway)
    gateway.sql("UPDATE delivery SET payload = 'expunged' WHERE delivery_id = %s", expunged)
    gateway.sql("UPDATE delivery SET payload = 'redacted' WHERE delivery_id = %s", redacted)
    gateway.sql("DELETE FROM delivery_body WHERE delivery_id = %s", expunged)
    gateway.clock.forward(2 * 86_400)
    retired = retire_all(gateway)
    assert (retired.deleted, retired.bodies, retired.responses) == (0, 1, 1)  # the redacted one had its body still
    rows = gateway.sql("SELECT payload FROM delivery ORDER BY delivery_id")
    assert [row["payload"] for row in rows] == ["expunged", "redacted"]
    assert gateway.sql("SELECT * FROM delivery_body") == []
    assert retire_all(gateway) == Retired(following=None)


def live_and_end(gateway: Gateway, count: int) -> None:
    """As many deliveries as that are accepted, claimed and delivered, each step in its own transaction."""
    (template,) = create(gateway, metadata={"order": "1"})
    gateway.sql(
        """
        WITH made AS (
            INSERT INTO delivery (
                delivery_id, tenant_id, destination_id, created_at, attempts_allowed, idempotency_key, fingerprint,
                method, path, query, headers, metadata, due_at, attempts_made, state)
            SELECT (lpad(to_hex((extract(epoch FROM created_at) * 1000)::bigint + n), 12, '0')
                    || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
                   tenant_id, destination_id, created_at, 10, idempotency_key || n, fingerprint, method, path, query,
                   headers, metadata, due_at, 0, 'pending'
            FROM delivery CROSS JOIN generate_series(1, %s) AS n
            WHERE delivery_id = %s
            RETURNING delivery_id
        )
        INSERT INTO delivery_body (delivery_id, body) SELECT delivery_id, repeat('x', 500)::bytea FROM made
        """,
        count,
        template,
    )
    gateway.sql(
        "UPDATE delivery SET state = 'sending', lease_id = delivery_id, leased_until = due_at, attempts_made = 1"
    )
    gateway.sql(
        "UPDATE delivery SET state = 'delivered', lease_id = NULL, leased_until = NULL, finished_at = %s",
        gateway.clock(),
    )
    gateway.sql(
        """
        INSERT INTO attempt (attempt_id, delivery_id, number, outcome, started_at, total_ms, status, response_headers,
                             response_body, response_truncated)
        SELECT delivery_id, delivery_id, 1, 'answered', created_at, 1, 200, '[]', repeat('y', 200)::bytea, false
        FROM delivery
        """
    )
    gateway.queue.take()


def test_ten_turnovers_leave_tables_and_indexes_as_large_as_the_second(gateway: Gateway) -> None:
    """Bodies and responses go on the second day, the record after twenty; what is deleted makes room for what comes."""
    gateway.destination("http://127.0.0.1:1", options=options(bodies_days=1, responses_days=1, record_days=20))
    sizes = []
    for _ in range(10):
        live_and_end(gateway, 300)
        gateway.clock.forward(2 * 86_400)
        assert retire_all(gateway).bodies == 301
        gateway.sql("VACUUM delivery, delivery_body, attempt, delivery_term")
        (row,) = gateway.sql(
            "SELECT sum(pg_total_relation_size(oid))::bigint AS bytes FROM pg_class "
            "WHERE relname IN ('delivery', 'delivery_body', 'attempt', 'delivery_term') AND relkind = 'r'"
        )
        sizes.append(row["bytes"])
        gateway.clock.forward(20 * 86_400)
        assert delete_all(gateway) == 301
        gateway.sql("VACUUM delivery, delivery_body, attempt, delivery_term")
    assert max(sizes) <= 1.3 * sizes[1], sizes

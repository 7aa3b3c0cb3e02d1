"""Pages of deliveries and destinations: newest first, stable under inserts, one tenant's only."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from itertools import groupby, product
from operator import itemgetter
from typing import Any, LiteralString
from uuid import UUID

import pytest

from db import deliveries, destinations
from db.connection import Database, Parameters, Row
from db.deliveries import PHASES, Filter
from domain.deliveries import State
from domain.ids import DeliveryId, uuid7_floor
from domain.outcomes import OutcomeKind
from domain.retry import AMBIGUOUS_STATUSES, effective_status
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
    return [delivery.delivery_id for delivery in found.deliveries]


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
    """Remembers of each read its plan, with what it really read."""

    plan: dict[str, Any]

    def __init__(self, settings: DatabaseSettings) -> None:
        super().__init__(settings)
        self.plans: list[dict[str, Any]] = []

    def read(self, statement: LiteralString, parameters: Parameters) -> list[Row]:
        (row,) = super().read("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters)
        self.plan = row["QUERY PLAN"][0]["Plan"]
        self.plans.append(self.plan)
        return super().read(statement, parameters)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's steps that were run."""
    if plan["Actual Loops"]:
        yield plan
        for part in plan.get("Plans", []):
            yield from nodes(part)


def indexes(plan: dict[str, Any]) -> set[str]:
    """Those of deliveries that were used; "none" stands for a walk through the whole table."""
    run = list(nodes(plan))
    walks = {"none" for node in run if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "delivery"}
    return walks | {node["Index Name"] for node in run if node.get("Index Name", "").startswith("delivery")}


def rows_read(plan: dict[str, Any]) -> int:
    """Of deliveries, those included that were then left out."""
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "delivery"]
    return sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans)


def buffers(plan: dict[str, Any]) -> int:
    """How many pages were touched, each as often as it was."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


PAGE = 50
BUFFERS_ON_THE_WAY = 50  # down and along the index for each phase, and to the destinations


@pytest.mark.parametrize("common", [State.DELIVERED, State.FAILED])
def test_a_list_is_read_off_an_index_whatever_is_rare(gateway: Gateway, common: State) -> None:
    """Of all states and of each one, be it that of nearly all rows or of one in a thousand."""
    destination_ids = []
    for name in ("other", "partner"):
        destination_ids.append(gateway.destination("http://127.0.0.1:1", name=name).destination_id)
        create_delivery(gateway, 1, destination=name)
    rare = [state for state in State if state is not common]
    gateway.copy_deliveries(10_000, states=[*rare, *[common] * (1000 - len(rare))])
    gateway.sql("VACUUM ANALYZE delivery")
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        for state, destination_id in product([None, *State], [None, *destination_ids]):
            wanted = Filter(tenant_id=gateway.tenant_id, state=state, destination_id=destination_id)
            found = deliveries.page(database, wanted, limit=PAGE - 1).deliveries
            assert len(found) >= 10, wanted
            index = "delivery_by_destination" if destination_id else "delivery_by_tenant"
            assert indexes(database.plan) == {index}, wanted
            most = PAGE * (2 if state else len(PHASES))  # twice: `pending` and `sending` are of one phase
            assert rows_read(database.plan) <= most, wanted
            assert buffers(database.plan) <= most + BUFFERS_ON_THE_WAY, wanted


def test_what_is_sending_behind_all_that_waits_is_found_page_by_page(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits, a page reads so much of it and no more."""
    monkeypatch.setattr(deliveries, "MOST_READ", 500)
    destination = gateway.destination("http://127.0.0.1:1").destination_id
    create_delivery(gateway, 1)
    gateway.copy_deliveries(12 * deliveries.MOST_READ, states=[State.PENDING])
    oldest = sorted(row["delivery_id"] for row in gateway.sql("SELECT delivery_id FROM delivery"))[1:4]
    gateway.sql(
        "UPDATE delivery SET state = 'sending', lease_id = gen_random_uuid(), leased_until = due_at "
        "WHERE delivery_id = ANY (%s)",
        oldest,
    )
    gateway.sql("VACUUM ANALYZE delivery")
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        for destination_id in (None, destination):
            found, before, pages = list[UUID](), None, 0
            while pages == 0 or before is not None:
                wanted = Filter(
                    tenant_id=gateway.tenant_id, state=State.SENDING, destination_id=destination_id, before=before
                )
                database.plans.clear()
                shown = deliveries.page(database, wanted, limit=PAGE)
                assert sum(map(rows_read, database.plans)) <= 4 * deliveries.MOST_READ + 2 * PAGE, wanted
                found += [delivery.delivery_id for delivery in shown.deliveries]
                before, pages = shown.next_before, pages + 1
            assert found == oldest[::-1]
            assert pages == 13


def test_a_list_has_no_delivery_twice_and_none_is_left_out(gateway: Gateway) -> None:
    """It is merged from those of the phases; a page ends anywhere within them."""
    destination_ids = [
        gateway.destination("http://127.0.0.1:1", name=name).destination_id for name in ("other", "partner")
    ]
    create_delivery(gateway, 1, destination="other")
    create_delivery(gateway, 1)
    gateway.copy_deliveries(30, states=list(State))
    rows = gateway.sql("SELECT delivery_id, destination_id, state FROM delivery ORDER BY delivery_id DESC")
    for state, destination_id in product([None, *State], [None, *destination_ids]):
        expected = [
            row["delivery_id"]
            for row in rows
            if state in (None, row["state"]) and destination_id in (None, row["destination_id"])
        ]
        found: list[DeliveryId] = []
        while page := ids(
            gateway, limit=7, state=state, destination_id=destination_id, before=found[-1] if found else None
        ):
            found += page
        assert found == expected


# By properties

NAMES, CONTENTS = ("order", "shop", "a.b] c"), ("1", "x", "true", "ä", "")
SAID = (1, "1", "x", True, "ä", "", None, [1], 1.5)


def some_deliveries(gateway: Gateway, count: int, seed: int) -> None:
    """With all kinds of metadata, keys, states and attempts."""
    chance = random.Random(seed)
    for number in range(count):
        metadata = {name: chance.choice(SAID) for name in NAMES if chance.random() < 0.6}
        order_of = chance.choice([None, None, "k1", "k2"])
        (made,) = create_delivery(
            gateway,
            1,
            metadata=metadata,
            ordering_key=order_of,
            idempotency_key=f"key {number}" if chance.random() < 0.5 else None,
            destination=chance.choice(["partner", "other"]),
        )
        state = chance.choice(["pending", "delivered", "failed", "unknown", "canceled"])
        attempts_made = chance.randrange(3)
        resolution = chance.choice(["failed", None]) if state == "failed" else None
        gateway.sql(
            """
            UPDATE delivery
            SET state = %(state)s, attempts_made = %(attempts_made)s, resolution = %(resolution)s,
                finished_at = CASE WHEN %(state)s <> 'pending' THEN created_at END,
                resolved_by = CASE WHEN %(resolution)s::text IS NOT NULL THEN 'token:1' END,
                resolved_at = CASE WHEN %(resolution)s::text IS NOT NULL THEN created_at END
            WHERE delivery_id = %(delivery_id)s
            """,
            {"state": state, "attempts_made": attempts_made, "resolution": resolution, "delivery_id": made},
        )
        for attempt in range(1, attempts_made + 1):
            status = chance.choice([None, 200, 204, 302, 404, 408, 500, 503, 599])
            insert_attempt(gateway, made, attempt, status, chance.choice(["unknown", "unreachable", "refused"]))
        if chance.random() < 0.2:  # what the partner said when it was asked is not what it said to the request
            insert_attempt(gateway, made, 9, chance.choice([404, 500]), "answered")
            gateway.sql("UPDATE attempt SET kind = 'reconcile' WHERE number = 9")


def insert_attempt(gateway: Gateway, delivery_id: DeliveryId, number: int, status: int | None, outcome: str) -> None:
    gateway.sql(
        """
        INSERT INTO attempt (delivery_id, number, attempt_id, outcome, reason, started_at, total_ms, status,
                             response_headers, response_body, response_truncated)
        SELECT %(delivery_id)s, %(number)s, gen_random_uuid(), CASE WHEN answered THEN 'answered' ELSE %(outcome)s END,
               CASE WHEN NOT answered THEN 'why' END, now(), 1, %(status)s, CASE WHEN answered THEN '[]'::jsonb END,
               CASE WHEN answered THEN ''::bytea END, CASE WHEN answered THEN false END
        FROM (SELECT %(status)s::smallint IS NOT NULL AS answered) AS whether
        """,
        {"delivery_id": delivery_id, "number": number, "status": status, "outcome": outcome},
    )


def has(row: dict[str, Any], attempts: list[dict[str, Any]], wanted: dict[str, Any]) -> bool:
    """What a filter means, spelt out."""

    def says(name: str, content: str) -> bool:
        value = row["metadata"].get(name)
        return isinstance(value, str | int | float) and (
            value == content if isinstance(value, str) else json.dumps(value) == content
        )

    conditions: dict[str, Callable[[Any], bool]] = {
        "state": lambda state: row["state"] == state,
        "destination_id": lambda destination_id: row["destination_id"] == destination_id,
        "idempotency_key": lambda key: row["idempotency_key"] == key,
        "ordering_key": lambda key: row["ordering_key"] == key,
        "metadata": lambda members: all(says(name, content) for name, content in members.items()),
        "outcome": lambda outcome: any(attempt["outcome"] == outcome for attempt in attempts),
        "status_class": lambda digit: any((attempt["status"] or 0) // 100 == digit for attempt in attempts),
        "may_have_happened": lambda is_asked: (
            not is_asked
            or (
                row["state"] != "delivered"
                and row["resolution"] != "failed"
                and any(
                    attempt["outcome"] == "unknown"
                    or (attempt["status"] and effective_status(attempt["status"]) in AMBIGUOUS_STATUSES)
                    for attempt in attempts
                )
            )
        ),
    }
    return all(conditions[name](value) for name, value in wanted.items())


def some_filter(chance: random.Random, destination_ids: list[Any]) -> dict[str, Any]:
    choices: dict[str, list[Any]] = {
        "state": list(State),
        "destination_id": destination_ids,
        "idempotency_key": ["key 3", "key 40", "nobody's"],
        "ordering_key": ["k1", "k2", "k3"],
        "metadata": [{chance.choice(NAMES): chance.choice(CONTENTS)}, dict.fromkeys(NAMES[:2], "x")],
        "outcome": list(OutcomeKind),
        "status_class": [2, 3, 4, 5, 9],
        "may_have_happened": [True, False],
    }
    names = chance.sample(sorted(choices), chance.choice([1, 1, 2, 3]))
    return {name: chance.choice(choices[name]) for name in names}


@pytest.mark.parametrize("most_read", [deliveries.MOST_READ, 7])
def test_whatever_is_asked_for_the_pages_have_all_that_have_it_and_nothing_else(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, most_read: int
) -> None:
    """Also where each page ends after a few that were left out."""
    monkeypatch.setattr(deliveries, "MOST_READ", most_read)
    destination_ids = [
        gateway.destination("http://127.0.0.1:1", name=name).destination_id for name in ("other", "partner")
    ]
    some_deliveries(gateway, 90, seed=1)
    rows = gateway.sql("SELECT * FROM delivery ORDER BY delivery_id DESC")
    sent = [attempt for attempt in gateway.attempts() if attempt["kind"] == "send"]
    attempts: dict[UUID, list[dict[str, Any]]] = {row["delivery_id"]: [] for row in rows} | {
        delivery_id: list(group) for delivery_id, group in groupby(sent, itemgetter("delivery_id"))
    }
    chance = random.Random(2)
    found_some = 0
    for _ in range(150):
        wanted = some_filter(chance, destination_ids)
        expected = [row["delivery_id"] for row in rows if has(row, attempts[row["delivery_id"]], wanted)]
        found: list[DeliveryId] = []
        before: DeliveryId | None = None
        while True:
            page = deliveries.page(
                gateway.services.database,
                Filter(tenant_id=gateway.tenant_id, before=before, **wanted),
                limit=9,
            )
            found += [delivery.delivery_id for delivery in page.deliveries]
            before = page.next_before
            if before is None:
                break
        assert found == expected, wanted
        found_some += bool(found)
    assert found_some > 50


def test_another_tenant_with_the_same_properties_is_not_even_read(gateway: Gateway) -> None:
    same: dict[str, Any] = {"metadata": {"order": "1"}, "ordering_key": "k"}
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 3, **same)
    stranger = make_gateway(gateway.database, gateway.queue, tenant_name="stranger")
    try:
        stranger.destination("http://127.0.0.1:1")
        (theirs,) = create_delivery(stranger, 1, **same)
        assert ids(stranger, **same) == [theirs]
    finally:
        stranger.services.database.close()
        stranger.services.client.close()
    terms = gateway.sql("SELECT term, count(*) AS deliveries FROM delivery_term GROUP BY term ORDER BY 2")
    assert [row["deliveries"] for row in terms] == [1, 1, 3, 3]


def test_the_database_knows_which_attempts_leave_open_what_happened(gateway: Gateway) -> None:
    (row,) = gateway.sql(
        "SELECT array_agg(status ORDER BY status) AS open FROM generate_series(100, 999) AS status"
        " WHERE leaves_open('answered', status::smallint)"
    )
    assert row["open"] == [status for status in range(100, 1000) if effective_status(status) in AMBIGUOUS_STATUSES]
    kinds = gateway.sql(
        "SELECT kind FROM unnest(%s::text[]) AS kind WHERE leaves_open(kind, NULL)",
        [kind.value for kind in OutcomeKind],
    )
    assert [row["kind"] for row in kinds] == ["unknown"]


def test_what_is_deleted_leaves_no_term(gateway: Gateway) -> None:
    for name in ("other", "partner"):
        gateway.destination("http://127.0.0.1:1", name=name)
    some_deliveries(gateway, 40, seed=3)
    assert gateway.sql("SELECT term FROM delivery_term")
    gateway.sql("DELETE FROM delivery")
    assert gateway.sql("SELECT * FROM delivery_term") == []


def test_what_goes_well_without_metadata_or_key_has_no_term(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    (made,) = create_delivery(gateway, 1)
    insert_attempt(gateway, made, 1, 204, "answered")
    assert gateway.sql("SELECT * FROM delivery_term") == []


RARE: list[dict[str, Any]] = [
    {"idempotency_key": "nobody's"},
    {"ordering_key": "k"},
    {"metadata": {"order": "1"}},
    {"metadata": {"order": "nobody's"}},
    {"metadata": {"order": "1"}, "may_have_happened": True},
    {"metadata": {"order": "1"}, "state": State.CANCELED},
    {"outcome": OutcomeKind.UNREACHABLE},
    {"outcome": OutcomeKind.ANSWERED},
    {"status_class": 5},
    {"status_class": 2},
    {"may_have_happened": True},
    {"state": State.FAILED, "outcome": OutcomeKind.UNKNOWN},
]


def test_a_filter_reads_a_part_of_an_index_and_no_more_than_a_page_may(gateway: Gateway) -> None:
    """Of many deliveries with the same metadata, of which one in a thousand has failed and one is unknown."""
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 1, metadata={"order": "1"})
    gateway.copy_deliveries(20_000, states=[*["delivered"] * 997, "failed", "unknown", "canceled"])
    gateway.sql(
        """
        INSERT INTO attempt (attempt_id, delivery_id, number, outcome, reason, started_at, total_ms, status,
                             response_headers, response_body, response_truncated)
        SELECT gen_random_uuid(), delivery_id, 1, CASE state WHEN 'failed' THEN 'unreachable' WHEN 'unknown'
               THEN 'unknown' ELSE 'answered' END, CASE WHEN state <> 'delivered' THEN 'why' END, created_at, 1,
               CASE state WHEN 'delivered' THEN 200 END, CASE state WHEN 'delivered' THEN '[]'::jsonb END,
               CASE state WHEN 'delivered' THEN ''::bytea END, CASE state WHEN 'delivered' THEN false END
        FROM delivery WHERE state IN ('failed', 'unknown', 'delivered')
        """
    )
    gateway.sql("VACUUM ANALYZE delivery, attempt, delivery_term")
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        for wanted in RARE:
            database.plans.clear()
            deliveries.page(database, Filter(tenant_id=gateway.tenant_id, **wanted), limit=PAGE)
            assert database.plans, wanted
            for plan in database.plans:
                assert rows_read(plan) <= 5 * deliveries.MOST_READ, wanted
                walked = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
                assert walked <= {"destination"}, wanted


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


def test_of_a_tenant_with_more_overdue_than_a_page_the_oldest_come_first(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    made = create_delivery(gateway, 5)
    gateway.clock.forward(1000)
    pages = [overdue(gateway, limit=2, after=after) for after in (None, made[1], made[3], made[4])]
    assert pages == [made[:2], made[2:4], made[4:], []]


def test_what_is_overdue_is_found_without_reading_what_is_finished(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway, 1)
    gateway.copy_deliveries(20_000)
    gateway.sql("VACUUM ANALYZE delivery")
    gateway.clock.forward(1000)
    with closing(Explained(DatabaseSettings(database_url=gateway.database.url))) as database:
        (found,) = deliveries.overdue(database, since=gateway.clock(), after=None, limit=500)
    assert found.destination_name == "partner"
    assert (indexes(database.plan), rows_read(database.plan)) == ({"delivery_by_tenant", "delivery_to_ask"}, 1)

"""Accepting and claiming among the deliveries and destinations of others: each condition alone, the others met."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from db import deliveries, destinations, tenants
from db.connection import Database
from db.deliveries import Acceptance, Filter
from domain.deliveries import Claim, Delivery, Finished, Missing, NewDelivery, NotDue, State
from domain.ids import DeliveryId, DestinationId, TenantId, TokenId
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import NOW, PARTNER, TENANT, A, B, C, destination, issues, later, lease
from tests.support.databases import FreshDatabase

OTHERS = TenantId(UUID(int=50))
# Destinations: two of ours, and one of others that has the name of the first one.
BANK, POST, THEIR_BANK = PARTNER, DestinationId(UUID(int=51)), DestinationId(UUID(int=52))
IDS = [DeliveryId(UUID(int=number)) for number in range(60, 66)]


@pytest.fixture
def database(shared_database: FreshDatabase) -> Iterator[Database]:
    """With two tenants and three destinations, of which `post` takes longer."""
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        made.connection().execute("TRUNCATE tenant, token, destination, delivery, delivery_body, attempt CASCADE")
        issues(made)
        tenants.issue_token(
            made,
            tenant_id=OTHERS,
            tenant_name="others",
            token_id=TokenId(UUID(int=53)),
            token_sha256=b"o" * 32,
            scopes=("read",),
            now=NOW,
        )
        slow = replace(destination().timeouts, total_seconds=9)
        destinations.insert(made, destination(BANK, "bank"))
        destinations.insert(made, replace(destination(POST, "post"), timeouts=slow))
        destinations.insert(made, replace(destination(THEIR_BANK, "bank"), tenant_id=OTHERS))
        yield made


def accept(
    database: Database,
    delivery_id: DeliveryId,
    to: str = "bank",
    *,
    tenant_id: TenantId = TENANT,
    key: str | None = None,
    wait_seconds: float | None = None,
    **more: Any,
) -> Acceptance | None:
    return deliveries.accept(
        database,
        NewDelivery(tenant_id=tenant_id, destination=to, method="POST", path="/x", idempotency_key=key, **more),
        delivery_id=delivery_id,
        fingerprint=b"f" * 32,
        now=NOW,
        lease=lease(A),
        wait_seconds=wait_seconds,
    )


def found(database: Database, delivery_id: DeliveryId, tenant_id: TenantId = TENANT) -> Delivery | None:
    return deliveries.find(database, tenant_id=tenant_id, delivery_id=delivery_id)


# Accepting


@pytest.mark.parametrize(
    ("tenant_id", "reference", "destination_id"),
    [
        (TENANT, "bank", BANK),
        (TENANT, str(BANK), BANK),
        (TENANT, "post", POST),
        (TENANT, str(POST), POST),
        (OTHERS, "bank", THEIR_BANK),
        (OTHERS, str(THEIR_BANK), THEIR_BANK),
        (OTHERS, "post", None),
        (OTHERS, str(BANK), None),
        (TENANT, str(THEIR_BANK), None),
        (TENANT, "nobody", None),
        (TENANT, str(UUID(int=99)), None),
    ],
)
def test_a_destination_is_the_tenants_own_by_name_or_id(
    database: Database, tenant_id: TenantId, reference: str, destination_id: DestinationId | None
) -> None:
    made = accept(database, IDS[0], reference, tenant_id=tenant_id)
    assert (made and made.delivery.destination_id) == destination_id
    assert database.rows("SELECT tenant_id, destination_id FROM delivery", {}) == (
        [] if destination_id is None else [{"tenant_id": tenant_id, "destination_id": destination_id}]
    )


@pytest.mark.parametrize(
    ("to", "wait_seconds", "at_once"),
    [
        ("bank", None, False),
        ("bank", 2.999, False),
        ("bank", 3, True),
        ("bank", 3.001, True),
        ("post", 3, False),
        ("post", 9, True),
    ],
)
def test_it_is_leased_at_once_where_the_destinations_deadline_fits_into_the_wait(
    database: Database, to: str, wait_seconds: float | None, *, at_once: bool
) -> None:
    made = accept(database, IDS[0], to, wait_seconds=wait_seconds)
    assert made is not None
    assert (made.claim is not None) == at_once
    (row,) = database.rows("SELECT state, attempts_made, lease_id, leased_until FROM delivery", {})
    expected = ("sending", 1, A, lease(A).until) if at_once else ("pending", 0, None, None)
    assert tuple(row.values()) == expected


def test_a_key_is_one_delivery_of_one_tenant_whatever_the_second_request_contains(database: Database) -> None:
    first = accept(database, IDS[0], key="order-1")
    again = accept(database, IDS[1], "post", key="order-1", wait_seconds=20.0, query="other", attempts_allowed=3)
    assert first is not None
    assert again is not None
    assert (again.delivery.delivery_id, again.replayed, again.claim) == (IDS[0], True, None)
    assert found(database, IDS[0]) == first.delivery
    for delivery_id, key, tenant_id in ((IDS[2], "order-2", TENANT), (IDS[3], "order-1", OTHERS)):
        other = accept(database, delivery_id, key=key, tenant_id=tenant_id)
        assert other is not None
        assert (other.delivery.delivery_id, other.replayed) == (delivery_id, False)
    assert found(database, IDS[1]) is None


def test_requests_without_a_key_are_deliveries_of_their_own(database: Database) -> None:
    for delivery_id in IDS[:3]:
        accept(database, delivery_id)
    assert {row["idempotency_key"] for row in database.rows("SELECT idempotency_key FROM delivery", {})} == {
        str(delivery_id) for delivery_id in IDS[:3]
    }


# Claiming


def ready(database: Database, *delivery_ids: DeliveryId, to: str = "bank", due_at: datetime = NOW) -> None:
    for delivery_id in delivery_ids:
        accept(database, delivery_id, to, not_before=due_at)


def claim(database: Database, *delivery_ids: DeliveryId, by: Any = A, at: float = 0) -> list[Any]:
    """Of each: its lapse for a claim, its time for what is not due, otherwise its kind."""
    made = deliveries.claim(database, delivery_ids, lease=lease(by, since=later(at)), now=later(at))
    assert [result.delivery_id for result in made] == list(delivery_ids)
    return [
        result.lapsed if isinstance(result, Claim) else result.at if isinstance(result, NotDue) else type(result)
        for result in made
    ]


def stored(database: Database, delivery_id: DeliveryId) -> tuple[Any, ...]:
    (row,) = database.rows(
        "SELECT state, attempts_made, lease_id, leased_until, lapsed_lease_id FROM delivery WHERE delivery_id = %(id)s",
        {"id": delivery_id},
    )
    return tuple(row.values())


FRESH = ("pending", 0, None, None, None)


def test_nothing_is_claimed_but_what_is_asked_for(database: Database) -> None:
    ready(database, *IDS[:3])
    assert claim(database, IDS[1]) == [False]
    assert stored(database, IDS[1]) == ("sending", 1, A, later(40), None)
    assert [stored(database, delivery_id) for delivery_id in (IDS[0], IDS[2])] == [FRESH, FRESH]
    assert claim(database) == []


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_answers_come_in_the_order_of_the_questions_each_with_its_own_state(
    database: Database, order: tuple[int, ...]
) -> None:
    ready(database, IDS[0])
    ready(database, IDS[1], due_at=later(30))
    ready(database, IDS[2])
    database.connection().execute(
        "UPDATE delivery SET state = 'failed', finished_at = %s WHERE delivery_id = %s", [NOW, IDS[2]]
    )
    expected: list[Any] = [False, later(30), Finished, Missing]
    assert claim(database, *(IDS[place] for place in order)) == [expected[place] for place in order]


def test_it_is_due_from_that_very_moment_on(database: Database) -> None:
    ready(database, IDS[0], due_at=later(10))
    assert claim(database, IDS[0], at=9.999) == [later(10.999)]  # busy rows are looked at again after a second at least
    assert claim(database, IDS[0], at=10) == [False]


def test_a_lease_lapses_at_its_very_end_and_not_before(database: Database) -> None:
    ready(database, IDS[0])
    assert claim(database, IDS[0], by=A) == [False]
    assert claim(database, IDS[0], by=B, at=39) == [later(40)]
    assert stored(database, IDS[0]) == ("sending", 1, A, later(40), None)
    assert claim(database, IDS[0], by=B, at=40) == [True]
    assert stored(database, IDS[0]) == ("sending", 1, B, later(80), B)


def test_a_lease_that_was_taken_over_lapses_again_for_the_next_one(database: Database) -> None:
    ready(database, IDS[0])
    for by, at, lapsed in ((A, 0, False), (B, 50, True), (C, 100, True)):
        assert claim(database, IDS[0], by=by, at=at) == [lapsed]
    assert stored(database, IDS[0]) == ("sending", 1, C, later(140), C)


def test_what_is_sent_after_a_lapse_was_retried_is_no_lapse(database: Database) -> None:
    ready(database, IDS[0])
    claim(database, IDS[0], by=A)
    claim(database, IDS[0], by=B, at=50)
    database.connection().execute("UPDATE delivery SET state = 'pending', lease_id = NULL, leased_until = NULL")
    assert claim(database, IDS[0], by=C, at=60) == [False]
    assert stored(database, IDS[0]) == ("sending", 2, C, later(100), None)


@pytest.mark.parametrize("state", [state for state in State if state.finished])
def test_what_is_over_is_never_claimed_however_late(database: Database, state: State) -> None:
    ready(database, IDS[0])
    claim(database, IDS[0])
    database.connection().execute(
        "UPDATE delivery SET state = %s, lease_id = NULL, leased_until = NULL, finished_at = %s", [state.value, NOW]
    )
    assert claim(database, IDS[0], by=B, at=9999) == [Finished]
    assert stored(database, IDS[0]) == (state.value, 1, None, None, None)


def test_each_claim_has_its_own_destination(database: Database) -> None:
    ready(database, IDS[0])
    ready(database, IDS[1], to="post")
    accept(database, IDS[2], tenant_id=OTHERS)
    made = deliveries.claim(database, IDS[:3], lease=lease(A), now=NOW)
    whose = [(result.tenant_id, result.destination.destination_id) for result in made if isinstance(result, Claim)]
    assert whose == [(TENANT, BANK), (TENANT, POST), (OTHERS, THEIR_BANK)]


# Lists


def test_each_condition_of_a_list_narrows_it_alone(database: Database) -> None:
    for delivery_id, to in zip(IDS, ("bank", "post", "bank", "post", "bank", "bank"), strict=True):
        accept(database, delivery_id, to)
    accept(database, DeliveryId(UUID(int=70)), tenant_id=OTHERS)
    claim(database, IDS[0], IDS[1])

    def page(limit: int = 9, **wanted: Any) -> list[DeliveryId]:
        return [
            delivery.delivery_id
            for delivery in deliveries.page(database, Filter(tenant_id=TENANT, **wanted), limit=limit).deliveries
        ]

    newest_first = IDS[::-1]
    assert page() == newest_first
    assert page(limit=2) == newest_first[:2]
    assert page(state=State.SENDING) == [IDS[1], IDS[0]]
    assert page(destination_id=POST) == [IDS[3], IDS[1]]
    assert page(destination_id=THEIR_BANK) == []
    assert page(since=IDS[2]) == [IDS[5], IDS[4], IDS[3], IDS[2]]
    assert page(until=IDS[2]) == [IDS[1], IDS[0]]
    assert page(before=IDS[2]) == [IDS[1], IDS[0]]
    assert page(since=IDS[1], until=IDS[4], before=IDS[3], destination_id=POST, state=State.SENDING) == [IDS[1]]
    assert page(limit=0) == []


def test_an_overdue_delivery_is_reported_once_however_many_destinations_its_tenant_has(database: Database) -> None:
    ready(database, IDS[1], to="post")
    ready(database, IDS[0], IDS[2])
    late = deliveries.overdue(database, since=later(1), after=None, limit=9)
    assert [(delivery.delivery_id, delivery.destination_name) for delivery in late] == [
        (IDS[0], "bank"),
        (IDS[1], "post"),
        (IDS[2], "bank"),
    ]

"""Claims and retries write no index: PostgreSQL puts the new version of a row on its page (heap-only tuples)."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from uuid import UUID

import pytest

from db import attempts
from db.connection import Database
from domain.deliveries import Record, State
from domain.ids import DeliveryId
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import NOW, READY, A, accepts, attempt, both, claims_all, later
from tests.support.databases import FreshDatabase

BATCHES = [[DeliveryId(UUID(int=100 + 10 * batch + place)) for place in range(10)] for batch in range(5)]


@pytest.fixture
def owner(database: FreshDatabase) -> Iterator[Database]:
    """The owner's connection to a database with fifty deliveries that are due."""
    with closing(Database(DatabaseSettings(database_url=database.admin_url))) as made:
        both(*READY, *(accepts(delivery_id) for batch in BATCHES for delivery_id in batch))(made)
        yield made


def records(database: Database, state: State, number: int) -> None:
    for batch in BATCHES:
        made = [
            Record(
                attempt=replace(
                    attempt("answered", number=number, attempt_id=delivery_id.int * 10 + number),
                    delivery_id=delivery_id,
                ),
                lease_id=A,
                next_state=state,
                due_at=later(-1) if state is State.PENDING else None,
            )
            for delivery_id in batch
        ]
        assert len(attempts.record(database, made, now=NOW).moved) == len(batch)


def updates(database: Database) -> tuple[int, int]:
    """How many rows of deliveries were updated, and how many of them without a new entry in an index."""
    database.rows("SELECT pg_stat_force_next_flush()", {})
    (row,) = database.rows("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'delivery'", {})
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def claim_retry_and_claim(database: Database) -> None:
    for batch in BATCHES:
        claims_all(A, batch)(database)
    records(database, State.PENDING, 1)
    for batch in BATCHES:
        claims_all(A, batch)(database)


def test_claims_and_retries_write_no_index_and_an_end_does(owner: Database) -> None:
    claim_retry_and_claim(owner)
    assert updates(owner) == (150, 150)
    records(owner, State.DELIVERED, 2)
    assert updates(owner) == (200, 150)


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX ON delivery (due_at)",
        "CREATE INDEX ON delivery (tenant_id) WHERE lease_id IS NOT NULL",
        "CREATE INDEX ON delivery (tenant_id, state)",
    ],
)
def test_an_index_on_what_an_attempt_changes_makes_it_write_them_all(owner: Database, index: str) -> None:
    """Which is what the test above is there to notice."""
    owner.connection().execute(index.encode())
    claim_retry_and_claim(owner)
    updated, without_index = updates(owner)
    assert updated == 150
    assert without_index <= 100


# What an attempt changes.
CHANGING = {"state", "due_at", "attempts_made", "lease_id", "leased_until", "lapsed_lease_id", "delivered_by"}


def test_no_index_has_a_column_that_an_attempt_changes(owner: Database) -> None:
    """Neither as a key nor in its condition."""
    rows = owner.rows(
        """
        SELECT attname
        FROM pg_index
        JOIN pg_attribute ON attrelid = indrelid AND attnum > 0
        LEFT JOIN pg_depend ON objid = indexrelid AND refobjid = indrelid AND refobjsubid = attnum
        WHERE indrelid = 'delivery'::regclass AND (attnum = ANY (indkey) OR objid IS NOT NULL)
        """,
        {},
    )
    found = {row["attname"] for row in rows}
    assert {"phase", "delivery_id", "idempotency_key"} <= found
    assert not found & CHANGING

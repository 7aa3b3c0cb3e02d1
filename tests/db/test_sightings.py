"""Which destinations an address has been seen from: the newest answer, of a bounded number of rows."""

from contextlib import closing
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import psycopg
import pytest
from psycopg import sql

from db.connection import Database
from db.sightings import DELIVERIES_LOOKED_AT, DESTINATIONS_OF_A_PAGE, Sighting, seen_from
from flows.accept import accept
from local.wire import statements_of
from runtime.settings import DatabaseSettings
from tests.db.test_plans import leave_to_the_test, read, wait_for_counts
from tests.support.gateway import Gateway

OLD, NEW = "203.0.113.10", "203.0.113.11"
MANY = 20_000


def looked(gateway: Gateway, address: str = NEW, *, after: Any = None) -> list[Sighting]:
    """As the operators' function sees it."""
    with closing(Database(DatabaseSettings(database_url=gateway.database.operator_url))) as database:
        return seen_from(database, address=IPv4Address(address), after=after)


def delivery(gateway: Gateway, *attempts: tuple[str | None, int | None]) -> None:
    """One that has ended, with answers (or none, None as the status) to requests from addresses, minute by minute."""
    gateway.copy_deliveries(1)
    (made,) = gateway.sql("SELECT delivery_id FROM delivery WHERE state = 'delivered'")
    for number, (address, status) in enumerate(attempts, start=1):
        answer = (status, "[]", b"", False, 0, bytes(32)) if status else (None,) * 6
        told = "answered" if status else "unreachable", None if status else "no connection"
        gateway.sql(
            """
            INSERT INTO attempt (attempt_id, delivery_id, number, outcome, reason, started_at, total_ms, egress_address,
                                 status, response_headers, response_body, response_truncated, response_length,
                                 response_sha256)
            VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, 1, %s, %s, %s, %s, %s, %s, %s)
            """,
            made["delivery_id"], number, *told, datetime(2026, 11, 1, 12, number, tzinfo=UTC), address, *answer,
        )  # fmt: skip


@pytest.fixture
def destination_id(gateway: Gateway) -> Any:
    """Of a destination with one delivery, which no request was made for."""
    made = gateway.destination("http://127.0.0.1:1")
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    return made.destination_id


def test_a_destination_that_never_answered_was_not_seen(gateway: Gateway, destination_id: Any) -> None:
    delivery(gateway, (NEW, None), (None, None))
    (sighting,) = looked(gateway)
    assert (sighting.destination_id, sighting.state) == (destination_id, "active")
    assert (sighting.answered_at, sighting.status, sighting.answered_elsewhere_at) == (None, None, None)


def test_the_last_answer_counts_and_which_address_it_came_to(gateway: Gateway, destination_id: Any) -> None:
    delivery(gateway, (NEW, 403), (OLD, 200), (NEW, 201), (OLD, 500), (NEW, None))
    (new,), (old,) = looked(gateway), looked(gateway, OLD)
    assert new.answered_at == old.answered_elsewhere_at == datetime(2026, 11, 1, 12, 3, tzinfo=UTC)
    assert old.answered_at == new.answered_elsewhere_at == datetime(2026, 11, 1, 12, 4, tzinfo=UTC)
    assert (new.status, old.status) == (201, 500)


def test_destinations_come_page_by_page_and_deleted_ones_not_at_all(gateway: Gateway, destination_id: Any) -> None:
    gateway.sql(
        """
        INSERT INTO destination (destination_id, tenant_id, name, base_url, auth_type, guarantee, idempotent,
                                 idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at)
        SELECT gen_random_uuid(), tenant_id, name || '-' || n, base_url, auth_type, guarantee, idempotent,
               idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at
        FROM destination, generate_series(1, %s) AS n
        """,
        DESTINATIONS_OF_A_PAGE + 10,
    )
    gateway.sql(
        "UPDATE destination SET deleted_at = now(), deleted_name = name WHERE destination_id = %s", destination_id
    )
    first = looked(gateway)
    rest = looked(gateway, after=first[-1].destination_id)
    ids = [sighting.destination_id for sighting in (*first, *rest)]
    assert (len(first), len(rest)) == (DESTINATIONS_OF_A_PAGE, 10)
    assert ids == sorted(set(ids))
    assert destination_id not in ids


def test_it_reads_the_newest_deliveries_alone_and_walks_through_no_table(gateway: Gateway, destination_id: Any) -> None:
    leave_to_the_test(gateway)
    gateway.copy_deliveries(MANY)
    gateway.sql(
        """
        INSERT INTO attempt (attempt_id, delivery_id, number, outcome, reason, started_at, total_ms)
        SELECT gen_random_uuid(), delivery_id, 1, 'unreachable', 'for this test', created_at, 1 FROM delivery
        WHERE state = 'delivered'
        """
    )
    gateway.sql("VACUUM ANALYZE delivery, attempt, destination, tenant")
    gateway.services.database.close()
    wait_for_counts(gateway)
    before = read(gateway)
    looked(gateway)
    wait_for_counts(gateway)
    after = read(gateway)
    for table in ("delivery", "attempt"):
        assert after[table]["seq_scan"] == before[table]["seq_scan"]
        looked_up = sum(after[table][number] - before[table][number] for number in ("idx_scan", "idx_tup_fetch"))
        assert 0 < looked_up <= 2 * 2 * DELIVERIES_LOOKED_AT


def test_it_is_one_statement(gateway: Gateway, destination_id: Any) -> None:
    with closing(Database(DatabaseSettings(database_url=gateway.database.operator_url))) as database:
        with statements_of(database.connection()) as executed:
            seen_from(database, address=IPv4Address(NEW), after=None)
        assert len(executed) == 1


@pytest.mark.parametrize("column", ["path", "query", "headers", "metadata", "fingerprint"])
def test_the_operators_role_sees_nothing_of_what_deliveries_contain(gateway: Gateway, column: str) -> None:
    statement = sql.SQL("SELECT {} FROM delivery").format(sql.Identifier(column))
    with (
        closing(psycopg.connect(gateway.database.operator_url)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)

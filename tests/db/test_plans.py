"""What PostgreSQL reads for one delivery among many: rows that an index leads to, and no table from end to end."""

import time
from typing import Any

import pytest

from db import attempts, deliveries
from domain.limits import CircuitBreaker
from domain.options import DestinationOptions
from flows.accept import accept
from flows.attempt import attempt_due
from tests.support.gateway import Gateway

MANY = 20_000
# psycopg prepares a statement at its sixth run, and PostgreSQL then looks at five plans for the parameters at hand
# before it considers one for all: that one must be as good.
ROUNDS = 14
GENEROUS_SECONDS = 60


@pytest.fixture
def crowded(gateway: Gateway) -> Gateway:
    """A gateway with a destination that is not there, and MANY deliveries that have ended, each with an attempt. No
    circuit breaker opens: each delivery is attempted."""
    gateway.destination("http://127.0.0.1:1", options=DestinationOptions(circuit_breaker=CircuitBreaker(enabled=False)))
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    gateway.copy_deliveries(MANY)
    gateway.sql(
        """
        INSERT INTO attempt (attempt_id, delivery_id, number, outcome, reason, started_at, total_ms)
        SELECT gen_random_uuid(), delivery_id, 1, 'unreachable', 'for this test', created_at, 1 FROM delivery
        WHERE state = 'delivered'
        """
    )
    gateway.sql("VACUUM ANALYZE delivery, delivery_body, attempt, destination")
    gateway.queue.take()
    gateway.services.database.close()
    wait_for_counts(gateway)
    return gateway


def wait_for_counts(gateway: Gateway) -> None:
    """Until the connections that are closed have gone, each of which adds to the counts what it read before it goes:
    VACUUM, for one, reads the rows that it summarizes for a BRIN index."""
    others = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    give_up_at = time.monotonic() + GENEROUS_SECONDS
    while gateway.sql(others):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def read(gateway: Gateway) -> dict[str, dict[str, Any]]:
    rows = gateway.sql(
        "SELECT relname, seq_scan, seq_tup_read, idx_tup_fetch, n_tup_ins FROM pg_stat_user_tables"
        " WHERE relname IN ('delivery', 'delivery_body', 'attempt')"
    )
    return {row["relname"]: row for row in rows}


def read_when_told(gateway: Gateway, *, attempts_made: int) -> dict[str, dict[str, Any]]:
    """The counts, once those of the connection that was closed have come in."""
    give_up_at = time.monotonic() + GENEROUS_SECONDS
    while (found := read(gateway))["attempt"]["n_tup_ins"] < attempts_made and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return found


def test_the_life_of_a_delivery_walks_through_no_table(crowded: Gateway) -> None:
    before = read(crowded)
    for _ in range(ROUNDS):
        made = [accept(crowded.new(), wait_seconds=None, services=crowded.services).delivery for _ in range(3)]
        attempt_due(crowded.queue.take(), services=crowded.services)
        for delivery in made:
            wanted = delivery.delivery_id
            assert deliveries.find(crowded.services.database, tenant_id=crowded.tenant_id, delivery_id=wanted)
            assert attempts.with_delivery(crowded.services.database, tenant_id=crowded.tenant_id, delivery_id=wanted)
    crowded.services.database.close()
    after = read_when_told(crowded, attempts_made=before["attempt"]["n_tup_ins"] + 3 * ROUNDS)
    assert after["attempt"]["n_tup_ins"] == before["attempt"]["n_tup_ins"] + 3 * ROUNDS
    for table in ("delivery", "delivery_body", "attempt"):
        assert after[table]["seq_tup_read"] == before[table]["seq_tup_read"], table
        assert after[table]["seq_scan"] == before[table]["seq_scan"], table
        assert 0 < after[table]["idx_tup_fetch"] - before[table]["idx_tup_fetch"] < 100 * ROUNDS, table

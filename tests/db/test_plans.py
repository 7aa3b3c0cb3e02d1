"""What PostgreSQL reads for one delivery among many: rows that an index leads to, and no table from end to end."""

import time
from dataclasses import replace
from typing import Any

import pytest

from db import attempts, deliveries
from domain.limits import CircuitBreaker, Limits
from domain.options import DestinationOptions
from domain.stats import Period
from domain.windows import SendingWindow
from flows.accept import accept
from flows.attempt import attempt_due
from flows.tallies import stats
from tests.support.gateway import Gateway

MANY = 20_000
# psycopg prepares a statement at its sixth run, and PostgreSQL then looks at five plans for the parameters at hand
# before it considers one for all: that one must be as good.
ROUNDS = 14
GENEROUS_SECONDS = 60
COUNTED = ("delivery", "delivery_body", "attempt", "slot_waiter", "ordering_place")
ATTEMPTS = """
    INSERT INTO attempt (attempt_id, delivery_id, number, outcome, reason, started_at, total_ms)
    SELECT gen_random_uuid(), delivery_id, number, 'unreachable', 'for this test', created_at, 1
    FROM delivery CROSS JOIN generate_series(1, 2) AS number
    WHERE state = 'delivered'
"""


@pytest.fixture
def crowded(gateway: Gateway) -> Gateway:
    """A gateway with a destination that is not there, and MANY deliveries that have ended, each with two attempts. No
    circuit breaker opens: each delivery is attempted."""
    gateway.destination("http://127.0.0.1:1", options=DestinationOptions(circuit_breaker=CircuitBreaker(enabled=False)))
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    leave_to_the_test(gateway)
    gateway.copy_deliveries(MANY)
    gateway.sql(ATTEMPTS)
    gateway.sql("VACUUM ANALYZE delivery, delivery_body, attempt, destination")
    gateway.queue.take()
    gateway.services.database.close()
    wait_for_counts(gateway)
    return gateway


def leave_to_the_test(gateway: Gateway) -> None:
    """From now on autovacuum, which reads whole tables whenever it likes, leaves those that are counted alone."""
    for table in COUNTED:
        gateway.sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


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


@pytest.fixture
def waiting(gateway: Gateway) -> Gateway:
    """The same, where half of them have not ended, and wait in two lines: for a slot, and behind one of their key."""
    options = DestinationOptions(
        circuit_breaker=CircuitBreaker(enabled=False),
        limits=Limits(concurrency=5),
        windows=(SendingWindow(days=(1, 2, 3, 4, 5, 6, 7), opens="00:00", closes="24:00", time_zone="Europe/Berlin"),),
    )
    gateway.destination("http://127.0.0.1:1", options=options)
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    leave_to_the_test(gateway)
    gateway.copy_deliveries(MANY, states=("delivered", "pending"))
    gateway.sql(ATTEMPTS)
    gateway.sql("INSERT INTO slot_waiter SELECT destination_id, delivery_id FROM delivery WHERE state = 'pending'")
    gateway.sql(
        """
        WITH keyed AS (
            UPDATE delivery SET ordering_key = 'busy' WHERE state = 'pending' RETURNING destination_id, delivery_id
        )
        INSERT INTO ordering_place
        SELECT destination_id, 'busy', nextval('ordering_place_number'), delivery_id FROM keyed
        """
    )
    gateway.sql("VACUUM ANALYZE")
    gateway.queue.take()
    gateway.services.database.close()
    wait_for_counts(gateway)
    return gateway


def read(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """The counts, with those of this session, which set the scene: PostgreSQL adds them once a second at most."""
    gateway.sql("SELECT pg_stat_force_next_flush()")
    rows = gateway.sql(
        "SELECT relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch, n_tup_ins FROM pg_stat_user_tables"
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


def test_what_waits_in_long_lines_is_found_without_a_walk_through_them(waiting: Gateway) -> None:
    """Some are sent, others find no slot or wait for their key; and each end passes its slot on."""
    before = read(waiting)
    for number in range(ROUNDS):
        for key in (None, f"quiet {number}", "busy"):
            accept(replace(waiting.new(), ordering_key=key), wait_seconds=None, services=waiting.services)
        attempt_due(waiting.queue.take(), services=waiting.services)
    waiting.services.database.close()
    wait_for_counts(waiting)
    after = read(waiting)
    assert after["attempt"]["n_tup_ins"] > before["attempt"]["n_tup_ins"]
    for table in COUNTED:
        assert after[table]["seq_scan"] == before[table]["seq_scan"], table
        assert after[table]["idx_tup_fetch"] - before[table]["idx_tup_fetch"] < 400 * ROUNDS, table


def test_numbers_read_counters_and_no_delivery_that_has_ended(crowded: Gateway) -> None:
    def show() -> None:
        found = stats(
            tenant_id=crowded.tenant_id, reference=None, before=None, limit=50, services=crowded.services
        ).destinations
        assert found[0][1][Period.LAST_DAY].ended == {}  # no attempt of this test moved its delivery
        assert found[0][1][Period.LAST_DAY].attempts["unreachable"] >= MANY

    show()  # counts them all
    crowded.services.database.close()
    wait_for_counts(crowded)
    before = read(crowded)
    for _ in range(ROUNDS):
        show()
    crowded.services.database.close()
    wait_for_counts(crowded)
    after = read(crowded)
    assert after["delivery"]["seq_scan"] == before["delivery"]["seq_scan"]
    assert after["delivery"]["idx_tup_fetch"] - before["delivery"]["idx_tup_fetch"] <= 10 * ROUNDS

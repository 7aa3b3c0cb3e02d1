"""Limits of destinations hold for all workers together, whatever overlaps: rate, concurrency, circuit breaker."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from db import attempts, deliveries
from db.connection import Database
from db.deliveries import Acceptance
from domain.deliveries import PASS_THROUGH_ATTEMPTS, Claim, NotDue, Record, State, WaitingFor
from domain.destinations import DestinationState
from domain.errors import NotNow
from domain.ids import DeliveryId
from domain.limits import SLOW_SECONDS, CircuitBreaker, Limits, usual_share
from domain.options import DestinationOptions
from domain.retry_policy import RetryPolicy
from domain.wakeups import LEAST_LOOKS
from domain.windows import SendingWindow
from runtime.settings import DatabaseSettings
from tests.db.flow import LEASE_SECONDS, Crowd, accept, claim, ids, record, set_up
from tests.db.test_repeats import MANAGED, NOW, PARTNER, attempt, changes, later
from tests.support.databases import FreshDatabase

BREAKER = CircuitBreaker(failure_ratio=0.5, window_seconds=60, minimum_attempts=4, open_seconds=30)


@pytest.fixture
def superuser(shared_database: FreshDatabase) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        yield made


def limited(
    *, rate: float | None = None, burst: int | None = None, concurrency: int | None = None
) -> DestinationOptions:
    return DestinationOptions(limits=Limits(rate=rate, burst=burst, concurrency=concurrency))


def claimed(results: object) -> list[Claim]:
    assert isinstance(results, list)
    return [result for result in results if isinstance(result, Claim)]


def told(results: object) -> list[tuple[WaitingFor | None, datetime]]:
    assert isinstance(results, list)
    return [(result.waiting_for, result.at) for result in results if isinstance(result, NotDue)]


def flow_of(superuser: Database) -> dict[str, object]:
    (row,) = superuser.rows(
        "SELECT in_flight, counted_since, attempts, failures, open_until, probe_id, share FROM destination_flow", {}
    )
    return row


# Rate


@pytest.mark.parametrize(
    ("rate", "burst", "crash"), [(20.0, 5, 0.0), (0.1, 1, 0.0), (3.0, 7, 0.0), (100.0, 100, 0.0), (7.0, 2, 0.1)]
)
def test_no_window_of_time_has_more_attempts_than_burst_and_rate_allow(
    superuser: Database, shared_database: FreshDatabase, rate: float, burst: int, crash: float
) -> None:
    made = set_up(superuser, limited(rate=rate, burst=burst), 60)
    crowd = Crowd(url=shared_database.url, waiting=dict.fromkeys(made, NOW), crash=crash)
    crowd.run()
    at = sorted(begun.at for begun in crowd.begun)
    assert len(at) == 60  # all were sent in the end
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= burst + rate * (at[last] - at[first]).total_seconds() + 1e-6


def test_who_has_to_wait_looks_again_about_once(superuser: Database, shared_database: FreshDatabase) -> None:
    made = set_up(superuser, limited(rate=5.0, burst=5), 80)
    crowd = Crowd(url=shared_database.url, waiting=dict.fromkeys(made, NOW))
    crowd.run()
    assert len(crowd.begun) == 80
    assert sum(crowd.looks.values()) <= 2.5 * 80
    assert set(crowd.waits) <= {WaitingFor.RATE_LIMIT, None}


def test_turns_are_given_one_after_the_other(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.5, burst=2), 5)
    results = claim(superuser, made, NOW)
    assert [result.delivery_id for result in claimed(results)] == made[:2]
    assert told(results) == [(WaitingFor.RATE_LIMIT, later(seconds)) for seconds in (2, 4, 6)]
    # Who looks early keeps its turn.
    assert told(claim(superuser, made[2:], later(1))) == [(WaitingFor.RATE_LIMIT, later(s)) for s in (2, 4, 6)]
    assert len(claimed(claim(superuser, made[2:3], later(2)))) == 1


def test_a_newcomer_does_not_take_the_turn_of_one_that_waits(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.5, burst=1), 3)
    assert len(claimed(claim(superuser, made[:2], NOW))) == 1
    assert told(claim(superuser, made[2:], later(2))) == [(WaitingFor.RATE_LIMIT, later(4))]
    assert len(claimed(claim(superuser, made[1:2], later(2)))) == 1


def test_a_line_that_nobody_stands_in_holds_up_nobody(superuser: Database) -> None:
    """The one that had the turn was sent by other means, or is gone."""
    made = set_up(superuser, limited(rate=0.1, burst=1), 9)
    claim(superuser, made[:8], NOW)  # seven have turns, up to 70 s on
    assert len(claimed(claim(superuser, made[8:], later(13)))) == 1


def test_a_lapse_sends_nothing_and_takes_nothing(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.001, burst=1), 1)
    assert len(claimed(claim(superuser, made, NOW))) == 1
    (lapsed,) = claimed(claim(superuser, made, later(LEASE_SECONDS)))
    assert lapsed.lapsed


# Concurrency


@pytest.mark.parametrize(
    ("concurrency", "crash", "retries"), [(1, 0.0, 0.0), (3, 0.0, 0.0), (3, 0.05, 0.0), (4, 0.0, 0.2)]
)
def test_no_more_are_in_flight_than_there_are_slots(
    superuser: Database, shared_database: FreshDatabase, concurrency: int, crash: float, retries: float
) -> None:
    made = set_up(superuser, limited(concurrency=concurrency), 60)
    crowd = Crowd(url=shared_database.url, waiting=dict.fromkeys(made, NOW), crash=crash, retries=retries)
    crowd.run()
    assert {begun.delivery_id for begun in crowd.begun} == set(made)
    assert crowd.peak <= concurrency
    assert flow_of(superuser)["in_flight"] == [] or crash
    assert superuser.rows("SELECT FROM slot_waiter", {}) == []


def test_a_free_slot_goes_to_whoever_has_waited_longest_and_to_nobody_else(superuser: Database) -> None:
    made = set_up(superuser, limited(concurrency=1), 4)
    (first,) = claimed(claim(superuser, made[:1], NOW))
    assert {waiting_for for waiting_for, _ in told(claim(superuser, made[1:3], NOW))} == {WaitingFor.CONCURRENCY}
    written = record(superuser, [first], later(1))
    assert [woken.delivery_id for woken in written.woken] == [made[1]]
    assert [woken.destination_name for woken in written.woken] == ["partner"]
    assert claimed(claim(superuser, made[2:], later(2))) == []
    (second,) = claimed(claim(superuser, [made[1]], later(2)))
    assert [woken.delivery_id for woken in record(superuser, [second], later(3)).woken] == [made[2]]


def test_a_slot_that_was_passed_on_in_vain_is_free_again_soon(superuser: Database) -> None:
    made = set_up(superuser, limited(concurrency=1), 3)
    (first,) = claimed(claim(superuser, made[:1], NOW))
    claim(superuser, made[1:2], NOW)
    assert record(superuser, [first], later(1)).woken
    assert claimed(claim(superuser, made[2:], later(5.9))) == []
    assert len(claimed(claim(superuser, made[2:], later(6)))) == 1


def test_the_slots_of_a_worker_that_crashed_are_free_when_its_lease_ends(superuser: Database) -> None:
    made = set_up(superuser, limited(concurrency=2), 4)
    assert len(claimed(claim(superuser, made[:2], NOW))) == 2
    assert claimed(claim(superuser, made[2:], later(LEASE_SECONDS - 0.001))) == []
    assert len(claimed(claim(superuser, made[2:], later(LEASE_SECONDS)))) == 2


def test_who_waits_for_a_slot_looks_again_soon_and_then_less_and_less(superuser: Database) -> None:
    """Who begins to wait just when a slot is passed on may not have been seen."""
    made = set_up(superuser, limited(concurrency=1), 2)
    claim(superuser, made[:1], NOW)
    looks = [later(0)]
    for _ in range(5):
        ((_, at),) = told(claim(superuser, made[1:], looks[-1]))
        looks.append(at)
    assert [(at - NOW).total_seconds() for at in looks] == [0, 1, 2, 4, 8, 16]
    assert LEAST_LOOKS[WaitingFor.CONCURRENCY] == 1


def test_rate_and_concurrency_hold_together(superuser: Database, shared_database: FreshDatabase) -> None:
    made = set_up(superuser, limited(rate=20.0, burst=3, concurrency=2), 50)
    crowd = Crowd(url=shared_database.url, waiting=dict.fromkeys(made, NOW))
    crowd.run()
    assert {begun.delivery_id for begun in crowd.begun} == set(made)
    assert crowd.peak <= 2
    at = sorted(begun.at for begun in crowd.begun)
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= 3 + 20.0 * (at[last] - at[first]).total_seconds() + 1e-6


# Circuit breaker


def tried(superuser: Database, wanted: list[DeliveryId], at: float, *, failed: bool | None) -> None:
    claims = claimed(claim(superuser, wanted, later(at)))
    assert len(claims) == len(wanted)
    record(superuser, claims, later(at), State.FAILED if failed else State.DELIVERED, failed=failed)


def test_it_opens_at_the_ratio_with_enough_attempts_and_lets_one_through_after_its_time(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 12)
    tried(superuser, made[:1], 0, failed=True)
    tried(superuser, made[1:2], 1, failed=True)
    tried(superuser, made[2:3], 2, failed=False)
    assert flow_of(superuser)["open_until"] is None  # three attempts are not enough
    tried(superuser, made[3:4], 3, failed=True)
    assert flow_of(superuser)["open_until"] == later(33)
    waits = told(claim(superuser, made[4:8], later(4)))
    assert [waiting_for for waiting_for, _ in waits] == [WaitingFor.CIRCUIT_BREAKER] * 4
    assert [at > later(33) for _, at in waits] == [True] * 4
    assert len({at for _, at in waits}) == 4
    (probe,) = claimed(claim(superuser, made[4:8], later(34)))
    assert claimed(claim(superuser, made[4:], later(40))) == []
    record(superuser, [probe], later(41), failed=False)
    assert len(claimed(claim(superuser, made[5:], later(42)))) == 7


def test_a_probe_that_fails_opens_it_again_and_one_that_says_nothing_leaves_the_next_one_to_try(
    superuser: Database,
) -> None:
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 8)
    tried(superuser, made[:4], 0, failed=True)
    (probe,) = claimed(claim(superuser, made[4:6], later(30)))
    record(superuser, [probe], later(31), State.FAILED, failed=True)
    assert flow_of(superuser)["open_until"] == later(61)
    (probe,) = claimed(claim(superuser, made[5:], later(61)))
    record(superuser, [probe], later(62), State.FAILED, failed=None)
    assert len(claimed(claim(superuser, made[6:], later(62)))) == 1


def test_a_probe_whose_worker_crashed_is_replaced_when_its_lease_ends(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 6)
    tried(superuser, made[:4], 0, failed=True)
    assert len(claimed(claim(superuser, made[4:5], later(30)))) == 1
    assert claimed(claim(superuser, made[5:], later(69))) == []
    assert len(claimed(claim(superuser, made[5:], later(70)))) == 1


def test_failures_in_different_windows_are_not_added_up(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 6)
    tried(superuser, made[:3], 0, failed=True)
    tried(superuser, made[3:4], 60, failed=True)
    assert flow_of(superuser) | {"counted_since": None} == flow_of(superuser) | {"counted_since": None, "attempts": 1}
    assert flow_of(superuser)["open_until"] is None


def test_a_destination_where_nothing_fails_is_not_written(superuser: Database) -> None:
    """Or its one row would be what all workers wait for."""
    made = set_up(superuser, DestinationOptions(), 20)
    version = "SELECT xmin::text FROM destination_flow"
    before = superuser.rows(version, {})
    tried(superuser, made, 0, failed=False)
    assert superuser.rows(version, {}) == before


def test_it_can_be_turned_off_and_the_usual_one_is_lenient(superuser: Database) -> None:
    off = DestinationOptions(circuit_breaker=CircuitBreaker(enabled=False))
    for options, opens in ((off, False), (DestinationOptions(), True)):
        made = set_up(superuser, options, 40)
        tried(superuser, made[:18], 0, failed=True)
        tried(superuser, made[18:20], 1, failed=False)
        assert (flow_of(superuser)["open_until"] is not None) is opens  # 18 of 20 are nine in ten
    made = set_up(superuser, DestinationOptions(), 40)
    tried(superuser, made[:17], 0, failed=True)
    tried(superuser, made[17:20], 1, failed=False)
    assert flow_of(superuser)["open_until"] is None


def test_one_that_is_turned_off_while_it_is_open_holds_nobody(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 6)
    tried(superuser, made[:4], 0, failed=True)
    superuser.rows("""UPDATE destination SET options = '{"circuit_breaker": {"enabled": false}}' RETURNING 1""", {})
    assert len(claimed(claim(superuser, made[4:], later(1)))) == 2


def test_one_whose_destination_was_changed_lets_one_probe_through_at_once(superuser: Database) -> None:
    """What was changed may be what made it fail: its URL, its credentials, its timeouts."""
    options = DestinationOptions(circuit_breaker=BREAKER)
    made = set_up(superuser, options, 7)
    tried(superuser, made[:4], 0, failed=True)
    assert claimed(claim(superuser, made[4:], later(1))) == []
    moved = replace(MANAGED, state=DestinationState.ACTIVE, base_url="https://mended.example", options=options)
    changes(moved)(superuser)
    assert len(claimed(claim(superuser, made[4:], later(2)))) == 1
    assert claimed(claim(superuser, made[4:], later(3))) == []


def test_a_change_opens_no_breaker(superuser: Database) -> None:
    options = DestinationOptions(circuit_breaker=BREAKER)
    made = set_up(superuser, options, 3)
    changes(replace(MANAGED, state=DestinationState.ACTIVE, options=options))(superuser)
    assert len(claimed(claim(superuser, made, later(2)))) == 3


def waiting_for_the_breaker(superuser: Database, number: int, *, limits: Limits | None = None) -> list[DeliveryId]:
    """So many deliveries that an open breaker makes wait, until 30 s after NOW and longer."""
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER, limits=limits), number + 4)
    tried(superuser, made[:4], 0, failed=True)
    assert claimed(claim(superuser, made[4:], later(1))) == []
    return made[4:]


def probe(superuser: Database, delivery_id: DeliveryId, at: float, *, failed: bool = False) -> set[DeliveryId]:
    """Whom the end of an attempt wakes that is let through to see whether the partner answers."""
    (sent,) = claimed(claim(superuser, [delivery_id], later(at)))
    state = State.FAILED if failed else State.DELIVERED
    return {woken.delivery_id for woken in record(superuser, [sent], later(at), state, failed=failed).woken}


def test_what_an_open_breaker_made_wait_goes_on_within_a_few_rounds_once_it_has_closed(superuser: Database) -> None:
    """And not 20 a second, behind whatever has been accepted since."""
    waiting = waiting_for_the_breaker(superuser, 100)
    woken, rounds, sent = probe(superuser, waiting[0], 30), 0, {waiting[0]}
    while woken:
        claims = claimed(claim(superuser, sorted(woken), later(30)))
        assert {claim.delivery_id for claim in claims} == woken
        assert sent.isdisjoint(woken)  # each is woken once
        sent |= woken
        woken = {one.delivery_id for one in record(superuser, claims, later(30)).woken}
        rounds += 1
    assert sent == set(waiting)
    assert rounds <= 7
    assert superuser.rows("SELECT catch_up_from FROM destination_flow", {}) == [{"catch_up_from": None}]


def test_those_that_were_accepted_first_go_on_first(superuser: Database) -> None:
    waiting = waiting_for_the_breaker(superuser, 6)
    assert probe(superuser, waiting[5], 30) == set(waiting[:2])


def test_a_partner_that_fails_again_is_sent_no_more(superuser: Database) -> None:
    waiting = waiting_for_the_breaker(superuser, 30)
    assert probe(superuser, waiting[0], 30, failed=True) == set()
    assert claimed(claim(superuser, waiting[1:], later(35))) == []
    woken = probe(superuser, waiting[1], 60)
    assert woken == set(waiting[2:4])
    assert probe(superuser, waiting[2], 60, failed=True) == set()
    for delivery_id in waiting[3:6]:
        probe(superuser, delivery_id, 60, failed=True)
    assert flow_of(superuser)["open_until"] == later(90)
    assert claimed(claim(superuser, waiting[6:], later(89))) == []
    assert probe(superuser, waiting[20], 90) == {waiting[6], waiting[7]}


def test_with_a_rate_each_waits_for_its_turn(superuser: Database) -> None:
    waiting = waiting_for_the_breaker(superuser, 6, limits=Limits(rate=10.0, burst=10))
    assert probe(superuser, waiting[0], 30) == set()


def test_whoever_records_again_wakes_the_same(superuser: Database) -> None:
    waiting = waiting_for_the_breaker(superuser, 6)
    (sent,) = claimed(claim(superuser, waiting[:1], later(30)))
    again = [written_twice(superuser, sent, later(30)) for _ in range(2)]
    assert again == [set(waiting[1:3])] * 2


def written_twice(superuser: Database, sent: Claim, at: datetime) -> set[DeliveryId]:
    made = replace(attempt("answered", number=1, attempt_id=7), delivery_id=sent.delivery_id)
    outcome = Record(attempt=made, lease_id=sent.lease_id, next_state=State.DELIVERED, due_at=None, failed=False)
    return {woken.delivery_id for woken in attempts.record(superuser, [outcome], now=at).woken}


def test_what_waits_for_something_else_is_passed_over(superuser: Database) -> None:
    """More of it than is read at once."""
    waiting = waiting_for_the_breaker(superuser, 8)
    superuser.connection().execute(
        """
        INSERT INTO delivery (delivery_id, tenant_id, destination_id, created_at, attempts_allowed, idempotency_key,
                              fingerprint, method, path, query, headers, metadata, due_at, attempts_made, state)
        SELECT lpad(to_hex(n), 32, '0')::uuid, tenant_id, destination_id, created_at, 10, 'k' || n, fingerprint, method,
               path, query, headers, metadata, due_at + interval '1 day', 1, 'pending'
        FROM delivery CROSS JOIN generate_series(2000, 4100) AS n
        WHERE delivery_id = %s
        """,
        [waiting[7]],
    )
    last = ids(8000)[7999]
    accept(superuser, last, now=later(2))
    assert claimed(claim(superuser, [last], later(2))) == []
    woken = [probe(superuser, delivery_id, 30) for delivery_id in waiting[:6]]
    assert woken == [set(waiting[1:3]), set(waiting[3:5]), set(waiting[5:7]), {waiting[7]}, set(), {last}]


def test_probes_are_one_at_a_time_whatever_overlaps(superuser: Database, shared_database: FreshDatabase) -> None:
    """While it is open nothing begins but one at a time, after its time."""
    breaker = CircuitBreaker(failure_ratio=0.1, window_seconds=60, minimum_attempts=1, open_seconds=1)
    made = set_up(superuser, DestinationOptions(circuit_breaker=breaker), 40)
    tried(superuser, made[:1], 0, failed=True)
    crowd = Crowd(
        url=shared_database.url, waiting=dict.fromkeys(made[1:], later(1)), fails=lambda _: True, now=later(1)
    )
    crowd.run()
    assert len(crowd.begun) == 39
    assert crowd.peak == 1
    at = [begun.at for begun in sorted(crowd.begun, key=lambda begun: begun.at)]
    assert all(second - first >= timedelta(seconds=1) for first, second in pairwise(at))


@pytest.mark.parametrize("by_delivery", [False, True])
def test_what_is_canceled_with_its_destination_leaves_no_place_and_no_line(
    superuser: Database, by_delivery: bool
) -> None:
    made = set_up(superuser, limited(concurrency=1), 3, key_of=lambda number: "k" if number == 2 else None)
    assert len(claimed(claim(superuser, made, NOW))) == 1
    waiting = "SELECT delivery_id FROM slot_waiter UNION SELECT delivery_id FROM ordering_place"
    assert {row["delivery_id"] for row in superuser.rows(waiting, {})} == set(made[1:])
    superuser.rows(
        "UPDATE destination SET deleted_at = created_at, deleted_name = name, name = destination_id::text RETURNING 1",
        {},
    )
    if by_delivery:
        assert set(deliveries.cancel_abandoned(superuser, made, now=later(90))) == set(made[1:])
    else:
        assert deliveries.cancel_waiting(superuser, PARTNER, now=later(90), limit=9) == 2
    assert superuser.rows(waiting, {}) == []


# Giving up


A_MINUTE = RetryPolicy(give_up_after=60)
HOLDS: dict[str, DestinationOptions] = {
    "destination_paused": DestinationOptions(),
    "sending_window": DestinationOptions(
        windows=(SendingWindow(days=(1,), opens="08:00", closes="09:00", time_zone="UTC"),)
    ),
    "ordering": DestinationOptions(),
    "rate_limit": limited(rate=0.001, burst=1),
    "concurrency": limited(concurrency=1),
    "circuit_breaker": DestinationOptions(circuit_breaker=replace(BREAKER, minimum_attempts=1, open_seconds=3600)),
}


@pytest.mark.parametrize("reason", HOLDS)
def test_whatever_it_waits_for_it_waits_no_longer_than_until_it_is_given_up(superuser: Database, reason: str) -> None:
    key = "k" if reason == "ordering" else None
    first, waiting = set_up(superuser, replace(HOLDS[reason], retry=A_MINUTE), 2, key_of=lambda _: key)
    if reason == "circuit_breaker":
        tried(superuser, [first], 0, failed=True)
    elif reason == "destination_paused":
        superuser.rows("UPDATE destination SET state = 'paused' RETURNING 1", {})
    else:
        claim(superuser, [first], NOW)
    (held,) = told(claim(superuser, [waiting], later(39)))
    assert held == (WaitingFor(reason), later(60.001))
    (sent,) = claimed(claim(superuser, [waiting], held[1]))
    assert sent.give_up_at == later(60)  # so it is not sent, but ends
    record(superuser, [sent], held[1], State.FAILED, failed=None)
    assert superuser.rows("SELECT FROM slot_waiter", {}) == []


# The share of the workers, for a destination that occupies them for long


def slow(superuser: Database, claims: list[Claim], *, share: int = 2, since: datetime = NOW) -> None:
    deliveries.note_slow(
        superuser,
        [claim.delivery_id for claim in claims],
        lease_id=claims[0].lease_id,
        since=since,
        share=share,
    )


def each_claimed_alone(superuser: Database, wanted: list[DeliveryId], at: float) -> list[list[Claim]]:
    return [claimed(claim(superuser, [delivery_id], later(at))) for delivery_id in wanted]


def test_slow_is_the_same_in_the_database_and_in_the_client(superuser: Database) -> None:
    assert superuser.rows("SELECT slow_after() AS it", {}) == [{"it": timedelta(seconds=SLOW_SECONDS)}]


@pytest.mark.parametrize(("workers", "share"), [(2, 1), (5, 2), (10, 4), (50, 20), (1000, 400)])
def test_one_destination_may_occupy_two_in_five_workers_for_long(workers: int, share: int) -> None:
    assert usual_share(workers) == share


def test_nothing_takes_turns_before_something_takes_long(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 9)
    assert [len(found) for found in each_claimed_alone(superuser, made, 0)] == [1] * 9
    assert flow_of(superuser)["share"] is None
    assert superuser.rows("SELECT FROM attempt_under_way", {}) == []


def test_what_takes_long_occupies_its_share_of_the_workers_and_no_more(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 9)
    (first,), (second,) = each_claimed_alone(superuser, made[:2], 0)
    slow(superuser, [first])
    assert len(claimed(claim(superuser, made[2:4], later(3)))) == 2  # one more worker, whatever it has
    assert told(claim(superuser, made[4:], later(3))) == [(WaitingFor.CONCURRENCY, later(6))] * 5
    slow(superuser, [second])  # began before anything was known, and takes long as well
    woken = record(superuser, [first], later(20), State.UNKNOWN, failed=True, took_seconds=20).woken
    assert woken == frozenset()  # two are still occupied
    woken = record(superuser, [second], later(21), State.UNKNOWN, failed=True, took_seconds=20).woken
    assert sorted(next_up.delivery_id for next_up in woken) == made[4:]
    assert [len(found) for found in each_claimed_alone(superuser, made[4:], 22)] == [1, 0, 0, 0, 0]


def test_a_destination_that_is_quick_again_has_all_workers_soon_and_leaves_nothing(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 60)
    (hung,) = claimed(claim(superuser, made[:1], NOW))
    slow(superuser, [hung])
    at = 3.0
    widths = []
    waiting = made[1:]
    while waiting:
        at += 0.1
        found = [single for batch in each_claimed_alone(superuser, waiting, at) for single in batch]
        widths.append(len(found))
        for single in found:
            record(superuser, [single], later(at))
        waiting = [delivery_id for delivery_id in waiting if delivery_id not in {made.delivery_id for made in found}]
    assert widths[0] == 1  # the second of two
    assert len(widths) < 10  # twice as many each time
    assert flow_of(superuser)["share"] is not None  # the first one still hangs
    record(superuser, [hung], later(at), State.UNKNOWN, failed=True, took_seconds=20)
    (last,) = claimed(claim(superuser, [accepted(superuser)], later(at)))
    record(superuser, [last], later(at))
    assert flow_of(superuser)["share"] is None
    assert superuser.rows("SELECT FROM attempt_under_way UNION ALL SELECT FROM slot_waiter", {}) == []


def accepted(superuser: Database) -> DeliveryId:
    new = DeliveryId(UUID(int=5000))
    accept(superuser, new)
    return new


def test_a_share_that_has_grown_is_the_usual_one_again_where_as_many_hang(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 12)
    (hung,) = claimed(claim(superuser, made[:1], NOW))
    slow(superuser, [hung])
    for quick in made[1:5]:
        record(superuser, claimed(claim(superuser, [quick], later(3))), later(3))
    assert flow_of(superuser)["share"] == 6
    claimed(claim(superuser, made[5:6], later(3)))
    assert len(claimed(claim(superuser, made[6:7], later(5.9)))) == 1
    assert claimed(claim(superuser, made[7:8], later(6.1))) == []  # by then two of them take long
    assert flow_of(superuser)["share"] == 2


def test_the_share_of_a_worker_that_crashed_is_free_when_its_lease_ends(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 3)
    for single in each_claimed_alone(superuser, made[:2], 0):
        slow(superuser, single)
    assert claimed(claim(superuser, made[2:], later(LEASE_SECONDS - 0.001))) == []
    assert len(claimed(claim(superuser, made[2:], later(LEASE_SECONDS)))) == 1


def test_a_concurrency_of_its_own_counts_instead_of_the_share(superuser: Database) -> None:
    made = set_up(superuser, limited(concurrency=3), 4)
    for single in each_claimed_alone(superuser, made[:2], 0):
        slow(superuser, single)
    assert [len(found) for found in each_claimed_alone(superuser, made[2:], 3)] == [1, 0]


def test_a_call_that_waits_is_not_held_by_the_share(superuser: Database) -> None:
    """It occupies none of the workers, and is answered while somebody waits."""
    made = set_up(superuser, DestinationOptions(), 2)
    for single in each_claimed_alone(superuser, made, 0):
        slow(superuser, single)
    assert accept(superuser, DeliveryId(UUID(int=5000)), wait_seconds=20.0).claim is not None


def test_what_has_ended_before_it_was_noted_is_not_noted(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 1)
    claims = claimed(claim(superuser, made, NOW))
    record(superuser, claims, later(2))
    slow(superuser, claims)
    assert flow_of(superuser)["share"] is None


def test_workers_that_hang_never_exceed_the_share_and_everything_is_sent(
    superuser: Database, shared_database: FreshDatabase
) -> None:
    made = set_up(superuser, DestinationOptions(), 61)
    slow(superuser, claimed(claim(superuser, made[:1], NOW)), share=2)
    crowd = Crowd(
        url=shared_database.url, waiting=dict.fromkeys(made[1:], later(3)), now=later(3), took_seconds=20, workers=5
    )
    crowd.run()
    assert {begun.delivery_id for begun in crowd.begun} >= set(made[1:])
    assert crowd.most_busy <= 2


# At once


def test_what_is_sent_at_once_takes_of_the_same_limits(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.5, burst=1, concurrency=1), 1)
    other, third = ids(3)[1:]
    sent = accept(superuser, other, wait_seconds=20.0)
    assert sent.claim is not None
    assert told(claim(superuser, made, NOW)) == [(WaitingFor.RATE_LIMIT, later(2))]
    waits = accept(superuser, third, wait_seconds=20.0)
    assert (waits.claim, waits.delivery.waiting_for) == (None, WaitingFor.RATE_LIMIT)
    assert waits.delivery.waits_until == later(4)
    record(superuser, [sent.claim], later(1))
    assert len(claimed(claim(superuser, made, later(2)))) == 1


def test_what_would_not_wait_is_neither_stored_nor_in_the_line(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.5, burst=1), 1)

    def passed(delivery_id: DeliveryId) -> Acceptance:
        return accept(superuser, delivery_id, wait_seconds=25.0, attempts_allowed=PASS_THROUGH_ATTEMPTS)

    first, second = ids(3)[1:]
    assert passed(first).claim is not None
    for _ in range(2):
        with pytest.raises(NotNow) as refused:
            passed(second)
        assert (refused.value.waiting_for, refused.value.retry_after_seconds) == ("rate_limit", 2)
    assert len(superuser.rows("SELECT FROM delivery", {})) == 2
    assert told(claim(superuser, made, NOW)) == [(WaitingFor.RATE_LIMIT, later(2))]
    # Its key came before: it gets what became of that, whatever the limits say.
    assert passed(first).delivery.delivery_id == first


def test_what_is_accepted_for_later_is_told_what_it_will_likely_wait_for(superuser: Database) -> None:
    made = set_up(superuser, limited(rate=0.5, burst=1), 3)
    claim(superuser, made, NOW)
    told_to = accept(superuser, ids(4)[3]).delivery
    assert (told_to.waiting_for, told_to.waits_until) == (WaitingFor.RATE_LIMIT, later(6))
    made = set_up(superuser, limited(concurrency=1), 1)
    claim(superuser, made, NOW)
    assert accept(superuser, ids(2)[1]).delivery.waiting_for is WaitingFor.CONCURRENCY
    made = set_up(superuser, DestinationOptions(circuit_breaker=BREAKER), 4)
    tried(superuser, made, 0, failed=True)
    told_to = accept(superuser, ids(5)[4]).delivery
    assert (told_to.waiting_for, told_to.waits_until) == (WaitingFor.CIRCUIT_BREAKER, later(30))

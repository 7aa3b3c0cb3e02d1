"""Numbers of destinations: counted once, beside other work, and never waited for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from db import tallies as table
from db.connection import Database
from domain.destinations import Guarantee
from domain.errors import NotFound
from domain.limits import CircuitBreaker, Limits
from domain.options import DestinationOptions
from domain.stats import BreakerState, Period, Tallies
from flows import tallies
from flows.accept import accept
from flows.attempt import attempt_due
from flows.deliver import deliver
from flows.tallies import Stats
from flows.tally_look import TallyLook
from runtime.settings import DatabaseSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import Gateway
from tests.support.partners import answers, answers_in_turn, takes_and_closes

type StartPartner = Callable[[Script], Partner]


def send(gateway: Gateway, **overrides: object) -> None:
    accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services)


def work(gateway: Gateway) -> None:
    attempt_due(gateway.queue.take(), services=gateway.services)


def stats(gateway: Gateway, reference: str | None = None) -> Stats:
    return tallies.stats(
        tenant_id=gateway.tenant_id, reference=reference, before=None, limit=50, services=gateway.services
    )


def numbers(gateway: Gateway, period: Period = Period.LAST_HOUR) -> Tallies:
    ((_, by_period),) = stats(gateway).destinations
    return by_period[period]


def count(gateway: Gateway, *, limit: int, database: Database | None = None) -> table.Counted:
    return table.count_attempts(
        database or gateway.services.database, step_id=uuid4(), now=gateway.clock.now, limit=limit
    )


def test_what_ended_is_counted_once_by_state_outcome_and_duration(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers_in_turn(200, 400, 200)).url())
    for _ in range(3):
        send(gateway)
        work(gateway)
    for period in Period:
        for _ in range(2):
            found = numbers(gateway, period)
            assert (dict(found.ended), dict(found.attempts)) == ({"delivered": 2, "failed": 1}, {"answered": 3})
            assert sum(found.durations.values()) == 3
    assert stats(gateway).counted_until == gateway.clock.now


def test_each_period_forgets_what_is_older(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    expected = {Period.LAST_HOUR: 1, Period.LAST_DAY: 2, Period.LAST_30_DAYS: 3}
    for wait in (timedelta(days=2), timedelta(hours=2), timedelta()):
        send(gateway)
        work(gateway)
        stats(gateway)
        gateway.clock.now += wait
    assert {period: numbers(gateway, period).ended.get("delivered") for period in Period} == expected
    gateway.clock.now += timedelta(days=40)
    send(gateway)
    work(gateway)
    assert numbers(gateway, Period.LAST_30_DAYS).ended == {"delivered": 1}
    assert len(gateway.sql("SELECT DISTINCT since, span FROM tally")) == 2  # what is too old was deleted


def test_what_is_tried_again_ends_once(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers_in_turn(503, 200)).url())
    send(gateway)
    work(gateway)
    assert numbers(gateway).ended == {}
    gateway.clock.forward(10)
    work(gateway)
    found = numbers(gateway)
    assert (found.ended, found.attempts) == ({"delivered": 1}, {"answered": 2})


def test_what_is_resolved_later_was_unknown(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(takes_and_closes).url(), guarantee=Guarantee.AT_MOST_ONCE)
    send(gateway)
    work(gateway)
    gateway.sql(
        "UPDATE delivery SET state = 'delivered', resolution = 'delivered', resolved_by = 'x', "
        "resolved_at = finished_at"
    )
    assert numbers(gateway).ended == {"unknown": 1}


def test_what_is_canceled_after_an_attempt_did_not_end_by_it(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(503)).url())
    send(gateway)
    work(gateway)
    gateway.sql("UPDATE delivery SET state = 'canceled', finished_at = created_at")
    assert (numbers(gateway).ended, numbers(gateway).attempts) == ({}, {"answered": 1})


def test_calls_that_are_passed_through_count(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    deliver(gateway.new(attempts_allowed=1), wait_seconds=20, services=gateway.services)
    assert numbers(gateway).ended == {"delivered": 1}


def test_an_attempt_waits_for_no_counter(gateway: Gateway, partner: StartPartner) -> None:
    """Whoever holds all counters locked holds up neither acceptance nor claim nor record."""
    gateway.destination(partner(answers(200)).url())
    send(gateway)
    work(gateway)
    stats(gateway)
    with psycopg.connect(gateway.database.admin_url) as other:
        other.execute("LOCK TABLE tally, tally_progress IN ACCESS EXCLUSIVE MODE")
        send(gateway)
        work(gateway)
        assert [row["state"] for row in gateway.sql("SELECT state FROM delivery")] == ["delivered"] * 2
        other.rollback()
    assert numbers(gateway).ended == {"delivered": 2}


def test_two_that_count_at_once_count_each_attempt_once(gateway: Gateway, partner: StartPartner) -> None:
    """The second one waits for the first, which has the row of the progress, and finds nothing left."""
    gateway.destination(partner(answers(200)).url())
    for _ in range(5):
        send(gateway)
    work(gateway)
    first = count(gateway, limit=3)
    assert first.until is None  # some are left
    with ExitStack() as stack, ThreadPoolExecutor() as workers:
        others = [
            stack.enter_context(closing(Database(DatabaseSettings(database_url=gateway.database.url))))
            for _ in range(2)
        ]
        with psycopg.connect(gateway.database.admin_url) as holder:
            holder.execute("SELECT FROM tally_progress FOR UPDATE")
            counted = [workers.submit(count, gateway, limit=9, database=other) for other in others]
            while len(gateway.sql("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) < len(others):
                assert not any(each.done() for each in counted)
        assert sorted(each.result().attempts for each in counted) == [0, 5 - first.attempts]
    assert numbers(gateway).ended == {"delivered": 5}


def test_a_worker_counts_every_four_minutes_and_goes_on_while_there_is_more(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.destination(partner(answers(200)).url())
    for _ in range(2):
        send(gateway)
        work(gateway)
    monkeypatch.setattr(tallies, "STEP_ATTEMPTS", 1)
    look, counted = TallyLook(), []
    for seconds in (0, 239, 1, 0, 0, 239, 1):
        gateway.clock.forward(seconds)
        look.go_on(services=gateway.services)
        counted.append(
            sum(row["count"] for row in gateway.sql("SELECT count FROM tally WHERE what = 'attempt.answered'"))
        )
    assert counted == [0, 0, 2, 4, 4, 4, 4]


def test_a_fault_in_counting_stops_nobody(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    look = TallyLook()
    look.go_on(services=gateway.services)
    gateway.clock.forward(240)
    monkeypatch.setattr(table, "count_attempts", lambda *_, **__: 1 / 0)
    look.go_on(services=gateway.services)


def test_what_waits_is_shown_with_the_oldest_and_the_circuit_breaker(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(
        partner(takes_and_closes).url(),
        guarantee=Guarantee.AT_LEAST_ONCE,
        options=DestinationOptions(
            circuit_breaker=CircuitBreaker(failure_ratio=0.1, minimum_attempts=1, open_seconds=60),
            limits=Limits(concurrency=2),
        ),
    )
    send(gateway)
    work(gateway)
    gateway.clock.forward(1)
    send(gateway)
    gateway.clock.forward(20)
    work(gateway)
    ((watched, _),) = stats(gateway).destinations
    assert watched.breaker is BreakerState.OPEN
    assert watched.unfinished.count == 2
    assert watched.unfinished.is_all
    assert watched.unfinished.oldest_created_at == gateway.sql("SELECT min(created_at) FROM delivery")[0]["min"]
    assert watched.unfinished.waiting_for == {"circuit_breaker": 2}
    gateway.clock.forward(60)
    assert stats(gateway).destinations[0][0].breaker is BreakerState.HALF_OPEN


def test_of_many_the_oldest_are_counted(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.destination("http://127.0.0.1:1")
    for _ in range(3):
        send(gateway)
    monkeypatch.setattr(table, "MOST_UNFINISHED", 3)
    ((watched, _),) = stats(gateway).destinations
    assert (watched.unfinished.count, watched.unfinished.is_all) == (3, False)


def test_a_destination_is_asked_for_by_name_or_id_and_nobody_elses(gateway: Gateway) -> None:
    made = gateway.destination("http://127.0.0.1:1")
    for reference in ("partner", str(made.destination_id)):
        assert [one.name for one, _ in stats(gateway, reference).destinations] == ["partner"]
    with pytest.raises(NotFound):
        stats(gateway, "nobody")
    gateway.sql("INSERT INTO tenant VALUES ('00000000-0000-0000-0000-000000000001', 'other', now())")
    gateway.sql("UPDATE destination SET tenant_id = '00000000-0000-0000-0000-000000000001'")
    assert stats(gateway).destinations == []


def test_a_percentile_is_at_most_a_fifth_too_long() -> None:
    tallies_of = Tallies.of({"ms.0": 50, "ms.10": 49, "ms.60": 1})
    assert tallies_of.percentile_ms(0.5) == 1.2
    assert tallies_of.percentile_ms(0.95) == pytest.approx(1.2**11, abs=0.1)
    assert tallies_of.percentile_ms(1) == pytest.approx(1.2**61, abs=0.1)
    assert Tallies.of({}).percentile_ms(0.5) is None

"""What ends early is recorded while others of its batch are still on their way."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from db import deliveries
from db.connection import Connection, Database
from domain.deliveries import Claim
from domain.destinations import Timeouts
from domain.errors import DatabaseUnavailable
from domain.limits import Limits
from domain.options import DestinationOptions
from domain.outcomes import Exchange, Unreachable
from domain.wakeups import Wakeup
from egress.client import EarlyResults
from flows import attempt
from flows.accept import accept
from flows.attempt import attempt_due, make_attempts
from flows.early_recording import EarlyRecorder
from flows.judge import JudgedAttempt
from flows.settle import BatchMessage, settle
from runtime.settings import DatabaseSettings
from tests.egress.servers import Line, Partner, Script
from tests.support.gateway import Gateway, statements
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

LONG = Timeouts(connect_seconds=25, first_byte_seconds=25, total_seconds=25)
LEASE = timedelta(seconds=55)
PATIENCE_SECONDS = 20.0  # of a partner who waits for something; less than it has


def answers_once(happened: Callable[[], bool]) -> Script:
    """Answers 200 when that has happened, and 500 where it does not."""

    def script(line: Line) -> None:
        line.read_request()
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not happened() and time.monotonic() < give_up_at:
            time.sleep(0.05)
        line.send(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\n\r\n" % (200 if happened() else 500))

    return script


def states(gateway: Gateway) -> dict[str, str]:
    return {row["path"]: row["state"] for row in gateway.sql("SELECT path, state FROM delivery")}


def batch(gateway: Gateway, fast: Partner, slow: Partner) -> list[Wakeup]:
    """Two deliveries to the one and one to the other."""
    gateway.destination(fast.url(), name="fast")
    gateway.destination(slow.url(), name="slow", timeouts=LONG)
    for destination, path in (("fast", "/1"), ("slow", "/2"), ("fast", "/3")):
        accept(gateway.new(destination=destination, path=path), wait_seconds=None, services=gateway.services)
    return gateway.queue.take()


def test_answers_are_recorded_while_a_slow_partner_is_still_waited_for(gateway: Gateway, partner: StartPartner) -> None:
    def others_are_recorded() -> bool:
        return list(states(gateway).values()).count("delivered") == 2

    wakeups = batch(gateway, partner(answers(200)), partner(answers_once(others_are_recorded)))
    with statements(gateway) as counted:
        assert attempt_due(wakeups, services=gateway.services) == frozenset()
    assert states(gateway) == {"/1": "delivered", "/2": "delivered", "/3": "delivered"}
    assert [attempt["status"] for attempt in gateway.attempts()] == [200, 200, 200]
    assert len(counted) == 3
    assert gateway.queue.wakeups() == []


def test_retries_of_what_ended_early_are_queued_once_and_before_the_slow_one_ends(
    gateway: Gateway, partner: StartPartner
) -> None:
    wakeups = batch(gateway, partner(answers(503)), partner(answers_once(lambda: len(gateway.queue.wakeups()) == 2)))
    attempt_due(wakeups, services=gateway.services)
    assert gateway.queue.delays() == [5, 5]
    assert states(gateway) == {"/1": "pending", "/2": "delivered", "/3": "pending"}


def noted(gateway: Gateway) -> list[str]:
    return [row["path"] for row in gateway.sql("SELECT path FROM attempt_under_way JOIN delivery USING (delivery_id)")]


def test_what_takes_long_is_noted_by_one_more_statement_and_is_gone_when_it_has_ended(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers_once(lambda: noted(gateway) == ["/slow"])).url(), name="slow", timeouts=LONG)
    accept(gateway.new(destination="slow", path="/slow"), wait_seconds=None, services=gateway.services)
    with statements(gateway) as counted:
        assert attempt_due(gateway.queue.take(), services=gateway.services) == frozenset()
    assert states(gateway) == {"/slow": "delivered"}
    assert len(counted) == 3
    assert noted(gateway) == []


def test_a_batch_in_which_some_end_early_and_others_take_long_costs_four_statements_and_no_more(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual moments are 1 s and 3 s after the start."""
    monkeypatch.setattr(attempt, "EarlyResults", partial(EarlyResults, half_after_seconds=0.1, slow_after_seconds=0.3))

    def others_are_recorded_and_it_is_noted() -> bool:
        return list(states(gateway).values()).count("delivered") == 2 and noted(gateway) == ["/2"]

    wakeups = batch(gateway, partner(answers(200)), partner(answers_once(others_are_recorded_and_it_is_noted)))
    with statements(gateway) as counted:
        assert attempt_due(wakeups, services=gateway.services) == frozenset()
    assert set(states(gateway).values()) == {"delivered"}
    assert len(counted) == 4  # claim, what ended early, the note, what is left


def test_a_destination_with_a_concurrency_of_its_own_is_not_noted(gateway: Gateway, partner: StartPartner) -> None:
    options = DestinationOptions(limits=Limits(concurrency=3))
    gateway.destination(partner(answers(200)).url(), options=options)
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    services, now = gateway.services, gateway.clock()
    ids = [wakeup.delivery_id for wakeup in gateway.queue.take()]
    claims = [
        claim
        for claim in deliveries.claim(services.database, ids, lease=services.new_lease(now), now=now)
        if isinstance(claim, Claim)
    ]
    with statements(gateway) as counted:
        recorder = EarlyRecorder(queue_retries=lambda _: frozenset(), services=services)
        recorder.note_slow(claims, [0], started_at=now)
        recorder.end(until=now)
    assert len(counted) == 0


def test_a_database_that_does_not_answer_costs_the_note_and_nothing_else(
    gateway: Gateway, partner: StartPartner
) -> None:
    with closing(Freezes(gateway.database.url)) as database:
        gateway.destination(partner(answers_once(database.hangs.is_set)).url(), timeouts=LONG)
        accept(gateway.new(), wait_seconds=None, services=gateway.services)
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=database))
    assert set(states(gateway).values()) == {"delivered"}
    assert gateway.queue.wakeups() == []


class Freezes(Database):
    """Claims; the next statement hangs until somebody cuts the connection."""

    def __init__(self, url: str) -> None:
        super().__init__(DatabaseSettings(database_url=url))
        self.asked = 0
        self.hangs = threading.Event()
        self.thawed = threading.Event()

    def connection(self) -> Connection:
        self.asked += 1
        if self.asked == 2:
            self.hangs.set()
            self.thawed.wait()
            raise DatabaseUnavailable("cut", retry_after_seconds=1)
        return super().connection()

    def cut(self) -> None:
        self.thawed.set()


def test_a_database_that_freezes_stalls_no_transfer_and_all_is_recorded_when_it_is_back(
    gateway: Gateway, partner: StartPartner
) -> None:
    with closing(Freezes(gateway.database.url)) as database:
        wakeups = batch(gateway, partner(answers(200)), partner(answers_once(database.hangs.is_set)))
        attempt_due(wakeups, services=replace(gateway.services, database=database))
    assert database.asked == 3  # claim, what ended early, the whole batch
    assert [attempt["status"] for attempt in gateway.attempts()] == [200, 200, 200]
    assert set(states(gateway).values()) == {"delivered"}
    assert gateway.queue.wakeups() == []


class Hangs(Freezes):
    """Does not even notice that its connection is cut."""

    def cut(self) -> None:
        """Nothing."""


@pytest.fixture
def hanging(gateway: Gateway) -> Iterator[Hangs]:
    database = Hangs(gateway.database.url)
    yield database
    database.thawed.set()
    database.close()


def test_a_database_that_hangs_permanently_is_left_alone_and_outcomes_travel_in_wake_ups(
    gateway: Gateway, partner: StartPartner, hanging: Hangs
) -> None:
    gateway.destination(partner(answers(200)).url())
    delivery_id = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery.delivery_id
    (wakeup,) = gateway.queue.take()
    services, now = replace(gateway.services, database=hanging), gateway.clock()
    lease = services.new_lease(now)
    claims = [
        claim for claim in deliveries.claim(hanging, [delivery_id], lease=lease, now=now) if isinstance(claim, Claim)
    ]
    recorder = EarlyRecorder(queue_retries=lambda _: frozenset(), services=services)
    recorder.begin(claims, {0: Exchange(outcome=Unreachable(reason="for this test"))}, started_at=now)
    made = [*recorder.end(until=now).values()]
    assert recorder.stuck

    assert (
        settle(
            [(BatchMessage(position=0, wakeup=wakeup), claim) for claim in made],
            also=[],
            early_recorder=recorder,
            end_at=now,
            services=services,
        )
        == frozenset()
    )
    assert hanging.asked == 2
    (carrying,) = gateway.queue.wakeups()
    assert carrying.record == made[0].record


def test_retries_that_could_not_be_queued_early_are_queued_with_the_whole_batch(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(200)).url())
    delivery_id = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery.delivery_id
    (wakeup,) = gateway.queue.take()
    services, now = gateway.services, gateway.clock()
    results = deliveries.claim(services.database, [delivery_id], lease=services.new_lease(now), now=now)
    claims = [result for result in results if isinstance(result, Claim)]

    def fails(attempts: Sequence[JudgedAttempt]) -> frozenset[int]:
        raise RuntimeError("a fault of ours, before anything is queued")

    recorder = EarlyRecorder(queue_retries=fails, services=services)
    recorder.begin(claims, {0: Exchange(outcome=Unreachable(reason="for this test"))}, started_at=now)
    judged = [*recorder.end(until=now).values()]
    settle(
        [(BatchMessage(position=0, wakeup=wakeup), attempt) for attempt in judged],
        also=[],
        early_recorder=recorder,
        end_at=now + LEASE,
        services=services,
    )
    assert [queued.delivery_id for queued in gateway.queue.wakeups()] == [delivery_id]
    assert states(gateway) == {"/orders": "pending"}


def test_a_fast_batch_begins_nothing_ahead(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    for _ in range(3):
        accept(gateway.new(), wait_seconds=None, services=gateway.services)
    ids = [wakeup.delivery_id for wakeup in gateway.queue.take()]
    found = deliveries.claim(
        gateway.services.database, ids, lease=gateway.services.new_lease(gateway.clock()), now=gateway.clock()
    )
    recorder = EarlyRecorder(queue_retries=lambda _: frozenset(), services=gateway.services)
    end_at = gateway.clock() + 2 * (gateway.services.new_lease(gateway.clock()).until - gateway.clock())
    claims = [result for result in found if isinstance(result, Claim)]
    assert len(make_attempts(claims, end_at=end_at, early_recorder=recorder, services=gateway.services)) == 3
    assert recorder.attempts == {}


def takes_its_row_away(gateway: Gateway) -> Script:
    """As a restore of the database to an earlier time does, while the request is on its way."""

    def script(line: Line) -> None:
        line.read_request()
        gateway.sql("DELETE FROM delivery WHERE path = '/2'")
        line.send(b"HTTP/1.1 200 Told\r\nContent-Length: 0\r\n\r\n")

    return script


def test_an_attempt_that_the_database_refuses_is_its_own_fault(gateway: Gateway, partner: StartPartner) -> None:
    wakeups = batch(gateway, partner(answers(200)), partner(takes_its_row_away(gateway)))
    assert attempt_due(wakeups, services=gateway.services) == frozenset()
    assert states(gateway) == {"/1": "delivered", "/3": "delivered"}
    (carrying,) = gateway.queue.wakeups()  # it may be refused for another reason than that its row is gone
    looks: list[Any] = []
    while gateway.queue.wakeups():
        gateway.clock.now = max(wakeup.due_at for wakeup in gateway.queue.wakeups())
        accept(
            gateway.new(destination="fast", path=f"/with-{len(looks)}"), wait_seconds=None, services=gateway.services
        )
        looks.append(attempt_due(gateway.queue.take(), services=gateway.services))
    assert carrying.record is not None
    assert looks == [frozenset()] * len(looks)
    assert set(states(gateway).values()) == {"delivered"}

"""What a destination that hangs costs another one, in counted turns: real flows, database, client and partners.

Time is the gateway's clock, which moves on by TURN_SECONDS. A worker that has sent something to the hanging partner
gets its end HANG_SECONDS of that clock later and until then takes nothing else, as a function of Lambda does. Messages
come to the workers in the order in which they are due: what SQS does for quiet groups could only help. What a client
says of requests that take long, it says when that clock has passed SLOW_SECONDS, at the end of a turn.

Nothing here may depend on how fast the machine is. So what the real client and the real database do by the real clock
is left out: to report early, to note as slow what a busy machine delays, and to give up a request or a statement.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from db.connection import Database
from domain.destinations import Timeouts
from domain.limits import SLOW_SECONDS, CircuitBreaker, Limits
from domain.options import PLAIN, DestinationOptions
from domain.outcomes import Exchange, Timings
from domain.wakeups import Wakeup
from egress.addresses import Guard
from egress.client import Client, EarlyResults, OutboundRequest, Sendable
from flows.accept import accept
from flows.attempt import attempt_due
from runtime.observability import metrics
from runtime.settings import DatabaseSettings
from tests.egress.servers import Line, Partner, Script
from tests.support.gateway import LOOPBACK, START, Clock, Gateway
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

WORKERS = 5  # AttemptConcurrency, as it is without a value
BATCH = 10
TURN_SECONDS = 5
TURNS_ALONE, TURNS = 10, 40
MOST_TURNS_AFTER = 200
HANGING_PER_TURN, HEALTHY_PER_TURN = 4, 2
HANG_SECONDS = Timeouts().total_seconds
assert SLOW_SECONDS <= TURN_SECONDS < HANG_SECONDS
LONG = Timeouts(connect_seconds=25, first_byte_seconds=25, total_seconds=25)
# Of the real clock, for what ends at a time of the gateway's: a turn takes a fraction of a second on an idle machine.
UNHURRIED_SECONDS = 600
UNHURRIED = Timeouts(
    connect_seconds=UNHURRIED_SECONDS, first_byte_seconds=UNHURRIED_SECONDS, total_seconds=UNHURRIED_SECONDS
)
AT_MOST = 1.2


class NotingThread(threading.Thread):
    """The thread of the recorder, which here has done its work when `start` returns. To look for new threads would find
    a partner's as well, which ends when the clock goes on."""

    def start(self) -> None:
        super().start()
        self.join()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that a busy machine delays is not given up: what it would have claimed or noted would come later."""
    monkeypatch.setattr("db.connection.TRY_SECONDS", UNHURRIED_SECONDS)
    monkeypatch.setattr("db.connection.CALL_SECONDS", UNHURRIED_SECONDS)
    monkeypatch.setattr("flows.early_recording.threading", SimpleNamespace(Thread=NotingThread))


class HangingPartner:
    """Reads a request, and closes without an answer HANG_SECONDS of the gateway's clock after it was begun."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends_at: dict[str, datetime] = {}

    def expect(self, path: str) -> None:
        """To be called before a request is sent; each has a path of its own."""
        self._ends_at[path] = self._clock() + timedelta(seconds=HANG_SECONDS)

    def script(self, line: Line) -> None:
        """What it does with a connection."""
        if request := line.read_request():
            ends_at = self._ends_at[request.split(b" ")[1].decode()]
            while self._clock() < ends_at and not line.stopping.wait(0.005):
                pass


class WatchedClient(Client):
    """The real client; says to the hanging partner, and to the worker, what is about to be sent there."""

    def __init__(self, partner: HangingPartner) -> None:
        super().__init__(Guard(allowed_private_cidrs=LOOPBACK, allowed_ports=range(1, 65536)))
        self.hangs = False
        self.progress = threading.Event()  # everything was noted that must be before time goes on
        self._note_slow: Callable[[], None] = lambda: None
        self._partner = partner

    def send_all(self, requests: Sequence[Sendable], *, early: EarlyResults | None = None) -> list[Exchange]:
        unhurried = [
            replace(request, timeouts=UNHURRIED) for request in requests if isinstance(request, OutboundRequest)
        ]
        assert len(unhurried) == len(requests)
        paths = [urlsplit(request.url).path for request in unhurried]
        hanging = [position for position, path in enumerate(paths) if path.startswith("/hanging")]
        for position in hanging:
            self._partner.expect(paths[position])
            self.hangs = True
        if early is not None and early.note_slow is not None and hanging:
            self._note_slow = partial(early.note_slow, hanging)
        if self.hangs:
            self.progress.set()
        exchanges = super().send_all(unhurried)
        hung = Timings(total_ms=HANG_SECONDS * 1000)
        return [
            replace(exchange, timings=hung) if position in hanging else exchange
            for position, exchange in enumerate(exchanges)
        ]

    def note_slow(self) -> None:
        """As it does after SLOW_SECONDS of its own clock; once for each batch."""
        note_slow, self._note_slow = self._note_slow, lambda: None
        note_slow()


class Worker:
    """One environment of the attempt function: one batch at a time, with a connection and a client of its own."""

    def __init__(self, gateway: Gateway, partner: HangingPartner, threads: ThreadPoolExecutor) -> None:
        self._clock = gateway.clock
        self._threads = threads
        self._client = WatchedClient(partner)
        self._database = Database(DatabaseSettings(database_url=gateway.database.url))
        self._services = replace(gateway.services, client=self._client, database=self._database)
        self._batch: Future[frozenset[int]] | None = None
        self._until = gateway.clock()

    def is_free(self) -> bool:
        """Whether it can take a batch. A batch that hung is over by its end, and is waited for."""
        if self._batch is not None and self._clock() >= self._until:
            assert self._batch.result(timeout=UNHURRIED_SECONDS) == frozenset()
            self._batch = None
        return self._batch is None

    def take(self, wakeups: Sequence[Wakeup]) -> None:
        """Returns when the batch has ended, or is on its way to the partner that hangs."""
        self._client.hangs = False
        progress = self._client.progress = threading.Event()
        self._batch = self._threads.submit(attempt_due, wakeups, services=self._services)
        self._batch.add_done_callback(lambda _: progress.set())
        assert progress.wait(timeout=UNHURRIED_SECONDS)
        self._until = self._clock() + timedelta(seconds=HANG_SECONDS if self._client.hangs else 0)

    def note_slow(self) -> None:
        """Returns when what hangs has been noted."""
        if self._batch is not None and self._clock() < self._until:
            self._client.note_slow()

    def close(self) -> None:
        """After the last turn."""
        self._client.close()
        self._database.close()


@dataclass(frozen=True, kw_only=True)
class Periods:
    """When the destination that hangs came, and when its breaker first was open; None where it never was."""

    beside_since: datetime
    opened_at: datetime | None


class Stack:
    """WORKERS workers, and what waits for one of them."""

    def __init__(self, gateway: Gateway, workers: Sequence[Worker]) -> None:
        self._gateway = gateway
        self._workers = workers
        self._waiting: list[Wakeup] = []

    def turn(self, number: int, *, hanging: int) -> None:
        """What arrives in one turn, each handled at once where a worker is free; then time goes on."""
        self._work()
        arrivals = ["hanging"] * hanging + ["healthy"] * HEALTHY_PER_TURN
        for position, name in enumerate(arrivals):
            new = self._gateway.new(destination=name, path=f"/{name}/{number}-{position}")
            accept(new, wait_seconds=None, services=self._gateway.services)
            self._work()
        self._pass_time()

    def end(self) -> None:
        """Nothing more arrives: until nothing hangs, and all that is healthy has been sent."""
        for _ in range(MOST_TURNS_AFTER):
            if len(self._free()) == len(self._workers) and not has_unfinished(self._gateway, "healthy"):
                return
            self._work()
            self._pass_time()
        raise AssertionError("it never ends")

    def _pass_time(self) -> None:
        """No batch is left behind: those that end at the new time have been recorded when this returns. A clock that
        went on before would take their seconds for recording away from them."""
        metrics.clear_metrics()  # as the end of an invocation does
        self._gateway.clock.forward(TURN_SECONDS)
        self._free()
        for worker in self._workers:
            worker.note_slow()

    def _free(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.is_free()]

    def _work(self) -> None:
        while (free := self._free()) and (batch := self._batch()):
            free[0].take(batch)

    def _batch(self) -> list[Wakeup]:
        self._waiting = sorted([*self._waiting, *self._gateway.queue.take()], key=lambda wakeup: wakeup.due_at)
        batch = [wakeup for wakeup in self._waiting[:BATCH] if wakeup.due_at <= self._gateway.clock()]
        self._waiting = self._waiting[len(batch) :]
        return batch


def live_through(gateway: Gateway, partner: StartPartner, options: DestinationOptions) -> Periods:
    """A healthy destination alone, and then beside one that hangs and has these options."""
    hanging = HangingPartner(gateway.clock)
    gateway.destination(partner(answers(200)).url(), name="healthy")
    gateway.destination(partner(hanging.script).url(), name="hanging", timeouts=LONG, options=options)
    opened_at = None
    with ExitStack() as closers, ThreadPoolExecutor(WORKERS) as threads:
        workers = [closers.enter_context(closing(Worker(gateway, hanging, threads))) for _ in range(WORKERS)]
        stack = Stack(gateway, workers)
        for number in range(TURNS_ALONE):
            stack.turn(number, hanging=0)
        beside_since = gateway.clock()
        for number in range(TURNS_ALONE, TURNS_ALONE + TURNS):
            stack.turn(number, hanging=HANGING_PER_TURN)
            opened_at = opened_at or (gateway.clock() if is_open(gateway) else None)
        stack.end()
    return Periods(beside_since=beside_since, opened_at=opened_at)


def has_unfinished(gateway: Gateway, name: str) -> bool:
    """Whether the outcome of a delivery to that destination is not recorded."""
    return bool(
        gateway.sql(
            """
            SELECT delivery_id FROM delivery JOIN destination USING (destination_id)
            WHERE destination.name = %s AND delivery.state IN ('pending', 'sending')
            """,
            name,
        )
    )


def is_open(gateway: Gateway) -> bool:
    """Whether the circuit breaker lets nothing through."""
    return bool(gateway.sql("SELECT open_until::text FROM destination_flow WHERE open_until IS NOT NULL"))


def turns_waited(gateway: Gateway, *, since: datetime = START, until: datetime | None = None) -> list[int]:
    """Of each healthy delivery accepted in that time: in which turn its attempt began, 1 for that of its acceptance."""
    rows = gateway.sql(
        """
        SELECT delivery.created_at, attempt.started_at
        FROM delivery JOIN destination USING (destination_id) JOIN attempt USING (delivery_id)
        WHERE destination.name = 'healthy'
        """
    )
    assert len(rows) == HEALTHY_PER_TURN * (TURNS_ALONE + TURNS)
    return [
        1 + (row["started_at"] - row["created_at"]) // timedelta(seconds=TURN_SECONDS)
        for row in rows
        if since <= row["created_at"] < (until or gateway.clock())
    ]


def p95(counts: Sequence[int]) -> int:
    """The least count that 95 of 100 do not exceed."""
    return sorted(counts)[math.ceil(len(counts) * 0.95) - 1]


def raised(gateway: Gateway, periods: Periods, *, since: datetime) -> float:
    """The p95 of the healthy destination `since` then, relative to that without a neighbour."""
    return p95(turns_waited(gateway, since=since)) / p95(turns_waited(gateway, until=periods.beside_since))


def test_a_destination_that_hangs_within_its_concurrency_never_makes_another_wait(
    gateway: Gateway, partner: StartPartner
) -> None:
    periods = live_through(gateway, partner, DestinationOptions(limits=Limits(concurrency=2)))
    assert raised(gateway, periods, since=periods.beside_since) <= AT_MOST


def test_by_default_a_destination_that_hangs_never_makes_another_wait(gateway: Gateway, partner: StartPartner) -> None:
    periods = live_through(gateway, partner, PLAIN)
    assert raised(gateway, periods, since=periods.beside_since) <= AT_MOST


def test_nor_does_one_whose_breaker_is_turned_off(gateway: Gateway, partner: StartPartner) -> None:
    periods = live_through(gateway, partner, DestinationOptions(circuit_breaker=CircuitBreaker(enabled=False)))
    assert periods.opened_at is None
    assert raised(gateway, periods, since=periods.beside_since) <= AT_MOST


def test_without_a_share_others_wait_so_the_count_can_show_it(gateway: Gateway, partner: StartPartner) -> None:
    """With as much concurrency as there are workers: the tenant's own choice, which counts instead."""
    options = DestinationOptions(limits=Limits(concurrency=50), circuit_breaker=CircuitBreaker(enabled=False))
    periods = live_through(gateway, partner, options)
    assert raised(gateway, periods, since=periods.beside_since) > AT_MOST

"""Workers that claim and record at the same time, on connections of their own, by a clock that they share."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from db import attempts, deliveries
from db.connection import Database
from db.deliveries import Lease
from domain.deliveries import (
    ASYNC_ATTEMPTS,
    Claim,
    ClaimResult,
    Finished,
    NewDelivery,
    NotDue,
    Record,
    State,
    WaitingFor,
)
from domain.ids import DeliveryId, LeaseId
from domain.options import DestinationOptions
from domain.outcomes import Timings
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import EMPTY, NOW, TENANCY, TENANT, attempt, both, destination, stores

LEASE_SECONDS = 40
MANY_LOOKS = 20_000


def ids(number: int) -> list[DeliveryId]:
    """So many, in the order of their acceptance."""
    return [DeliveryId(UUID(int=1000 + position)) for position in range(number)]


def set_up(
    superuser: Database,
    options: DestinationOptions,
    number: int,
    *,
    key_of: Callable[[int], str | None] = lambda _: None,
) -> list[DeliveryId]:
    """A destination with `options`, and so many deliveries to it that are due; their ids."""
    superuser.connection().execute(EMPTY)
    both(*TENANCY, stores(replace(destination(), options=options)))(superuser)
    made = ids(number)
    for position, delivery_id in enumerate(made):
        accept(superuser, delivery_id, ordering_key=key_of(position))
    return made


def accept(
    database: Database,
    delivery_id: DeliveryId,
    *,
    now: datetime = NOW,
    wait_seconds: float | None = None,
    ordering_key: str | None = None,
    attempts_allowed: int = ASYNC_ATTEMPTS,
) -> deliveries.Acceptance:
    new = NewDelivery(
        tenant_id=TENANT,
        destination="partner",
        method="POST",
        path="/x",
        ordering_key=ordering_key,
        attempts_allowed=attempts_allowed,
    )
    found = deliveries.accept(
        database,
        new,
        delivery_id=delivery_id,
        fingerprint=b"f" * 32,
        now=now,
        lease=None if wait_seconds is None else a_lease(now),
        wait_seconds=wait_seconds,
    )
    assert found is not None
    return found


def a_lease(now: datetime) -> Lease:
    return Lease(lease_id=LeaseId(uuid4()), until=now + timedelta(seconds=LEASE_SECONDS))


def claim(database: Database, wanted: Sequence[DeliveryId], now: datetime) -> list[ClaimResult]:
    return deliveries.claim(database, wanted, lease=a_lease(now), now=now)


def record(
    database: Database,
    claims: Sequence[Claim],
    now: datetime,
    state: State = State.DELIVERED,
    *,
    failed: bool | None = False,
    took_seconds: float = 0.1,
) -> attempts.Written:
    records = [
        Record(
            attempt=replace(
                attempt("unknown" if claim.lapsed else "answered", number=claim.attempts_made, attempt_id=uuid4().int),
                delivery_id=claim.delivery_id,
                timings=Timings(total_ms=took_seconds * 1000),
            ),
            lease_id=claim.lease_id,
            next_state=state,
            due_at=now if state is State.PENDING else None,
            failed=None if claim.lapsed else failed,
        )
        for claim in claims
    ]
    return attempts.record(database, records, now=now)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An attempt: when it was claimed, and until when it lasts at most."""

    delivery_id: DeliveryId
    at: datetime
    order: int


@dataclass(kw_only=True)
class Crowd:
    """Workers at one destination, until nothing is left.

    `peak` is how many attempts were in progress at once at most: from before the claim returned to the worker until
    after it began to record; `most_busy` how many workers had any. `fails` says how an attempt ends.
    """

    url: str
    waiting: dict[DeliveryId, datetime]
    workers: int = 6
    step_seconds: float = 0.05
    crash: float = 0.0
    fails: Callable[[random.Random], bool] = lambda _: False
    retries: float = 0.0
    took_seconds: float = 0.1
    begun: list[Begun] = field(default_factory=list)
    ended: dict[DeliveryId, int] = field(default_factory=dict)
    looks: dict[DeliveryId, int] = field(default_factory=dict)
    waits: list[WaitingFor | None] = field(default_factory=list)
    in_flight: dict[DeliveryId, datetime] = field(default_factory=dict)
    peak: int = 0
    batches: int = 0
    most_busy: int = 0
    now: datetime = NOW
    events: int = 0
    busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        threads = [threading.Thread(target=self._work, args=(random.Random(seed),)) for seed in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, chance: random.Random) -> None:
        with closing(Database(DatabaseSettings(database_url=self.url))) as database:
            while (taken := self._take(chance)) is not None:
                now, wanted = taken
                if wanted:
                    self._attempt(database, wanted, now, chance)
                    with self._lock:
                        self.busy -= 1
                else:
                    time.sleep(0.0005)  # for the others to go on

    def _tick(self, chance: random.Random) -> datetime:
        self.now += timedelta(seconds=chance.random() * self.step_seconds)
        return self.now

    def _take(self, chance: random.Random) -> tuple[datetime, list[DeliveryId]] | None:
        with self._lock:
            now = self._tick(chance)
            due = sorted(delivery_id for delivery_id, at in self.waiting.items() if at <= now)
            if not due and not self.busy and self.waiting:
                self.now = min(self.waiting.values())  # nothing happens until then
            wanted = chance.sample(due, min(len(due), chance.randint(1, 10)))
            for delivery_id in wanted:
                del self.waiting[delivery_id]
                self.looks[delivery_id] = self.looks.get(delivery_id, 0) + 1
            self.busy += bool(wanted)
            assert sum(self.looks.values()) < MANY_LOOKS, "it does not come to an end"
            return (now, wanted) if self.waiting or self.busy else None

    def _attempt(self, database: Database, wanted: list[DeliveryId], now: datetime, chance: random.Random) -> None:
        claims = []
        for result in claim(database, wanted, now):
            with self._lock:
                if isinstance(result, Claim):
                    claims.append(result)
                    self.events += 1
                    if not result.lapsed:
                        self.in_flight[result.delivery_id] = now + timedelta(seconds=LEASE_SECONDS)
                        self.begun.append(Begun(delivery_id=result.delivery_id, at=now, order=self.events))
                elif isinstance(result, NotDue):
                    self.waiting[result.delivery_id] = result.at
                    self.waits.append(result.waiting_for)
                else:
                    assert isinstance(result, Finished)
        with self._lock:
            self.peak = max(self.peak, sum(until > self.now for until in self.in_flight.values()))
            self.batches += bool(claims)
            self.most_busy = max(self.most_busy, self.batches)
        time.sleep(chance.random() * 0.002)
        if chance.random() < self.crash:
            with self._lock:
                self.waiting |= {made.delivery_id: now + timedelta(seconds=LEASE_SECONDS) for made in claims}
            return
        with self._lock:
            self.batches -= bool(claims)  # before the last of them is recorded
        for made in claims:
            self._end(database, made, chance)

    def _end(self, database: Database, made: Claim, chance: random.Random) -> None:
        with self._lock:
            now = self._tick(chance)
            self.events += 1
            self.ended[made.delivery_id] = self.events
            self.in_flight.pop(made.delivery_id, None)
        again = chance.random() < self.retries
        failed = self.fails(chance)
        state = State.PENDING if again else State.FAILED if failed else State.DELIVERED
        written = record(database, [made], now, state, failed=failed, took_seconds=self.took_seconds)
        with self._lock:
            for woken in written.woken:
                self.waiting[woken.delivery_id] = min(now, self.waiting.get(woken.delivery_id, now))
            if again:
                self.waiting[made.delivery_id] = now

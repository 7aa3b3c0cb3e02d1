"""`make reconcile-proof`: unknown deliveries of all kinds, a bank that misbehaves, and its books to judge by.

The flows and PostgreSQL are the real ones; time is virtual. Deliveries get lost, late and ambiguous answers, and their
workers stop. The bank acts late, or only when it is asked, its records lag, it answers with whatever a bad day has, and
it is wholly away for hours. In the end each verdict is compared with what the bank did.
"""

import argparse
import heapq
import json
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID

import psycopg
from psycopg import sql

from db import destinations
from db.connection import Database
from db.migrations import migrate
from domain.auth import AuthType
from domain.deliveries import PASS_THROUGH_ATTEMPTS, NewDelivery
from domain.destinations import Destination, Guarantee, Timeouts
from domain.errors import NotNow
from domain.ids import DestinationId, TenantId
from domain.limits import Limits
from domain.options import DestinationOptions
from domain.outcomes import Answered, Exchange, Outcome, Timings, Unknown, Unreachable
from domain.reconcile import AnswerRule, Condition, OnAbsent, Reconcile
from domain.wakeups import Wakeup
from egress.addresses import Guard
from egress.client import Client, OutboundRequest
from flows.accept import accept
from flows.attempt import attempt_due
from flows.deliver import deliver
from flows.services import Services
from local.postgres import Postgres
from runtime import observability
from runtime.observability import metrics
from runtime.settings import DatabaseSettings
from simulator import numbers
from simulator.functions import SEAL_KEYS
from simulator.mutants import PermanentMutant, mistaken
from simulator.world import EPOCH
from wakeups.sqs import WakeupQueue

FAILED = 1
DELIVERIES = 10_000
BANKS = 10
BATCH = 10
MOST_BATCHES = 40  # for each delivery: eleven are usual
LEAST_APART_SECONDS = 15.0  # of an outage's questions to one bank, on average
ABSENT_AFTER_SECONDS = 600.0
MOST_LATE_SECONDS = 300.0  # a bank acts so late at most, or so long after it was asked
MOST_LAG_SECONDS = 200.0  # and its records show it so much later
BACK_WITHIN_SECONDS = 900.0
NEEDED_SHARE = 0.99
VISIBILITY_SECONDS = 270.0
LEASE_SECONDS = 55
OUTAGES_SECONDS = (0.0, 3_600.0, 18_000.0, 64_800.0)
BEGIN_WITHIN_SECONDS = 1_200.0
TENANT = TenantId(UUID(int=0xA1))


def _rule(status: int, **wanted: object) -> AnswerRule:
    return AnswerRule(
        status=status, where=tuple(Condition(pointer=f"/{name}", values=(value,)) for name, value in wanted.items())
    )


RECONCILE = Reconcile(
    path="/payments/{idempotency_key}",
    received=(_rule(200, key="{idempotency_key}", state="executed"),),
    rejected=(_rule(200, key="{idempotency_key}", state="rejected"),),
    absent=(
        _rule(404, code="payment_not_found"),
        AnswerRule(
            status=200,
            where=(Condition(pointer="/payments", values=([],)), Condition(pointer="/next", values=(None,))),
        ),
    ),
    absent_after=ABSENT_AFTER_SECONDS,
    after=(30.0, *[120.0] * 19),
)
# Guarantee and what is done about absence, by bank in turn.
KINDS = (
    (Guarantee.AUTO, None),
    (Guarantee.AT_MOST_ONCE, OnAbsent.AGAIN),
    (Guarantee.AT_MOST_ONCE, None),
    (Guarantee.AUTO, OnAbsent.FAILED),
)
SENDS = (
    "does it, and the reply is lost",
    "does it, and answers too late",
    "does it later",
    "does it when it is asked",
    "gets nothing",
    "rejects it, and the reply is lost",
    "errs, done",
    "errs, nothing done",
    "the worker stops before it sends",
    "the worker stops after it sent",
)
ODD = (
    "nothing",
    "unreachable",
    "503 with its words",
    "a redirect with its words",
    "401 with its words",
    "HTML",
    "404 in HTML",
    "an empty body",
    "cut off",
    "too long",
    "said twice",
    "another key",
    "a page of several",
    "another word",
    "429",
)


class WorkerStops(BaseException):
    """The process of a worker ends here."""


@dataclass(slots=True, kw_only=True)
class AccountedKey:
    """What the bank's books have of one key: `acts_at` are virtual seconds, `ready` that it acts once it is asked."""

    acts_at: list[float] = field(default_factory=list)
    rejected_at: float | None = None
    lag_seconds: float = 0.0
    ready: bool = False
    sends: int = 0
    asked: list[float] = field(default_factory=list)


class Books:
    """The banks: one for each destination, with its hours of absence. `now` returns virtual seconds."""

    def __init__(self, chance: random.Random, now: Callable[[], float], away: Mapping[str, float]) -> None:
        self.entries: dict[tuple[str, str], AccountedKey] = {}
        self.kinds: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.stopped: set[str] = set()
        self._chance = chance
        self._now = now
        self._away = away

    def is_away(self, bank: str) -> bool:
        """Whether it answers nothing at all now."""
        return BEGIN_WITHIN_SECONDS / 2 < self._now() < self._away[bank]

    def send_all(self, requests: Sequence[OutboundRequest], *, early: object = None) -> list[Exchange]:
        """As egress.client.Client.send_all."""
        del early
        outcomes = [self._outcome(request) for request in requests]
        if self.stopped:
            self.stopped.clear()
            raise WorkerStops
        return [
            Exchange(outcome=outcome, timings=Timings(total_ms=50.0), remote_address="203.0.113.50")
            for outcome in outcomes
        ]

    def close(self) -> None:
        """Nothing is open."""

    def _outcome(self, request: OutboundRequest) -> Outcome:
        bank = str(UUID(request.owner))
        if request.method == "GET":
            return self._answer(bank, request.url.rpartition("/")[2])
        key = next(value for name, value in request.headers if name == "Idempotency-Key")
        return self._sent(bank, key)

    # ---- Payments

    def _sent(self, bank: str, key: str) -> Outcome:
        entry = self.entries.setdefault(
            (bank, key), AccountedKey(lag_seconds=self._chance.uniform(0, MOST_LAG_SECONDS))
        )
        entry.sends += 1
        if entry.sends > 1 and self._chance.random() < 0.7:
            self._act(entry, 0.0)
            return Answered(status=201, body=b"{}")
        kind = self._chance.choice(SENDS)
        self.kinds[kind] += 1
        return self._troubled(kind, entry, key)

    def _troubled(self, kind: str, entry: AccountedKey, key: str) -> Outcome:
        late = self._chance.uniform(1, MOST_LATE_SECONDS)
        if kind in ("does it, and the reply is lost", "does it, and answers too late", "errs, done"):
            self._act(entry, 0.0)
        if kind == "the worker stops after it sent":
            self._act(entry, 0.0)
        if kind == "does it later":
            self._act(entry, late)
        entry.ready = entry.ready or kind == "does it when it is asked"
        if kind == "rejects it, and the reply is lost" and not entry.acts_at:
            entry.rejected_at = self._now()
        if kind.startswith("the worker stops"):
            self.stopped.add(key)
        if kind.startswith("errs"):
            return Answered(status=504, body=b"{}")
        return Unknown(reason="no answer in time")

    def _act(self, entry: AccountedKey, after_seconds: float) -> None:
        """Once for each key."""
        if not entry.acts_at and entry.rejected_at is None:
            entry.acts_at.append(self._now() + after_seconds)

    # ---- Questions

    def _answer(self, bank: str, key: str) -> Outcome:
        entry = self.entries.setdefault((bank, key), AccountedKey())
        if self.is_away(bank):
            self.odd["wholly away"] += 1
            return self._odd(self._chance.choice(ODD[:10]), key)
        entry.asked.append(self._now())
        if entry.ready:
            entry.ready = False
            self._act(entry, self._chance.uniform(1, 100))
        if self._chance.random() < 0.02:
            self.stopped.add(key)
        if self._chance.random() < 0.2:
            odd = self._chance.choice(ODD)
            self.odd[odd] += 1
            return self._odd(odd, key)
        return self._said(entry, key)

    def _said(self, entry: AccountedKey, key: str) -> Outcome:
        now = self._now()
        if any(at + entry.lag_seconds <= now for at in entry.acts_at):
            return _json(200, {"key": key, "state": "executed"})
        if entry.rejected_at is not None and entry.rejected_at + entry.lag_seconds <= now:
            return _json(200, {"key": key, "state": "rejected"})
        if self._chance.random() < 0.3:
            return _json(200, {"payments": [], "next": None})
        return _json(404, {"code": "payment_not_found"})

    def _odd(self, kind: str, key: str) -> Outcome:
        words = {"code": "payment_not_found"}
        answers: dict[str, Outcome] = {
            "nothing": Unknown(reason="no answer in time"),
            "unreachable": Unreachable(reason="no connection"),
            "503 with its words": _json(503, words),
            "a redirect with its words": _json(302, words),
            "401 with its words": _json(401, words),
            "HTML": Answered(status=200, body=b"<html>executed</html>"),
            "404 in HTML": Answered(status=404, body=b"<html>payment_not_found</html>"),
            "an empty body": Answered(status=404),
            "cut off": Answered(status=404, body=json.dumps(words).encode(), complete=False),
            "too long": Answered(status=404, body=_TOO_LONG),
            "said twice": Answered(status=404, body=b'{"code": "payment_not_found", "code": "internal"}'),
            "another key": _json(200, {"key": f"not-{key}", "state": "executed"}),
            "a page of several": _json(200, {"payments": [], "next": "/payments?after=20"}),
            "another word": _json(404, {"code": "no_such_route"}),
            "429": Answered(status=429, headers=(("Retry-After", "60"),), body=json.dumps(words).encode()),
        }
        return answers[kind]


_TOO_LONG = json.dumps({"code": "payment_not_found", "more": "x" * 1_100_000}).encode()


def _json(status: int, content: object) -> Answered:
    return Answered(status=status, body=json.dumps(content).encode())


class Messages:
    """The queue: what was sent comes when it is due, sometimes twice."""

    def __init__(self, chance: random.Random, now: Callable[[], datetime]) -> None:
        self._heap: list[tuple[datetime, int, Wakeup]] = []
        self._numbers = count()
        self._chance = chance
        self._now = now

    def send(self, wakeups: Sequence[Wakeup], *, now: datetime) -> None:
        """As wakeups.sqs.WakeupQueue.send."""
        del now
        for wakeup in wakeups:
            for _ in range(2 if self._chance.random() < 0.01 else 1):
                self.put(max(wakeup.due_at, self._now()), wakeup)

    def send_some(self, wakeups: Sequence[Wakeup], *, now: datetime) -> list[int]:
        """As wakeups.sqs.WakeupQueue.send_some."""
        self.send(wakeups, now=now)
        return []

    def put(self, at: datetime, wakeup: Wakeup) -> None:
        """For that moment."""
        heapq.heappush(self._heap, (at, next(self._numbers), wakeup))

    @property
    def next_at(self) -> datetime | None:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else None

    def take(self) -> list[Wakeup]:
        """Up to a batch of those that are due."""
        taken: list[Wakeup] = []
        while self._heap and self._heap[0][0] <= self._now() and len(taken) < BATCH:
            taken.append(heapq.heappop(self._heap)[2])
        return taken


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """What came out: how many deliveries were ever unknown, which verdicts were wrong, and when each was settled."""

    unknown: int = 0
    settled: int = 0
    in_time: int = 0
    wrong: list[str] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)

    @property
    def share_in_time(self) -> float:
        """Of those that were unknown."""
        return self.in_time / max(1, self.unknown)


class ReconcileProof:
    """One run over a database of its own, whose URL is `url`."""

    def __init__(self, url: str, *, deliveries: int, seed: int, outages_seconds: Sequence[float]) -> None:
        self._chance = random.Random(seed)
        self._clock = EPOCH
        self._count = deliveries
        self._ids = [DestinationId(UUID(int=0xB0 + number)) for number in range(BANKS)]
        away = {
            str(bank): BEGIN_WITHIN_SECONDS + outages_seconds[number % len(outages_seconds)]
            for number, bank in enumerate(self._ids)
        }
        self._away = away
        self.books = Books(self._chance, self._seconds, away)
        self._queue = Messages(self._chance, lambda: self._clock)
        self._batches = 0
        self._most_batches = MOST_BATCHES * deliveries + sum(away.values()) / LEAST_APART_SECONDS
        self._database = Database(DatabaseSettings(database_url=url))
        self._services = self._made_services()

    def run(self) -> Verdicts:
        """Everything, until nothing is left to be done."""
        with closing(self._database):
            self._create_banks()
            starts = sorted(self._chance.uniform(0, BEGIN_WITHIN_SECONDS) for _ in range(self._count))
            for number, at in enumerate(starts):
                self._work(until=EPOCH + timedelta(seconds=at))
                self._begin(number)
            self._work(until=None)
            return self._judged()

    # ---- What happens

    def _begin(self, number: int) -> None:
        bank = self._ids[number % BANKS]
        mode = self._chance.choice(("later", "wait", "through"))
        new = NewDelivery(
            tenant_id=TENANT,
            destination=str(bank),
            method="POST",
            path="/payments",
            body=b"{}",
            idempotency_key=f"payment-{number}",
            attempts_allowed=PASS_THROUGH_ATTEMPTS if mode == "through" else 10,
        )
        try:
            if mode == "later":
                accept(new, wait_seconds=None, services=self._services)
            else:
                deliver(new, wait_seconds=25.0, services=self._services)
        except (WorkerStops, NotNow):
            return

    def _work(self, *, until: datetime | None) -> None:
        while (at := self._queue.next_at) is not None and (until is None or at <= until):
            self._batches += 1
            if self._batches > self._most_batches:
                return
            self._clock = max(self._clock, at)
            batch = self._queue.take()
            try:
                attempt_due(batch, services=self._services)
            except WorkerStops:
                for wakeup in batch:
                    self._queue.put(self._clock + timedelta(seconds=VISIBILITY_SECONDS), wakeup)
            metrics.clear_metrics()
        self._clock = max(self._clock, until or self._clock)

    def _seconds(self) -> float:
        return (self._clock - EPOCH).total_seconds()

    # ---- What came of it

    def _judged(self) -> Verdicts:
        found = Verdicts(kinds=self.books.kinds, odd=self.books.odd)
        rows = self._database.connection().execute(
            b"SELECT destination_id, idempotency_key, state, resolution, resolved_by, resolved_at, finished_at, "
            b"attempts_made, (SELECT count(*) FROM attempt WHERE attempt.delivery_id = delivery.delivery_id AND "
            b"kind = 'send') AS logged, (SELECT min(started_at) FROM attempt WHERE "
            b"attempt.delivery_id = delivery.delivery_id AND kind = 'reconcile' AND number > coalesce(("
            b"SELECT max(number) FROM attempt AS sent WHERE sent.delivery_id = delivery.delivery_id "
            b"AND sent.kind = 'send' AND sent.started_at < delivery.resolved_at), 0)) AS asked_at FROM delivery"
        )
        for row in rows.fetchall():
            self._judge(row, found)
        if self._queue.next_at is not None:
            found.wrong.append(f"after {self._batches:,} batches of messages it goes on")
        return found

    def _judge(self, row: Mapping[str, Any], found: Verdicts) -> None:
        entry = self.books.entries.get((str(row["destination_id"]), row["idempotency_key"]), AccountedKey())
        name, acted = row["idempotency_key"], bool(entry.acts_at)
        if row["attempts_made"] < entry.sends or row["logged"] != row["attempts_made"]:
            found.wrong.append(
                f"{name}: {entry.sends} were sent, {row['attempts_made']} counted, {row['logged']} logged"
            )
        if row["asked_at"] is None:
            return
        found.unknown += 1
        found.by[str(row["resolution"] or row["state"])] += 1
        if row["state"] == "delivered" and not acted:
            found.wrong.append(f"{name} is delivered, and the bank did nothing")
        if row["state"] == "failed" and acted:
            found.wrong.append(f"{name} is failed, and the bank did it")
        if row["resolution"] is None:
            return
        found.settled += 1
        began = (row["asked_at"] - EPOCH).total_seconds()
        back_at = max(self._away[str(row["destination_id"])], began + ABSENT_AFTER_SECONDS)
        seconds = (row["resolved_at"] - EPOCH).total_seconds()
        found.in_time += seconds <= back_at + BACK_WITHIN_SECONDS

    # ---- What there is

    def _made_services(self) -> Services:
        numbers_made = count()
        return Services(
            database=self._database,
            queue=cast(WakeupQueue, self._queue),
            client=cast(Client, self.books),
            guard=Guard(),
            load_seal_keys=lambda: SEAL_KEYS,
            egress_addresses=(),
            own_zone=lambda: None,
            lease_seconds=LEASE_SECONDS,
            clock=lambda: self._clock,
            chance=self._chance.random,
            randomness=lambda length: next(numbers_made).to_bytes(length),
            sleep=lambda _: None,
        )

    def _create_banks(self) -> None:
        for number, bank in enumerate(self._ids):
            guarantee, on_absent = KINDS[number % len(KINDS)]
            limits = Limits(rate=20.0, burst=40) if number == BANKS - 1 else None
            options = DestinationOptions(reconcile=replace(RECONCILE, on_absent=on_absent), limits=limits)
            destinations.insert(
                self._database,
                Destination(
                    destination_id=bank,
                    tenant_id=TENANT,
                    name=f"bank-{number}",
                    base_url="http://bank.example",
                    auth_type=AuthType.NONE,
                    sealed_credentials=None,
                    guarantee=guarantee,
                    idempotent=False,
                    idempotency_header="Idempotency-Key",
                    timeouts=Timeouts(connect_seconds=2.0, first_byte_seconds=15.0, total_seconds=20.0),
                    created_at=EPOCH,
                    options=options,
                ),
            )


_QUESTIONS = "domain.questions"
_MUTANTS = (
    PermanentMutant(
        name="absent without a rule's words",
        function=f"{_QUESTIONS}:_holds",
        edits=(("return all(", "return rule.status == 404 or all("),),
    ),
    PermanentMutant(
        name="absent before absent_after",
        function=f"{_QUESTIONS}:_absence_counts_from",
        edits=(("return max(", "return now if question else max("),),
    ),
    PermanentMutant(
        name="again with another key",
        function="flows.prepare:_headers",
        edits=(
            (
                "claim.idempotency_key),)",
                'claim.idempotency_key + "-2" * (claim.attempts_made > 1)),)',
            ),
        ),
    ),
    PermanentMutant(
        name="a question counts as a send",
        function="flows.judge:_attempt",
        edits=(("AttemptKind.SEND if claim.question is None else AttemptKind.RECONCILE", "AttemptKind.SEND"),),
    ),
    PermanentMutant(
        name="an outage resolves in bulk",
        function=f"{_QUESTIONS}:verdict_on",
        edits=(
            (
                "        case Meaning.SILENT if not",
                "        case Meaning.SILENT:\n            return Failed()\n        case Meaning.SILENT if not",
            ),
        ),
    ),
)
MUTANTS: Mapping[str, PermanentMutant] = {mutant.name: mutant for mutant in _MUTANTS}


def prove(
    url: str,
    *,
    deliveries: int,
    seed: int,
    mutant: str | None = None,
    outages_seconds: Sequence[float] = OUTAGES_SECONDS,
) -> Verdicts:
    """Runs it in an empty, migrated database that belongs to whoever `url` names."""
    logger = logging.getLogger(observability.logger.name)
    with mistaken(None if mutant is None else MUTANTS[mutant]), patch.object(logger, "disabled", True):
        return ReconcileProof(url, deliveries=deliveries, seed=seed, outages_seconds=outages_seconds).run()


def faults(verdicts: Verdicts) -> list[str]:
    """What breaks the promise."""
    late = []
    if verdicts.share_in_time < NEEDED_SHARE:
        late = [f"only {verdicts.share_in_time:.2%} were settled in time"]
    return [*verdicts.wrong, *late]


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of a migrated database with a tenant, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="sallyport-reconcile-"))
    server = Postgres(directory, durable=False)
    try:
        server.start()
        server.make_database("reconciled")
        prepare(server.url(database="reconciled"))
        yield server.url(database="reconciled")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def prepare(url: str) -> None:
    """Migrates it, and adds the tenant. Each statement is planned once, as in simulator/setting.py."""
    with psycopg.connect(url, autocommit=True) as owner:
        migrate(owner)
        name = sql.Identifier(owner.info.dbname)
        owner.execute(sql.SQL("ALTER DATABASE {} SET plan_cache_mode = force_generic_plan").format(name))
        owner.execute("INSERT INTO tenant (tenant_id, name, created_at) VALUES (%s, 'acme', %s)", (TENANT, EPOCH))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when no verdict was wrong and enough were settled in time."""
    parser = argparse.ArgumentParser(prog="simulator.reconciling", description=__doc__)
    parser.add_argument("--n", type=numbers.count, default=DELIVERIES, help="how many unknown deliveries at least")
    parser.add_argument("--seed", type=numbers.seed, default=1, help="of what goes wrong")
    parser.add_argument("--mutant", choices=list(MUTANTS), metavar="NAME", help="with this mistake in the code")
    asked = parser.parse_args(arguments)
    with fresh_database() as url:
        verdicts = prove(url, deliveries=round(asked.n * 1.02), seed=asked.seed, mutant=asked.mutant)
    for line in report(verdicts):
        print(line)
    return FAILED if faults(verdicts) else 0


def report(verdicts: Verdicts) -> Iterator[str]:
    """What the command prints."""
    yield f"reconcile: wrong verdicts {len(verdicts.wrong)} of {verdicts.unknown:,}"
    yield (
        f"reconcile: {verdicts.share_in_time:.2%} settled within 15 minutes after the partner answered again, "
        "or after absent_after"
    )
    for title, counts in (("settled as", verdicts.by), ("sent", verdicts.kinds), ("asked", verdicts.odd)):
        yield f"reconcile: {title}: " + ", ".join(f"{name} {number:,}" for name, number in counts.most_common())
    for text in verdicts.wrong[:10]:
        yield f"reconcile: wrong: {text}"


if __name__ == "__main__":
    sys.exit(main())

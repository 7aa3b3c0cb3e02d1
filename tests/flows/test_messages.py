"""How many messages a delivery has over a day on a model of SQS, whose sends fail and whose messages come back."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from db.connection import Connection, Database
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from flows.accept import accept
from flows.attempt import attempt_due
from runtime.settings import DatabaseSettings, QueueSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import START, Clock, Gateway
from tests.support.partners import answers
from wakeups.sqs import WakeupQueue, decode

type StartPartner = Callable[[Script], Partner]

VISIBILITY_SECONDS = 270  # template.yaml
BATCH = 10
DAY = timedelta(days=1)


@dataclass(kw_only=True)
class Message:
    """One in the queue, delayed or received or neither."""

    body: str
    visible_at: datetime


@dataclass(kw_only=True)
class Faults:
    """Every so many calls fail; 0 for never."""

    whole_send: int = 0
    one_entry: int = 0
    taken_but_not_told: int = 0
    database: int = 0
    worker_dies: int = 0


@dataclass(kw_only=True)
class Turns:
    """Counts, so that a fault comes at the same places in each run."""

    counts: Counter[str] = field(default_factory=Counter)

    def is_turn(self, name: str, *, every: int) -> bool:
        """Whether this is one of those that fail."""
        self.counts[name] += 1
        return bool(every) and self.counts[name] % every == 0


class ModelQueue(WakeupQueue):
    """Sends as the real one does, to a list; what SQS promises about delays and visibility, on the tests' clock."""

    def __init__(self, clock: Clock, faults: Faults, turns: Turns) -> None:
        super().__init__(QueueSettings(wakeup_queue_url="http://model/q", sqs_endpoint_url="http://model"))
        self.messages: list[Message] = []
        self._clock = clock
        self._faults = faults
        self._turns = turns

    def _refused(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        turns, faults = self._turns, self._faults
        if turns.is_turn("send", every=faults.whole_send):
            raise QueueUnavailable("SQS: timed out", retry_after_seconds=5)
        refused = [entry for entry in entries if turns.is_turn("entry", every=faults.one_entry)]
        for entry in entries:
            if entry not in refused:
                visible_at = self._clock() + timedelta(seconds=int(entry["DelaySeconds"]))
                self.messages.append(Message(body=str(entry["MessageBody"]), visible_at=visible_at))
        if turns.is_turn("told", every=faults.taken_but_not_told):
            raise QueueUnavailable("SQS: timed out", retry_after_seconds=5)
        return refused

    def received(self) -> list[Message]:
        """The next batch; time goes on to when there is one."""
        self._clock.now = max(self._clock(), min(message.visible_at for message in self.messages))
        found = [message for message in self.messages if message.visible_at <= self._clock()][:BATCH]
        for message in found:
            message.visible_at = self._clock() + timedelta(seconds=VISIBILITY_SECONDS)
        return found

    def of_each(self) -> Counter[DeliveryId]:
        """How many messages each delivery has."""
        return Counter(decode(message.body).delivery_id for message in self.messages)


class FailingDatabase(Database):
    """The real one, which cannot be reached every so often."""

    def __init__(self, url: str, faults: Faults, turns: Turns) -> None:
        super().__init__(DatabaseSettings(database_url=url))
        self._faults = faults
        self._turns = turns

    def connection(self) -> Connection:
        if self._turns.is_turn("database", every=self._faults.database):
            self.close()
            raise DatabaseUnavailable("gone", retry_after_seconds=1)
        return super().connection()


@dataclass(kw_only=True)
class Model:
    """A gateway whose queue and database fail now and then."""

    gateway: Gateway
    queue: ModelQueue
    faults: Faults
    turns: Turns

    def work(self, until: datetime) -> Iterator[None]:
        """One batch after the other; yields after each."""
        while self.queue.messages and self.gateway.clock() < until:
            batch = self.queue.received()
            self._attempt(batch)
            yield

    def _attempt(self, batch: list[Message]) -> None:
        try:
            back = attempt_due([decode(message.body) for message in batch], services=self.gateway.services)
        except QueueUnavailable:
            return
        if not self.turns.is_turn("worker", every=self.faults.worker_dies):
            gone = [message for place, message in enumerate(batch) if place not in back]
            self.queue.messages = [message for message in self.queue.messages if message not in gone]


@pytest.fixture
def model(gateway: Gateway) -> Iterator[Model]:
    faults, turns = Faults(), Turns()
    queue = ModelQueue(gateway.clock, faults, turns)
    database = FailingDatabase(gateway.database.url, faults, turns)
    real = gateway.services
    gateway.services = replace(real, queue=queue, database=database)
    yield Model(gateway=gateway, queue=queue, faults=faults, turns=turns)
    database.close()
    gateway.services = real


def fill(model: Model, partner: StartPartner) -> set[DeliveryId]:
    """Deliveries that are due, and such as are not for a day; a partner who never takes one."""
    model.gateway.destination(partner(answers(503)).url())
    later = [START + DAY * days for days in (0, 0, 0, 2, 2, 2)]
    made = [
        accept(model.gateway.new(not_before=at), wait_seconds=None, services=model.gateway.services) for at in later
    ]
    return {claim.delivery.delivery_id for claim in made}


@pytest.mark.parametrize(
    ("fault", "every", "most"),
    [
        ("one_entry", 2, 2),
        ("whole_send", 2, 2),
        ("database", 3, 2),
    ],
)
def test_over_a_day_of_failing_batches_a_delivery_has_few_messages_and_never_none(
    model: Model, partner: StartPartner, fault: str, every: int, most: int
) -> None:
    deliveries = fill(model, partner)
    setattr(model.faults, fault, every)
    batches = 0
    for _ in model.work(until=START + DAY):
        batches += 1
        counts = model.queue.of_each()
        assert set(counts) == deliveries
        assert max(counts.values()) <= most
    assert batches > 90  # a hop of fifteen minutes each, at least


def test_messages_that_came_twice_hop_on_as_one(model: Model, partner: StartPartner) -> None:
    """Workers that die before their batch is acknowledged, and sends that SQS took without our hearing of it."""
    deliveries = fill(model, partner)
    model.faults.worker_dies = 5
    model.faults.taken_but_not_told = 7
    for _ in model.work(until=START + DAY):
        assert set(model.queue.of_each()) == deliveries
    assert model.turns.counts["worker"] > 90
    assert max(model.queue.of_each().values()) <= 3


def test_early_messages_of_one_delivery_become_the_first_one(gateway: Gateway) -> None:
    delivery_id = DeliveryId(gateway.services.new_id(START))
    early = [
        Wakeup(delivery_id=delivery_id, due_at=START + timedelta(minutes=minutes), group="g")
        for minutes in (50, 40, 60)
    ]
    assert attempt_due(early, services=gateway.services) == frozenset()
    assert gateway.queue.wakeups() == [early[1]]
    assert json.loads(gateway.queue.messages[0].body)["misses"] == 0

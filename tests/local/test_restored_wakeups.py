"""The wake-ups of the last run: each is sent once it is due, and many cost no more apiece than few."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from local.restored_wakeups import MAX_WAITING, RestoredWakeups
from local.sqs import Queue, SqsFault, SqsServer
from local.template import QueueTemplate
from wakeups.sqs import encode

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Counting(Queue):
    """A queue that counts what is asked of it."""

    calls: Counter[str]
    most_waiting = 0

    def waiting(self) -> int:
        found = super().waiting()
        self.most_waiting = max(self.most_waiting, found)
        return found

    def _call(self, action: str, content: Mapping[str, Any]) -> dict[str, Any]:
        self.calls[action] += 1
        return super()._call(action, content)


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Counting]:
    server = SqsServer()
    server.start()
    template = QueueTemplate(
        logical_id=f"again-{abs(hash(request.node.nodeid))}",
        visibility_timeout_seconds=600,
        retention_seconds=600,
        dead_letter_queue=None,
        max_receives=0,
    )
    made = server.create_queues({"again": template})["again"]
    counting = Counting(endpoint_url=server.endpoint_url, url=made.url, name=made.name)
    counting.calls = Counter()
    yield counting
    server.stop()


def wakeups(count: int, *, isolated: timedelta = timedelta()) -> list[Wakeup]:
    return [
        Wakeup(delivery_id=DeliveryId(UUID(int=number)), due_at=NOW + number * isolated, group="t:d")
        for number in range(count)
    ]


def received(queue: Queue) -> list[str]:
    """All that waits, taken out."""
    found = []
    while messages := queue.receive(10, wait_seconds=0):
        queue.delete(messages)
        found += [message["Body"] for message in messages]
    return found


@pytest.mark.parametrize("count", [100, 600])
def test_each_costs_the_same_however_many_there_are(queue: Counting, count: int) -> None:
    again = RestoredWakeups(wakeups(count), queue=queue)
    found = []
    while again:
        again.feed(now=NOW)
        found += received(queue)
    assert sorted(found) == sorted(encode(wakeup) for wakeup in wakeups(count))
    assert queue.calls["SendMessageBatch"] == count / 10
    assert queue.calls["GetQueueAttributes"] <= count / 10 + count / MAX_WAITING
    assert queue.most_waiting <= MAX_WAITING


def test_those_that_are_not_due_cost_nothing_and_go_in_their_turn(queue: Counting) -> None:
    listed = wakeups(25, isolated=timedelta(hours=1))
    again = RestoredWakeups(reversed(listed), queue=queue)
    again.feed(now=NOW - timedelta(seconds=1))
    assert queue.calls == {}
    again.feed(now=NOW + timedelta(hours=11))
    assert received(queue) == [encode(wakeup) for wakeup in listed[:12]]
    assert len(again) == 13


def test_one_that_the_queue_did_not_take_is_kept(queue: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    again = RestoredWakeups(wakeups(1), queue=queue)
    with monkeypatch.context() as broken:
        broken.setattr(queue, "_call", lambda *_: {"Attributes": {"ApproximateNumberOfMessages": "0"}, "Failed": ["x"]})
        with pytest.raises(SqsFault):
            again.feed(now=NOW)
    assert len(again) == 1
    again.feed(now=NOW)
    assert received(queue) == [encode(wakeup) for wakeup in wakeups(1)]


def test_it_sends_by_itself_and_says_when_it_cannot_go_on(queue: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    again = RestoredWakeups(wakeups(20), queue=queue)
    again.start()
    again._thread.join(90)
    assert (len(again), again.is_healthy(), len(received(queue))) == (0, True, 20)
    broken = RestoredWakeups(wakeups(1), queue=queue)
    monkeypatch.setattr(broken, "feed", lambda: None)  # nobody foresaw that it would be called with a word
    broken.start()
    broken._thread.join(90)
    assert not broken.is_healthy()

"""A queue with thousands of messages: every call walks through few of them."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from moto.backends import get_backend
from moto.sqs import models

from local.bounded_queue import VISIBLE_AT_MOST, BoundedQueue
from local.functions import REGION
from local.sqs import Queue, SqsServer
from local.template import QueueTemplate

ACCOUNT = "123456789012"  # moto's
LATER = 900
_NUMBERS = count()

type Send = Callable[[list[str], int], None]


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    server = SqsServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def queue(server: SqsServer) -> Queue:
    template = QueueTemplate(
        logical_id=f"bounded{next(_NUMBERS)}",
        visibility_timeout_seconds=600,
        retention_seconds=600,
        dead_letter_queue=None,
        max_receives=0,
    )
    return server.create_queues({"bounded": template})["bounded"]


@pytest.fixture
def inner(queue: Queue) -> BoundedQueue:
    found = get_backend("sqs")[ACCOUNT][REGION].queues[queue.name]
    assert isinstance(found, BoundedQueue)
    return found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that moto, or we, look at a message."""
    seen: list[str] = []
    for name in ("visible", "delayed"):
        kept: property = getattr(models.Message, name)

        def look(message: models.Message, kept: property = kept) -> object:
            seen.append(message.id)
            return kept.__get__(message)

        monkeypatch.setattr(models.Message, name, property(look))
    return seen


def add(inner: BoundedQueue, bodies: list[str], *, delay_seconds: int = 0) -> None:
    """Without the API: it is the calls after it that are counted."""
    for body in bodies:
        message = models.Message(f"{inner.name}-{body}", body)
        message.mark_sent(delay_seconds)
        inner.add_message(message)


def one_round(queue: Queue) -> list[str]:
    """What an event source and the functions ask of a queue: a message sent, ten received and deleted."""
    queue.send("again", group="g", delay_seconds=LATER)
    received = queue.receive(10, wait_seconds=1)
    queue.delete(received)
    assert queue.count() > 0
    return [message["Body"] for message in received]


@pytest.mark.parametrize("delay_seconds", [0, LATER])
def test_a_call_looks_at_as_few_messages_of_thousands_as_of_hundreds(
    queue: Queue, inner: BoundedQueue, looks: list[str], delay_seconds: int
) -> None:
    rounds = []
    for more in (10 * VISIBLE_AT_MOST, 40 * VISIBLE_AT_MOST):
        add(inner, [f"{delay_seconds}-{more}-{number}" for number in range(more)], delay_seconds=delay_seconds)
        if delay_seconds:
            add(inner, [f"now-{more}"])
        queue.count()  # what is due is moved once, whenever that is
        looks.clear()
        assert one_round(queue)
        rounds.append(len(looks))
    assert rounds[1] <= rounds[0] + 2 * 10  # the ten that the first round deleted were looked at in that one


def test_none_is_lost_or_comes_twice_and_they_come_in_order(queue: Queue, inner: BoundedQueue) -> None:
    bodies = [str(number) for number in range(3 * VISIBLE_AT_MOST + 5)]
    add(inner, bodies)
    assert (queue.waiting(), queue.count()) == (len(bodies), len(bodies))
    received: list[str] = []
    while messages := queue.receive(10, wait_seconds=0):
        assert len(inner._messages) <= VISIBLE_AT_MOST + len(received) + len(messages)
        received += [message["Body"] for message in messages]
    assert received == bodies
    assert (queue.waiting(), queue.count()) == (0, len(bodies))  # in flight


def test_one_that_is_due_sooner_comes_first(queue: Queue, inner: BoundedQueue) -> None:
    add(inner, ["later"], delay_seconds=LATER)
    add(inner, ["second"], delay_seconds=2)
    add(inner, ["first"], delay_seconds=1)
    received = [queue.receive(1, wait_seconds=20)[0]["Body"] for _ in range(2)]
    assert received == ["first", "second"]
    assert [message.body for message in inner.every_message if not message.approximate_receive_count] == ["later"]


def test_a_purge_empties_all_of_it(queue: Queue, inner: BoundedQueue) -> None:
    add(inner, [str(number) for number in range(2 * VISIBLE_AT_MOST)])
    add(inner, ["later"], delay_seconds=LATER)
    queue.receive(10, wait_seconds=0)
    queue._call("PurgeQueue", {})
    assert queue.count() == 0
    assert inner.every_message == []

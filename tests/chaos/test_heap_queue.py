"""The queue of `make faults` does what SQS does with a standard queue."""

import asyncio
import json
import random

from faults.heap_queue import HeapQueue, QueueEndpoint
from faults.wire import WireRequest

ENTRY = {"Id": "0", "MessageBody": "a", "MessageGroupId": "g", "DelaySeconds": 0}


def queue(*, visibility_seconds: float = 100, most_receives: int = 5) -> HeapQueue:
    return HeapQueue("wakeups", visibility_seconds=visibility_seconds, most_receives=most_receives)


def bodies(of: HeapQueue, count: int = 10) -> list[str]:
    return [message["Body"] for message in of.receive(count, wait_seconds=0)]


def test_a_message_is_received_once_and_not_while_it_is_in_flight() -> None:
    wakeups = queue()
    wakeups.send("a", group="g")
    assert (bodies(wakeups), bodies(wakeups), wakeups.count()) == (["a"], [], 1)


def test_a_message_that_is_deleted_does_not_come_back() -> None:
    wakeups = queue(visibility_seconds=0)
    wakeups.send("a", group="g")
    wakeups.delete(wakeups.receive(1, wait_seconds=0))
    assert (bodies(wakeups), wakeups.count()) == ([], 0)


def test_a_message_that_is_not_deleted_comes_back_and_dies_after_too_many_receives() -> None:
    wakeups = queue(visibility_seconds=0, most_receives=2)
    wakeups.send("a", group="g")
    assert [bodies(wakeups, 1) for _ in range(3)] == [["a"], ["a"], []]
    assert [message.body for message in wakeups.dead] == ["a"]
    assert wakeups.count() == 0


def test_a_delayed_message_waits_and_a_receiver_waits_for_it() -> None:
    wakeups = queue()
    wakeups.send("later", group="g", delay_seconds=0.05)
    wakeups.send("much later", group="g", delay_seconds=1000)
    assert bodies(wakeups) == []
    assert [message["Body"] for message in wakeups.receive(10, wait_seconds=60)] == ["later"]


def test_what_is_shown_now_is_received_again_with_its_new_body() -> None:
    wakeups = queue()
    wakeups.send("a", group="g")
    assert bodies(wakeups) == ["a"]
    wakeups.show_now(wakeups.held(), lambda message: f"{message.body} again")
    assert (bodies(wakeups), wakeups.most_received()) == (["a again"], 2)


def send(endpoint: QueueEndpoint) -> int | None:
    body = json.dumps({"Entries": [ENTRY]}).encode()
    answered = asyncio.run(endpoint.answer(WireRequest(path="/", headers={}, body=body)))
    return None if answered is None else answered.status


def test_the_way_to_the_queue_can_be_cut_before_and_behind_it() -> None:
    wakeups = queue()
    endpoint = QueueEndpoint(wakeups, random.Random(1))
    endpoint.away = True
    assert (send(endpoint), wakeups.count()) == (503, 0)
    endpoint.calm()
    endpoint.lose = 1.0
    assert (send(endpoint), wakeups.count()) == (None, 1)  # taken, and not answered
    endpoint.calm()
    assert (send(endpoint), wakeups.count(), endpoint.recent) == (200, 2, ["a", "a"])

"""A queue that behaves as SQS's standard queues do, in this process: delays, visibility, receive counts, dead letters.

moto's server, which `make run` uses, takes a core for fifty deliveries a second; this one is a heap. Functions send to
it over HTTP, by SendMessageBatch, the only call of SQS that they make. That way can be disturbed.
"""

import asyncio
import heapq
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from faults.wire import WireRequest, WireResponse

type Changed = str | None  # a body in the place of the message's own, None where it stays


@dataclass(slots=True, kw_only=True)
class HeldMessage:
    """A message that was not deleted. `visible_at` (monotonic) is when it can be received (again)."""

    message_id: str
    body: str
    group: str
    visible_at: float
    receives: int = 0


class HeapQueue:
    """Safe to use from many threads. After `most_receives` a message is dead: it is moved to `dead`."""

    def __init__(self, name: str, *, visibility_seconds: float, most_receives: int) -> None:
        self.name = name
        self.dead: list[HeldMessage] = []
        self._visibility_seconds = visibility_seconds
        self._most_receives = most_receives
        self._messages: dict[str, HeldMessage] = {}
        self._heap: list[tuple[float, int, str]] = []  # when which message is visible; may be outdated
        self._arrivals = count()
        self._changed = threading.Condition()

    @property
    def arn(self) -> str:
        """Of no account."""
        return f"arn:aws:sqs:us-east-1:000000000000:{self.name}"

    def send(self, body: str, *, group: str, delay_seconds: float = 0) -> None:
        """One more message."""
        with self._changed:
            message = HeldMessage(
                message_id=str(uuid.uuid4()), body=body, group=group, visible_at=time.monotonic() + delay_seconds
            )
            self._messages[message.message_id] = message
            self._push(message)
            self._changed.notify()

    def receive(self, count: int, *, wait_seconds: int) -> list[dict[str, Any]]:
        """Up to `count` messages, as ReceiveMessage has them."""
        give_up_at = time.monotonic() + wait_seconds
        with self._changed:
            while not (visible := self._visible(count)) and (left := give_up_at - time.monotonic()) > 0:
                next_at = self._heap[0][0] if self._heap else give_up_at
                self._changed.wait(max(0.001, min(left, next_at - time.monotonic())))
            return [self._received(message) for message in visible]

    def delete(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Whatever was received of these."""
        with self._changed:
            for message in messages:
                self._messages.pop(message["ReceiptHandle"], None)

    def count(self) -> int:
        """Messages that were not deleted."""
        return len(self._messages)

    def held(self) -> list[HeldMessage]:
        """All of them, as they are now."""
        with self._changed:
            return list(self._messages.values())

    def most_received(self) -> int:
        """How often the message that was received most often has been received."""
        with self._changed:
            return max((message.receives for message in self._messages.values()), default=0)

    def show_now(self, messages: Iterable[HeldMessage], changed: Callable[[HeldMessage], Changed]) -> None:
        """Makes messages visible at once."""
        with self._changed:
            for message in messages:
                message.body = changed(message) or message.body
                message.visible_at = time.monotonic()
                self._push(message)
            self._changed.notify_all()

    def _push(self, message: HeldMessage) -> None:
        heapq.heappush(self._heap, (message.visible_at, next(self._arrivals), message.message_id))

    def _visible(self, count: int) -> list[HeldMessage]:
        now = time.monotonic()
        taken: list[HeldMessage] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < count:
            visible_at, _, message_id = heapq.heappop(self._heap)
            message = self._messages.get(message_id)
            if message is None or message.visible_at != visible_at:
                continue
            if message.receives >= self._most_receives:
                self.dead.append(self._messages.pop(message_id))
                continue
            message.receives += 1
            message.visible_at = now + self._visibility_seconds
            self._push(message)
            taken.append(message)
        return taken

    @staticmethod
    def _received(message: HeldMessage) -> dict[str, Any]:
        attributes = {"ApproximateReceiveCount": str(message.receives), "MessageGroupId": message.group}
        return {
            "MessageId": message.message_id,
            "ReceiptHandle": message.message_id,
            "Body": message.body,
            "Attributes": attributes,
        }


class QueueEndpoint:
    """Answers SendMessageBatch for a queue; remembers the last wake-ups that came.

    While `hold_seconds` is set, each call waits that long at most before and after the queue takes it. While `lose` is
    set, the share of calls that it says are taken and not answered. While `away`, all are answered 503 and not taken.
    """

    def __init__(self, queue: HeapQueue, randomness: random.Random) -> None:
        self.hold_seconds = 0.0
        self.lose = 0.0
        self.away = False
        self.recent: list[str] = []
        self._queue = queue
        self._random = randomness

    def calm(self) -> None:
        """Take everything at once."""
        self.hold_seconds, self.lose, self.away = 0.0, 0.0, False

    async def answer(self, request: WireRequest) -> WireResponse | None:
        """None where the answer gets lost."""
        if self.away:
            return WireResponse(status=503, body=b'{"__type": "ServiceUnavailable"}')
        await self._held()
        lost = self._random.random() < self.lose
        taken = [self._take(entry) for entry in json.loads(request.body)["Entries"]]
        await self._held()
        return None if lost else WireResponse(status=200, body=json.dumps({"Successful": taken}).encode())

    async def _held(self) -> None:
        if self.hold_seconds:
            await asyncio.sleep(self._random.random() * self.hold_seconds)

    def _take(self, entry: Mapping[str, Any]) -> dict[str, str]:
        self._queue.send(entry["MessageBody"], group=entry["MessageGroupId"], delay_seconds=entry["DelaySeconds"])
        self.recent.append(entry["MessageBody"])
        if len(self.recent) > 4000:
            del self.recent[:2000]
        return {"Id": entry["Id"], "MessageId": str(uuid.uuid4())}

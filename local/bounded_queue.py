"""moto's queue, with most of its messages kept out of moto's sight.

moto walks through a queue's whole list of messages at every call, several times over. Here that list holds the messages
that were received and not deleted, and few others: a delayed message waits beside it until its time has come, and then
until there is room. So a call costs the same however many messages wait. The record is
docs/adr/0025-late-wakeups-on-one-machine.md.
"""

import heapq
from collections import deque
from itertools import count
from typing import Any

from moto.core.utils import unix_time_millis
from moto.sqs import models

VISIBLE_AT_MOST = 20  # in moto's list; a receiver takes ten at a time
_SHORTEST_WAIT_SECONDS = 0.01


class BoundedQueue(models.Queue):
    """A standard queue; nothing here deduplicates, as a FIFO queue does."""

    def __init__(self, name: str, region: str, account_id: str, **attributes: Any) -> None:
        self._delayed: list[tuple[float, int, models.Message]] = []  # a heap, by the moment in Unix milliseconds
        self._due: deque[models.Message] = deque()
        self._arrivals = count()
        super().__init__(name, region, account_id, **attributes)

    def add_message(self, message: models.Message) -> None:
        """Whatever its delay: moto's list gets it when a call looks for messages and finds room."""
        with self._messages_lock:
            heapq.heappush(self._delayed, (message.delayed_until, next(self._arrivals), message))
            self._messages_lock.notify_all()

    def delete_message(self, receipt_handle: str) -> None:
        """moto replaces its list when it deletes a message: one that came in that moment would be lost, and with it a
        delivery."""
        with self._messages_lock:
            super().delete_message(receipt_handle)

    @property
    def messages(self) -> list[models.Message]:
        """Those that a receiver can get now, VISIBLE_AT_MOST at most."""
        with self._messages_lock:
            self._admit()
        return super().messages

    @property
    def every_message(self) -> list[models.Message]:
        """Those in flight, those that wait and those that are delayed. Walks through all of them."""
        with self._messages_lock:
            return [*self._messages, *self._due, *(message for *_, message in self._delayed)]

    def delays_changed(self) -> None:
        """To be called by whoever has changed `delayed_until` of messages of `every_message`."""
        with self._messages_lock:
            self._delayed = [(message.delayed_until, arrival, message) for _, arrival, message in self._delayed]
            heapq.heapify(self._delayed)

    def wait_for_messages(self, timeout: float) -> None:
        """Until there is a message to receive, but no longer than `timeout` seconds."""
        with self._messages_lock:
            self._messages_lock.wait_for(lambda: self.messages, timeout=min(timeout, self._until_next()))

    @property
    def approximate_number_of_messages(self) -> int:
        """Those that can be received now, those without room in moto's list included."""
        return len(self.messages) + len(self._due)

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        """Those whose time has not come."""
        with self._messages_lock:
            self._admit()
            return len(self._delayed)

    @property
    def last_purged_at(self) -> float | None:
        """The Unix time of the last PurgeQueue."""
        return self._last_purged_at

    @last_purged_at.setter
    def last_purged_at(self, moment: float | None) -> None:
        """moto sets it when it purges, and then empties its own list."""
        self._last_purged_at = moment
        self._delayed.clear()
        self._due.clear()

    def _admit(self) -> None:
        now = unix_time_millis()
        while self._delayed and self._delayed[0][0] <= now:
            self._due.append(heapq.heappop(self._delayed)[-1])
        room = VISIBLE_AT_MOST - sum(message.visible for message in self._messages)
        for _ in range(min(room, len(self._due))):
            self._messages.append(self._due.popleft())

    def _until_next(self) -> float:
        """Seconds until the next delayed message is due."""
        if not self._delayed:
            return float("inf")
        return max(_SHORTEST_WAIT_SECONDS, (self._delayed[0][0] - unix_time_millis()) / 1000)

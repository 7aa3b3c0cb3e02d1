"""SQS: a standard queue with its dead-letter queue, and Lambda's part in reading it.

After the Amazon SQS Developer Guide: "Amazon SQS at-least-once delivery" (a message may be delivered again even after
it was deleted, "on rare occasions"), "standard queues" (order is best effort), "Amazon SQS visibility timeout",
"Amazon SQS delay queues" (up to 15 minutes), "Using dead-letter queues in Amazon SQS" (a message moves when it has been
received more often than maxReceiveCount), and the API reference of SendMessageBatch (10 entries, 256 KiB in all,
distinct ids, a result of its own for each entry).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from domain.wakeups import Wakeup
from runtime.aws import AwsCallFailed
from simulator.faults import Kind, Seam
from simulator.scheduler import Signal
from simulator.trace import clock_time
from simulator.world import World
from wakeups.sqs import decode

VISIBILITY_SECONDS = 270.0  # template.yaml
MOST_RECEIVES = 5
BATCH_SIZE = 10
LONGEST_DELAY_SECONDS = 900
CALL_LIMIT_BYTES = 262_144
MOST_ENTRIES = 10
LATE_SECONDS = (30.0, 120.0, 400.0)
# "On rare occasions": in a storm copies would otherwise have copies, without end and to no use.
MOST_COPIES = 60
_COPIES = frozenset({Kind.RECEIVED_TWICE, Kind.UNDELETED})


@dataclass(slots=True, kw_only=True, eq=False)
class QueuedMessage:
    """A message in the queue. `stream` is that of whoever sent it."""

    body: str
    visible_at: float
    stream: int
    receives: int = 0


class ModelledQueue:
    """The queue of wake-ups and its dead-letter queue."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: list[QueuedMessage] = []
        self.dead: list[QueuedMessage] = []
        self.changed = Signal(world.scheduler)
        self._away_until = 0.0
        self._copies = 0

    # ---- Sending: what runtime.aws.call does

    def call(self, payload: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """SendMessageBatch. Raises AwsCallFailed."""
        entries: Sequence[Mapping[str, Any]] = payload["Entries"]
        kind = self.world.step(Seam.QUEUE_CALL)
        if self.world.now < self._away_until or kind is Kind.SQS_UNREACHABLE:
            self.world.scheduler.pause(timeout_seconds)
            raise _failed("ConnectionFailed")
        if kind is Kind.SQS_REFUSES:
            raise _failed("ServiceUnavailable")
        self._check(entries)
        accepted = self._accepted(entries, some=kind is Kind.SQS_PARTIAL)
        self._add(accepted)
        after = self.world.step(Seam.QUEUE_ANSWER)
        if after is Kind.SQS_TWICE:
            self._add(accepted)
        if after is Kind.SQS_REPLY_LOST:
            self.world.scheduler.pause(timeout_seconds)
            raise _failed("ConnectionFailed")
        failed = [entry for entry in entries if entry not in accepted]
        return {
            "Successful": [{"Id": entry["Id"]} for entry in accepted],
            "Failed": [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in failed],
        }

    def _accepted(self, entries: Sequence[Mapping[str, Any]], *, some: bool) -> list[Mapping[str, Any]]:
        return [entry for entry in entries if not some or self.world.choices.choose(2) == 0]

    def _add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for entry in entries:
            visible_at = self.world.now + entry["DelaySeconds"]
            message = QueuedMessage(
                body=entry["MessageBody"], visible_at=visible_at, stream=self.world.scheduler.stream
            )
            self.messages.append(message)
            wakeup = decode(message.body)
            self.world.evidence.queued.append((str(wakeup.delivery_id), visible_at))
            self._mark(wakeup, int(entry["DelaySeconds"]))
            what = "the outcome of an attempt" if wakeup.record else "a step of a job" if wakeup.of_job else "a wake-up"
            text = f"accepts {what}, due in {entry['DelaySeconds']} s"
            knows = {"queue": f"a message for {clock_time(visible_at)}"}
            self.world.log("queue", "message", text, delivery=str(wakeup.delivery_id), knows=knows)
        self.changed.fire()

    def _mark(self, wakeup: Wakeup, delay_seconds: int) -> None:
        if wakeup.record is not None:
            self.world.mark("wake-up: carries an outcome")
        if wakeup.after_outage:
            self.world.mark("wake-up: after an outage")
        if wakeup.misses:
            self.world.mark(f"wake-up: without a row, look {wakeup.misses}")
        if delay_seconds == LONGEST_DELAY_SECONDS:
            self.world.mark("wake-up: hops")

    def _check(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """SQS would refuse a call that breaks its rules; here that is a fault of ours."""
        broken = [
            not 1 <= len(entries) <= MOST_ENTRIES,
            len({entry["Id"] for entry in entries}) != len(entries),
            sum(len(entry["MessageBody"].encode()) for entry in entries) > CALL_LIMIT_BYTES,
            any(not 0 <= entry["DelaySeconds"] <= LONGEST_DELAY_SECONDS for entry in entries),
            any(not 0 < len(entry["MessageGroupId"]) <= 128 for entry in entries),
        ]
        if any(broken):
            self.world.evidence.misuse.append("a call of SendMessageBatch breaks a rule of its API")

    # ---- Receiving: what Lambda's pollers do

    @property
    def next_visible_at(self) -> float | None:
        """When the next message can be received; None where there is none."""
        return min((message.visible_at for message in self.messages), default=None)

    def receive(self) -> list[QueuedMessage]:
        """Up to ten visible messages, in any order, invisible for a while from now on. In half of the cases some are
        left, as SQS asks only some of its servers ("short polling")."""
        visible = [message for message in self.messages if message.visible_at <= self.world.now]
        most = min(BATCH_SIZE, len(visible))
        count = most - (self.world.choices.choose(most) if self.world.choices.happens(50) else 0)
        taken = [visible.pop(self.world.choices.choose(len(visible))) for _ in range(count)]
        return [message for message in taken if self._received(message)]

    def _received(self, message: QueuedMessage) -> bool:
        if message.receives >= MOST_RECEIVES:
            self.messages.remove(message)
            self.dead.append(message)
            self.world.mark("message: to the dead-letter queue")
            knows = {"queue": "a dead letter"}
            text = "moves a message to the dead-letter queue"
            self.world.log("queue", "message", text, delivery=_delivery(message), knows=knows)
            return False
        carries = decode(message.body).record is not None
        kind = self._draw(Seam.RECEIVE_OUTCOME if carries else Seam.RECEIVE)
        if kind is Kind.DELAYED:
            self.world.strike(kind, delivery=_delivery(message))
            message.visible_at = self.world.now + self.world.choices.of(LATE_SECONDS)
            return False
        message.receives += 1
        message.visible_at = self.world.now + VISIBILITY_SECONDS
        if kind is Kind.RECEIVED_TWICE:
            self.world.strike(kind, delivery=_delivery(message))
            self.messages.append(replace(message, visible_at=self.world.now))
        return True

    def delete(self, messages: Sequence[QueuedMessage]) -> None:
        """Their work is done."""
        for message in messages:
            if message not in self.messages:
                continue
            kind = self._draw(Seam.DELETE)
            if kind is Kind.UNDELETED:
                self.world.strike(kind, delivery=_delivery(message))
                continue
            self.messages.remove(message)

    def _draw(self, seam: Seam) -> Kind | None:
        _, kind = self.world.weather.draw(seam)
        self._copies += kind in _COPIES
        return None if kind in _COPIES and self._copies > MOST_COPIES else kind

    # ---- What happens to it

    def go_away(self, seconds: float) -> None:
        """Every call fails for so long."""
        self._away_until = self.world.now + seconds

    def recover(self) -> None:
        """Faults stop."""
        self._away_until = self.world.now

    def purge(self) -> None:
        """All messages are gone (PurgeQueue), in flight or not; the dead-letter queue stays."""
        self.messages.clear()

    def redrive(self) -> None:
        """An operator moves the dead letters back (StartMessageMoveTask)."""
        for message in self.dead:
            self.messages.append(replace(message, visible_at=self.world.now, receives=0))
        self.dead.clear()
        self.changed.fire()

    def waiting(self) -> frozenset[str]:
        """The deliveries that have a message, dead or alive."""
        return frozenset(_delivery(message) for message in [*self.messages, *self.dead])


def _delivery(message: QueuedMessage) -> str:
    return str(decode(message.body).delivery_id)


def _failed(code: str) -> AwsCallFailed:
    return AwsCallFailed(code=code, message="simulated", retryable=True)

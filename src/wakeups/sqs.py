"""Sends wake-ups to SQS, and reads them back out of its messages."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import batched
from typing import Any
from uuid import UUID

from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup, delay_seconds
from runtime.aws import AwsCallFailed, call
from runtime.settings import QueueSettings

BATCH_ENTRIES = 10  # SendMessageBatch takes no more
SEND_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5

type _Entry = dict[str, object]


class WakeupQueue:
    """The queue of wake-ups. Safe to use from several threads at once."""

    def __init__(self, settings: QueueSettings) -> None:
        self._url = settings.wakeup_queue_url
        self._endpoint_url = settings.sqs_endpoint_url

    def send(self, wakeups: Sequence[Wakeup], *, now: datetime) -> None:
        """Queues all of `wakeups`, each held back until it is due (or by the longest delay that SQS knows).

        A wake-up may end up in the queue twice; that is harmless. Raises QueueUnavailable when any was not taken, after
        SQS had a second chance to: some of the others may then be in the queue.
        """
        for wakes in batched(wakeups, BATCH_ENTRIES, strict=False):
            refused = self._refused([_entry(str(place), wakeup, now=now) for place, wakeup in enumerate(wakes)])
            if refused and self._refused(refused):
                raise QueueUnavailable("SQS refused a wake-up twice", retry_after_seconds=RETRY_AFTER_SECONDS)

    def _refused(self, entries: list[_Entry]) -> list[_Entry]:
        """Sends `entries`; returns those that SQS did not take."""
        payload = {"QueueUrl": self._url, "Entries": entries}
        try:
            answer = call(
                "sqs",
                "AmazonSQS.SendMessageBatch",
                payload,
                endpoint_url=self._endpoint_url,
                timeout_seconds=SEND_SECONDS,
            )
        except AwsCallFailed as failure:
            raise QueueUnavailable(f"SQS: {failure.code}", retry_after_seconds=RETRY_AFTER_SECONDS) from failure
        taken = {entry.get("Id") for entry in answer.get("Successful") or ()}
        return [entry for entry in entries if entry["Id"] not in taken]


def encode(wakeup: Wakeup) -> str:
    """The message body of `wakeup`: JSON with its four fields."""
    return json.dumps(
        {
            "delivery_id": str(wakeup.delivery_id),
            "due_at": wakeup.due_at.astimezone(UTC).isoformat(),
            "group": wakeup.group,
            "misses": wakeup.misses,
        },
        separators=(",", ":"),
    )


def decode(text: str) -> Wakeup:
    """The wake-up in a message body. Raises ValueError with the reason when it holds none."""
    fields = _object(text)
    return Wakeup(
        delivery_id=DeliveryId(UUID(_text(fields, "delivery_id"))),
        due_at=_moment(_text(fields, "due_at")),
        group=_text(fields, "group"),
        misses=_misses(fields.get("misses", 0)),
    )


def _entry(name: str, wakeup: Wakeup, *, now: datetime) -> _Entry:
    return {
        "Id": name,
        "MessageBody": encode(wakeup),
        "DelaySeconds": delay_seconds(wakeup, now=now),
        "MessageGroupId": wakeup.group,
    }


def _object(text: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("a wake-up is not nested this deep") from None
    if not isinstance(fields, dict):
        raise ValueError("a wake-up is a JSON object")
    return fields


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"a wake-up has a text '{name}'")
    return value


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("'due_at' of a wake-up has a UTC offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("'due_at' of a wake-up lies outside the calendar") from None


def _misses(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("'misses' of a wake-up is a whole number from 0")
    return value

"""Sends wake-ups to SQS, and reads them back out of its messages."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

import msgspec

from domain.deliveries import Record
from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.values import value_class
from domain.wakeups import Wakeup, delay_seconds, for_bus
from runtime.aws import AwsCallFailed, call
from runtime.conversion import converted
from runtime.observability import logger
from runtime.settings import QueueSettings

BATCH_ENTRIES = 10  # SendMessageBatch takes no more
# A message and a call may have 256 KiB in every Region, in most of them more; this leaves room for what else SQS
# counts.
BATCH_LIMIT_BYTES = 250_000
MESSAGE_LIMIT_BYTES = 240_000
SEND_SECONDS = 5.0
_FOR_BUS = "-bus"
RETRY_AFTER_SECONDS = 5


class _Usual(msgspec.Struct):
    """A wake-up without an outcome. What is of another form is not necessarily wrong."""

    delivery_id: UUID
    due_at: Annotated[datetime, msgspec.Meta(tz=True)]
    group: Annotated[str, msgspec.Meta(min_length=1)]
    misses: Annotated[int, msgspec.Meta(ge=0)] = 0
    after_outage: bool = False
    of_job: bool = False
    for_bus: bool = False
    record: None = None


_USUAL = msgspec.json.Decoder(_Usual)

type _Entry = dict[str, object]


class WakeupQueue:
    """The queue of wake-ups. Safe to use from several threads at once."""

    def __init__(self, settings: QueueSettings, *, has_bus: bool = False) -> None:
        """`has_bus`: the wake-up of an event is followed by one that puts it on the stack's bus."""
        self._url = settings.wakeup_queue_url
        self._endpoint_url = settings.sqs_endpoint_url
        self._has_bus = has_bus

    def send(self, wakeups: Sequence[Wakeup], *, now: datetime) -> None:
        """Queues all of `wakeups`, each delayed until it is due (or by the longest delay that SQS allows).

        A wake-up may end up in the queue twice; that is harmless. Raises QueueUnavailable when any was not accepted,
        not even at a second try: some of the others may then be in the queue.
        """
        for batch in _batches(self._entries(wakeups, now)):
            if self._rejected_twice(batch):
                raise QueueUnavailable("SQS refused a wake-up twice", retry_after_seconds=RETRY_AFTER_SECONDS)

    def send_some(self, wakeups: Sequence[Wakeup], *, now: datetime) -> frozenset[int]:
        """The same; returns the positions in `wakeups` of those that were not accepted, or perhaps not."""
        rejected: list[_Entry] = []
        for batch in _batches(self._entries(wakeups, now)):
            try:
                rejected += self._rejected_twice(batch)
            except QueueUnavailable as error:
                logger.warning("wake-ups were not queued", reason=str(error), count=len(batch))
                rejected += batch
        return frozenset(int(str(entry["Id"]).removesuffix(_FOR_BUS)) for entry in rejected)

    def _entries(self, wakeups: Sequence[Wakeup], now: datetime) -> list[_Entry]:
        entries = [_entry(str(position), wakeup, now=now) for position, wakeup in enumerate(wakeups)]
        if self._has_bus:
            entries += [
                _entry(f"{position}{_FOR_BUS}", for_bus(wakeup), now=now)
                for position, wakeup in enumerate(wakeups)
                if wakeup.of_event
            ]
        return entries

    def _rejected_twice(self, entries: list[_Entry]) -> list[_Entry]:
        """What SQS does not accept, not even at the second try."""
        refused = self._refused(entries)
        return self._refused(refused) if refused else []

    def _refused(self, entries: list[_Entry]) -> list[_Entry]:
        """Sends `entries`; returns those that SQS did not accept."""
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
        accepted = {entry.get("Id") for entry in answer.get("Successful") or ()}
        return [entry for entry in entries if entry["Id"] not in accepted]


@value_class(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message of the dead-letter queue. By `receipt` it is deleted."""

    body: str
    receipt: str


class DeadLetters:
    """The dead-letter queue, which the queue of wake-ups says the name of."""

    def __init__(self, settings: QueueSettings) -> None:
        self._settings = settings

    def take(self, limit: int) -> list[DeadLetter]:
        """Up to `limit` messages, at most 10, which nobody else gets for a minute; none where it seems empty. Raises
        QueueUnavailable."""
        payload = {"QueueUrl": self._url, "MaxNumberOfMessages": limit, "VisibilityTimeout": 60, "WaitTimeSeconds": 1}
        messages = self._call("ReceiveMessage", payload).get("Messages") or ()
        return [DeadLetter(body=str(one["Body"]), receipt=str(one["ReceiptHandle"])) for one in messages]

    def drop(self, receipts: Sequence[str]) -> None:
        """Deletes messages. Raises QueueUnavailable; those that are left come again."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        if entries:
            self._call("DeleteMessageBatch", {"QueueUrl": self._url, "Entries": entries})

    @cached_property
    def _url(self) -> str:
        payload = {"QueueUrl": self._settings.wakeup_queue_url, "AttributeNames": ["RedrivePolicy"]}
        policy = json.loads(self._call("GetQueueAttributes", payload)["Attributes"]["RedrivePolicy"])
        name = str(policy["deadLetterTargetArn"]).rpartition(":")[2]
        return str(self._call("GetQueueUrl", {"QueueName": name})["QueueUrl"])

    def _call(self, action: str, payload: Mapping[str, object]) -> dict[str, Any]:
        endpoint_url = self._settings.sqs_endpoint_url
        try:
            return call("sqs", f"AmazonSQS.{action}", payload, endpoint_url=endpoint_url, timeout_seconds=SEND_SECONDS)
        except AwsCallFailed as failure:
            raise QueueUnavailable(f"SQS: {failure.code}", retry_after_seconds=RETRY_AFTER_SECONDS) from failure


def encode(wakeup: Wakeup) -> str:
    """The message body of `wakeup`: JSON with its fields, and the outcome that it carries, if any.

    Where an outcome makes the message too large, the response's body is left out, then its headers too.
    """
    fields: dict[str, object] = {
        "delivery_id": str(wakeup.delivery_id),
        "due_at": wakeup.due_at.astimezone(UTC).isoformat(),
        "group": wakeup.group,
        "misses": wakeup.misses,
    }
    if wakeup.after_outage:
        fields["after_outage"] = True
    if wakeup.of_job:
        fields["of_job"] = True
    if wakeup.for_bus:
        fields["for_bus"] = True
    texts = (_json(fields | extra) for extra in _shrinking(wakeup.record))
    return next(text for text in texts if len(text) <= MESSAGE_LIMIT_BYTES)


def decode(text: str) -> Wakeup:
    """The wake-up in a message body. Raises ValueError with the reason when there is none."""
    try:
        usual = _USUAL.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return decode_any(text)
    return Wakeup(
        delivery_id=DeliveryId(usual.delivery_id),
        due_at=usual.due_at if usual.due_at.tzinfo is UTC else _in_utc(usual.due_at),
        group=usual.group,
        misses=usual.misses,
        after_outage=usual.after_outage,
        of_job=usual.of_job,
        for_bus=usual.for_bus,
    )


def decode_any(text: str) -> Wakeup:
    """The same for those with an outcome, and for what is faulty: this says what is wrong."""
    fields = _object(text)
    return Wakeup(
        delivery_id=DeliveryId(UUID(_text(fields, "delivery_id"))),
        due_at=_moment(_text(fields, "due_at")),
        group=_text(fields, "group"),
        misses=_misses(fields.get("misses", 0)),
        after_outage=fields.get("after_outage") is True,
        of_job=fields.get("of_job") is True,
        for_bus=fields.get("for_bus") is True,
        record=_record(fields),
    )


def _entry(name: str, wakeup: Wakeup, *, now: datetime) -> _Entry:
    return {
        "Id": name,
        "MessageBody": encode(wakeup),
        "DelaySeconds": delay_seconds(wakeup, now=now),
        "MessageGroupId": wakeup.group,
    }


def _json(fields: Mapping[str, object]) -> str:
    """ASCII, so that its length is its number of bytes, and so that SQS accepts each of its characters."""
    if "record" in fields:
        return json.dumps(fields, separators=(",", ":"))
    encoded = msgspec.json.encode(fields)
    return encoded.decode() if encoded.isascii() else json.dumps(fields, separators=(",", ":"))


def _shrinking(record: Record | None) -> Iterator[dict[str, object]]:
    """The outcome as it is, then with less and less of the response, then none: the wake-up itself must be sent."""
    if record is not None:
        for smaller in _with_less(record):
            yield {"record": msgspec.to_builtins(smaller)}
    yield {}


def _with_less(record: Record) -> Iterator[Record]:
    yield record
    response = record.attempt.response
    if response is not None:
        bodiless = replace(response, body=b"", truncated=True)
        for smaller in (bodiless, replace(bodiless, headers=())):
            yield replace(record, attempt=replace(record.attempt, response=smaller))


def _record(fields: Mapping[str, Any]) -> Record | None:
    """None where there is none, and where it cannot be read or is another delivery's: the wake-up itself still counts.

    Then the delivery's outcome is lost, and its guarantee decides what follows.
    """
    if fields.get("record") is None:
        return None
    try:
        record = converted(fields["record"], Record)
    except msgspec.ValidationError as error:
        logger.error("a carried outcome cannot be read", delivery_id=fields.get("delivery_id"), reason=str(error))
        return None
    return record if str(record.attempt.delivery_id) == fields["delivery_id"] else None


def _batches(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """As many in each as SQS accepts in one call, by number and by size."""
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        length = len(str(entry["MessageBody"]))
        if batch and (len(batch) == BATCH_ENTRIES or size + length > BATCH_LIMIT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def _object(text: str) -> Mapping[str, Any]:
    try:
        fields = msgspec.json.decode(text)
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
    return _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("'due_at' of a wake-up lies outside the calendar") from None


def _misses(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("'misses' of a wake-up is a whole number from 0")
    return value

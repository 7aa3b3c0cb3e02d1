"""SQS -> the attempts that are due. Partial batch failures are for messages that cannot be read, and for those whose
replacement SQS did not accept: only these come back, or deliveries would have more and more messages. What a partner
does wrong is a recorded attempt.

For operators, by IAM invoke only; it is here because this function can reach database and queue anyway:

{"action": "wake_overdue", "overdue_seconds": 600, "after": "...", "limit": 500}
{"action": "redrive", "reason": "...", "limit": 1000}
{"action": "delete_old", "destination_id": "...", "after": "..."}
"""

from datetime import timedelta
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from db.retention import Place
from domain.ids import DeliveryId, DestinationId
from domain.wakeups import Wakeup
from flows.attempt import attempt_due
from flows.audit import OPERATOR, Actor
from flows.overdue_look import OverdueLook
from flows.redrive import redrive
from flows.retention import RESERVE_SECONDS, Retention, delete_old
from flows.wake_overdue import wake_overdue
from handlers import wiring
from runtime.observability import observed
from wakeups.sqs import decode

# A batch of only unreadable messages is not an error of this function: each of them ends in the dead-letter queue.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


SEALING_SECONDS = 20.0  # two statements, each as long as one may take


class WakeOverdue(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="wake_overdue"):
    """Wakes unfinished deliveries that are overdue by more than `overdue_seconds`, up to `limit` of them; `after` is
    the `next` of the call before.
    """

    overdue_seconds: Annotated[int, msgspec.Meta(ge=0, le=365 * 86_400)] = 600
    after: UUID | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 500


class Redrive(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="redrive"):
    """Sends about `limit` dead letters back to the queue of wake-ups; `reason` goes into the audit log."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class DeleteOld(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="delete_old"):
    """Deletes deliveries whose retention is over, until nothing is left or the time is up; `destination_id` and `after`
    are the `next` of the call before."""

    destination_id: UUID | None = None
    after: UUID | None = None


Command = WakeOverdue | Redrive | DeleteOld
retention = Retention()
overdue_look = OverdueLook()


def read(record: SQSRecord) -> Wakeup:
    """Raises ValueError for a poison message: it is never worth another try, and ends in the dead-letter queue."""
    return decode(record.body)


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """SQS event in, `batchItemFailures` out. Raises QueueUnavailable to receive the whole batch again.

    An operator's command in, what it did out. Raises msgspec.ValidationError or an error of ours, which the invoker
    sees.
    """
    seconds_left = context.get_remaining_time_in_millis() / 1000
    if "action" in event:
        command = msgspec.convert(event, Command)
        return _obey(command, seconds_left=seconds_left, request_id=context.aws_request_id)
    with processor(event["Records"], read):
        results = processor.process()
    pairs = zip(event["Records"], results, strict=True)
    readable = [(record["messageId"], wakeup) for record, (status, wakeup, _) in pairs if status == "success"]
    failed = attempt_due([wakeup for _, wakeup in readable], services=wiring.attempt(), seconds_left=seconds_left)
    if context.get_remaining_time_in_millis() / 1000 > SEALING_SECONDS:
        wiring.seal_schedule().run(services=wiring.attempt())
    if context.get_remaining_time_in_millis() / 1000 > RESERVE_SECONDS:
        retention.go_on(services=wiring.attempt())
    if context.get_remaining_time_in_millis() / 1000 > RESERVE_SECONDS:
        overdue_look.go_on(services=wiring.attempt())
    failures = [*processor.response()["batchItemFailures"]]
    return {
        "batchItemFailures": [*failures, *({"itemIdentifier": readable[position][0]} for position in sorted(failed))]
    }


def _obey(command: Command, *, seconds_left: float, request_id: str) -> dict[str, Any]:
    match command:
        case WakeOverdue():
            return _wake(command, seconds_left=seconds_left)
        case Redrive():
            return _redrive(command, seconds_left=seconds_left, request_id=request_id)
        case DeleteOld():
            return _delete(command, seconds_left=seconds_left)
        case _:
            assert_never(command)


def _delete(command: DeleteOld, *, seconds_left: float) -> dict[str, Any]:
    services = wiring.attempt()
    place = None
    if command.destination_id is not None:
        behind = None if command.after is None else DeliveryId(command.after)
        place = Place(destination_id=DestinationId(command.destination_id), behind=behind)
    deleted = delete_old(
        place=place,
        end_at=services.clock() + timedelta(seconds=seconds_left),
        services=services,
    )
    following = deleted.following
    return {
        "deleted": deleted.count,
        "next": None
        if following is None
        else {
            "destination_id": str(following.destination_id),
            "after": None if following.behind is None else str(following.behind),
        },
    }


def _wake(command: WakeOverdue, *, seconds_left: float) -> dict[str, Any]:
    woken = wake_overdue(
        overdue_seconds=command.overdue_seconds,
        after=None if command.after is None else DeliveryId(command.after),
        limit=command.limit,
        services=wiring.attempt(),
        seconds_left=seconds_left,
    )
    return {"woken": woken.count, "next": None if woken.next_after is None else str(woken.next_after)}


def _redrive(command: Redrive, *, seconds_left: float, request_id: str) -> dict[str, Any]:
    """The id of the invocation leads to who made it, in CloudTrail."""
    found = redrive(
        wiring.dead_letters(),
        reason=command.reason,
        limit=command.limit,
        actor=Actor(by=f"{OPERATOR}:{request_id}"),
        services=wiring.attempt(),
        seconds_left=seconds_left,
    )
    return {"moved": found.moved, "unreadable": found.unreadable, "is_all": found.is_all}

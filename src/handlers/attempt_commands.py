"""What operators let the worker do, by IAM invoke only; it is here because this function can reach database, queue and
seal key anyway.

{"action": "wake_overdue", "overdue_seconds": 600, "after": "...", "limit": 500}
{"action": "redrive", "reason": "...", "limit": 1000}
{"action": "delete_old", "destination_id": "...", "after": "..."}
{"action": "rotate_seal_key"}
{"action": "retire_seal_key"}
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec

from db.retention import Place
from domain.ids import DeliveryId, DestinationId
from flows.audit import OPERATOR, Actor
from flows.redrive import redrive
from flows.retention import retire_old
from flows.wake_overdue import wake_overdue
from handlers import wiring


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
    """Deletes what is over: deliveries, or bodies and responses alone, until nothing is left or the time is up;
    `destination_id` and `after` are the `next` of the call before."""

    destination_id: UUID | None = None
    after: UUID | None = None


class RotateSealKey(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="rotate_seal_key"):
    """Begins to rotate the seal key, or goes on with it, as far as the time allows: run it again at `again_at`."""


class RetireSealKey(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="retire_seal_key"):
    """Ends a rotation of the seal key, once nothing is sealed with an earlier one any more."""


Command = WakeOverdue | Redrive | DeleteOld | RotateSealKey | RetireSealKey


def obey(event: dict[str, Any], *, seconds_left: float, request_id: str) -> dict[str, Any]:
    """What it did. Raises msgspec.ValidationError or an error of ours."""
    command = msgspec.convert(event, Command)
    match command:
        case WakeOverdue():
            return _wake(command, seconds_left=seconds_left)
        case Redrive():
            return _redrive(command, seconds_left=seconds_left, request_id=request_id)
        case DeleteOld():
            return _delete(command, seconds_left=seconds_left)
        case RotateSealKey() | RetireSealKey():
            return _rotate(command, seconds_left=seconds_left, request_id=request_id)
        case _:
            assert_never(command)


def _delete(command: DeleteOld, *, seconds_left: float) -> dict[str, Any]:
    services = wiring.attempt()
    place = None
    if command.destination_id is not None:
        behind = None if command.after is None else DeliveryId(command.after)
        place = Place(destination_id=DestinationId(command.destination_id), behind=behind)
    retired = retire_old(
        place=place,
        end_at=services.clock() + timedelta(seconds=seconds_left),
        services=services,
    )
    following = retired.following
    return {
        "deleted": retired.deleted,
        "bodies": retired.bodies,
        "responses": retired.responses,
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


def _rotate(command: RotateSealKey | RetireSealKey, *, seconds_left: float, request_id: str) -> dict[str, Any]:
    from flows import rotate_seal_key as flow  # the other commands load nothing that seals

    services, store, actor = wiring.attempt(), wiring.seal_key_store(), Actor(by=f"{OPERATOR}:{request_id}")
    if isinstance(command, RetireSealKey):
        rotated = flow.retire(store, actor=actor, services=services)
    else:
        rotated = flow.rotate(store, actor=actor, services=services, seconds_left=seconds_left)
    return {
        "step": rotated.step.value,
        "key_ids": list(rotated.key_ids),
        "resealed": rotated.resealed,
        "left": rotated.left,
        "unopened": list(map(str, rotated.unopened)),
        "again_at": _moment(rotated.again_at),
        "retire_at": _moment(rotated.retire_at),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")

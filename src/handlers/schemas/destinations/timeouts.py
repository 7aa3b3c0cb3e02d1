"""`timeouts`: the deadlines of an attempt."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.destinations import MAX_TOTAL_SECONDS, MIN_TIMEOUT_SECONDS, Timeouts
from domain.errors import Fault

Seconds = Annotated[float, Meta(ge=MIN_TIMEOUT_SECONDS, le=MAX_TOTAL_SECONDS)]


class NewTimeoutsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines of one attempt in seconds. Neither of the first two may be longer than `total_seconds`."""

    connect_seconds: Annotated[
        Seconds | UnsetType,
        Meta(description="To a connection, name and TLS included. Without it 5, or total_seconds if that is less"),
    ] = UNSET
    first_byte_seconds: Annotated[
        Seconds | UnsetType,
        Meta(description="To the first byte of the answer. Without it 15, or total_seconds if that is less"),
    ] = UNSET
    total_seconds: Annotated[Seconds, Meta(description="To the end of the answer")] = Timeouts().total_seconds


class TimeoutsBody(Struct, frozen=True):
    """Deadlines of one attempt in seconds."""

    connect_seconds: Annotated[float, Meta(description="To a connection, name and TLS included")]
    first_byte_seconds: Annotated[float, Meta(description="To the first byte of the answer")]
    total_seconds: Annotated[float, Meta(description="To the end of the answer")]


def faults(body: NewTimeoutsBody, at: str = "/timeouts") -> list[Fault]:
    """A deadline that could never be reached is a slip, and is not cut silently."""
    parts = {"connect_seconds": body.connect_seconds, "first_byte_seconds": body.first_byte_seconds}
    detail = f"must be at most total_seconds, which is {body.total_seconds:g}"
    return [
        Fault(field=f"{at}/{name}", detail=detail)
        for name, seconds in parts.items()
        if seconds is not UNSET and seconds > body.total_seconds
    ]


def domain(body: NewTimeoutsBody) -> Timeouts:
    """The deadlines, those that were left out filled in."""
    default, total = Timeouts(), body.total_seconds
    connect, first_byte = body.connect_seconds, body.first_byte_seconds
    return Timeouts(
        connect_seconds=min(default.connect_seconds, total) if connect is UNSET else connect,
        first_byte_seconds=min(default.first_byte_seconds, total) if first_byte is UNSET else first_byte,
        total_seconds=total,
    )


def shown(timeouts: Timeouts) -> TimeoutsBody:
    """What the API shows of them."""
    return TimeoutsBody(
        connect_seconds=timeouts.connect_seconds,
        first_byte_seconds=timeouts.first_byte_seconds,
        total_seconds=timeouts.total_seconds,
    )

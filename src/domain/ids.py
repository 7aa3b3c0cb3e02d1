"""Identifiers: one NewType per noun, and how UUIDv7 values are made (RFC 9562 section 5.7)."""

from datetime import datetime
from typing import NewType
from uuid import UUID

TenantId = NewType("TenantId", UUID)
TokenId = NewType("TokenId", UUID)
DestinationId = NewType("DestinationId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
AttemptId = NewType("AttemptId", UUID)
LeaseId = NewType("LeaseId", UUID)

RANDOM_BYTES = 10


def uuid7(*, now: datetime, randomness: bytes) -> UUID:
    """A UUIDv7 of the moment `now` (millisecond precision) and 10 bytes of `randomness`.

    Ids made later sort later, so that a primary key index grows at its end and a list ordered by id is ordered by
    time. Python's own `uuid.uuid7` comes with 3.14; the runtime here is 3.13.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"uuid7 takes {RANDOM_BYTES} random bytes, got {len(randomness)}")
    milliseconds = int(now.timestamp() * 1000)
    value = (milliseconds << 80) | int.from_bytes(randomness)
    value = (value & ~(0xF << 76)) | (0x7 << 76)  # version
    value = (value & ~(0x3 << 62)) | (0x2 << 62)  # variant
    return UUID(int=value)


def uuid7_floor(moment: datetime) -> UUID:
    """The smallest UUIDv7 of the millisecond of `moment`: a bound for ids by time. Before 1970 it is that of 1970."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62))


def age_seconds(made: UUID, *, now: datetime) -> float:
    """How long before `now` a UUIDv7 was made, by its own timestamp; meaningless for other UUIDs."""
    return now.timestamp() - (made.int >> 80) / 1000

"""The bodies of /v1/audit."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from domain.audit import WrittenEntry
from handlers.schemas.common import Cursor

Detail = str | int | None


class AuditEntryBody(Struct, frozen=True, kw_only=True):
    """What somebody did, and its place in the chain."""

    sequence: Annotated[int, Meta(description="Its number in the tenant's chain, from 1 on without a gap")]
    entry_id: Annotated[UUID, Meta(description="The entry's id")]
    at: Annotated[datetime, Meta(description="When it was done; never before the entry before it")]
    what: Annotated[str, Meta(description="What was done: a noun and what became of it")]
    on: Annotated[str, Meta(description="The id of what it was done to")]
    by: Annotated[str, Meta(description="Who did it: the id of a token, or `operator`, or that it was a partner")]
    source_address: Annotated[str | None, Meta(description="Where the call came from; null where there was no call")]
    members: Annotated[list[str], Meta(description="The names of what was changed, never values")]
    details: Annotated[dict[str, Detail], Meta(description="More of it, such as counts and reasons; never a secret")]
    previous: Annotated[str, Meta(description="The hash of the entry before it; zeros before the first")]
    hash: Annotated[str, Meta(description="SHA-256 over the entry's canonical JSON, in hexadecimal digits")]


class AuditBody(Struct, frozen=True):
    """A page of the audit log, newest first."""

    entries: Annotated[list[AuditEntryBody], Meta(description="Newest first")]
    next_cursor: Cursor


class _Content(Struct, frozen=True, kw_only=True):
    entry_id: UUID
    what: str
    on: str
    by: str
    source_address: str | None
    members: list[str]
    details: dict[str, Detail]


def audit_entry_body(entry: WrittenEntry) -> AuditEntryBody:
    """What is shown of an entry."""
    content = msgspec.json.decode(entry.content, type=_Content)
    return AuditEntryBody(
        sequence=entry.sequence,
        entry_id=content.entry_id,
        at=entry.at,
        what=content.what,
        on=content.on,
        by=content.by,
        source_address=content.source_address,
        members=content.members,
        details=content.details,
        previous=entry.previous.hex(),
        hash=entry.hash.hex(),
    )

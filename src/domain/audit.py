"""The audit log's entries, as they are hashed."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from domain.ids import TenantId
from domain.values import value_class

type Detail = str | int | None
type EntryContent = Mapping[str, Detail | Sequence[str] | Mapping[str, Detail]]

STACK = TenantId(UUID(int=0))  # whose chain has what operators did to all tenants at once


@value_class(frozen=True, slots=True, kw_only=True)
class Entry:
    """An act that is to be written down. `content` is canonical JSON, with the id of the entry in it: an entry that is
    there already is not written twice."""

    tenant_id: TenantId
    at: datetime
    content: str


@value_class(frozen=True, slots=True, kw_only=True)
class WrittenEntry:
    """An entry as it is in the chain: `content` is canonical JSON, `previous` the hash of the entry before it."""

    sequence: int
    at: datetime
    content: str
    previous: bytes
    hash: bytes

    def line(self) -> str:
        """As it is exported, canonical JSON too."""
        return self._text(f'"hash":"{self.hash.hex()}",') + "\n"

    def hashed_text(self) -> str:
        """What the hash is over: the same without the hash."""
        return self._text("")

    def _text(self, hash_member: str) -> str:
        return (
            f'{{"at":"{self.at:%Y-%m-%dT%H:%M:%S.%fZ}","content":{self.content},{hash_member}'
            f'"previous":"{self.previous.hex()}","sequence":{self.sequence}}}'
        )


@value_class(frozen=True, slots=True, kw_only=True)
class AuditCheckpoint:
    """How far a chain has come: whoever knows it notices when the chain was rewritten or cut up to there."""

    tenant_id: TenantId
    sequence: int
    at: datetime
    hash: bytes


def storable(detail: Detail) -> Detail:
    """With U+FFFD in place of what PostgreSQL stores in no text: NUL, and halves of surrogate pairs."""
    if not isinstance(detail, str):
        return detail
    return detail.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def canonical(content: EntryContent) -> str:
    """JSON that is written in only one way (RFC 8785): members by their names, no spaces, nothing escaped that need not
    be. It is the same in every language as long as names are ASCII and numbers are whole and below 2**53."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

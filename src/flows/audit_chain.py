"""Check a chain of the audit log where it is, as far as time allows. An export is checked by others' means
(sallyport_audit)."""

from collections.abc import Callable
from hashlib import sha256

from db import audit
from db.connection import Database
from domain.audit import WrittenEntry
from domain.ids import TenantId
from domain.values import value_class

PAGE = 5000


@value_class(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """How far a chain was checked: up to the entry `sequence`, which has the hash `hash`. `fault` says what is wrong
    behind it, None where nothing is; `is_all` that nothing is left."""

    sequence: int
    hash: bytes
    fault: str | None
    is_all: bool


def verified(database: Database, tenant_id: TenantId, *, after: int, has_time: Callable[[], bool]) -> VerifiedChain:
    """Checks a tenant's entries behind the entry `after`, 0 for all; that one is taken as it is."""
    last = _start(database, tenant_id, after)
    while True:
        page = audit.export(database, tenant_id=tenant_id, after=last.sequence, since=None, until=None, limit=PAGE)
        for entry in page:
            fault = _fault(entry, last)
            if fault is not None:
                return VerifiedChain(sequence=last.sequence, hash=last.hash, fault=fault, is_all=False)
            last = entry
        if len(page) < PAGE:
            return _ended(database, tenant_id, last)
        if not has_time():
            return VerifiedChain(sequence=last.sequence, hash=last.hash, fault=None, is_all=False)


def _start(database: Database, tenant_id: TenantId, after: int) -> WrittenEntry:
    if after:
        before = audit.export(database, tenant_id=tenant_id, after=after - 1, since=None, until=None, limit=1)
        if before and before[0].sequence == after:
            return before[0]
    return audit.BEGINNING


def _fault(entry: WrittenEntry, last: WrittenEntry) -> str | None:
    if entry.sequence != last.sequence + 1:
        return f"entry {entry.sequence} follows entry {last.sequence}"
    if entry.previous != last.hash:
        return f"entry {entry.sequence} does not have the hash of the entry before it"
    if entry.hash != sha256(entry.hashed_text().encode()).digest():
        return f"entry {entry.sequence} does not have its own hash"
    return None


def _ended(database: Database, tenant_id: TenantId, last: WrittenEntry) -> VerifiedChain:
    """An entry that came meanwhile is no fault: the end is then further than what was read."""
    head = audit.head(database, tenant_id=tenant_id)
    sequence, known = (0, bytes(32)) if head is None else (head.sequence, head.hash)
    is_cut = sequence < last.sequence or (sequence == last.sequence and known != last.hash)
    fault = "the end of the chain is not the one that was written last" if is_cut else None
    return VerifiedChain(sequence=last.sequence, hash=last.hash, fault=fault, is_all=sequence <= last.sequence)

"""Statements on `audit_entry` and `audit_head`: the audit log, a chain for each tenant."""

from db.connection import Database
from domain.audit import Checkpoint, Entry


def append(database: Database, entry: Entry) -> Checkpoint:
    """Writes an entry at the end of its tenant's chain. One that is there already, by its id, stays where it is.

    Where the statement of an act can write the entry itself, by the same function, it does: then neither is without the
    other.
    """
    rows = database.rows(
        "SELECT sequence, at, hash FROM append_audit(%(tenant_id)s, %(at)s, %(content)s)",
        {"tenant_id": entry.tenant_id, "at": entry.at, "content": entry.content},
        repeatable=True,
    )
    return Checkpoint(tenant_id=entry.tenant_id, **rows[0])

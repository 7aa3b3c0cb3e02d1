"""Statements on `audit_entry` and `audit_head`: the audit log, a chain for each tenant."""

from datetime import UTC, datetime

from db.connection import Database
from domain.audit import AuditCheckpoint, Entry, WrittenEntry
from domain.ids import TenantId
from domain.values import value_class


def append(database: Database, entry: Entry) -> AuditCheckpoint:
    """Writes an entry at the end of its tenant's chain. One that is there already, by its id, stays where it is.

    Where the statement of an act can write the entry itself, by the same function, it does: then neither is without the
    other.
    """
    rows = database.rows(
        "SELECT sequence, at, hash FROM append_audit(%(tenant_id)s, %(at)s, %(content)s)",
        {"tenant_id": entry.tenant_id, "at": entry.at, "content": entry.content},
        repeatable=True,
    )
    return AuditCheckpoint(tenant_id=entry.tenant_id, **rows[0])


# What the first entry follows.
BEGINNING = WrittenEntry(
    sequence=0, at=datetime.min.replace(tzinfo=UTC), content="", previous=bytes(32), hash=bytes(32)
)


def head(database: Database, *, tenant_id: TenantId) -> AuditCheckpoint | None:
    """The end of a tenant's chain; None where it has none."""
    rows = database.rows(
        "SELECT sequence, at, hash FROM audit_head WHERE tenant_id = %(tenant_id)s",
        {"tenant_id": tenant_id},
        repeatable=True,
    )
    return AuditCheckpoint(tenant_id=tenant_id, **rows[0]) if rows else None


def ends(database: Database, *, since: datetime) -> list[AuditCheckpoint]:
    """The ends of all chains, of whichever tenant, that have an entry `since` then."""
    rows = database.rows(
        "SELECT tenant_id, sequence, at, hash FROM audit_head WHERE at >= %(since)s ORDER BY tenant_id",
        {"since": since},
        repeatable=True,
    )
    return [AuditCheckpoint(**row) for row in rows]


@value_class(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries of a tenant's chain; None for no bound. `since` and `until` (before it) are moments, `before` is a
    number; `what`, `on` and `actor` must be the same."""

    tenant_id: TenantId
    since: datetime | None = None
    until: datetime | None = None
    what: str | None = None
    on: str | None = None
    actor: str | None = None
    before: int | None = None


def page(database: Database, wanted: AuditFilter, *, limit: int) -> list[WrittenEntry]:
    """Up to `limit` entries, the newest first. Pages stay stable while entries are added, since those come first."""
    rows = database.read(
        """
        SELECT sequence, at, content, previous, hash
        FROM audit_entry
        WHERE tenant_id = %(tenant_id)s AND sequence < coalesce(%(before)s, 9223372036854775807)
          -- No entry is older than the one before it, so that moments are numbers: of two looks into an index.
          AND (%(since)s::timestamptz IS NULL OR sequence >= (
                SELECT later.sequence FROM audit_entry AS later
                WHERE later.tenant_id = %(tenant_id)s AND later.at >= %(since)s
                ORDER BY later.at, later.sequence LIMIT 1))
          AND (%(until)s::timestamptz IS NULL OR sequence <= (
                SELECT earlier.sequence FROM audit_entry AS earlier
                WHERE earlier.tenant_id = %(tenant_id)s AND earlier.at < %(until)s
                ORDER BY earlier.at DESC, earlier.sequence DESC LIMIT 1))
          AND (%(what)s::text IS NULL OR what = %(what)s)
          AND (%(subject)s::text IS NULL OR subject = %(subject)s)
          AND (%(actor)s::text IS NULL OR actor = %(actor)s)
        ORDER BY sequence DESC
        LIMIT %(limit)s
        """,
        {
            "tenant_id": wanted.tenant_id,
            "since": wanted.since,
            "until": wanted.until,
            "what": wanted.what,
            "subject": wanted.on,
            "actor": wanted.actor,
            "before": wanted.before,
            "limit": limit,
        },
    )
    return [WrittenEntry(**row) for row in rows]


def export(
    database: Database,
    *,
    tenant_id: TenantId,
    after: int,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> list[WrittenEntry]:
    """Up to `limit` entries in the order of the chain, behind the entry `after` (0 for the first), without a gap: of
    those since `since` and before `until`, None for no bound."""
    rows = database.read(
        """
        SELECT sequence, at, content, previous, hash
        FROM audit_entry
        WHERE tenant_id = %(tenant_id)s AND sequence > %(after)s
          AND (%(since)s::timestamptz IS NULL OR sequence >= (
                SELECT later.sequence FROM audit_entry AS later
                WHERE later.tenant_id = %(tenant_id)s AND later.at >= %(since)s
                ORDER BY later.at, later.sequence LIMIT 1))
          AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
        ORDER BY sequence
        LIMIT %(limit)s
        """,
        {"tenant_id": tenant_id, "after": after, "since": since, "until": until, "limit": limit},
    )
    return [WrittenEntry(**row) for row in rows]

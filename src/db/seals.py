"""Statements on `attempt_seal` and `seal_progress`: which attempts are sealed into the audit log."""

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from db.connection import Database
from domain.audit import AuditCheckpoint, Entry
from domain.ids import TenantId
from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Attempts of the transactions from `since` on, before `until`: by tenant the hashes of their leaves, one behind
    the other."""

    since: int
    until: int
    leaves: Mapping[TenantId, bytes]


@value_class(frozen=True, slots=True, kw_only=True)
class AttemptSeal:
    """A tenant's attempts of an interval: the hashes of the leaves, and the entry that has their root."""

    seal_id: UUID
    leaves: bytes
    entry: Entry


def unsealed(database: Database, *, limit: int) -> Unsealed:
    """Up to about `limit` attempts that are not sealed, the oldest first: of each transaction all or none. What is
    hashed is made in PostgreSQL: to read the rows here would cost more than all else."""
    rows = database.rows(
        """
        WITH progress AS (
            SELECT sealed_until AS since, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until
            FROM seal_progress
        ), found AS (
            SELECT delivery_id, number, recorded_in
            FROM attempt
            WHERE recorded_in >= (SELECT since FROM progress) AND recorded_in < (SELECT until FROM progress)
            ORDER BY recorded_in
            FETCH FIRST %(limit)s ROWS WITH TIES
        ), bounded AS (
            SELECT since, CASE WHEN count(delivery_id) < %(limit)s THEN until ELSE max(recorded_in) + 1 END AS until
            FROM progress LEFT JOIN found ON true
            GROUP BY since, until
        )
        SELECT since, until, tenant_id,
               string_agg(sha256(decode('00', 'hex') || convert_to(attempt_facts(attempt, fingerprint), 'UTF8')),
                          ''::bytea ORDER BY found.recorded_in, delivery_id, number) AS leaves
        FROM bounded
        LEFT JOIN (found JOIN attempt USING (delivery_id, number) JOIN delivery USING (delivery_id)) ON true
        GROUP BY since, until, tenant_id
        ORDER BY tenant_id
        """,
        {"limit": limit},
        repeatable=True,
    )
    leaves = {TenantId(row["tenant_id"]): row["leaves"] for row in rows if row["tenant_id"] is not None}
    return Unsealed(since=rows[0]["since"], until=rows[0]["until"], leaves=leaves)


def store(database: Database, seals: Sequence[AttemptSeal], *, since: int, until: int) -> list[AuditCheckpoint] | None:
    """Stores the seals of an interval, of which there is at least one, and writes their entries; None where somebody
    else has sealed it. Where the connection breaks, the statement is run again, and finds what the first run wrote."""
    rows = database.rows(
        """
        WITH moved AS (
            UPDATE seal_progress SET sealed_until = %(until)s WHERE sealed_until = %(since)s RETURNING sealed_until
        ), listed AS (
            SELECT seal_id, tenant_id, at, content, decode(leaves, 'hex') AS leaves
            FROM json_to_recordset(%(seals)s::text::json)
                 AS listed (seal_id uuid, tenant_id uuid, at timestamptz, content text, leaves text)
            WHERE EXISTS (SELECT FROM moved)
               OR EXISTS (SELECT FROM attempt_seal AS known WHERE known.seal_id = listed.seal_id)  -- by the first run
        ), stored AS (
            INSERT INTO attempt_seal (seal_id, tenant_id, since, until, leaves)
            SELECT seal_id, tenant_id, %(since)s, %(until)s, leaves FROM listed
            ON CONFLICT DO NOTHING
        ), written AS (
            SELECT tenant_id, appended.*
            FROM (SELECT * FROM listed ORDER BY tenant_id) AS in_order
            CROSS JOIN LATERAL append_audit(tenant_id, in_order.at, content) AS appended
        )
        SELECT tenant_id, sequence, at, hash FROM written ORDER BY tenant_id
        """,
        {"seals": json.dumps([_row(seal) for seal in seals]), "since": since, "until": until},
        repeatable=True,
    )
    return [AuditCheckpoint(**row) for row in rows] or None


def leaves_of(database: Database, *, tenant_id: TenantId, seal_id: UUID) -> bytes | None:
    """The hashes of the attempts of a seal, one behind the other; None where the tenant has no such seal."""
    rows = database.rows(
        "SELECT leaves FROM attempt_seal WHERE seal_id = %(seal_id)s AND tenant_id = %(tenant_id)s",
        {"seal_id": seal_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return rows[0]["leaves"] if rows else None


def attempts_of(database: Database, *, tenant_id: TenantId, seal_id: UUID) -> list[str]:
    """The canonical JSON of the attempts of a seal that are still there, in the order in which they were sealed."""
    rows = database.rows(
        """
        SELECT attempt_facts(attempt, fingerprint) AS facts
        FROM attempt JOIN delivery USING (delivery_id)
        WHERE delivery.tenant_id = %(tenant_id)s
          AND recorded_in >= (SELECT since FROM attempt_seal WHERE seal_id = %(seal_id)s)
          AND recorded_in < (SELECT until FROM attempt_seal WHERE seal_id = %(seal_id)s)
        ORDER BY recorded_in, delivery_id, number
        """,
        {"tenant_id": tenant_id, "seal_id": seal_id},
        repeatable=True,
    )
    return [row["facts"] for row in rows]


def _row(seal: AttemptSeal) -> dict[str, str]:
    return {
        "seal_id": str(seal.seal_id),
        "tenant_id": str(seal.entry.tenant_id),
        "at": seal.entry.at.isoformat(),
        "content": seal.entry.content,
        "leaves": seal.leaves.hex(),
    }

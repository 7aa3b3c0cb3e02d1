"""Statements on `attempt_seal` and `seal_progress`: which attempts are sealed into the audit log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.audit import AuditCheckpoint, Entry
from domain.ids import TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """What is sealed of an attempt: what was sent by its hash (domain/deliveries.py, fingerprint), what came back by
    hashes too. So nothing that is deleted later changes it. `content` is ready for canonical JSON."""

    tenant_id: TenantId
    recorded_in: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Attempts of the transactions from `since` on, before `until`, in one order."""

    since: int
    until: int
    attempts: Sequence[AttemptFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSeal:
    """A tenant's attempts of an interval: the hashes of the leaves, and the entry that has their root."""

    seal_id: UUID
    leaves: bytes
    entry: Entry


def unsealed(database: Database, *, limit: int) -> Unsealed:
    """Up to about `limit` attempts that are not sealed, the oldest first: of each transaction all or none."""
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
        )
        SELECT since, until, tenant_id, attempt.recorded_in, attempt_id, delivery_id, number, kind, outcome, reason,
               started_at, host(remote_address) AS remote_address, host(egress_address) AS egress_address, status,
               encode(coalesce(headers_sha256, sha256(convert_to(response_headers::text, 'UTF8'))), 'hex')
                   AS response_headers_sha256,
               response_length, encode(response_sha256, 'hex') AS response_sha256, encode(fingerprint, 'hex') AS sent
        FROM progress
        LEFT JOIN (found JOIN attempt USING (delivery_id, number) JOIN delivery USING (delivery_id)) ON true
        ORDER BY found.recorded_in, delivery_id, number
        """,
        {"limit": limit},
        repeatable=True,
    )
    attempts = [_facts(row) for row in rows if row["attempt_id"] is not None]
    until = rows[0]["until"] if len(attempts) < limit else attempts[-1].recorded_in + 1
    return Unsealed(since=rows[0]["since"], until=until, attempts=attempts)


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


def attempts_of(database: Database, *, tenant_id: TenantId, seal_id: UUID) -> list[AttemptFacts]:
    """The attempts of a seal that are still there, in the order in which they were sealed."""
    rows = database.rows(
        """
        SELECT delivery.tenant_id, recorded_in, attempt_id, delivery_id, number, kind, outcome, reason, started_at,
               host(remote_address) AS remote_address, host(egress_address) AS egress_address, status,
               encode(coalesce(headers_sha256, sha256(convert_to(response_headers::text, 'UTF8'))), 'hex')
                   AS response_headers_sha256,
               response_length, encode(response_sha256, 'hex') AS response_sha256, encode(fingerprint, 'hex') AS sent
        FROM attempt JOIN delivery USING (delivery_id)
        WHERE delivery.tenant_id = %(tenant_id)s
          AND recorded_in >= (SELECT since FROM attempt_seal WHERE seal_id = %(seal_id)s)
          AND recorded_in < (SELECT until FROM attempt_seal WHERE seal_id = %(seal_id)s)
        ORDER BY recorded_in, delivery_id, number
        """,
        {"tenant_id": tenant_id, "seal_id": seal_id},
        repeatable=True,
    )
    return [_facts(row) for row in rows]


def _facts(row: dict[str, Any]) -> AttemptFacts:
    started_at: datetime = row["started_at"]
    return AttemptFacts(
        tenant_id=TenantId(row["tenant_id"]),
        recorded_in=row["recorded_in"],
        content={
            "attempt_id": str(row["attempt_id"]),
            "delivery_id": str(row["delivery_id"]),
            "egress_address": row["egress_address"],
            "kind": row["kind"],
            "number": row["number"],
            "outcome": row["outcome"],
            "reason": row["reason"],
            "remote_address": row["remote_address"],
            "response_headers_sha256": row["response_headers_sha256"],
            "response_length": row["response_length"],
            "response_sha256": row["response_sha256"],
            "sent_sha256": row["sent"],
            "started_at": f"{started_at:%Y-%m-%dT%H:%M:%S.%fZ}",
            "status": row["status"],
        },
    )


def _row(seal: AttemptSeal) -> dict[str, str]:
    return {
        "seal_id": str(seal.seal_id),
        "tenant_id": str(seal.entry.tenant_id),
        "at": seal.entry.at.isoformat(),
        "content": seal.entry.content,
        "leaves": seal.leaves.hex(),
    }

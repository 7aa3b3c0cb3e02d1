"""Statements on `proposal`, and the setting of a tenant that asks for them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from db.connection import Database
from domain.ids import ProposalId, TenantId
from domain.proposals import MOST_OPEN, Proposal, ProposalState


def approvals_above(database: Database, tenant_id: TenantId) -> int | None:
    """How many deliveries one token may replay or cancel at once; None where nothing needs an approval."""
    rows = database.rows(
        "SELECT approvals_above FROM tenant WHERE tenant_id = %(tenant_id)s",
        {"tenant_id": tenant_id},
        repeatable=True,
    )
    return rows[0]["approvals_above"] if rows else None


def set_approvals(database: Database, *, tenant_name: str, above: int | None) -> bool:
    """Whether there is such a tenant, whose setting is that now."""
    rows = database.rows(
        "UPDATE tenant SET approvals_above = %(above)s WHERE name = %(name)s RETURNING tenant_id",
        {"name": tenant_name, "above": above},
        repeatable=True,
    )
    return bool(rows)


def insert(database: Database, proposal: Proposal, *, sealed_request: bytes) -> bool:
    """Stores a new proposal, unless the tenant has too many open ones."""
    rows = database.rows(
        """
        WITH before AS (
            SELECT proposal_id FROM proposal WHERE proposal_id = %(proposal_id)s  -- by the first run
        ), made AS (
            INSERT INTO proposal (
                proposal_id, tenant_id, act, target, request, sealed_request, state, created_at, created_by, expires_at)
            SELECT %(proposal_id)s, %(tenant_id)s, %(act)s, %(target)s, %(request)s::text::jsonb, %(sealed_request)s,
                   'open', %(created_at)s, %(created_by)s, %(expires_at)s
            WHERE NOT EXISTS (SELECT FROM before)
              AND has_room_for_proposal(%(tenant_id)s, %(proposal_id)s, %(created_at)s, %(most)s)
            -- Where the first run is still going on this raises: the statement is run again, and finds what it wrote.
            RETURNING proposal_id
        )
        SELECT proposal_id FROM made UNION ALL SELECT proposal_id FROM before
        """,
        {
            "proposal_id": proposal.proposal_id,
            "tenant_id": proposal.tenant_id,
            "act": proposal.act,
            "target": proposal.target,
            "request": msgspec.json.encode(proposal.request).decode(),
            "sealed_request": sealed_request,
            "created_at": proposal.created_at,
            "created_by": proposal.created_by,
            "expires_at": proposal.expires_at,
            "most": MOST_OPEN,
        },
        repeatable=True,
    )
    return bool(rows)


def find(database: Database, proposal_id: ProposalId, *, tenant_id: TenantId, now: datetime) -> Proposal | None:
    """The tenant's proposal of that id; None where it has none."""
    rows = database.rows(
        """
        SELECT proposal_id, tenant_id, act, target, request, state, created_at, created_by, expires_at, decided_at,
               decided_by
        FROM proposal
        WHERE proposal_id = %(proposal_id)s AND tenant_id = %(tenant_id)s
        """,
        {"proposal_id": proposal_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return _proposal(rows[0], now=now) if rows else None


def page(
    database: Database, *, tenant_id: TenantId, before: ProposalId | None, limit: int, now: datetime
) -> list[Proposal]:
    """Up to `limit` proposals of a tenant, the newest first, from the one after `before` on."""
    rows = database.rows(
        """
        SELECT proposal_id, tenant_id, act, target, request, state, created_at, created_by, expires_at, decided_at,
               decided_by
        FROM proposal
        WHERE tenant_id = %(tenant_id)s AND proposal_id < %(before)s
        ORDER BY proposal_id DESC
        LIMIT %(limit)s
        """,
        {"tenant_id": tenant_id, "before": before or UUID(int=2**128 - 1), "limit": limit},
        repeatable=True,
    )
    return [_proposal(row, now=now) for row in rows]


def approve(
    database: Database, proposal_id: ProposalId, *, tenant_id: TenantId, by: str, now: datetime
) -> bytes | None:
    """The sealed call of a proposal that this token approves, or has approved and not seen the end of. None where it is
    not open any more, where another one approved it, and where the token is the one that proposed it."""
    rows = database.rows(
        """
        WITH approved AS (
            UPDATE proposal SET state = 'approved', decided_at = %(now)s, decided_by = %(by)s
            WHERE proposal_id = %(proposal_id)s AND tenant_id = %(tenant_id)s AND state = 'open'
              AND expires_at > %(now)s AND created_by <> %(by)s
            RETURNING sealed_request
        )
        SELECT sealed_request FROM approved
        UNION ALL
        SELECT sealed_request FROM proposal
        WHERE proposal_id = %(proposal_id)s AND tenant_id = %(tenant_id)s AND state = 'approved' AND decided_by = %(by)s
        """,
        {"proposal_id": proposal_id, "tenant_id": tenant_id, "by": by, "now": now},
        repeatable=True,
    )
    return rows[0]["sealed_request"] if rows else None


def reject(database: Database, proposal_id: ProposalId, *, tenant_id: TenantId, by: str, now: datetime) -> bool:
    """Whether this token has rejected a proposal that was open, which then holds the call no more."""
    rows = database.rows(
        """
        WITH rejected AS (
            UPDATE proposal SET state = 'rejected', decided_at = %(now)s, decided_by = %(by)s, sealed_request = NULL
            WHERE proposal_id = %(proposal_id)s AND tenant_id = %(tenant_id)s AND state = 'open'
              AND expires_at > %(now)s
            RETURNING proposal_id
        )
        SELECT proposal_id FROM rejected
        UNION ALL
        SELECT proposal_id FROM proposal
        WHERE proposal_id = %(proposal_id)s AND tenant_id = %(tenant_id)s AND state = 'rejected' AND decided_by = %(by)s
        """,
        {"proposal_id": proposal_id, "tenant_id": tenant_id, "by": by, "now": now},
        repeatable=True,
    )
    return bool(rows)


def finish(database: Database, proposal_id: ProposalId, *, state: ProposalState) -> None:
    """What came of a proposal that was approved, which then holds the call no more."""
    database.rows(
        """
        UPDATE proposal SET state = %(state)s, sealed_request = NULL
        WHERE proposal_id = %(proposal_id)s AND state = 'approved'
        RETURNING proposal_id
        """,
        {"proposal_id": proposal_id, "state": state.value},
        repeatable=True,
    )


def _proposal(row: Mapping[str, Any], *, now: datetime) -> Proposal:
    is_late = row["state"] == "open" and row["expires_at"] <= now
    return Proposal(
        proposal_id=ProposalId(row["proposal_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        act=row["act"],
        target=row["target"],
        request=row["request"],
        state=ProposalState.EXPIRED if is_late else ProposalState(row["state"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        decided_at=row["decided_at"],
        decided_by=row["decided_by"],
    )

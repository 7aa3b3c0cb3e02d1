"""Statements on `tenant` and `token`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.ids import DestinationId, TenantId, TokenId
from domain.values import value_class

TOKENS_OF_A_PAGE = 1000  # each takes 1.3 KB at the most


@value_class(frozen=True, slots=True, kw_only=True)
class Caller:
    """The tenant that a bearer token belongs to, and what the token may do: with which destinations, by their ids and
    their names; None for all."""

    tenant_id: TenantId
    token_id: TokenId
    scopes: tuple[str, ...]
    destinations: tuple[str, ...] | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token as operators see it: never the secret. Times are None where it was not revoked or never used, or does not
    end by itself; `destination_ids` is None where it is for all destinations."""

    token_id: TokenId
    tenant_id: TenantId
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    destination_ids: tuple[DestinationId, ...] | None


def caller_of(database: Database, *, token_sha256: bytes, now: datetime) -> Caller | None:
    """The caller that a token belongs to; None for a token that was never issued, is revoked, or has ended.

    Records the use, at most once a minute per token, so that a busy token does not rewrite its row with every call.
    """
    rows = database.rows(
        """
        WITH good AS (
            SELECT token_id, tenant_id, scopes, last_used_at, destination_ids
            FROM token
            WHERE token_sha256 = %(token_sha256)s AND revoked_at IS NULL
              AND (expires_at IS NULL OR expires_at > %(now)s)
        ), noted AS (
            UPDATE token SET last_used_at = %(now)s
            FROM good
            WHERE token.token_id = good.token_id
              AND (good.last_used_at IS NULL OR good.last_used_at < %(now)s - interval '1 minute')
        )
        SELECT token_id, tenant_id, scopes,
               CASE WHEN destination_ids IS NOT NULL THEN ARRAY (
                   SELECT unnest(ARRAY [destination_id::text, name])
                   FROM destination
                   WHERE destination_id = ANY (destination_ids) AND destination.tenant_id = good.tenant_id
               ) END AS destinations
        FROM good
        """,
        {"token_sha256": token_sha256, "now": now},
        repeatable=True,
    )
    if not rows:
        return None
    return Caller(
        tenant_id=TenantId(rows[0]["tenant_id"]),
        token_id=TokenId(rows[0]["token_id"]),
        scopes=tuple(rows[0]["scopes"]),
        destinations=None if rows[0]["destinations"] is None else tuple(rows[0]["destinations"]),
    )


def issue_token(
    database: Database,
    *,
    tenant_id: TenantId,
    tenant_name: str,
    token_id: TokenId,
    token_sha256: bytes,
    scopes: tuple[str, ...],
    now: datetime,
    expires_at: datetime | None = None,
    destination_ids: Sequence[DestinationId] | None = None,
) -> TenantId:
    """Stores a token and, where it is new, its tenant under `tenant_id`; returns the id of the tenant of that name.

    Where the connection breaks, the statement is run again, and leaves the token that the first run stored.
    """
    rows = database.rows(
        """
        WITH owner AS (
            -- The update changes nothing; it makes the statement return the row also where the tenant was there before.
            INSERT INTO tenant (tenant_id, name, created_at)
            VALUES (%(tenant_id)s, %(tenant_name)s, %(now)s)
            ON CONFLICT ON CONSTRAINT tenant_name_once DO UPDATE SET name = EXCLUDED.name
            RETURNING tenant_id
        ), stored AS (
            INSERT INTO token (token_id, tenant_id, token_sha256, scopes, created_at, expires_at, destination_ids)
            SELECT %(token_id)s, tenant_id, %(token_sha256)s, %(scopes)s, %(now)s, %(expires_at)s,
                   %(destination_ids)s::uuid[]
            FROM owner
            ON CONFLICT ON CONSTRAINT token_pkey DO NOTHING
        )
        SELECT tenant_id FROM owner
        """,
        {
            "tenant_id": tenant_id,
            "tenant_name": tenant_name,
            "token_id": token_id,
            "token_sha256": token_sha256,
            "scopes": list(scopes),
            "now": now,
            "expires_at": expires_at,
            "destination_ids": None if destination_ids is None else list(destination_ids),
        },
        repeatable=True,
    )
    return TenantId(rows[0]["tenant_id"])


def revoke_token(database: Database, *, token_id: TokenId, now: datetime) -> datetime | None:
    """Revokes a token and returns when it was revoked; None when there is no such token."""
    rows = database.rows(
        """
        UPDATE token SET revoked_at = coalesce(revoked_at, %(now)s)
        WHERE token_id = %(token_id)s
        RETURNING revoked_at
        """,
        {"token_id": token_id, "now": now},
        repeatable=True,
    )
    return rows[0]["revoked_at"] if rows else None


def tenant_of(database: Database, token_id: TokenId) -> TenantId | None:
    """Whose token it is; None where there is no such token."""
    rows = database.rows(
        "SELECT tenant_id FROM token WHERE token_id = %(token_id)s", {"token_id": token_id}, repeatable=True
    )
    return TenantId(rows[0]["tenant_id"]) if rows else None


@value_class(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose destinations, deliveries and tokens they are."""

    tenant_id: TenantId
    name: str
    created_at: datetime


def create(database: Database, *, tenant_id: TenantId, name: str, now: datetime) -> Tenant:
    """A tenant, as it is where there is one of that name already."""
    rows = database.rows(
        """
        INSERT INTO tenant (tenant_id, name, created_at) VALUES (%(tenant_id)s, %(name)s, %(now)s)
        ON CONFLICT ON CONSTRAINT tenant_name_once DO UPDATE SET name = EXCLUDED.name
        RETURNING tenant_id, name, created_at
        """,
        {"tenant_id": tenant_id, "name": name, "now": now},
        repeatable=True,
    )
    return Tenant(**rows[0])


def find(database: Database, *, name: str) -> Tenant | None:
    """The tenant of that name; None where there is none."""
    rows = database.rows(
        "SELECT tenant_id, name, created_at FROM tenant WHERE name = %(name)s", {"name": name}, repeatable=True
    )
    return Tenant(**rows[0]) if rows else None


def page(database: Database, *, after: str, limit: int) -> list[Tenant]:
    """Up to `limit` tenants by name, behind `after`."""
    rows = database.rows(
        """
        SELECT tenant_id, name, created_at FROM tenant WHERE name > %(after)s ORDER BY name LIMIT %(limit)s
        """,
        {"after": after, "limit": limit},
        repeatable=True,
    )
    return [Tenant(**row) for row in rows]


def tokens_of(database: Database, *, tenant_name: str, after: TokenId | None = None) -> list[TokenRecord]:
    """The TOKENS_OF_A_PAGE oldest tokens of a tenant that came after `after` (None: from the first on); none for a
    tenant that does not exist."""
    rows = database.rows(
        """
        -- Materialized: for a LIMIT all tokens may be read by their ids, until enough are this tenant's.
        WITH listed AS MATERIALIZED (
            SELECT token.token_id, token.tenant_id, token.scopes, token.created_at, token.revoked_at,
                   token.last_used_at, token.expires_at, token.destination_ids
            FROM token JOIN tenant USING (tenant_id)
            WHERE tenant.name = %(tenant_name)s AND token.token_id > %(after)s
        )
        SELECT token_id, tenant_id, scopes, created_at, revoked_at, last_used_at, expires_at, destination_ids
        FROM listed
        ORDER BY token_id
        LIMIT %(limit)s
        """,
        {"tenant_name": tenant_name, "after": after or UUID(int=0), "limit": TOKENS_OF_A_PAGE},
        repeatable=True,
    )
    return [_token_record(row) for row in rows]


def _token_record(row: Mapping[str, Any]) -> TokenRecord:
    ids = row["destination_ids"]
    lists = {"scopes": tuple(row["scopes"]), "destination_ids": None if ids is None else tuple(ids)}
    return TokenRecord(**{**row, **lists})


def destinations_of(database: Database, *, tenant_name: str, references: Sequence[str]) -> dict[str, DestinationId]:
    """The ids of those of `references`, names or ids, that the tenant has a destination of."""
    rows = database.rows(
        """
        SELECT listed.reference, destination.destination_id
        FROM unnest(%(references)s::text[]) AS listed (reference)
        JOIN destination ON listed.reference IN (destination.name, destination.destination_id::text)
        JOIN tenant USING (tenant_id)
        WHERE tenant.name = %(tenant_name)s AND destination.deleted_at IS NULL
        """,
        {"tenant_name": tenant_name, "references": list(references)},
        repeatable=True,
    )
    return {row["reference"]: DestinationId(row["destination_id"]) for row in rows}

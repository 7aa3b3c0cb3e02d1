"""Statements on `tenant` and `token`."""

from dataclasses import dataclass
from datetime import datetime

from db.connection import Database
from domain.ids import TenantId, TokenId


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The tenant that a bearer token belongs to, and what the token may do."""

    tenant_id: TenantId
    token_id: TokenId
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token as operators see it: never the secret. Times are None where it was not revoked or never used."""

    token_id: TokenId
    tenant_id: TenantId
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


def caller_of(database: Database, *, token_sha256: bytes, now: datetime) -> Caller | None:
    """The caller that a token belongs to; None for a token that was never issued or is revoked.

    Records the use, at most once a minute per token, so that a busy token does not rewrite its row with every call.
    """
    rows = database.rows(
        """
        WITH good AS (
            SELECT token_id, tenant_id, scopes, last_used_at
            FROM token
            WHERE token_sha256 = %(token_sha256)s AND revoked_at IS NULL
        ), noted AS (
            UPDATE token SET last_used_at = %(now)s
            FROM good
            WHERE token.token_id = good.token_id
              AND (good.last_used_at IS NULL OR good.last_used_at < %(now)s - interval '1 minute')
        )
        SELECT token_id, tenant_id, scopes FROM good
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
            INSERT INTO token (token_id, tenant_id, token_sha256, scopes, created_at)
            SELECT %(token_id)s, tenant_id, %(token_sha256)s, %(scopes)s, %(now)s FROM owner
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


def tokens_of(database: Database, *, tenant_name: str) -> list[TokenRecord]:
    """All tokens of a tenant, oldest first; none for a tenant that does not exist."""
    rows = database.rows(
        """
        SELECT token.token_id, token.tenant_id, token.scopes, token.created_at, token.revoked_at, token.last_used_at
        FROM token JOIN tenant USING (tenant_id)
        WHERE tenant.name = %(tenant_name)s
        ORDER BY token.token_id
        """,
        {"tenant_name": tenant_name},
        repeatable=True,
    )
    return [TokenRecord(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]

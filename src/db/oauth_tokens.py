"""Statements on `oauth_token`: one access token per destination, and who fetches the next one."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.auth import StoredToken
from domain.ids import DestinationId
from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What `take` found: whether the renewal is ours, the token as it is, and who fetches or last failed to fetch one.

    `failure` says why the renewal `failed_renewal_id` got no token.
    """

    ours: bool
    token: StoredToken | None
    renewal_id: UUID | None
    failed_renewal_id: UUID | None
    failure: str | None


def take(
    database: Database,
    destination_id: DestinationId,
    *,
    renewal_id: UUID,
    instead_of: UUID | None,
    until: datetime,
    now: datetime,
) -> Renewal | None:
    """Takes the renewal of a destination's token until then, unless another worker has it, or has fetched a token
    since: one other than `instead_of` (None where there was none). Run twice, it says the same.

    None where another worker's first row is being committed: the next look finds it.
    """
    rows = database.rows(
        """
        WITH taken AS (
            INSERT INTO oauth_token (destination_id, renewal_id, renewing_until)
            VALUES (%(destination_id)s, %(renewal_id)s, %(until)s)
            ON CONFLICT ON CONSTRAINT oauth_token_pkey DO UPDATE
            SET renewal_id = EXCLUDED.renewal_id, renewing_until = EXCLUDED.renewing_until
            WHERE oauth_token.token_id IS NOT DISTINCT FROM %(instead_of)s
              AND (oauth_token.renewing_until IS NULL OR oauth_token.renewing_until <= %(now)s
                   OR oauth_token.renewal_id = %(renewal_id)s)
            RETURNING to_jsonb(oauth_token) AS token, renewal_id, failed_renewal_id, failure
        )
        SELECT TRUE AS ours, token, renewal_id, failed_renewal_id, failure FROM taken
        UNION ALL
        SELECT FALSE, to_jsonb(oauth_token), renewal_id, failed_renewal_id, failure
        FROM oauth_token
        WHERE destination_id = %(destination_id)s AND NOT EXISTS (SELECT FROM taken)
        """,
        {
            "destination_id": destination_id,
            "renewal_id": renewal_id,
            "instead_of": instead_of,
            "until": until,
            "now": now,
        },
        repeatable=True,
    )
    return _renewal(rows[0]) if rows else None


def find(database: Database, destination_id: DestinationId) -> StoredToken | None:
    """The token as it is; None where the destination never had one."""
    rows = database.rows(
        "SELECT to_jsonb(oauth_token) AS token FROM oauth_token WHERE destination_id = %(destination_id)s",
        {"destination_id": destination_id},
        repeatable=True,
    )
    return stored_token(rows[0]["token"]) if rows else None


def store(
    database: Database,
    destination_id: DestinationId,
    token: StoredToken,
    *,
    renewal_id: UUID,
) -> None:
    """Stores the token that this renewal got, and ends it. One that took too long changes nothing."""
    database.rows(
        """
        UPDATE oauth_token
        SET token_id = %(token_id)s, sealed_token = %(sealed_token)s, token_basis = %(token_basis)s,
            usable_until = %(usable_until)s, renew_at = %(renew_at)s, renewal_id = NULL, renewing_until = NULL,
            failed_renewal_id = NULL, failure = NULL, replaceable_from = %(replaceable_from)s
        WHERE destination_id = %(destination_id)s AND renewal_id = %(renewal_id)s
        RETURNING destination_id
        """,
        {
            "destination_id": destination_id,
            "renewal_id": renewal_id,
            "token_id": token.token_id,
            "sealed_token": token.sealed_token,
            "token_basis": token.basis,
            "usable_until": token.usable_until,
            "renew_at": token.renew_at,
            "replaceable_from": token.replaceable_from,
        },
        repeatable=True,
    )


def fail(
    database: Database, destination_id: DestinationId, *, renewal_id: UUID, failure: str, again_at: datetime
) -> None:
    """Ends a renewal that got no token. A token that is still good is not renewed before `again_at`."""
    database.rows(
        """
        UPDATE oauth_token
        SET renew_at = CASE WHEN renew_at IS NOT NULL THEN greatest(renew_at, %(again_at)s::timestamptz) END,
            renewal_id = NULL, renewing_until = NULL, failed_renewal_id = %(renewal_id)s, failure = %(failure)s
        WHERE destination_id = %(destination_id)s AND renewal_id = %(renewal_id)s
        RETURNING destination_id
        """,
        {"destination_id": destination_id, "renewal_id": renewal_id, "failure": failure, "again_at": again_at},
        repeatable=True,
    )


def stored_token(stored: Mapping[str, Any] | None) -> StoredToken | None:
    """From a row of `oauth_token` as jsonb, which has bytes in hex; None where there is no row."""
    if stored is None:
        return None
    return StoredToken(
        token_id=_if_given(UUID, stored["token_id"]),
        sealed_token=_if_given(_bytes, stored["sealed_token"]),
        basis=_if_given(_bytes, stored["token_basis"]),
        usable_until=_if_given(datetime.fromisoformat, stored["usable_until"]),
        renew_at=_if_given(datetime.fromisoformat, stored["renew_at"]),
        renewing_until=_if_given(datetime.fromisoformat, stored["renewing_until"]),
        replaceable_from=_if_given(datetime.fromisoformat, stored.get("replaceable_from")),
    )


def _renewal(row: Mapping[str, Any]) -> Renewal:
    return Renewal(
        ours=row["ours"],
        token=stored_token(row["token"]),
        renewal_id=row["renewal_id"],
        failed_renewal_id=row["failed_renewal_id"],
        failure=row["failure"],
    )


def _if_given[T](read: Callable[[str], T], text: str | None) -> T | None:
    return None if text is None else read(text)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("\\x"))

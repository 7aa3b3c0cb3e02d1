"""Statements on whatever is sealed, in three tables, for the rotation of the seal key.

The bytes 2 to 5 of a sealed value say which key sealed it (egress/sealing.py). Each value is replaced only where it
still is what was read, so that nothing that is stored meanwhile is lost, and versions stay: what is sealed is the same.
"""

from collections.abc import Collection
from uuid import UUID

from db.connection import Database
from db.destinations import destination
from domain.destinations import Destination
from domain.ids import DestinationId, ProposalId
from domain.values import value_class

ROWS_OF_A_PAGE = 100


@value_class(frozen=True, slots=True, kw_only=True)
class SealedDestination:
    """What is sealed of a destination; None for what it has not."""

    credentials: bytes | None
    certificate: bytes | None
    signing: bytes | None


def count(database: Database, key_ids: Collection[bytes]) -> int:
    """How many rows have a value that one of these keys sealed."""
    rows = database.read(
        """
        SELECT (SELECT count(*) FROM destination
                WHERE substring(sealed_credentials FROM 2 FOR 4) = ANY(%(key_ids)s)
                   OR substring(sealed_certificate FROM 2 FOR 4) = ANY(%(key_ids)s)
                   OR substring(sealed_signing FROM 2 FOR 4) = ANY(%(key_ids)s))
             + (SELECT count(*) FROM oauth_token WHERE substring(sealed_token FROM 2 FOR 4) = ANY(%(key_ids)s))
             + (SELECT count(*) FROM proposal WHERE substring(sealed_request FROM 2 FOR 4) = ANY(%(key_ids)s)) AS found
        """,
        {"key_ids": list(key_ids)},
    )
    return int(rows[0]["found"])


def destinations(database: Database, key_ids: Collection[bytes], *, after: DestinationId | None) -> list[Destination]:
    """A page of destinations with a value that one of these keys sealed, also of deleted ones, by their ids."""
    rows = database.read(
        """
        SELECT destination_id, tenant_id, name, base_url, auth_type, sealed_credentials, guarantee, idempotent,
               idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at,
               nullif(options, '{}') AS options, sealed_certificate, sealed_signing
        FROM destination
        WHERE (%(after)s::uuid IS NULL OR destination_id > %(after)s)
          AND (substring(sealed_credentials FROM 2 FOR 4) = ANY(%(key_ids)s)
               OR substring(sealed_certificate FROM 2 FOR 4) = ANY(%(key_ids)s)
               OR substring(sealed_signing FROM 2 FOR 4) = ANY(%(key_ids)s))
        ORDER BY destination_id
        LIMIT %(limit)s
        """,
        {"key_ids": list(key_ids), "after": after, "limit": ROWS_OF_A_PAGE},
    )
    return [destination(row) for row in rows]


def reseal_destination(
    database: Database,
    destination_id: DestinationId,
    *,
    before: SealedDestination,
    sealed: SealedDestination,
    bases: tuple[bytes, bytes] | None,
) -> bool:
    """Replaces what is sealed of a destination; False where it is not that any more. `bases` are what its access token
    was asked for with, before and now: a token that is good stays so. None where it has none."""
    rows = database.rows(
        """
        WITH resealed AS (
            UPDATE destination
            SET sealed_credentials = %(credentials)s, sealed_certificate = %(certificate)s, sealed_signing = %(signing)s
            WHERE destination_id = %(destination_id)s
              AND sealed_credentials IS NOT DISTINCT FROM %(credentials_before)s
              AND sealed_certificate IS NOT DISTINCT FROM %(certificate_before)s
              AND sealed_signing IS NOT DISTINCT FROM %(signing_before)s
            RETURNING destination_id
        ), kept AS (
            UPDATE oauth_token
            SET token_basis = %(basis)s
            FROM resealed
            WHERE oauth_token.destination_id = resealed.destination_id AND token_basis = %(basis_before)s
        )
        SELECT destination_id FROM resealed
        UNION ALL
        SELECT destination_id FROM destination  -- by the first run
        WHERE destination_id = %(destination_id)s
          AND sealed_credentials IS NOT DISTINCT FROM %(credentials)s
          AND sealed_certificate IS NOT DISTINCT FROM %(certificate)s
          AND sealed_signing IS NOT DISTINCT FROM %(signing)s
        """,
        {
            "destination_id": destination_id,
            "credentials": sealed.credentials,
            "certificate": sealed.certificate,
            "signing": sealed.signing,
            "credentials_before": before.credentials,
            "certificate_before": before.certificate,
            "signing_before": before.signing,
            "basis_before": None if bases is None else bases[0],
            "basis": None if bases is None else bases[1],
        },
        repeatable=True,
    )
    return bool(rows)


def tokens(database: Database, key_ids: Collection[bytes], *, after: UUID | None) -> list[tuple[UUID, bytes]]:
    """A page of access tokens that one of these keys sealed, by the ids of their destinations."""
    rows = database.read(
        """
        SELECT destination_id, sealed_token
        FROM oauth_token
        WHERE (%(after)s::uuid IS NULL OR destination_id > %(after)s)
          AND substring(sealed_token FROM 2 FOR 4) = ANY(%(key_ids)s)
        ORDER BY destination_id
        LIMIT %(limit)s
        """,
        {"key_ids": list(key_ids), "after": after, "limit": ROWS_OF_A_PAGE},
    )
    return [(row["destination_id"], row["sealed_token"]) for row in rows]


def reseal_token(database: Database, destination_id: DestinationId, *, before: bytes, sealed: bytes) -> bool:
    """Replaces a sealed access token; False where there is another one by now."""
    rows = database.rows(
        """
        WITH resealed AS (
            UPDATE oauth_token SET sealed_token = %(sealed)s
            WHERE destination_id = %(destination_id)s AND sealed_token = %(before)s
            RETURNING destination_id
        )
        SELECT destination_id FROM resealed
        UNION ALL
        SELECT destination_id FROM oauth_token  -- by the first run
        WHERE destination_id = %(destination_id)s AND sealed_token = %(sealed)s
        """,
        {"destination_id": destination_id, "before": before, "sealed": sealed},
        repeatable=True,
    )
    return bool(rows)


def proposals(database: Database, key_ids: Collection[bytes], *, after: UUID | None) -> list[tuple[UUID, bytes]]:
    """A page of proposals whose call one of these keys sealed, by their ids."""
    rows = database.read(
        """
        SELECT proposal_id, sealed_request
        FROM proposal
        WHERE (%(after)s::uuid IS NULL OR proposal_id > %(after)s)
          AND substring(sealed_request FROM 2 FOR 4) = ANY(%(key_ids)s)
        ORDER BY proposal_id
        LIMIT %(limit)s
        """,
        {"key_ids": list(key_ids), "after": after, "limit": ROWS_OF_A_PAGE},
    )
    return [(row["proposal_id"], row["sealed_request"]) for row in rows]


def reseal_proposal(database: Database, proposal_id: ProposalId, *, before: bytes, sealed: bytes) -> bool:
    """Replaces the sealed call of a proposal; False where it has been decided by now."""
    rows = database.rows(
        """
        WITH resealed AS (
            UPDATE proposal SET sealed_request = %(sealed)s
            WHERE proposal_id = %(proposal_id)s AND sealed_request = %(before)s
            RETURNING proposal_id
        )
        SELECT proposal_id FROM resealed
        UNION ALL
        SELECT proposal_id FROM proposal  -- by the first run
        WHERE proposal_id = %(proposal_id)s AND sealed_request = %(sealed)s
        """,
        {"proposal_id": proposal_id, "before": before, "sealed": sealed},
        repeatable=True,
    )
    return bool(rows)

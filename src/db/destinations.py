"""Statements on `destination`."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from db.connection import Database
from domain.auth import AuthType
from domain.destinations import Destination, DestinationState, Guarantee, ManagedDestination, Timeouts
from domain.errors import NameTaken, StatementRefused
from domain.ids import DeliveryId, DestinationId, TenantId
from domain.options import PLAIN, DestinationOptions
from runtime.conversion import converted

TAKEN = "there is a destination of that name already"


def insert(database: Database, destination: Destination) -> None:
    """Stores a new destination. Raises NameTaken where the tenant has one of that name.

    Where the connection breaks, the statement is run again, and finds what the first one stored.
    """
    rows = database.rows(
        """
        WITH before AS (
            SELECT destination_id FROM destination WHERE destination_id = %(destination_id)s  -- by the first run
        ), stored AS (
            INSERT INTO destination (
                destination_id, tenant_id, name, base_url, auth_type, sealed_credentials, guarantee, idempotent,
                idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at, options,
                sealed_certificate, sealed_signing)
            SELECT %(destination_id)s, %(tenant_id)s, %(name)s, %(base_url)s, %(auth_type)s, %(sealed_credentials)s,
                   %(guarantee)s, %(idempotent)s, %(idempotency_header)s, %(connect_seconds)s, %(first_byte_seconds)s,
                   %(total_seconds)s, %(created_at)s, %(options)s::text::jsonb, %(sealed_certificate)s,
                   %(sealed_signing)s
            WHERE NOT EXISTS (SELECT FROM before)  -- which may have another name by now, as what is deleted has
            ON CONFLICT ON CONSTRAINT destination_name_once DO NOTHING
            RETURNING destination_id
        )
        SELECT destination_id FROM stored UNION ALL SELECT destination_id FROM before
        """,
        _columns(destination) | {"created_at": destination.created_at},
        repeatable=True,
    )
    if not rows:
        raise NameTaken(TAKEN)


def find(
    database: Database, *, tenant_id: TenantId, reference: str, deleted: bool = False
) -> ManagedDestination | None:
    """The tenant's destination of that name or id; None where it has none.

    With `deleted` also one that was deleted, under its id and its last name.
    """
    rows = database.rows(
        """
        SELECT destination_id, tenant_id, coalesce(deleted_name, name) AS name, base_url, auth_type, sealed_credentials,
               guarantee, idempotent, idempotency_header, connect_seconds, first_byte_seconds, total_seconds,
               created_at, nullif(options, '{}') AS options, sealed_certificate, sealed_signing, state, state_reason,
               state_changed_at, state_changed_by, version, credentials_changed_at
        FROM destination
        WHERE tenant_id = %(tenant_id)s AND (name = %(reference)s OR destination_id = %(destination_id)s)
          AND (deleted_at IS NULL OR %(deleted)s)
        """,
        {"tenant_id": tenant_id, "reference": reference, "destination_id": as_id(reference), "deleted": deleted},
        repeatable=True,
    )
    return _managed(rows[0]) if rows else None


def page(
    database: Database, *, tenant_id: TenantId, before: DestinationId | None, limit: int
) -> list[ManagedDestination]:
    """Up to `limit` of the tenant's destinations, newest first, older than `before` (None: from the newest)."""
    rows = database.read(
        """
        SELECT destination_id, tenant_id, name, base_url, auth_type, sealed_credentials, guarantee, idempotent,
               idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at,
               nullif(options, '{}') AS options, sealed_certificate, sealed_signing, state, state_reason,
               state_changed_at, state_changed_by, version, credentials_changed_at
        FROM destination
        WHERE tenant_id = %(tenant_id)s AND (%(before)s::uuid IS NULL OR destination_id < %(before)s)
          AND deleted_at IS NULL
        ORDER BY destination_id DESC
        LIMIT %(limit)s
        """,
        {"tenant_id": tenant_id, "before": before, "limit": limit},
    )
    return [_managed(row) for row in rows]


def set_signing(database: Database, changed: ManagedDestination, *, new_ref: str) -> bool:
    """Stores how a destination signs and with which keys, in place of its version before; False where that is not the
    present one any more. `new_ref` is the `ref` of the key that is new.

    Where the connection breaks, the statement is run again, and finds the key that the first one stored, also beneath a
    later one.
    """
    rows = database.rows(
        """
        WITH stored AS (
            UPDATE destination
            SET options = %(options)s::text::jsonb, sealed_signing = %(sealed_signing)s, version = %(version)s
            WHERE destination_id = %(destination_id)s AND tenant_id = %(tenant_id)s AND version = %(version)s - 1
              AND deleted_at IS NULL
            RETURNING version
        )
        SELECT version FROM stored
        UNION ALL
        SELECT version FROM destination  -- by the first run
        WHERE destination_id = %(destination_id)s AND tenant_id = %(tenant_id)s
          AND jsonb_path_exists(
              options, '$.signing[*].keys[*] ? (@.ref == $ref)', jsonb_build_object('ref', %(new_ref)s::text))
        """,
        {
            "destination_id": changed.destination_id,
            "tenant_id": changed.tenant_id,
            "options": options_json(changed.options),
            "sealed_signing": changed.sealed_signing,
            "version": changed.version,
            "new_ref": new_ref,
        },
        repeatable=True,
    )
    return bool(rows)


def change(database: Database, changed: ManagedDestination, *, event_id: DeliveryId | None = None) -> bool:
    """Stores all that may change of a destination, in place of its version before; False where that is not the
    present one any more. With `event_id` a change of its state is told. Raises NameTaken.

    Where the connection breaks, the statement is run again, and finds what the first run stored.
    """
    try:
        rows = database.rows(
            """
            WITH changed AS (
                UPDATE destination
                SET name = %(name)s, base_url = %(base_url)s, auth_type = %(auth_type)s,
                    sealed_credentials = %(sealed_credentials)s, guarantee = %(guarantee)s, idempotent = %(idempotent)s,
                    idempotency_header = %(idempotency_header)s, connect_seconds = %(connect_seconds)s,
                    first_byte_seconds = %(first_byte_seconds)s, total_seconds = %(total_seconds)s,
                    options = %(options)s::text::jsonb, sealed_certificate = %(sealed_certificate)s,
                    sealed_signing = %(sealed_signing)s, state = %(state)s, state_reason = %(state_reason)s,
                    state_changed_at = %(state_changed_at)s, state_changed_by = %(state_changed_by)s,
                    credentials_changed_at = %(credentials_changed_at)s, version = %(version)s,
                    event_id = coalesce(%(event_id)s::uuid, event_id)
                WHERE destination_id = %(destination_id)s AND tenant_id = %(tenant_id)s
                  AND version = %(version)s - 1 AND deleted_at IS NULL
                RETURNING version, destination_id
            ), new_line AS (
                -- The turns that were given are those of its limits before; and what made it fail may be what was
                -- changed, so an open circuit breaker lets its next probe through.
                UPDATE destination_flow
                SET line_until = '-infinity',
                    open_until = CASE WHEN open_until IS NOT NULL THEN '-infinity'::timestamptz END
                FROM changed
                WHERE destination_flow.destination_id = changed.destination_id
            )
            SELECT version FROM changed
            UNION ALL
            SELECT version FROM destination  -- by the first run: somebody else's version would differ in something
            WHERE destination_id = %(destination_id)s AND version = %(version)s AND deleted_at IS NULL
              AND (name, base_url, auth_type, guarantee, idempotent, idempotency_header, connect_seconds,
                   first_byte_seconds, total_seconds, options, state)
                  = (%(name)s, %(base_url)s, %(auth_type)s, %(guarantee)s, %(idempotent)s, %(idempotency_header)s,
                     %(connect_seconds)s, %(first_byte_seconds)s, %(total_seconds)s, %(options)s::text::jsonb,
                     %(state)s)
              AND sealed_credentials IS NOT DISTINCT FROM %(sealed_credentials)s
              AND sealed_certificate IS NOT DISTINCT FROM %(sealed_certificate)s
              AND sealed_signing IS NOT DISTINCT FROM %(sealed_signing)s
              AND state_changed_at IS NOT DISTINCT FROM %(state_changed_at)s
            """,
            {
                **_columns(changed),
                "state": changed.state.value,
                "state_reason": changed.state_reason,
                "state_changed_at": changed.state_changed_at,
                "state_changed_by": changed.state_changed_by,
                "credentials_changed_at": changed.credentials_changed_at,
                "version": changed.version,
                "event_id": event_id,
            },
            repeatable=True,
        )
    except StatementRefused as refused:
        if refused.constraint == "destination_name_once":
            raise NameTaken(TAKEN) from None
        raise
    return bool(rows)


def delete(database: Database, current: ManagedDestination, *, cancel: bool, deleted_by: str, now: datetime) -> bool:
    """Deletes a destination at the version that it has in `current`; False where that is not the present one any more,
    and, unless `cancel` is true, where deliveries to it are unfinished.

    Its row stays, disabled and under its id as a name: the deliveries in the past are shown with it.
    """
    rows = database.rows(
        """
        WITH deleted AS (
            UPDATE destination
            SET deleted_at = %(now)s, deleted_name = name, name = destination_id::text, state = 'disabled',
                state_reason = NULL, state_changed_at = %(now)s, state_changed_by = %(deleted_by)s,
                version = version + 1
            WHERE destination_id = %(destination_id)s AND tenant_id = %(tenant_id)s AND version = %(version)s
              AND deleted_at IS NULL
              AND (%(cancel)s OR NOT EXISTS (
                    SELECT FROM delivery WHERE destination_id = %(destination_id)s AND phase = 'open'))
            RETURNING destination_id
        )
        SELECT destination_id FROM deleted
        UNION ALL
        SELECT destination_id FROM destination  -- by the first run
        WHERE destination_id = %(destination_id)s AND deleted_at = %(now)s AND version = %(version)s + 1
        """,
        {
            "destination_id": current.destination_id,
            "tenant_id": current.tenant_id,
            "version": current.version,
            "cancel": cancel,
            "deleted_by": deleted_by,
            "now": now,
        },
        repeatable=True,
    )
    return bool(rows)


def restore(database: Database, deleted: ManagedDestination, *, now: datetime) -> bool:
    """Takes back that `deleted` was deleted at `now`, of which it is the version before; False where its name has been
    taken meanwhile."""
    try:
        rows = database.rows(
            """
            WITH restored AS (
                UPDATE destination
                SET deleted_at = NULL, name = deleted_name, deleted_name = NULL, state = %(state)s,
                    state_reason = %(state_reason)s, state_changed_at = %(state_changed_at)s,
                    state_changed_by = %(state_changed_by)s, version = version + 1
                WHERE destination_id = %(destination_id)s AND tenant_id = %(tenant_id)s AND deleted_at = %(now)s
                RETURNING destination_id
            )
            SELECT destination_id FROM restored
            UNION ALL
            SELECT destination_id FROM destination  -- by the first run
            WHERE destination_id = %(destination_id)s AND deleted_at IS NULL AND version = %(version)s + 2
            """,
            {
                "destination_id": deleted.destination_id,
                "tenant_id": deleted.tenant_id,
                "version": deleted.version,
                "state": deleted.state.value,
                "state_reason": deleted.state_reason,
                "state_changed_at": deleted.state_changed_at,
                "state_changed_by": deleted.state_changed_by,
                "now": now,
            },
            repeatable=True,
        )
    except StatementRefused as refused:
        if refused.constraint == "destination_name_once":
            return False
        raise
    return bool(rows)


def unknown_zones(database: Database, names: Collection[str]) -> frozenset[str]:
    """Those of `names` that are not IANA's names of time zones in PostgreSQL's own data. Reads all of that, in which
    are also copies that count leap seconds or not, and names of what a server happens to be set to."""
    rows = database.rows(
        """
        SELECT listed.name
        FROM unnest(%(names)s::text[]) AS listed (name)
        WHERE listed.name ~ '^(posix|right)/' OR listed.name IN ('localtime', 'posixrules', 'Factory')
           OR listed.name NOT IN (SELECT known.name FROM pg_timezone_names AS known)
        """,
        {"names": sorted(names)},
        repeatable=True,
    )
    return frozenset(row["name"] for row in rows)


def as_id(reference: str) -> UUID | None:
    """The id that a reference spells; None where it is a name. No name has the form of an id."""
    try:
        return UUID(reference) if len(reference) == 36 else None
    except ValueError:
        return None


def destination(row: Mapping[str, Any]) -> Destination:
    """From a row that has all columns of `destination` that an attempt needs."""
    return Destination(**_attempted(row))


def options_json(options: DestinationOptions) -> str:
    """The options as they are stored: an object of those that were given, "{}" of a plain destination."""
    given = {name: value for name, value in msgspec.to_builtins(options).items() if value is not None}
    return msgspec.json.encode(given).decode()


def _columns(destination: Destination) -> dict[str, Any]:
    """The parameters of a statement that writes what an attempt needs."""
    return {
        "destination_id": destination.destination_id,
        "tenant_id": destination.tenant_id,
        "name": destination.name,
        "base_url": destination.base_url,
        "auth_type": destination.auth_type.value,
        "sealed_credentials": destination.sealed_credentials,
        "guarantee": destination.guarantee.value,
        "idempotent": destination.idempotent,
        "idempotency_header": destination.idempotency_header,
        "connect_seconds": destination.timeouts.connect_seconds,
        "first_byte_seconds": destination.timeouts.first_byte_seconds,
        "total_seconds": destination.timeouts.total_seconds,
        "options": options_json(destination.options),
        "sealed_certificate": destination.sealed_certificate,
        "sealed_signing": destination.sealed_signing,
    }


def _options(stored: object) -> DestinationOptions:
    """None is that of a plain destination: the statements return nothing in place of an empty object."""
    return PLAIN if stored is None else converted(stored, DestinationOptions)


def _attempted(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "destination_id": DestinationId(row["destination_id"]),
        "tenant_id": TenantId(row["tenant_id"]),
        "name": row["name"],
        "base_url": row["base_url"],
        "auth_type": AuthType(row["auth_type"]),
        "sealed_credentials": row["sealed_credentials"],
        "guarantee": Guarantee(row["guarantee"]),
        "idempotent": row["idempotent"],
        "idempotency_header": row["idempotency_header"],
        "timeouts": Timeouts(
            connect_seconds=row["connect_seconds"],
            first_byte_seconds=row["first_byte_seconds"],
            total_seconds=row["total_seconds"],
        ),
        "created_at": row["created_at"],
        "options": _options(row["options"]),
        "sealed_certificate": row["sealed_certificate"],
        "sealed_signing": row["sealed_signing"],
    }


def _managed(row: Mapping[str, Any]) -> ManagedDestination:
    return ManagedDestination(
        **_attempted(row),
        state=DestinationState(row["state"]),
        state_reason=row["state_reason"],
        state_changed_at=row["state_changed_at"],
        state_changed_by=row["state_changed_by"],
        version=row["version"],
        credentials_changed_at=row["credentials_changed_at"],
    )

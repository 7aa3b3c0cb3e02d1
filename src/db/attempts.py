"""Statements on `attempt`: the log of what was tried."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.connection import Database
from db.deliveries import delivery_of
from domain.deliveries import Attempt, Delivery, KeptResponse, State
from domain.ids import AttemptId, DeliveryId, LeaseId, TenantId
from domain.outcomes import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An attempt together with what the delivery does next. `due_at` is None unless the next state is `pending`."""

    attempt: Attempt
    lease_id: LeaseId
    next_state: State
    due_at: datetime | None


def record(database: Database, records: Sequence[Record], *, now: datetime) -> frozenset[DeliveryId]:
    """Logs attempts and moves their deliveries on; returns the deliveries that were moved.

    A delivery moves only under the lease that the attempt was made with. Where that has passed to another worker, which
    then logged this attempt as unknown, the log gets the truth and the delivery stays as that worker left it. Run
    twice, the statement changes nothing the second time, so a broken connection is answered by repeating it.
    """
    rows = database.rows(
        """
        WITH made AS (
            SELECT attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms,
                   first_byte_ms, total_ms, remote_address, egress_address, status, response_headers,
                   response_body, response_length, response_sha256, response_truncated, lease_id, next_state,
                   next_due_at
            FROM unnest(
                %(attempt_id)s::uuid[], %(delivery_id)s::uuid[], %(number)s::smallint[], %(outcome)s::text[],
                %(reason)s::text[], %(started_at)s::timestamptz[], %(dns_ms)s::double precision[],
                %(connect_ms)s::double precision[], %(tls_ms)s::double precision[],
                %(first_byte_ms)s::double precision[], %(total_ms)s::double precision[], %(remote_address)s::text[],
                %(egress_address)s::text[], %(status)s::smallint[], %(response_headers)s::text[],
                %(response_body)s::bytea[], %(response_length)s::bigint[], %(response_sha256)s::bytea[],
                %(response_truncated)s::boolean[], %(lease_id)s::uuid[], %(next_state)s::text[],
                %(next_due_at)s::timestamptz[]
            ) AS listed (
                attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
                total_ms, remote_address, egress_address, status, response_headers, response_body, response_length,
                response_sha256, response_truncated, lease_id, next_state, next_due_at)
        ), logged AS (
            INSERT INTO attempt (
                attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
                total_ms, remote_address, egress_address, status, response_headers, response_body, response_length,
                response_sha256, response_truncated)
            SELECT attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms,
                   first_byte_ms, total_ms, remote_address::inet, egress_address::inet, status, response_headers::jsonb,
                   response_body, response_length, response_sha256, response_truncated
            FROM made
            ON CONFLICT ON CONSTRAINT attempt_number_once DO UPDATE
            SET outcome = EXCLUDED.outcome, reason = EXCLUDED.reason, started_at = EXCLUDED.started_at,
                dns_ms = EXCLUDED.dns_ms, connect_ms = EXCLUDED.connect_ms, tls_ms = EXCLUDED.tls_ms,
                first_byte_ms = EXCLUDED.first_byte_ms, total_ms = EXCLUDED.total_ms,
                remote_address = EXCLUDED.remote_address, egress_address = EXCLUDED.egress_address,
                status = EXCLUDED.status, response_headers = EXCLUDED.response_headers,
                response_body = EXCLUDED.response_body, response_length = EXCLUDED.response_length,
                response_sha256 = EXCLUDED.response_sha256, response_truncated = EXCLUDED.response_truncated
            WHERE attempt.outcome = 'unknown'
        )
        UPDATE delivery
        SET state = made.next_state,
            due_at = coalesce(made.next_due_at, delivery.due_at),
            lease_id = NULL,
            leased_until = NULL,
            finished_at = CASE WHEN made.next_state <> 'pending' THEN %(now)s::timestamptz END
        FROM made
        WHERE delivery.delivery_id = made.delivery_id AND delivery.lease_id = made.lease_id
        RETURNING delivery.delivery_id
        """,
        _columns(records) | {"now": now},
        repeatable=True,
    )
    return frozenset(DeliveryId(row["delivery_id"]) for row in rows)


def of_delivery(database: Database, delivery_id: DeliveryId) -> list[Attempt]:
    """All attempts of a delivery, the first one first. The caller has checked whose delivery it is."""
    rows = database.rows(
        """
        SELECT attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
               total_ms, host(remote_address) AS remote_address, host(egress_address) AS egress_address, status,
               response_headers, response_body, response_length, response_sha256, response_truncated
        FROM attempt
        WHERE delivery_id = %(delivery_id)s
        ORDER BY number
        """,
        {"delivery_id": delivery_id},
        repeatable=True,
    )
    return [_attempt(row) for row in rows]


def with_delivery(
    database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId
) -> tuple[Delivery, list[Attempt]] | None:
    """The tenant's delivery of that id and all its attempts, the first one first; None where it has no such delivery.

    One statement for the call that is made most, instead of one for each table.
    """
    rows = database.rows(
        """
        SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id, destination.name, delivery.state,
               delivery.method, delivery.path, delivery.query, delivery.headers, delivery.metadata,
               delivery.idempotency_key, delivery.fingerprint, delivery.attempts_made, delivery.attempts_allowed,
               delivery.due_at, delivery.created_at AS accepted_at, delivery.finished_at,
               attempt.attempt_id, attempt.number, attempt.outcome, attempt.reason, attempt.started_at, attempt.dns_ms,
               attempt.connect_ms, attempt.tls_ms, attempt.first_byte_ms, attempt.total_ms,
               host(attempt.remote_address) AS remote_address, host(attempt.egress_address) AS egress_address,
               attempt.status, attempt.response_headers, attempt.response_body, attempt.response_length,
               attempt.response_sha256, attempt.response_truncated
        FROM delivery JOIN destination USING (destination_id) LEFT JOIN attempt USING (delivery_id)
        WHERE delivery.delivery_id = %(delivery_id)s AND delivery.tenant_id = %(tenant_id)s
        ORDER BY attempt.number
        """,
        {"delivery_id": delivery_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    if not rows:
        return None
    return delivery_of(rows[0]), [_attempt(row) for row in rows if row["attempt_id"] is not None]


def _columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    rows = [_row(item) for item in records]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _row(item: Record) -> dict[str, Any]:
    attempt = item.attempt
    return {
        "attempt_id": attempt.attempt_id,
        "delivery_id": attempt.delivery_id,
        "number": attempt.number,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "started_at": attempt.started_at,
        "dns_ms": attempt.timings.dns_ms,
        "connect_ms": attempt.timings.connect_ms,
        "tls_ms": attempt.timings.tls_ms,
        "first_byte_ms": attempt.timings.first_byte_ms,
        "total_ms": attempt.timings.total_ms,
        "remote_address": attempt.remote_address,
        "egress_address": attempt.egress_address,
        **_response_columns(attempt.response),
        "lease_id": item.lease_id,
        "next_state": item.next_state.value,
        "next_due_at": item.due_at,
    }


def _response_columns(response: KeptResponse | None) -> dict[str, Any]:
    return {
        "status": response and response.status,
        "response_headers": response and json.dumps(response.headers),
        "response_body": None if response is None else response.body,
        "response_length": response and response.length_bytes,
        "response_sha256": response and response.sha256,
        "response_truncated": response and response.truncated,
    }


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        attempt_id=AttemptId(row["attempt_id"]),
        delivery_id=DeliveryId(row["delivery_id"]),
        number=row["number"],
        outcome=row["outcome"],
        reason=row["reason"],
        started_at=row["started_at"],
        timings=Timings(
            dns_ms=row["dns_ms"],
            connect_ms=row["connect_ms"],
            tls_ms=row["tls_ms"],
            first_byte_ms=row["first_byte_ms"],
            total_ms=row["total_ms"],
        ),
        remote_address=row["remote_address"],
        egress_address=row["egress_address"],
        response=_response(row),
    )


def _response(row: Mapping[str, Any]) -> KeptResponse | None:
    if row["status"] is None:
        return None
    return KeptResponse(
        status=row["status"],
        headers=tuple((name, value) for name, value in row["response_headers"]),
        body=row["response_body"],
        length_bytes=row["response_length"],
        sha256=row["response_sha256"],
        truncated=row["response_truncated"],
    )

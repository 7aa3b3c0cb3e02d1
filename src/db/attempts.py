"""Statements on `attempt`: the log of all attempts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from db.connection import Database
from db.deliveries import delivery_of
from domain.deliveries import Attempt, AttemptKind, Delivery, Record, StoredResponse
from domain.destinations import GONE
from domain.errors import StatementRefused
from domain.ids import AttemptId, DeliveryId, DestinationId, TenantId
from domain.outcomes import OutcomeKind, Timings
from domain.values import value_class
from runtime.observability import logger

_OUTCOMES = {kind.value: kind for kind in OutcomeKind}  # read in a tenth of the time that a call of the class takes
_KINDS = {kind.value: kind for kind in AttemptKind}

type NoteGone = Callable[[TenantId, DestinationId], None]

BARE_REASON = "the reason could not be stored"
MOST_SMALLINT = 32767
PASSED_SECONDS = 5  # how long a slot waits for the delivery that it was passed on to


@value_class(frozen=True, slots=True, kw_only=True)
class NextUp:
    """A delivery that waited for one that has ended, and is to be woken."""

    delivery_id: DeliveryId
    tenant_id: TenantId
    destination_name: str


@value_class(frozen=True, slots=True, kw_only=True)
class Written:
    """The deliveries that recording updated, and those that can go on because of that."""

    moved: frozenset[DeliveryId] = frozenset()
    woken: frozenset[NextUp] = frozenset()

    def and_(self, other: "Written") -> "Written":
        """Both together."""
        return Written(moved=self.moved | other.moved, woken=self.woken | other.woken)


def record(
    database: Database, records: Sequence[Record], *, now: datetime, note_gone: NoteGone = lambda *_: None
) -> Written:
    """Logs attempts and updates their deliveries; returns which were updated, and who waited for them.

    Where a partner wants no more deliveries its destination is disabled, and `note_gone` called with the tenant and the
    destination; not where that was enabled or resumed since the attempt began.

    A delivery is updated under the lease that the attempt was made with. Where that expired and passed to another
    worker, which only knows that it lapsed, the real outcome wins over the lapse as long as no other attempt was begun:
    it is logged, and the delivery ends as it says. Where another one was begun, only a success still counts: the
    delivery is delivered, once nothing is in flight (docs/api.md, "What is never sent twice"). Run twice, the statement
    changes nothing the second time and returns the same, so it is repeated when a connection breaks.

    What PostgreSQL cannot store of one attempt affects neither the others nor that attempt's outcome. Raises
    StatementRefused, after all others were recorded, where it cannot store even the outcome.
    """
    try:
        return _write(database, records, now=now, note_gone=note_gone)
    except StatementRefused as refused:
        if len(records) == 1:
            return _bare(database, records[0], refused, now=now, note_gone=note_gone)
        return _one_by_one(database, records, now=now, note_gone=note_gone)


def _one_by_one(database: Database, records: Sequence[Record], *, now: datetime, note_gone: NoteGone) -> Written:
    written = Written()
    refused: StatementRefused | None = None
    for single in records:
        try:
            written = written.and_(record(database, [single], now=now, note_gone=note_gone))
        except StatementRefused as error:
            refused = error
    if refused is not None:
        raise refused
    return written


def _bare(
    database: Database, full: Record, refused: StatementRefused, *, now: datetime, note_gone: NoteGone
) -> Written:
    """The outcome of the attempt alone, without whatever came from the partner or was measured."""
    logger.error("an attempt is recorded bare", delivery_id=str(full.attempt.delivery_id), sqlstate=refused.sqlstate)
    bare = replace(
        full.attempt,
        reason=full.attempt.reason and BARE_REASON,
        timings=Timings(),
        remote_address=None,
        egress_address=None,
        response=full.attempt.response and _bare_response(full.attempt.response.status),
    )
    return _write(database, [replace(full, attempt=bare)], now=now, note_gone=note_gone)


def _bare_response(status: int) -> StoredResponse:
    storable = min(max(status, 0), MOST_SMALLINT)
    return StoredResponse(status=storable, headers=(), body=b"", length_bytes=None, sha256=None, truncated=True)


def _write(database: Database, records: Sequence[Record], *, now: datetime, note_gone: NoteGone) -> Written:
    rows = database.rows(
        """
        WITH made AS (
            SELECT attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms,
                   first_byte_ms, total_ms, remote_address, egress_address, status, response_headers,
                   decode(response_body, 'base64') AS response_body, response_length,
                   decode(response_sha256, 'hex') AS response_sha256, response_truncated, lease_id, next_state,
                   next_due_at, failed, disables, redacts, ask_at, silent IS TRUE AS silent,
                   coalesce(sends, number) AS sends, coalesce(kind, 'send') AS kind, kind IS NOT NULL AS asks, event_id,
                   state_event_id, breaker_event_id
            -- One JSON text, as psycopg makes arrays in Python: one per column was an eighth of the worker's work.
            FROM json_to_recordset(%(records)s::text::json) AS listed (
                attempt_id uuid, delivery_id uuid, number smallint, outcome text, reason text, started_at timestamptz,
                dns_ms double precision, connect_ms double precision, tls_ms double precision,
                first_byte_ms double precision, total_ms double precision, remote_address inet, egress_address inet,
                status smallint, response_headers jsonb, response_body text, response_length bigint,
                response_sha256 text, response_truncated boolean, lease_id uuid, next_state text,
                next_due_at timestamptz, failed boolean, disables boolean, redacts boolean, ask_at timestamptz,
                silent boolean, sends smallint, kind text, event_id uuid, state_event_id uuid, breaker_event_id uuid)
        ), touched AS (
            -- One of an earlier attempt is only noted while another one is in flight, which then keeps its lease.
            UPDATE delivery
            SET state = CASE WHEN delivery.attempts_made > made.sends AND delivery.state = 'sending' THEN 'sending'
                             WHEN delivery.delivered_by IS NOT NULL THEN 'delivered'
                             -- What is not stored whole is not sent again, though the partner has nothing of it.
                             WHEN made.next_state = 'pending' AND delivery.payload IS NOT NULL THEN 'failed'
                             ELSE made.next_state END,
                delivered_by = CASE WHEN delivery.attempts_made > made.sends AND made.next_state = 'delivered'
                                    THEN made.number ELSE delivery.delivered_by END,
                due_at = coalesce(made.next_due_at, delivery.due_at),
                lease_id = CASE WHEN delivery.attempts_made > made.sends THEN delivery.lease_id END,
                leased_until = CASE WHEN delivery.attempts_made > made.sends THEN delivery.leased_until END,
                waiting_for = NULL,
                waits_until = NULL,
                finished_at = CASE WHEN delivery.attempts_made > made.sends AND delivery.state = 'sending' THEN NULL
                                   WHEN made.asks AND made.next_state = 'unknown' THEN finished_at
                                   WHEN made.next_state <> 'pending' OR delivery.delivered_by IS NOT NULL
                                        OR delivery.payload IS NOT NULL
                                   THEN %(now)s::timestamptz END,
                asking_id = NULL,
                asking_until = NULL,
                ask_at = made.ask_at,
                ask_silent = CASE WHEN made.silent THEN true END,
                questions_answered = CASE WHEN made.asks AND made.silent THEN questions_answered
                                          WHEN made.asks THEN coalesce(questions_answered, 0) + 1 END,
                first_answered_at = CASE WHEN made.asks AND made.silent THEN first_answered_at
                                         -- By now the partner was asked, however long that took after started_at.
                                         WHEN made.asks THEN coalesce(first_answered_at, %(now)s) END,
                resolution = CASE WHEN NOT made.asks OR made.next_state = 'unknown' THEN resolution
                                  WHEN made.next_state <> 'pending' THEN made.next_state
                                  WHEN delivery.payload IS NULL THEN 'again' ELSE 'failed' END,
                resolved_by = CASE WHEN NOT made.asks OR made.next_state = 'unknown' THEN resolved_by
                                   ELSE 'reconcile' END,
                resolved_at = CASE WHEN NOT made.asks OR made.next_state = 'unknown' THEN resolved_at ELSE %(now)s END,
                note = CASE WHEN NOT made.asks OR made.next_state = 'unknown' THEN note END,
                redacts = coalesce(made.redacts, delivery.redacts),
                -- An outcome that comes late says nothing about the attempt that is made next.
                lapsed_lease_id = CASE WHEN NOT made.asks OR made.next_state <> 'pending' THEN lapsed_lease_id END,
                event_id = coalesce(made.event_id, delivery.event_id)  -- its end is told by a trigger (0026_events.sql)
            FROM made
            WHERE delivery.delivery_id = made.delivery_id
              -- a claim that ran late may have begun another attempt under the same lease
              AND (delivery.lease_id = made.lease_id AND delivery.attempts_made = made.sends
                   OR made.asks AND delivery.state = 'unknown' AND delivery.asking_id = made.lease_id
                   OR NOT made.asks AND made.outcome <> 'unknown' AND delivery.attempts_made = made.sends
                      AND (-- whoever holds it now sends nothing, and is about to record the lapse
                           delivery.state = 'sending' AND delivery.lease_id = delivery.lapsed_lease_id
                           -- somebody recorded the lapse, under which nothing was sent since
                           OR delivery.state IN ('unknown', 'pending') AND made.next_state = 'delivered'
                           -- unless it is pending because somebody wants another attempt (db/control.py)
                           OR (delivery.state = 'unknown' OR delivery.state = 'pending'
                                                             AND delivery.lapsed_lease_id IS NOT NULL)
                              AND made.next_state = 'failed')
                   -- what an earlier attempt achieved stands, whatever becomes of those that were begun since
                   OR NOT made.asks AND made.next_state = 'delivered' AND delivery.attempts_made > made.sends
                      AND delivery.state IN ('unknown', 'pending', 'sending'))
            RETURNING delivery.delivery_id, delivery.destination_id, delivery.ordering_key, delivery.phase,
                      delivery.state, delivery.payload, made.failed, made.asks, made.silent, made.breaker_event_id,
                      -- A lapse, or a fault of ours, says nothing about how long it takes.
                      made.failed IS NOT NULL AND make_interval(secs => made.total_ms / 1000) < slow_after() AS quickly
        ), moved AS (
            SELECT delivery_id, destination_id, ordering_key, phase, failed, quickly, asks, silent, breaker_event_id
            FROM touched WHERE state <> 'sending'
        ), logged AS (
            INSERT INTO attempt (
                attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
                total_ms, remote_address, egress_address, status, response_headers, response_body, response_length,
                response_sha256, response_truncated, moved_lease_id, kind, headers_sha256)
            SELECT attempt_id, delivery_id, number, outcome, reason, started_at, dns_ms, connect_ms, tls_ms,
                   first_byte_ms, total_ms, remote_address, egress_address, status,
                   CASE WHEN bare THEN deleted_headers('the delivery was expunged') ELSE response_headers END
                       AS response_headers,
                   CASE WHEN bare THEN '' ELSE response_body END AS response_body, response_length, response_sha256,
                   bare OR response_truncated AS response_truncated,
                   CASE WHEN touched.state <> 'sending' THEN made.lease_id END, kind,
                   CASE WHEN bare THEN sha256(convert_to(response_headers::text, 'UTF8')) END
            FROM made LEFT JOIN touched USING (delivery_id)
            CROSS JOIN LATERAL (
                -- What comes late of a delivery that was expunged is not stored. Who is expunging it is waited for.
                SELECT status IS NOT NULL AND coalesce(
                    CASE WHEN touched.delivery_id IS NOT NULL THEN touched.payload
                         ELSE (SELECT payload FROM delivery WHERE delivery.delivery_id = made.delivery_id FOR SHARE)
                    END = 'expunged', false) AS bare
            ) AS stored
            ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE
            SET outcome = EXCLUDED.outcome, reason = EXCLUDED.reason, started_at = EXCLUDED.started_at,
                dns_ms = EXCLUDED.dns_ms, connect_ms = EXCLUDED.connect_ms, tls_ms = EXCLUDED.tls_ms,
                first_byte_ms = EXCLUDED.first_byte_ms, total_ms = EXCLUDED.total_ms,
                remote_address = EXCLUDED.remote_address, egress_address = EXCLUDED.egress_address,
                status = EXCLUDED.status, response_headers = EXCLUDED.response_headers,
                response_body = EXCLUDED.response_body, response_length = EXCLUDED.response_length,
                response_sha256 = EXCLUDED.response_sha256, response_truncated = EXCLUDED.response_truncated,
                kind = EXCLUDED.kind, headers_sha256 = EXCLUDED.headers_sha256,
                moved_lease_id = coalesce(EXCLUDED.moved_lease_id, attempt.moved_lease_id),
                recorded_in = EXCLUDED.recorded_in
            WHERE attempt.outcome = 'unknown'
        ), moved_before AS (  -- by the first run, where this is the second
            SELECT delivery_id
            FROM made JOIN attempt USING (delivery_id, number)
            WHERE attempt.moved_lease_id = made.lease_id
        ), gone AS (
            UPDATE destination
            SET state = 'disabled', state_reason = 'the partner answered with status 410', state_changed_at = %(now)s,
                state_changed_by = %(gone)s, version = version + 1,
                event_id = coalesce(made.state_event_id, destination.event_id)
            FROM made JOIN delivery USING (delivery_id)
            WHERE made.disables AND destination.destination_id = delivery.destination_id
              AND destination.state <> 'disabled'
              AND (destination.state_changed_at IS NULL OR destination.state_changed_at < made.started_at)
            RETURNING destination.destination_id, destination.tenant_id
        ), ended AS (
            -- While nothing fails at a destination and nobody has a slot there, its row is only read.
            SELECT destination_id, array_agg(delivery_id) AS ids, array_agg(failed) AS failed,
                   bool_and(quickly) AS quickly, bool_or(silent) AS any_silent,
                   count(*) FILTER (WHERE asks AND NOT silent)::integer AS answered,
                   (array_agg(breaker_event_id) FILTER (WHERE breaker_event_id IS NOT NULL))[1] AS breaker_event_id
            FROM moved JOIN destination_flow USING (destination_id)
            GROUP BY destination_id
            HAVING bool_or(failed OR counted_since IS NOT NULL OR open_until IS NOT NULL OR in_flight <> '{}'
                           OR share IS NOT NULL OR silent OR silent_since IS NOT NULL OR catch_up_from IS NOT NULL)
            ORDER BY destination_id
        ), woken AS (
            SELECT turn.delivery_id
            FROM ended
            CROSS JOIN LATERAL (
                -- Somebody is told where its breaker opens (0038_more_events.sql).
                SELECT end_attempts_and_tell(
                    destination_id, ids, failed, any_silent, answered, %(passed_until)s, %(now)s, quickly,
                    breaker_event_id)
                WHERE breaker_event_id IS NOT NULL
                UNION ALL
                SELECT end_attempts(
                    destination_id, ids, failed, any_silent, answered, %(passed_until)s, %(now)s, quickly)
                WHERE breaker_event_id IS NULL
            ) AS turn (delivery_id)
            UNION
            SELECT leave_place(destination_id, ordering_key, delivery_id, phase)
            FROM moved WHERE ordering_key IS NOT NULL
            UNION
            SELECT return_to_order(destination_id, ordering_key, delivery_id)
            FROM moved WHERE asks AND phase = 'open' AND ordering_key IS NOT NULL
            UNION
            SELECT asked_before(delivery_id, %(now)s) FROM moved_before
            UNION
            SELECT woken_before(delivery_id, %(passed_until)s) FROM moved_before
        )
        SELECT delivery_id, NULL::uuid AS tenant_id, NULL AS name FROM moved
        UNION
        SELECT delivery_id, NULL, NULL FROM moved_before
        UNION ALL
        SELECT woken.delivery_id, known.tenant_id, known.name
        FROM woken
        CROSS JOIN LATERAL (  -- LIMIT, so that a row is looked up for each, however many PostgreSQL expects
            SELECT delivery.tenant_id, destination.name
            FROM delivery JOIN destination USING (destination_id)
            WHERE delivery.delivery_id = woken.delivery_id
            LIMIT 1
        ) AS known
        UNION ALL
        SELECT destination_id, tenant_id, NULL FROM gone
        """,
        {
            "records": _json([_row(ordered) for ordered in _in_one_order(records)]),
            "now": now,
            "passed_until": now + timedelta(seconds=PASSED_SECONDS),
            "gone": GONE,
        },
        repeatable=True,
    )
    for row in rows:
        if row["name"] is None and row["tenant_id"] is not None:
            note_gone(TenantId(row["tenant_id"]), DestinationId(row["delivery_id"]))
    return Written(
        moved=frozenset(DeliveryId(row["delivery_id"]) for row in rows if row["tenant_id"] is None),
        woken=frozenset(_woken(row) for row in rows if row["name"] is not None),
    )


def _woken(row: Mapping[str, Any]) -> NextUp:
    return NextUp(
        delivery_id=DeliveryId(row["delivery_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        destination_name=row["name"],
    )


def of_delivery(database: Database, delivery_id: DeliveryId) -> list[Attempt]:
    """All attempts of a delivery in their order. The caller has checked whose delivery it is."""
    rows = database.rows(
        """
        SELECT attempt_id, delivery_id, number, kind, outcome, reason, started_at, dns_ms, connect_ms, tls_ms,
               first_byte_ms, total_ms, host(remote_address) AS remote_address, host(egress_address) AS egress_address,
               status, response_headers, response_body, response_length, response_sha256, response_truncated
        FROM attempt
        WHERE delivery_id = %(delivery_id)s
        ORDER BY number
        """,
        {"delivery_id": delivery_id},
        repeatable=True,
        binary=True,
    )
    return [_attempt(row) for row in rows]


def with_delivery(
    database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId
) -> tuple[Delivery, list[Attempt]] | None:
    """The tenant's delivery of that id and all its attempts, the first one first; None where it has no such delivery.

    One statement for the most frequent call, instead of one for each table.
    """
    rows = database.rows(
        """
        SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id,
               coalesce(destination.deleted_name, destination.name) AS name, destination.state AS destination_state,
               delivery.state, delivery.method, delivery.path, delivery.query, delivery.headers, delivery.metadata,
               delivery.idempotency_key, delivery.fingerprint, delivery.attempts_made, delivery.attempts_allowed,
               delivery.due_at, delivery.created_at AS accepted_at, delivery.finished_at, delivery.ordering_key,
               delivery.waiting_for, delivery.waits_until, delivery.resolution, delivery.resolved_by,
               delivery.resolved_at, delivery.note, delivery.replay_of, delivery.ask_at, delivery.event,
               delivery.event_id, delivery.payload,
               destination.options -> 'retention' AS retention,
               attempt.attempt_id, attempt.number, attempt.kind, attempt.outcome, attempt.reason, attempt.started_at,
               attempt.dns_ms, attempt.connect_ms, attempt.tls_ms, attempt.first_byte_ms, attempt.total_ms,
               host(attempt.remote_address) AS remote_address, host(attempt.egress_address) AS egress_address,
               attempt.status, attempt.response_headers, attempt.response_body, attempt.response_length,
               attempt.response_sha256, attempt.response_truncated
        FROM delivery JOIN destination USING (destination_id) LEFT JOIN attempt USING (delivery_id)
        WHERE delivery.delivery_id = %(delivery_id)s AND delivery.tenant_id = %(tenant_id)s
        ORDER BY attempt.number
        """,
        {"delivery_id": delivery_id, "tenant_id": tenant_id},
        repeatable=True,
        binary=True,
    )
    if not rows:
        return None
    return delivery_of(rows[0]), [_attempt(row) for row in rows if row["attempt_id"] is not None]


def _in_one_order(records: Sequence[Record]) -> list[Record]:
    """By delivery, so that two workers that record the same ones lock their rows in the same order."""
    return sorted(records, key=lambda record: record.attempt.delivery_id.int)


def _json(rows: list[dict[str, Any]]) -> str:
    """JSON that PostgreSQL accepts. Its texts have no NUL and no half of a surrogate pair; both become U+FFFD."""
    try:
        encoded = msgspec.json.encode(rows)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or b"\\u0000" in encoded:
        return json.dumps(_storable(msgspec.to_builtins(rows)))
    return encoded.decode()


def _storable(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {name: _storable(member) for name, member in value.items()}
        case list() | tuple():
            return [_storable(element) for element in value]
        case _:
            return value


def _row(record: Record) -> dict[str, Any]:
    """As msgspec writes it as JSON: bytes in base64, the hash in hex, which the statement decodes."""
    attempt, timings, response = record.attempt, record.attempt.timings, record.attempt.response
    row: dict[str, Any] = {
        "attempt_id": attempt.attempt_id,
        "delivery_id": attempt.delivery_id,
        "number": attempt.number,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "started_at": attempt.started_at,
        "dns_ms": timings.dns_ms,
        "connect_ms": timings.connect_ms,
        "tls_ms": timings.tls_ms,
        "first_byte_ms": timings.first_byte_ms,
        "total_ms": timings.total_ms,
        "remote_address": attempt.remote_address,
        "egress_address": attempt.egress_address,
        "lease_id": record.lease_id,
        "next_state": record.next_state,
        "next_due_at": record.due_at,
        "failed": record.failed,
    }
    if record.disables:
        row["disables"] = True
    if record.redacts:
        row["redacts"] = True
    if response is not None:
        row["status"] = response.status
        row["response_headers"] = response.headers
        row["response_body"] = response.body
        row["response_length"] = response.length_bytes
        row["response_sha256"] = response.sha256 and response.sha256.hex()
        row["response_truncated"] = response.truncated
    if record.asks:
        row |= {"kind": record.attempt.kind, "silent": record.silent}
    if record.ask_at is not None:
        row["ask_at"] = record.ask_at
    if record.sends is not None:
        row["sends"] = record.sends
    if record.event_id is not None or record.state_event_id is not None or record.breaker_event_id is not None:
        row |= {"event_id": record.event_id, "state_event_id": record.state_event_id}
        row["breaker_event_id"] = record.breaker_event_id
    return row


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        attempt_id=AttemptId(row["attempt_id"]),
        delivery_id=DeliveryId(row["delivery_id"]),
        number=row["number"],
        outcome=_OUTCOMES[row["outcome"]],
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
        kind=_KINDS[row["kind"]],
    )


def _response(row: Mapping[str, Any]) -> StoredResponse | None:
    if row["status"] is None:
        return None
    return StoredResponse(
        status=row["status"],
        headers=tuple([(name, value) for name, value in row["response_headers"]]),
        body=row["response_body"],
        length_bytes=row["response_length"],
        sha256=row["response_sha256"],
        truncated=row["response_truncated"],
    )

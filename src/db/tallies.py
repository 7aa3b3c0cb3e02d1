"""Statements on `tally`: what attempts came to, counted beside other work."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.deliveries import WaitingFor
from domain.destinations import DestinationState
from domain.ids import DestinationId, TenantId
from domain.stats import BreakerState, Period, Tallies, UnfinishedDeliveries, Watched
from domain.values import value_class

MOST_UNFINISHED = 1000  # of a destination; where there are more, the oldest are counted


@value_class(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many attempts a step counted, and up to when all are."""

    attempts: int
    until: datetime | None


def count_attempts(database: Database, *, step_id: UUID, now: datetime, limit: int) -> Counted:
    """Counts up to about `limit` attempts that are not counted yet, the oldest first: of each transaction all or none,
    and of none that is still running, or began after one that is.

    It reads those that are new and, as the index has an entry for 128 pages, the others on the pages of the newest.

    Each is counted once, whoever does it and however often: where two do it at once, the second one counts nothing.
    Where the connection breaks, the statement is run again, and finds its `step_id`. What is older than a day, or
    31, is deleted of the destinations that come up.
    """
    rows = database.rows(
        """
        WITH progress AS (
            SELECT counted_until AS since, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until
            FROM tally_progress
        ), found AS (
            SELECT delivery_id, number, recorded_in, kind, outcome, status, total_ms, moved_lease_id,
                   started_at + make_interval(secs => total_ms / 1000) AS ended_at
            FROM attempt
            WHERE recorded_in >= (SELECT since FROM progress) AND recorded_in < (SELECT until FROM progress)
            ORDER BY recorded_in
            FETCH FIRST %(limit)s ROWS WITH TIES
        ), bounded AS (
            SELECT since, count(delivery_id)::integer AS attempts, count(delivery_id) < %(limit)s AS are_all,
                   CASE WHEN count(delivery_id) < %(limit)s THEN until ELSE max(recorded_in) + 1 END AS until
            FROM progress LEFT JOIN found ON true
            GROUP BY since, until
        ), moved AS (
            UPDATE tally_progress
            SET counted_until = bounded.until, step_id = %(step_id)s, attempts = bounded.attempts,
                counted_at = CASE WHEN are_all THEN %(now)s ELSE counted_at END
            FROM bounded
            WHERE counted_until = bounded.since AND step_id IS DISTINCT FROM %(step_id)s
            RETURNING bounded.attempts, counted_at
        ), named AS (
            SELECT destination_id, ended_at, what
            FROM found
            -- LIMIT, so that each is found by its id: planned as a join, all deliveries might be read.
            CROSS JOIN LATERAL (
                SELECT destination_id, phase, state, resolution, resolved_at, finished_at
                FROM delivery WHERE delivery.delivery_id = found.delivery_id LIMIT 1
            ) AS of_delivery
            CROSS JOIN LATERAL (
                VALUES ('attempt.' || outcome),
                       ('ms.' || CASE WHEN outcome = 'answered' THEN duration_class(total_ms) END),
                       -- Its last attempt, so far, is the one that ended it.
                       (CASE WHEN phase <> 'open' AND moved_lease_id IS NOT NULL AND NOT EXISTS (
                                 SELECT FROM attempt AS later
                                 WHERE later.delivery_id = found.delivery_id AND later.number > found.number
                                   AND later.kind = 'send')
                             THEN 'ended.' || CASE WHEN resolved_at = finished_at AND resolution <> 'again'
                                                   THEN 'unknown' ELSE nullif(state, 'canceled') END END)
            ) AS counted (what)
            WHERE kind = 'send' AND what IS NOT NULL
        ), pruned AS (
            DELETE FROM tally
            USING (SELECT DISTINCT destination_id FROM named WHERE EXISTS (SELECT FROM moved)) AS busy
            WHERE tally.destination_id = busy.destination_id
              AND (span = interval '10 minutes' AND since < %(now)s - interval '25 hours'
                   OR span = interval '1 day' AND since < %(now)s - interval '31 days')
        ), added AS (
            INSERT INTO tally (destination_id, span, since, what, count)
            SELECT destination_id, span, date_bin(span, ended_at, '2000-01-01T00:00:00Z'), what, count(*)
            FROM named CROSS JOIN (VALUES (interval '10 minutes'), (interval '1 day')) AS listed (span)
            WHERE EXISTS (SELECT FROM moved)
              AND ended_at >= %(now)s - CASE WHEN span = interval '1 day' THEN interval '31 days'
                                             ELSE interval '25 hours' END
            GROUP BY destination_id, span, 3, what
            ORDER BY destination_id, span, 3, what
            ON CONFLICT ON CONSTRAINT tally_pkey DO UPDATE SET count = tally.count + EXCLUDED.count
        )
        SELECT attempts, nullif(counted_at, '-infinity') AS until FROM moved
        UNION ALL
        SELECT CASE WHEN step_id = %(step_id)s THEN attempts ELSE 0 END, nullif(counted_at, '-infinity')  -- run again
        FROM tally_progress WHERE NOT EXISTS (SELECT FROM moved)
        """,
        {"now": now, "limit": limit, "step_id": step_id},
        repeatable=True,
    )
    return Counted(attempts=rows[0]["attempts"], until=rows[0]["until"])


def watched(
    database: Database, *, tenant_id: TenantId, reference: str | None, before: DestinationId | None, limit: int
) -> list[Watched]:
    """Up to `limit` of the tenant's destinations, newest first, older than `before`, or the one with this name or id.
    Of each what is unfinished, of which the MOST_UNFINISHED oldest are read."""
    rows = database.read(
        """
        SELECT destination.destination_id, name, destination.state, open_until, waiting.waiting_for, waiting.count,
               waiting.oldest, waiting.due_since
        FROM (
            SELECT destination_id, name, state
            FROM destination
            WHERE tenant_id = %(tenant_id)s AND deleted_at IS NULL
              AND (%(before)s::uuid IS NULL OR destination_id < %(before)s)
              AND (%(reference)s::text IS NULL OR name = %(reference)s OR destination_id::text = %(reference)s)
            ORDER BY destination_id DESC
            LIMIT %(limit)s
        ) AS destination
        LEFT JOIN destination_flow USING (destination_id)
        LEFT JOIN LATERAL (
            SELECT coalesce(oldest_first.waiting_for, oldest_first.state) AS waiting_for, count(*) AS count,
                   min(created_at) AS oldest, min(due_at) AS due_since
            FROM (
                SELECT state, waiting_for, created_at, due_at
                FROM delivery
                WHERE delivery.destination_id = destination.destination_id AND phase = 'open'
                ORDER BY delivery_id
                LIMIT %(most)s
            ) AS oldest_first
            GROUP BY 1
        ) AS waiting ON true
        ORDER BY destination.destination_id DESC, waiting.waiting_for
        """,
        {
            "tenant_id": tenant_id,
            "reference": reference,
            "before": before,
            "limit": limit,
            "most": MOST_UNFINISHED,
        },
    )
    found: dict[DestinationId, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(DestinationId(row["destination_id"]), []).append(row)
    return [_watched(destination_id, own) for destination_id, own in found.items()]


def of_periods(
    database: Database, destination_ids: Sequence[DestinationId], *, now: datetime
) -> dict[tuple[DestinationId, Period], Tallies]:
    """What was counted of each destination in the last hour, day and month."""
    rows = database.read(
        """
        SELECT destination_id, period, what, sum(count)::bigint AS count
        FROM tally
        JOIN (VALUES ('last_hour', interval '10 minutes', interval '1 hour'),
                     ('last_day', interval '10 minutes', interval '1 day'),
                     ('last_30_days', interval '1 day', interval '30 days')) AS listed (period, span, length)
             USING (span)
        WHERE destination_id = ANY (%(destination_ids)s::uuid[])
          AND since > date_bin(span, %(now)s, '2000-01-01T00:00:00Z') - length
        GROUP BY destination_id, period, what
        """,
        {"destination_ids": list(destination_ids), "now": now},
    )
    found: dict[tuple[DestinationId, Period], dict[str, int]] = {}
    for row in rows:
        of_period = found.setdefault((DestinationId(row["destination_id"]), Period(row["period"])), {})
        of_period[row["what"]] = row["count"]
    return {key: Tallies.of(counts) for key, counts in found.items()}


def _watched(destination_id: DestinationId, rows: Sequence[Mapping[str, Any]]) -> Watched:
    first, waiting = rows[0], [row for row in rows if row["count"] is not None]
    count = sum(row["count"] for row in waiting)
    known = {kind.value for kind in WaitingFor}
    return Watched(
        destination_id=destination_id,
        name=first["name"],
        state=DestinationState(first["state"]),
        breaker_open_until=first["open_until"],
        breaker=BreakerState.CLOSED if first["open_until"] is None else BreakerState.OPEN,
        unfinished=UnfinishedDeliveries(
            count=count,
            is_all=count < MOST_UNFINISHED,
            oldest_created_at=min((row["oldest"] for row in waiting), default=None),
            waiting_for={row["waiting_for"]: row["count"] for row in waiting if row["waiting_for"] in known},
        ),
    )

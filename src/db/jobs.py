"""Statements on `job`: deliveries that are replayed or canceled many at a time."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.attempts import PASSED_SECONDS, NextUp
from db.connection import Database
from db.deliveries import events_to
from domain.deliveries import ASYNC_ATTEMPTS, State
from domain.ids import DeliveryId, DestinationId, JobId, TenantId
from domain.jobs import MOST_UNFINISHED, Bounds, BulkJob, JobAct, JobState
from domain.outcomes import OutcomeKind
from domain.values import value_class

COUNTED = 100_000  # deliveries, at the most: counting more would take longer than a statement may
SAMPLE = 10


@value_class(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is within the bounds of a job that is not there yet.

    `count` is `COUNTED` where there are as many or more. `may_have_happened` counts those of them that the partner has,
    or may have, carried out. `sample` are the oldest ones.
    """

    count: int
    may_have_happened: int
    oldest: datetime | None
    newest: datetime | None
    sample: tuple[DeliveryId, ...]


@value_class(frozen=True, slots=True, kw_only=True)
class JobDelivery:
    """A delivery that a job comes to; whether it `fits`, or only lies between others that do. `events_to` is the
    destination that is told when it ends, None where nobody is."""

    delivery_id: DeliveryId
    destination_name: str
    fits: bool
    events_to: DestinationId | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Move:
    """A delivery that a step changes: due at `due_at`, and where it is repeated as a new one, as `new_id`. Under
    `event_id` its end is told."""

    delivery_id: DeliveryId
    due_at: datetime
    new_id: DeliveryId | None = None
    event_id: DeliveryId | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class JobStep:
    """One page of a job: the `moves` that it makes, of so many deliveries `looked_at`, of which `last_id` is the last.
    What is replayed is due until `paced_until`. `is_last` says that the job is done with it."""

    step_id: UUID
    moves: Sequence[Move]
    looked_at: int
    last_id: DeliveryId
    paced_until: datetime
    is_last: bool


@value_class(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What the job has come to with a step. `woken` are deliveries that waited for one that was canceled."""

    changed: int
    skipped: int
    woken: frozenset[NextUp]


def survey(database: Database, bounds: Bounds) -> Survey:
    """Counts what a job would come to."""
    rows = database.read(
        """
        SELECT count(*) AS count, count(*) FILTER (WHERE may_have_happened) AS may_have_happened,
               min(created_at) AS oldest, max(created_at) AS newest,
               (array_agg(delivery_id ORDER BY delivery_id) FILTER (WHERE position <= %(sample)s)) AS sample
        FROM (
            SELECT listed.delivery_id, listed.created_at, row_number() OVER (ORDER BY listed.delivery_id) AS position,
                   %(state)s IN ('delivered', 'unknown') OR EXISTS (
                       SELECT FROM attempt AS made
                       WHERE made.delivery_id = listed.delivery_id AND made.kind = 'send'
                         AND leaves_open(made.outcome, made.status)) AS may_have_happened
            FROM (
                SELECT *
                FROM delivery
                WHERE CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END
                      = ANY (ARRAY [%(owner_id)s::uuid])
                  AND phase = ANY (ARRAY [%(phase)s]) AND state = %(state)s
                  AND delivery_id >= %(since_id)s AND delivery_id < %(until_id)s
                  AND coalesce(finished_at, created_at) <= %(as_of)s
                  AND payload IS NULL  -- what is not stored whole is not sent again
                  AND (%(outcome)s::text IS NULL AND %(status_class)s::integer IS NULL OR EXISTS (
                        SELECT FROM attempt
                        WHERE attempt.delivery_id = delivery.delivery_id AND attempt.number = attempts_made
                          AND attempt.kind = 'send'
                          AND outcome = coalesce(%(outcome)s, outcome)
                          AND (%(status_class)s::integer IS NULL OR status / 100 = %(status_class)s)))
                ORDER BY delivery_id
                LIMIT %(counted)s
            ) AS listed
        ) AS weighed
        """,
        {**_bounds(bounds), "counted": COUNTED, "sample": SAMPLE},
    )
    row = rows[0]
    return Survey(
        count=row["count"],
        may_have_happened=row["may_have_happened"],
        oldest=row["oldest"],
        newest=row["newest"],
        sample=tuple(DeliveryId(listed) for listed in row["sample"] or ()),
    )


def insert(database: Database, job: BulkJob, *, idempotency_key: str | None) -> BulkJob | None:
    """Stores a new job, which is returned, or the one that came with the same idempotency key before; None where the
    tenant has too many unfinished ones."""
    rows = database.rows(
        """
        WITH before AS (
            SELECT job_id FROM job WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s
        ), made AS (
            INSERT INTO job (
                job_id, tenant_id, idempotency_key, act, destination_id, of_state, outcome, status_class, since_id,
                until_id, rate, expected, created_at, created_by, state, after_id, paced_until)
            SELECT %(job_id)s, %(tenant_id)s, %(idempotency_key)s, %(act)s, %(destination_id)s, %(state)s, %(outcome)s,
                   %(status_class)s, %(since_id)s, %(until_id)s, %(rate)s, %(expected)s, %(as_of)s, %(created_by)s,
                   'running', %(after_id)s, %(as_of)s
            WHERE NOT EXISTS (SELECT FROM before)
              AND has_room_for_job(%(tenant_id)s, %(idempotency_key)s, %(most)s)
            -- One that is being written with this key meanwhile raises: the statement is run again, and finds it.
            RETURNING job_id
        )
        SELECT job_id FROM made UNION ALL SELECT job_id FROM before
        """,
        {
            **_bounds(job.bounds),
            "tenant_id": job.bounds.tenant_id,
            "destination_id": job.bounds.destination_id,
            "job_id": job.job_id,
            "idempotency_key": idempotency_key or str(job.job_id),
            "act": job.act.value,
            "rate": job.rate,
            "expected": job.expected,
            "created_by": job.created_by,
            "after_id": job.after_id,
            "most": MOST_UNFINISHED,
        },
        repeatable=True,
    )
    return find(database, JobId(rows[0]["job_id"]), tenant_id=job.bounds.tenant_id) if rows else None


def find(database: Database, job_id: JobId, *, tenant_id: TenantId | None = None) -> BulkJob | None:
    """The job of that id, of any tenant or of the one that is given; None where there is none."""
    rows = database.rows(
        """
        SELECT job_id, job.tenant_id, act, job.destination_id, coalesce(deleted_name, name) AS name, of_state, outcome,
               status_class, since_id, until_id, rate, expected, job.created_at, created_by, job.state, after_id,
               paced_until, changed, skipped, finished_at
        FROM job LEFT JOIN destination USING (destination_id)
        WHERE job_id = %(job_id)s AND job.tenant_id = coalesce(%(tenant_id)s, job.tenant_id)
        """,
        {"job_id": job_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return _job(rows[0]) if rows else None


def page(database: Database, *, tenant_id: TenantId, before: JobId | None, limit: int) -> list[BulkJob]:
    """Up to `limit` jobs of a tenant, the newest first, from the one after `before` on."""
    rows = database.rows(
        """
        SELECT job_id, job.tenant_id, act, job.destination_id, coalesce(deleted_name, name) AS name, of_state, outcome,
               status_class, since_id, until_id, rate, expected, job.created_at, created_by, job.state, after_id,
               paced_until, changed, skipped, finished_at
        FROM job LEFT JOIN destination USING (destination_id)
        WHERE job.tenant_id = %(tenant_id)s AND job_id < %(before)s
        ORDER BY job_id DESC
        LIMIT %(limit)s
        """,
        {"tenant_id": tenant_id, "before": before or UUID(int=2**128 - 1), "limit": limit},
        repeatable=True,
    )
    return [_job(row) for row in rows]


def move(
    database: Database,
    job_id: JobId,
    *,
    tenant_id: TenantId,
    since: Sequence[JobState],
    becomes: JobState,
    move_id: UUID,
    now: datetime,
) -> tuple[BulkJob | None, bool]:
    """Brings a job from one of the states `since` into another one; returns it as it is then, None where there is none,
    and whether it was this call that brought it there, which `move_id` names. A step that is being made ends first."""
    (row,) = database.rows(
        """
        WITH moved AS (
            UPDATE job
            SET state = %(becomes)s, move_id = %(move_id)s,
                finished_at = CASE WHEN %(becomes)s = 'canceled' THEN %(now)s::timestamptz END
            WHERE job_id = %(job_id)s AND tenant_id = %(tenant_id)s AND state = ANY (%(since)s::text[])
            RETURNING job_id
        )
        SELECT EXISTS (SELECT FROM moved)
               OR EXISTS (  -- by the first run
                    SELECT FROM job WHERE job_id = %(job_id)s AND move_id = %(move_id)s) AS is_ours
        """,
        {
            "job_id": job_id,
            "tenant_id": tenant_id,
            "move_id": move_id,
            "since": [state.value for state in since],
            "becomes": becomes.value,
            "now": now,
        },
        repeatable=True,
    )
    return find(database, job_id, tenant_id=tenant_id), row["is_ours"]


def listed(database: Database, job: BulkJob) -> list[JobDelivery]:
    """What the next step of a job looks at, the oldest first. The last page is shorter."""
    rows = database.read(
        """
        SELECT delivery.delivery_id, name,
               CASE WHEN delivery.event IS NULL THEN options ->> 'events_to' END AS events_to,
               delivery.state = %(state)s AND coalesce(delivery.finished_at, delivery.created_at) <= %(as_of)s
               AND (%(state)s = 'pending' OR deleted_at IS NULL)
               -- What is not stored whole is not sent again.
               AND payload IS NULL
               AND (%(state)s <> 'delivered' OR destination.state <> 'disabled')
               AND (%(outcome)s::text IS NULL OR attempt.outcome IS NOT DISTINCT FROM %(outcome)s)
               AND (%(status_class)s::integer IS NULL OR attempt.status / 100 IS NOT DISTINCT FROM %(status_class)s)
               AS fits
        FROM (
            SELECT *
            FROM delivery
            WHERE CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END
                  = ANY (ARRAY [%(owner_id)s::uuid])
              AND phase = ANY (ARRAY [%(phase)s])
              AND delivery_id > %(after_id)s AND delivery_id < %(until_id)s
            ORDER BY CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END, phase, delivery_id
            LIMIT %(limit)s
        ) AS delivery
        JOIN destination USING (destination_id)
        LEFT JOIN attempt ON attempt.delivery_id = delivery.delivery_id AND attempt.number = delivery.attempts_made
                             AND attempt.kind = 'send'
        ORDER BY delivery.delivery_id
        """,
        {**_bounds(job.bounds), "after_id": job.after_id, "limit": job.page},
    )
    return [
        JobDelivery(
            delivery_id=DeliveryId(row["delivery_id"]),
            destination_name=row["name"],
            fits=row["fits"],
            events_to=events_to(row),
        )
        for row in rows
    ]


def send_again(database: Database, job: BulkJob, step: JobStep, *, now: datetime) -> Stepped | None:
    """One step: the deliveries that are as they were when the job was created go on under their keys, with at least one
    more attempt, and the job advances. None where it was paused meanwhile, or another one has made the step.
    """
    rows = database.rows(
        """
        WITH own AS (
            SELECT job_id, of_state, created_at, created_by
            FROM job
            WHERE job_id = %(job_id)s AND state = 'running' AND after_id = %(after_id)s
              AND step_id IS DISTINCT FROM %(step_id)s
            FOR UPDATE
        ), wanted AS (
            SELECT delivery_id, due_at
            FROM unnest(%(delivery_ids)s::uuid[], %(due_ats)s::timestamptz[]) AS listed (delivery_id, due_at)
        ), free AS (
            SELECT delivery.delivery_id, wanted.due_at, own.created_by
            FROM own CROSS JOIN wanted JOIN delivery USING (delivery_id)
            WHERE delivery.state = own.of_state AND delivery.finished_at <= own.created_at AND payload IS NULL
            ORDER BY delivery.delivery_id
            FOR UPDATE OF delivery
        ), moved AS (
            UPDATE delivery
            SET state = 'pending', due_at = free.due_at, finished_at = NULL, give_up_at = NULL, lapsed_lease_id = NULL,
                ask_at = NULL, asking_id = NULL, asking_until = NULL,
                attempts_allowed = greatest(attempts_allowed, attempts_made + 1),
                resolution = CASE WHEN state = 'unknown' THEN 'again' ELSE resolution END,
                resolved_by = CASE WHEN state = 'unknown' THEN created_by ELSE resolved_by END,
                resolved_at = CASE WHEN state = 'unknown' THEN %(now)s ELSE resolved_at END,
                note = CASE WHEN state = 'unknown' THEN NULL ELSE note END,
                act_id = %(job_id)s
            FROM free
            WHERE delivery.delivery_id = free.delivery_id
            RETURNING delivery.delivery_id, delivery.destination_id, delivery.ordering_key
        ), placed AS (
            SELECT take_place(destination_id, ordering_key, delivery_id) AS place
            FROM (SELECT * FROM moved WHERE ordering_key IS NOT NULL ORDER BY delivery_id) AS ordered
        ), advanced AS (
            UPDATE job
            SET after_id = %(last_id)s, step_id = %(step_id)s, paced_until = %(paced_until)s,
                changed = changed + (SELECT count(*) FROM moved),
                skipped = skipped + %(looked_at)s - (SELECT count(*) FROM moved) + 0 * (SELECT count(*) FROM placed),
                state = CASE WHEN %(is_last)s THEN 'done' ELSE state END,
                finished_at = CASE WHEN %(is_last)s THEN %(now)s::timestamptz END
            FROM own
            WHERE job.job_id = own.job_id
            RETURNING job.changed, job.skipped
        )
        SELECT changed, skipped FROM advanced
        UNION ALL
        SELECT changed, skipped FROM job WHERE job_id = %(job_id)s AND step_id = %(step_id)s  -- by the first run
        """,
        _of_step(job, step, now=now),
        repeatable=True,
    )
    return _stepped(rows)


def repeat(database: Database, job: BulkJob, step: JobStep, *, now: datetime) -> Stepped | None:
    """The same, where what was delivered is repeated as new deliveries, with keys of their own."""
    rows = database.rows(
        """
        WITH own AS (
            SELECT job_id, created_at
            FROM job
            WHERE job_id = %(job_id)s AND state = 'running' AND after_id = %(after_id)s
              AND step_id IS DISTINCT FROM %(step_id)s
            FOR UPDATE
        ), wanted AS (
            SELECT delivery_id, new_id, due_at
            FROM unnest(%(delivery_ids)s::uuid[], %(new_ids)s::uuid[], %(due_ats)s::timestamptz[])
                 AS listed (delivery_id, new_id, due_at)
        ), made AS (
            INSERT INTO delivery (
                delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
                metadata, state, attempts_made, attempts_allowed, due_at, created_at, ordering_key, give_up_at,
                replay_of, act_id, event)
            SELECT new_id, delivery.tenant_id, destination_id, new_id::text, fingerprint, method, path, query, headers,
                   metadata, 'pending', 0,
                   CASE WHEN jsonb_typeof(options #> '{retry,schedule}') = 'array'
                        THEN jsonb_array_length(options #> '{retry,schedule}') ELSE %(attempts_allowed)s END,
                   wanted.due_at, %(now)s, ordering_key,
                   wanted.due_at + make_interval(secs => (options #>> '{retry,give_up_after}')::double precision),
                   delivery.delivery_id, %(job_id)s, delivery.event
            FROM own CROSS JOIN wanted JOIN delivery USING (delivery_id) JOIN destination USING (destination_id)
            WHERE payload IS NULL AND delivery.state = 'delivered' AND delivery.finished_at <= own.created_at
              AND deleted_at IS NULL AND destination.state <> 'disabled'
            RETURNING delivery_id, destination_id, ordering_key, replay_of
        ), stored AS (
            INSERT INTO delivery_body (delivery_id, body)
            SELECT made.delivery_id, body FROM made JOIN delivery_body ON delivery_body.delivery_id = made.replay_of
            RETURNING delivery_id
        ), placed AS (
            SELECT take_place(destination_id, ordering_key, delivery_id) AS place
            FROM (SELECT * FROM made WHERE ordering_key IS NOT NULL ORDER BY delivery_id) AS ordered
        ), advanced AS (
            UPDATE job
            SET after_id = %(last_id)s, step_id = %(step_id)s, paced_until = %(paced_until)s,
                changed = changed + (SELECT count(*) FROM stored),
                skipped = skipped + %(looked_at)s - (SELECT count(*) FROM stored) + 0 * (SELECT count(*) FROM placed),
                state = CASE WHEN %(is_last)s THEN 'done' ELSE state END,
                finished_at = CASE WHEN %(is_last)s THEN %(now)s::timestamptz END
            FROM own
            WHERE job.job_id = own.job_id
            RETURNING job.changed, job.skipped
        )
        SELECT changed, skipped FROM advanced
        UNION ALL
        SELECT changed, skipped FROM job WHERE job_id = %(job_id)s AND step_id = %(step_id)s  -- by the first run
        """,
        _of_step(job, step, now=now),
        repeatable=True,
    )
    return _stepped(rows)


def cancel(database: Database, job: BulkJob, step: JobStep, *, now: datetime) -> Stepped | None:
    """The same, where what is pending is canceled. Those that another statement holds right now are waited for."""
    rows = database.rows(
        """
        WITH own AS (
            SELECT job_id, created_at
            FROM job
            WHERE job_id = %(job_id)s AND state = 'running' AND after_id = %(after_id)s
              AND step_id IS DISTINCT FROM %(step_id)s
            FOR UPDATE
        ), wanted AS (
            SELECT delivery_id, event_id
            FROM unnest(%(delivery_ids)s::uuid[], %(event_ids)s::uuid[]) AS listed (delivery_id, event_id)
        ), free AS (
            SELECT delivery.delivery_id, wanted.event_id
            FROM own CROSS JOIN wanted JOIN delivery USING (delivery_id)
            WHERE delivery.state = 'pending' AND delivery.created_at <= own.created_at
            ORDER BY delivery.delivery_id
            FOR UPDATE OF delivery
        ), moved AS (
            UPDATE delivery
            SET state = 'canceled', finished_at = %(now)s, waiting_for = NULL, waits_until = NULL, act_id = %(job_id)s,
                event_id = coalesce(free.event_id, delivery.event_id)
            FROM free
            WHERE delivery.delivery_id = free.delivery_id
            RETURNING delivery.delivery_id, delivery.destination_id, delivery.ordering_key
        ), advanced AS (
            UPDATE job
            SET after_id = %(last_id)s, step_id = %(step_id)s, changed = changed + (SELECT count(*) FROM moved),
                skipped = skipped + %(looked_at)s - (SELECT count(*) FROM moved),
                state = CASE WHEN %(is_last)s THEN 'done' ELSE state END,
                finished_at = CASE WHEN %(is_last)s THEN %(now)s::timestamptz END
            FROM own
            WHERE job.job_id = own.job_id
            RETURNING job.changed, job.skipped
        ), done AS (
            SELECT delivery_id, destination_id, ordering_key FROM moved
            UNION ALL
            SELECT delivery_id, delivery.destination_id, ordering_key  -- by the first run
            FROM job JOIN delivery ON delivery_id = ANY (%(delivery_ids)s::uuid[]) AND act_id = job_id
            WHERE job_id = %(job_id)s AND step_id = %(step_id)s
        ), woken AS (
            SELECT stop_waiting(delivery_id, %(passed_until)s, %(now)s) AS delivery_id
            FROM (SELECT * FROM moved ORDER BY destination_id) AS ordered
            UNION
            SELECT leave_place(destination_id, ordering_key, delivery_id, 'canceled')
            FROM done WHERE ordering_key IS NOT NULL
            UNION
            SELECT woken_before(done.delivery_id, %(passed_until)s)
            FROM done LEFT JOIN moved USING (delivery_id) WHERE moved.delivery_id IS NULL
        )
        SELECT changed, skipped, NULL::uuid AS delivery_id, NULL::uuid AS tenant_id, NULL AS name FROM advanced
        UNION ALL
        SELECT changed, skipped, NULL, NULL, NULL
        FROM job WHERE job_id = %(job_id)s AND step_id = %(step_id)s  -- by the first run
        UNION ALL
        SELECT NULL, NULL, woken.delivery_id, known.tenant_id, known.name
        FROM woken
        CROSS JOIN LATERAL (  -- LIMIT, so that a row is looked up for each, however many PostgreSQL expects
            SELECT delivery.tenant_id, destination.name
            FROM delivery JOIN destination USING (destination_id)
            WHERE delivery.delivery_id = woken.delivery_id
            LIMIT 1
        ) AS known
        """,
        _of_step(job, step, now=now),
        repeatable=True,
    )
    return _stepped(rows)


def _bounds(bounds: Bounds) -> dict[str, Any]:
    return {
        "of_one_destination": bounds.destination_id is not None,
        "owner_id": bounds.destination_id or bounds.tenant_id,
        "state": bounds.state.value,
        "phase": bounds.state.phase,
        "since_id": bounds.since_id,
        "until_id": bounds.until_id,
        "as_of": bounds.as_of,
        "outcome": bounds.outcome and bounds.outcome.value,
        "status_class": bounds.status_class,
    }


def _of_step(job: BulkJob, step: JobStep, *, now: datetime) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "after_id": job.after_id,
        "step_id": step.step_id,
        "delivery_ids": [move.delivery_id for move in step.moves],
        "new_ids": [move.new_id for move in step.moves],
        "event_ids": [move.event_id for move in step.moves],
        "due_ats": [move.due_at for move in step.moves],
        "attempts_allowed": ASYNC_ATTEMPTS,
        "looked_at": step.looked_at,
        "last_id": step.last_id,
        "paced_until": step.paced_until,
        "is_last": step.is_last,
        "passed_until": now + timedelta(seconds=PASSED_SECONDS),
        "now": now,
    }


def _stepped(rows: Sequence[Mapping[str, Any]]) -> Stepped | None:
    own = [row for row in rows if row["changed"] is not None]
    if not own:
        return None
    woken = frozenset(
        NextUp(
            delivery_id=DeliveryId(row["delivery_id"]),
            tenant_id=TenantId(row["tenant_id"]),
            destination_name=row["name"],
        )
        for row in rows
        if row["changed"] is None
    )
    return Stepped(changed=own[0]["changed"], skipped=own[0]["skipped"], woken=woken)


def _job(row: Mapping[str, Any]) -> BulkJob:
    destination_id = row["destination_id"]
    return BulkJob(
        job_id=JobId(row["job_id"]),
        act=JobAct(row["act"]),
        bounds=Bounds(
            tenant_id=TenantId(row["tenant_id"]),
            state=State(row["of_state"]),
            since_id=DeliveryId(row["since_id"]),
            until_id=DeliveryId(row["until_id"]),
            as_of=row["created_at"],
            destination_id=None if destination_id is None else DestinationId(destination_id),
            outcome=None if row["outcome"] is None else OutcomeKind(row["outcome"]),
            status_class=row["status_class"],
        ),
        destination_name=row["name"],
        rate=row["rate"],
        expected=row["expected"],
        created_by=row["created_by"],
        state=JobState(row["state"]),
        after_id=DeliveryId(row["after_id"]),
        paced_until=row["paced_until"],
        changed=row["changed"],
        skipped=row["skipped"],
        finished_at=row["finished_at"],
    )

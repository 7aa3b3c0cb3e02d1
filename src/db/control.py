"""The statement by which callers change a single delivery: resolve, cancel, retry and reschedule it."""

from datetime import datetime, timedelta

from db.attempts import PASSED_SECONDS, NextUp
from db.connection import Database
from domain.control import DeliveryChange
from domain.deliveries import Payload, State
from domain.ids import DeliveryId, TenantId
from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class ChangedDelivery:
    """`done` says that the change was made; otherwise `state` is the one that does not allow it.

    `woken` waited for the delivery and can go on. `is_orphan` says that its destination was deleted, which sends
    nothing any more; `payload` whether what is to be sent is still there. `attempts_made` are those that were made.
    """

    state: State
    done: bool
    is_orphan: bool
    payload: Payload
    attempts_made: int
    woken: frozenset[NextUp]


def change(
    database: Database,
    wanted: DeliveryChange,
    *,
    tenant_id: TenantId,
    delivery_id: DeliveryId,
    since: frozenset[State],
    now: datetime,
    event_id: DeliveryId | None = None,
) -> ChangedDelivery | None:
    """Makes a change to a delivery that is in one of the states `since`; None where the tenant has no such delivery.

    What has ended goes on under the same idempotency key, with at least one more attempt, where what it sent is still
    stored whole. What is decided gives up what
    it waited with: its turn for a slot, and its place under an ordering key, also where it is `failed`. A delivery of a
    deleted destination is not sent again. An attempt that is being made is not interrupted: its row is in `sending`.
    Where the connection breaks, the statement is run again, and finds its `change_id` in the row. With `event_id` its
    end is told.
    """
    rows = database.rows(
        """
        WITH chosen AS (
            SELECT delivery_id, state AS state_before, act_id, payload AS payload_before,
                   attempts_made AS attempts_before
            FROM delivery
            WHERE delivery_id = %(delivery_id)s AND tenant_id = %(tenant_id)s
            FOR UPDATE
        ), allowed AS (
            SELECT chosen.delivery_id, deleted_at IS NOT NULL AND %(becomes)s = 'pending' AS is_orphan
            FROM chosen JOIN delivery USING (delivery_id) JOIN destination USING (destination_id)
            WHERE state_before = ANY (%(since)s::text[]) AND chosen.act_id IS DISTINCT FROM %(change_id)s::uuid
              AND (payload_before IS NULL OR %(becomes)s <> 'pending')
              AND attempts_before = coalesce(%(attempts_seen)s, attempts_before)
        ), moved AS (
            UPDATE delivery
            SET state = %(becomes)s,
                due_at = coalesce(%(due_at)s::timestamptz, due_at),
                attempts_allowed = CASE WHEN %(grants_attempt)s
                                        THEN greatest(attempts_allowed, attempts_made + 1) ELSE attempts_allowed END,
                -- It is counted from the time of the first attempt.
                give_up_at = CASE WHEN NOT %(grants_attempt)s
                                  THEN give_up_at + (coalesce(%(due_at)s::timestamptz, due_at) - due_at) END,
                finished_at = CASE WHEN %(becomes)s <> 'pending' THEN %(now)s::timestamptz END,
                waiting_for = CASE WHEN %(goes_on)s THEN waiting_for END,
                waits_until = CASE WHEN %(goes_on)s THEN waits_until END,
                -- An outcome that comes late says nothing about the attempt that is made next.
                lapsed_lease_id = CASE WHEN NOT %(grants_attempt)s THEN lapsed_lease_id END,
                resolution = coalesce(%(resolution)s::text, resolution),
                resolved_by = CASE WHEN %(resolution)s::text IS NULL THEN resolved_by ELSE %(by)s END,
                resolved_at = CASE WHEN %(resolution)s::text IS NULL THEN resolved_at ELSE %(now)s END,
                note = CASE WHEN %(resolution)s::text IS NULL THEN note ELSE %(note)s END,
                -- What a question that is being asked comes to is only logged.
                ask_at = NULL, asking_id = NULL, asking_until = NULL,
                act_id = %(change_id)s,
                event_id = coalesce(%(event_id)s::uuid, event_id)
            FROM allowed
            WHERE delivery.delivery_id = allowed.delivery_id AND NOT is_orphan
            RETURNING delivery.delivery_id, delivery.destination_id, delivery.ordering_key
        ), done AS (
            SELECT delivery_id, destination_id, ordering_key FROM moved
            UNION ALL
            SELECT delivery_id, destination_id, ordering_key  -- by the first run, where this is the second
            FROM chosen JOIN delivery USING (delivery_id)
            WHERE chosen.act_id = %(change_id)s
        ), placed AS (
            -- A failure that others have skipped goes behind them; any other one has its place still.
            SELECT delivery_id, take_place(destination_id, ordering_key, delivery_id) AS place
            FROM moved WHERE ordering_key IS NOT NULL AND %(becomes)s = 'pending'
        ), woken AS (
            SELECT stop_waiting(delivery_id, %(passed_until)s, %(now)s) AS delivery_id FROM moved WHERE NOT %(goes_on)s
            UNION
            SELECT leave_place(destination_id, ordering_key, delivery_id, 'canceled')
            FROM done WHERE ordering_key IS NOT NULL AND %(becomes)s <> 'pending'
            UNION
            SELECT woken_before(done.delivery_id, %(passed_until)s)
            FROM done LEFT JOIN moved USING (delivery_id) WHERE moved.delivery_id IS NULL
        )
        SELECT chosen.delivery_id, state_before, NULL::uuid AS tenant_id, NULL AS name,
               done.delivery_id IS NOT NULL AS done, allowed.is_orphan IS TRUE AS is_orphan, payload_before,
               attempts_before
        FROM chosen LEFT JOIN allowed USING (delivery_id) LEFT JOIN done USING (delivery_id)
             LEFT JOIN placed USING (delivery_id)
        UNION ALL
        SELECT woken.delivery_id, NULL, known.tenant_id, known.name, NULL, NULL, NULL, NULL
        FROM woken
        CROSS JOIN LATERAL (  -- LIMIT, so that a row is looked up for each, however many PostgreSQL expects
            SELECT delivery.tenant_id, destination.name
            FROM delivery JOIN destination USING (destination_id)
            WHERE delivery.delivery_id = woken.delivery_id
            LIMIT 1
        ) AS known
        """,
        {
            "delivery_id": delivery_id,
            "tenant_id": tenant_id,
            "since": [state.value for state in since],
            "becomes": wanted.becomes.value,
            "due_at": wanted.due_at,
            # A delivery that is attempted as soon as it can be keeps the turn that it waits for.
            "goes_on": wanted.due_at is not None and wanted.due_at <= now,
            "grants_attempt": wanted.grants_attempt,
            "resolution": wanted.resolution and wanted.resolution.value,
            "by": wanted.by,
            "note": wanted.note,
            "change_id": wanted.change_id,
            "attempts_seen": wanted.attempts_seen,
            "passed_until": now + timedelta(seconds=PASSED_SECONDS),
            "now": now,
            "event_id": event_id,
        },
        repeatable=True,
    )
    own = [row for row in rows if row["name"] is None]
    if not own:
        return None
    woken = frozenset(
        NextUp(
            delivery_id=DeliveryId(row["delivery_id"]),
            tenant_id=TenantId(row["tenant_id"]),
            destination_name=row["name"],
        )
        for row in rows
        if row["name"] is not None
    )
    payload = own[0]["payload_before"]
    return ChangedDelivery(
        state=State(own[0]["state_before"]),
        done=own[0]["done"],
        is_orphan=own[0]["is_orphan"],
        payload=Payload.WHOLE if payload is None else Payload(payload),
        attempts_made=own[0]["attempts_before"],
        woken=woken,
    )

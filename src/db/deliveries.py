"""Statements on `delivery`: accept, claim, show, list, find overdue. The outcome of a claim is recorded in
db/attempts.py."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from db.connection import Database
from db.destinations import as_id, destination
from db.oauth_tokens import stored_token
from domain.allow import plain_path
from domain.deliveries import (
    Abandoned,
    Claim,
    ClaimResult,
    Delivery,
    Finished,
    Missing,
    NewDelivery,
    NotDue,
    Payload,
    Resolution,
    State,
    WaitingFor,
)
from domain.destinations import Destination, DestinationState
from domain.errors import DestinationPaused, Disabled, NotAllowed, NotNow, SallyportError
from domain.ids import DeliveryId, DestinationId, LeaseId, TenantId
from domain.limits import USUAL_WORKERS, usual_share
from domain.outcomes import Headers, OutcomeKind
from domain.questions import MOST_RANK
from domain.reconcile import OpenQuestion
from domain.retention import RetentionOptions
from domain.values import value_class
from domain.wakeups import LEAST_LOOKS, next_look
from runtime.conversion import converted
from runtime.isolation import each_isolated

PHASES = sorted({state.phase for state in State})  # together all deliveries
COUNTED_DESTINATIONS = 500  # of a count of what is overdue; with the next number, 50,000 rows at most
COUNTED_DELIVERIES = 100  # of a destination: if those wait for something, all behind them do
PAUSED_RETRY_AFTER_SECONDS = 60  # nobody knows until when it is
# A deletion may be taken back in this time, and what is pending is not canceled before.
DELETED_FOR_SECONDS = 60
_STATES = {state.value: state for state in State}  # read in a tenth of the time that a call of the class takes
_DESTINATION_STATES = {state.value: state for state in DestinationState}
MOST_READ = 2_000  # deliveries of a page; a filter that leaves out more of them ends it before its limit
_SUCCESS_CLASS = 2
_MOMENT = timedelta(milliseconds=1)
BUSY_SECONDS = 1  # how long to leave a row alone that another statement holds locked right now


@value_class(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to send a delivery, until `until`."""

    lease_id: LeaseId
    until: datetime


@value_class(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What accepting led to.

    `delivery` is the new one, or with `replayed` the earlier one of the same idempotency key. `claim` is None unless
    the new delivery was leased to the caller at once. `turn_at` is the turn that it was given instead; what else
    `delivery` waits for, a worker has yet to find.
    """

    delivery: Delivery
    replayed: bool
    claim: Claim | None
    turn_at: datetime | None = None

    @property
    def is_held(self) -> bool:
        """Whether nothing is sent to its destination at present."""
        return self.delivery.destination_state is not DestinationState.ACTIVE


def accept(
    database: Database,
    new: NewDelivery,
    *,
    delivery_id: DeliveryId,
    fingerprint: bytes,
    now: datetime,
    lease: Lease | None,
    wait_seconds: float | None,
) -> Acceptance | None:
    """Stores a delivery, and resolves destination and idempotency key; None where there is no such destination.

    Where the connection breaks, the statement is run again: it then finds the row, if the first run had committed.

    With `wait_seconds` (the caller waits for the answer) the row is leased to the caller under `lease`, provided that
    the destination's total deadline fits into the wait; otherwise it is left to the queue's worker. Both are None where
    the caller does not wait. Nor is it leased where the destination's limits do not let it go: then it waits as any
    other. Raises NotAllowed, Disabled, and for a call that is to be passed through now DestinationPaused and NotNow.
    """
    rows = database.rows(
        """
        WITH target AS (
            SELECT destination_id, tenant_id, name, base_url, auth_type, sealed_credentials, guarantee, idempotent,
                   idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at,
                   nullif(options, '{}') AS options, sealed_certificate, sealed_signing,
                   to_jsonb(oauth_token) AS token, state AS destination_state, state_reason AS held_because,
                   -- What callers may send (domain/allow.py).
                   jsonb_typeof(options #> '{allow,methods}') IS DISTINCT FROM 'array'
                       OR options #> '{allow,methods}' ? %(method)s AS allows_method,
                   jsonb_typeof(options #> '{allow,paths}') IS DISTINCT FROM 'array'
                       OR EXISTS (SELECT FROM jsonb_array_elements_text(options #> '{allow,paths}') AS prefix
                                  WHERE %(plain_path)s = prefix
                                     OR starts_with(%(plain_path)s, rtrim(prefix, '/') || '/')) AS allows_path,
                   CASE WHEN NOT %(passes)s AND jsonb_typeof(options #> '{retry,schedule}') = 'array'
                        THEN jsonb_array_length(options #> '{retry,schedule}') END AS attempts_of_policy,
                   CASE WHEN NOT %(passes)s
                        THEN make_interval(secs => (options #>> '{retry,give_up_after}')::double precision)
                        END AS give_up_after,
                   %(wait_seconds)s::double precision >= total_seconds AS fits,  -- NULL, so no, without a wait
                   state <> 'active' OR options <> '{}' OR open_until IS NOT NULL OR %(ordering_key)s::text IS NOT NULL
                       AS may_hold
            FROM destination LEFT JOIN destination_flow USING (destination_id)
                 LEFT JOIN oauth_token USING (destination_id)
            WHERE tenant_id = %(tenant_id)s AND (name = %(reference)s OR destination_id = %(reference_id)s)
              AND deleted_at IS NULL
        ), asked AS (
            -- What is sent at once is subject to the same limits as what a worker claims.
            SELECT destination_id, fits AND %(ordering_key)s IS NULL AS fits,
                   CASE WHEN may_hold
                        THEN ask_when_accepted(destination_id, %(idempotency_key)s, %(ordering_key)s, %(delivery_id)s,
                                               fits AND %(ordering_key)s IS NULL IS TRUE, NOT %(passes)s,
                                               %(leased_until)s, %(now)s) END AS answer
            FROM target
        ), told AS (
            SELECT destination_id, fits, (answer).reason, (answer).until, fits AND (answer).reason IS NULL AS at_once
            FROM asked
        ), written AS (
            INSERT INTO delivery (
                delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
                metadata, state, attempts_made, attempts_allowed, due_at, lease_id, leased_until, created_at,
                ordering_key, waiting_for, waits_until, give_up_at)
            SELECT %(delivery_id)s, tenant_id, destination_id, %(idempotency_key)s, %(fingerprint)s, %(method)s,
                   %(path)s, %(query)s, %(headers)s::text::jsonb, %(metadata)s::text::jsonb,
                   CASE WHEN at_once THEN 'sending' ELSE 'pending' END,
                   CASE WHEN at_once THEN 1 ELSE 0 END,
                   coalesce(attempts_of_policy, %(attempts_allowed)s), %(due_at)s,
                   CASE WHEN at_once THEN %(lease_id)s::uuid END,
                   CASE WHEN at_once THEN %(leased_until)s::timestamptz END,
                   %(now)s, %(ordering_key)s,
                   CASE WHEN told.fits AND until IS NOT NULL THEN reason END, CASE WHEN told.fits THEN until END,
                   %(due_at)s + give_up_after
            FROM target JOIN told USING (destination_id)
            -- There is no reason where the key came before: what was accepted then is found whatever is so now.
            WHERE (reason IS NULL OR reason <> 'destination_disabled' AND NOT %(passes)s)
              AND (allows_method AND allows_path OR EXISTS (
                    SELECT FROM delivery
                    WHERE delivery.tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s))
            -- DO UPDATE, though it changes nothing: DO NOTHING would not return the row of a request that holds the
            -- same key and committed a moment ago.
            ON CONFLICT ON CONSTRAINT delivery_key_once DO UPDATE SET idempotency_key = EXCLUDED.idempotency_key
            RETURNING delivery_id, destination_id AS written_destination_id, state, lease_id, method, path, query,
                      headers, metadata, idempotency_key, fingerprint, attempts_made, attempts_allowed, due_at,
                      created_at AS accepted_at, finished_at, ordering_key, waiting_for, waits_until, give_up_at,
                      resolution, resolved_by, resolved_at, note, replay_of, ask_at, event, event_id, payload,
                      -- Not of an earlier request; and where this is run again, the delivery may have ended by now,
                      -- have left its place, and have no body any more. As long as it is open, both are there.
                      delivery_id = %(delivery_id)s AND phase = 'open' AS is_own
        ), stored AS (
            INSERT INTO delivery_body (delivery_id, body)
            SELECT delivery_id, %(body)s FROM written WHERE is_own
            ON CONFLICT ON CONSTRAINT delivery_body_pkey DO NOTHING  -- it is there where this is run again
        ), placed AS (
            SELECT written.delivery_id,
                   CASE WHEN written.ordering_key IS NOT NULL AND is_own
                        THEN take_place(written_destination_id, written.ordering_key, written.delivery_id) END
            FROM written
        )
        SELECT target.destination_id, target.tenant_id, target.name, target.base_url, target.auth_type,
               target.sealed_credentials, target.guarantee, target.idempotent, target.idempotency_header,
               target.connect_seconds, target.first_byte_seconds, target.total_seconds, target.created_at,
               target.options, target.sealed_certificate, target.sealed_signing, target.token,
               written.delivery_id, written.written_destination_id, written.state, written.lease_id, written.method,
               written.path, written.query, written.headers, written.metadata, written.idempotency_key,
               written.fingerprint, written.attempts_made, written.attempts_allowed, written.due_at,
               written.accepted_at, written.finished_at, written.ordering_key, target.destination_state,
               target.held_because, target.allows_method, target.allows_path, written.give_up_at,
               written.resolution, written.resolved_by, written.resolved_at, written.note, written.replay_of,
               written.ask_at, written.event, written.event_id, written.payload,
               target.options -> 'retention' AS retention,
               coalesce(told.reason, written.waiting_for) AS waiting_for,
               coalesce(told.until, written.waits_until) AS waits_until, written.waits_until AS turn_at
        FROM target JOIN told USING (destination_id) LEFT JOIN (written JOIN placed USING (delivery_id)) ON true
        """,
        {
            "wait_seconds": wait_seconds,
            "tenant_id": new.tenant_id,
            "reference": new.destination,
            "reference_id": as_id(new.destination),
            "delivery_id": delivery_id,
            "idempotency_key": new.idempotency_key or str(delivery_id),
            "fingerprint": fingerprint,
            "method": new.method,
            "path": new.path,
            "query": new.query,
            "headers": msgspec.json.encode(new.headers).decode(),
            "body": new.body,
            "metadata": msgspec.json.encode(new.metadata).decode(),
            "attempts_allowed": new.attempts_allowed,
            "due_at": new.not_before or now,
            "lease_id": lease and lease.lease_id,
            "leased_until": lease and lease.until,
            "passes": new.passes,
            "plain_path": plain_path(new.path),
            "now": now,
            "ordering_key": new.ordering_key,
        },
        repeatable=True,
    )
    if not rows:
        return None
    if rows[0]["delivery_id"] is None:
        raise _refusal(rows[0], now=now)
    return _acceptance(rows[0], new, delivery_id=delivery_id, lease=lease)


def claim(
    database: Database,
    delivery_ids: Sequence[DeliveryId],
    *,
    lease: Lease,
    now: datetime,
    share: int = usual_share(USUAL_WORKERS),
    asks_now: bool = False,
) -> list[ClaimResult]:
    """Leases all of `delivery_ids` that can be sent now, and says of each other one why it cannot; in the order given.

    An unknown one is leased where its partner is to be asked about it now, with `asks_now` whenever that is to be; it
    stays unknown meanwhile. Its limits are those of an attempt, but no order and no sending window holds it back.

    A row in state `sending` whose lease has expired comes back as a `lapsed` claim: its worker crashed before it
    recorded. Where the connection breaks, the statement is run again: what the first run leased is ours, and lapsed if
    it was lapsed then, which the row says.

    `share` is how many workers one destination may occupy for long (docs/limits.md).
    """
    rows = database.rows(
        """
        WITH wanted AS (
            SELECT delivery_id, position
            FROM unnest(%(delivery_ids)s::text::uuid[]) WITH ORDINALITY AS listed (delivery_id, position)
        ), free AS (
            -- SKIP LOCKED: two workers never wait for each other, whatever the order, and never get the same row.
            SELECT delivery.delivery_id, delivery.destination_id, delivery.ordering_key,
                   delivery.state = 'pending'
                       OR delivery.state = 'unknown' AND delivery.asking_id IS DISTINCT FROM %(lease_id)s AS fresh,
                   delivery.state = 'unknown' AS asks,
                   delivery.state = 'sending' AND (delivery.lease_id <> %(lease_id)s
                                                   OR delivery.lapsed_lease_id = %(lease_id)s) IS TRUE AS lapsed,
                   -- It is not sent any more, so nothing holds it back from being told so.
                   delivery.state = 'pending' AND delivery.give_up_at < %(now)s IS TRUE AS given_up
            FROM delivery JOIN wanted USING (delivery_id)
            WHERE delivery.state = 'pending' AND delivery.due_at <= %(now)s
               OR delivery.state = 'sending' AND delivery.leased_until <= %(now)s
               OR delivery.state = 'sending' AND delivery.lease_id = %(lease_id)s
               OR delivery.state = 'unknown' AND (delivery.ask_at <= %(now)s OR %(asks_now)s)
                  AND (delivery.asking_until IS NULL OR delivery.asking_until <= %(now)s)
               OR delivery.state = 'unknown' AND delivery.asking_id = %(lease_id)s
            FOR UPDATE OF delivery SKIP LOCKED
        ), met AS (
            -- What holds a delivery back by itself, whatever other workers take at this moment.
            SELECT delivery_id, destination_id,
                   options ? 'limits' OR open_until IS NOT NULL OR share IS NOT NULL AS limited,
                   CASE WHEN free.asks
                        THEN CASE WHEN destination.state <> 'active'
                                  THEN ROW ('destination_' || destination.state, NULL)::wait END
                        WHEN destination.state <> 'active' OR options ? 'windows' OR free.ordering_key IS NOT NULL
                        THEN hold_of(destination_id, free.ordering_key, delivery_id, %(now)s) END AS hold
            FROM free JOIN destination USING (destination_id) LEFT JOIN destination_flow USING (destination_id)
            WHERE fresh AND NOT given_up
        ), out_of_line AS (
            DELETE FROM slot_waiter USING free WHERE given_up AND slot_waiter.delivery_id = free.delivery_id
        ), turn AS (
            -- The others share what the limits of their destination leave (0008_turns.sql).
            SELECT answer.delivery_id, answer.reason, answer.until
            FROM (
                SELECT destination_id, array_agg(delivery_id) AS ids
                FROM met
                WHERE limited AND (hold).reason IS NULL
                GROUP BY destination_id
                ORDER BY destination_id
            ) AS asking
            CROSS JOIN LATERAL take_turns(
                destination_id, ids, %(lease_id)s, %(leased_until)s, %(share)s, %(now)s, NOT %(asks_now)s) AS answer
        ), verdict AS (
            SELECT met.delivery_id, coalesce((hold).reason, turn.reason) AS reason,
                   coalesce((hold).until, turn.until) AS until
            FROM met LEFT JOIN turn USING (delivery_id)
        ), leased AS (
            UPDATE delivery
            SET state = CASE WHEN free.asks THEN 'unknown' ELSE 'sending' END,
                lease_id = CASE WHEN NOT free.asks THEN %(lease_id)s::uuid END,
                leased_until = CASE WHEN NOT free.asks THEN %(leased_until)s::timestamptz END,
                lapsed_lease_id = CASE WHEN free.lapsed THEN %(lease_id)s::uuid END,
                asking_id = CASE WHEN free.asks THEN %(lease_id)s::uuid END,
                asking_until = CASE WHEN free.asks THEN %(leased_until)s::timestamptz END,
                attempts_made = CASE WHEN free.fresh AND NOT free.asks THEN attempts_made + 1 ELSE attempts_made END,
                questions_made = CASE WHEN free.fresh AND free.asks THEN coalesce(questions_made, 0) + 1
                                      ELSE questions_made END,
                waiting_for = NULL, waits_until = NULL
            FROM free LEFT JOIN verdict USING (delivery_id)
            WHERE delivery.delivery_id = free.delivery_id AND verdict.reason IS NULL
            RETURNING delivery.delivery_id, delivery.destination_id, delivery.method, delivery.path, delivery.query,
                      delivery.headers, delivery.idempotency_key, delivery.attempts_made, delivery.attempts_allowed,
                      delivery.give_up_at, free.lapsed, free.asks, delivery.questions_made,
                      delivery.questions_answered, delivery.first_answered_at, delivery.metadata, delivery.finished_at
        ), waiting AS (
            UPDATE delivery
            SET waiting_for = verdict.reason, waits_until = verdict.until
            FROM verdict
            WHERE delivery.delivery_id = verdict.delivery_id AND verdict.reason NOT LIKE 'destination_%%'
              AND (delivery.waiting_for, delivery.waits_until) IS DISTINCT FROM (verdict.reason, verdict.until)
        )
        SELECT wanted.delivery_id, leased.delivery_id IS NOT NULL AS leased, leased.method, leased.path, leased.query,
               leased.headers, delivery_body.body, leased.idempotency_key, leased.attempts_made,
               leased.attempts_allowed, leased.give_up_at, leased.lapsed, leased.asks, leased.questions_made,
               -- What only questions are made of
               CASE WHEN leased.asks THEN leased.metadata END AS metadata,
               CASE WHEN leased.asks THEN leased.finished_at END AS unknown_since,
               CASE WHEN leased.asks THEN leased.questions_answered END AS questions_answered,
               CASE WHEN leased.asks THEN leased.first_answered_at END AS first_answered_at,
               CASE WHEN leased.asks
                    THEN (SELECT silent_since FROM destination_flow AS flow
                          WHERE flow.destination_id = leased.destination_id) END AS silent_since,
               CASE WHEN leased.asks
                    THEN (SELECT response_body FROM attempt
                          WHERE attempt.delivery_id = leased.delivery_id AND kind = 'send' AND outcome = 'answered'
                          ORDER BY number DESC LIMIT 1) END AS answer_body,
               CASE WHEN leased.asks
                    THEN (SELECT count(*)
                          FROM (SELECT FROM delivery AS earlier
                                WHERE earlier.destination_id = leased.destination_id AND earlier.phase = 'unknown'
                                  AND earlier.ask_at IS NOT NULL AND earlier.ask_silent
                                  AND earlier.delivery_id < leased.delivery_id
                                LIMIT %(most_rank)s) AS before) END AS rank,
               stored.state AS state_before, stored.due_at, stored.give_up_at AS gives_up_at, stored.leased_until,
               stored.ask_at, stored.asking_until,
               verdict.reason, verdict.until, destination.deleted_at, destination.destination_id,
               destination.tenant_id, destination.name, destination.base_url, destination.auth_type,
               destination.sealed_credentials,
               destination.guarantee, destination.idempotent, destination.idempotency_header,
               destination.connect_seconds, destination.first_byte_seconds, destination.total_seconds,
               destination.created_at, nullif(destination.options, '{}') AS options, destination.sealed_certificate,
               destination.sealed_signing, to_jsonb(oauth_token) AS token,
               -- Whoever recorded the end may have stopped before it woke the next in order. A failure that holds back
               -- its order is the first of it: to wake that would lead here again, without end.
               CASE WHEN stored.phase <> 'open' AND stored.ordering_key IS NOT NULL
                    THEN (SELECT first.delivery_id FROM delivery AS first
                          WHERE first.delivery_id = first_in_order(stored.destination_id, stored.ordering_key)
                            AND first.phase = 'open') END AS next_id,
               -- The message of its event may not have been queued either.
               CASE WHEN stored.phase <> 'open' AND stored.event_id IS NOT NULL
                    THEN (SELECT event.delivery_id FROM delivery AS event
                          WHERE event.delivery_id = stored.event_id AND event.phase = 'open') END AS open_event_id
        FROM wanted
        LEFT JOIN leased ON leased.delivery_id = wanted.delivery_id
        LEFT JOIN delivery_body ON delivery_body.delivery_id = leased.delivery_id AND NOT leased.asks
        LEFT JOIN delivery AS stored ON stored.delivery_id = wanted.delivery_id  -- as it was before this statement
        LEFT JOIN destination ON destination.destination_id = stored.destination_id
        LEFT JOIN oauth_token ON oauth_token.destination_id = leased.destination_id
        LEFT JOIN verdict ON verdict.delivery_id = wanted.delivery_id
        ORDER BY wanted.position
        """,
        {
            "delivery_ids": _array(delivery_ids),
            "lease_id": lease.lease_id,
            "leased_until": lease.until,
            "share": share,
            "now": now,
            "asks_now": asks_now,
            "most_rank": MOST_RANK,
        },
        repeatable=True,
        binary=True,
    )
    destinations: dict[UUID, Destination] = {}
    return each_isolated(
        rows,
        partial(_claim_result, destinations=destinations, lease=lease, now=now, asks_now=asks_now),
        otherwise=lambda row: NotDue(delivery_id=DeliveryId(row["delivery_id"]), at=lease.until),
        step="read a claim",
        id_of=lambda row: row["delivery_id"],
    )


@value_class(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event as it is stored: `kind` is such as delivery.failed, `body` JSON."""

    event_id: DeliveryId
    tenant_id: TenantId
    kind: str
    created_at: datetime
    body: bytes


def events(database: Database, event_ids: Sequence[DeliveryId]) -> dict[DeliveryId, EventRow]:
    """Those of these events that are there, with their bodies."""
    rows = database.rows(
        """
        SELECT delivery_id AS event_id, tenant_id, event AS kind, created_at, body
        FROM delivery JOIN delivery_body USING (delivery_id)
        WHERE delivery_id = ANY (%(event_ids)s::text::uuid[]) AND event IS NOT NULL AND body <> ''
        """,
        {"event_ids": _array(event_ids)},
        repeatable=True,
    )
    found = [EventRow(**row | {"event_id": DeliveryId(row["event_id"])}) for row in rows]
    return {event.event_id: event for event in found}


def note_slow(
    database: Database, slow: Sequence[DeliveryId], *, lease_id: LeaseId, since: datetime, share: int
) -> None:
    """Notes that attempts under this lease, which began at `since`, take long; so that their destinations occupy
    `share` workers at most until they are quick again. Those that have ended meanwhile are not noted."""
    database.rows(
        """
        SELECT note_slow(destination_id, ids, %(lease_id)s, %(since)s, %(share)s)
        FROM (
            SELECT destination_id, array_agg(delivery_id) AS ids
            FROM delivery
            WHERE delivery_id = ANY (%(slow)s::text::uuid[])
            GROUP BY destination_id
            ORDER BY destination_id
        ) AS listed
        """,
        {"slow": _array(slow), "lease_id": lease_id, "since": since, "share": share},
        repeatable=True,
    )


def find(database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId) -> Delivery | None:
    """The tenant's delivery of that id; None where it has none."""
    rows = database.rows(
        """
        SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id,
               coalesce(destination.deleted_name, destination.name) AS name, destination.state AS destination_state,
               delivery.state, delivery.method, delivery.path, delivery.query, delivery.headers, delivery.metadata,
               delivery.idempotency_key, delivery.fingerprint, delivery.attempts_made, delivery.attempts_allowed,
               delivery.due_at, delivery.created_at AS accepted_at, delivery.finished_at, delivery.ordering_key,
               delivery.waiting_for, delivery.waits_until, delivery.resolution, delivery.resolved_by,
               delivery.resolved_at, delivery.note, delivery.replay_of, delivery.ask_at, delivery.event,
               delivery.event_id, destination.options ->> 'events_to' AS events_to, delivery.payload,
               destination.options -> 'retention' AS retention
        FROM delivery JOIN destination USING (destination_id)
        WHERE delivery.delivery_id = %(delivery_id)s AND delivery.tenant_id = %(tenant_id)s
        """,
        {"delivery_id": delivery_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return delivery_of(rows[0]) if rows else None


def has_ended(database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId) -> bool:
    """Whether nothing more happens to the tenant's delivery by itself; true of one that is not there."""
    rows = database.rows(
        """
        SELECT FROM delivery
        WHERE delivery_id = %(delivery_id)s AND tenant_id = %(tenant_id)s AND phase = 'open'
        """,
        {"delivery_id": delivery_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return not rows


@value_class(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which deliveries a list shows; None does not restrict it.

    `since` (inclusive), `until` and `before` (exclusive) are bounds on the delivery's id, which is ordered by time.
    `metadata` are members of it, whose values are texts, numbers or booleans as JSON writes them. Of `outcome` and
    `status_class` (the first digit), one attempt at least is to be. `may_have_happened` asks for what nobody
    knows or has decided to be delivered or not, though after one attempt the partner may have acted.
    """

    tenant_id: TenantId
    state: State | None = None
    destination_id: DestinationId | None = None
    since: DeliveryId | None = None
    until: DeliveryId | None = None
    before: DeliveryId | None = None
    idempotency_key: str | None = None
    ordering_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    outcome: OutcomeKind | None = None
    status_class: int | None = None
    may_have_happened: bool = False

    @property
    def below(self) -> UUID:
        """The bound that `until` and `before` are together."""
        return min(filter(None, (self.until, self.before)), default=UUID(int=2**128 - 1))

    @property
    def phases(self) -> list[str]:
        """Where the deliveries are in the indexes."""
        return [self.state.phase] if self.state else PHASES

    @property
    def terms(self) -> dict[str, str]:
        """The properties that have terms (delivery_term), with their contents."""
        failed = self.status_class is not None and self.status_class != _SUCCESS_CLASS
        no_answer = self.outcome is not None and self.outcome is not OutcomeKind.ANSWERED
        listed = {
            **{f"metadata.{name}": content for name, content in self.metadata.items()},
            "ordering_key": self.ordering_key,
            "outcome": str(self.outcome) if no_answer else None,
            "status": str(self.status_class) if failed else None,
            "may_have_happened": "true" if self.may_have_happened else None,
        }
        return {name: content for name, content in listed.items() if content is not None}

    @property
    def is_plain(self) -> bool:
        """Whether a list by state, destination and time is meant, which the indexes of deliveries have whole."""
        return not (self.terms or self.idempotency_key or self.outcome or self.status_class)


def destination_of(database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId) -> DestinationId | None:
    """Where a delivery of the tenant goes; None where it has no such delivery."""
    rows = database.rows(
        """
        SELECT destination_id FROM delivery WHERE delivery_id = %(delivery_id)s AND tenant_id = %(tenant_id)s
        """,
        {"delivery_id": delivery_id, "tenant_id": tenant_id},
        repeatable=True,
    )
    return DestinationId(rows[0]["destination_id"]) if rows else None


@value_class(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Some deliveries of a list, the newest first. `next_before` is the `before` of the next page, None on the last.
    A page may have fewer deliveries than asked for, even none, and not be the last."""

    deliveries: list[Delivery]
    next_before: DeliveryId | None


def page(database: Database, wanted: Filter, *, limit: int) -> DeliveryPage:
    """Up to `limit` deliveries, newest first. Pages stay stable while deliveries are added, since those come first.

    Whatever is asked for, a page reads at most MOST_READ deliveries at a time. What an index has whole is read off it.
    Of the rest, the rarest of the properties asked for leads to candidates, of which those are left that have all
    others.
    """
    if wanted.is_plain:
        return _plain_page(database, wanted, limit=limit)
    candidates = _candidates(database, wanted)
    found = _matching(database, candidates, wanted, limit=limit + 1) if candidates else []
    if len(found) > limit:
        return DeliveryPage(deliveries=found[:limit], next_before=found[limit - 1].delivery_id)
    return DeliveryPage(deliveries=found, next_before=candidates[-1] if len(candidates) == MOST_READ else None)


def _plain_page(database: Database, wanted: Filter, *, limit: int) -> DeliveryPage:
    """`pending` and `sending` are of one phase: where few of it are in the state that is asked for, the page is what is
    so among the MOST_READ newest of the phase."""
    found, following = _newest(database, wanted, limit=limit + 1), None
    if len(found) <= limit and wanted.state in (State.PENDING, State.SENDING):
        of_phase = _of_phases(database, wanted)
        following = of_phase[-1] if len(of_phase) == MOST_READ else None
        found = _newest(database, replace(wanted, since=following or wanted.since), limit=limit + 1)
    if len(found) > limit:
        following = found[limit - 1].delivery_id
    return DeliveryPage(deliveries=found[:limit], next_before=following)


def _candidates(database: Database, wanted: Filter) -> list[DeliveryId]:
    """Up to MOST_READ deliveries among which the page begins, the newest first."""
    if wanted.idempotency_key is not None:
        return _of_key(database, wanted)
    return _with_rarest_term(database, wanted) if wanted.terms else _of_phases(database, wanted)


def _of_key(database: Database, wanted: Filter) -> list[DeliveryId]:
    rows = database.read(
        """
        SELECT delivery_id FROM delivery
        WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s
          AND delivery_id >= %(since)s AND delivery_id < %(below)s
        """,
        {
            "tenant_id": wanted.tenant_id,
            "idempotency_key": wanted.idempotency_key,
            "since": wanted.since or UUID(int=0),
            "below": wanted.below,
        },
    )
    return [DeliveryId(row["delivery_id"]) for row in rows]


def _with_rarest_term(database: Database, wanted: Filter) -> list[DeliveryId]:
    rows = database.read(
        """
        WITH asked AS MATERIALIZED (
            SELECT term_of(%(tenant_id)s, property, content) AS term
            FROM unnest(%(properties)s::text[], %(contents)s::text[]) AS listed (property, content)
        ), rarest AS (
            SELECT term
            FROM asked
            CROSS JOIN LATERAL (
                SELECT count(*) AS deliveries
                FROM (SELECT FROM delivery_term
                      WHERE term = asked.term AND delivery_id >= %(since)s AND delivery_id < %(below)s
                      ORDER BY term DESC, delivery_id DESC
                      LIMIT %(limit)s) AS newest
            ) AS counted
            ORDER BY deliveries
            LIMIT 1
        )
        SELECT newest.delivery_id
        FROM rarest
        CROSS JOIN LATERAL (
            SELECT delivery_id
            FROM delivery_term
            WHERE term = rarest.term AND delivery_id >= %(since)s AND delivery_id < %(below)s
            ORDER BY term DESC, delivery_id DESC
            LIMIT %(limit)s
        ) AS newest
        ORDER BY newest.delivery_id DESC
        """,
        {
            "tenant_id": wanted.tenant_id,
            "properties": list(wanted.terms),
            "contents": list(wanted.terms.values()),
            "since": wanted.since or UUID(int=0),
            "below": wanted.below,
            "limit": MOST_READ,
        },
    )
    return [DeliveryId(row["delivery_id"]) for row in rows]


def _of_phases(database: Database, wanted: Filter) -> list[DeliveryId]:
    rows = database.read(
        """
        SELECT newest.delivery_id
        FROM unnest(%(phases)s::text[]) AS listed (phase)
        CROSS JOIN LATERAL (  -- as in a plain list
            SELECT delivery_id
            FROM delivery
            WHERE CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END
                  = ANY (ARRAY [%(owner_id)s::uuid])
              AND phase = ANY (ARRAY [listed.phase])
              AND delivery_id >= %(since)s AND delivery_id < %(below)s
            ORDER BY CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END DESC, phase DESC,
                     delivery_id DESC
            LIMIT %(limit)s
        ) AS newest
        ORDER BY newest.delivery_id DESC
        LIMIT %(limit)s
        """,
        {
            "of_one_destination": wanted.destination_id is not None,
            "owner_id": wanted.destination_id or wanted.tenant_id,
            "phases": wanted.phases,
            "since": wanted.since or UUID(int=0),
            "below": wanted.below,
            "limit": MOST_READ,
        },
    )
    return [DeliveryId(row["delivery_id"]) for row in rows]


def _matching(database: Database, candidates: Sequence[DeliveryId], wanted: Filter, *, limit: int) -> list[Delivery]:
    """Those of `candidates` that have all that is asked for, up to `limit`, the newest first."""
    rows = database.read(
        """
        SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id,
               coalesce(destination.deleted_name, destination.name) AS name, destination.state AS destination_state,
               delivery.state, delivery.method, delivery.path, delivery.query, delivery.headers, delivery.metadata,
               delivery.idempotency_key, delivery.fingerprint, delivery.attempts_made, delivery.attempts_allowed,
               delivery.due_at, delivery.created_at AS accepted_at, delivery.finished_at, delivery.ordering_key,
               delivery.waiting_for, delivery.waits_until, delivery.resolution, delivery.resolved_by,
               delivery.resolved_at, delivery.note, delivery.replay_of, delivery.ask_at, delivery.event,
               delivery.event_id, delivery.payload,
               destination.options -> 'retention' AS retention
        FROM delivery JOIN destination USING (destination_id)
        WHERE delivery.delivery_id = ANY (%(candidates)s::text::uuid[]) AND delivery.tenant_id = %(tenant_id)s
          AND (%(state)s::text IS NULL OR delivery.state = %(state)s)
          AND (%(destination_id)s::uuid IS NULL OR delivery.destination_id = %(destination_id)s)
          AND (%(ordering_key)s::text IS NULL OR delivery.ordering_key = %(ordering_key)s)
          AND NOT EXISTS (
              SELECT FROM unnest(%(names)s::text[], %(contents)s::text[]) AS member (name, content)
              WHERE (delivery.metadata ->> member.name) IS DISTINCT FROM member.content
                 OR jsonb_typeof(delivery.metadata -> member.name) NOT IN ('string', 'number', 'boolean'))
          -- bool_or and not EXISTS, which might be planned as one walk through all attempts.
          AND (%(outcome)s::text IS NULL
               OR (SELECT bool_or(outcome = %(outcome)s) FROM attempt
                   WHERE attempt.delivery_id = delivery.delivery_id AND kind = 'send'))
          AND (%(status_class)s::integer IS NULL
               OR (SELECT bool_or(status / 100 = %(status_class)s) FROM attempt
                   WHERE attempt.delivery_id = delivery.delivery_id AND kind = 'send'))
          AND (NOT %(may_have_happened)s
               OR delivery.state <> 'delivered' AND delivery.resolution IS DISTINCT FROM 'failed'
                  AND (SELECT bool_or(leaves_open(outcome, status)) FROM attempt
                       WHERE attempt.delivery_id = delivery.delivery_id AND kind = 'send'))
        ORDER BY delivery.delivery_id DESC
        LIMIT %(limit)s
        """,
        {
            "candidates": _array(candidates),
            "tenant_id": wanted.tenant_id,
            "state": wanted.state,
            "destination_id": wanted.destination_id,
            "ordering_key": wanted.ordering_key,
            "names": list(wanted.metadata),
            "contents": list(wanted.metadata.values()),
            "outcome": wanted.outcome,
            "status_class": wanted.status_class,
            "may_have_happened": wanted.may_have_happened,
            "limit": limit,
        },
    )
    return [delivery_of(row) for row in rows]


def _newest(database: Database, wanted: Filter, *, limit: int) -> list[Delivery]:
    """Up to `limit` deliveries of a tenant or a destination, of one state or of all, the newest first; of `pending` and
    `sending` those among the newest of their phase, twice MOST_READ. So those among MOST_READ that were read before are
    still among these, whatever came meanwhile."""
    rows = database.read(
        """
        SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id,
               coalesce(destination.deleted_name, destination.name) AS name, destination.state AS destination_state,
               delivery.state, delivery.method, delivery.path, delivery.query, delivery.headers, delivery.metadata,
               delivery.idempotency_key, delivery.fingerprint, delivery.attempts_made, delivery.attempts_allowed,
               delivery.due_at, delivery.created_at AS accepted_at, delivery.finished_at, delivery.ordering_key,
               delivery.waiting_for, delivery.waits_until, delivery.resolution, delivery.resolved_by,
               delivery.resolved_at, delivery.note, delivery.replay_of, delivery.ask_at, delivery.event,
               delivery.event_id, delivery.payload,
               destination.options -> 'retention' AS retention
        FROM (
            SELECT newest.*
            FROM unnest(%(phases)s::text[], %(states)s::text[]) AS listed (phase, state)
            -- The newest of each phase, read off the end of its part of an index. Arrays of one: compared by = alone,
            -- the order is that of the ids, for which the planner may read the primary key end to end. CASE is gone
            -- before the statement is planned.
            CROSS JOIN LATERAL (
                SELECT *
                FROM (
                    SELECT *
                    FROM delivery
                    WHERE CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END
                          = ANY (ARRAY [%(owner_id)s::uuid])
                      AND phase = ANY (ARRAY [listed.phase])
                      AND delivery_id >= %(since)s AND delivery_id < %(below)s
                    ORDER BY CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END DESC, phase DESC,
                             delivery_id DESC
                    LIMIT %(most_read)s
                ) AS looked_at
                WHERE listed.state IS NULL OR looked_at.state = listed.state
                ORDER BY CASE WHEN %(of_one_destination)s THEN destination_id ELSE tenant_id END DESC, phase DESC,
                         delivery_id DESC
                LIMIT %(limit)s
            ) AS newest
            ORDER BY newest.delivery_id DESC
            LIMIT %(limit)s
        ) AS delivery JOIN destination USING (destination_id)
        WHERE delivery.tenant_id = %(tenant_id)s
        ORDER BY delivery.delivery_id DESC
        """,
        {
            "tenant_id": wanted.tenant_id,
            "of_one_destination": wanted.destination_id is not None,
            "owner_id": wanted.destination_id or wanted.tenant_id,
            "phases": wanted.phases,
            "states": [wanted.state.value] if wanted.state else [None] * len(PHASES),
            "since": wanted.since or UUID(int=0),
            "below": wanted.below,
            "most_read": 2 * MOST_READ + limit,
            "limit": limit,
        },
    )
    return [delivery_of(row) for row in rows]


@value_class(frozen=True, slots=True, kw_only=True)
class Overdue:
    """An unfinished delivery that should have been attempted long ago."""

    delivery_id: DeliveryId
    tenant_id: TenantId
    destination_name: str


@value_class(frozen=True, slots=True, kw_only=True)
class OverdueCount:
    """How many deliveries are overdue, and behind which destination the next count goes on; None behind the last."""

    count: int
    following: DestinationId | None


def count_overdue(database: Database, *, since: datetime, after: DestinationId | None) -> OverdueCount:
    """How many deliveries were due before `since`, be it only to be asked about, or have a lease that expired before
    it, and wait for nothing: nobody will move them.

    Of the COUNTED_DESTINATIONS next destinations behind `after`, and of each the COUNTED_DELIVERIES oldest unfinished
    ones, and as many that are asked about: so a count reads about as much however many there are. What a destination
    holds back, paused or disabled, is not overdue.
    """
    (row,) = database.read(
        """
        SELECT coalesce(sum(late.overdue), 0) AS overdue, count(*) AS destinations,
               (array_agg(called.destination_id ORDER BY called.destination_id DESC))[1] AS last_id
        FROM (
            SELECT destination_id, state, deleted_at FROM destination
            WHERE destination_id > %(after)s ORDER BY destination_id LIMIT %(destinations)s
        ) AS called
        CROSS JOIN LATERAL (
            SELECT count(*) AS overdue
            FROM (
                (SELECT CASE delivery.state WHEN 'pending' THEN due_at ELSE leased_until END AS due_at, waiting_for
                 FROM delivery
                 WHERE delivery.destination_id = called.destination_id AND delivery.phase = 'open'
                   AND (delivery.state <> 'pending' OR called.state = 'active' OR called.deleted_at IS NOT NULL)
                 ORDER BY delivery_id
                 LIMIT %(most)s)
                UNION ALL
                (SELECT greatest(ask_at, asking_until) AS due_at, waiting_for
                 FROM delivery
                 WHERE delivery.destination_id = called.destination_id AND delivery.phase = 'unknown'
                   AND ask_at IS NOT NULL AND called.state = 'active'
                 ORDER BY delivery_id
                 LIMIT %(most)s)
            ) AS oldest
            WHERE waiting_for IS NULL AND due_at < %(since)s
        ) AS late
        """,
        {
            "since": since,
            "after": after or UUID(int=0),
            "destinations": COUNTED_DESTINATIONS,
            "most": COUNTED_DELIVERIES,
        },
    )
    is_last = row["destinations"] < COUNTED_DESTINATIONS
    return OverdueCount(count=int(row["overdue"]), following=None if is_last else DestinationId(row["last_id"]))


def overdue(database: Database, *, since: datetime, after: DeliveryId | None, limit: int) -> list[Overdue]:
    """Up to `limit` deliveries of all tenants, by id, that were due before `since`, be it only to be asked about, or
    whose lease expired before it.

    `after` is the last id of the page before. Finished deliveries are not read, however many there are: each
    tenant's unfinished ones are found by the index on phases.
    """
    rows = database.read(
        """
        SELECT late.delivery_id, late.tenant_id, destination.name
        FROM (
            SELECT unfinished.delivery_id, unfinished.tenant_id, unfinished.destination_id
            FROM (SELECT DISTINCT tenant_id FROM destination) AS sender
            CROSS JOIN LATERAL (
                SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id
                FROM delivery
                WHERE delivery.tenant_id = sender.tenant_id AND delivery.phase = 'open'
                  AND CASE delivery.state WHEN 'pending' THEN delivery.due_at ELSE delivery.leased_until END < %(since)s
                  AND (%(after)s::uuid IS NULL OR delivery.delivery_id > %(after)s)
                ORDER BY delivery.delivery_id
                LIMIT %(limit)s
            ) AS unfinished
            UNION ALL
            SELECT asked.delivery_id, asked.tenant_id, asked.destination_id
            FROM destination AS called
            CROSS JOIN LATERAL (
                SELECT delivery.delivery_id, delivery.tenant_id, delivery.destination_id
                FROM delivery
                WHERE delivery.destination_id = called.destination_id AND delivery.phase = 'unknown'
                  AND delivery.ask_at < %(since)s
                  AND (%(after)s::uuid IS NULL OR delivery.delivery_id > %(after)s)
                ORDER BY delivery.delivery_id
                LIMIT %(limit)s
            ) AS asked
            WHERE called.deleted_at IS NULL
        ) AS late
        JOIN destination ON destination.destination_id = late.destination_id
        ORDER BY late.delivery_id
        LIMIT %(limit)s
        """,
        {"since": since, "after": after, "limit": limit},
    )
    return [
        Overdue(
            delivery_id=DeliveryId(row["delivery_id"]),
            tenant_id=TenantId(row["tenant_id"]),
            destination_name=row["name"],
        )
        for row in rows
    ]


def waiting(
    database: Database, destination_id: DestinationId, *, now: datetime, after: DeliveryId | None, limit: int
) -> list[DeliveryId]:
    """Up to `limit` deliveries to a destination that are due, be it only to be asked about, by id, from the one behind
    `after` on."""
    rows = database.read(
        """
        SELECT delivery_id
        FROM (
            (SELECT delivery_id
             FROM delivery
             WHERE destination_id = %(destination_id)s AND phase = 'open' AND state = 'pending' AND due_at <= %(now)s
               AND delivery_id > %(after)s
             ORDER BY delivery_id
             LIMIT %(limit)s)
            UNION ALL
            (SELECT delivery_id
             FROM delivery
             WHERE destination_id = %(destination_id)s AND phase = 'unknown' AND ask_at <= %(now)s
               AND delivery_id > %(after)s
             ORDER BY delivery_id
             LIMIT %(limit)s)
        ) AS due
        ORDER BY delivery_id
        LIMIT %(limit)s
        """,
        {"destination_id": destination_id, "now": now, "after": after or UUID(int=0), "limit": limit},
    )
    return [DeliveryId(row["delivery_id"]) for row in rows]


def unfinished(database: Database, destination_id: DestinationId) -> int:
    """How many deliveries to a destination are pending or being sent."""
    rows = database.read(
        """
        SELECT count(*) AS unfinished FROM delivery WHERE destination_id = %(destination_id)s AND phase = 'open'
        """,
        {"destination_id": destination_id},
    )
    return int(rows[0]["unfinished"])


def cancel_waiting(database: Database, destination_id: DestinationId, *, now: datetime, limit: int) -> int:
    """Cancels up to `limit` pending deliveries to a destination, the oldest first; returns how many.

    Those that another statement holds right now are left: it may be about to send them. `now` is another one at each
    call, by which a second run knows what the first one did.
    """
    rows = database.rows(
        """
        WITH before AS (
            SELECT delivery_id FROM delivery
            WHERE destination_id = %(destination_id)s AND phase = 'canceled' AND finished_at = %(now)s
        ), pending AS (
            SELECT delivery_id
            FROM delivery
            WHERE destination_id = %(destination_id)s AND phase = 'open' AND state = 'pending'
            ORDER BY delivery_id
            LIMIT greatest(0, %(limit)s - (SELECT count(*) FROM before))
            FOR UPDATE SKIP LOCKED
        ), canceled AS (
            UPDATE delivery SET state = 'canceled', finished_at = %(now)s
            FROM pending
            WHERE delivery.delivery_id = pending.delivery_id
            RETURNING delivery.delivery_id
        ), left_places AS (  -- nobody is behind them: all that waits for the destination is canceled
            DELETE FROM ordering_place USING canceled WHERE ordering_place.delivery_id = canceled.delivery_id
        ), left_line AS (
            DELETE FROM slot_waiter USING canceled WHERE slot_waiter.delivery_id = canceled.delivery_id
        )
        SELECT delivery_id FROM canceled
        UNION ALL
        SELECT delivery_id FROM before
        """,
        {"destination_id": destination_id, "now": now, "limit": limit},
        repeatable=True,
    )
    return len(rows)


def cancel_abandoned(database: Database, delivery_ids: Sequence[DeliveryId], *, now: datetime) -> list[DeliveryId]:
    """Cancels those of `delivery_ids` that are pending though their destination was deleted; returns them."""
    rows = database.rows(
        """
        WITH canceled AS (
            UPDATE delivery SET state = 'canceled', finished_at = %(now)s
            FROM destination
            WHERE delivery.delivery_id = ANY (%(delivery_ids)s::text::uuid[]) AND delivery.state = 'pending'
              AND destination.destination_id = delivery.destination_id AND destination.deleted_at IS NOT NULL
            RETURNING delivery.delivery_id
        ), left_places AS (
            DELETE FROM ordering_place USING canceled WHERE ordering_place.delivery_id = canceled.delivery_id
        ), left_line AS (
            DELETE FROM slot_waiter USING canceled WHERE slot_waiter.delivery_id = canceled.delivery_id
        )
        SELECT delivery_id FROM canceled
        UNION ALL
        SELECT delivery_id FROM delivery  -- by the first run
        WHERE delivery_id = ANY (%(delivery_ids)s::text::uuid[]) AND phase = 'canceled' AND finished_at = %(now)s
        """,
        {"delivery_ids": _array(delivery_ids), "now": now},
        repeatable=True,
    )
    return [DeliveryId(row["delivery_id"]) for row in rows]


def _acceptance(
    row: Mapping[str, Any], new: NewDelivery, *, delivery_id: DeliveryId, lease: Lease | None
) -> Acceptance:
    same_destination = row["written_destination_id"] == row["destination_id"]
    delivery = delivery_of(row)
    if delivery.delivery_id != delivery_id or not same_destination:
        return Acceptance(delivery=delivery, replayed=True, claim=None)
    # Not the state alone: by the time the statement is repeated, a worker may have taken the row.
    leased = lease is not None and row["lease_id"] == lease.lease_id
    return Acceptance(
        delivery=delivery,
        replayed=False,
        claim=_claim(row, destination(row), body=new.body, lease=lease, lapsed=False)
        if lease is not None and leased
        else None,
        turn_at=row["turn_at"],
    )


def _refusal(row: Mapping[str, Any], *, now: datetime) -> SallyportError:
    """Why the destination did not take a delivery; and when another try makes sense. A slot may be free any moment."""
    if not (row["allows_method"] and row["allows_path"]):
        return NotAllowed("path" if row["allows_method"] else "method")
    match _DESTINATION_STATES[row["destination_state"]]:
        case DestinationState.DISABLED:
            return Disabled(reason=row["held_because"])
        case DestinationState.PAUSED:
            return DestinationPaused(reason=row["held_because"], retry_after_seconds=PAUSED_RETRY_AFTER_SECONDS)
        case DestinationState.ACTIVE:
            wait_seconds = 1.0 if row["waits_until"] is None else (row["waits_until"] - now).total_seconds()
            quota, window_seconds = _quota(row)
            return NotNow(
                waiting_for=row["waiting_for"],
                retry_after_seconds=max(1, math.ceil(wait_seconds)),
                quota=quota,
                window_seconds=window_seconds,
            )


def _quota(row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """What the limit that a request met lets through, and in how many seconds: its burst comes back in these."""
    limits = destination(row).options.limits
    if limits is not None and row["waiting_for"] == WaitingFor.RATE_LIMIT and limits.rate and limits.burst:
        return limits.burst, math.ceil(limits.burst / limits.rate)
    if limits is not None and row["waiting_for"] == WaitingFor.CONCURRENCY:
        return limits.concurrency, None
    return None, None


def _array(ids: Iterable[UUID]) -> str:
    """As PostgreSQL reads one: psycopg makes it out of a list member by member, an eighth of a claim."""
    return f"{{{','.join([listed.hex for listed in ids])}}}"


def _claim_result(
    row: Mapping[str, Any], *, destinations: dict[UUID, Destination], lease: Lease, now: datetime, asks_now: bool
) -> ClaimResult:
    """`destinations` are those of the rows before: all rows of one statement have the same of each."""
    delivery_id = DeliveryId(row["delivery_id"])
    if row["leased"]:
        claimed_for = destinations.get(row["destination_id"])
        if claimed_for is None:
            claimed_for = destinations[row["destination_id"]] = destination(row)
        return _claim(row, claimed_for, body=row["body"], lease=lease, lapsed=row["lapsed"])
    if row["state_before"] is None:
        return Missing(delivery_id=delivery_id)
    asks = row["ask_at"] is not None or asks_now
    is_asked_about = row["state_before"] == State.UNKNOWN and asks and not row["deleted_at"]
    if _STATES[row["state_before"]].finished and not is_asked_about:
        next_id, event_id = row["next_id"], row["open_event_id"]
        return Finished(
            delivery_id=delivery_id,
            next_in_order=None if next_id is None else DeliveryId(next_id),
            event_id=None if event_id is None else DeliveryId(event_id),
        )
    if row["reason"] is not None:
        if row["deleted_at"] and row["deleted_at"] + timedelta(seconds=DELETED_FOR_SECONDS) <= now:
            return Abandoned(delivery_id=delivery_id)
        waiting_for = WaitingFor(row["reason"])
        since = row["ask_at"] or now if is_asked_about else row["due_at"]
        at = row["until"] or next_look(since=since, now=now, least_seconds=LEAST_LOOKS[waiting_for])
        return NotDue(delivery_id=delivery_id, at=at if is_asked_about else _in_time(at, row), waiting_for=waiting_for)
    busy = now + timedelta(seconds=BUSY_SECONDS)
    if is_asked_about:
        return NotDue(delivery_id=delivery_id, at=max(row["ask_at"] or busy, row["asking_until"] or busy, busy))
    return NotDue(delivery_id=delivery_id, at=max(row["leased_until"] or row["due_at"], busy))


def _in_time(at: datetime, row: Mapping[str, Any]) -> datetime:
    """No later than when the delivery is given up, whatever it waits for."""
    return at if row["gives_up_at"] is None else min(at, row["gives_up_at"] + _MOMENT)


def _claim(row: Mapping[str, Any], claimed_for: Destination, *, body: bytes, lease: Lease, lapsed: bool) -> Claim:
    return Claim(
        delivery_id=DeliveryId(row["delivery_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        lease_id=lease.lease_id,
        destination=claimed_for,
        method=row["method"],
        path=row["path"],
        query=row["query"],
        headers=_headers(row["headers"]),
        body=body or b"",
        idempotency_key=row["idempotency_key"],
        attempts_made=row["attempts_made"],
        attempts_allowed=row["attempts_allowed"],
        lapsed=lapsed,
        give_up_at=row["give_up_at"],
        token=None if row["token"] is None else stored_token(row["token"]),
        question=_question(row) if row.get("asks") else None,
        questions_made=row.get("questions_made") or 0,
    )


def _question(row: Mapping[str, Any]) -> OpenQuestion:
    return OpenQuestion(
        delivery_id=str(row["delivery_id"]),
        idempotency_key=row["idempotency_key"],
        metadata=row["metadata"],
        unknown_since=row["unknown_since"],
        answered=row["questions_answered"] or 0,
        rank=row["rank"],
        first_answered_at=row["first_answered_at"],
        silent_since=row["silent_since"],
        answer_body=row["answer_body"],
    )


def delivery_of(row: Mapping[str, Any]) -> Delivery:
    """From a row of `delivery` with its destination's name, its created_at as accepted_at."""
    return Delivery(
        delivery_id=DeliveryId(row["delivery_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        destination_id=DestinationId(row["destination_id"]),
        destination_name=row["name"],
        state=_STATES[row["state"]],
        method=row["method"],
        path=row["path"],
        query=row["query"],
        headers=_headers(row["headers"]),
        metadata=row["metadata"],
        idempotency_key=row["idempotency_key"],
        fingerprint=row["fingerprint"],
        attempts_made=row["attempts_made"],
        attempts_allowed=row["attempts_allowed"],
        due_at=row["due_at"],
        created_at=row["accepted_at"],
        finished_at=row["finished_at"],
        ordering_key=row["ordering_key"],
        held_by=None if row["waiting_for"] is None else WaitingFor(row["waiting_for"]),
        waits_until=row["waits_until"],
        destination_state=_DESTINATION_STATES[row["destination_state"]],
        resolution=None if row["resolution"] is None else Resolution(row["resolution"]),
        resolved_by=row["resolved_by"],
        resolved_at=row["resolved_at"],
        note=row["note"],
        replay_of=None if row["replay_of"] is None else DeliveryId(row["replay_of"]),
        ask_at=row["ask_at"],
        payload=Payload.WHOLE if row["payload"] is None else Payload(row["payload"]),
        event=row["event"],
        event_id=None if row["event_id"] is None else DeliveryId(row["event_id"]),
        events_to=events_to(row),
        retention=None if row["retention"] is None else converted(row["retention"], RetentionOptions),
    )


def events_to(row: Mapping[str, Any]) -> DestinationId | None:
    """Which destination is told when the delivery of a row ends; None also where the row does not say it."""
    told = row.get("events_to")
    return None if told is None else DestinationId(UUID(told))


def _headers(pairs: Sequence[Sequence[str]]) -> Headers:
    return tuple([(name, value) for name, value in pairs])

"""Deliveries: one request for one destination, from `pending` to a final state."""

import hashlib
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from domain.auth import StoredToken
from domain.destinations import Destination, DestinationState
from domain.ids import AttemptId, DeliveryId, DestinationId, LeaseId, TenantId
from domain.outcomes import Headers, OutcomeKind, Timings
from domain.reconcile import OpenQuestion
from domain.retention import RetentionOptions, kept_until
from domain.retry import Delivered, Failed, Held, RetryAt, Verdict, is_success
from domain.values import value_class

ASYNC_ATTEMPTS = 10  # one per entry of the retry schedule
PASS_THROUGH_ATTEMPTS = 1  # the caller sees the partner's own answer and decides


class AttemptKind(StrEnum):
    """What an attempt was for: to `send` the delivery, or to ask the partner what became of it (`reconcile`)."""

    SEND = "send"
    RECONCILE = "reconcile"


class State(StrEnum):
    """`pending -> sending -> delivered | failed | unknown | canceled`; back to `pending` between attempts."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELED = "canceled"

    @property
    def finished(self) -> bool:
        """Whether the state is final: nothing more happens to the delivery by itself."""
        return self not in (State.PENDING, State.SENDING)

    @property
    def phase(self) -> str:
        """What lists are read by (column `phase` of `delivery`): `open` until the delivery ends, then its state."""
        return self.value if self.finished else "open"


class WaitingFor(StrEnum):
    """What a pending delivery waits for."""

    NOT_BEFORE = "not_before"
    RETRY = "retry"
    DESTINATION_PAUSED = "destination_paused"
    DESTINATION_DISABLED = "destination_disabled"
    ORDERING = "ordering"
    SENDING_WINDOW = "sending_window"
    CIRCUIT_BREAKER = "circuit_breaker"
    RATE_LIMIT = "rate_limit"
    CONCURRENCY = "concurrency"


class Resolution(StrEnum):
    """What a delivery in `unknown` was resolved as: what became of it, or that it is to be sent once more."""

    DELIVERED = "delivered"
    FAILED = "failed"
    AGAIN = "again"


class Payload(StrEnum):
    """What is still stored of what a delivery was about. Only one that is `whole` can be sent again.

    `redacted`: not the values that its destination redacts. `expired`: not the body, whose retention is over.
    `expunged`: neither query, headers, body and metadata, nor the responses.
    """

    WHOLE = "whole"
    REDACTED = "redacted"
    EXPIRED = "expired"
    EXPUNGED = "expunged"


# Why nothing is sent to a destination in this state; None where that is no reason.
WAITING_IN: Mapping[DestinationState, WaitingFor | None] = {
    DestinationState.ACTIVE: None,
    DestinationState.PAUSED: WaitingFor.DESTINATION_PAUSED,
    DestinationState.DISABLED: WaitingFor.DESTINATION_DISABLED,
}


@value_class(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery that a caller asks for, already validated.

    `destination` is the name or the id the caller gave. `path` is the percent-encoded path below the destination's
    base URL and starts with "/"; `query` is the raw query string without "?". `idempotency_key` is None when the caller
    gave none; without `not_before` the first attempt may start at once.
    """

    tenant_id: TenantId
    destination: str
    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    metadata: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    not_before: datetime | None = None
    attempts_allowed: int = ASYNC_ATTEMPTS
    ordering_key: str | None = None

    @property
    def passes(self) -> bool:
        """Whether it is one request now, whose caller sees the partner's own answer."""
        return self.attempts_allowed == PASS_THROUGH_ATTEMPTS


@value_class(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as it is stored, without its request body.

    `due_at` is when the next attempt may start. `idempotency_key` is what the partner gets on every attempt: the
    caller's key, or the delivery's id where it gave none.

    `ask_at` is when the partner is asked next about an unknown one; None where nobody asks.

    `held_by` is what a pending one waits for besides its time, as it was when it was last looked at; `waits_until` is
    when it is its turn, None where nobody knows.

    `resolution` is what it was resolved as the last time that it was `unknown`, with who resolved it (`token:<id>`),
    when, and a note; None where nobody did. `replay_of` is the delivery that it repeats. `retention` is what its
    destination says of that.

    `event` is what it tells of, None where it is no event. `event_id` is the delivery that tells of its end, and
    `events_to` the destination that is told; None where nobody is, the latter also where it was not looked up.
    """

    delivery_id: DeliveryId
    tenant_id: TenantId
    destination_id: DestinationId
    destination_name: str
    state: State
    method: str
    path: str
    query: str
    headers: Headers
    metadata: Mapping[str, object]
    idempotency_key: str
    fingerprint: bytes
    attempts_made: int
    attempts_allowed: int
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    ordering_key: str | None = None
    held_by: WaitingFor | None = None
    waits_until: datetime | None = None
    destination_state: DestinationState = DestinationState.ACTIVE
    resolution: Resolution | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    note: str | None = None
    replay_of: DeliveryId | None = None
    ask_at: datetime | None = None
    payload: Payload = Payload.WHOLE
    event: str | None = None
    event_id: DeliveryId | None = None
    events_to: DestinationId | None = None
    retention: RetentionOptions | None = None

    def kept_until(self, *, stack_days: int) -> datetime | None:
        """Until when it is stored, with its idempotency key; None while another attempt or question may follow."""
        return kept_until(self.retention, stack_days=stack_days, finished_at=self.finished_at, ask_at=self.ask_at)

    @property
    def waiting_for(self) -> WaitingFor | None:
        """Why it is pending; None where it is not, and where its first attempt is about to begin."""
        if self.state is not State.PENDING:
            return None
        if held := WAITING_IN[self.destination_state] or self.held_by:
            return held
        if self.attempts_made:
            return WaitingFor.RETRY
        return WaitingFor.NOT_BEFORE if self.due_at > self.created_at else None


@value_class(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery leased to one worker, with everything that the attempt needs.

    `attempts_made` counts the attempt that this claim is for. `lapsed` is True when an earlier worker took the lease
    and never recorded an outcome: its request may have been sent, so this claim must only record that, and send
    nothing. `token` is the destination's access token of OAuth 2.0; None where it never had one. `is_probe` says that
    it belongs to no delivery (flows/verify.py): it has no idempotency key, and a connection of its own.

    With a `question` the delivery is unknown, and the attempt asks the partner about it. `questions_made` counts these,
    this one included.
    """

    delivery_id: DeliveryId
    tenant_id: TenantId
    lease_id: LeaseId
    destination: Destination
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes = field(repr=False)
    idempotency_key: str
    attempts_made: int
    attempts_allowed: int
    lapsed: bool
    give_up_at: datetime | None = None
    token: StoredToken | None = None
    is_probe: bool = False
    question: OpenQuestion | None = None
    questions_made: int = 0

    @property
    def number(self) -> int:
        """The attempt's number in the log, which counts questions too."""
        return self.attempts_made + self.questions_made

    @property
    def passes(self) -> bool:
        """Whether it is one request, whose caller sees the partner's own answer; not where the schedule has no more."""
        policy = self.destination.options.retry
        is_alone = policy is not None and policy.schedule is not None and len(policy.schedule) == PASS_THROUGH_ATTEMPTS
        return self.attempts_allowed == PASS_THROUGH_ATTEMPTS and not is_alone


@value_class(frozen=True, slots=True, kw_only=True)
class NotDue:
    """A delivery that must not be touched before `at`: it is due later, or another worker holds its lease.

    Or it is due and waits: for what, says `waiting_for`. Where nobody knows until when, `at` is the time of the next
    look.
    """

    delivery_id: DeliveryId
    at: datetime
    waiting_for: WaitingFor | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """A delivery that is pending though its destination was deleted: it is to be canceled."""

    delivery_id: DeliveryId


@value_class(frozen=True, slots=True, kw_only=True)
class Finished:
    """A delivery that is finished: its wake-up has nothing left to do.

    `next_in_order` is the first one that its ordering key still has, which may not have been woken; None without one.
    `event_id` is the event of its end, for as long as that is not finished.
    """

    delivery_id: DeliveryId
    next_in_order: DeliveryId | None = None
    event_id: DeliveryId | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Missing:
    """No such row: it was never committed, or it is about to be."""

    delivery_id: DeliveryId


type ClaimResult = Claim | NotDue | Abandoned | Finished | Missing


@value_class(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """The part of a partner's response that is stored.

    `body` is decoded and at most `STORED_RESPONSE_BYTES`; `length_bytes` and `sha256` are those of the whole
    decoded body, None when it was not read to its end; `truncated` says that body or headers are not as they came: cut,
    left out, or masked (domain/bodies.py).
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    length_bytes: int | None
    sha256: bytes | None
    truncated: bool


@value_class(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, as it is logged.

    `reason` is None when answered; `response` is None unless answered. `egress_address` is the fixed address that the
    request left from, None where nothing was sent from one or it is not known.
    """

    attempt_id: AttemptId
    delivery_id: DeliveryId
    number: int
    outcome: OutcomeKind
    reason: str | None
    started_at: datetime
    timings: Timings
    remote_address: str | None
    egress_address: str | None
    response: StoredResponse | None
    kind: AttemptKind = AttemptKind.SEND

    @property
    def succeeded(self) -> bool:
        """Whether the partner answered that it did what it was asked to."""
        return self.response is not None and is_success(self.response.status)


@value_class(frozen=True, slots=True, kw_only=True)
class Record:
    """An attempt together with the delivery's next state. `due_at` is None unless the next state is `pending`.

    `failed` is what the destination's circuit breaker counts (domain/limits.py); None where the attempt says nothing
    about the partner.
    `disables` says that the partner does not want any more deliveries: its destination is disabled with the record.

    `ask_at` is when the partner is asked next about a delivery that is unknown, None where it is not; `silent` that it
    was asked and said nothing. `sends` is how many attempts to send there were, where the log has questions too.
    `redacts` says that its destination names what is not stored once it has ended.

    `event_id` is for the event that tells of its end, should it end with this, `state_event_id` for the one that tells
    that its destination is disabled, and `breaker_event_id` that its circuit breaker opens, should it open with this;
    None where nobody is told.
    """

    attempt: Attempt
    lease_id: LeaseId
    next_state: State
    due_at: datetime | None
    failed: bool | None = None
    disables: bool = False
    ask_at: datetime | None = None
    silent: bool = False
    sends: int | None = None
    redacts: bool = False
    event_id: DeliveryId | None = None
    state_event_id: DeliveryId | None = None
    breaker_event_id: DeliveryId | None = None

    @property
    def asks(self) -> bool:
        """Whether the attempt was a question."""
        return self.attempt.kind is AttemptKind.RECONCILE

    @property
    def event_ids(self) -> tuple[DeliveryId, ...]:
        """Of all events that it may write, for each of which a message is queued before."""
        ids = (self.event_id, self.state_event_id, self.breaker_event_id)
        return tuple([event_id for event_id in ids if event_id is not None])


def fingerprint(*, destination: str, method: str, path: str, query: str, body: bytes) -> bytes:
    """SHA-256 over what makes two requests the same: destination, method, path, query and body.

    Each part is preceded by its length, so that no two different requests give the same bytes.
    """
    digest = hashlib.sha256()
    for part in (destination.encode(), method.encode(), path.encode(), query.encode(), body):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def state_after(verdict: Verdict) -> State:
    """The state that a verdict leads to."""
    match verdict:
        case Delivered():
            return State.DELIVERED
        case RetryAt():
            return State.PENDING
        case Failed():
            return State.FAILED
        case Held():
            return State.UNKNOWN
        case _:
            assert_never(verdict)

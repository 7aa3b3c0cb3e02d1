"""Make the attempts that are due. Start reading here: this file is what becomes of a delivery, step by step.

    1. sort     wake-ups that are early hop on to their time without touching the database
    2. claim    one statement leases all deliveries of the batch that are due, and says of the others why not
    3. send     all at once, no transaction open; each ends in an Outcome
    4. judge    each outcome becomes a verdict: delivered, retry at, failed, held
    5. wake     the wake-ups of what must be looked at again are queued, before...
    6. record   ...one statement logs all attempts and moves their deliveries on

A worker that dies between 2 and 6 leaves rows in state `sending`. Their lease runs out, their message comes back, and
the next worker finds a *lapsed* claim: its request may have gone out, so it is not sent but judged as Unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from db import attempts, deliveries
from db.attempts import Record
from domain.bodies import keep
from domain.deliveries import Attempt, Claim, Found, Missing, NotYet, Over, state_after
from domain.destinations import Guarantee, may_repeat
from domain.errors import DatabaseUnavailable, SecretUnavailable, Unsealable
from domain.headers import merged
from domain.ids import AttemptId, DeliveryId
from domain.outcomes import Answered, Exchange, Headers, Unknown, Unreachable, outcome_name
from domain.retry import RetryAt, Verdict, verdict
from domain.targets import partner_url
from domain.wakeups import MISS_DELAYS_SECONDS, Wakeup, delay_seconds
from egress.client import OutboundRequest
from egress.credentials import SealKey, auth_headers, unseal
from flows.collaborators import Collaborators
from runtime.observability import count, logger
from runtime.settings import SettingsError

PUT_BACK_SECONDS = 30  # how long to leave the database alone when it does not answer
LAPSED = Unknown(reason="the worker that was to send it stopped before it recorded an outcome")

type Due = Mapping[DeliveryId, Wakeup]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One attempt that was made: what it was for, what became of it, and what the delivery does next."""

    claim: Claim
    exchange: Exchange
    verdict: Verdict
    attempt: Attempt


def attempt_due(wakeups: Sequence[Wakeup], *, by: Collaborators) -> None:
    """Makes the attempts of one batch of wake-ups.

    When this returns, the messages are done with: whatever is still to do has a message of its own. Raises
    QueueUnavailable or DatabaseUnavailable where that could not be brought about; the messages must then come back.
    """
    now = by.clock()
    early = [wakeup for wakeup in wakeups if delay_seconds(wakeup, now=now) > 0]
    due = {wakeup.delivery_id: wakeup for wakeup in wakeups if delay_seconds(wakeup, now=now) == 0}
    found = _claim(due, now=now, by=by)
    made = make_attempts([item for item in found if isinstance(item, Claim)], by=by)
    again = [wakeup for item in found for wakeup in _look_again(item, due[item.delivery_id], now=now)]
    retries = [wakeup for item in made for wakeup in retry_wakeups(item, group=due[item.claim.delivery_id].group)]
    try:
        by.queue.send([*early, *again, *retries], now=by.clock())
    finally:  # without the new messages the old ones must come back; what happened is recorded all the same
        record(made, by=by)


def make_attempts(claims: Sequence[Claim], *, by: Collaborators) -> list[Made]:
    """Sends what was claimed, all at once, and judges each outcome; in the order given."""
    started_at = by.clock()
    key = _seal_key(claims, by=by)
    ready = [_request(claim, key=key) for claim in claims]
    sent = iter(by.client.send_all([item for item in ready if isinstance(item, OutboundRequest)]))
    exchanges = [next(sent) if isinstance(item, OutboundRequest) else item for item in ready]
    return [
        _judge(claim, exchange, started_at=started_at, by=by) for claim, exchange in zip(claims, exchanges, strict=True)
    ]


def retry_wakeups(made: Made, *, group: str) -> list[Wakeup]:
    """The wake-up of the next attempt; none where there is no next one."""
    if isinstance(made.verdict, RetryAt):
        return [Wakeup(delivery_id=made.claim.delivery_id, due_at=made.verdict.at, group=group)]
    return []


def record(made: Sequence[Made], *, by: Collaborators) -> None:
    """Logs the attempts and moves their deliveries on, in one statement. Raises DatabaseUnavailable."""
    if not made:
        return
    now = by.clock()
    moved = attempts.record(by.database, [_record(item) for item in made], now=now)
    for item in made:
        _tell(item, moved=item.claim.delivery_id in moved)


def _claim(due: Due, *, now: datetime, by: Collaborators) -> list[Found]:
    """Step 2. Without a database the wake-ups are put back with a delay: an outage must not dead-letter them."""
    if not due:
        return []
    try:
        return deliveries.claim(by.database, list(due), lease=by.new_lease(now), now=now)
    except DatabaseUnavailable:
        logger.warning("the database is not available, wake-ups are put back", count=len(due))
        later = now + timedelta(seconds=PUT_BACK_SECONDS)
        return [NotYet(delivery_id=delivery_id, at=later) for delivery_id in due]


def _look_again(found: Found, wakeup: Wakeup, *, now: datetime) -> list[Wakeup]:
    """The wake-up that takes the place of this one; none where it is done with."""
    match found:
        case Claim() | Over():
            return []
        case NotYet(at=at):
            return [Wakeup(delivery_id=wakeup.delivery_id, due_at=at, group=wakeup.group)]
        case Missing():
            return _missed(wakeup, now=now)
        case _:
            assert_never(found)


def _missed(wakeup: Wakeup, *, now: datetime) -> list[Wakeup]:
    """Its row may be committed in a moment (message first, row second); after a few looks it never was."""
    if wakeup.misses >= len(MISS_DELAYS_SECONDS):
        logger.info("wake-up without a delivery dropped", delivery_id=str(wakeup.delivery_id))
        return []
    later = now + timedelta(seconds=MISS_DELAYS_SECONDS[wakeup.misses])
    return [Wakeup(delivery_id=wakeup.delivery_id, due_at=later, group=wakeup.group, misses=wakeup.misses + 1)]


def _seal_key(claims: Sequence[Claim], *, by: Collaborators) -> SealKey | None:
    """The key for the credentials of this batch, asked for once; None where none is needed or it is out of reach.

    The claims' leases run already, so that a slow answer must not be waited for once per claim.
    """
    if all(claim.destination.sealed_credentials is None for claim in claims):
        return None
    try:
        return by.seal_key
    except (SecretUnavailable, SettingsError):
        logger.exception("the seal key is out of reach")
        return None


def _request(claim: Claim, *, key: SealKey | None) -> OutboundRequest | Exchange:
    """The request to send; or, where nothing may be or can be sent, what became of the attempt already."""
    if claim.lapsed:
        return Exchange(outcome=LAPSED)
    try:
        headers = _headers(claim, key=key)
    except Unsealable:  # nothing is sent, so nothing may be left in doubt
        logger.exception("credentials could not be opened", delivery_id=str(claim.delivery_id))
        return Exchange(
            outcome=Unreachable(reason="the destination's credentials could not be opened; nothing was sent")
        )
    return OutboundRequest(
        method=claim.method,
        url=partner_url(claim.destination.base_url, path=claim.path, query=claim.query),
        headers=headers,
        body=claim.body,
        timeouts=claim.destination.timeouts,
        may_repeat=_may_repeat(claim),
    )


def _headers(claim: Claim, *, key: SealKey | None) -> Headers:
    """The caller's headers, the key that is the same on every attempt, and the destination's credentials."""
    keyed = [(claim.destination.idempotency_header, claim.idempotency_key)]
    return merged(claim.headers, keyed, _credentials(claim, key=key))


def _credentials(claim: Claim, *, key: SealKey | None) -> Headers:
    destination = claim.destination
    if destination.sealed_credentials is None:
        return ()
    if key is None:
        raise Unsealable("the seal key is out of reach")
    auth = unseal(
        destination.sealed_credentials,
        auth_type=destination.auth_type,
        destination_id=destination.destination_id,
        keys=[key],
    )
    return auth_headers(auth)


def _judge(claim: Claim, exchange: Exchange, *, started_at: datetime, by: Collaborators) -> Made:
    now = by.clock()
    decided = verdict(
        exchange.outcome,
        attempts_made=claim.attempts_made,
        attempts_allowed=claim.attempts_allowed,
        may_repeat=_may_repeat(claim),
        at_most_once=claim.destination.guarantee is Guarantee.AT_MOST_ONCE,
        now=now,
        chance=by.chance(),
    )
    attempt = _attempt(claim, exchange, started_at=started_at, by=by)
    return Made(claim=claim, exchange=exchange, verdict=decided, attempt=attempt)


def _may_repeat(claim: Claim) -> bool:
    destination = claim.destination
    return may_repeat(guarantee=destination.guarantee, idempotent=destination.idempotent, method=claim.method)


def _attempt(claim: Claim, exchange: Exchange, *, started_at: datetime, by: Collaborators) -> Attempt:
    outcome = exchange.outcome
    return Attempt(
        attempt_id=AttemptId(by.new_id(started_at)),
        delivery_id=claim.delivery_id,
        number=claim.attempts_made,
        outcome=outcome_name(outcome),
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        started_at=started_at,
        timings=exchange.timings,
        remote_address=exchange.remote_address,
        egress_address=by.address_towards(exchange.remote_address),
        response=keep(outcome) if isinstance(outcome, Answered) else None,
    )


def _record(made: Made) -> Record:
    return Record(
        attempt=made.attempt,
        lease_id=made.claim.lease_id,
        next_state=state_after(made.verdict),
        due_at=made.verdict.at if isinstance(made.verdict, RetryAt) else None,
    )


def _tell(made: Made, *, moved: bool) -> None:
    """One log line and two counts per attempt."""
    outcome = made.exchange.outcome
    state = state_after(made.verdict)
    logger.info(
        "attempt made",
        delivery_id=str(made.claim.delivery_id),
        number=made.claim.attempts_made,
        outcome=made.attempt.outcome,
        status=outcome.status if isinstance(outcome, Answered) else None,
        state=state.value,
        total_ms=round(made.exchange.timings.total_ms, 1),
    )
    count(f"Attempts{made.attempt.outcome.capitalize()}")
    if state.finished:
        count(f"Deliveries{state.value.capitalize()}")
    if not moved:
        logger.warning("the lease had passed on, only the log was written", delivery_id=str(made.claim.delivery_id))

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
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from db import attempts, deliveries
from db.attempts import Record
from domain.deliveries import Claim, Found, Missing, NotYet, Over, state_after
from domain.errors import DatabaseUnavailable
from domain.ids import DeliveryId
from domain.outcomes import Answered, Exchange, Unknown
from domain.retry import RetryAt
from domain.wakeups import MISS_DELAYS_SECONDS, Wakeup, delay_seconds
from egress.client import OutboundRequest
from flows.collaborators import Collaborators
from flows.judge import Made, judged
from flows.prepare import prepared, seal_key
from runtime.apart import apart
from runtime.observability import count, logger

PUT_BACK_SECONDS = 30  # how long to leave the database alone when it does not answer
LOST = Unknown(reason="a fault of the gateway itself; what was sent is not known")

type Due = Mapping[DeliveryId, Wakeup]


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
    key = seal_key(claims, by=by)
    ready = [prepared(claim, key=key) for claim in claims]
    sent = iter(_sent([item for item in ready if isinstance(item, OutboundRequest)], by=by))
    exchanges = [next(sent) if isinstance(item, OutboundRequest) else item for item in ready]
    return [
        judged(claim, exchange, started_at=started_at, by=by) for claim, exchange in zip(claims, exchanges, strict=True)
    ]


def _sent(requests: Sequence[OutboundRequest], *, by: Collaborators) -> Sequence[Exchange]:
    """Step 3. Where the client itself fails, nobody knows what of the batch went out."""
    return apart(
        partial(by.client.send_all, requests), otherwise=lambda _: [Exchange(outcome=LOST)] * len(requests), step="send"
    )


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
        tell = partial(_tell, item, moved=item.claim.delivery_id in moved)
        apart(tell, otherwise=lambda _: None, step="tell", delivery_id=str(item.claim.delivery_id))


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

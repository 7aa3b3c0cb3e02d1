"""From what became of a request to what is recorded of it: a verdict, and the attempt as it is logged."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from domain.bodies import keep
from domain.deliveries import Attempt, Claim, KeptResponse, Record, state_after
from domain.destinations import Guarantee
from domain.ids import AttemptId
from domain.outcomes import Answered, Exchange, Outcome, outcome_name
from domain.retry import Held, RetryAt, Verdict, verdict
from flows.collaborators import Collaborators
from flows.prepare import may_send_again
from runtime.apart import apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One attempt that was made: what it was for, what became of it, and what the delivery does next."""

    claim: Claim
    exchange: Exchange
    verdict: Verdict
    attempt: Attempt

    @property
    def record(self) -> Record:
        """What the database is to be told."""
        return Record(
            attempt=self.attempt,
            lease_id=self.claim.lease_id,
            next_state=state_after(self.verdict),
            due_at=self.verdict.at if isinstance(self.verdict, RetryAt) else None,
        )


def judged(claim: Claim, exchange: Exchange, *, started_at: datetime, by: Collaborators) -> Made:
    """The attempt that `exchange` was, whatever is in it: an answer is recorded even where it cannot be judged."""
    return Made(
        claim=claim,
        exchange=exchange,
        verdict=_verdict(claim, exchange.outcome, by=by),
        attempt=_attempt(claim, exchange, started_at=started_at, by=by),
    )


def _verdict(claim: Claim, outcome: Outcome, *, by: Collaborators) -> Verdict:
    """Where it cannot be judged: as if the answer had no headers, and where even that fails, held for a person."""
    bare = replace(outcome, headers=()) if isinstance(outcome, Answered) else outcome
    return _apart(claim, outcome, otherwise=lambda _: _apart(claim, bare, otherwise=lambda _: Held(), by=by), by=by)


def _apart(claim: Claim, outcome: Outcome, *, otherwise: Callable[[Exception], Verdict], by: Collaborators) -> Verdict:
    work = partial(_decided, claim, outcome, by=by)
    return apart(work, otherwise=otherwise, step="judge", delivery_id=str(claim.delivery_id))


def _decided(claim: Claim, outcome: Outcome, *, by: Collaborators) -> Verdict:
    return verdict(
        outcome,
        attempts_made=claim.attempts_made,
        attempts_allowed=claim.attempts_allowed,
        may_repeat=may_send_again(claim),
        at_most_once=claim.destination.guarantee is Guarantee.AT_MOST_ONCE,
        now=by.clock(),
        chance=by.chance(),
    )


def _attempt(claim: Claim, exchange: Exchange, *, started_at: datetime, by: Collaborators) -> Attempt:
    outcome = exchange.outcome
    delivery_id = str(claim.delivery_id)
    return Attempt(
        attempt_id=AttemptId(by.new_id(started_at)),
        delivery_id=claim.delivery_id,
        number=claim.attempts_made,
        outcome=outcome_name(outcome),
        reason=None if isinstance(outcome, Answered) else outcome.reason,
        started_at=started_at,
        timings=exchange.timings,
        remote_address=exchange.remote_address,
        egress_address=apart(
            partial(by.address_towards, exchange.remote_address),
            otherwise=lambda _: None,
            step="address",
            delivery_id=delivery_id,
        ),
        response=apart(
            partial(_kept, outcome),
            otherwise=lambda _: _nothing_kept(outcome),
            step="keep",
            delivery_id=delivery_id,
        ),
    )


def _kept(outcome: Outcome) -> KeptResponse | None:
    return keep(outcome) if isinstance(outcome, Answered) else None


def _nothing_kept(outcome: Outcome) -> KeptResponse | None:
    """Of an answer that cannot be kept, that it came and its status."""
    if not isinstance(outcome, Answered):
        return None
    return KeptResponse(status=outcome.status, headers=(), body=b"", length_bytes=None, sha256=None, truncated=True)

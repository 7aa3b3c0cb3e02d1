"""When to try again, and when to stop: the pure rules from an outcome to the next step of a delivery."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import assert_never

from domain.destinations import RepeatRule
from domain.outcomes import Answered, Headers, Outcome, Refused, Unknown, Unreachable
from domain.retry_policy import USUAL, RetryPolicy
from domain.values import value_class

# Standard Webhooks, "Deliverability and reliability": the delay before each attempt, in seconds.
SCHEDULE_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
RETRY_AFTER_CAP_SECONDS = 86_400
RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Of these, an answer that leaves open whether the partner acted: a time-out or a failure somewhere on its side. The
# others say that it did not (RFC 6585 section 4, RFC 8470 section 5.2, RFC 9110 section 15.6.4).
AMBIGUOUS_STATUSES = frozenset({408, 500, 502, 504})
# Server errors that are neither: the request as it is will never succeed (RFC 9110 sections 15.6.2 and 15.6.6, RFC 2295
# section 8.1, RFC 5842 section 7.2, RFC 2774 section 7, RFC 6585 section 6).
LASTING_STATUSES = frozenset({501, 505, 506, 508, 510, 511})
_SERVER_ERROR = 500
_DIGITS = r"[0-9]+"
_LONGEST_RETRY_AFTER = 1000  # Python reads numbers of 4,300 digits and raises for longer ones; no date needs this
_MOST_RETRY_AFTER = 10


@value_class(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The partner accepted it (2xx)."""


@value_class(frozen=True, slots=True, kw_only=True)
class RetryAt:
    """Another attempt is due at `at`."""

    at: datetime


@value_class(frozen=True, slots=True, kw_only=True)
class Failed:
    """It was not delivered and no further attempt will be made."""


@value_class(frozen=True, slots=True, kw_only=True)
class Held:
    """The partner may have acted and a repeat is not allowed. It is asked about it at `ask_at`; where that is None a
    person or the caller decides. `silent` says that it was asked now, and said nothing."""

    ask_at: datetime | None = None
    silent: bool = False


type Verdict = Delivered | RetryAt | Failed | Held


def is_retried(status: int, policy: RetryPolicy) -> bool:
    """Whether an answer with this status is tried again. One that is not known counts as x00 of its class."""
    if status in policy.added or status in policy.removed:
        return status in policy.added
    known = effective_status(status)
    return known in policy.added or (known in RETRIABLE_STATUSES and known not in policy.removed)


def verdict(
    outcome: Outcome,
    *,
    attempts_made: int,
    attempts_allowed: int,
    repeat_rule: RepeatRule,
    now: datetime,
    chance: float,
    policy: RetryPolicy = USUAL,
    give_up_at: datetime | None = None,
    least_seconds: float = 0.0,
) -> Verdict:
    """The next step of a delivery after `attempts_made` attempts, the last of which had this `outcome`.

    `chance` is a number in [0, 1) from the caller's random source; it spreads the retries by ±20 %. The next attempt is
    no sooner than in `least_seconds`.
    """
    schedule = policy.schedule or SCHEDULE_SECONDS

    def again(headers: Headers = ()) -> RetryAt | None:
        """The next attempt; None where there is none any more."""
        if attempts_made >= attempts_allowed:
            return None
        planned = retry_at(attempts_made, now=now, chance=chance, headers=headers, schedule=schedule)
        at = max(planned, now + timedelta(seconds=least_seconds))
        return RetryAt(at=at) if give_up_at is None or at <= give_up_at else None

    match outcome:
        case Answered():
            return _after_answer(outcome, again=again, repeat_rule=repeat_rule, policy=policy)
        case Unreachable():
            return again() or Failed()
        case Unknown():
            return (again() if repeat_rule is RepeatRule.ALWAYS else None) or Held()
        case Refused():
            return Failed()
        case _:
            assert_never(outcome)


def _after_answer(
    answer: Answered, *, again: Callable[[Headers], RetryAt | None], repeat_rule: RepeatRule, policy: RetryPolicy
) -> Verdict:
    if is_success(answer.status):
        return Delivered()
    if repeat_rule is RepeatRule.WHEN_NOT_PROCESSED and effective_status(answer.status) in AMBIGUOUS_STATUSES:
        return Held()
    return (again(answer.headers) if is_retried(answer.status, policy) else None) or Failed()


def is_success(status: int) -> bool:
    """Whether the partner says that it did what it was asked to (RFC 9110 section 15.3)."""
    return 200 <= status < 300


def effective_status(status: int) -> int:
    """The status to judge by: `status` itself, or 500 for a server error that is not known here (520, 529, 599).

    RFC 9110 section 15: an unknown status counts as x00 of its class, and one that belongs to no class, from 600 on,
    as a server error. Unknown ones of the other classes end a delivery as 300 and 400 do, and need no entry.
    """
    known = RETRIABLE_STATUSES | LASTING_STATUSES
    return status if status < _SERVER_ERROR or status in known else _SERVER_ERROR


def retry_at(
    attempts_made: int,
    *,
    now: datetime,
    chance: float,
    headers: Headers = (),
    schedule: Sequence[float] = SCHEDULE_SECONDS,
) -> datetime:
    """When the next attempt is due: the schedule with its jitter, or `Retry-After` where that is later."""
    delay = schedule[min(attempts_made, len(schedule) - 1)]
    planned = now + timedelta(seconds=delay * (1 - JITTER + 2 * JITTER * chance))
    asked = retry_after(headers, now=now)
    return planned if asked is None else max(planned, asked)


def retry_after(headers: Headers, *, now: datetime) -> datetime | None:
    """The moment a `Retry-After` header (RFC 9110 section 10.2.3, both forms) asks for, at most 24 hours off.

    None where the header is absent or cannot be read; no text in it makes this raise. A partner may send it once; of
    several, ten at most, the latest moment counts, whichever program on the way added it.
    """
    values = [value.strip(" \t") for name, value in headers if name.lower() == "retry-after"]
    moments = [_moment(value, now=now) for value in values[:_MOST_RETRY_AFTER] if len(value) <= _LONGEST_RETRY_AFTER]
    return max((moment for moment in moments if moment is not None), default=None)


def _moment(value: str, *, now: datetime) -> datetime | None:
    latest = now + timedelta(seconds=RETRY_AFTER_CAP_SECONDS)
    if re.fullmatch(_DIGITS, value):
        return min(latest, now + timedelta(seconds=min(int(value), RETRY_AFTER_CAP_SECONDS)))
    named = _http_date(value)
    return None if named is None else min(named, latest)


def _http_date(value: str) -> datetime | None:
    """The moment that a date names; None where it is none that this parser and Python's calendar can represent."""
    try:
        moment = parsedate_to_datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None

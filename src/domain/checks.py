"""The egress check: the address that an outside service saw, compared with the published one."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from domain.values import value_class

# A check runs in each zone every quarter of an hour: after four without a result, the last result is out of date.
LONGEST_AGE = timedelta(hours=1)


class CheckStatus(StrEnum):
    """What is known about a published address.

    `failed` says that the outside service could not be asked, or gave no address; `unverified` that no check has said
    anything about this address yet, or not for a while.
    """

    MATCHES = "matches"
    DIFFERS = "differs"
    FAILED = "failed"
    UNVERIFIED = "unverified"


@value_class(frozen=True, slots=True, kw_only=True)
class Observed:
    """The address that an outside service saw our request come from."""

    address: str


@value_class(frozen=True, slots=True, kw_only=True)
class NotObserved:
    """No address was seen: the service was not reached, or answered something else."""

    reason: str


type Observation = Observed | NotObserved


@value_class(frozen=True, slots=True, kw_only=True)
class Check:
    """What is known about the address `published` for one zone.

    `seen` is what the outside service saw at `checked_at`; `reason` says what is wrong, None when nothing is.
    `verified_at` is the last time that the published address was seen, `since` the first check of it, whatever that
    found. All are None where there was none.
    """

    published: str
    verdict: CheckStatus
    seen: str | None = None
    reason: str | None = None
    checked_at: datetime | None = None
    verified_at: datetime | None = None
    since: datetime | None = None


def judge(observation: Observation, *, published: Collection[str]) -> tuple[CheckStatus, str | None]:
    """The verdict where any of the `published` addresses is right, and what is wrong (None when nothing is)."""
    if isinstance(observation, NotObserved):
        return CheckStatus.FAILED, observation.reason
    if observation.address in published:
        return CheckStatus.MATCHES, None
    return CheckStatus.DIFFERS, f"requests leave from {observation.address}, which is not published"


def checked(observation: Observation, *, published: str, previous: Check | None, now: datetime) -> Check:
    """The result of a check; `previous` is the one before it, None where none is stored."""
    verdict, reason = judge(observation, published=(published,))
    before = unverified(published, reason="")
    if previous is not None and previous.published == published:
        before = previous
    return Check(
        published=published,
        verdict=verdict,
        seen=observation.address if isinstance(observation, Observed) else None,
        reason=reason,
        checked_at=now,
        verified_at=now if verdict is CheckStatus.MATCHES else before.verified_at,
        since=before.since or before.checked_at or now,
    )


def as_of(now: datetime, stored: Check | None, *, published: str) -> Check:
    """What the stored result says now about the address that is published now."""
    if stored is None or stored.checked_at is None:
        return unverified(published, reason="this address has not been checked yet")
    if stored.published != published:
        return unverified(published, reason="this address has not been checked since it was published")
    if now - stored.checked_at > LONGEST_AGE:
        return replace(stored, verdict=CheckStatus.UNVERIFIED, reason="the last check is more than an hour old")
    return stored


def unverified(published: str, *, reason: str) -> Check:
    """Nothing is known about `published`."""
    return Check(published=published, verdict=CheckStatus.UNVERIFIED, reason=reason)

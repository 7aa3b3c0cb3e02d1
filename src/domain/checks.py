"""The egress check: what an outside service saw of our address, and what that says about the published one."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

# A check runs every quarter of an hour and zone: after four that left no result, the last one says nothing any more.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The address that an outside service saw our request come from."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotObserved:
    """No address was learnt: the service was not reached, or answered something else."""

    reason: str


type Observation = Observed | NotObserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What is known about the address `published` for one zone.

    `seen` is what the outside service saw at `checked_at`; `reason` says in words what is wrong, None when nothing is.
    `verified_at` is the last time that the published address was seen. All are None where there was no such thing.
    """

    published: str
    verdict: CheckStatus
    seen: str | None = None
    reason: str | None = None
    checked_at: datetime | None = None
    verified_at: datetime | None = None


def judge(observe: Observation, *, published: Collection[str]) -> tuple[CheckStatus, str | None]:
    """The verdict on a sighting where any of the `published` addresses is right, and what is wrong in words."""
    if isinstance(observe, NotObserved):
        return CheckStatus.FAILED, observe.reason
    if observe.address in published:
        return CheckStatus.MATCHES, None
    return CheckStatus.DIFFERS, f"requests leave from {observe.address}, which is not published"


def checked(observe: Observation, *, published: str, before: Check | None, now: datetime) -> Check:
    """The result of a check; `before` is the one before it, None where none is kept."""
    verdict, reason = judge(observe, published=(published,))
    last = before.verified_at if before is not None and before.published == published else None
    return Check(
        published=published,
        verdict=verdict,
        seen=observe.address if isinstance(observe, Observed) else None,
        reason=reason,
        checked_at=now,
        verified_at=now if verdict is CheckStatus.MATCHES else last,
    )


def as_of(now: datetime, kept: Check | None, *, published: str) -> Check:
    """What the kept result says now about the address that is published now."""
    if kept is None or kept.checked_at is None:
        return unverified(published, reason="this address has not been checked yet")
    if kept.published != published:
        return unverified(published, reason="this address has not been checked since it was published")
    if now - kept.checked_at > LONGEST_AGE:
        return replace(kept, verdict=CheckStatus.UNVERIFIED, reason="the last check is more than an hour old")
    return kept


def unverified(published: str, *, reason: str) -> Check:
    """Nothing is known about `published`."""
    return Check(published=published, verdict=CheckStatus.UNVERIFIED, reason=reason)

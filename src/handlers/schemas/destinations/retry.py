"""`retry`: when a destination is tried again, and when not any more."""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from domain.errors import Fault
from domain.retry_policy import RetryPolicy

MOST_ATTEMPTS = 20
LONGEST_DELAY_SECONDS = 604_800  # a week
MOST_STATUSES = 50

Delay = Annotated[float, Meta(ge=0, le=LONGEST_DELAY_SECONDS)]
Status = Annotated[int, Meta(ge=300, le=599)]


class StatusesBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Statuses that are tried again though they usually are not, and such that are not though they usually are."""

    add: Annotated[list[Status], Meta(max_length=MOST_STATUSES, description="Tried again too")] = []
    remove: Annotated[list[Status], Meta(max_length=MOST_STATUSES, description="Not tried again")] = []


class RetryBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When it is tried again."""

    schedule: Annotated[
        Annotated[list[Delay], Meta(min_length=1, max_length=MOST_ATTEMPTS)] | None,
        Meta(
            description="The delays before the attempts in seconds, as many as there are attempts; the first is 0, and "
            "none is shorter than the one before it. null for the usual ones"
        ),
    ] = None
    statuses: Annotated[StatusesBody, Meta(description="How it differs from the usual which statuses are retried")] = (
        StatusesBody()
    )
    give_up_after: Annotated[
        Annotated[float, Meta(ge=1, le=31_536_000)] | None,
        Meta(description="Seconds, from when the first attempt may start, after which none begins; null for no limit"),
    ] = None


def faults(body: RetryBody | None, at: str = "/retry") -> list[Fault]:
    """What the types alone cannot judge."""
    if body is None:
        return []
    schedule, found = body.schedule or [0.0], []
    if schedule[0] != 0:
        found.append(Fault(field=f"{at}/schedule/0", detail="must be 0: the first attempt is not delayed"))
    for number, (before, delay) in enumerate(pairwise(schedule), start=1):
        if delay < before:
            detail = f"must be at least {before:g}, as long as the delay before it"
            found.append(Fault(field=f"{at}/schedule/{number}", detail=detail))
    for number, status in enumerate(body.statuses.remove):
        if status in body.statuses.add:
            found.append(Fault(field=f"{at}/statuses/remove/{number}", detail="must not be in add too"))
    return found


def domain(body: RetryBody | None) -> RetryPolicy | None:
    """As the flows take it; None where it is the usual."""
    if body is None:
        return None
    policy = RetryPolicy(
        schedule=None if body.schedule is None else tuple(body.schedule),
        added=tuple(body.statuses.add),
        removed=tuple(body.statuses.remove),
        give_up_after=body.give_up_after,
    )
    return None if policy == RetryPolicy() else policy


def shown(policy: RetryPolicy | None) -> RetryBody | None:
    """What the API shows of it."""
    if policy is None:
        return None
    return RetryBody(
        schedule=None if policy.schedule is None else list(policy.schedule),
        statuses=StatusesBody(add=list(policy.added), remove=list(policy.removed)),
        give_up_after=policy.give_up_after,
    )

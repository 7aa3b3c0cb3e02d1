"""Count what attempts came to, beside other work, and show it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from db import tallies as table
from domain.errors import NotFound
from domain.ids import DestinationId, TenantId
from domain.stats import NOTHING, BreakerState, Period, Tallies, Watched
from domain.values import value_class
from flows.services import Services

STEP_ATTEMPTS = 5000
MOST_STEPS = 4  # of one call of the API


@value_class(frozen=True, slots=True, kw_only=True)
class Stats:
    """A page of destinations with what was counted of them. What was recorded more than some seconds before
    `counted_until` is in it; None where nothing was counted yet."""

    as_of: datetime
    counted_until: datetime | None
    destinations: Sequence[tuple[Watched, dict[Period, Tallies]]]


def count_beside(*, services: Services) -> bool:
    """One step of counting; whether there may be more. Raises DatabaseUnavailable."""
    return _counted(services.clock(), services).attempts >= STEP_ATTEMPTS


def stats(
    *,
    tenant_id: TenantId,
    reference: str | None,
    before: DestinationId | None,
    limit: int,
    services: Services,
) -> Stats:
    """Of the tenant's destinations, newest first, or of the one with that name or id. Counts first what was not.

    Raises NotFound and DatabaseUnavailable.
    """
    now = services.clock()
    counted = _all_counted(now, services)
    found = table.watched(services.database, tenant_id=tenant_id, reference=reference, before=before, limit=limit)
    if reference is not None and not found:
        raise NotFound("destination", reference)
    by_period = table.of_periods(services.database, [one.destination_id for one in found], now=now)
    return Stats(
        as_of=now,
        counted_until=counted.until,
        destinations=[
            (
                _with_breaker(one, now=now),
                {period: by_period.get((one.destination_id, period), NOTHING) for period in Period},
            )
            for one in found
        ],
    )


def _counted(now: datetime, services: Services) -> table.Counted:
    step_id = services.new_id(now)
    return table.count_attempts(services.database, step_id=step_id, now=now, limit=STEP_ATTEMPTS)


def _all_counted(now: datetime, services: Services) -> table.Counted:
    """As far as one call can wait for it."""
    counted = _counted(now, services)
    for _ in range(MOST_STEPS - 1):
        if counted.attempts < STEP_ATTEMPTS:
            break
        counted = _counted(now, services)
    return counted


def _with_breaker(watched: Watched, *, now: datetime) -> Watched:
    until = watched.breaker_open_until
    return replace(watched, breaker=BreakerState.HALF_OPEN) if until is not None and until <= now else watched

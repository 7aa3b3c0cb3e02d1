"""The body of /v1/stats."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from domain.destinations import DestinationState
from domain.stats import BreakerState, Period, Tallies, Watched
from flows.tallies import Stats
from handlers.schemas.common import Cursor, DestinationId

Milliseconds = Annotated[float | None, Meta(description="In milliseconds, at most a fifth too long; null: no answers")]


class LatencyBody(Struct, frozen=True, kw_only=True):
    """How long attempts took that got an answer."""

    p50: Milliseconds
    p95: Milliseconds
    p99: Milliseconds


class PeriodBody(Struct, frozen=True, kw_only=True):
    """What was counted in a period up to now."""

    ended: Annotated[
        dict[str, int],
        Meta(description="How many deliveries attempts ended, by state; what was resolved since is unknown here"),
    ]
    attempts: Annotated[dict[str, int], Meta(description="How many attempts to send ended, by outcome")]
    latency_ms: Annotated[LatencyBody, Meta(description="How long answered attempts took")]


class UnfinishedBody(Struct, frozen=True, kw_only=True):
    """Deliveries that are pending or being sent."""

    count: Annotated[int, Meta(ge=0, description="How many there are, of which the 1,000 oldest are counted")]
    is_all: Annotated[bool, Meta(description="Whether there are no more than were counted")]
    oldest_created_at: Annotated[datetime | None, Meta(description="When the oldest was accepted; null: there is none")]
    waiting_for: Annotated[
        dict[str, int], Meta(description="How many of these wait for the destination's limits or their order, and why")
    ]


class DestinationStatsBody(Struct, frozen=True, kw_only=True):
    """The numbers of one destination."""

    destination_id: DestinationId
    destination: Annotated[str, Meta(description="The destination's name")]
    state: Annotated[DestinationState, Meta(description="As it is now")]
    circuit_breaker: Annotated[
        BreakerState,
        Meta(description="closed: what is due is sent. open: it waits. half_open: one delivery is let through to try"),
    ]
    circuit_breaker_open_until: Annotated[
        datetime | None, Meta(description="When a delivery is let through to try, or was; null where it is closed")
    ]
    unfinished: Annotated[UnfinishedBody, Meta(description="What waits, exactly as it is now")]
    last_hour: Annotated[PeriodBody, Meta(description="From the sixth full ten minutes before now on")]
    last_day: Annotated[PeriodBody, Meta(description="From the 144th full ten minutes before now on")]
    last_30_days: Annotated[PeriodBody, Meta(description="From the 30th day before today (UTC) on")]


class StatsBody(Struct, frozen=True, kw_only=True):
    """Numbers of a page of destinations, newest first."""

    as_of: Annotated[datetime, Meta(description="Now")]
    counted_until: Annotated[
        datetime | None,
        Meta(
            description="What ended ten seconds before this moment, or earlier, is counted; null where nothing was "
            "counted yet"
        ),
    ]
    destinations: Annotated[list[DestinationStatsBody], Meta(description="The destinations of this page")]
    next_cursor: Cursor


def destinations_shown(stats: Stats) -> list[DestinationStatsBody]:
    """What is shown of them."""
    return [_shown(watched, by_period) for watched, by_period in stats.destinations]


def _shown(watched: Watched, by_period: dict[Period, Tallies]) -> DestinationStatsBody:
    unfinished = watched.unfinished
    return DestinationStatsBody(
        destination_id=watched.destination_id,
        destination=watched.name,
        state=watched.state,
        circuit_breaker=watched.breaker,
        circuit_breaker_open_until=watched.breaker_open_until,
        unfinished=UnfinishedBody(
            count=unfinished.count,
            is_all=unfinished.is_all,
            oldest_created_at=unfinished.oldest_created_at,
            waiting_for=dict(unfinished.waiting_for),
        ),
        **{period.value: _period(tallies) for period, tallies in by_period.items()},
    )


def _period(tallies: Tallies) -> PeriodBody:
    return PeriodBody(
        ended=dict(tallies.ended),
        attempts=dict(tallies.attempts),
        latency_ms=LatencyBody(
            p50=tallies.percentile_ms(0.5), p95=tallies.percentile_ms(0.95), p99=tallies.percentile_ms(0.99)
        ),
    )

"""Numbers for people: what became of a destination's deliveries lately, and what waits."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from domain.destinations import DestinationState
from domain.ids import DestinationId
from domain.values import value_class

CLASS_RATIO = 1.2  # between two classes of durations (0030_tallies.sql)


class Period(StrEnum):
    """The periods that are counted, each up to now."""

    LAST_HOUR = "last_hour"
    LAST_DAY = "last_day"
    LAST_30_DAYS = "last_30_days"


class BreakerState(StrEnum):
    """`closed`: what is due is sent. `open`: it waits. `half_open`: one delivery is let through to try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@value_class(frozen=True, slots=True, kw_only=True)
class Tallies:
    """What was counted in one period: `ended` by the state that an attempt ended a delivery in, `attempts` by outcome,
    and how many answers took how long, by class."""

    ended: Mapping[str, int]
    attempts: Mapping[str, int]
    durations: Mapping[int, int]

    @staticmethod
    def of(counts: Mapping[str, int]) -> "Tallies":
        """From counts by their names, such as `ended.failed`."""
        parts = [(*name.partition(".")[::2], count) for name, count in counts.items()]
        return Tallies(
            ended={name: count for kind, name, count in parts if kind == "ended"},
            attempts={name: count for kind, name, count in parts if kind == "attempt"},
            durations={int(name): count for kind, name, count in parts if kind == "ms"},
        )

    def percentile_ms(self, share: float) -> float | None:
        """How long that share of answers took at the most, in milliseconds: the end of the class that it is in, so up
        to a fifth more than it was. None without answers."""
        left = share * sum(self.durations.values())
        for number, count in sorted(self.durations.items()):
            left -= count
            if left <= 0:
                return round(CLASS_RATIO ** (number + 1), 1)
        return None


NOTHING = Tallies(ended={}, attempts={}, durations={})


@value_class(frozen=True, slots=True, kw_only=True)
class UnfinishedDeliveries:
    """Deliveries that are pending or being sent. Where not `is_all`, there are more, and only the oldest were read."""

    count: int
    is_all: bool
    oldest_created_at: datetime | None
    waiting_for: Mapping[str, int]


@value_class(frozen=True, slots=True, kw_only=True)
class Watched:
    """One destination as it is now."""

    destination_id: DestinationId
    name: str
    state: DestinationState
    breaker: BreakerState
    breaker_open_until: datetime | None
    unfinished: UnfinishedDeliveries

"""The wake-up queue and its workers, event by event: is the backlog stable, and how long does a wake-up wait?

Deliveries arrive at random (Poisson); a free worker takes all that is due, up to a batch, and is busy until the slowest
of it has answered; a share of the attempts comes back. The same seed gives the same run. What is simulated is the
arithmetic of the queue: neither SQS's own delays nor faults of its are in it.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from stack.capacity.service import BatchService

WARM_UP = 0.25  # the share of a run that is not counted
GROWING = 0.02  # a backlog that grows by more than this share of the arrivals is not stable


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLoad:
    """`rate`: deliveries a second. `retry_share`: of all attempts, those that come back after `retry_seconds`."""

    rate: float
    retry_share: float
    retry_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRun:
    """What happened after the warm-up. Ages are the seconds that a wake-up waited for a worker.

    `growth` is by how many wake-ups a second the backlog grew. `in_system` is the mean number of wake-ups that waited
    or were under way, counted over time; `little` the same by Little's law: attempts a second times their mean stay.
    """

    attempts_per_second: float
    attempts_per_batch: float
    busy_workers: float
    mean_age: float
    age_p95: float
    growth: float
    in_system: float
    little: float
    stable: bool


@dataclass(slots=True, kw_only=True)
class _Counts:
    """Of the time from `since` to `until`."""

    since: float
    until: float
    ages: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    stays: float = 0
    present: float = 0
    busy: float = 0

    def add(self, due: Sequence[float], *, start: float, end: float) -> None:
        """A batch that was due, started and ended at these times."""
        self.busy += self._within(start, end)
        self.present += sum(self._within(at, end) for at in due)
        if self.since <= start < self.until:
            self.batches.append(len(due))
            self.ages += [start - at for at in due]
            self.stays += sum(end - at for at in due)

    def _within(self, start: float, end: float) -> float:
        return max(0.0, min(end, self.until) - max(start, self.since))


def simulate(
    load: QueueLoad,
    service: BatchService,
    *,
    free_at: Sequence[float],
    seconds: float,
    seed: int,
) -> QueueRun:
    """A run of so many seconds with one worker for each time in `free_at`, from which on it exists."""
    chance = random.Random(seed)  # noqa: S311 - a run that can be repeated, no secret
    counts = _Counts(since=seconds * WARM_UP, until=seconds)
    workers, retries, waiting = sorted(free_at), list[float](), deque[float]()
    backlog: dict[str, int] = {}
    arrival = chance.expovariate(load.rate)
    while True:
        start = max(workers[0], waiting[0]) if waiting else math.inf
        due = min(arrival, retries[0] if retries else math.inf)
        now = min(start, due)
        if now >= counts.since:
            backlog.setdefault("first", len(waiting))
        if now >= seconds:
            break
        if start <= due:
            taken = [waiting.popleft() for _ in range(min(len(waiting), service.batch))]
            latencies = [service.latency(chance) for _ in taken]
            end = start + service.overhead_seconds + max(latencies)
            heapq.heapreplace(workers, end)
            counts.add(taken, start=start, end=end)
            for _ in range(sum(chance.random() < load.retry_share for _ in taken)):
                heapq.heappush(retries, end + load.retry_seconds)
        elif due == arrival:
            waiting.append(arrival)
            arrival += chance.expovariate(load.rate)
        else:
            waiting.append(heapq.heappop(retries))
    counts.present += sum(seconds - max(at, counts.since) for at in waiting)
    return _summary(counts, load, growth=(len(waiting) - backlog["first"]) / (seconds - counts.since))


def _summary(counts: _Counts, load: QueueLoad, *, growth: float) -> QueueRun:
    span = counts.until - counts.since
    ages = sorted(counts.ages) or [0.0]
    return QueueRun(
        attempts_per_second=len(counts.ages) / span,
        attempts_per_batch=mean(counts.batches or [0]),
        busy_workers=counts.busy / span,
        mean_age=mean(ages),
        age_p95=ages[int(0.95 * (len(ages) - 1))],
        growth=growth,
        in_system=counts.present / span,
        little=counts.stays / span,
        stable=growth <= GROWING * load.rate,
    )

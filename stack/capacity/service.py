"""How long a batch of attempts takes, and how many workers that needs: what the plan and the simulation share."""

import math
import random
from dataclasses import dataclass
from functools import cache

STEPS = 1000  # of the numeric integral: the mean of the slowest of ten is exact to a thousandth
PARTS = 20  # of an attempt, in which the mean size of a batch is calculated


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchService:
    """A batch takes its overhead and the slowest of its partners, whose latencies are log-normal and end at a deadline.

    All in seconds; `variation` is the standard deviation of a latency divided by its mean; `batch` the most attempts
    of a batch.
    """

    latency_seconds: float
    variation: float
    deadline_seconds: float
    overhead_seconds: float
    batch: int

    @property
    def _sigma(self) -> float:
        return math.sqrt(math.log(1 + self.variation**2))

    @property
    def _mu(self) -> float:
        return math.log(self.latency_seconds) - self._sigma**2 / 2

    def latency(self, chance: random.Random) -> float:
        """One partner's, by chance."""
        return min(self.deadline_seconds, chance.lognormvariate(self._mu, self._sigma))

    def mean_seconds(self, attempts: float) -> float:
        """The mean time of a batch of so many attempts, which need not be a whole number: it is a mean too."""
        return self.overhead_seconds + _mean_of_slowest(self._mu, self._sigma, self.deadline_seconds, attempts)

    def workers(self, rate: float, *, attempts: float) -> float:
        """How many batches are under way on the average at so many attempts a second: Little's law."""
        return rate / attempts * self.mean_seconds(attempts)

    def fewest_workers(self, rate: float) -> float:
        """With full batches. Fewer let the backlog grow."""
        return self.workers(rate, attempts=self.batch)

    def attempts_per_batch(self, rate: float, *, workers: float) -> float:
        """The size that batches reach: one while a worker is free for each attempt, more when all of them are busy.

        The most that a batch holds where even that does not suffice.
        """
        if self.workers(rate, attempts=1) <= workers:
            return 1
        if self.fewest_workers(rate) >= workers:
            return self.batch
        least, most = PARTS, self.batch * PARTS
        while most - least > 1:
            middle = (least + most) // 2
            suffices = self.workers(rate, attempts=middle / PARTS) <= workers
            least, most = (least, middle) if suffices else (middle, most)
        return most / PARTS


@cache
def _mean_of_slowest(mu: float, sigma: float, deadline: float, attempts: float) -> float:
    """The mean of the slowest of log-normal latencies is the integral of the chance that one of them is slower still.

    Steps are even in the logarithm, since latencies spread over orders of magnitude.
    """
    least = mu - 12 * sigma
    width = (math.log(deadline) - least) / STEPS
    middles = (least + (step + 0.5) * width for step in range(STEPS))
    slower = (1 - math.pow(_share_below(at, mu, sigma), attempts) for at in middles)
    return math.exp(least) + sum(
        share * math.exp(least + (step + 0.5) * width) * width for step, share in enumerate(slower)
    )


def _share_below(logarithm: float, mu: float, sigma: float) -> float:
    """The share of latencies below e to this power."""
    return 0.5 * (1 + math.erf((logarithm - mu) / (sigma * math.sqrt(2))))

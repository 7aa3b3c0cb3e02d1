"""How much is sent to a destination at once: limits, and the circuit breaker that stops sending to one that fails.

What these rules count is in the database (`destination_flow`), and is decided by the statements that claim and record.
"""

import math

from domain.outcomes import Answered, Outcome, Refused
from domain.values import value_class

MIN_RATE = 0.001  # attempts per second
MAX_RATE = 1000.0
MAX_BURST = 1000
MAX_CONCURRENCY = 200  # as many fit into one row of the database without a second one behind it
MIN_WINDOW_SECONDS = 1
MAX_WINDOW_SECONDS = 3600
MIN_OPEN_SECONDS = 1
MAX_OPEN_SECONDS = 3600
MAX_MINIMUM_ATTEMPTS = 10_000
USUAL_WORKERS = 5  # AttemptConcurrency (template.yaml) without a value
SLOW_SECONDS = 3.0  # from when on an attempt takes long, and its destination has a share of the workers
_SHARE = 0.4
_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


@value_class(frozen=True, slots=True, kw_only=True)
class Limits:
    """Attempts that begin per second, with up to `burst` of them at once; and attempts in progress at one time.

    None where there is no such limit; `burst` has a value where `rate` has one.
    """

    rate: float | None = None
    burst: int | None = None
    concurrency: int | None = None


def usual_burst(rate: float) -> int:
    """The burst of a rate without one: what a second lets through. Messages arrive by whole seconds, so that less
    would waste a part of the rate."""
    return max(1, math.ceil(rate))


def usual_share(workers: int) -> int:
    """How many of the workers one destination may occupy whose attempts take long, unless its own `concurrency` says
    otherwise: two in five, so that two such destinations leave one free."""
    return max(1, int(workers * _SHARE))


@value_class(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """Opens when at least `failure_ratio` of the attempts within `window_seconds` failed, and there were at least
    `minimum_attempts`. After `open_seconds` one attempt is let through, and its outcome closes or opens it again.

    The defaults, which every destination has, open it only where nearly everything fails. Not `enabled`: never.
    """

    enabled: bool = True
    failure_ratio: float = 0.9
    window_seconds: int = 60
    minimum_attempts: int = 20
    open_seconds: int = 30


def failed_for_the_breaker(outcome: Outcome) -> bool | None:
    """Whether a circuit breaker counts the outcome as a failure; None where it says nothing about the partner.

    No answer, 5xx, 408 and 429 are failures: the set that .NET's standard resilience handler (Polly) takes. Other
    refusals of a request say that the partner works.
    """
    match outcome:
        case Answered(status=status):
            return status >= _SERVER_ERROR or status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
        case Refused():
            return None
        case _:
            return True

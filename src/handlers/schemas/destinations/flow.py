"""How much is sent to a destination at once, when, and in which order: `limits`, `circuit_breaker`, `windows` and
`ordering`."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field

from domain.errors import Fault
from domain.limits import (
    MAX_BURST,
    MAX_CONCURRENCY,
    MAX_MINIMUM_ATTEMPTS,
    MAX_OPEN_SECONDS,
    MAX_RATE,
    MAX_WINDOW_SECONDS,
    MIN_OPEN_SECONDS,
    MIN_RATE,
    MIN_WINDOW_SECONDS,
    CircuitBreaker,
    Limits,
    usual_burst,
)
from domain.options import DestinationOptions
from domain.ordering import AfterFailure, Ordering
from domain.windows import MAX_WINDOWS, SendingWindow

_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)"
_CLOCK_OR_END = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$(?!\n)"
_ZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$(?!\n)"
_USUAL = CircuitBreaker()


class Day(StrEnum):
    """A day of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_DAYS = list(Day)  # in the order of ISO 8601, which counts from 1


class LimitsBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of a destination. What goes beyond them waits, and burns no attempt."""

    rate: Annotated[
        Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)] | None,
        Meta(description="Attempts that begin per second, on average; 0.1 is one in ten seconds"),
    ] = None
    burst: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_BURST)] | None,
        Meta(
            description="How many may begin at once after a pause: within T seconds there are never more than burst + "
            "rate * T. Without it what a second lets through, at least 1"
        ),
    ] = None
    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None, Meta(description="Attempts in progress at one time")
    ] = None


class CircuitBreakerBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stops sending to a partner that fails. Failures are attempts without an answer, and answers of 5xx, 408 and
    429."""

    enabled: Annotated[bool, Meta(description="false: never stops sending")] = True
    failure_ratio: Annotated[
        float, Meta(gt=0, le=1, description="Opens where at least this part of the attempts in the window failed")
    ] = _USUAL.failure_ratio
    window_seconds: Annotated[
        int,
        Meta(
            ge=MIN_WINDOW_SECONDS,
            le=MAX_WINDOW_SECONDS,
            description="How long attempts are counted, from a first failure on",
        ),
    ] = _USUAL.window_seconds
    minimum_attempts: Annotated[
        int, Meta(ge=1, le=MAX_MINIMUM_ATTEMPTS, description="It does not open before there were so many")
    ] = _USUAL.minimum_attempts
    open_seconds: Annotated[
        int,
        Meta(
            ge=MIN_OPEN_SECONDS,
            le=MAX_OPEN_SECONDS,
            description="How long nothing is sent. Then one attempt is made, whose outcome closes or opens it again",
        ),
    ] = _USUAL.open_seconds


class WindowBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When something is sent. Outside of all windows deliveries wait."""

    days: Annotated[list[Day], Meta(min_length=1, max_length=7, description="The days on which it opens")]
    opens: Annotated[
        str,
        Meta(
            pattern=_CLOCK,
            extra={"must": "a time from 00:00 to 23:59"},
            description="When it opens, by a clock in the time zone",
        ),
    ] = field(name="from")
    closes: Annotated[
        str,
        Meta(
            pattern=_CLOCK_OR_END,
            extra={"must": "a time from 00:00 to 24:00"},
            description="When it closes; on the next day where that is not later than from",
        ),
    ] = field(name="to")
    time_zone: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=_ZONE,
            extra={"must": "the name of an IANA time zone, such as Europe/Berlin"},
            description="The name of an IANA time zone, such as Europe/Berlin",
        ),
    ]


class OrderingBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What becomes of deliveries behind one that ended as failed or unknown under the same ordering key."""

    after_failure: Annotated[
        AfterFailure,
        Meta(description="hold: they wait until it is resolved. skip: the next one is sent"),
    ] = AfterFailure.HOLD


NewLimits = Annotated[LimitsBody | None, Meta(description="How much is sent at once; null for no limits")]
NewCircuitBreaker = Annotated[
    CircuitBreakerBody | None, Meta(description="When to stop sending to a partner that fails; null for never")
]
ShownCircuitBreaker = Annotated[CircuitBreakerBody, Meta(description="When to stop sending to a partner that fails")]
Windows = Annotated[
    list[WindowBody], Meta(max_length=MAX_WINDOWS, description="When something is sent; always where there are none")
]
Order = Annotated[OrderingBody, Meta(description="How ordering keys are treated")]


def faults(limits: LimitsBody | None, windows: list[WindowBody]) -> list[Fault]:
    """What the types alone cannot judge. Whether a time zone exists is the database's to say."""
    found = [] if limits is None else _limit_faults(limits)
    for position, window in enumerate(windows):
        if window.opens == window.closes:
            detail = "must not be the same as from; from 00:00 to 24:00 is the whole day"
            found.append(Fault(field=f"/windows/{position}/to", detail=detail))
        if len(set(window.days)) < len(window.days):
            found.append(Fault(field=f"/windows/{position}/days", detail="must not name a day twice"))
    return found


def options(
    limits: LimitsBody | None,
    breaker: CircuitBreakerBody | None,
    windows: list[WindowBody],
    ordering: OrderingBody,
) -> DestinationOptions:
    """Those of these members; what is as usual is not stored."""
    return DestinationOptions(
        limits=None if limits is None else _limits(limits),
        circuit_breaker=_breaker(breaker),
        windows=tuple(map(_window, windows)) or None,
        ordering=None if ordering == OrderingBody() else Ordering(after_failure=ordering.after_failure),
    )


def shown_limits(limits: Limits | None) -> LimitsBody | None:
    """None where there are none."""
    if limits is None:
        return None
    return LimitsBody(rate=limits.rate, burst=limits.burst, concurrency=limits.concurrency)


def shown_breaker(breaker: CircuitBreaker | None) -> CircuitBreakerBody:
    """None is the usual one."""
    found = breaker or _USUAL
    return CircuitBreakerBody(
        enabled=found.enabled,
        failure_ratio=found.failure_ratio,
        window_seconds=found.window_seconds,
        minimum_attempts=found.minimum_attempts,
        open_seconds=found.open_seconds,
    )


def shown_windows(windows: tuple[SendingWindow, ...] | None) -> list[WindowBody]:
    """In the order in which they were given."""
    return [
        WindowBody(
            days=[_DAYS[day - 1] for day in window.days],
            opens=window.opens,
            closes=window.closes,
            time_zone=window.time_zone,
        )
        for window in windows or ()
    ]


def shown_ordering(ordering: Ordering | None) -> OrderingBody:
    """None holds."""
    return OrderingBody() if ordering is None else OrderingBody(after_failure=ordering.after_failure)


def _limit_faults(limits: LimitsBody) -> list[Fault]:
    if limits.rate is None and limits.concurrency is None:
        return [Fault(field="/limits", detail="must have rate or concurrency; null is for no limits")]
    if limits.rate is None and limits.burst is not None:
        return [Fault(field="/limits/burst", detail="needs rate")]
    return []


def _limits(body: LimitsBody) -> Limits:
    burst = body.burst if body.rate is None or body.burst is not None else usual_burst(body.rate)
    return Limits(rate=body.rate, burst=burst, concurrency=body.concurrency)


def _breaker(body: CircuitBreakerBody | None) -> CircuitBreaker | None:
    if body is None:
        return CircuitBreaker(enabled=False)
    given = CircuitBreaker(
        enabled=body.enabled,
        failure_ratio=body.failure_ratio,
        window_seconds=body.window_seconds,
        minimum_attempts=body.minimum_attempts,
        open_seconds=body.open_seconds,
    )
    return None if given == _USUAL else given


def _window(body: WindowBody) -> SendingWindow:
    return SendingWindow(
        days=tuple(sorted(_DAYS.index(day) + 1 for day in body.days)),
        opens=body.opens,
        closes=body.closes,
        time_zone=body.time_zone,
    )

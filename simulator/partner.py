"""The partners: what reaches them, what they do, and what of their answers comes back.

They follow RFC 9110: an answer 425, 429 or 503 says that nothing was done (RFC 8470 section 5.2, RFC 6585 section 4,
RFC 9110 section 15.6.4), other errors leave it open, which here means that some of them come after the thing was done.
A partner that is idempotent does a thing once for each key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import ClassVar
from uuid import UUID

from domain.outcomes import Answered, Exchange, Headers, Outcome, Refused, Timings, Unknown, Unreachable
from egress.client import OutboundRequest
from simulator.bank import Banks, asked_about
from simulator.evidence import Arrival
from simulator.faults import LATE_RECORDS, LATENCIES_SECONDS
from simulator.trace import ARRIVAL
from simulator.world import EPOCH, Process, World

GUARDED = "10.0.0.1"  # a destination whose address our own guard refuses
ADDRESS = "203.0.113.50"
NOT_PROCESSED = (503, 429, 425)  # these say that nothing was done
OPEN = (500, 504, 502, 408, 520)
FINAL = (400, 404, 409, 422, 302, 501, 410)  # the last one disables the destination
RETRY_AFTERS = ("", "1", "30", "7", "900", "4000", "date", "tomorrow", "100000", "-5", "1e3", "9" * 30)
UNDERWAY_SECONDS = (0.002, 0.01, 0.04)  # less than any answer takes
ACTS_LATE_SECONDS = (1.0, 10.0, 60.0)

# How a partner behaves: a weight for each behaviour, in a sample of a hundred.
BEHAVIOURS = (
    "answers",
    "refuses for now",
    "errs, nothing done",
    "errs, done",
    "refuses",
    "is unreachable",
    "hangs before the connection",
    "refuses the stream",
    "gets nothing",
    "does it, and the reply is lost",
    "does it, and answers too late",
    "does it later",
    "cuts its answer off",
    "answers slowly",
    "gets it twice",
)
# And what only banks do (bank.py)
OF_BANKS = ("does it when it is asked", "rejects it, and the reply is lost")
# What leads to questions
_UNKNOWN = (
    *OF_BANKS,
    *OF_BANKS,
    "gets nothing",
    "gets nothing",
    "errs, done",
    "does it, and the reply is lost",
    "does it, and answers too late",
    "does it later",
    "does it later",
)
_LEAST_TROUBLE_PERCENT = 60  # of a bank
# What changes most when it is recorded late.
TELLING = (
    "refuses for now",
    "refuses",
    "refuses",
    "errs, done",
    "does it, and the reply is lost",
    "is unreachable",
)


@dataclass(slots=True, kw_only=True)
class Flight:
    """A request on its way: when its exchange ends, and how."""

    ends_at: float
    exchange: Exchange


class Partners:
    """All partners of a run. `trouble_percent` is how often one does not simply do what it is asked to."""

    def __init__(
        self,
        world: World,
        *,
        trouble_percent: int,
        idempotent: frozenset[str],
        banks: frozenset[str] = frozenset(),
    ) -> None:
        self._banks = Banks(world, banks)
        self._world = world
        self._trouble_percent = trouble_percent
        self._idempotent = idempotent
        self._done: dict[tuple[str, str], int] = {}

    def send(self, request: OutboundRequest, process: Process) -> Flight:
        """Lets `request` take its course."""
        if GUARDED in request.url:
            return self._ends(0.0, Refused(reason="the address is private"), reached=False)
        destination = destination_of(request)
        if destination in self._banks:
            return self._sent_to_bank(request, process, destination)
        return self._flight(self._behaviour(), request, process)

    def _flight(self, behaviour: str, request: OutboundRequest, process: Process) -> Flight:
        self._world.mark(f"partner: {behaviour}")
        return self._flights[behaviour](self, request, process)

    def _sent_to_bank(self, request: OutboundRequest, process: Process, destination: str) -> Flight:
        if asked_about(request) is not None:
            seconds, outcome = self._banks.answer(request, process, destination)
            return self._ends(seconds, outcome, reached=not isinstance(outcome, Unreachable))
        if self._banks.is_away(destination):
            return self._flight(self._world.choices.of(("is unreachable", "gets nothing")), request, process)
        if self._banks.has_rejected(destination, key_of(request)):
            return self._answered(request, process, status=422, acts=False)
        troubled = self._world.choices.happens(max(self._trouble_percent, _LEAST_TROUBLE_PERCENT))
        if self._world.weather.over or not troubled:
            return self._flight(BEHAVIOURS[0], request, process)
        return self._flight(self._world.choices.of((*_UNKNOWN, *BEHAVIOURS[1:])), request, process)

    def _behaviour(self) -> str:
        if self._world.weather.over or not self._world.choices.happens(self._trouble_percent):
            return BEHAVIOURS[0]
        late_records = self._world.weather.theme == LATE_RECORDS
        return self._world.choices.of(TELLING if late_records else BEHAVIOURS[1:])

    # ---- Behaviours

    def _answers(self, request: OutboundRequest, process: Process) -> Flight:
        return self._answered(request, process, status=self._good(), acts=True, after=self._latency())

    def _answers_slowly(self, request: OutboundRequest, process: Process) -> Flight:
        share = self._world.choices.of((0.3, 0.6, 0.9, 0.99))
        after = min(request.timeouts.first_byte_seconds, request.timeouts.total_seconds) * share
        return self._answered(request, process, status=self._good(), acts=True, after=after)

    def _refuses_for_now(self, request: OutboundRequest, process: Process) -> Flight:
        status = self._world.choices.of(NOT_PROCESSED)
        return self._answered(request, process, status=status, acts=False, retry_after=self._retry_after())

    def _errs(self, request: OutboundRequest, process: Process) -> Flight:
        status = self._world.choices.of(OPEN)
        return self._answered(request, process, status=status, acts=False, retry_after=self._retry_after())

    def _errs_done(self, request: OutboundRequest, process: Process) -> Flight:
        return self._answered(request, process, status=self._world.choices.of(OPEN), acts=True)

    def _refuses(self, request: OutboundRequest, process: Process) -> Flight:
        return self._answered(request, process, status=self._world.choices.of(FINAL), acts=False)

    def _is_unreachable(self, request: OutboundRequest, process: Process) -> Flight:
        del request, process
        return self._ends(self._latency(), Unreachable(reason="no connection: Connection refused"), reached=False)

    def _hangs_before(self, request: OutboundRequest, process: Process) -> Flight:
        del process
        outcome = Unreachable(reason="no connection in time")
        return self._ends(request.timeouts.connect_seconds, outcome, reached=False)

    def _refuses_the_stream(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, refused=True)
        return self._ends(self._latency(), Unreachable(reason="the partner refused the HTTP/2 stream"))

    def _gets_nothing(self, request: OutboundRequest, process: Process) -> Flight:
        del process
        return self._ends(self._silence(request), Unknown(reason="the connection broke"))

    def _loses_the_reply(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, acts=True)
        return self._ends(self._silence(request), Unknown(reason="the connection was closed before any answer"))

    def _answers_late(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, acts=True, status=200)
        return self._ends(request.timeouts.first_byte_seconds, Unknown(reason="no answer in time"))

    def _does_it_later(self, request: OutboundRequest, process: Process) -> Flight:
        """It waits in the buffer of a proxy, which hands it to the partner when nobody waits any more."""
        deadline = request.timeouts.first_byte_seconds
        self._arrives(request, process, acts=True, after=deadline + self._world.choices.of(ACTS_LATE_SECONDS))
        return self._ends(deadline, Unknown(reason="no answer in time"))

    def _cuts_off(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, acts=True)
        return self._ends(self._latency(), Unknown(reason="the connection was closed in the middle of the answer"))

    def _gets_it_twice(self, request: OutboundRequest, process: Process) -> Flight:
        """The client sends once more where a connection that it reused was dead, for requests that may be repeated
        whatever became of them; for all others it makes a new connection (egress/request.py)."""
        if not request.may_repeat:
            return self._answers(request, process)
        self._arrives(request, process, acts=True)
        return self._answered(request, process, status=self._good(), acts=True, after=self._latency(), again=True)

    def _does_it_when_asked(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, ready=True)
        return self._ends(self._silence(request), Unknown(reason="the connection was closed before any answer"))

    def _rejects_silently(self, request: OutboundRequest, process: Process) -> Flight:
        self._arrives(request, process, rejects=True)
        return self._ends(self._silence(request), Unknown(reason="the connection was closed before any answer"))

    _flights: ClassVar["Mapping[str, Callable[[Partners, OutboundRequest, Process], Flight]]"] = dict(
        zip(
            (*BEHAVIOURS, *OF_BANKS),
            (
                _answers,
                _refuses_for_now,
                _errs,
                _errs_done,
                _refuses,
                _is_unreachable,
                _hangs_before,
                _refuses_the_stream,
                _gets_nothing,
                _loses_the_reply,
                _answers_late,
                _does_it_later,
                _cuts_off,
                _answers_slowly,
                _gets_it_twice,
                _does_it_when_asked,
                _rejects_silently,
            ),
            strict=True,
        )
    )

    # ---- How they are made of arrivals and ends

    def _answered(
        self,
        request: OutboundRequest,
        process: Process,
        *,
        status: int,
        acts: bool,
        after: float | None = None,
        retry_after: str = "",
        again: bool = False,
    ) -> Flight:
        seconds = self._latency() if after is None else after
        arrival = self._arrives(request, process, acts=acts, status=status, retry_after=retry_after, again=again)
        arrival.heard_at = self._world.now + seconds
        headers: Headers = (("Retry-After", self._header(retry_after)),) if retry_after else ()
        return self._ends(seconds, Answered(status=status, headers=headers, body=arrival.body))

    def _arrives(
        self,
        request: OutboundRequest,
        process: Process,
        *,
        acts: bool = False,
        status: int | None = None,
        retry_after: str = "",
        refused: bool = False,
        again: bool = False,
        rejects: bool = False,
        ready: bool = False,
        after: float | None = None,
    ) -> Arrival:
        key, destination = key_of(request), destination_of(request)
        arrival = Arrival(
            at=0.0,
            process=process.name,
            destination=destination,
            key=key,
            number=process.attempts[(destination, key)][1],
            request=(request.method, request.url, request.body),
            acted=acts,
            status=status,
            refused=refused,
            again=again,
            rejects=rejects,
            ready=ready,
            retry_after_seconds=self._asked_for(retry_after),
            body=_answer_body(destination, key, process),
        )
        # It leaves with the others of its batch, before anything comes back.
        seconds = self._world.choices.of(UNDERWAY_SECONDS) if after is None else after
        delivery = process.attempts[(destination, key)][0]
        self._world.scheduler.call_at(self._world.now + seconds, lambda: self._arrived(arrival, process, delivery))
        return arrival

    def _arrived(self, arrival: Arrival, process: Process, delivery: str) -> None:
        if not process.alive and self._world.choices.choose(2) == 0:
            self._world.mark("partner: the process ended before it had sent the request")
            return
        arrival.at = self._world.now
        self._world.evidence.arrivals.append(arrival)
        text = self._act(arrival)
        self._world.log(
            process.name,
            ARRIVAL,
            f"attempt {arrival.number} arrives; the partner {text}",
            delivery=delivery,
            to="partner",
            knows={"partner": self._knows(arrival), process.name: f"attempt {arrival.number} is sent"},
        )

    def _knows(self, arrival: Arrival) -> str:
        same = [
            other
            for other in self._world.evidence.arrivals
            if (other.destination, other.key) == (arrival.destination, arrival.key)
        ]
        done = sum(other.acted for other in same)
        return f"{len(same)} arrived, done {done} time{'' if done == 1 else 's'}"

    def _act(self, arrival: Arrival) -> str:
        known = (arrival.destination, arrival.key)
        if arrival.refused:
            return "refuses the stream"
        if arrival.destination in self._banks:
            return self._banks.act(arrival)
        if known in self._done and arrival.destination in self._idempotent:
            self._world.mark("partner: recognizes a repeat")
            arrival.acted = False
            return f"knows its key, and answers {arrival.status}"
        if arrival.acted:
            self._done[known] = self._done.get(known, 0) + 1
        did = "does it" if arrival.acted else "does nothing"
        return f"{did}, and answers {arrival.status or 'nothing'}"

    def _ends(self, seconds: float, outcome: Outcome, *, reached: bool = True) -> Flight:
        timings = Timings(total_ms=seconds * 1000)
        address = ADDRESS if reached else None
        exchange = Exchange(outcome=outcome, timings=timings, remote_address=address)
        return Flight(ends_at=self._world.now + seconds, exchange=exchange)

    # ---- Draws

    def _good(self) -> int:
        return self._world.choices.of((200, 200, 201, 202, 204))

    def _latency(self) -> float:
        return 0.05 + self._world.choices.of(LATENCIES_SECONDS)

    def _silence(self, request: OutboundRequest) -> float:
        """When the client notices that no answer comes."""
        return self._world.choices.of((0.1, 1.5, request.timeouts.first_byte_seconds))

    def _retry_after(self) -> str:
        return self._world.choices.of(RETRY_AFTERS)

    def _header(self, retry_after: str) -> str:
        if retry_after != "date":
            return retry_after
        return format_datetime((EPOCH + timedelta(seconds=int(self._world.now) + 120)), usegmt=True)

    def _asked_for(self, retry_after: str) -> float | None:
        """What the header means, by RFC 9110 section 10.2.3."""
        if retry_after == "date":
            return 120.0 - self._world.now % 1
        return float(retry_after) if retry_after.isdecimal() else None


def _answer_body(destination: str, key: str, process: Process) -> bytes:
    """What it answers to that attempt and to no other, so that answers that were mixed up are noticed."""
    return (
        f'{{"destination":"{destination}","key":"{key}","attempt":{process.attempts[(destination, key)][1]}}}'.encode()
    )


def destination_of(request: OutboundRequest) -> str:
    """The id of the destination that it goes to, as rows have it."""
    return str(UUID(request.owner))


def key_of(request: OutboundRequest) -> str:
    """Its idempotency key, or that of the payment which it asks about."""
    keys = (value for name, value in request.headers if name == "Idempotency-Key")
    return next(keys, None) or asked_about(request) or ""

"""The HTTP client as the flows use it: all requests of a batch at once, outcomes in the end, some of them early.

It follows egress.client.Client and its deadlines; what that does on the wire is proved by tests/egress.
"""

from collections.abc import Sequence

from domain.outcomes import Answered, Exchange, outcome_kind
from egress.client import EarlyResults, OutboundRequest
from simulator.database import Server
from simulator.faults import Seam
from simulator.partner import Flight, Partners, destination_of, key_of
from simulator.world import Process, World


class SimulatedClient:
    """The client of one process."""

    def __init__(self, world: World, partners: Partners, server: Server, process: Process) -> None:
        self._world = world
        self._server = server
        self._partners = partners
        self._process = process

    def send_all(self, requests: Sequence[OutboundRequest], *, early: EarlyResults | None = None) -> list[Exchange]:
        """As egress.client.Client.send_all."""
        if not requests:
            return []
        if self._server.transaction_open:
            self._world.evidence.misuse.append("a transaction is open while requests are sent")
        self._world.step(Seam.REQUEST)
        began_at = self._world.now
        flights = [self._partners.send(request, self._process) for request in requests]
        noted: set[int] = set()
        reported = slow_noted = False
        self._note_silence(requests, flights, noted)
        while (now := self._world.now) < max(flight.ends_at for flight in flights):
            reported = reported or self._report(early, flights, began_at=began_at)
            slow_noted = slow_noted or self._note_slow(early, flights, began_at=began_at)
            self._world.scheduler.pause(_next_moment(early, flights, began_at=began_at, now=now) - now)
            self._note_silence(requests, flights, noted)
        kind = self._world.step(Seam.RESPONSE)
        self._hear()
        if kind is not None:
            self._world.happen(kind)
        return [flight.exchange for flight in flights]

    def close(self) -> None:
        """Nothing is open."""

    def _note_slow(self, early: EarlyResults | None, flights: Sequence[Flight], *, began_at: float) -> bool:
        """Says what takes long, if it is time to; returns whether it was."""
        now = self._world.now
        if early is None or early.note_slow is None or now - began_at < early.slow_after_seconds:
            return False
        if self._process.invocation is not None:
            self._process.invocation.slow = True
        early.note_slow([place for place, flight in enumerate(flights) if flight.ends_at > now])
        return True

    def _report(self, early: EarlyResults | None, flights: Sequence[Flight], *, began_at: float) -> bool:
        """Reports what has ended, if it is time to; returns whether it was."""
        now = self._world.now
        ended = {place: flight.exchange for place, flight in enumerate(flights) if flight.ends_at <= now}
        if early is None or not early.is_time(ended=len(ended), of=len(flights), seconds=now - began_at):
            return False
        self._hear()
        self._world.mark("client: reports early")
        if self._process.invocation is not None:
            self._process.invocation.early = True
        kind = self._world.step(Seam.EARLY)
        if kind is not None:
            self._world.happen(kind)
        early.report(ended)
        return True

    def _note_silence(self, requests: Sequence[OutboundRequest], flights: Sequence[Flight], noted: set[int]) -> None:
        """Logs each exchange that has ended without an answer, once: no arrival says so."""
        for place, (request, flight) in enumerate(zip(requests, flights, strict=True)):
            outcome = flight.exchange.outcome
            if place in noted or flight.ends_at > self._world.now or isinstance(outcome, Answered):
                continue
            noted.add(place)
            delivery, number = self._process.attempts[(destination_of(request), key_of(request))]
            text = f"attempt {number} ends as {outcome_kind(outcome)}: {outcome.reason}"
            knows = {self._process.name: f"attempt {number} ended: {outcome_kind(outcome)}"}
            self._world.log(self._process.name, "no answer", text, delivery=delivery, knows=knows)

    def _hear(self) -> None:
        """Notes which answers this process has by now."""
        for arrival in self._world.evidence.arrivals:
            if arrival.process == self._process.name and 0 < arrival.heard_at <= self._world.now:
                arrival.heard = True
        for asked in self._world.evidence.asked:
            if asked.process == self._process.name and asked.heard_at <= self._world.now:
                asked.heard = True


def _next_moment(early: EarlyResults | None, flights: Sequence[Flight], *, began_at: float, now: float) -> float:
    moments = [flight.ends_at for flight in flights]
    if early is not None:
        moments += [began_at + seconds for seconds in early.moments_seconds]
    return min(moment for moment in moments if moment > now)

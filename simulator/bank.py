"""Banks: partners with a status endpoint. What they say of a payment is true of their records, which lag behind what
they did; what they say on a bad day is whatever a bad day has, and nobody must believe it.

A bank carries out a payment once for each key, and one that it rejected never. docs/reconcile.md wants `absent_after`
to be longer than a partner may take to act and its records to show it: here both together take less.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from domain.outcomes import Answered, Outcome, Unknown, Unreachable
from egress.client import OutboundRequest
from simulator.evidence import Arrival, Asked, BankAct
from simulator.world import Process, World

LAGS_SECONDS = (0.0, 2.0, 40.0, 200.0)
ACTS_AFTER_SECONDS = (1.0, 20.0, 100.0)  # once it is asked
AWAY_FROM_SECONDS = (5.0, 60.0, 500.0)
AWAY_SECONDS = (300.0, 1_500.0, 7_000.0)
_AWAY_PERCENT = 15
_ODD_PERCENT = 20
_PAYMENTS = "/payments/"
_MISSING = {"code": "payment_not_found"}

EXECUTED, REJECTED, ABSENT = "executed", "rejected", "absent"
# What says nothing of the payment, and what says something that no rule takes.
SILENT = (
    "nothing",
    "unreachable",
    "503 with its words",
    "a redirect with its words",
    "401 with its words",
    "HTML",
    "404 in HTML",
    "an empty body",
    "cut off",
    "said twice",
    "429",
)
OTHER = ("another key", "a page of several", "another word")


@dataclass(slots=True, kw_only=True)
class BookEntry:
    """What is in the books under a key: when it was done, when it was rejected, how much later the records show it. A
    payment that is `ready` is carried out once somebody asks."""

    lag_seconds: float
    acted_at: float | None = None
    rejected_at: float | None = None
    ready: Arrival | None = None


@dataclass(slots=True, kw_only=True)
class SimulatedBank:
    """The bank of one destination."""

    away: range | None = None
    entries: dict[str, BookEntry] = field(default_factory=dict)


class Banks:
    """All banks of a run; `destinations` are their ids."""

    def __init__(self, world: World, destinations: frozenset[str]) -> None:
        self._world = world
        self._banks = {destination: SimulatedBank(away=self._absence()) for destination in sorted(destinations)}

    def __contains__(self, destination: str) -> bool:
        return destination in self._banks

    def is_away(self, destination: str) -> bool:
        """Whether it answers nothing at all now."""
        away = self._banks[destination].away
        return away is not None and not self._world.weather.over and int(self._world.now) in away

    def has_rejected(self, destination: str, key: str) -> bool:
        """Whether it never carries out that payment."""
        return self._entry(destination, key).rejected_at is not None

    def act(self, arrival: Arrival) -> str:
        """A payment reaches it: it does once what it is to do, and says so in words."""
        entry = self._entry(arrival.destination, arrival.key)
        if entry.acted_at is not None or entry.rejected_at is not None:
            arrival.acted = False
            return f"knows its key, and answers {arrival.status or 'nothing'}"
        if arrival.acted:
            self._do(entry, arrival)
        elif arrival.rejects:
            entry.rejected_at = self._world.now
            return "rejects it, and answers nothing"
        elif arrival.ready:
            entry.ready = arrival
        return f"{'does it' if arrival.acted else 'does nothing'}, and answers {arrival.status or 'nothing'}"

    def answer(self, request: OutboundRequest, process: Process, destination: str) -> tuple[float, Outcome]:
        """In how many seconds the answer to a question is there, and what it is."""
        key = asked_about(request)
        assert key is not None
        delivery, number = process.attempts[(destination, key)]
        said, seconds = self._said(destination, key), 0.05 + self._world.choices.of((0.0, 0.2, 1.0, 3.0))
        if said == "nothing":
            seconds = request.timeouts.first_byte_seconds
        self._world.mark(f"bank: {said}")
        asked = Asked(
            at=self._world.now,
            process=process.name,
            destination=destination,
            key=key,
            number=number,
            said=said,
            heard_at=self._world.now + seconds,
        )
        self._world.evidence.asked.append(asked)
        self._world.log(
            process.name,
            "question",
            f"asks, as attempt {number}; the bank says: {said}",
            delivery=delivery,
            to="partner",
            knows={process.name: f"asked, as attempt {number}"},
        )
        self._begin_to_act(self._entry(destination, key))
        return seconds, _outcome(said, key)

    def _absence(self) -> range | None:
        choices = self._world.choices
        if self._world.weather.calm or not choices.happens(_AWAY_PERCENT):
            return None
        begins = int(choices.of(AWAY_FROM_SECONDS))
        return range(begins, begins + int(choices.of(AWAY_SECONDS)))

    def _entry(self, destination: str, key: str) -> BookEntry:
        entries = self._banks[destination].entries
        if key not in entries:
            entries[key] = BookEntry(lag_seconds=self._world.choices.of(LAGS_SECONDS))
        return entries[key]

    def _said(self, destination: str, key: str) -> str:
        choices, entry, now = self._world.choices, self._entry(destination, key), self._world.now
        if self.is_away(destination):
            self._world.mark("bank: is wholly away")
            return choices.of(SILENT)
        if not self._world.weather.over and choices.happens(0 if self._world.weather.calm else _ODD_PERCENT):
            return choices.of((*SILENT, *OTHER))
        if entry.acted_at is not None and entry.acted_at + entry.lag_seconds <= now:
            return EXECUTED
        if entry.rejected_at is not None and entry.rejected_at + entry.lag_seconds <= now:
            return REJECTED
        return ABSENT

    def _begin_to_act(self, entry: BookEntry) -> None:
        arrival, entry.ready = entry.ready, None
        if arrival is not None:
            self._world.mark("bank: begins to act when it is asked")
            at = self._world.now + self._world.choices.of(ACTS_AFTER_SECONDS)
            self._world.scheduler.call_at(at, lambda: self._act_late(entry, arrival))

    def _act_late(self, entry: BookEntry, arrival: Arrival) -> None:
        if entry.acted_at is None and entry.rejected_at is None:
            arrival.acted = True
            self._do(entry, arrival)
            self._world.log("partner", "question", f"does what attempt {arrival.number} asked for, as it was asked")

    def _do(self, entry: BookEntry, arrival: Arrival) -> None:
        entry.acted_at = self._world.now
        act = BankAct(at=self._world.now, destination=arrival.destination, key=arrival.key, number=arrival.number)
        self._world.evidence.bank_acts.append(act)


def asked_about(request: OutboundRequest) -> str | None:
    """The key of the payment that a question is about; None where it is no question."""
    place = request.url.find(_PAYMENTS)
    return None if place < 0 else unquote(request.url[place + len(_PAYMENTS) :])


def _outcome(said: str, key: str) -> Outcome:
    match said:
        case "executed" | "rejected":
            return _json(200, {"key": key, "state": said})
        case "absent":
            return _json(404, _MISSING) if len(key) % 2 else _json(200, {"payments": [], "next": None})
    return _odd(said, key)


def _odd(said: str, key: str) -> Outcome:
    answers: Mapping[str, Outcome] = {
        "nothing": Unknown(reason="no answer in time"),
        "unreachable": Unreachable(reason="no connection: Connection refused"),
        "503 with its words": _json(503, _MISSING),
        "a redirect with its words": _json(302, _MISSING),
        "401 with its words": _json(401, _MISSING),
        "HTML": Answered(status=200, body=b"<html>executed</html>"),
        "404 in HTML": Answered(status=404, body=b"<html>payment_not_found</html>"),
        "an empty body": Answered(status=404),
        "cut off": Answered(status=404, body=json.dumps(_MISSING).encode(), complete=False),
        "said twice": Answered(status=404, body=b'{"code": "payment_not_found", "code": "internal"}'),
        "429": Answered(status=429, headers=(("Retry-After", "60"),), body=json.dumps(_MISSING).encode()),
        "another key": _json(200, {"key": f"not-{key}", "state": "executed"}),
        "a page of several": _json(200, {"payments": [], "next": "/payments?after=20"}),
        "another word": _json(404, {"code": "no_such_route"}),
    }
    return answers[said]


def _json(status: int, content: object) -> Answered:
    return Answered(status=status, body=json.dumps(content).encode())

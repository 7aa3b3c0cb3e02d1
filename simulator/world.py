"""One run's world: its time, its weather, its evidence, and the list of what happened."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from simulator.choices import Choices
from simulator.evidence import FaultStruck, Invocation, RunEvidence
from simulator.faults import Kind, Seam, Weather
from simulator.features import Feature
from simulator.scheduler import Killed, Sandbox, Scheduler
from simulator.trace import FAULT, Event

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STALLS_SECONDS = (1.0, 5.0, 12.0, 30.0)


class Process(Sandbox):
    """A sandbox of a function, with its own clock. `attempts` says which attempt it has claimed, by destination and
    key."""

    def __init__(self, name: str, *, skew_seconds: float) -> None:
        super().__init__(name)
        self.skew_seconds = skew_seconds
        self.invocation: Invocation | None = None
        self.attempts: dict[tuple[str, str], tuple[str, int]] = {}


@dataclass(slots=True, kw_only=True)
class World:
    """What the models of one run share. `happen` brings about what happens to everybody (incidents.py)."""

    choices: Choices
    scheduler: Scheduler
    weather: Weather
    evidence: RunEvidence = field(default_factory=RunEvidence)
    events: list[Event] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    happen: Callable[[Kind], None] = field(default=lambda _: None)
    features: frozenset[Feature] = frozenset()

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self.scheduler.now

    @property
    def process(self) -> Process:
        """The process that runs now."""
        process = self.scheduler.current.sandbox
        assert isinstance(process, Process)
        return process

    def wall_clock(self, process: Process | None = None) -> datetime:
        """The time of day, as that process sees it."""
        skew = process.skew_seconds if process else 0.0
        return EPOCH + timedelta(seconds=self.scheduler.now + skew)

    def mark(self, name: str) -> None:
        """Notes that a run came here."""
        self.marks[name] += 1

    def log(
        self,
        actor: str,
        kind: str,
        text: str,
        *,
        delivery: str | None = None,
        to: str | None = None,
        knows: Mapping[str, str] | None = None,
    ) -> None:
        """Adds an event."""
        self.events.append(
            Event(
                at_seconds=round(self.scheduler.now, 3),
                actor=actor,
                kind=kind,
                text=text,
                delivery=delivery,
                to=to,
                knows=knows or {},
            )
        )

    def strike(
        self, kind: Kind, *, process: Process | None = None, delivery: str | None = None, text: str = ""
    ) -> None:
        """Notes a fault, and whose it is."""
        self.mark(f"fault: {kind.name}")
        name = process.name if process else None
        self.evidence.faults.append(FaultStruck(at=self.now, kind=kind, process=name, delivery=delivery))
        if process is not None and process.invocation is not None:
            process.invocation.faults += 1
        self.log("faults", FAULT, text or kind.value, delivery=delivery, to=name)

    def step(self, seam: Seam) -> Kind | None:
        """Takes its time at a seam of the present process. A fault of the process itself happens here; another one is
        returned, for the seam's model to bring about."""
        latency, kind = self.weather.draw(seam)
        self.scheduler.pause(latency)
        if kind is None:
            return None
        process = self.process
        self.strike(kind, process=process)
        match kind:
            case Kind.CRASH:
                self.scheduler.crash(process)
                raise Killed
            case Kind.STALL:
                self._stall(process)
                return None
        return kind

    def _stall(self, process: Process) -> None:
        seconds, invocation = self.choices.of(STALLS_SECONDS), process.invocation

        def goes_on() -> None:
            if process.alive and process.invocation is invocation:
                self.scheduler.thaw(process)

        self.scheduler.freeze(process)
        self.scheduler.call_at(self.now + seconds, goes_on)
        self.scheduler.pause(seconds)

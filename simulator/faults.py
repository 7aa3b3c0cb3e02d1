"""Everything that can go wrong, by the seam where it does.

Each seed has a weather of its own: how often something goes wrong, and which kinds do at all. Runs in which only a few
kinds are possible go deeper into these than runs in which everything is (Groce et al., "Swarm Testing", 2012).

A seam is a place where a flow leaves our code. What can happen there is drawn once, before the step or after it: a
latency that depends on the draw, or one of the faults.
"""

from dataclasses import dataclass, field
from enum import Enum

from simulator.choices import Choices

# Of ten benign draws: how long the step takes. Most are quick, so that the slow ones overtake nothing by habit.
LATENCIES_SECONDS = (0.002, 0.002, 0.002, 0.004, 0.004, 0.01, 0.02, 0.05, 0.2, 0.9)
# How many benign draws there are for each fault that is possible at a seam; calm weather has no faults.
_CALM = 0
WEATHERS = {"calm": _CALM, "fair": 400, "mixed": 120, "rough": 40, "storm": 12}


class Kind(Enum):
    """The kinds of faults, each with what happens."""

    # A process
    CRASH = "the process ends here"
    STALL = "the host stalls for some seconds, and with it all threads of the process"

    # A connection to PostgreSQL
    CONNECT_REFUSED = "PostgreSQL accepts no connection"
    CONNECT_HANGS = "no answer to a connection until its time is over"
    BROKEN_BEFORE = "the connection breaks before the statement arrives"
    STALE_PLAN = "PostgreSQL refuses the statement because of what this session prepared (0A000)"
    DEADLOCK = "PostgreSQL ends the statement in favour of another (40P01)"
    ROW_REFUSED = "PostgreSQL refuses to store what came of one attempt"
    BUSY = "PostgreSQL cancels the statement, which took too long (57014)"
    HANGS = "the statement never arrives, and nothing answers"
    RUNS_LATE = "the statement waits at a host that hangs, and runs when nobody waits for it any more"
    BROKEN_AFTER = "the connection breaks after the commit and before the rows arrive"
    ROWS_LATE = "the rows arrive after the client gave up"
    CLOSED_WHILE_IDLE = "PostgreSQL closed the connection since it was used last"

    # A call of SQS
    SQS_REFUSES = "SQS refuses the call"
    SQS_UNREACHABLE = "no answer of SQS, and it got nothing"
    SQS_PARTIAL = "SQS refuses some of the messages"
    SQS_REPLY_LOST = "SQS accepts the messages, and its answer is lost"
    SQS_TWICE = "SQS accepts the messages, its answer is lost, and the repeated call is accepted too"

    # A message
    RECEIVED_TWICE = "SQS delivers a message to two receivers"
    NOT_INVOKED = "Lambda has received messages, and throttles their invocation"
    UNDELETED = "SQS delivers a message again that was deleted"
    DELAYED = "SQS delivers a message minutes late"

    # Secrets Manager
    NO_SEAL_KEY = "Secrets Manager does not answer"

    # The way back to a caller
    ANSWER_LOST = "the answer of the API is lost on its way to the caller"

    # For all at once, for a while
    OUTAGE = "the database is unavailable"
    PAUSED = "the database was paused, and takes a while to resume"
    FAILOVER = "the writer becomes a reader, and its connections break"
    SQS_OUTAGE = "SQS is unavailable"
    PURGED = "somebody purges the queue"
    DEPLOYMENT = "all idle processes are replaced"


class Seam(Enum):
    """Where the flows leave our code, with what can happen there; what is named more than once happens more often."""

    CONNECT = (Kind.CRASH, Kind.STALL, Kind.CONNECT_REFUSED, Kind.CONNECT_HANGS)
    STATEMENT = (
        Kind.CRASH,
        Kind.STALL,
        Kind.BROKEN_BEFORE,
        Kind.STALE_PLAN,
        Kind.DEADLOCK,
        Kind.BUSY,
        Kind.ROW_REFUSED,
        Kind.HANGS,
        Kind.RUNS_LATE,
    )
    ROWS = (Kind.BROKEN_AFTER, Kind.ROWS_LATE, Kind.CRASH, Kind.STALL)
    QUEUE_CALL = (Kind.CRASH, Kind.STALL, Kind.SQS_REFUSES, Kind.SQS_UNREACHABLE, Kind.SQS_PARTIAL)
    QUEUE_ANSWER = (Kind.SQS_REPLY_LOST, Kind.SQS_TWICE, Kind.CRASH, Kind.STALL)
    REQUEST = (Kind.STALL, Kind.CRASH)
    # Just when there is something to record, which is when it matters most.
    RESPONSE = (Kind.CRASH, Kind.STALL, Kind.OUTAGE, Kind.OUTAGE, Kind.OUTAGE, Kind.SQS_OUTAGE)
    # Just when some of a batch is to be recorded early, which is rare
    EARLY = (Kind.CRASH, Kind.STALL, *4 * (Kind.OUTAGE,), *4 * (Kind.SQS_OUTAGE,))
    SLEEP = (Kind.CRASH,)
    SEAL_KEY = (Kind.NO_SEAL_KEY, Kind.CRASH)
    RECEIVE = (Kind.RECEIVED_TWICE, Kind.DELAYED)
    # Of a message that carries an outcome: only if it is late can the truth be late.
    RECEIVE_OUTCOME = (Kind.RECEIVED_TWICE, Kind.DELAYED, Kind.DELAYED, Kind.DELAYED, Kind.DELAYED, Kind.DELAYED)
    INVOKE = (Kind.NOT_INVOKED,)
    DELETE = (Kind.UNDELETED,)
    BEGIN = (Kind.CLOSED_WHILE_IDLE,)
    ANSWER = (Kind.ANSWER_LOST,)


INCIDENTS = (Kind.OUTAGE, Kind.PAUSED, Kind.FAILOVER, Kind.SQS_OUTAGE, Kind.PURGED, Kind.DEPLOYMENT)


# A few kinds that lead to rare orders of events together. With all others beside them they mostly lead elsewhere, or
# what comes of them is excused by another fault.
LATE_RECORDS = "late records"
THEMES = {
    "late outcomes": (
        Kind.OUTAGE,
        Kind.FAILOVER,
        Kind.RUNS_LATE,
        Kind.DELAYED,
        Kind.RECEIVED_TWICE,
        Kind.UNDELETED,
        Kind.NOT_INVOKED,
    ),
    "outages": (Kind.OUTAGE, Kind.PAUSED),
    "repeated claims": (Kind.CRASH, Kind.BROKEN_AFTER, Kind.ROWS_LATE, Kind.RECEIVED_TWICE),
    LATE_RECORDS: (Kind.RUNS_LATE, Kind.CRASH),
    "a host that hangs": (Kind.RUNS_LATE, Kind.HANGS, Kind.CONNECT_HANGS, Kind.STALL, Kind.RECEIVED_TWICE),
    "processes that end": (Kind.CRASH, Kind.STALL, Kind.UNDELETED, Kind.DEPLOYMENT),
}


@dataclass(slots=True, kw_only=True)
class Weather:
    """What may go wrong in one run. After `calm_down` nothing does any more."""

    choices: Choices
    name: str
    possible: frozenset[Kind]
    theme: str | None = None
    over: bool = False
    _by_seam: dict[Seam, tuple[Kind, ...]] = field(default_factory=dict)

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong now."""
        return self.over or not self.possible

    def may(self, kind: Kind) -> bool:
        """Whether it can happen now."""
        return kind in self.possible and not self.over

    def draw(self, seam: Seam) -> tuple[float, Kind | None]:
        """How long the step at `seam` takes, and what goes wrong; None for nothing."""
        if self.over:
            return LATENCIES_SECONDS[0], None
        kinds = self._kinds(seam)
        benign = max(WEATHERS[self.name], len(LATENCIES_SECONDS))
        number = self.choices.choose(benign + len(kinds))
        if number < benign:
            return LATENCIES_SECONDS[number % len(LATENCIES_SECONDS)], None
        return LATENCIES_SECONDS[0], kinds[number - benign]

    def _kinds(self, seam: Seam) -> tuple[Kind, ...]:
        if seam not in self._by_seam:
            self._by_seam[seam] = tuple(kind for kind in seam.value if kind in self.possible)
        return self._by_seam[seam]

    def calm_down(self) -> None:
        """Faults stop."""
        self.over = True


def draw_weather(choices: Choices) -> Weather:
    """The weather of a run; the benign one is calm."""
    name = choices.of(("calm", "fair", "mixed", "mixed", "rough", "rough", "rough", "storm", "storm"))
    if name == "calm":
        return Weather(choices=choices, name=name, possible=frozenset())
    theme = choices.of((None, None, None, *THEMES, LATE_RECORDS))
    if theme is not None:
        return Weather(choices=choices, name=name, possible=frozenset(THEMES[theme]), theme=theme)
    share = choices.of((25, 50, 75, 100))
    possible = frozenset(kind for kind in Kind if choices.happens(share))
    return Weather(choices=choices, name=name, possible=possible)

"""What a run leaves to judge it by: what arrived, what was recorded, what callers were told, which faults there were.

The models write it while the run goes on; simulator/promises.py reads it. Moments are virtual seconds; those that come
from the flows' own clocks are off by the skew of their process.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.faults import Kind

type Moved = tuple[str, str, float | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultStruck:
    """A fault that the schedule brought about; `process` is None where it is nobody's own, `delivery` is that of the
    message that it struck."""

    at: float
    kind: Kind
    process: str | None
    delivery: str | None = None


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A request that reached the partner.

    `number` is the attempt that it belongs to. `acted` says that the partner did what it was asked to; `status` is what
    it answered, None for nothing; `heard` that the answer was complete before the client gave up. `refused` means that
    the partner said in HTTP/2 that it did nothing. `again` marks the second arrival of one attempt, over a reused
    connection that had broken. `retry_after_seconds` is what the answer asked for, None where it did not, or in words
    that mean nothing; `body` is that of the answer, unlike that of every other. A bank `rejects` it for ever, or is
    `ready` to act once somebody asks.
    """

    at: float
    process: str
    destination: str
    key: str
    number: int
    request: tuple[str, str, bytes]
    acted: bool = False
    status: int | None = None
    heard: bool = False
    heard_at: float = 0.0
    refused: bool = False
    again: bool = False
    retry_after_seconds: float | None = None
    body: bytes = b""
    rejects: bool = False
    ready: bool = False


@dataclass(slots=True, kw_only=True)
class Asked:
    """A question that reached a bank about the payment `key`, as attempt `number`, and what it `said` (bank.py).
    `heard` says that the process which asked had the answer before it ended."""

    at: float
    process: str
    destination: str
    key: str
    number: int
    said: str
    heard_at: float
    heard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAct:
    """A bank carried out the payment `key`, because of the request of attempt `number`."""

    at: float
    destination: str
    key: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionVerdict:
    """A question that ended an unknown delivery, or had it sent again: `becomes` is its state then."""

    at: float
    delivery: str
    number: int
    becomes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRun:
    """An outcome in a statement that recorded. `moved` says that the delivery was updated by it, or by an earlier run
    of it; `state_before` is the delivery's state then. `sends` is how many requests were sent by then, this one
    included; it `asks` where it is of a question, and is `silent` where the partner said nothing; the next question
    is planned for `ask_at`."""

    at: float
    process: str
    delivery: str
    number: int
    outcome: str
    status: int | None
    next_state: str
    next_due_at: float | None
    started_at: float
    moved: bool
    state_before: str
    sends: int = 0
    asks: bool = False
    silent: bool = False
    ask_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A lease by which an attempt begins. `clock` is the moment by the clock of the process that leased, `beside` until
    when the leases are, by the clocks of theirs, of other attempts at the destination that have not ended;
    `destination_state` is the one that its row has then. `open_until` is until when the destination's circuit breaker
    is open, None where it is closed; `probing` are the leases of attempts that began while it was open."""

    delivery: str
    destination: str
    clock: float
    beside: tuple[float, ...]
    destination_state: str = "active"
    open_until: float | None = None
    probing: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """An attempt whose lease had run out when a process claimed its delivery."""

    at: float
    process: str
    delivery: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a caller was told of a delivery by the call that it made at `asked_at`.

    `how` is one of "accepted", "replayed", "ended" (a waiting call with a result), "read", "listed", "in flight",
    "key reused", "not found", "not now", "disabled" and "error". `state`, and `status` and `body` of the last
    answer, are None where the call did not say. `waits` says that it asked for the result, `not_before` when the
    first attempt may start, `listed` are the deliveries of a list with their states.
    """

    asked_at: float
    at: float
    caller: str
    how: str
    process: str | None = None
    tenant: str = ""
    destination: str = ""
    key: str | None = None
    request: tuple[str, str, bytes] | None = None
    delivery: str | None = None
    state: str | None = None
    status: int | None = None
    body: bytes | None = None
    waits: bool = False
    not_before: float | None = None
    listed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTold:
    """A caller was told of the job that its call made, or that was there under its key."""

    tenant: str
    key: str | None
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """What a statement made of a job, in the order of the statements. `state` is the job's after it, and `changed` what
    its row counts. In its first one are the deliveries that it `matches`; in a step each delivery that it `moved`, with
    the state before and when it is due now (None for what is canceled), and the new one that repeats it, if any; and in
    `since` from when on its row had been in that state."""

    at: float
    process: str
    job: str
    state: str
    changed: int
    matches: frozenset[str] | None = None
    moved: tuple[Moved, ...] = ()
    since: tuple[float, ...] = ()


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One call of a function. `faults` counts what happened to its process meanwhile, `carried` the statements that the
    outcomes take which its messages carry. `early` says that some of its attempts were recorded early, `slow` that some
    were noted as slow. `after_outage` are deliveries whose wake-ups, all of them, say that the
    database was away when they were last looked at."""

    process: str
    what: str
    began_at: float
    ended_at: float | None = None
    statements: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    result: str = "running"
    early: bool = False
    slow: bool = False
    carried: int = 0
    after_outage: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class RunEvidence:
    """All of it.

    `begins` are in the order of the statements. `changes` are moments, deliveries, and their states before and
    after; `queued` are the wake-ups that SQS accepted: whose, and when they become visible; `turns` are when first
    attempts may begin of deliveries that got a turn, at a destination with a rate, when accepted. `missed` are
    deliveries that an operator's round left out; `moves` are moments, destinations and the states that they came
    to; `resolved` are deliveries that somebody began to resolve, and when; `again` those that somebody wanted to be
    attempted once more, with the moments of their calls, and `repeated` is when such a call was told that they will be;
    `unstorable` are attempts (delivery and
    number) that PostgreSQL refused in whatever form. `asked` are questions, `bank_acts` what banks did, `verdicts`
    what the questions came to. `job_entries` are what jobs did, `jobs_told` who was told of which, `jobs` the rows
    of all at the end. Where it wants `four_eyes`, each needs one of the `proposals`, which are rows too.
    `deliveries` and `attempts` are the rows at the end, `waiting` the deliveries that have a message left, `ended`
    how the run ended.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    records: list[RecordRun] = field(default_factory=list)
    begins: list[Begin] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    faults: list[FaultStruck] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    changes: list[tuple[float, str, str, str]] = field(default_factory=list)
    queued: list[tuple[str, float]] = field(default_factory=list)
    turns: dict[str, float] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    moves: list[tuple[float, str, str]] = field(default_factory=list)
    resolved: dict[str, float] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)
    repeated: list[tuple[float, str]] = field(default_factory=list)
    lapses: list[Lapse] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    bank_acts: list[BankAct] = field(default_factory=list)
    verdicts: list[QuestionVerdict] = field(default_factory=list)
    unstorable: set[tuple[str, int]] = field(default_factory=set)
    misuse: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    job_entries: list[JobEntry] = field(default_factory=list)
    jobs_told: list[JobTold] = field(default_factory=list)
    jobs: Sequence[Mapping[str, Any]] = ()
    four_eyes: bool = False
    proposals: Sequence[Mapping[str, Any]] = ()
    deliveries: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    waiting: frozenset[str] = frozenset()
    ended: str = ""

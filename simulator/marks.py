"""Where the seeds of a whole run must have come at least once: each kind of fault, each state, each branch of interest.

A simulator that quietly never does something would go on to prove that nothing can go wrong with it.
"""

from collections.abc import Mapping

from simulator.bank import ABSENT, EXECUTED, OTHER, REJECTED, SILENT
from simulator.faults import WEATHERS, Kind
from simulator.features import Feature
from simulator.partner import BEHAVIOURS, OF_BANKS
from simulator.promises import CHANGES

SEEDS_NEEDED = 3000
# A truth that is a refusal, and comes in the seconds between a lapse and its retry
RARE = frozenset({"state: pending -> failed"})
RARE_SEEDS_NEEDED = 20_000

_OTHERS = (
    "bank: begins to act when it is asked",
    "bank: is wholly away",
    "batch: ends with NoAnswer",
    "batch: ends with QueueUnavailable",
    "batch: carries one outcome several times",
    "batch: of several messages",
    "batch: some messages failed",
    "caller: does not wait",
    "caller: passes through",
    "caller: reads another tenant's delivery",
    "caller: uses a key for something else",
    "caller: waits",
    "claim: a question",
    "claim: delivered, not leased",
    "claim: failed, not leased",
    "claim: fresh",
    "claim: lapsed",
    "claim: missing",
    "claim: pending, not leased",
    "claim: sending, not leased",
    "claim: unknown, not leased",
    "breaker: lets one through",
    "breaker: opens",
    "claim: waits for circuit_breaker",
    "claim: waits for concurrency",
    "claim: waits for ordering",
    "claim: waits for rate_limit",
    "claim: waits for sending_window",
    "client: reports early",
    "database: a key is found again",
    "database: a late statement follows what others did",
    "database: refuses to write, being a reader",
    "claim: waits for destination_disabled",
    "claim: waits for destination_paused",
    "destination: active",
    "destination: disabled",
    "destination: paused",
    "job: canceled",
    "job: paused",
    "job: running",
    "jobs: a key is found again",
    "jobs: a step that comes too late",
    "jobs: a step that others follow",
    "jobs: cancels a job",
    "jobs: cancels what is pending",
    "jobs: cannot, NoAnswer",
    "jobs: cannot, WrongState",
    "jobs: has no message, and is begun again",
    "jobs: pauses a job",
    "jobs: repeats what was delivered",
    "jobs: replays what is delivered",
    "jobs: replays what is failed",
    "jobs: replays what is unknown",
    "jobs: resumes a job",
    "jobs: the last step",
    "lambda: a thread is frozen after the invocation",
    "lambda: api timed out",
    "lambda: worker timed out",
    "manager: asks about a delivery",
    "manager: cancels a delivery",
    "manager: cannot ask, BeingAsked",
    "manager: cannot ask, WrongState",
    "manager: enables a destination",
    "manager: pauses a destination",
    "manager: resolves as delivered",
    "manager: resolves as failed",
    "manager: resumes a destination",
    "manager: sends again what is failed",
    "manager: sends again what is pending",
    "manager: sends again what is unknown",
    "manager: tries again",
    "message: to the dead-letter queue",
    "operator: redrives dead letters",
    "operator: wakes what has no message",
    "operator: wakes while faults go on",
    "partner: recognizes a repeat",
    "partner: the process ended before it had sent the request",
    "state: failed -> pending",
    "state: unknown -> pending",
    "proposals: cannot, SameToken",
    "proposals: cannot, WrongState",
    "proposals: proposes a job",
    "proposals: the first token takes it back",
    "proposals: the second token approves",
    "proposals: the third token approves",
    "record: question, moved",
    "record: question, only logged",
    "record: answered, moved",
    "record: answered, only logged",
    "record: refused by PostgreSQL",
    "record: refused, moved",
    "record: unknown, moved",
    "record: unknown, only logged",
    "record: unreachable, moved",
    "record: unreachable, only logged",
    "told: accepted",
    "told: disabled",
    "told: ended",
    "told: error",
    "told: in flight",
    "told: key reused",
    "told: listed",
    "told: not found",
    "told: not now",
    "told: read",
    "told: replayed",
    "verdict: delivered",
    "verdict: failed",
    "verdict: pending",
    "wake-up: after an outage",
    "wake-up: carries an outcome",
    "wake-up: hops",
    "wake-up: without a row, look 1",
    "wake-up: without a row, look 2",
)

EXPECTED = frozenset(
    {
        *_OTHERS,
        *(f"fault: {kind.name}" for kind in Kind),
        *(f"feature: {feature.name}" for feature in Feature),
        *(f"partner: {behaviour}" for behaviour in (*BEHAVIOURS, *OF_BANKS)),
        *(f"bank: {said}" for said in (EXECUTED, REJECTED, ABSENT, *SILENT, *OTHER)),
        *(f"state: {before} -> {after}" for before, after in CHANGES),
        *(f"weather: {name}" for name in WEATHERS),
    }
)


def never_visited(marks: Mapping[str, int]) -> list[str]:
    """Those of EXPECTED that are not in `marks`, in order."""
    return sorted(EXPECTED - marks.keys())


def overdue(marks: Mapping[str, int], *, seeds: int) -> list[str]:
    """Those that so many seeds should have visited, and did not."""
    needed = {name: RARE_SEEDS_NEEDED if name in RARE else SEEDS_NEEDED for name in never_visited(marks)}
    return [name for name, count in needed.items() if seeds >= count]

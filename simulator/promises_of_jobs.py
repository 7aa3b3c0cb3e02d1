"""The promises of jobs that replay or cancel many deliveries (docs/api.md, "Many at once")."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from simulator.evidence import JobEntry
from simulator.faults import Kind
from simulator.trace import Broken

if TYPE_CHECKING:
    from simulator.promises import Facts

SKEW_SECONDS = 4.1  # between the clock by which a job was made, and the one by which a delivery ended
ROUNDING_SECONDS = 1e-3
LONGEST_HOP_SECONDS = 900
BEGUN_STATE = "running"
ENDED = ("done", "canceled")


class JobFacts:
    """The evidence of one run, sorted by job."""

    def __init__(self, facts: "Facts") -> None:
        self.facts = facts
        self.rows: Mapping[str, Mapping[str, Any]] = {str(row["job_id"]): row for row in facts.evidence.jobs}

    @cached_property
    def entries(self) -> Mapping[str, Sequence[JobEntry]]:
        """What was done to each, in order."""
        found: dict[str, list[JobEntry]] = defaultdict(list)
        for entry in self.facts.evidence.job_entries:
            found[entry.job].append(entry)
        return found

    def state_at(self, delivery: str, at: float) -> str | None:
        """The state that it had then."""
        return next((state for when, state in reversed(self.facts.states.get(delivery, ())) if when <= at), None)

    def stayed(self, delivery: str, *, since: float, until: float) -> bool:
        """Whether nothing but the job itself changed its state meanwhile."""
        return not any(since < when < until for when, _ in self.facts.states.get(delivery, ()))


def jobs_end(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: a job that a crash interrupts goes on where it was; so each is done in the end, or canceled."""
    for job, row in JobFacts(facts).rows.items():
        if row["state"] not in ("done", "canceled"):
            yield Broken(promise="jobs end", text=f"the job {job} is {row['state']} when all is at rest")


def jobs_keep_their_bounds(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: what a job works on is fixed when it is made; what comes to that state later is not part of it."""
    known = JobFacts(facts)
    for job, entries in known.entries.items():
        begun, row = entries[0], known.rows[job]
        for entry in entries:
            for (delivery, before, *_), since in zip(entry.moved, entry.since, strict=True):
                other = any(
                    row[name] not in (None, facts.rows[delivery][name]) for name in ("tenant_id", "destination_id")
                )
                if other or before != row["of_state"] or since > begun.at + SKEW_SECONDS:
                    text = f"the job to {row['act']} what was {row['of_state']} changed it, which was not part of it"
                    yield _broken("jobs keep their bounds", text, delivery)


def jobs_leave_nothing_out(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: a job that is done has changed all that it was made for, and that was still as it was then."""
    known = JobFacts(facts)
    for job, entries in known.entries.items():
        begun, last = entries[0], entries[-1]
        if last.state != "done":
            continue
        moved = {delivery for entry in entries for delivery, *_ in entry.moved}
        for delivery in sorted((begun.matches or frozenset()) - moved):
            closed = any(
                str(facts.rows.get(delivery, {}).get("destination_id")) == destination
                for _, destination, state in facts.evidence.moves
                if state == "disabled"
            )  # which takes no new deliveries
            if known.stayed(delivery, since=begun.at, until=last.at) and not closed and delivery in facts.rows:
                text = f"the job to {known.rows[job]['act']} what was {known.rows[job]['of_state']} left it out"
                yield _broken("jobs leave nothing out", text, delivery)


def jobs_do_nothing_twice(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: whatever interrupts a job, it changes each delivery once, and repeats each once."""
    known = JobFacts(facts)
    for entries in known.entries.values():
        for delivery, count in Counter(name for entry in entries for name, *_ in entry.moved).items():
            if count > 1:
                yield _broken("jobs do nothing twice", f"a job changed it {count} times", delivery)
    made = Counter((row["replay_of"], row.get("act_id")) for row in facts.rows.values() if row.get("replay_of"))
    for (original, _), count in made.items():
        if count > 1:
            yield _broken("jobs do nothing twice", f"a job repeated it as {count} new deliveries", str(original))
    for (tenant, key), jobs in _by_key(facts).items():
        if len(jobs) > 1 or not jobs <= known.rows.keys():
            yield Broken(promise="jobs do nothing twice", text=f"the key {key} of {tenant} has {len(jobs)} jobs")


def jobs_count_what_they_did(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: `changed` is how many it has changed, after each of its steps."""
    for job, entries in JobFacts(facts).entries.items():
        changed = 0
        for entry in entries:
            changed += len(entry.moved)
            if entry.changed != changed:
                text = f"the job {job} says {entry.changed}, and has changed {changed}"
                yield Broken(promise="jobs count what they did", text=text)
                break


def a_job_at_rest_changes_nothing(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: "A paused job changes nothing more until it is resumed", and one that has ended nothing at all."""
    for job, entries in JobFacts(facts).entries.items():
        for before, entry in pairwise(entries):
            if before.state in ENDED and entry.state != before.state:
                text = f"the job {job} was {before.state}, and is {entry.state}"
                yield Broken(promise="a job at rest changes nothing", text=text)
            if entry.moved and before.state != BEGUN_STATE:
                text = f"the job {job} was {before.state}, and changed {len(entry.moved)} deliveries"
                yield Broken(promise="a job at rest changes nothing", text=text)


def jobs_keep_their_rate(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: what a job sends becomes due at its rate, one after the other, and has its message by then."""
    known = JobFacts(facts)
    queued: dict[str, list[float]] = defaultdict(list)
    for delivery, visible_at in facts.evidence.queued:
        queued[delivery].append(visible_at)
    for job, entries in known.entries.items():
        moves = [(due_at, new or name, entry) for entry in entries for name, _, due_at, new in entry.moved]
        dues = sorted((due_at, name, entry.at) for due_at, name, entry in moves if due_at is not None)
        for (first, *_), (second, name, _) in pairwise(dues):
            if second - first < 1 / known.rows[job]["rate"] - ROUNDING_SECONDS:
                text = (
                    f"it is due {second - first:.3f} s after the one before it, at a rate of {known.rows[job]['rate']}"
                )
                yield _broken("jobs keep their rate", text, name)
        for due_at, name, at in dues:
            if due_at - at < LONGEST_HOP_SECONDS - 2 * SKEW_SECONDS and not _woken(facts, queued[name], due_at):
                yield _broken(
                    "woken in time", f"a job made it due at {due_at:.1f} s, and no message was for then", name
                )


def _woken(facts: "Facts", visible: Sequence[float], due_at: float) -> bool:
    late = 60.0 if any(fault.kind in (Kind.STALL, Kind.RUNS_LATE) for fault in facts.evidence.faults) else 0.0
    return any(-2 * SKEW_SECONDS <= moment - due_at <= late + 2 * SKEW_SECONDS for moment in visible)


def repeats_are_the_same(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md: what was delivered is repeated as a new delivery, the same request with a key of its own."""
    for name, row in facts.rows.items():
        if (original := facts.rows.get(str(row.get("replay_of")))) is None:
            continue
        same = ("tenant_id", "destination_id", "method", "path", "query", "headers", "body", "ordering_key")
        differs = [column for column in same if row.get(column) != original.get(column)]
        if row["idempotency_key"] == original["idempotency_key"]:
            differs.append("no other key")
        if differs:
            yield _broken("repeats are the same", f"it repeats {row['replay_of']}, with another {differs[0]}", name)


def _by_key(facts: "Facts") -> Mapping[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for wish in facts.evidence.jobs_told:
        if wish.key is not None:
            found[(wish.tenant, wish.key)].add(wish.job)
    return found


def _broken(promise: str, text: str, delivery: str) -> Broken:
    return Broken(promise=promise, text=text, delivery=delivery)


PROMISES_OF_JOBS = (
    jobs_end,
    jobs_keep_their_bounds,
    jobs_leave_nothing_out,
    jobs_do_nothing_twice,
    jobs_count_what_they_did,
    a_job_at_rest_changes_nothing,
    jobs_keep_their_rate,
    repeats_are_the_same,
)

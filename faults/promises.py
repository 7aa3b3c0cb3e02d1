"""What was promised, counted over the partner's ledger, the database and what callers were told."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from domain.retry import AMBIGUOUS_STATUSES, RETRIABLE_STATUSES
from faults.load import CallResult
from faults.partner import SeenRequest
from faults.site import TOTAL_SECONDS, Session
from flows.prepare import LAPSED

ENDED = ("delivered", "failed", "unknown")
ANSWERS = {200, 202, 400, 409, 500, 502, 503, 504}  # 400 and 500 are the partner's; a 500 of ours is broken_by_answer
# How long after its answer an outcome is recorded at most, undisturbed: the batch's slowest request and a moment.
RECORDED_AFTER_SECONDS = TOTAL_SECONDS + 2.0
# What can keep an outcome from being recorded, or make a lease look over that is not. No other fault explains a repeat.
DISTURBING = frozenset(
    {
        "kill API",
        "kill worker",
        "freeze and thaw",
        "freeze past the lease",
        "end sessions",
        "crash PostgreSQL",
        "stop PostgreSQL",
        "full disk",
        "hanging sessions",
        "hanging PostgreSQL",
        "lock",
        "clock jump",
        "slow queue",
    }
)
_MANY = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A fault, from when to when (monotonic) it had its effect."""

    kind: str
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A delivery as the database has it. `outcomes`, `reasons` and `statuses` are those of its attempts, the first one
    first; `numbers` their numbers. `key` is what its partner sees in `Idempotency-Key`. Of a pass-through call one
    attempt is allowed."""

    delivery_id: str
    key: str
    method: str
    path: str
    guarantee: str
    state: str
    attempts_made: int
    attempts_allowed: int
    numbers: list[int]
    outcomes: list[str]
    reasons: list[str | None]
    statuses: list[int | None]

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again after an unknown outcome."""
        return self.guarantee == "at_least_once" or (self.guarantee == "auto" and self.method in ("PUT", "GET"))

    @property
    def strict(self) -> bool:
        """Whether it may not even be sent again after an answer that leaves open whether the partner acted."""
        return self.guarantee == "at_most_once"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A change of a delivery's state or lease. All `before` are None where the delivery was new."""

    delivery_id: str
    state_before: str | None
    state: str
    attempts_before: int | None
    attempts: int
    until_before: datetime | None
    until: datetime | None


@dataclass(slots=True, kw_only=True)
class Count:
    """What was counted. The four lists name what broke; the counters explain what did not."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    otherwise_broken: list[str] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)  # by what explains them
    retries: int = 0  # repeats after an answer that says that nothing was done, or that allows one

    @property
    def broken(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.doubled, *self.unexplained, *self.changed, *self.otherwise_broken]


def keep_journal(session: Session) -> None:
    """From now on every change of a delivery's state or lease is written down, within its own transaction."""
    session.execute("""
        CREATE TABLE faults_journal (
            place bigint GENERATED ALWAYS AS IDENTITY, delivery_id uuid, state_before text, state text,
            attempts_before integer, attempts integer, until_before timestamptz, until timestamptz)
    """)
    session.execute("""
        CREATE FUNCTION faults_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO faults_journal (delivery_id, state, attempts, until)
                VALUES (NEW.delivery_id, NEW.state, NEW.attempts_made, NEW.leased_until);
            ELSIF (OLD.state, OLD.lease_id) IS DISTINCT FROM (NEW.state, NEW.lease_id) THEN
                INSERT INTO faults_journal
                    (delivery_id, state_before, state, attempts_before, attempts, until_before, until)
                VALUES (NEW.delivery_id, OLD.state, NEW.state, OLD.attempts_made, NEW.attempts_made,
                        OLD.leased_until, NEW.leased_until);
            END IF;
            RETURN NULL;
        END $$
    """)
    session.execute(
        "CREATE TRIGGER faults_notes AFTER INSERT OR UPDATE ON delivery FOR EACH ROW EXECUTE FUNCTION faults_note()"
    )


def steps(session: Session) -> Iterator[Step]:
    """All of the journal, in its order."""
    with session.transaction(), session.cursor("steps") as cursor:
        cursor.itersize = _MANY
        cursor.execute("""
            SELECT delivery_id::text, state_before, state, attempts_before, attempts, until_before, until
            FROM faults_journal ORDER BY place
        """)
        for row in cursor:
            yield Step(**row)


def stored(session: Session) -> dict[str, Stored]:
    """All deliveries by id."""
    rows: Sequence[dict[str, Any]] = session.execute("""
        SELECT delivery_id::text, idempotency_key AS key, method, path, guarantee, delivery.state,
               attempts_made, attempts_allowed, array_remove(array_agg(number ORDER BY number), NULL) AS numbers,
               array_remove(array_agg(outcome ORDER BY number), NULL) AS outcomes,
               array_agg(reason ORDER BY number) AS reasons,
               array_agg(status ORDER BY number) AS statuses
        FROM delivery JOIN destination USING (destination_id) LEFT JOIN attempt USING (delivery_id)
        GROUP BY delivery_id, guarantee
    """).fetchall()
    return {row["delivery_id"]: Stored(**row) for row in rows}


def counted(
    *,
    rows: Mapping[str, Stored],
    journal: Iterable[Step],
    told: Sequence[CallResult],
    looks: Sequence[tuple[str, str]],
    arrivals: Mapping[str, Sequence[SeenRequest]],
    windows: Sequence[Window],
    lease_seconds: int,
) -> Count:
    """Everything that was promised, looked for everywhere."""
    count = Count()
    keys = {row.key for row in rows.values()}
    count.lost += [f"{row.delivery_id} has not ended but is {row.state}" for row in rows.values() if not row.ended]
    count.lost += [f"{answer} is nowhere" for answer in told if answer.delivery_id not in rows and answer.delivery_id]
    count.otherwise_broken += [f"the partner saw {key}, which is no delivery" for key in arrivals if key not in keys]
    for row in rows.values():
        seen = arrivals.get(row.key, ())
        count.otherwise_broken += [f"{row.delivery_id} {text}" for text in broken_by_record(row, seen)]
        _count_repeats(row, seen, windows, count)
    for answer in told:
        count.otherwise_broken += [f"{answer}: {text}" for text in broken_by_answer(answer, rows)]
    count.otherwise_broken += broken_by_keys(told)
    count.changed += changed_after_delivered(told, looks, rows)
    for step in journal:
        count.otherwise_broken += [
            f"{step.delivery_id} {text}" for text in broken_by_step(step, lease_seconds=lease_seconds)
        ]
    return count


def _count_repeats(row: Stored, seen: Sequence[SeenRequest], windows: Sequence[Window], count: Count) -> None:
    """Each request but the last was repeated: by right, explained, or not."""
    for number, earlier in enumerate(seen[:-1], start=1):
        if may_be_repeated(row, earlier):
            count.retries += 1
            continue
        what = f"{row.delivery_id} ({row.method}, {row.guarantee}) was sent again after request {number} of {len(seen)}"
        if not row.repeatable:
            count.doubled.append(f"{what}: {row.state}, {row.outcomes}, {row.statuses}")
        elif (reason := explanation(row, number, earlier, requests=len(seen), windows=windows)) is not None:
            count.duplicates[reason] += 1
        else:
            count.unexplained.append(f"{what}: {row.state}, {row.outcomes}, {row.reasons}, {row.statuses}")


def may_be_repeated(row: Stored, earlier: SeenRequest) -> bool:
    """Whether its answer says that the partner did nothing, or leaves that open where the guarantee says so."""
    if earlier.status not in RETRIABLE_STATUSES:
        return False
    return not (row.strict and earlier.status in AMBIGUOUS_STATUSES)


def explanation(
    row: Stored, number: int, earlier: SeenRequest, *, requests: int, windows: Sequence[Window]
) -> str | None:
    """Why a request that may have had its effect was repeated where that is allowed; None for no reason at all."""
    if earlier.status is None:
        return "the partner did not answer"
    if _too_late(row, number, requests):
        return "the answer did not arrive in time"
    done_at = earlier.answered_at or earlier.arrived_at
    struck = [
        window
        for window in windows
        if window.kind in DISTURBING
        and window.started_at <= done_at + RECORDED_AFTER_SECONDS
        and window.ended_at >= earlier.arrived_at
    ]
    return min(struck, key=lambda window: abs(window.started_at - done_at)).kind if struck else None


def disturbed_seconds(windows: Iterable[Window]) -> float:
    """For how long at least one fault went on that explains a repeat."""
    total, until = 0.0, 0.0
    for window in sorted(windows, key=lambda window: window.started_at):
        if window.kind in DISTURBING:
            total += max(0.0, window.ended_at - max(window.started_at, until))
            until = max(until, window.ended_at)
    return total


def _too_late(row: Stored, number: int, requests: int) -> bool:
    """Whether the attempt that made this request gave up waiting. Of a delivery with more attempts than requests, it is
    not known which ones never left."""
    possible = slice(number - 1, number + len(row.outcomes) - requests)
    pairs = zip(row.outcomes[possible], row.reasons[possible], strict=True)
    return any(outcome == "unknown" and reason != LAPSED.reason for outcome, reason in pairs)


def broken_by_record(row: Stored, seen: Sequence[SeenRequest]) -> Iterator[str]:
    """What a delivery's state, log and requests at the partner say against each other."""
    if row.numbers != list(range(1, row.attempts_made + 1)):
        yield f"has attempts {row.numbers} and counts {row.attempts_made}"
    if len(seen) > len(row.numbers):
        yield f"has {len(row.numbers)} attempts, but its partner saw {len(seen)} requests"
    if not row.repeatable and "unknown" in row.outcomes[:-1]:
        yield f"was tried again after an unknown outcome: {row.outcomes}"
    if row.state == "delivered" and not any(arrival.status == 200 for arrival in seen):
        yield f"is delivered, but its partner answered {[arrival.status for arrival in seen]}"
    if row.state == "delivered" and row.statuses[-1:] != [200]:
        yield f"is delivered, but its log says {row.statuses}"
    if len(row.numbers) > row.attempts_allowed:
        yield f"has {len(row.numbers)} attempts of {row.attempts_allowed}"
    refused = any(status and status >= 400 for status in row.statuses)
    if row.state == "failed" and not refused and row.attempts_made < row.attempts_allowed:
        yield f"failed without a reason: {row.outcomes} of {row.attempts_allowed} attempts"


def broken_by_answer(told: CallResult, rows: Mapping[str, Stored]) -> Iterator[str]:
    """What a caller was told that is false, or should not have been told."""
    if told.status not in ANSWERS or (told.status == 500 and told.partner_status != 500):
        yield "is no answer that is documented"
    row = rows.get(told.delivery_id or "")
    if row is not None and told.partner_status is not None and told.partner_status not in row.statuses:
        yield f"it is the partner's {told.partner_status}, the log says {row.statuses} and {row.state}"


def changed_after_delivered(
    told: Sequence[CallResult], looks: Sequence[tuple[str, str]], rows: Mapping[str, Stored]
) -> list[str]:
    """Who read "delivered" never reads anything else."""
    read = {answer.delivery_id for answer in told if answer.delivery_id and answer.state == "delivered"}
    read |= {delivery_id for delivery_id, state in looks if state == "delivered"}
    return [
        f"{delivery_id} was shown as delivered, and it is {rows[delivery_id].state}"
        for delivery_id in read
        if delivery_id in rows and rows[delivery_id].state != "delivered"
    ]


STEPS = {(None, "pending"), (None, "sending"), ("pending", "sending"), ("sending", "sending"), ("sending", "pending")}
STEPS |= {("sending", end) for end in ENDED}
# docs/api.md, "Late truth": the outcome arrived after the lapse was recorded.
STEPS |= {(lapsed, end) for lapsed in ("unknown", "pending") for end in ("delivered", "failed")}


def broken_by_step(step: Step, *, lease_seconds: int) -> Iterator[str]:
    """What a delivery may not go through."""
    if (step.state_before, step.state) not in STEPS:
        yield f"went from {step.state_before} to {step.state}"
    starts = step.state == "sending" and step.state_before != "sending"
    if step.attempts != (step.attempts_before or 0) + starts:
        yield f"counted from {step.attempts_before} to {step.attempts} attempts on its way to {step.state}"
    if step.state_before == step.state == "sending" and step.until is not None and step.until_before is not None:
        claimed_at = step.until - timedelta(seconds=lease_seconds)
        if claimed_at < step.until_before:
            yield f"was taken over {step.until_before - claimed_at} before the lease was over"


def broken_by_keys(told: Iterable[CallResult]) -> list[str]:
    """One key is one delivery."""
    by_key: dict[str, set[str]] = {}
    for answer in told:
        if answer.key is not None and answer.delivery_id is not None:
            by_key.setdefault(answer.key, set()).add(answer.delivery_id)
    return [f"key {key} led to {sorted(ids)}" for key, ids in by_key.items() if len(ids) > 1]

"""The promises: what must hold after every run, whatever went wrong in it.

Each function is one promise, named in its docstring as the documents name it. It looks at what the models saw (what
arrived at partners, what callers were told) and at the rows, never at what the code says of itself, and yields one
Broken for each time that the promise did not hold. The numbers of the schedule are written down here a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from domain.deliveries import fingerprint
from simulator.evidence import Arrival, Invocation, RecordRun, RunEvidence, Told
from simulator.faults import INCIDENTS, Kind
from simulator.setting import BY_ID, DESTINATIONS
from simulator.trace import Broken, clock_time

SCHEDULE_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
LONGEST_RETRY_AFTER_SECONDS = 86_400
SKEW_SECONDS = 4.1  # between the clocks of two processes, and what rounding takes
LATE_SECONDS = 180.0  # in calm weather a retry waits no longer than that for a worker that is free
OUTAGE_SECONDS = 400.0  # the longest
IDLE_SECONDS = 600.0  # what breaks a connection may show in the next call only
SAFE_TO_REPEAT = frozenset({425, 429, 503})
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520})
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
LOSES_ANSWERS = frozenset(
    {Kind.CRASH, Kind.STALL, Kind.SQS_REFUSES, Kind.SQS_UNREACHABLE, Kind.SQS_PARTIAL, Kind.SQS_REPLY_LOST}
)
LOSES_MESSAGES = frozenset({Kind.SQS_OUTAGE, Kind.PURGED})
CHANGES = frozenset(
    {
        ("new", "pending"),
        ("new", "sending"),
        ("pending", "sending"),
        ("sending", "pending"),
        ("sending", "delivered"),
        ("sending", "failed"),
        ("sending", "unknown"),
        # Late truth
        ("unknown", "delivered"),
        ("unknown", "failed"),
        ("pending", "delivered"),
        ("pending", "failed"),
    }
)


class Facts:
    """The evidence of one run, sorted by delivery."""

    def __init__(self, evidence: RunEvidence) -> None:
        self.evidence = evidence
        self.rows: dict[str, Mapping[str, Any]] = {str(row["delivery_id"]): row for row in evidence.deliveries}

    @cached_property
    def attempts(self) -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
        """The attempt log, by delivery and number."""
        found: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for row in self.evidence.attempts:
            found[str(row["delivery_id"])][row["number"]] = row
        return found

    @cached_property
    def arrivals(self) -> Mapping[str, Sequence[Arrival]]:
        """What reached the partner, by delivery, in the order of the attempts."""
        by_key = {(str(row["destination_id"]), row["idempotency_key"]): name for name, row in self.rows.items()}
        found: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in self.evidence.arrivals:
            found[by_key.get((arrival.destination, arrival.key), "no delivery")].append(arrival)
        return {name: sorted(each, key=lambda arrival: (arrival.number, arrival.at)) for name, each in found.items()}

    @cached_property
    def records(self) -> Mapping[tuple[str, int], Sequence[RecordRun]]:
        """What was recorded, by delivery and number."""
        found: dict[tuple[str, int], list[RecordRun]] = defaultdict(list)
        for record in self.evidence.records:
            found[(record.delivery, record.number)].append(record)
        return found

    @cached_property
    def incidents(self) -> bool:
        """Whether something happened to everybody."""
        return any(fault.kind in INCIDENTS for fault in self.evidence.faults)

    def repeats(self, delivery: str) -> str:
        """The rule of docs/api.md for this delivery: "always", "when answered" or "when not processed"."""
        row = self.rows[delivery]
        target = BY_ID[str(row["destination_id"])]
        match target.guarantee.value:
            case "at_least_once":
                return "always"
            case "at_most_once":
                return "when not processed"
        return "always" if target.idempotent or row["method"] in IDEMPOTENT_METHODS else "when answered"

    def explained(self, process: str | None, *, since: float, until: float) -> bool:
        """Whether a fault struck that process in this time, or something happened to everybody."""
        return any(
            since <= fault.at <= until and (fault.process == process or fault.kind in INCIDENTS)
            for fault in self.evidence.faults
        )


def nothing_is_lost(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md: every committed row has a message, whatever crashes; so everything accepted ends, once
    faults stop, and nothing is left in the queue. An operator is needed only after a purge and for dead letters."""
    if facts.evidence.ended != "at rest":
        yield Broken(promise="everything ends", text=facts.evidence.ended)
    for delivery, row in facts.rows.items():
        if row["state"] in ("pending", "sending"):
            left = "has a message" if delivery in facts.evidence.waiting else "has no message"
            yield _broken("everything ends", f"it is {row['state']} when all is at rest, and {left}", delivery)
    for delivery in facts.evidence.waiting:
        yield _broken("everything ends", "a message is left that nobody receives", delivery)


def what_was_accepted_exists(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "Calls": a caller who got a 202, or a result, finds the delivery."""
    for told in facts.evidence.told:
        if told.delivery is not None and told.delivery not in facts.rows:
            yield _broken("accepted is accepted", f"{told.caller} was told: {told.how}; there is no row", told.delivery)


def at_most_once(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "What is never sent twice": what may have been done is not sent again, unless the guarantee says
    that it may be."""
    for delivery, first, second in _repeats(facts):
        rule = facts.repeats(delivery)
        if rule == "when not processed" and not _not_processed(first):
            yield _broken("at most once", _repeated(first, second), delivery)
        if rule == "when answered" and not (first.refused or (first.heard and first.status in RETRIED)):
            yield _broken("not after an open outcome", _repeated(first, second), delivery)
    for delivery, arrivals in facts.arrivals.items():
        acted = sum(arrival.acted for arrival in arrivals)
        if acted > 1 and delivery in facts.rows and facts.repeats(delivery) == "when not processed":
            yield _broken("at most once", f"the partner did it {acted} times", delivery)


def repeats_are_explained(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md: a request whose answer arrived is sent again only where a fault lost that answer."""
    for delivery, first, second in _repeats(facts):
        final = first.heard and first.status not in RETRIED and not first.refused
        if final and not facts.explained(first.process, since=first.at, until=second.at):
            yield _broken("repeats are explained", f"{_repeated(first, second)}; nothing had gone wrong", delivery)


def every_attempt_is_the_same(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: every attempt has the same key, and is the same request."""
    for delivery, arrivals in facts.arrivals.items():
        if delivery not in facts.rows:
            yield Broken(promise="the same key", text=f"a request with key {arrivals[0].key} belongs to no delivery")
            continue
        row = facts.rows[delivery]
        wanted = (row["method"], row["path"], bytes(row["body"] or b""))
        for arrival in arrivals:
            method, url, body = arrival.request
            if (method, url.partition("//")[2].partition("/")[2], body) != (wanted[0], wanted[1][1:], wanted[2]):
                yield _broken("the same request", f"attempt {arrival.number} is {method} {url}", delivery)


def arrivals_are_logged(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: every attempt is logged with its outcome; what was sent is never logged as not sent, and an answer
    that arrived is lost only by a fault."""
    for delivery, arrivals in facts.arrivals.items():
        for arrival in arrivals:
            attempt = facts.attempts.get(delivery, {}).get(arrival.number)
            if attempt is None:
                yield _broken(
                    "arrivals are logged", f"attempt {arrival.number} arrived and is not in the log", delivery
                )
            elif not arrival.refused and attempt["outcome"] in ("unreachable", "refused"):
                text = f"attempt {arrival.number} arrived and is logged as {attempt['outcome']}"
                yield _broken("arrivals are logged", text, delivery)
            elif arrival.heard and attempt["status"] != arrival.status and not _lost(facts, arrival):
                text = f"attempt {arrival.number} was answered {arrival.status}, logged is {attempt['outcome']}"
                yield _broken("answers are logged", text, delivery)


def no_attempt_too_many(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "When it is tried again": ten attempts, one for a call that is passed through; the numbers in the
    row and in the log are those of the attempts that were made."""
    for delivery, row in facts.rows.items():
        numbers = sorted(facts.attempts.get(delivery, {}))
        sent = {arrival.number for arrival in facts.arrivals.get(delivery, ())}
        if max(len(sent), row["attempts_made"]) > row["attempts_allowed"]:
            text = f"{row['attempts_made']} attempts, {row['attempts_allowed']} allowed"
            yield _broken("no attempt too many", text, delivery)
        if row["state"] not in ("pending", "sending") and numbers != list(range(1, row["attempts_made"] + 1)):
            text = f"the row counts {row['attempts_made']} attempts, the log has the numbers {numbers}"
            yield _broken("numbers agree", text, delivery)


def states_agree_with_the_log(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "Deliveries and what becomes of them": what a final state means is what the last attempt says."""
    for delivery, row in facts.rows.items():
        last = facts.attempts.get(delivery, {}).get(row["attempts_made"])
        if last is None or row["state"] in ("pending", "sending"):
            continue
        delivered = last["outcome"] == "answered" and 200 <= last["status"] < 300
        if delivered != (row["state"] == "delivered"):
            text = f"it is {row['state']}, and the last attempt was {last['outcome']} {last['status'] or ''}".rstrip()
            yield _broken("states agree with the log", text, delivery)
        if row["state"] == "failed" and last["outcome"] == "unknown":
            yield _broken("states agree with the log", "it is failed, and the last outcome is unknown", delivery)


def states_only_move_on(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: a final state is final, but for an unknown one whose true outcome comes late."""
    for at, delivery, before, after in facts.evidence.changes:
        if (before, after) not in CHANGES:
            yield _broken("a final state is final", f"{before} became {after} at {at:.3f} s", delivery)


def told_is_told(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: who was told `delivered` or `failed` never reads otherwise. One exception: a waiting caller is told
    the partner's answer even while the database is away, and a fault may lose what it was told."""
    for delivery, tells in _by_delivery(facts.evidence.told).items():
        final = [told for told in tells if told.state in ("delivered", "failed")]
        for told in final:
            later = [other for other in tells if other.asked_at >= told.at and other.state not in (None, told.state)]
            state = facts.rows.get(delivery, {}).get("state")
            others = [*(str(other.state) for other in later), *([state] if state != told.state else [])]
            if others and not _own_words(facts, told):
                yield _broken("told is told", f"{told.caller} was told {told.state}, later it is {others[0]}", delivery)


def keys_are_kept(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "Idempotency keys": one delivery for a key of a tenant, the same answer to the same request, and a
    422 to another one."""
    for (tenant, key), tells in _by_key(facts.evidence.told).items():
        named = {told.delivery for told in tells if told.delivery is not None}
        rows = [
            name for name, row in facts.rows.items() if (str(row["tenant_id"]), row["idempotency_key"]) == (tenant, key)
        ]
        if len(named | set(rows)) > 1:
            yield Broken(promise="one delivery for a key", text=f"{key}: {', '.join(sorted(named | set(rows)))}")
        for told in tells:
            if told.delivery in facts.rows and (told.how == "key reused") != _differs(told, facts.rows[told.delivery]):
                yield _broken("the same answer for a key", f"{told.caller} was told: {told.how}", told.delivery)
    for delivery, tells in _by_delivery(facts.evidence.told).items():
        recorded = [told for told in tells if told.state == "delivered" and not _own_words(facts, told)]
        statuses = {told.status for told in recorded if told.status is not None}
        if len(statuses) > 1:
            yield _broken("the same answer for a key", f"callers were told {sorted(statuses)}", delivery)


def retries_keep_their_schedule(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "When it is tried again": the delays with their jitter, a longer `Retry-After` up to 24 hours, and
    nothing before its time."""
    for (delivery, number), records in facts.records.items():
        for record in records:
            if record.next_due_at is not None and delivery in facts.rows:
                yield from _within_bounds(facts, record)
        due = [record.next_due_at for record in records if record.moved and record.next_due_at is not None]
        following = [arrival for arrival in facts.arrivals.get(delivery, ()) if arrival.number == number + 1]
        if due and following and following[0].at < min(due) - SKEW_SECONDS:
            text = f"attempt {number + 1} arrived at {following[0].at:.3f} s, due at {min(due):.3f} s"
            yield _broken("retries keep their schedule", text, delivery)
        if due and following and not facts.evidence.faults and following[0].at > max(due) + LATE_SECONDS:
            text = f"attempt {number + 1} arrived {following[0].at - max(due):.0f} s late, and nothing had gone wrong"
            yield _broken("retries keep their schedule", text, delivery)


def _within_bounds(facts: Facts, record: RecordRun) -> Iterator[Broken]:
    delay = SCHEDULE_SECONDS[min(record.number, len(SCHEDULE_SECONDS) - 1)]
    asked = _asked(facts, record)
    assert record.next_due_at is not None
    earliest = record.started_at + max(delay * (1 - JITTER), asked - SKEW_SECONDS)  # a date is by the partner's clock
    latest = record.at + SKEW_SECONDS + max(delay * (1 + JITTER), asked)
    if not earliest - 0.01 <= record.next_due_at <= latest:
        text = (
            f"attempt {record.number + 1} is due at {record.next_due_at:.1f} s, not in {earliest:.1f} to {latest:.1f} s"
        )
        yield _broken("retries keep their schedule", text, record.delivery)


def _asked(facts: Facts, record: RecordRun) -> float:
    """What the answer of that attempt asked for, 0 for nothing."""
    if record.outcome != "answered":
        return 0.0
    arrivals = [arrival for arrival in facts.arrivals.get(record.delivery, ()) if arrival.number == record.number]
    asked = [arrival.retry_after_seconds for arrival in arrivals if arrival.retry_after_seconds is not None]
    return min(float(LONGEST_RETRY_AFTER_SECONDS), max(asked, default=0.0))


def statements_stay_few(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md: one statement to accept, two for a batch, three where outcomes are recorded early; one more
    for outcomes that a wake-up carried. Faults cost more."""
    if facts.incidents:
        return
    for invocation in facts.evidence.invocations:
        if invocation.faults == 0 and invocation.result == "returned" and not _few(invocation):
            ran = ", ".join(f"{count} {name}" for name, count in sorted(invocation.statements.items()))
            text = f"{invocation.process} ran {ran} for one {invocation.what}, and nothing had gone wrong"
            yield Broken(promise="statements stay few", text=text)


def _few(invocation: Invocation) -> bool:
    ran = invocation.statements
    match invocation.what:
        case "accept":
            return ran == {"accept": 1}
        case "deliver":
            return ran["accept"] == 1 and ran["record"] <= 1 and ran["claim"] == 0
        case "batch":
            return ran["claim"] <= 1 and ran["record"] <= 1 + invocation.early + invocation.carried
    return True


def nothing_is_misused(facts: Facts) -> Iterator[Broken]:
    """No call breaks the rules of SQS, no transaction is open over a network call, and the API never answers 500."""
    for text in dict.fromkeys(facts.evidence.misuse):
        yield Broken(promise="nothing is misused", text=text)


def counts_are_right(facts: Facts) -> Iterator[Broken]:
    """docs/running.md: the metrics count what happened; a crash may lose some, so this looks at runs without one."""
    if facts.evidence.faults or facts.evidence.ended != "at rest":
        return
    expected = Counter(
        {
            "DeliveriesAccepted": len(facts.rows),
            **{f"Attempts{outcome.capitalize()}": count for outcome, count in _outcomes(facts).items()},
            **{f"Deliveries{state.capitalize()}": count for state, count in _states(facts).items()},
        }
    )
    counted = Counter({name: count for name, count in facts.evidence.counts.items() if name != "DeliveryFaults"})
    if counted != expected:
        wrong = sorted(name for name in counted | expected if counted[name] != expected[name])
        text = "; ".join(f"{name} is {counted[name]}, {expected[name]} happened" for name in wrong)
        yield Broken(promise="counts are right", text=text)


PROMISES: Sequence[Callable[[Facts], Iterator[Broken]]] = (
    nothing_is_lost,
    what_was_accepted_exists,
    at_most_once,
    repeats_are_explained,
    every_attempt_is_the_same,
    arrivals_are_logged,
    no_attempt_too_many,
    states_agree_with_the_log,
    states_only_move_on,
    told_is_told,
    keys_are_kept,
    retries_keep_their_schedule,
    statements_stay_few,
    nothing_is_misused,
    counts_are_right,
)


def broken_promises(evidence: RunEvidence) -> Iterator[Broken]:
    """All that did not hold."""
    facts = Facts(evidence)
    for promise in PROMISES:
        yield from promise(facts)


# ---- What several of them use


def _repeats(facts: Facts) -> Iterator[tuple[str, Arrival, Arrival]]:
    """Each two arrivals of a delivery that follow one another. The two of one attempt are no repeat of ours: the client
    sends once more over a new connection where a reused one was dead, if the request may be repeated."""
    for delivery, arrivals in facts.arrivals.items():
        if delivery in facts.rows:
            for first, second in pairwise(arrivals):
                if not (second.number == first.number and facts.repeats(delivery) == "always"):
                    yield delivery, first, second


def _not_processed(arrival: Arrival) -> bool:
    return arrival.refused or (arrival.heard and arrival.status in SAFE_TO_REPEAT and not arrival.acted)


def _repeated(first: Arrival, second: Arrival) -> str:
    heard = f"its answer {first.status} came back" if first.heard else "no answer came back"
    times = [clock_time(arrival.at) for arrival in (first, second)]
    return f"attempt {first.number} arrived at {times[0]} and {heard}; attempt {second.number} arrived at {times[1]}"


def _lost(facts: Facts, arrival: Arrival) -> bool:
    """Whether a fault explains that an answer is not in the log. "An unavailable database alone does not cause that"
    (docs/api.md): only what happens to the process itself, or to the queue as well."""
    return any(
        (fault.at >= arrival.at and fault.process == arrival.process and fault.kind in LOSES_ANSWERS)
        or (fault.at >= arrival.at - OUTAGE_SECONDS and fault.kind in LOSES_MESSAGES)
        for fault in facts.evidence.faults
    )


def _own_words(facts: Facts, told: Told) -> bool:
    """Whether this was the answer of the process that made the attempt, which it could not record before it told: then
    the outcome travels in a wake-up, and what happens to that may lose it."""
    recorded = any(
        record.delivery == told.delivery and record.process == told.process and record.moved and record.at <= told.at
        for record in facts.evidence.records
    )
    return (
        told.how == "ended"
        and not recorded
        and facts.explained(told.process, since=told.asked_at - IDLE_SECONDS, until=told.at)
    )


def _by_delivery(told: Sequence[Told]) -> Mapping[str, Sequence[Told]]:
    found: dict[str, list[Told]] = defaultdict(list)
    for each in told:
        if each.delivery is not None and each.state is not None:
            found[each.delivery].append(each)
    return found


def _by_key(told: Sequence[Told]) -> Mapping[tuple[str, str], Sequence[Told]]:
    found: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for each in told:
        if each.key is not None and each.how != "read":
            found[(each.tenant, each.key)].append(each)
    return found


def _differs(told: Told, row: Mapping[str, Any]) -> bool:
    """Whether the caller's request is not that of the row. A destination must be named in the same way."""
    assert told.request is not None
    return (*told.request, told.destination) != (
        row["method"],
        row["path"],
        bytes(row["body"] or b""),
        _named(told, row),
    )


def _named(told: Told, row: Mapping[str, Any]) -> str:
    """How the first caller named the destination: what is stored of that is only in the fingerprint."""
    target = next(each for each in DESTINATIONS if each.destination_id == row["destination_id"])
    for name in (target.name, str(target.destination_id)):
        body, stored = bytes(row["body"] or b""), bytes(row["fingerprint"])
        if (
            fingerprint(destination=name, method=row["method"], path=row["path"], query=row["query"], body=body)
            == stored
        ):
            return name
    return f"not {told.destination}"


def _outcomes(facts: Facts) -> Mapping[str, int]:
    return Counter(row["outcome"] for row in facts.evidence.attempts)


def _states(facts: Facts) -> Mapping[str, int]:
    return Counter(row["state"] for row in facts.evidence.deliveries)


def _broken(promise: str, text: str, delivery: str) -> Broken:
    return Broken(promise=promise, text=text, delivery=delivery)

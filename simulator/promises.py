"""The promises: what must hold after every run, whatever went wrong in it.

Each function is one promise, named in its docstring as the documents name it. It looks at what the models saw (what
arrived at partners, what callers were told) and at the rows, never at what the code says of itself, and yields one
Broken for each time that the promise did not hold. The numbers of the schedule are written down here a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from domain.deliveries import fingerprint
from simulator.evidence import Arrival, BankAct, Invocation, RecordRun, RunEvidence, Told
from simulator.faults import Kind, Seam
from simulator.promises_of_events import PROMISES_OF_EVENTS
from simulator.promises_of_jobs import PROMISES_OF_JOBS
from simulator.promises_of_proposals import PROMISES_OF_PROPOSALS
from simulator.promises_of_questions import (
    absence_waits,
    questions_are_no_attempts,
    questions_end,
    verdicts_are_the_partners,
    verdicts_are_true,
)
from simulator.setting import BY_ID, DESTINATIONS
from simulator.trace import Broken, clock_time
from simulator.world import EPOCH, STALLS_SECONDS

SCHEDULE_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
ROUNDING = 1e-4  # of an attempt
LONGEST_RETRY_AFTER_SECONDS = 86_400
LAPSE_SECONDS = 30.0  # an attempt whose worker was lost is repeated no sooner
SKEW_SECONDS = 4.1  # between the clocks of two processes, and what rounding takes
LATE_SECONDS = 180.0  # in calm weather a retry waits no longer than that for a worker that is free
LONGEST_OUTAGE_SECONDS = 400.0
LONGEST_HOP_SECONDS = 900
WATCHED_SECONDS = 3.0  # who waits for a worker's result hears of it so soon
SAFE_TO_REPEAT = frozenset({425, 429, 503})
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520})
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
REFUSES_MESSAGES = frozenset({Kind.SQS_REFUSES, Kind.SQS_UNREACHABLE, Kind.SQS_PARTIAL, Kind.SQS_REPLY_LOST})
_STORED = ("new", "pending")
UNFINISHED = frozenset({"pending", "sending"})
# A stall may outlast the time that a statement has.
FAILS_STATEMENTS = frozenset({*Seam.CONNECT.value, *Seam.STATEMENT.value, *Seam.ROWS.value, Kind.CLOSED_WHILE_IDLE})
DATABASE_AWAY = frozenset({Kind.OUTAGE, Kind.PAUSED, Kind.FAILOVER})
HOLDS_UP = frozenset({Kind.CRASH, Kind.STALL, Kind.SQS_OUTAGE}) | REFUSES_MESSAGES
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
        # Somebody canceled it; nothing follows
        ("pending", "canceled"),
    }
)

BY_HAND = frozenset({("unknown", "pending"), ("failed", "pending")})


class Facts:
    """The evidence of one run, sorted by delivery."""

    def __init__(self, evidence: RunEvidence) -> None:
        self.evidence = evidence
        self.rows: dict[str, Mapping[str, Any]] = {str(row["delivery_id"]): row for row in evidence.deliveries}

    @cached_property
    def by_key(self) -> Mapping[tuple[str, str], str]:
        """Deliveries, by destination and idempotency key."""
        return {(str(row["destination_id"]), row["idempotency_key"]): name for name, row in self.rows.items()}

    @cached_property
    def bank_acts(self) -> Mapping[str, Sequence[BankAct]]:
        """What banks carried out, by delivery."""
        found: dict[str, list[BankAct]] = defaultdict(list)
        for act in self.evidence.bank_acts:
            found[self.by_key.get((act.destination, act.key), "no delivery")].append(act)
        return found

    @cached_property
    def sends(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The attempts to send in the log, without questions, by delivery and in their order."""
        return {
            name: [row for _, row in sorted(rows.items()) if row["kind"] == "send"]
            for name, rows in self.attempts.items()
        }

    def lives(self, process: str, *, at: float) -> bool:
        """Whether it ran then, and ended in its own time."""
        made = self.invocation(process, at=at)
        return made is not None and made.result not in ("crashed", "timed out", "running")

    @cached_property
    def lapses(self) -> Set[tuple[str, int]]:
        """The attempts that were found lapsed."""
        return {(lapse.delivery, lapse.number) for lapse in self.evidence.lapses}

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
        found: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in self.evidence.arrivals:
            found[self.by_key.get((arrival.destination, arrival.key), "no delivery")].append(arrival)
        return {name: sorted(each, key=lambda arrival: (arrival.number, arrival.at)) for name, each in found.items()}

    @cached_property
    def records(self) -> Mapping[tuple[str, int], Sequence[RecordRun]]:
        """What was recorded, by delivery and number."""
        found: dict[tuple[str, int], list[RecordRun]] = defaultdict(list)
        for record in self.evidence.records:
            found[(record.delivery, record.number)].append(record)
        return found

    def names(self, arrival: Arrival) -> Sequence[str]:
        """The delivery that it belongs to."""
        known = (arrival.destination, arrival.key)
        return [
            name for name, row in self.rows.items() if (str(row["destination_id"]), row["idempotency_key"]) == known
        ]

    def wanted_again(self, delivery: str, *, since: float, until: float) -> bool:
        """Whether somebody wanted one more attempt of it in this time, or its partner said that it has nothing: then a
        repeat is theirs."""
        return any(since <= at <= until for at in (*self.evidence.again.get(delivery, ()), *self._asked_for(delivery)))

    def _asked_for(self, delivery: str) -> Iterator[float]:
        for verdict in self.evidence.verdicts:
            if verdict.delivery == delivery and verdict.becomes == "pending":
                yield verdict.at

    def tenant(self, delivery: str) -> str:
        """Whose it is."""
        return str(self.rows[delivery]["tenant_id"])

    @cached_property
    def states(self) -> Mapping[str, Sequence[tuple[float, str]]]:
        """The states that each delivery had, with the moment from which on."""
        found: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for at, delivery, _, after in self.evidence.changes:
            found[delivery].append((at, after))
        return found

    def calm(self, process: str | None, *, at: float) -> bool:
        """Whether nothing went wrong in the invocation of that process that ran then, nor for everybody meanwhile."""
        made = self.invocation(process, at=at)
        return (
            made is not None
            and made.faults == 0
            and made.result == "returned"
            and not self.away(made, DATABASE_AWAY | {Kind.SQS_OUTAGE})
        )

    def away(self, made: Invocation, kinds: Set[Kind]) -> bool:
        """Whether one of these may have been going on while that invocation ran."""
        until = made.ended_at or float("inf")
        return any(
            fault.kind in kinds and made.began_at - LONGEST_OUTAGE_SECONDS <= fault.at <= until
            for fault in self.evidence.faults
        )

    def invocation(self, process: str | None, *, at: float) -> Invocation | None:
        """The one of that process that ran at that moment."""
        return next(
            (
                made
                for made in self.evidence.invocations
                if made.process == process and made.began_at <= at <= (made.ended_at or float("inf"))
            ),
            None,
        )

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

    def hours(self, delivery: str) -> bool:
        """Whether its destination has sending windows."""
        return bool(BY_ID[str(self.rows[delivery]["destination_id"])].options.windows)

    def held(self, delivery: str, *, at: float) -> bool:
        """Whether its destination was paused or disabled then."""
        destination = str(self.rows[delivery]["destination_id"])
        states = [
            becomes for moved_at, moved, becomes in self.evidence.moves if moved == destination and moved_at <= at
        ]
        return states[-1:] not in ([], ["active"])

    def message_lost(self, process: str | None, *, since: float, until: float) -> bool:
        """Whether a message of that process may not have been accepted in this time, or was purged after it."""
        return any(
            (
                since <= fault.at
                and (
                    fault.kind is Kind.PURGED
                    or (fault.at <= until and fault.kind in REFUSES_MESSAGES and fault.process == process)
                )
            )
            or (fault.kind is Kind.SQS_OUTAGE and since - LONGEST_OUTAGE_SECONDS <= fault.at <= until)
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
    for delivery in facts.evidence.missed:
        yield _broken("everything ends", "an operator's round left it out", delivery)


def what_was_accepted_exists(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "Calls": a caller who got a 202, or a result, finds the delivery."""
    for told in facts.evidence.told:
        if told.delivery is not None and told.delivery not in facts.rows:
            yield _broken("accepted is accepted", f"{told.caller} was told: {told.how}; there is no row", told.delivery)
        if told.how == "not found" and told.delivery in facts.rows and facts.tenant(told.delivery) == told.tenant:
            yield _broken("accepted is accepted", f"{told.caller} did not find it", told.delivery)
        if told.how == "listed":
            yield from _left_out(facts, told)


def _left_out(facts: Facts, listed: Told) -> Iterator[Broken]:
    for told in facts.evidence.told:
        name = told.delivery or ""
        earlier = name in facts.rows and told.at <= listed.asked_at
        if earlier and facts.tenant(name) == listed.tenant and name not in listed.listed:
            yield _broken("accepted is accepted", f"it is not in the list of {listed.caller}", name)


def tenants_are_apart(facts: Facts) -> Iterator[Broken]:
    """docs/people-and-database.md: nobody is told anything of another tenant's deliveries."""
    for told in facts.evidence.told:
        shown = [*told.listed, *([told.delivery] if told.delivery is not None and told.how != "not found" else [])]
        for delivery in shown:
            if delivery in facts.rows and facts.tenant(delivery) != told.tenant:
                yield _broken("tenants are apart", f"{told.caller}, of another tenant, was told: {told.how}", delivery)


def what_is_sent_again_is_sent(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: whoever was told that a delivery is attempted once more gets another attempt under the same key, or
    the outcome of an earlier one comes first."""
    for at, delivery in facts.evidence.repeated:
        called_at = max(moment for moment in facts.evidence.again[delivery] if moment <= at)
        begun = any(when >= called_at and state == "sending" for when, state in facts.states.get(delivery, ()))
        ended = any(
            when >= called_at and state in ("delivered", "failed", "canceled")
            for when, state in facts.states.get(delivery, ())
        )
        if not (begun or ended):
            yield _broken(
                "what is sent again is sent", f"it was to be attempted once more from {at:.3f} s on", delivery
            )


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
        if (
            acted > 1 + len(facts.evidence.again.get(delivery, ()))
            and delivery in facts.rows
            and facts.repeats(delivery) == "when not processed"
        ):
            yield _broken("at most once", f"the partner did it {acted} times", delivery)


def repeats_are_explained(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md: a request whose answer arrived is sent again only where a fault lost that answer."""
    for delivery, first, second in _repeats(facts):
        final = first.heard and first.status not in RETRIED and not first.refused
        if final and not (_lost(facts, first) or _held_up(facts, first, delivery, until=second.at)):
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
            elif arrival.heard and not _stored(attempt, arrival):
                yield _broken("answers are logged", f"attempt {arrival.number} is logged with another answer", delivery)
    yield from _records_are_logged(facts)


def _stored(attempt: Mapping[str, Any], arrival: Arrival) -> bool:
    """Whether the body in the log is that of the answer; less than all of it is marked."""
    body = bytes(attempt.get("response_body") or b"")
    return attempt["status"] is None or body == arrival.body or (bool(attempt["response_truncated"]) and not body)


def _records_are_logged(facts: Facts) -> Iterator[Broken]:
    """What a statement recorded stays, whatever went wrong; only an unknown outcome gives way to one that is known."""
    for (delivery, number), records in facts.records.items():
        known = {(record.outcome, record.status) for record in records if record.outcome != "unknown"}
        attempt = facts.attempts.get(delivery, {}).get(number)
        if known and attempt is not None and (attempt["outcome"], attempt["status"]) not in known:
            text = f"attempt {number} was recorded as one of {sorted(map(str, known))}, logged is {attempt['outcome']}"
            yield _broken("answers are logged", text, delivery)


def no_attempt_too_many(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "When it is tried again": ten attempts, one for a call that is passed through; the numbers in the
    row and in the log are those of the attempts that were made."""
    for delivery, row in facts.rows.items():
        sends = facts.sends.get(delivery, ())
        sent = {arrival.number for arrival in facts.arrivals.get(delivery, ())}
        if max(len(sent), row["attempts_made"]) > row["attempts_allowed"]:
            text = f"{row['attempts_made']} attempts, {row['attempts_allowed']} allowed"
            yield _broken("no attempt too many", text, delivery)
        if row["state"] not in ("pending", "sending") and not _numbers_agree(facts, row):
            numbers = [attempt["number"] for attempt in sends]
            text = f"the row counts {row['attempts_made']} attempts, the log has the numbers {numbers}"
            yield _broken("numbers agree", text, delivery)


def _numbers_agree(facts: Facts, row: Mapping[str, Any]) -> bool:
    """Questions have numbers of their own between those of attempts; one whose worker stopped is not in the log."""
    numbers = [attempt["number"] for attempt in facts.sends.get(str(row["delivery_id"]), ())]
    if not row["questions_made"]:
        return numbers == list(range(1, row["attempts_made"] + 1))
    last = max(facts.attempts.get(str(row["delivery_id"]), {}), default=0)
    return bool(len(numbers) == row["attempts_made"] and last <= row["attempts_made"] + row["questions_made"])


def states_agree_with_the_log(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "Deliveries and what becomes of them": what a final state means is what the last attempt says."""
    for delivery, row in facts.rows.items():
        last = next(iter(facts.sends.get(delivery, ())[-1:]), None)
        if last is None or row["state"] in ("pending", "sending") or delivery in facts.evidence.resolved:
            continue
        if (verdict := _final_verdict(facts, delivery)) is not None:
            if row["state"] != verdict:
                yield _broken(
                    "states agree with the log", f"its partner said {verdict}, it is {row['state']}", delivery
                )
            continue
        if row["state"] not in _meant(facts, row, last):
            text = f"it is {row['state']}, and the last attempt was {last['outcome']} {last['status'] or ''}".rstrip()
            yield _broken("states agree with the log", text, delivery)
        if row["finished_at"] is None:
            yield _broken("states agree with the log", f"it is {row['state']}, and nothing says since when", delivery)


def _final_verdict(facts: Facts, delivery: str) -> str | None:
    """How its partner's word ended it; None where it did not, or the delivery was sent again after that."""
    final = [verdict for verdict in facts.evidence.verdicts if verdict.delivery == delivery][-1:]
    if not final or final[0].becomes == "pending":
        return None
    went_on = any(at > final[0].at for at, _ in facts.states.get(delivery, ()))
    return None if went_on else final[0].becomes


def _meant(facts: Facts, row: Mapping[str, Any], last: Mapping[str, Any]) -> frozenset[str]:
    """The states in which a delivery may end with that last attempt; none where it is to be tried again. What would be
    tried again, and came when the outcome had been recorded as unknown, changes only the attempt. The success of an
    earlier attempt counts whenever it comes, but that a failure is final."""
    delivery = str(row["delivery_id"])
    if _succeeded_before(facts, row):
        return frozenset({"delivered"})
    late = {"delivered"} if delivery in facts.evidence.again and _succeeded_ever(facts, row) else set()
    rule, left = facts.repeats(delivery), row["attempts_made"] < row["attempts_allowed"]
    judged = _judged(last["outcome"], last["status"], rule=rule, left=left)
    lapsed = any(
        record.moved and record.outcome == "unknown" for record in facts.records.get((delivery, last["number"]), ())
    )
    if judged == "again":
        return frozenset({"unknown", *late}) if lapsed and last["outcome"] != "unknown" else frozenset(late)
    return frozenset({judged, *late})


def _succeeded_before(facts: Facts, row: Mapping[str, Any]) -> bool:
    """Whether an attempt before the last one succeeded, which was recorded before the delivery failed, if it did."""
    delivery = str(row["delivery_id"])
    failed_at = min((at for at, state in facts.states.get(delivery, ()) if state == "failed"), default=float("inf"))
    return any(
        record.at < failed_at and record.next_state == "delivered"
        for attempt in facts.sends.get(delivery, ())[:-1]
        for record in facts.records.get((delivery, attempt["number"]), ())
    )


def _succeeded_ever(facts: Facts, row: Mapping[str, Any]) -> bool:
    """Where it had failed, and is attempted once more, the success of an earlier attempt counts again."""
    return any(
        record.next_state == "delivered"
        for attempt in facts.sends.get(str(row["delivery_id"]), ())
        for record in facts.records.get((str(row["delivery_id"]), attempt["number"]), ())
    )


def _judged(outcome: str, status: int | None, *, rule: str, left: bool) -> str:
    """docs/api.md, "What is never sent twice" and "When it is tried again": what follows an attempt."""
    match outcome:
        case "refused":
            return "failed"
        case "unreachable":
            return "again" if left else "failed"
        case "unknown":
            return "again" if left and rule == "always" else "unknown"
    assert status is not None
    if 200 <= status < 300:
        return "delivered"
    if rule == "when not processed" and status in RETRIED - SAFE_TO_REPEAT:
        return "unknown"
    return "again" if left and status in RETRIED else "failed"


def states_only_move_on(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: a final state is final, but for an unknown one whose true outcome comes late."""
    for at, delivery, before, after in facts.evidence.changes:
        by_hand = (before, after) in BY_HAND and facts.wanted_again(delivery, since=0.0, until=at)
        if (before, after) not in CHANGES and not by_hand:
            yield _broken("a final state is final", f"{before} became {after} at {at:.3f} s", delivery)


def told_is_told(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: who was told `delivered` or `failed` never reads otherwise. One exception ("Waiting for the
    answer"): a waiting caller is told the partner's answer even if the database does not accept it. Then others read it
    once it is recorded; and never if the queue was unavailable too, or the message came too late to count."""
    for delivery, tells in _by_delivery(facts.evidence.told).items():
        again = delivery in facts.evidence.again  # what has failed is to be attempted once more, or may be
        final = [told for told in tells if told.state == "delivered" or (told.state == "failed" and not again)]
        for told in final:
            later = [other for other in tells if other.asked_at >= told.at and other.state not in (None, told.state)]
            if later and _recorded_at(facts, told) <= later[-1].asked_at:
                text = f"{told.caller} was told {told.state}, later it is {later[-1].state}"
                yield _broken("told is told", text, delivery)
            state = facts.rows.get(delivery, {}).get("state")
            resolved = delivery in facts.evidence.resolved and told.state != state and _made_it(facts, told)
            if state != told.state and not resolved and not (_own_words_lost(facts, told) or _overtaken(facts, told)):
                yield _broken(
                    "told is told", f"{told.caller} was told {told.state}, in the end it is {state}", delivery
                )
        for told in tells:
            yield from _was_so(facts, told, delivery)


def _was_so(facts: Facts, told: Told, delivery: str) -> Iterator[Broken]:
    """What a caller is told was so while it asked; what it waits for, it is told as soon as it is so."""
    assert told.state is not None
    states = facts.states.get(delivery, ())
    calm = told.waits and facts.calm(told.process, at=told.at)
    since = max(told.asked_at, told.at - WATCHED_SECONDS) if calm else told.asked_at
    if states and not _made_it(facts, told) and told.state not in _states_between(states, since, told.at):
        yield _broken(
            "told is told", f"{told.caller} was told {told.state} at {told.at:.3f} s, when it was not", delivery
        )
    if told.waits and told.how == "replayed" and told.state in ("pending", "sending"):
        yield _broken("told is told", f"{told.caller} asked for a result and was told {told.state}", delivery)
    bodies = {arrival.body for arrival in facts.arrivals.get(delivery, ()) if arrival.heard}
    if told.body and told.body not in bodies:
        yield _broken("told is told", f"{told.caller} was told an answer that is not its own", delivery)


def _made_it(facts: Facts, told: Told) -> bool:
    """Whether it is the word of the process that made the first attempt itself, which may be recorded later."""
    states = facts.states.get(told.delivery or "", ())
    leased_at_once = not states or states[0][1] == "sending"
    return told.waits and told.how in ("ended", "accepted") and leased_at_once


def _states_between(states: Sequence[tuple[float, str]], since: float, until: float) -> frozenset[str]:
    before = [state for at, state in states if at <= since][-1:]
    return frozenset([*before, *(state for at, state in states if since <= at <= until)])


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
        delivered = [told for told in tells if told.state == "delivered"]
        final = [told.status for told in delivered if not _made_it(facts, told) or _became_final(facts, told)]
        statuses = {status for status in final if status is not None}
        if len(statuses) > 1:
            yield _broken("the same answer for a key", f"callers were told {sorted(statuses)}", delivery)


def _became_final(facts: Facts, told: Told) -> bool:
    """Whether the delivery ended by the answer that a waiting caller was told. Where the database did not accept it
    before the lease was over ("Waiting for the answer"), another attempt may have ended it."""
    records = facts.records.get((told.delivery or "", 1), ())
    return any(record.moved and record.status == told.status for record in records)


def retries_keep_their_schedule(facts: Facts) -> Iterator[Broken]:
    """docs/api.md, "When it is tried again": the delays with their jitter, a longer `Retry-After` up to 24 hours, and
    nothing before its time."""
    for (delivery, number), records in facts.records.items():
        for record in records:
            if record.next_due_at is not None and not record.asks and delivery in facts.rows:
                yield from _within_bounds(facts, record)
        due = [record.next_due_at for record in records if record.moved and record.next_due_at is not None]
        following = [arrival for arrival in facts.arrivals.get(delivery, ()) if arrival.number == number + 1]
        hurried = facts.wanted_again(delivery, since=0.0, until=float("inf"))
        if due and following and following[0].at < min(due) - SKEW_SECONDS and not hurried:
            text = f"attempt {number + 1} arrived at {following[0].at:.3f} s, due at {min(due):.3f} s"
            yield _broken("retries keep their schedule", text, delivery)
        calm = not (facts.evidence.faults or facts.evidence.moves or facts.hours(delivery))
        if due and following and calm and following[0].at > max(due) + LATE_SECONDS:
            text = f"attempt {number + 1} arrived {following[0].at - max(due):.0f} s late, and nothing had gone wrong"
            yield _broken("retries keep their schedule", text, delivery)


def what_is_held_is_not_sent(facts: Facts) -> Iterator[Broken]:
    """docs/destinations.md: to a destination that is paused or disabled nothing is sent, from the moment on."""
    for begin in facts.evidence.begins:
        if begin.destination_state != "active":
            text = f"an attempt began at {begin.clock:.3f} s, when its destination was {begin.destination_state}"
            yield _broken("what is held is not sent", text, begin.delivery)


def sending_windows_are_kept(facts: Facts) -> Iterator[Broken]:
    """docs/limits.md, "Sending windows": an attempt begins within one, by the clock of the worker."""
    for begin in facts.evidence.begins:
        if BY_ID[begin.destination].options.windows and not _within_hours(begin.clock):
            at = EPOCH + timedelta(seconds=begin.clock)
            yield _broken("sending windows are kept", f"an attempt began at {at:%H:%M:%S} UTC", begin.delivery)


def _within_hours(clock: float) -> bool:
    """From 12:05 to 12:25 and from 18:00 to 03:00 (simulator/setting.py)."""
    minute = (EPOCH + timedelta(seconds=clock)).strftime("%H:%M")
    return "12:05" <= minute < "12:25" or minute >= "18:00" or minute < "03:00"


def a_key_keeps_its_order(facts: Facts) -> Iterator[Broken]:
    """docs/limits.md, "Ordering keys": all that were accepted before it with the same key have ended when an attempt of
    a delivery begins; where the destination does not skip failures, as delivered, or somebody has resolved them."""
    queues: dict[tuple[str, str], list[str]] = defaultdict(list)
    states: dict[str, str] = {}
    for at, delivery, before, after in facts.evidence.changes:
        row = facts.rows.get(delivery)
        if row is None or row["ordering_key"] is None:
            continue
        queue = queues[(str(row["destination_id"]), row["ordering_key"])]
        ordering = BY_ID[str(row["destination_id"])].options.ordering
        skips = ordering is not None and ordering.after_failure.value == "skip"
        if before == "new":
            queue.append(delivery)
        elif after == "pending" and before in ("failed", "unknown"):
            _take_place_again(queue, delivery, skips=skips, resolved=delivery in facts.evidence.resolved)
        states[delivery] = after
        if delivery not in queue:
            continue
        holding = {
            earlier
            for earlier in queue
            if states[earlier] in UNFINISHED
            or (not skips and states[earlier] != "delivered" and facts.evidence.resolved.get(earlier, at) >= at)
        }
        ahead = [earlier for earlier in queue[: queue.index(delivery)] if earlier in holding]
        if after == "sending" and ahead:
            text = f"an attempt began at {at:.3f} s, when {ahead[0]}, accepted before it, was {states[ahead[0]]}"
            yield _broken("an order is kept", text, delivery)


def _take_place_again(queue: list[str], delivery: str, *, skips: bool, resolved: bool) -> None:
    """Who gave up its place and is to be sent again is the last one now. Where somebody resolved it, or tried to, it
    may have had its place or not."""
    if delivery in queue and (skips or resolved):
        queue.remove(delivery)
    if skips:
        queue.append(delivery)


def a_rate_is_kept(facts: Facts) -> Iterator[Broken]:
    """docs/limits.md, "Rate and concurrency": within T seconds no more than `burst + rate * T` attempts begin. "The
    clocks of workers decide", so T is by them."""
    begun: dict[str, int] = defaultdict(int)
    fewest: dict[str, float] = {}  # the least that had begun before, less what the rate gave by then
    for begin in facts.evidence.begins:
        limits = BY_ID[begin.destination].options.limits
        if limits is None or limits.rate is None or limits.burst is None:
            continue
        place = begun[begin.destination] - limits.rate * begin.clock
        begun[begin.destination] += 1
        fewest[begin.destination] = min(place, fewest.get(begin.destination, place))
        if (above := place + 1 - fewest[begin.destination] - limits.burst) > ROUNDING:
            text = f"an attempt began at {begin.clock:.3f} s, {above:.3f} above what rate and burst allow"
            yield _broken("a rate is kept", text, begin.delivery)


def concurrency_is_kept(facts: Facts) -> Iterator[Broken]:
    """docs/limits.md, "Rate and concurrency": no more attempts are in progress at one time; the slots of a worker that
    crashed are free when its lease ends, by whatever clock."""
    for begin in facts.evidence.begins:
        limits = BY_ID[begin.destination].options.limits
        in_progress = 1 + sum(until > begin.clock + SKEW_SECONDS for until in begin.beside)
        if limits is not None and limits.concurrency is not None and in_progress > limits.concurrency:
            text = f"at {begin.clock:.3f} s {in_progress} attempts were in progress, {limits.concurrency} allowed"
            yield _broken("concurrency is kept", text, begin.delivery)


def a_breaker_is_kept(facts: Facts) -> Iterator[Broken]:
    """docs/limits.md, "Circuit breaker": while it is open nothing is sent, then one attempt at a time; both by the
    clocks of workers, and until a lease ends."""
    for begin in facts.evidence.begins:
        if begin.open_until is None:
            continue
        if begin.clock < begin.open_until:
            text = f"an attempt began at {begin.clock:.3f} s, and it was open until {begin.open_until:.3f} s"
            yield _broken("a breaker is kept", text, begin.delivery)
        if any(until > begin.clock + SKEW_SECONDS for until in begin.probing):
            text = f"an attempt began at {begin.clock:.3f} s, beside the one that it had let through"
            yield _broken("a breaker is kept", text, begin.delivery)


def nothing_is_early(facts: Facts) -> Iterator[Broken]:
    """docs/api.md: `not_before` delays the first attempt."""
    for told in facts.evidence.told:
        if told.how == "accepted" and told.not_before is not None and told.delivery is not None:
            for arrival in facts.arrivals.get(told.delivery, ()):
                hurried = facts.wanted_again(told.delivery, since=0.0, until=arrival.at)
                if arrival.at < told.not_before - SKEW_SECONDS and not hurried:
                    text = f"it arrived at {arrival.at:.3f} s, and was not to before {told.not_before:.3f} s"
                    yield _broken("not before its time", text, told.delivery)


def everything_is_woken_in_time(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md: each attempt that is due has a message that becomes visible then, not only one that finds
    it late; for a retry there is one before it is recorded, whatever happens after that. Faults of the queue may delay
    it, and what is due later than a message can wait hops. So may a host that stalls after a delay was computed and
    before the message is sent: SQS counts the delay from then. Where a rate is reached, it is due at its turn, which is
    no later than it takes to send all that the destination ever had."""
    queued = defaultdict(list)
    for delivery, visible_at in facts.evidence.queued:
        queued[delivery].append(visible_at)
    for delivery, due_at, latest in _dues(facts):
        if not any(-2 * SKEW_SECONDS <= at - due_at <= latest - due_at + 2 * SKEW_SECONDS for at in queued[delivery]):
            yield _broken("woken in time", f"it was due at {due_at:.1f} s, and no message was for then", delivery)
    for delivery, turn_at in facts.evidence.turns.items():
        if delivery in facts.rows and not facts.hours(delivery) and turn_at > (latest := _last_turn(facts, delivery)):
            yield _broken("woken in time", f"its turn was at {turn_at:.1f} s, not by {latest:.1f} s", delivery)


def _last_turn(facts: Facts, delivery: str) -> float:
    """When the rate of its destination has let all of its attempts go that there were in the run, and one more."""
    destination = facts.rows[delivery]["destination_id"]
    limits = BY_ID[str(destination)].options.limits
    assert limits is not None
    assert limits.rate is not None
    attempts: int = sum(row["attempts_made"] for row in facts.rows.values() if row["destination_id"] == destination)
    return facts.states[delivery][0][0] + (attempts + 1) / limits.rate + SKEW_SECONDS


def _dues(facts: Facts) -> Iterator[tuple[str, float, float]]:
    """Deliveries with the first and the last moment for which a message must have been queued."""
    for record in facts.evidence.records:
        due_at = record.next_due_at or record.ask_at
        direct = due_at is not None and due_at - record.at < LONGEST_HOP_SECONDS
        if due_at is not None and direct and record.moved and _queued_first(facts, record):
            yield record.delivery, due_at, max(due_at, record.at) + _stalled_seconds(facts, record)
    stored = {delivery: at for at, delivery, before, after in facts.evidence.changes if (before, after) == _STORED}
    for told in facts.evidence.told:
        at = stored.get(told.delivery or "")
        if told.how in ("accepted", "ended") and at is not None and facts.calm(told.process, at=told.at):
            if facts.held(str(told.delivery), at=at):
                continue  # it is woken when it is resumed
            due_at = max(at, told.not_before or 0.0, facts.evidence.turns.get(str(told.delivery), 0.0))
            if due_at - at < LONGEST_HOP_SECONDS:
                yield str(told.delivery), due_at, due_at


def _stalled_seconds(facts: Facts, record: RecordRun) -> float:
    """How long the process may have stood still between the verdict and the message, before it recorded."""
    longest = STALLS_SECONDS[-1]
    stalled = any(
        fault.kind is Kind.STALL and fault.process == record.process and 0 <= record.at - fault.at <= 2 * longest
        for fault in facts.evidence.faults
    )
    return longest if stalled else 0.0


def _queued_first(facts: Facts, record: RecordRun) -> bool:
    """Whether its retry must have been queued before: by the invocation that made the attempt, of a batch, while the
    queue accepted what that sent. A call of the API queues it afterwards, so in that nothing may have gone wrong."""
    made = facts.invocation(record.process, at=record.at)
    if made is None or made.carried or made.began_at - SKEW_SECONDS > record.started_at:
        return False
    if made.what != "batch":
        return facts.calm(record.process, at=record.at)
    return not facts.message_lost(record.process, since=made.began_at, until=record.at)


def a_lapse_waits_after_an_outage(facts: Facts) -> Iterator[Broken]:
    """docs/architecture.md, "When a part fails": a lapse that is found after an outage is recorded one lease later,
    because its outcome may be in another message."""
    for lapse in facts.evidence.lapses:
        made = facts.invocation(lapse.process, at=lapse.at)
        if made is None or lapse.delivery not in made.after_outage:
            continue
        until = made.ended_at or float("inf")
        for record in facts.records.get((lapse.delivery, lapse.number), ()):
            if record.process == lapse.process and lapse.at <= record.at <= until and record.outcome == "unknown":
                text = f"the lapse of attempt {lapse.number} was recorded at {record.at:.3f} s, just after an outage"
                yield _broken("a lapse waits", text, lapse.delivery)


def _within_bounds(facts: Facts, record: RecordRun) -> Iterator[Broken]:
    delay = SCHEDULE_SECONDS[min(record.sends, len(SCHEDULE_SECONDS) - 1)]
    asked = _asked(facts, record)
    assert record.next_due_at is not None
    earliest = record.started_at + max(delay * (1 - JITTER), asked - SKEW_SECONDS)  # a date is by the partner's clock
    lapsed = record.outcome == "unknown" and (record.delivery, record.number) in facts.lapses
    latest = record.at + SKEW_SECONDS + max(delay * (1 + JITTER), asked, LAPSE_SECONDS if lapsed else 0.0)
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
    """docs/architecture.md: one statement to accept, two for a batch; one more where outcomes are recorded early, one
    where attempts take long, and one for outcomes that wake-ups carried. Faults cost more."""
    for invocation in facts.evidence.invocations:
        calm = invocation.faults == 0 and invocation.result == "returned"
        if calm and not _few(invocation) and not facts.away(invocation, DATABASE_AWAY):
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
            few = ran["claim"] <= 1 and ran["note slow"] <= invocation.slow
            return few and ran["record"] <= 1 + invocation.early + invocation.carried
    return True


def nothing_is_misused(facts: Facts) -> Iterator[Broken]:
    """No call breaks the rules of SQS, no transaction is open over a network call, the API never answers 500, and
    nothing that goes wrong in a schedule raises what the code does not expect."""
    for text in dict.fromkeys(facts.evidence.misuse):
        yield Broken(promise="nothing is misused", text=text)
    if faults := facts.evidence.counts["DeliveryFaults"]:
        yield Broken(promise="nothing is misused", text=f"{faults} deliveries met a fault of ours (DeliveryFaults)")


def counts_are_right(facts: Facts) -> Iterator[Broken]:
    """docs/running.md: the metrics count what happened; a crash may lose some, so this looks at runs without one."""
    if facts.evidence.faults or _decided_by_hand(facts) or facts.evidence.ended != "at rest":
        return
    expected = Counter(
        {
            "DeliveriesAccepted": sum(not row.get("event") for row in facts.rows.values()),
            **{f"Attempts{outcome.capitalize()}": count for outcome, count in _outcomes(facts).items()},
            **{f"Deliveries{state.capitalize()}": count for state, count in _states(facts).items()},
            "QuestionsAsked": sum(row["kind"] == "reconcile" for row in facts.evidence.attempts),
            "DeliveriesReconciled": len(facts.evidence.verdicts),
        }
    )
    counts = facts.evidence.counts
    if counts != expected:
        wrong = sorted(name for name in counts | expected if counts[name] != expected[name])
        text = "; ".join(f"{name} is {counts[name]}, {expected[name]} happened" for name in wrong)
        yield Broken(promise="counts are right", text=text)


PROMISES: Sequence[Callable[[Facts], Iterator[Broken]]] = (
    nothing_is_lost,
    what_was_accepted_exists,
    tenants_are_apart,
    what_is_sent_again_is_sent,
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
    nothing_is_early,
    what_is_held_is_not_sent,
    sending_windows_are_kept,
    a_key_keeps_its_order,
    a_rate_is_kept,
    concurrency_is_kept,
    a_breaker_is_kept,
    everything_is_woken_in_time,
    a_lapse_waits_after_an_outage,
    statements_stay_few,
    nothing_is_misused,
    counts_are_right,
    verdicts_are_true,
    verdicts_are_the_partners,
    absence_waits,
    questions_end,
    questions_are_no_attempts,
    *PROMISES_OF_JOBS,
    *PROMISES_OF_EVENTS,
    *PROMISES_OF_PROPOSALS,
)


def broken_promises(evidence: RunEvidence) -> Iterator[Broken]:
    """All that did not hold."""
    facts = Facts(evidence)
    for promise in PROMISES:
        yield from promise(facts)


# ---- What several of them use


def _decided_by_hand(facts: Facts) -> bool:
    return bool(facts.evidence.resolved or facts.evidence.again or facts.evidence.jobs)


def _repeats(facts: Facts) -> Iterator[tuple[str, Arrival, Arrival]]:
    """Each two arrivals of a delivery that follow one another. The two of one attempt are no repeat of ours: the client
    sends once more over a new connection where a reused one was dead, if the request may be repeated."""
    for delivery, arrivals in facts.arrivals.items():
        if delivery in facts.rows:
            for first, second in pairwise(arrivals):
                own = second.number == first.number and facts.repeats(delivery) == "always"
                since = min(first.at, _begun_before(facts, delivery, until=second.at))  # it may arrive late
                if not (own or facts.wanted_again(delivery, since=since, until=second.at)):
                    yield delivery, first, second


def _begun_before(facts: Facts, delivery: str, *, until: float) -> float:
    """When the attempt before the last one of that time began."""
    begun = [at for at, state in facts.states.get(delivery, ()) if state == "sending" and at <= until]
    return begun[-2] if len(begun) > 1 else until


def _not_processed(arrival: Arrival) -> bool:
    return arrival.refused or (arrival.heard and arrival.status in SAFE_TO_REPEAT and not arrival.acted)


def _repeated(first: Arrival, second: Arrival) -> str:
    heard = f"its answer {first.status} came back" if first.heard else "no answer came back"
    times = [clock_time(arrival.at) for arrival in (first, second)]
    return f"attempt {first.number} arrived at {times[0]} and {heard}; attempt {second.number} arrived at {times[1]}"


def _lost(facts: Facts, arrival: Arrival) -> bool:
    """Whether a fault explains that an answer is not in the log. "An unavailable database alone does not cause that"
    (docs/api.md): only the end of the process that got the answer, or the queue, if the database failed as well."""
    if any((delivery, arrival.number) in facts.evidence.unstorable for delivery in facts.names(arrival)):
        return True
    made = facts.invocation(arrival.process, at=arrival.at)
    if made is None:
        return False
    if made.result in ("crashed", "timed out", "running"):
        return made.faults > 0 or facts.away(made, DATABASE_AWAY | {Kind.SQS_OUTAGE})
    until = made.ended_at or float("inf")
    return _database_failed(facts, made) and facts.message_lost(made.process, since=made.began_at, until=until)


def _held_up(facts: Facts, arrival: Arrival, delivery: str, *, until: float) -> bool:
    """Whether an outcome that the database did not accept travelled in a wake-up that came too late: the message was
    held up, or whoever received it could not finish."""
    made = facts.invocation(arrival.process, at=arrival.at)
    return (
        made is not None
        and made.result == "returned"
        and _database_failed(facts, made)
        and any(
            arrival.at <= fault.at <= until
            and (fault.delivery == delivery or fault.kind in HOLDS_UP)
            and fault.process != arrival.process
            for fault in facts.evidence.faults
        )
    )


def _database_failed(facts: Facts, made: Invocation) -> bool:
    """Whether the database failed for that process while it ran, so that it may not have been able to record."""
    until = made.ended_at or float("inf")
    return facts.away(made, DATABASE_AWAY) or any(
        fault.process == made.process and fault.kind in FAILS_STATEMENTS and made.began_at <= fault.at <= until
        for fault in facts.evidence.faults
    )


def _recorded_at(facts: Facts, told: Told) -> float:
    """When what a caller was told was recorded; before it was told, where it was read."""
    if not _made_it(facts, told):
        return told.at
    return min(
        (
            record.at
            for record in facts.evidence.records
            if record.delivery == told.delivery and record.moved and record.next_state == told.state
        ),
        default=float("inf"),
    )


def _own_words_lost(facts: Facts, told: Told) -> bool:
    """Whether what a waiting caller was told could be recorded nowhere: not in the database, and not in the queue."""
    made = facts.invocation(told.process, at=told.asked_at)
    return (
        _made_it(facts, told)
        and made is not None
        and _recorded_at(facts, told) == float("inf")
        and _database_failed(facts, made)
        and (
            facts.message_lost(told.process, since=told.asked_at, until=told.at)
            or any(delivery == told.delivery for delivery, _ in facts.evidence.unstorable)
        )
    )


def _overtaken(facts: Facts, told: Told) -> bool:
    """Whether what a waiting caller was told was recorded too late to count: a failure when another attempt had begun,
    or a success when another one had ended as a failure. Something else must have held up the message that had it."""
    delivery = str(told.delivery)
    records = facts.records.get((delivery, 1), ())
    recorded_at = min((record.at for record in records if record.next_state == told.state), default=float("inf"))
    failed_at = min((at for at, state in facts.states.get(delivery, ()) if state == "failed"), default=float("inf"))
    arrivals = [arrival for arrival in facts.arrivals.get(delivery, ()) if arrival.process == told.process]
    return (
        _made_it(facts, told)
        and (failed_at < recorded_at if told.state == "delivered" else (delivery, 2) in facts.records)
        and any(_held_up(facts, arrival, delivery, until=recorded_at) for arrival in arrivals)
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
    return Counter(row["outcome"] for row in facts.evidence.attempts if row["kind"] == "send")


def _states(facts: Facts) -> Mapping[str, int]:
    """How attempts ended deliveries."""
    ended = [after for _, _, before, after in facts.evidence.changes if before == "sending"]
    return Counter(after for after in ended if after not in UNFINISHED)


def _broken(promise: str, text: str, delivery: str) -> Broken:
    return Broken(promise=promise, text=text, delivery=delivery)

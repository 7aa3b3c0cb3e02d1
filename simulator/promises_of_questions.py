"""The promises of reconciliation (docs/reconcile.md), which simulator/promises.py checks with all others.

What counts is what the bank did and said, by its own books; not what the code took it for.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from domain.reconcile import OnAbsent
from simulator.bank import ABSENT, EXECUTED, OTHER, REJECTED
from simulator.evidence import Asked, QuestionVerdict
from simulator.setting import ABSENT_AFTER_SECONDS, BY_ID, Target
from simulator.trace import Broken, clock_time

if TYPE_CHECKING:
    from simulator.promises import Facts

SKEW_SECONDS = 4.1  # between the clocks of two processes, and what rounding takes
_MEANT = {EXECUTED: frozenset({"delivered"}), REJECTED: frozenset({"failed"}), ABSENT: frozenset({"failed", "pending"})}


def verdicts_are_true(facts: "Facts") -> Iterator[Broken]:
    """docs/reconcile.md: what the partner did is never called undone, nor sent again, nor what it may yet do because of
    what it has got so far; what it did not is never called delivered."""
    for verdict in facts.evidence.verdicts:
        acts = [act for act in facts.bank_acts.get(verdict.delivery, ()) if act.number < verdict.number]
        when = clock_time(verdict.at)
        if verdict.becomes == "delivered" and not any(act.at <= verdict.at for act in acts):
            yield _broken("verdicts are true", f"it is delivered by a question at {when}, and was not done", verdict)
        if verdict.becomes != "delivered" and acts:
            done = clock_time(acts[0].at)
            text = f"it is {verdict.becomes} by a question at {when}, and was done at {done}"
            yield _broken("verdicts are true", text, verdict)


def verdicts_are_the_partners(facts: "Facts") -> Iterator[Broken]:
    """docs/reconcile.md, "The answers" and "What never counts": a verdict is what the partner said in words, to that
    question about that delivery; nothing else ends an unknown delivery."""
    for verdict in facts.evidence.verdicts:
        asked = _asked(facts, verdict)
        if asked is None or not asked.heard:
            yield _broken(
                "verdicts are the partner's", f"it is {verdict.becomes} by a question without answer", verdict
            )
        elif verdict.becomes not in _MEANT.get(asked.said, frozenset()):
            text = f"it is {verdict.becomes} by attempt {verdict.number}, and the bank said: {asked.said}"
            yield _broken("verdicts are the partner's", text, verdict)
        elif asked.said == ABSENT and (expected := _when_absent(facts, verdict)) not in (None, verdict.becomes):
            text = f"the bank has nothing of it, so it was to be {expected}, and is {verdict.becomes}"
            yield _broken("verdicts are the partner's", text, verdict)


def absence_waits(facts: "Facts") -> Iterator[Broken]:
    """docs/reconcile.md: absence counts only of a question that was asked `absent_after` seconds after the last attempt
    had ended, and so long after the partner's first statement too, since it may begin to act when it is asked."""
    for verdict in facts.evidence.verdicts:
        asked = _asked(facts, verdict)
        if asked is None or asked.said != ABSENT:
            continue
        since = _unknown_since(facts, verdict.delivery, until=verdict.at)
        first = min((each.at for each in _statements(facts, verdict, since=since)), default=asked.at)
        if asked.at < max(since, first) + ABSENT_AFTER_SECONDS - SKEW_SECONDS:
            text = f"absence counted at {clock_time(asked.at)}, and it was unknown since {clock_time(since)}"
            yield _broken("absence waits", f"{text}, first asked at {clock_time(first)}", verdict)


def questions_end(facts: "Facts") -> Iterator[Broken]:
    """docs/reconcile.md: an unknown delivery is asked about until the partner settles it, or has said so often what no
    rule takes that its schedule is over."""
    for delivery, row in facts.rows.items():
        reconcile = _target(facts, delivery).options.reconcile
        if row["state"] != "unknown" or reconcile is None:
            continue
        if row["ask_at"] is not None:
            yield Broken(promise="questions end", text="a question is planned when all is at rest", delivery=delivery)
        since = _unknown_since(facts, delivery, until=float("inf"))
        answered = [
            record
            for record in facts.evidence.records
            if record.delivery == delivery and record.asks and not record.silent and record.at >= since
        ]
        if len(answered) < len(reconcile.after) and delivery not in facts.evidence.resolved:
            text = f"nobody asks about it any more, after {len(answered)} statements of its partner"
            yield Broken(promise="questions end", text=text, delivery=delivery)


def questions_are_no_attempts(facts: "Facts") -> Iterator[Broken]:
    """docs/reconcile.md: a question is logged among the attempts as what it is, about the payment with the delivery's
    own key, and only about what is unknown; only one is on its way at a time."""
    last_asked: dict[str, Asked] = {}
    for asked in facts.evidence.asked:
        delivery = facts.by_key.get((asked.destination, asked.key))
        if delivery is None:
            yield Broken(
                promise="questions are no attempts", text=f"a question is about {asked.key}, which nobody sent"
            )
            continue
        logged = facts.attempts.get(delivery, {}).get(asked.number)
        if logged is not None and logged["kind"] != "reconcile":
            text = f"attempt {asked.number} asked, and is logged as sent"
            yield Broken(promise="questions are no attempts", text=text, delivery=delivery)
        last = last_asked.get(delivery)
        if last is not None and asked.at < last.heard_at and facts.lives(last.process, at=asked.at):
            text = f"attempts {last.number} and {asked.number} ask at the same time"
            yield Broken(promise="questions are no attempts", text=text, delivery=delivery)
        last_asked[delivery] = asked


def _statements(facts: "Facts", verdict: QuestionVerdict, *, since: float) -> Iterator[Asked]:
    """The questions of that delivery that the partner answered with a statement, recorded before the verdict."""
    known = {
        record.number
        for record in facts.evidence.records
        if record.delivery == verdict.delivery and record.moved and record.asks and not record.silent
    }
    for asked in facts.evidence.asked:
        is_of_it = facts.by_key.get((asked.destination, asked.key)) == verdict.delivery
        is_earlier = since <= asked.at and asked.number < verdict.number
        if is_of_it and is_earlier and asked.number in known and asked.said in (ABSENT, *OTHER):
            yield asked


def _asked(facts: "Facts", verdict: QuestionVerdict) -> Asked | None:
    return next(
        (
            asked
            for asked in facts.evidence.asked
            if asked.number == verdict.number and facts.by_key.get((asked.destination, asked.key)) == verdict.delivery
        ),
        None,
    )


def _when_absent(facts: "Facts", verdict: QuestionVerdict) -> str | None:
    """What a delivery becomes that the partner does not have; None where somebody has granted it attempts."""
    if verdict.delivery in facts.evidence.again:
        return None
    target, row = _target(facts, verdict.delivery), facts.rows[verdict.delivery]
    states = facts.states.get(verdict.delivery, ())
    sends = sum(state == "sending" for at, state in states if at <= verdict.at)
    reconcile = target.options.reconcile
    wanted = reconcile.on_absent if reconcile is not None else None
    again = wanted is OnAbsent.AGAIN or (wanted is None and target.guarantee.value != "at_most_once")
    return "pending" if again and sends < row["attempts_allowed"] else "failed"


def _unknown_since(facts: "Facts", delivery: str, *, until: float) -> float:
    return max((at for at, state in facts.states.get(delivery, ()) if state == "unknown" and at <= until), default=0.0)


def _target(facts: "Facts", delivery: str) -> Target:
    return BY_ID[str(facts.rows[delivery]["destination_id"])]


def _broken(promise: str, text: str, verdict: QuestionVerdict) -> Broken:
    return Broken(promise=promise, text=text, delivery=verdict.delivery)

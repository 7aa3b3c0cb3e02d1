"""Each promise can be found broken: the count is of use only if it can be other than 0."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from faults.load import CallResult
from faults.partner import SeenRequest
from faults.promises import Count, Step, Stored, Window, counted, disturbed_seconds
from flows.prepare import LAPSED

NOW = datetime(2026, 11, 27, tzinfo=UTC)
GOOD = Stored(
    delivery_id="d",
    key="k",
    method="POST",
    path="/ok/1",
    guarantee="at_least_once",
    state="delivered",
    attempts_made=1,
    attempts_allowed=10,
    numbers=[1],
    outcomes=["answered"],
    reasons=[None],
    statuses=[200],
)
LAPSED_ONCE = replace(
    GOOD,
    attempts_made=2,
    numbers=[1, 2],
    outcomes=["unknown", "answered"],
    reasons=[LAPSED.reason, None],
    statuses=[None, 200],
)
ANSWER = CallResult(how="accept", key="k", status=202, delivery_id="d", state="pending")


def arrived(at: float, status: int | None = 200) -> SeenRequest:
    return SeenRequest(status=status, arrived_at=at, answered_at=at)


def count(
    row: Stored = GOOD,
    *,
    told: Sequence[CallResult] = (ANSWER,),
    looks: Sequence[tuple[str, str]] = (),
    seen: Sequence[SeenRequest] = (arrived(10.0),),
    windows: Sequence[Window] = (),
    journal: Sequence[Step] = (),
) -> Count:
    return counted(
        rows={row.delivery_id: row},
        journal=journal,
        told=told,
        looks=looks,
        arrivals={row.key: seen},
        windows=windows,
        lease_seconds=8,
    )


def test_what_went_well_breaks_nothing() -> None:
    assert count().broken == []


def test_a_delivery_that_does_not_end_is_lost() -> None:
    assert len(count(replace(GOOD, state="pending")).lost) == 1


def test_a_delivery_that_a_caller_knows_and_nobody_else_is_lost() -> None:
    assert len(count(told=[ANSWER, replace(ANSWER, delivery_id="gone", key=None)]).lost) == 1


@pytest.mark.parametrize("guarantee", ["at_most_once", "auto"])
@pytest.mark.parametrize("status", [200, None])
def test_what_may_have_been_done_and_is_sent_again_is_doubled(guarantee: str, status: int | None) -> None:
    """Whatever went wrong meanwhile: no fault excuses it."""
    window = Window(kind="kill worker", started_at=10.0, ended_at=10.0)
    row = replace(LAPSED_ONCE, guarantee=guarantee)
    assert len(count(row, seen=[arrived(10.0, status), arrived(30.0)], windows=[window]).doubled) == 1


@pytest.mark.parametrize(
    ("guarantee", "status", "doubled"), [("at_most_once", 500, 1), ("auto", 500, 0), ("auto", 503, 0)]
)
def test_an_answer_says_whether_a_repeat_doubles(guarantee: str, status: int, doubled: int) -> None:
    row = replace(
        LAPSED_ONCE,
        guarantee=guarantee,
        outcomes=["answered", "answered"],
        reasons=[None, None],
        statuses=[status, 200],
    )
    result = count(row, seen=[arrived(10.0, status), arrived(30.0)])
    assert (len(result.doubled), result.retries) == (doubled, 1 - doubled)


@pytest.mark.parametrize(
    ("kind", "struck_at", "explained"),
    [("kill worker", 11.0, True), ("kill worker", 5.0, False), ("kill worker", 20.0, False), ("double", 11.0, False)],
)
def test_a_repeat_is_explained_by_a_fault_that_struck_then_and_can_explain_it(
    kind: str, struck_at: float, explained: bool
) -> None:
    window = Window(kind=kind, started_at=struck_at, ended_at=struck_at)
    result = count(LAPSED_ONCE, seen=[arrived(10.0), arrived(30.0)], windows=[window])
    assert len(result.unexplained) == (not explained)
    assert dict(result.duplicates) == ({kind: 1} if explained else {})


def test_a_repeat_after_no_answer_or_a_late_one_needs_no_fault() -> None:
    silent = count(LAPSED_ONCE, seen=[arrived(10.0, None), arrived(30.0)])
    late = count(replace(LAPSED_ONCE, reasons=["no answer within 1.2 s", None]), seen=[arrived(10.0), arrived(30.0)])
    assert dict(silent.duplicates) == {"the partner did not answer": 1}
    assert dict(late.duplicates) == {"the answer did not arrive in time": 1}


@pytest.mark.parametrize("by_look", [True, False])
def test_who_read_delivered_must_not_read_anything_else(by_look: bool) -> None:
    row = replace(GOOD, state="unknown")
    told = [ANSWER] if by_look else [replace(ANSWER, state="delivered")]
    assert len(count(row, told=told, looks=[("d", "delivered")] if by_look else []).changed) == 1


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (replace(GOOD, numbers=[2]), 1),
        (GOOD, 2),
        (replace(GOOD, state="failed"), 1),
        (replace(GOOD, statuses=[503]), 1),
        (GOOD, 0),
        (replace(LAPSED_ONCE, attempts_allowed=1), 2),
        (replace(GOOD, state="failed", outcomes=["unreachable"], statuses=[None]), 0),
    ],
    ids=[
        "numbers",
        "unlogged request",
        "failed for nothing",
        "delivered by a 503",
        "delivered without a request",
        "more than allowed",
        "failed with attempts left",
    ],
)
def test_record_and_ledger_must_agree(row: Stored, seen: int) -> None:
    assert count(row, seen=[arrived(10.0, 503 if number else 200) for number in range(seen)]).otherwise_broken


def test_a_pass_through_call_that_did_not_reach_its_partner_has_failed() -> None:
    row = replace(GOOD, state="failed", attempts_allowed=1, outcomes=["unreachable"], reasons=["late"], statuses=[None])
    assert count(row, seen=[]).broken == []


def test_an_answer_must_be_one_that_is_documented_and_true() -> None:
    assert count(told=[replace(ANSWER, status=500)]).otherwise_broken
    assert count(told=[replace(ANSWER, status=404, delivery_id=None)]).otherwise_broken
    assert count(told=[replace(ANSWER, how="via", partner_status=503)]).otherwise_broken
    assert count(told=[ANSWER, replace(ANSWER, delivery_id="e")]).otherwise_broken


def test_a_broken_answer_is_named_in_words() -> None:
    answer = CallResult(how="accept", key="order-1", status=500, delivery_id=None, problem="the details are in the log")
    (said,) = count(told=[ANSWER, answer]).otherwise_broken
    assert said == (
        "accept with the key order-1, answered 500 (the details are in the log): is no answer that is documented"
    )


STEP = Step(
    delivery_id="d",
    state_before="sending",
    state="sending",
    attempts_before=1,
    attempts=1,
    until_before=NOW,
    until=NOW + timedelta(seconds=8),
)


@pytest.mark.parametrize(
    ("step", "broken"),
    [
        (STEP, False),
        (replace(STEP, until=NOW + timedelta(seconds=7)), True),
        (replace(STEP, attempts=2), True),
        (replace(STEP, state_before="delivered", state="pending"), True),
    ],
    ids=["taken over at its end", "taken over too early", "counted twice", "begun again"],
)
def test_a_delivery_changes_only_as_it_may(step: Step, broken: bool) -> None:
    assert bool(count(journal=[step]).otherwise_broken) == broken


def test_the_disturbed_time_counts_no_second_twice_and_only_what_explains_a_repeat() -> None:
    windows = [("kill worker", 0.0, 4.0), ("lock", 2.0, 3.0), ("clock jump", 3.0, 6.0), ("double", 0.0, 100.0)]
    assert disturbed_seconds([Window(kind=kind, started_at=at, ended_at=end) for kind, at, end in windows]) == 6.0

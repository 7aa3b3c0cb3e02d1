"""The table of metrics covers whatever can become of an attempt and of a delivery."""

from datetime import UTC, datetime

from domain.deliveries import state_after
from domain.outcomes import OutcomeKind
from domain.retry import Delivered, Failed, Held, RetryAt, Verdict
from flows.settle import ATTEMPTS_BY_OUTCOME, DELIVERIES_BY_STATE
from runtime.metrics import Metric

VERDICTS: tuple[Verdict, ...] = (Delivered(), RetryAt(at=datetime(2026, 3, 1, tzinfo=UTC)), Failed(), Held())


def test_each_outcome_is_counted_under_its_own_name() -> None:
    assert {kind: f"Attempts{kind.value.capitalize()}" for kind in OutcomeKind} == ATTEMPTS_BY_OUTCOME


def test_each_state_that_an_attempt_can_end_a_delivery_in_is_counted_under_its_own_name() -> None:
    ends = {state for state in map(state_after, VERDICTS) if state.finished}
    assert {state: f"Deliveries{state.value.capitalize()}" for state in ends} == DELIVERIES_BY_STATE


def test_no_name_occurs_twice() -> None:
    assert len(Metric.__members__) == len(Metric)

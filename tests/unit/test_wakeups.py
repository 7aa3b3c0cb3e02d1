"""How long a wake-up is held back."""

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import DeliveryId
from domain.wakeups import LONGEST_DELAY_SECONDS, Wakeup, delay_seconds, next_look
from tests.support.gateway import START


def delay(seconds: float) -> int:
    due_at = START + timedelta(seconds=seconds)
    return delay_seconds(Wakeup(delivery_id=DeliveryId(UUID(int=0)), due_at=due_at, group="g"), now=START)


@pytest.mark.parametrize(
    ("seconds", "held"), [(0, 0), (-5, 0), (0.001, 1), (1, 1), (1.2, 2), (899.5, 900), (900, 900), (7200, 900)]
)
def test_it_is_held_until_it_is_due_and_never_woken_before(seconds: float, held: int) -> None:
    assert delay(seconds) == held


@given(st.floats(-(10**6), 10**6))
def test_a_hop_is_never_longer_than_sqs_allows_nor_shorter_than_needed(seconds: float) -> None:
    held = delay(seconds)
    assert 0 <= held <= LONGEST_DELAY_SECONDS
    assert held >= min(seconds, LONGEST_DELAY_SECONDS) - 1e-5


def test_looks_at_a_delivery_that_waits_grow_rare_until_there_are_two_a_day() -> None:
    looks = [START]
    while looks[-1] < START + timedelta(days=3):
        looks.append(next_look(since=START, now=looks[-1]))
    steps = [(later - earlier).total_seconds() for earlier, later in pairwise(looks)]
    assert steps[:5] == [60, 60, 120, 240, 480]
    assert steps == sorted(steps)
    assert steps[-3:] == [43_200] * 3
    assert len(steps) < 20


def test_a_clock_that_is_behind_makes_no_look_too_early() -> None:
    assert next_look(since=START + timedelta(seconds=5), now=START) == START + timedelta(seconds=60)

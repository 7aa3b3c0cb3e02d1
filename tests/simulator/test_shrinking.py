"""Failing tapes become small, on failures whose smallest tape is known."""

import random
import signal
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.shrinking import Tape, smallest

type Failure = Callable[[Tape], bool]


class Reader:
    """Reads a tape as the simulator does: choice by choice, zeros beyond its end."""

    def __init__(self, tape: Tape) -> None:
        self._tape, self._place = tape, 0

    def choose(self, options: int) -> int:
        choice = self._tape[self._place] if self._place < len(self._tape) else 0
        self._place += 1
        return choice % options

    @property
    def at_end(self) -> bool:
        return self._place >= len(self._tape)


def sent_twice(tape: Tape) -> bool:
    """Deliveries one after the other; one fails where its claim lapses for 60 s or more and a duplicate comes later.

    What a choice means depends on those before it: a retry, a fault and its kind read more of the tape.
    """
    reader, failed = Reader(tape), False
    while not reader.at_end:
        lapsed = False
        for _ in range(1 + reader.choose(3)):
            if reader.choose(4) == 1:
                lapsed |= fault_lapses(reader)
            for _ in range(4):
                reader.choose(3)
            failed |= lapsed and reader.choose(3) == 2
    return failed


def fault_lapses(reader: Reader) -> bool:
    kind = reader.choose(6)
    if kind == 2:
        return reader.choose(5) == reader.choose(7) == 99
    return kind == 3 and reader.choose(1000) >= 60


def has_in_order(*needed: int) -> Failure:
    def fails(tape: Tape) -> bool:
        choices = iter(tape)
        return all(any(choice == value for choice in choices) for value in needed)

    return fails


def third_choice_is_high(tape: Tape) -> bool:
    return len(tape) > 2 and tape[2] >= 417


def sums_to_a_thousand(tape: Tape) -> bool:
    return sum(tape) >= 1000


KNOWN: list[tuple[Failure, Tape]] = [
    (sent_twice, (0, 1, 3, 60, 0, 0, 0, 0, 2)),
    (has_in_order(7, 3, 9, 12), (7, 3, 9, 12)),
    (third_choice_is_high, (0, 0, 417)),
    (sums_to_a_thousand, (1, 999)),
    (lambda _: True, ()),
]


def failing_tape(fails: Failure, length: int, *, seed: int) -> Tape:
    chance = random.Random(seed)
    while not fails(tape := tuple(chance.randrange(1000) * (chance.random() < 0.4) for _ in range(length))):
        pass
    return tape


class Counted:
    def __init__(self, fails: Failure) -> None:
        self.fails, self.tapes = fails, list[Tape]()

    def __call__(self, tape: Tape) -> bool:
        self.tapes.append(tape)
        return self.fails(tape)


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("length", [500, 2000, 5000])
@pytest.mark.parametrize(("fails", "known"), KNOWN[:1] + KNOWN[2:])
def test_the_smallest_tape_is_reached_from_a_long_one(fails: Failure, known: Tape, length: int) -> None:
    """Within 400 runs: 20 seconds, where a run takes 50 ms."""
    counted = Counted(fails)
    found = smallest(failing_tape(fails, length, seed=length), counted, budget=400, report=quiet)
    assert (sum(map(bool, found)), len(found)) == (sum(map(bool, known)), len(known))
    assert found == known or fails is sums_to_a_thousand
    assert len(counted.tapes) <= 400
    assert len(set(counted.tapes)) == len(counted.tapes)  # none of them twice


def test_four_choices_among_thousands() -> None:
    fails, known = KNOWN[1]
    assert smallest(failing_tape(fails, 5000, seed=1), fails, report=quiet) == known


def test_the_same_tape_shrinks_in_the_same_way_each_time() -> None:
    tape, first, second = failing_tape(sent_twice, 500, seed=3), Counted(sent_twice), Counted(sent_twice)
    assert smallest(tape, first, report=quiet) == smallest(tape, second, report=quiet)
    assert first.tapes == second.tapes


@given(
    tape=st.lists(st.integers(0, 30), max_size=40).map(tuple),
    modulus=st.integers(1, 40),
    budget=st.integers(1, 200),
)
@settings(max_examples=200)
def test_what_is_returned_fails_and_is_never_less_simple(tape: Tape, modulus: int, budget: int) -> None:
    """Whatever the failure: here one that hardly any change preserves, so that guesses are mostly wrong."""
    original = hash(tape) % modulus

    def fails(candidate: Tape) -> bool:
        return candidate == trimmed or hash(candidate) % modulus == original

    trimmed = tape[: max((place + 1 for place, choice in enumerate(tape) if choice), default=0)]
    counted = Counted(fails)
    found = smallest(tape, counted, budget=budget, report=quiet)
    assert fails(found)
    assert simplicity(found) <= simplicity(trimmed)
    assert len(counted.tapes) <= budget


def simplicity(tape: Tape) -> tuple[int, int, int]:
    return sum(map(bool, tape)), len(tape), sum(tape)


def test_it_stops_when_the_budget_is_spent_and_says_so() -> None:
    said: list[str] = []
    tape = failing_tape(sent_twice, 500, seed=1)
    counted = Counted(sent_twice)
    assert sent_twice(smallest(tape, counted, budget=20, report=said.append))
    assert len(counted.tapes) == 20
    assert said[-1] == "shrinking: stopped after run 20"


def test_progress_is_a_line_per_improvement() -> None:
    said: list[str] = []
    smallest((5, 0, 417, 3), third_choice_is_high, report=said.append)
    assert said[0] == "shrinking: 4 choices, 3 not 0, after run 1"
    assert said[-1].startswith("shrinking: 3 choices, 1 not 0, after run ")


def test_a_tape_that_does_not_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fail when it is run again"):
        smallest((1, 2, 3), third_choice_is_high, report=quiet)
    with pytest.raises(ValueError, match="at least one run"):
        smallest((0, 0, 417), third_choice_is_high, budget=0, report=quiet)


def stopped_in_run(number: int) -> Failure:
    """Ctrl-C comes in that run of a tape that fails."""
    runs = count(1)

    def fails(_: Tape) -> bool:
        if next(runs) == number:
            signal.raise_signal(signal.SIGINT)
        return True

    return fails


def test_stopped_in_its_first_run_it_has_no_tape_to_return() -> None:
    with pytest.raises(KeyboardInterrupt):
        smallest((0, 0, 417), stopped_in_run(1), report=quiet)


def test_stopped_later_it_returns_a_tape_that_failed() -> None:
    said: list[str] = []
    assert smallest((5, 0, 417), stopped_in_run(2), report=said.append) == (5, 0, 417)
    assert said[-1] == "shrinking: stopped after run 2"


def test_an_error_of_the_run_itself_is_not_taken_for_a_failure() -> None:
    def breaks(_: Tape) -> bool:
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="the database is gone"):
        smallest((1,), breaks, report=quiet)


def test_when_its_time_is_over_it_returns_what_it_has() -> None:
    said: list[str] = []
    assert smallest((5, 0, 417), third_choice_is_high, seconds=0.0, report=said.append) == (5, 0, 417)
    assert said[-1] == "shrinking: stopped after run 1"

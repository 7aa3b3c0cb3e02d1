"""Runs: the same seed is the same run, a tape alone repeats it, and in the seeds of this file all promises hold."""

import os
import secrets
import subprocess
import sys

import pytest

from simulator.choices import Choices
from simulator.marks import EXPECTED
from simulator.run import play, run_tape
from simulator.setting import Databases, RealConnection
from simulator.trace import lines, to_json
from tests.support.making import ROOT

SEEDS = 150
TELLS = """
import hashlib, sys
from simulator.run import play
from simulator.setting import connected
from simulator.trace import to_json
with connected(sys.argv[1]) as connection:
    for seed in range(12):
        result = play(seed, connection)
        print(seed, hashlib.sha256(to_json(result.story)).hexdigest(), len(result.story.events))
"""


def told(url: str, hash_seed: str) -> str:
    """What another process makes of the first seeds."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    command = [sys.executable, "-c", TELLS, url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_same_seed_is_the_same_run_in_every_process(databases: Databases) -> None:
    first = told(databases.make("simulated_once"), "1")
    assert len(first.splitlines()) == 12
    assert told(databases.make("simulated_again"), "2") == first


def test_other_seeds_are_other_runs(real: RealConnection) -> None:
    assert len({to_json(run_tape(seed, real)) for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_tape_repeats_the_run_of_the_seed_that_filled_it(real: RealConnection, seed: int) -> None:
    story = run_tape(seed, real)
    again = run_tape(story.tape, real)
    assert again.tape == story.tape
    assert again.events == story.events
    assert again.broken == story.broken


def test_an_empty_tape_is_a_calm_run(real: RealConnection) -> None:
    result = play((), real)
    assert not any(result.story.tape)
    assert result.evidence.faults == []
    assert [row["state"] for row in result.evidence.deliveries] == ["delivered"] * 3
    assert not result.story.broken


@pytest.mark.parametrize("seed", range(3))
def test_a_tape_that_was_cut_is_a_run_as_well(real: RealConnection, seed: int) -> None:
    tape = run_tape(seed, real).tape
    cut = run_tape(tape[: len(tape) // 2], real)
    assert cut.tape[: len(tape) // 2] == tape[: len(tape) // 2]
    assert not any(cut.tape[len(tape) // 2 :])


def test_every_promise_holds_in_these_seeds_and_in_a_fresh_one(real: RealConnection) -> None:
    fresh = secrets.randbelow(2**32)
    visited: set[str] = set()
    for seed in (*range(SEEDS), fresh):
        result = play(seed, real)
        visited |= result.marks.keys()
        assert not result.story.broken, "\n".join([f"SEED={seed}", *lines(result.story)])
    assert len(visited & EXPECTED) > len(EXPECTED) * 3 // 4


def test_choices_are_on_the_tape_and_a_number_out_of_range_is_benign() -> None:
    first = Choices(1)
    drawn = [first.choose(count) for count in (1, 2, 100, 7)]
    assert drawn[0] == 0
    assert first.tape == drawn[1:]  # what is no choice is not written down
    assert [Choices(tape=first.tape).choose(2)] == drawn[1:2]
    assert Choices(tape=[9]).choose(3) == 0
    assert Choices(tape=[]).choose(3) == 0
    with pytest.raises(ValueError, match="a seed or from a tape"):
        Choices()

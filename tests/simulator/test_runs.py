"""Runs: the same seed is the same run, a tape alone repeats it, and in the seeds of this file all promises hold."""

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest
from psycopg import sql

from simulator.choices import COMMON, STREAMS, Choices
from simulator.marks import EXPECTED
from simulator.mutants import mutated
from simulator.run import play, run_tape
from simulator.setting import Databases, RealConnection, emptied
from simulator.trace import Story, lines, to_json
from tests.support.making import ROOT

SEEDS = 150
# What these reported was no fault of the code: a statement began beside another one of its process, as the lock between
# them held no task back; a delivery that got a turn when it was accepted was to be woken before that.
ONCE_FALSE = (520, 1852, 2507687127)
# And these were: docs/proof.md has their stories.
ONCE_BROKEN = (423338094, 589534286, 601852620)
# These were other runs after others: a destination kept the moment at which it had been paused in one before.
ONCE_DIFFERENT = (36, 18, 81, 85)
TELLS = """
import hashlib, sys
from simulator.run import play
from simulator.setting import connected
from simulator.trace import to_json
with connected(sys.argv[1]) as connection:
    for seed in map(int, sys.argv[2:]):
        result = play(seed, connection)
        print(seed, hashlib.sha256(to_json(result.story)).hexdigest(), len(result.story.events))
"""


def told(url: str, seeds: Iterable[int], *, hash_seed: str) -> dict[str, str]:
    """What another process makes of these seeds, one after the other."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    command = [sys.executable, "-c", TELLS, url, *map(str, seeds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_a_seed_is_the_same_run_in_every_process_whatever_ran_before_it(databases: Databases) -> None:
    """Alone, after more than 20 others, and before them: a run leaves nothing behind that another one could meet."""
    url = databases.make("simulated_once")
    first = told(url, ONCE_DIFFERENT[:1], hash_seed="1")
    first |= told(url, [*range(20), *ONCE_DIFFERENT], hash_seed="1")
    assert len(first) == 20 + len(set(ONCE_DIFFERENT) - set(range(20)))
    assert told(databases.make("simulated_alone"), ONCE_DIFFERENT[:1], hash_seed="2").items() <= first.items()
    again = told(databases.make("simulated_again"), [*reversed(ONCE_DIFFERENT), *reversed(range(20))], hash_seed="2")
    assert again == first


def test_every_table_is_as_it_was_before_the_next_run(real: RealConnection) -> None:
    emptied(real)
    beginning = rows_of_all_tables(real)
    assert len(beginning) > 15
    with mutated("a lapsed claim is sent again"):
        play(ONCE_DIFFERENT[0], real)
    changed = {name for name, rows in rows_of_all_tables(real).items() if rows != beginning[name]}
    assert {"attempt", "audit_entry", "delivery", "destination", "destination_flow"} <= changed
    emptied(real)
    assert rows_of_all_tables(real) == beginning


def rows_of_all_tables(real: RealConnection) -> dict[str, list[str]]:
    """What is in each table, in the order of the file, and where each sequence is."""
    kinds = real.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') "
        "AND has_table_privilege(oid, 'SELECT')"
    ).fetchall()
    statement = sql.SQL("SELECT listed::text AS text FROM {} AS listed")
    return {
        row["relname"]: [each["text"] for each in real.execute(statement.format(sql.Identifier(row["relname"])))]
        for row in kinds
    }


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
    assert [row["state"] for row in result.evidence.deliveries] == ["delivered"]
    assert not result.story.broken


@pytest.mark.parametrize("seed", range(3))
def test_a_tape_that_was_cut_is_a_run_as_well(real: RealConnection, seed: int) -> None:
    tape = run_tape(seed, real).tape
    cut = run_tape(tape[: len(tape) // 2], real)
    assert not any(cut.tape[len(tape) // 2 :])
    assert run_tape(cut.tape, real).events == cut.events


def test_every_promise_holds_in_these_seeds(real: RealConnection) -> None:
    """`make simulate` plays other ones at each call."""
    visited: set[str] = set()
    arrived = 0
    for seed in (*range(SEEDS), *ONCE_FALSE, *ONCE_BROKEN):
        result = play(seed, real)
        arrived += len(result.evidence.arrivals)
        visited |= result.marks.keys()
        assert not result.story.broken, "\n".join([f"SEED={seed}", *lines(result.story)])
    assert len(visited & EXPECTED) > len(EXPECTED) * 3 // 4
    assert arrived > 3 * SEEDS


def test_choices_are_on_the_tape_and_a_number_out_of_range_is_benign() -> None:
    first = Choices(1)
    drawn = [first.choose(count) for count in (1, 2, 100, 7)]
    assert drawn[0] == 0
    assert any(drawn)
    assert [*first.tape, *[0] * 3 * STREAMS][: 3 * STREAMS : STREAMS] == drawn[1:]  # what is no choice is not there
    again = Choices(tape=first.tape)
    assert [again.choose(count) for count in (1, 2, 100, 7)] == drawn
    assert Choices(tape=[9]).choose(3) == 0
    assert Choices(tape=[]).choose(3) == 0
    with pytest.raises(ValueError, match="a seed or from a tape"):
        Choices()


def test_streams_do_not_disturb_each_other() -> None:
    """What one draws is the same, however much is drawn from the others."""
    filled = Choices(7)
    with filled.of_stream(3):
        drawn = [filled.choose(1000) for _ in range(20)]
    assert filled.stream == COMMON
    again = Choices(tape=filled.tape)
    numbers = []
    for _ in range(20):
        again.choose(1000)
        with again.of_stream(3):
            numbers.append(again.choose(1000))
    assert numbers == drawn


def test_without_a_caller_the_others_get_what_they_got(real: RealConnection) -> None:
    """Zero in the place where a caller is chosen takes it away, with all that was drawn for it."""
    stories = (run_tape(seed, real) for seed in range(30))
    story = next(story for story in stories if len(callers_of(story)) > 5)
    callers = callers_of(story)
    number = max(int(caller.split()[1]) for caller in callers)
    without = run_tape([*story.tape[:number], 0, *story.tape[number + 1 :]], real)
    assert callers_of(without) == callers - {f"caller {number}"}
    place = range(STREAMS + 1, 8 * STREAMS, STREAMS)  # the first choices of the first caller
    assert [without.tape[at] for at in place] == [story.tape[at] for at in place]


def callers_of(story: Story) -> set[str]:
    return {event.actor for event in story.events if event.actor.startswith("caller")}

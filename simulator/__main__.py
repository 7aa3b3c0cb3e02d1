"""`make simulate`: the real flows over a real PostgreSQL, under a seeded schedule of everything that can go wrong."""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local.errors import LocalError
from local.stopping import stoppable, unstopped
from simulator import numbers
from simulator.failing import made_smaller, read, told, told_again
from simulator.marks import EXPECTED, RARE_SEEDS_NEEDED, SEEDS_NEEDED, never_visited, overdue
from simulator.mutants import mutated, named
from simulator.numbers import counted, random_seed, seeds_from
from simulator.pool import Pool, ProcessLost, SeedResult, processors
from simulator.run import run_tape
from simulator.setting import Databases, RealConnection, connected
from simulator.shrinking import BUDGET_RUNS
from simulator.trace import Story
from stack.switches import add_switch

FAILED, CANNOT_RUN, STOPPED = 1, 2, 130
SECONDS = 60.0  # without N
A_NIGHT = 1_000_000  # deliveries
PROGRESS_SECONDS = 5.0
FEW = 10  # so many places that were not visited are named
FOLDER = Path(".simulation")
PROCESS_MB = 150  # what a process of the simulator and its sessions in PostgreSQL need
POSTGRES_MB = 200


class CannotSimulate(Exception):
    """Why it cannot, for the person who asked for it."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has been found so far."""

    began_at: float
    seeds: int = 0
    deliveries: int = 0
    arrivals: int = 0
    faults: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    story: Story | None = None  # the first that broke a promise

    def add(self, result: SeedResult) -> None:
        """Counts one more seed."""
        self.seeds += 1
        self.deliveries += result.deliveries
        self.arrivals += result.arrivals
        self.faults += result.faults
        self.marks += result.marks
        self.story = self.story or result.story

    def time_for(self, deliveries: int) -> str:
        """How long so many take at the rate so far."""
        minutes = max(0, deliveries) * self._seconds / max(1, self.deliveries) / 60
        return f"{minutes:,.0f} min" if minutes < 120 else f"{minutes / 60:,.1f} h"

    @property
    def _seconds(self) -> float:
        return max(0.001, time.monotonic() - self.began_at)

    def text(self) -> str:
        """In one line."""
        seconds = self._seconds
        return (
            f"{counted(self.seeds, 'seed')}, {counted(self.deliveries, 'delivery', 'deliveries')}, "
            f"{counted(self.arrivals, 'request')} at partners, {counted(self.faults, 'fault')} in {seconds:.0f} s: "
            f"{self.seeds / seconds:.1f} seeds/s, "
            f"{self.deliveries / seconds:.0f} deliveries/s"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all promises were kept, 1 when one was not, 2 when it cannot run."""
    asked = parser().parse_args(arguments)
    tally = Tally(began_at=time.monotonic())
    try:
        with stoppable(KeyboardInterrupt):
            return _simulate(asked, tally) if asked.tape is None else _play_again(asked)
    except BrokenPipeError:
        return _nobody_reads()
    except (LocalError, CannotSimulate, ProcessLost, OSError, ValueError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return CANNOT_RUN
    except KeyboardInterrupt:
        print(f"\nsimulate: stopped. {_so_far(tally, asked)}", file=sys.stderr)
        return STOPPED


def _so_far(tally: Tally, asked: argparse.Namespace) -> str:
    if tally.story is None:
        return f"So far no promise was broken: {tally.text()}"
    broken = tally.story.broken[0]
    return f"A promise was broken ({broken.promise}: {broken.text}). To repeat it: {_again(tally.story.seed, asked)}"


def _nobody_reads() -> int:
    """As after `make simulate | head`. What is still buffered goes nowhere, or Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CANNOT_RUN


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = numbers.OneLineParser(prog="simulate", description=__doc__)
    how_long = made.add_mutually_exclusive_group()
    how_long.add_argument("--n", type=numbers.count, help="how many seeds (as many as fit into a minute)")
    how_long.add_argument("--deliveries", type=numbers.count, help="go on until there were so many")
    how_long.add_argument("--until", choices=["failure"], help="go on until a promise is broken")
    how_long.add_argument("--tape", type=Path, help="play a story that was saved, instead of seeds")
    made.add_argument("--seed", type=numbers.seed, help="the first one (random)")
    made.add_argument("--mutant", type=named, metavar="NAME", help="with this mistake in the code")
    add_switch(made, "--show", words="print what happened in the first seed, also where all promises were kept")
    return made


def _simulate(asked: argparse.Namespace, tally: Tally) -> int:
    first = random_seed() if asked.seed is None else asked.seed
    size = min(processors(), asked.n or processors())
    _need_memory(size)
    print(f"simulate: seeds from SEED={first} on, in {counted(size, 'process', 'processes')}", flush=True)
    with _directory() as directory, Databases(directory) as databases:
        with Pool(databases, size=size) as pool:
            story = _first_failure(pool, _seeds(asked, first, tally), tally, asked)
        with connected(databases.make("simulated_again")) as connection, mutated(asked.mutant):
            if story is not None:
                return _failed(story, tally, connection, again=_again(story.seed, asked))
            if asked.show:
                _print(told(run_tape(first, connection), FOLDER, again=_again(first, asked)))
    if asked.mutant:
        print(f"simulate: no promise was broken, so the mistake was not found. {tally.text()}", file=sys.stderr)
        return FAILED
    print(f"simulate: all promises kept. {tally.text()}")
    if asked.deliveries:
        print(f"simulate: at this rate a million deliveries take {tally.time_for(A_NIGHT)}")
    return _judge_marks(tally)


def _play_again(asked: argparse.Namespace) -> int:
    """A story that was saved, by its tape: with the same code it is the same, with other code perhaps a better one."""
    saved = read(asked.tape)
    with (
        _directory() as directory,
        Databases(directory) as databases,
        connected(databases.make("simulated_again")) as connection,
        mutated(asked.mutant),
    ):
        story = replace(run_tape(saved.tape, connection), seed=saved.seed)
    _print(told_again(story, asked.tape, again=f"make simulate TAPE={asked.tape}" + _with_mutant(asked)))
    print(f"simulate: {'a promise was broken' if story.broken else 'all promises kept'}")
    return FAILED if story.broken else 0


def _first_failure(pool: Pool, seeds: Iterable[int], tally: Tally, asked: argparse.Namespace) -> Story | None:
    tally.began_at = time.monotonic()
    for result in _with_progress(pool.results(seeds, mutant=asked.mutant), tally, wanted=asked.deliveries):
        tally.add(result)
        if result.story is not None:
            return result.story
    return None


def _seeds(asked: argparse.Namespace, first: int, tally: Tally) -> Iterable[int]:
    if asked.until:
        return seeds_from(first)
    if asked.n:
        return itertools.islice(seeds_from(first), asked.n)
    if asked.deliveries:
        return itertools.takewhile(lambda _: tally.deliveries < asked.deliveries, seeds_from(first))
    end_at = time.monotonic() + SECONDS
    return itertools.takewhile(lambda _: time.monotonic() < end_at, seeds_from(first))


def _with_progress(results: Iterator[SeedResult], tally: Tally, *, wanted: int | None) -> Iterator[SeedResult]:
    next_at = time.monotonic() + PROGRESS_SECONDS
    for result in results:
        yield result
        if time.monotonic() >= next_at:
            left = f"; {tally.time_for(wanted - tally.deliveries)} left" if wanted else ""
            print(f"  {tally.text()}{left}", flush=True)
            next_at = time.monotonic() + PROGRESS_SECONDS


def _failed(story: Story, tally: Tally, connection: RealConnection, *, again: str) -> int:
    """Makes it smaller, and says what happened. Ctrl-C ends that early, with what was found."""
    broken = story.broken[0]
    print(f"simulate: SEED={story.seed} broke a promise after {tally.text()}")
    print(f"  {broken.promise}: {broken.text}", flush=True)
    small = made_smaller(story, connection, budget=BUDGET_RUNS, report=lambda text: print(f"  {text}", flush=True))
    print(
        f"simulate: of {len(story.events)} events and {len(story.tape)} choices these are left, for the same promise:"
    )
    _print(told(small, FOLDER, again=again))
    return FAILED


def _print(text: Iterable[str]) -> None:
    for line in text:
        print(line, flush=True)


def _again(seed: int, asked: argparse.Namespace) -> str:
    return f"make simulate SEED={seed} N=1" + _with_mutant(asked)


def _with_mutant(asked: argparse.Namespace) -> str:
    return f" MUTANT={asked.mutant!r}" if asked.mutant else ""


def _judge_marks(tally: Tally) -> int:
    """A simulator that does not come to all places proves nothing of them."""
    missing, late = never_visited(tally.marks), overdue(tally.marks, seeds=tally.seeds)
    if late:
        print(f"simulate: never visited in {counted(tally.seeds, 'seed')}: {'; '.join(late)}", file=sys.stderr)
        return FAILED
    if missing:
        needed = SEEDS_NEEDED if tally.seeds < SEEDS_NEEDED else RARE_SEEDS_NEEDED
        places = f"{len(missing)} of {len(EXPECTED)} faults, states and branches"
        names = f": {'; '.join(missing)}" if len(missing) <= FEW else ""
        print(f"simulate: too few seeds to visit everything (N={needed} does). Not visited: {places}{names}")
    return 0


def _need_memory(size: int) -> None:
    needed = size * PROCESS_MB + POSTGRES_MB
    free = _free_mb()
    if free is not None and free < needed:
        raise CannotSimulate(
            f"too little memory: {free} MB are free, and {counted(size, 'process', 'processes')} need {needed} MB"
        )


def _free_mb() -> int | None:
    """None where this system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("MemAvailable:")), None)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sallyport-simulator-"))
    try:
        yield directory
    finally:
        with unstopped():
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""`make simulate`: the real flows over a real PostgreSQL, under a seeded schedule of everything that can go wrong."""

import argparse
import itertools
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.errors import LocalError
from simulator import numbers
from simulator.failing import made_smaller, told
from simulator.marks import RARE_SEEDS_NEEDED, SEEDS_NEEDED, never_visited, overdue
from simulator.mutants import MUTANTS, mutated
from simulator.pool import Pool, ProcessLost, SeedResult, processors
from simulator.run import run_tape
from simulator.setting import Databases, RealConnection, connected
from simulator.shrinking import BUDGET_RUNS
from simulator.trace import Story
from stack.switches import add_switch

FAILED, CANNOT_RUN, STOPPED = 1, 2, 130
SECONDS = 60.0  # without N
PROGRESS_SECONDS = 5.0
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

    def add(self, result: SeedResult) -> None:
        """Counts one more seed."""
        self.seeds += 1
        self.deliveries += result.deliveries
        self.arrivals += result.arrivals
        self.faults += result.faults
        self.marks += result.marks

    def text(self) -> str:
        """In one line."""
        seconds = max(0.001, time.monotonic() - self.began_at)
        return (
            f"{self.seeds:,} seeds, {self.deliveries:,} deliveries, {self.arrivals:,} requests at partners, "
            f"{self.faults:,} faults in {seconds:.0f} s: {self.seeds / seconds:.1f} seeds/s, "
            f"{self.deliveries / seconds:.0f} deliveries/s"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all promises were kept, 1 when one was not, 2 when it cannot run."""
    asked = parser().parse_args(arguments)
    tally = Tally(began_at=time.monotonic())
    try:
        return _simulate(asked, tally)
    except (LocalError, CannotSimulate, ProcessLost) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return CANNOT_RUN
    except KeyboardInterrupt:
        print(f"\nsimulate: stopped. So far no promise was broken: {tally.text()}", file=sys.stderr)
        return STOPPED


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = argparse.ArgumentParser(prog="simulator", description=__doc__)
    made.add_argument("--n", type=numbers.count, help="how many seeds (as many as fit into a minute)")
    made.add_argument("--deliveries", type=numbers.count, help="go on until there were so many")
    made.add_argument("--seed", type=numbers.seed, help="the first one (random)")
    made.add_argument("--until", choices=["failure"], help="go on until a promise is broken")
    made.add_argument("--mutant", choices=list(MUTANTS), metavar="NAME", help="with this mistake in the code")
    add_switch(made, "--show", words="print what happened in the first seed, also where all promises were kept")
    return made


def _simulate(asked: argparse.Namespace, tally: Tally) -> int:
    seed = secrets.randbelow(numbers.HIGHEST_SEED) if asked.seed is None else asked.seed
    size = min(processors(), asked.n or processors())
    _need_memory(size)
    print(f"simulate: seeds from SEED={seed} on, in {size} processes", flush=True)
    with _directory() as directory, Databases(directory) as databases:
        with Pool(databases, size=size) as pool:
            story = _first_failure(pool, _seeds(asked, seed, tally), tally, mutant=asked.mutant)
        with connected(databases.make("simulated_again")) as connection, mutated(asked.mutant):
            if story is not None:
                return _failed(story, tally, connection, again=_again(story.seed, asked))
            if asked.show:
                _print(told(run_tape(seed, connection), FOLDER))
    print(f"simulate: all promises kept. {tally.text()}")
    return 0 if asked.mutant else _judge_marks(tally)


def _first_failure(pool: Pool, seeds: Iterable[int], tally: Tally, *, mutant: str | None) -> Story | None:
    tally.began_at = time.monotonic()
    for result in _with_progress(pool.results(seeds, mutant=mutant), tally):
        tally.add(result)
        if result.story is not None:
            return result.story
    return None


def _seeds(asked: argparse.Namespace, first: int, tally: Tally) -> Iterable[int]:
    if asked.n:
        return range(first, first + asked.n)
    if asked.deliveries:
        return itertools.takewhile(lambda _: tally.deliveries < asked.deliveries, itertools.count(first))
    if asked.until:
        return itertools.count(first)
    end_at = time.monotonic() + SECONDS
    return itertools.takewhile(lambda _: time.monotonic() < end_at, itertools.count(first))


def _with_progress(results: Iterator[SeedResult], tally: Tally) -> Iterator[SeedResult]:
    next_at = time.monotonic() + PROGRESS_SECONDS
    for result in results:
        yield result
        if time.monotonic() >= next_at:
            print(f"  {tally.text()}", flush=True)
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
    _print(told(small, FOLDER))
    print(f"To repeat the seed: {again}")
    return FAILED


def _print(text: Iterable[str]) -> None:
    for line in text:
        print(line)


def _again(seed: int, asked: argparse.Namespace) -> str:
    return f"make simulate SEED={seed} N=1" + (f" MUTANT={asked.mutant!r}" if asked.mutant else "")


def _judge_marks(tally: Tally) -> int:
    """A simulator that does not come to all places proves nothing of them."""
    missing, late = never_visited(tally.marks), overdue(tally.marks, seeds=tally.seeds)
    if late:
        print(f"simulate: never visited in {tally.seeds:,} seeds: {'; '.join(late)}", file=sys.stderr)
        return FAILED
    if missing:
        count = SEEDS_NEEDED if tally.seeds < SEEDS_NEEDED else RARE_SEEDS_NEEDED
        print(f"simulate: too few seeds to visit everything (N={count} does). Not visited: {'; '.join(missing)}")
    return 0


def _need_memory(size: int) -> None:
    needed = size * PROCESS_MB + POSTGRES_MB
    free = _free_mb()
    if free is not None and free < needed:
        raise CannotSimulate(f"too little memory: {free} MB are free, and {size} processes need {needed} MB")


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
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

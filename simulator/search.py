"""`make simulate-mutants`: each deliberate mistake of simulator/mutants.py must be found, from a fresh seed on."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from local.errors import LocalError
from local.stopping import stoppable
from simulator import numbers
from simulator.mutants import MUTANTS, MutantOutOfDate, mutated
from simulator.pool import Pool, ProcessLost, SeedResult, processors
from simulator.setting import Databases

FAILED, CANNOT_RUN, STOPPED = 1, 2, 130
SEEDS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all were found, 1 when one was not, 2 when it cannot run."""
    asked = parser().parse_args(arguments)
    names = [name for name in MUTANTS if asked.only in name]
    if not names:
        print(f"simulate-mutants: no mistake has {asked.only!r} in its name; see simulator/mutants.py", file=sys.stderr)
        return CANNOT_RUN
    try:
        with stoppable(KeyboardInterrupt):
            return _search(names, first=numbers.random_seed() if asked.seed is None else asked.seed, most=asked.n)
    except (LocalError, ProcessLost, MutantOutOfDate, OSError) as error:
        print(f"simulate-mutants: {error}", file=sys.stderr)
        return CANNOT_RUN
    except KeyboardInterrupt:
        print("\nsimulate-mutants: stopped", file=sys.stderr)
        return STOPPED


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = numbers.OneLineParser(prog="simulate-mutants", description=__doc__)
    made.add_argument("--n", type=numbers.count, default=SEEDS, help=f"how many seeds at most for each ({SEEDS})")
    made.add_argument("--seed", type=numbers.seed, help="the first one (random)")
    made.add_argument("--only", default="", help="those whose name has this")
    return made


def _search(names: Sequence[str], *, first: int, most: int) -> int:
    for name in names:
        with mutated(name):
            pass  # before anything starts: whether all of them fit the code
    mistakes, seeds = numbers.counted(len(names), "mistake"), numbers.counted(most, "seed")
    print(f"simulate-mutants: {mistakes}, each for {seeds} at most, from SEED={first} on", flush=True)
    missed = 0
    with (
        tempfile.TemporaryDirectory(prefix="sallyport-simulator-") as directory,
        Databases(Path(directory) / "data") as databases,
        Pool(databases, size=processors()) as pool,
    ):
        for name in names:
            missed += not _found(name, pool.results(islice(numbers.seeds_from(first), most), mutant=name))
    print(f"simulate-mutants: {len(names) - missed} of {len(names)} were found")
    return FAILED if missed else 0


def _found(name: str, results: Iterator[SeedResult]) -> bool:
    for count, result in enumerate(results, 1):
        if result.story is not None:
            broken = result.story.broken[0]
            print(f"  found after {count:3} seeds, by SEED={result.seed}: {name} ({broken.promise})", flush=True)
            return True
    print(f"  NOT FOUND: {name}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())

"""The oracle against packets, on networks made at random. `python -m lab.fuzz --n 100 --seed 1`"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from lab.fuzz.comparison import Disagreement, compare
from lab.fuzz.mutants import MUTANTS
from lab.fuzz.networks import random_network
from lab.fuzz.shrinker import smallest
from lab.kernel.apply import MissingRequirement
from lab.kernel.sandbox import NamespacesForbidden, die_with_parent, enter, main_or_skip
from lab.model.attempts import Arrived, PacketResult
from lab.plan.build import plan
from lab.plan.parts import PlanMutation
from stack.network.model import Network
from stack.network.serialize import dump
from stack.switches import add_switch


def run(seeds: Iterable[int], say: Callable[[str], None]) -> int:
    """Compare one network per seed. Returns how many attempts disagreed; the first of each network is made small."""
    began, total, wrong, networks = time.monotonic(), 0, 0, 0
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        network = random_network(seed)
        packets, differences = compare(network)
        networks, total, wrong = networks + 1, total + len(packets), wrong + len(differences)
        outcomes.update(_outcome(result) for result in packets.values())
        if differences:
            say(f"seed {seed}: {len(differences)} of {len(packets)} attempts disagree, one of them made small:")
            say(_report(*smallest(network, differences[0])))
    say(f"{networks} networks, {total} attempts, {wrong} disagreements, {time.monotonic() - began:.1f} s")
    say("; ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common()))
    return wrong


def detect(mutants: Iterable[PlanMutation], seeds: Sequence[int], say: Callable[[str], None]) -> int:
    """Run every mutant in one network after another until the comparison detects it. Returns how many it never did."""
    missed = 0
    for mutant in mutants:
        detected_at = next((place for place, seed in enumerate(seeds) if _detected(mutant, seed)), None)
        missed += detected_at is None
        outcome = (
            f"not detected in {len(seeds)} networks"
            if detected_at is None
            else f"detected in network {detected_at + 1}"
        )
        say(f"{mutant.__name__}: {outcome}")
    return missed


def _detected(mutant: PlanMutation, seed: int) -> bool:
    network = random_network(seed)
    made = plan(network)
    return mutant(made) != made and bool(compare(network, mutate=mutant, timeout_seconds=1)[1])


def _outcome(result: PacketResult) -> str:
    return "arrived" if isinstance(result, Arrived) else str(getattr(result, "checkpoint", "unexplained"))


def _report(network: Network, disagreement: Disagreement) -> str:
    sides = f"  oracle:  {disagreement.oracle}\n  packets: {disagreement.packets}"
    return f"  {disagreement.attempt}\n{sides}\n{dump(network)}"


def _say(text: str) -> None:
    """Raises SystemExit if nobody reads any more, as after `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables, and of --tied."""
    made = argparse.ArgumentParser(prog="lab.fuzz", description=__doc__)
    made.add_argument("--n", type=int, default=100, help="how many networks (100)")
    made.add_argument("--seed", type=int, default=None, help="of the first one, the others follow (random)")
    add_switch(made, "--mutants", words="run plans with a deliberate mistake; each must be detected")
    made.add_argument("--tied", type=int, metavar="PID", help="end with this parent, such as make")
    return made


def main() -> int:
    """The exit status: 0 when all agree, 1 when not, 77 where the machine does not let us try."""
    asked = parser().parse_args()
    if asked.tied is not None:
        die_with_parent(asked.tied)
    first = random.SystemRandom().randrange(1_000_000_000) if asked.seed is None else asked.seed
    _say(f"seed {first}")
    try:
        enter()
        seeds = range(first, first + asked.n)
        return 1 if (detect(MUTANTS, seeds, _say) if asked.mutants else run(seeds, _say)) else 0
    except NamespacesForbidden as error:
        return main_or_skip(error)
    except MissingRequirement as error:
        return main_or_skip(NamespacesForbidden(str(error)))


if __name__ == "__main__":
    sys.exit(main())

"""The oracle against packets, on networks made at random. `python -m lab.fuzz --networks 100 --seed 1`

Any difference in whether a packet arrives, as whom it is seen, or where, by what and in which direction it dies, is a
disagreement: the plan, the oracle or our understanding of AWS is wrong.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import islice
from typing import Any

from lab.attempts import Arrived, Attempt, Verdict
from lab.enclosure import Forbidden, die_with_parent, enter, main_or_skip
from lab.oracle import Oracle
from lab.outside import standard_outside
from lab.parts import ROUTER, Host, Plan, Unrealisable
from lab.plan import plan
from lab.probe import TIMEOUT_SECONDS, attempts, probe
from lab.random_networks import random_network
from lab.realise import Missing, realised
from lab.spoilt import MISTAKES, Spoil
from stack.network.model import Network
from stack.network.serialize import dump

PORTS = (443, 5432, 22)
NOBODY_INSIDE = IPv4Address("10.0.0.250")
NOBODY_OUTSIDE = IPv4Address("198.51.100.200")
MOST_ATTEMPTS = 2000  # of one network


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """What the oracle and the packets say about one attempt."""

    attempt: Attempt
    oracle: Verdict
    packets: Verdict


def compare(
    network: Network,
    tried: Sequence[Attempt] | None = None,
    *,
    spoil: Spoil | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[dict[Attempt, Verdict], tuple[Disagreement, ...]]:
    """What the packets say, and where the oracle says something else. All attempts worth making when None are given."""
    made = plan(network) if spoil is None else spoil(plan(network))
    tried = worth_trying(made) if tried is None else tried
    with realised(made) as lab:
        packets = probe(lab, tried, timeout_seconds=timeout_seconds)
    oracle = Oracle(network, standard_outside(network))
    judged = {one: oracle.judge(one) for one in tried}
    return packets, tuple(
        Disagreement(attempt=one, oracle=judged[one], packets=packets[one])
        for one in tried
        if judged[one] != packets[one]
    )


def worth_trying(made: Plan, seed: int = 0) -> tuple[Attempt, ...]:
    """From every host to every address of every other one, and to two that nobody has."""
    pairs = list(_pairs(made.hosts))
    if len(pairs) > MOST_ATTEMPTS:
        pairs = random.Random(seed).sample(pairs, MOST_ATTEMPTS)  # noqa: S311 (chance, not secrets)
    honest = attempts(pairs)
    return (*honest, *_spoofed(made, honest))


def _spoofed(made: Plan, honest: Sequence[Attempt]) -> Iterator[Attempt]:
    """From each interface one as the next one, to the one before. Hosts outside are not checked."""
    inside = {link.far for link in made.links if link.near == ROUTER and link.far_device == "eth0"}
    hosts = [host for host in made.hosts if host.sends and host.name in inside]
    for place, host in enumerate(hosts[:-1]):
        yield Attempt(
            source=host.name,
            destination=hosts[place - 1].addresses[0],
            port=PORTS[0],
            source_port=honest[-1].source_port + 1 + place,
            claims=hosts[place + 1].addresses[0],
        )


def _pairs(hosts: Iterable[Host]) -> Iterator[tuple[str, IPv4Address, int]]:
    for source in hosts:
        if not source.sends:
            continue
        for host in hosts:
            for address in host.addresses:
                if address != source.addresses[0]:
                    yield from ((source.name, address, port) for port in (*PORTS, *host.listens[:1]))
        yield source.name, NOBODY_INSIDE, 443
        yield source.name, NOBODY_OUTSIDE, 443


# ---- Making a disagreement small


def smallest(network: Network, found: Disagreement, *, spoil: Spoil | None = None) -> tuple[Network, Disagreement]:
    """The network without all that the disagreement does not need.

    What could be taken away is tried in one order, again from the start until a whole round takes nothing.
    """
    place, taken = 0, False
    while True:
        candidate = next(islice(_smaller(network, found.attempt.source), place, None), None)
        if candidate is None:
            if not taken:
                return network, found
            place, taken = 0, False
        elif candidate != network and (still := _still(candidate, found.attempt, spoil)) is not None:
            network, found, taken = candidate, still, True
        else:
            place += 1


def _still(network: Network, attempt: Attempt, spoil: Spoil | None) -> Disagreement | None:
    try:
        _, differences = compare(network, (attempt,), spoil=spoil)
    except Unrealisable:
        return None
    return differences[0] if differences else None


def _smaller(network: Network, keep: str) -> Iterator[Network]:
    """Each network that lacks one thing more."""
    yield replace(network, vpn=None)
    for one in network.interfaces:
        if one.id != keep:
            yield replace(network, interfaces=tuple(other for other in network.interfaces if other is not one))
    for field in ("gateway_endpoints", "nat_gateways", "nacls", "subnets"):
        for less in _without_one(getattr(network, field)):
            yield _with(network, field, less)
    for field, part in _PARTS:
        yield from _with_smaller_parts(network, field, part)
    yield replace(network, subnets=tuple(replace(subnet, nacl=None) for subnet in network.subnets))


_PARTS = (
    ("route_tables", "routes"),
    ("nacls", "entries"),
    ("security_groups", "ingress"),
    ("security_groups", "egress"),
)


def _with_smaller_parts(network: Network, field: str, part: str) -> Iterator[Network]:
    things = getattr(network, field)
    for place, thing in enumerate(things):
        for less in _without_one(getattr(thing, part)):
            yield _with(network, field, (*things[:place], replace(thing, **{part: less}), *things[place + 1 :]))


def _with(network: Network, field: str, value: Any) -> Network:
    changes: dict[str, Any] = {field: value}
    return replace(network, **changes)


def _without_one[T](things: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    for place in range(len(things)):
        yield (*things[:place], *things[place + 1 :])


# ---- The command


def run(seeds: Iterable[int], say: Callable[[str], None]) -> int:
    """Compare one network per seed. Returns how many attempts disagreed; the first of each network is made small."""
    began, total, wrong, networks = time.monotonic(), 0, 0, 0
    ways: Counter[str] = Counter()
    for seed in seeds:
        network = random_network(seed)
        packets, differences = compare(network)
        networks, total, wrong = networks + 1, total + len(packets), wrong + len(differences)
        ways.update(_way(verdict) for verdict in packets.values())
        if differences:
            say(f"seed {seed}: {len(differences)} of {len(packets)} attempts disagree, one of them made small:")
            say(_report(*smallest(network, differences[0])))
    say(f"{networks} networks, {total} attempts, {wrong} disagreements, {time.monotonic() - began:.1f} s")
    say("; ".join(f"{way} {count}" for way, count in ways.most_common()))
    return wrong


def notice(mistakes: Iterable[Spoil], seeds: Sequence[int], say: Callable[[str], None]) -> int:
    """Make every mistake in one network after another until the comparison notices. Returns how many it never did."""
    missed = 0
    for mistake in mistakes:
        found = next((place for place, seed in enumerate(seeds) if _noticed(mistake, seed)), None)
        missed += found is None
        words = f"not noticed in {len(seeds)} networks" if found is None else f"noticed in network {found + 1}"
        say(f"{mistake.__name__}: {words}")
    return missed


def _noticed(mistake: Spoil, seed: int) -> bool:
    network = random_network(seed)
    made = plan(network)
    return mistake(made) != made and bool(compare(network, spoil=mistake, timeout_seconds=1)[1])


def _way(verdict: Verdict) -> str:
    return "arrived" if isinstance(verdict, Arrived) else str(getattr(verdict, "stage", "unexplained"))


def _report(network: Network, found: Disagreement) -> str:
    return f"  {found.attempt}\n  oracle:  {found.oracle}\n  packets: {found.packets}\n{dump(network)}"


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """The exit status: 0 when all agree, 1 when not, 77 where the machine does not let us try."""
    words = argparse.ArgumentParser(prog="lab.fuzz", description=__doc__)
    words.add_argument("--networks", type=int, default=20, help="how many (20)")
    words.add_argument("--seed", type=int, default=None, help="of the first one, the others follow (random)")
    words.add_argument("--spoilt", action="store_true", help="make mistakes on purpose; each must be noticed")
    words.add_argument("--tied", type=int, metavar="PID", help="end with this parent, such as make")
    asked = words.parse_args()
    if asked.tied is not None:
        die_with_parent(asked.tied)
    first = random.SystemRandom().randrange(1_000_000_000) if asked.seed is None else asked.seed
    _say(f"seed {first}")
    try:
        enter()
        seeds = range(first, first + asked.networks)
        return 1 if (notice(MISTAKES, seeds, _say) if asked.spoilt else run(seeds, _say)) else 0
    except Forbidden as error:
        return main_or_skip(error)
    except Missing as error:
        return main_or_skip(Forbidden(str(error)))


if __name__ == "__main__":
    sys.exit(main())

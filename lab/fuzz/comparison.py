"""The oracle against packets, on networks made at random. `python -m lab.fuzz --n 100 --seed 1`

Any difference in whether a packet arrives, as whom it is seen, or where, by what and in which direction it dies, is a
disagreement: the plan, the oracle or our understanding of AWS is wrong.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from lab.kernel.apply import applied
from lab.kernel.probe import TIMEOUT_SECONDS, Tried, attempts, probe
from lab.model.attempts import ConnectionAttempt, PacketResult
from lab.model.classes import everywhere
from lab.model.outside import standard_outside
from lab.oracle import Oracle
from lab.plan.build import plan
from lab.plan.parts import ROUTER, Host, Plan, PlanMutation
from stack.network.model import Network

PORTS = (443, 5432, 22)
NOBODY_INSIDE = IPv4Address("10.0.0.250")
NOBODY_OUTSIDE = IPv4Address("198.51.100.200")
MOST_ATTEMPTS = 2000  # of one network


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """What the oracle and the packets say about one attempt."""

    attempt: ConnectionAttempt
    oracle: PacketResult
    packets: PacketResult


def compare(
    network: Network,
    tried: Sequence[ConnectionAttempt] | None = None,
    *,
    mutate: PlanMutation | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[dict[ConnectionAttempt, PacketResult], tuple[Disagreement, ...]]:
    """What the packets say, and where the oracle says something else. `tried` defaults to all attempts worth making."""
    around = everywhere(network, standard_outside(network))
    made = plan(network, around) if mutate is None else mutate(plan(network, around))
    tried = worth_trying(made) if tried is None else tried
    with applied(made) as lab:
        packets = probe(lab, tried, timeout_seconds=timeout_seconds)
    oracle = Oracle(network, around)
    judged = {attempt: oracle.judge(attempt) for attempt in tried}
    return packets, tuple(
        Disagreement(attempt=attempt, oracle=judged[attempt], packets=packets[attempt])
        for attempt in tried
        if judged[attempt] != packets[attempt]
    )


def senders(network: Network) -> frozenset[str]:
    """The names of all hosts that attempts may start at."""
    outside = everywhere(network, standard_outside(network))
    return frozenset((*(interface.id for interface in network.interfaces), *(host.name for host in outside)))


def worth_trying(made: Plan, seed: int = 0) -> tuple[ConnectionAttempt, ...]:
    """From every host to every address of every other one, and to two that nobody has."""
    pairs: list[Tried] = list(_pairs(made.hosts))
    if len(pairs) > MOST_ATTEMPTS:
        pairs = random.Random(seed).sample(pairs, MOST_ATTEMPTS)  # noqa: S311 (chance, not secrets)
    honest = attempts(pairs)
    return (*honest, *_spoofed(made, honest))


def _spoofed(made: Plan, honest: Sequence[ConnectionAttempt]) -> Iterator[ConnectionAttempt]:
    """From each interface one as the next one, to the one before. Hosts outside are not checked."""
    inside = {link.far for link in made.links if link.near == ROUTER and link.far_device == "eth0"}
    hosts = [host for host in made.hosts if host.sends and host.name in inside]
    for place, host in enumerate(hosts[:-1]):
        yield ConnectionAttempt(
            source=host.name,
            destination=hosts[place - 1].addresses[0],
            port=PORTS[0],
            source_port=honest[-1].source_port + 1 + place,
            spoofed_source=hosts[place + 1].addresses[0],
        )


def _pairs(hosts: Iterable[Host]) -> Iterator[Tried]:
    for source in hosts:
        if not source.sends:
            continue
        for host in hosts:
            if source.shares and host.shares:
                continue  # the strangers are one namespace
            for address in host.addresses:
                if address != source.addresses[0]:
                    yield from ((source.name, address, port) for port in (*PORTS, *host.listens[:1]))
                    yield source.name, address, 443, "udp"
                    yield source.name, address, 0, "icmp"
        yield source.name, NOBODY_INSIDE, 443
        yield source.name, NOBODY_OUTSIDE, 443

"""Making a disagreement small: the least network that still shows it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from lab.fuzz.comparison import Disagreement, compare, senders
from lab.model.attempts import ConnectionAttempt
from lab.plan.parts import PlanMutation, UnsupportedNetwork
from stack.network.model import Network


def smallest(
    network: Network, disagreement: Disagreement, *, mutate: PlanMutation | None = None
) -> tuple[Network, Disagreement]:
    """The network without all that the disagreement does not need.

    What could be taken away is tried in one order, again from the start until a whole round takes nothing.
    """
    place, taken = 0, False
    while True:
        candidate = next(islice(_smaller(network, disagreement.attempt.source), place, None), None)
        if candidate is None:
            if not taken:
                return network, disagreement
            place, taken = 0, False
        elif candidate != network and (still := _still(candidate, disagreement.attempt, mutate)) is not None:
            network, disagreement, taken = candidate, still, True
        else:
            place += 1


def _still(network: Network, attempt: ConnectionAttempt, mutate: PlanMutation | None) -> Disagreement | None:
    if attempt.source not in senders(network):
        return None  # a stranger of a class that the network no longer tells apart
    try:
        _, differences = compare(network, (attempt,), mutate=mutate)
    except UnsupportedNetwork:
        return None
    return differences[0] if differences else None


def _smaller(network: Network, keep: str) -> Iterator[Network]:
    """Each network that lacks one thing more."""
    yield replace(network, vpn=None)
    for interface in network.interfaces:
        if interface.id != keep:
            yield replace(network, interfaces=tuple(other for other in network.interfaces if other is not interface))
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

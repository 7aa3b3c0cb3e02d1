"""A saved network is the same when it is read again, and what is none is refused."""

import json

import pytest

from lab.fuzz.networks import random_network
from stack.network.model import Blackhole
from stack.network.serialize import Unreadable, dump, load, renamed
from tests.support.networks import route, small_network, with_table


@pytest.mark.parametrize("seed", range(20))
def test_any_network_survives_saving(seed: int) -> None:
    network = random_network(seed)
    assert load(dump(network)) == network


def test_every_kind_of_target_survives_saving() -> None:
    network = with_table(small_network(), "database-table", route("0.0.0.0/0", Blackhole(was="nat-0")))
    assert load(dump(network)) == network


def test_a_group_as_peer_is_told_from_a_range() -> None:
    rules = json.loads(dump(small_network()))["security_groups"]
    assert [rule["peer"] for group in rules for rule in group["ingress"]] == [
        "function-group",
        "0.0.0.0/0",
        "192.168.0.0/20",
    ]


def test_ids_are_renamed_wherever_they_stand() -> None:
    network = random_network(3)
    ids = [subnet.id for subnet in network.subnets] + [table.id for table in network.route_tables]
    names = {old: f"new {old}" for old in ids}
    other = renamed(network, names)
    assert {interface.subnet for interface in other.interfaces} <= {subnet.id for subnet in other.subnets}
    assert {subnet.route_table for subnet in other.subnets} <= set(names.values())
    assert renamed(other, {new: old for old, new in names.items()}) == network


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        "{}",
        dump(small_network()).replace('"NatTarget"', '"TransitGatewayTarget"'),
        dump(small_network()).replace('"10.0.0.0/16"', '"10.0.0.0/33"'),
        dump(small_network()).replace('"tcp"', '"sctp"'),
        dump(small_network()).replace('"zones"', '"regions"'),
    ],
)
def test_what_is_no_network_is_refused(broken: str) -> None:
    with pytest.raises(Unreadable):
        load(broken)

"""The plan of a network: the same every time, and refused with the resource's name where something is missing."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from lab.fuzz.mutants import MUTANTS
from lab.fuzz.networks import random_network
from lab.kernel.nft import script
from lab.model.checkpoints import Checkpoint
from lab.model.outside import PARTNER, OutsideHost, standard_outside
from lab.plan.build import plan
from lab.plan.parts import INTERNET, ROUTER, UnsupportedNetwork
from stack.network.model import (
    ANYWHERE,
    Blackhole,
    GatewayEndpointTarget,
    InternetGatewayTarget,
    NatTarget,
    Network,
    VpnTarget,
)
from tests.support.networks import (
    DATABASE,
    FUNCTION,
    interface,
    route,
    rule,
    small_network,
    with_group,
    with_interface,
    with_subnet,
    with_table,
)


def test_a_network_has_one_plan() -> None:
    assert plan(random_network(7)) == plan(random_network(7))


def test_every_host_is_a_namespace_whose_only_link_leads_to_the_router_or_the_internet() -> None:
    made = plan(small_network())
    for name in ("function", "database", "bastion", "web", "resolver", "partner", "attacker"):
        assert name in made.namespaces
        assert [link.near for link in made.links if link.far == name] in ([ROUTER], [INTERNET])
        assert not any(link.near == name for link in made.links)


def test_without_an_internet_gateway_nothing_links_the_vpc_to_the_internet() -> None:
    made = plan(with_table(small_network(internet_gateway=None), "public-table"))
    assert not any((link.near, link.far) == (ROUTER, INTERNET) for link in made.links)


def test_every_refusal_names_its_cause() -> None:
    for seed in range(20):
        for ruleset in plan(random_network(seed)).rulesets:
            refusals = [rule for chain in ruleset.chains for rule in chain.filters if rule.action == "refuse"]
            assert refusals
            assert all(rule.cause is not None and rule.cause.detail for rule in refusals)
            assert "drop" not in [rule.action for chain in ruleset.chains for rule in chain.filters]


def test_a_refused_packet_is_dropped_even_when_it_cannot_be_recorded() -> None:
    """A statement that fails ends its line, so the verdict must not stand on the same one as the record."""
    for ruleset in plan(small_network()).rulesets:
        lines = [line.strip() for line in script(ruleset).text.splitlines()]
        (recording,) = [place for place, line in enumerate(lines) if "add @drops" in line]
        assert lines[recording].endswith("}")
        assert lines[recording + 1] == "drop; }"


def test_network_acls_are_asked_before_connections_are_known() -> None:
    forward = next(
        chain
        for ruleset in plan(small_network()).rulesets
        if ruleset.namespace == ROUTER
        for chain in ruleset.chains
        if chain.name == "forward"
    )
    matches = [rule.match for rule in forward.filters]
    established = matches.index("ct state established,related")
    acls = [place for place, match in enumerate(matches) if match.startswith(("iifname @subnet", "oifname @subnet"))]
    assert acls
    assert max(acls) < established


def test_of_two_routes_to_one_range_the_static_one_is_made() -> None:
    static, propagated = (
        route("192.168.0.0/20", NatTarget(nat="nat")),
        route("192.168.0.0/20", VpnTarget(gateway="vgw"), propagated=True),
    )
    made = plan(with_table(small_network(), "database-table", propagated, static))
    assert [
        route.device for route in made.routes if route.destination == static.destination and route.table == 102
    ] == ["n0"]


def test_each_mutant_changes_some_plan() -> None:
    plans = [plan(random_network(seed)) for seed in range(10)]
    for mutant in MUTANTS:
        assert any(mutant(made) != made for made in plans), mutant.__name__


def small(**changes: Any) -> Network:
    return small_network(**changes)


BROKEN = {
    "its route table no-table is unknown": with_subnet(small(), "private", route_table="no-table"),
    "its network ACL no-nacl is unknown": with_subnet(small(), "private", nacl="no-nacl"),
    "lies outside of the VPC's 10.0.0.0/16": with_subnet(small(), "corner", cidr=IPv4Network("10.1.0.0/24")),
    "overlaps 10.0.1.0/24 of private": with_subnet(small(), "corner", cidr=IPv4Network("10.0.1.128/25")),
    "NAT gateway nat-2, is unknown": with_table(small(), "private-table", route("0.0.0.0/0", NatTarget(nat="nat-2"))),
    "internet gateway igw-2, is unknown": with_table(
        small(), "public-table", route("0.0.0.0/0", InternetGatewayTarget(gateway="igw-2"))
    ),
    "VPN gateway vgw-2, is unknown": with_table(
        small(), "database-table", route("0.0.0.0/0", VpnTarget(gateway="vgw-2"))
    ),
    "gateway endpoint endpoint-2, is unknown": with_table(
        small(), "database-table", route("52.216.0.0/24", GatewayEndpointTarget(endpoint="endpoint-2"))
    ),
    "two static routes to 0.0.0.0/0": with_table(
        small(),
        "database-table",
        route("0.0.0.0/0", NatTarget(nat="nat")),
        route("0.0.0.0/0", Blackhole(was="nat-2")),
    ),
    "a route to the VPC's own range": with_table(small(), "database-table", route("10.0.0.0/16", Blackhole(was="x"))),
    "AWS takes no such route": with_table(small(), "database-table", route("10.0.1.0/24", VpnTarget(gateway="vgw"))),
    "is no range of ports": with_group(
        small(), "web-group", ingress=(replace(rule("odd", ANYWHERE, 443), last_port=80),)
    ),
    "its subnet no-subnet is unknown": with_interface(small(), "web", subnet="no-subnet"),
    "10.0.9.9 lies outside of public": with_interface(small(), "web", address=IPv4Address("10.0.9.9")),
    "it has no security group": with_interface(small(), "web", security_groups=()),
    "its security group no-group is unknown": with_interface(small(), "web", security_groups=("no-group",)),
    "the security group no-group that it names is unknown": with_group(
        small(), "web-group", ingress=(rule("odd", "no-group"),)
    ),
    "its private address (None)": small(nat_gateways=(replace(small().nat_gateways[0], address=None),)),
    "its private address (10.0.1.4) lies outside": small(
        nat_gateways=(replace(small().nat_gateways[0], address=FUNCTION),)
    ),
    "secondary addresses": small(
        nat_gateways=(replace(small().nat_gateways[0], addresses=small().nat_gateways[0].addresses * 2),)
    ),
    "two hosts have this address": with_interface(small(), "bastion", subnet="database", address=DATABASE),
    "an address outside lies in the VPC's range": with_interface(
        small(), "web", public_address=IPv4Address("10.0.200.1")
    ),
    "another host has the same name": small(
        interfaces=(*small().interfaces, interface("nat", "public", IPv4Address("10.0.0.7"), "web-group"))
    ),
}


@pytest.mark.parametrize("words", BROKEN)
def test_what_is_missing_is_named(words: str) -> None:
    with pytest.raises(UnsupportedNetwork) as refused:
        plan(BROKEN[words])
    assert words in str(refused.value)
    assert refused.value.resource


def test_nat_gateways_in_a_circle_are_refused() -> None:
    first = small().nat_gateways[0]
    second = replace(first, id="nat-2", subnet="private", address=IPv4Address("10.0.1.100"), addresses=())
    network = with_table(
        small(nat_gateways=(first, second)), "public-table", route("0.0.0.0/0", NatTarget(nat="nat-2"))
    )
    with pytest.raises(UnsupportedNetwork, match="by way of other NAT gateways"):
        plan(network)


def test_a_service_without_a_host_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="no host stands for the service"):
        plan(small(), outside=(PARTNER,))


@pytest.mark.parametrize(
    "stranger",
    [
        OutsideHost(name="branch", address=IPv4Address("192.168.99.1"), place="corporate"),
        OutsideHost(name="dynamodb", address=IPv4Address("52.94.0.1"), place="service", endpoint="endpoint-2"),
    ],
)
def test_a_host_that_nothing_leads_to_is_refused(stranger: OutsideHost) -> None:
    with pytest.raises(UnsupportedNetwork, match=stranger.name):
        plan(small(), outside=(*standard_outside(small()), stranger))


def test_more_hosts_can_be_put_outside() -> None:
    developer = OutsideHost(name="developer", address=IPv4Address("192.0.2.7"), place="internet")
    made = plan(small(), outside=(*standard_outside(small()), developer))
    assert "developer" in [host.name for host in made.hosts if host.sends]


def test_everything_that_can_refuse_is_a_stage_of_the_report() -> None:
    checkpoints = {
        rule.cause.checkpoint
        for seed in range(60)
        for ruleset in plan(random_network(seed)).rulesets
        for chain in ruleset.chains
        for rule in chain.filters
        if rule.cause is not None
    }
    assert checkpoints == set(Checkpoint)

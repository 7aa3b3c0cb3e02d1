"""Who may talk to whom: the default stack's answers, and for each kind of rule a network in which it is the one that
stops a connection."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address

import pytest

from stack import render
from stack.network import access_table, from_templates
from stack.network.model import ANYWHERE, Interface, Network, VpnTarget
from stack.network.reachability import inside, inward, outward, route_to, subnet_of

PARTNER = IPv4Address("198.51.100.80")
DEVELOPER = IPv4Address("198.51.100.9")
FUNCTIONS_OUT = "Network.OutboundFunctionSecurityGroup"
DATABASE_GROUP = "Network.DatabaseSecurityGroup"


@cache
def network(**parameters: str) -> Network:
    needs = render.NEEDS.get(parameters.get("Topology", ""), {})
    return from_templates.network(render.render({**needs, **parameters}))


def of(vpc: Network, owner: str) -> Interface:
    return next(interface for interface in vpc.interfaces if interface.owner.endswith(owner))


def without_group_rules(vpc: Network, group: str, side: str) -> Network:
    groups = [
        candidate
        if candidate.id != group
        else replace(candidate, ingress=())
        if side == "ingress"
        else replace(candidate, egress=())
        for candidate in vpc.security_groups
    ]
    return replace(vpc, security_groups=tuple(groups))


def without_routes(vpc: Network, role: str) -> Network:
    tables = {subnet.route_table for subnet in vpc.subnets if subnet.role == role}
    emptied = [replace(table, routes=()) if table.id in tables else table for table in vpc.route_tables]
    return replace(vpc, route_tables=tuple(emptied))


def without_acl(vpc: Network, *, egress: bool) -> Network:
    acls = [replace(acl, entries=tuple(e for e in acl.entries if e.egress != egress)) for acl in vpc.nacls]
    return replace(vpc, nacls=tuple(acls))


# ---- inside the VPC --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "owner", ["ApiFunction", "AttemptFunction", "AuthorizeFunction", "AdminFunction", "MigrateFunction"]
)
def test_every_function_of_the_api_reaches_the_database(owner: str) -> None:
    vpc = network()
    assert inside(vpc, of(vpc, owner), of(vpc, "DatabaseInstance"), 5432).open


def test_a_function_reaches_no_other_function_and_no_other_port() -> None:
    vpc = network()
    assert not inside(vpc, of(vpc, "ApiFunction"), of(vpc, "AttemptFunction"), 443).open
    assert not inside(vpc, of(vpc, "ApiFunction"), of(vpc, "DatabaseInstance"), 22).open


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda vpc: without_group_rules(vpc, FUNCTIONS_OUT, "egress"), "OutboundFunctionSecurityGroup: no egress"),
        (lambda vpc: without_group_rules(vpc, DATABASE_GROUP, "ingress"), "DatabaseSecurityGroup: no ingress"),
        (lambda vpc: without_acl(vpc, egress=False), "Acl: ingress"),
        (lambda vpc: without_acl(vpc, egress=True), "Acl: egress"),
        (
            lambda vpc: replace(vpc, interfaces=tuple(replace(interface, listens=()) for interface in vpc.interfaces)),
            "does not listen on 5432",
        ),
    ],
)
def test_each_rule_on_the_way_to_the_database_is_needed(change: Callable[[Network], Network], words: str) -> None:
    vpc = change(network())
    passage = inside(vpc, of(vpc, "ApiFunction"), of(vpc, "DatabaseInstance"), 5432)
    assert not passage.open
    assert words.lower() in str(passage.stopped_by).lower()


# ---- outward ---------------------------------------------------------------------------------------------------------


def test_third_parties_see_the_fixed_address() -> None:
    vpc = network()
    assert str(outward(vpc, of(vpc, "AttemptFunction"), PARTNER, 443).seen_as) == "203.0.113.10"


@pytest.mark.parametrize("egress", ["per-az", "regional"])
def test_third_parties_see_the_address_of_the_zone(egress: str) -> None:
    vpc = network(Egress=egress)
    seen = {
        subnet_of(vpc, interface).zone[-1]: str(outward(vpc, interface, PARTNER, 443).seen_as)
        for interface in vpc.interfaces
        if interface.owner == "AttemptFunction"
    }
    assert seen == {"a": "203.0.113.10", "b": "203.0.113.11"}


def test_a_regional_nat_gateway_without_an_address_in_a_zone_stops_what_stands_there() -> None:
    vpc = network(Egress="regional")
    (nat,) = vpc.nat_gateways
    vpc = replace(vpc, nat_gateways=(replace(nat, addresses=nat.addresses[:1]),))
    stopped = {
        str(outward(vpc, interface, PARTNER, 443).stopped_by)
        for interface in vpc.interfaces
        if interface.owner == "ApiFunction"
    }
    assert stopped == {"None", "Network.RegionalNatGateway has no address in us-east-1b"}


def test_functions_that_need_only_the_database_reach_nothing_else() -> None:
    vpc = network()
    assert "no egress for 443" in str(outward(vpc, of(vpc, "AuthorizeFunction"), PARTNER, 443).stopped_by)


def test_a_port_that_is_not_allowed_is_stopped_by_the_group() -> None:
    vpc = network()
    assert not outward(vpc, of(vpc, "AttemptFunction"), PARTNER, 25).open


def test_without_its_route_nothing_leaves() -> None:
    vpc = network()
    attempt = of(vpc, "AttemptFunction")
    assert "no route to" in str(outward(without_routes(vpc, "private"), attempt, PARTNER, 443).stopped_by)
    behind = outward(without_routes(vpc, "public"), attempt, PARTNER, 443)
    assert "does not lead to the internet" in str(behind.stopped_by)


def test_s3_is_reached_past_the_nat_gateway() -> None:
    vpc = network()
    attempt = of(vpc, "AttemptFunction")
    assert outward(vpc, attempt, IPv4Address("192.0.2.5"), 443).seen_as == attempt.address
    assert (
        str(outward(network(S3GatewayEndpoint="no"), attempt, IPv4Address("192.0.2.5"), 443).seen_as) == "203.0.113.10"
    )


def test_a_static_route_wins_over_a_propagated_one() -> None:
    vpc = network(Topology="on-premises")
    subnet = next(subnet for subnet in vpc.subnets if subnet.role == "private")
    (table,) = (table for table in vpc.route_tables if table.id == subnet.route_table)
    propagated = next(route for route in table.routes if isinstance(route.target, VpnTarget))
    assert propagated.propagated
    static = replace(propagated, id="static", propagated=False)
    tables = tuple(
        replace(candidate, routes=(*candidate.routes, static)) if candidate == table else candidate
        for candidate in vpc.route_tables
    )
    chosen = route_to(replace(vpc, route_tables=tables), subnet, IPv4Address("172.20.0.9"))
    assert chosen == static


# ---- inward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", render.TOPOLOGIES)
def test_strangers_reach_nothing(topology: str) -> None:
    vpc = network(Topology=topology)
    for interface in vpc.interfaces:
        for port in (*interface.listens, 22, 443, 5432):
            assert not inward(vpc, access_table.STRANGER, interface, port).open, interface


def test_developers_reach_the_database_and_only_from_their_range() -> None:
    vpc = network(Topology="internet-accessible")
    database = of(vpc, "DatabaseInstance")
    assert inward(vpc, DEVELOPER, database, 5432).open
    assert not inward(vpc, IPv4Address("198.51.101.9"), database, 5432).open
    without = replace(vpc, interfaces=tuple(replace(interface, public_address=None) for interface in vpc.interfaces))
    assert "has no public address" in str(inward(without, DEVELOPER, of(without, "DatabaseInstance"), 5432).stopped_by)


def test_the_corporate_network_reaches_the_database_only_if_asked() -> None:
    somebody = IPv4Address("172.20.3.4")
    closed = network(Topology="on-premises")
    assert not inward(closed, somebody, of(closed, "DatabaseInstance"), 5432).open
    opened = network(Topology="on-premises", CorporateDatabaseAccess="yes")
    assert inward(opened, somebody, of(opened, "DatabaseInstance"), 5432).open


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_the_rows_of_the_default_stack() -> None:
    rows = {(row.who, row.whom): (row.ports, row.how) for row in access_table.rows(network())}
    assert rows["authorize, admin", "the database instance"] == (("5432",), "inside the VPC")
    assert rows["everyone else on the internet", "anything in the VPC"] == ((), "nothing here answers to it")
    callers = next(who for who, whom in rows if whom == "the internet" and "attempt" in who)
    assert rows[callers, "the internet"] == (("80", "443", "8080", "8443"), "seen as 203.0.113.10")
    assert not any("authorize" in who and whom != "the database instance" for who, whom in rows)


def test_an_open_database_is_told_of() -> None:
    vpc = network(Topology="internet-accessible")
    groups = [
        replace(group, ingress=tuple(replace(rule, peer=ANYWHERE) for rule in group.ingress))
        for group in vpc.security_groups
    ]
    acls = [
        replace(acl, entries=tuple(replace(entry, cidr=ANYWHERE, allow=True) for entry in acl.entries))
        for acl in vpc.nacls
    ]
    row = access_table.rows(replace(vpc, security_groups=tuple(groups), nacls=tuple(acls)))[-1]
    assert (row.ports, row.how) == (("5432",), "open to all")


def test_what_no_route_leads_to_is_told_so() -> None:
    rows = access_table.rows(network(Topology="internal-only"))
    told = {row.whom: (row.ports, row.how) for row in rows}
    assert told["third parties in 10.200.0.0/16"] == ((), "not before you connect it, as by peering")
    assert told["the internet"] == ((), "no route of this stack leads there")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("ApiFunction", "API"),
        ("CheckEgressA.Function", "check egress A"),
        ("Database.DatabaseInstance", "database instance"),
        ("Network.RegionalNatGateway", "regional NAT gateway"),
        ("subnet-0a1b", "subnet - 0a1b"),
    ],
)
def test_owners_have_names_that_people_use(owner: str, name: str) -> None:
    assert access_table.name_of(owner) == name

"""What the oracle says at each edge of AWS that matters, one page of AWS after another."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from lab.model.attempts import Arrived, ConnectionAttempt, Died, PacketResult
from lab.model.checkpoints import PAGES, Checkpoint
from lab.model.outside import ATTACKER, PARTNER, standard_outside
from lab.oracle import Oracle
from stack.network.model import (
    ANYWHERE,
    Blackhole,
    InternetGatewayTarget,
    NatAddress,
    NatGateway,
    NatTarget,
    Network,
    VpnTarget,
)
from tests.support.networks import (
    BASTION,
    CORPORATE,
    DATABASE,
    FIXED,
    FUNCTION,
    NAT,
    SERVICE,
    WEB,
    WEB_PUBLIC,
    entry,
    interface,
    route,
    rule,
    small_network,
    with_group,
    with_interface,
    with_nacl,
    with_subnet,
    with_table,
)


def judge(
    network: Network, source: str, destination: IPv4Address, port: int = 443, spoofed_source: IPv4Address | None = None
) -> PacketResult:
    attempt = ConnectionAttempt(
        source=source, destination=destination, port=port, source_port=40000, spoofed_source=spoofed_source
    )
    return Oracle(network, standard_outside(network)).judge(attempt)


def died(checkpoint: Checkpoint, resource: str, detail: str, direction: str = "out") -> Died:
    assert direction in {"out", "back"}
    return Died(
        checkpoint=checkpoint, resource=resource, detail=detail, direction="back" if direction == "back" else "out"
    )


def test_every_stage_names_the_page_that_it_follows() -> None:
    assert set(PAGES) == set(Checkpoint)
    assert all(page.startswith("https://") for page in PAGES.values())


# ---- Security groups


def test_a_group_as_peer_means_the_private_addresses_of_its_members() -> None:
    assert judge(small_network(), "function", DATABASE, 5432) == Arrived(seen_as=FUNCTION)
    refused = judge(small_network(), "bastion", DATABASE, 5432)
    assert refused == died(Checkpoint.GROUP_IN, "database-group", "no rule allows it")


def test_a_group_as_peer_does_not_know_its_members_by_their_public_addresses() -> None:
    network = with_group(small_network(), "web-group", ingress=(rule("each other", "web-group", 443),))
    network = replace(
        network,
        interfaces=(
            *network.interfaces,
            interface("web-2", "public", WEB + 1, "web-group", public_address=WEB_PUBLIC + 1),
        ),
    )
    assert judge(network, "web-2", WEB) == Arrived(seen_as=WEB + 1)
    assert judge(network, "web-2", WEB_PUBLIC) == died(Checkpoint.GROUP_IN, "web-group", "no rule allows it")


def test_a_group_without_egress_rules_answers_but_starts_nothing() -> None:
    assert judge(small_network(), "function", DATABASE, 5432) == Arrived(seen_as=FUNCTION)
    network = with_nacl(small_network(), entry(1, (0, 65535), "0.0.0.0/0", egress=True))
    refused = judge(network, "database", FUNCTION, 443)
    assert refused == died(Checkpoint.GROUP_OUT, "database-group", "no rule allows it")


def test_rules_for_other_protocols_and_ports_allow_nothing() -> None:
    wide = rule("wide", ANYWHERE)
    for useless in (
        replace(wide, protocol="udp"),
        replace(wide, protocol="icmp"),
        replace(wide, protocol="tcp", first_port=444, last_port=500),
    ):
        network = with_group(small_network(), "web-group", ingress=(useless,))
        refused = judge(network, "attacker", WEB_PUBLIC)
        assert refused == died(Checkpoint.GROUP_IN, "web-group", "no rule allows it")


# ---- Network ACLs


def test_a_nacl_without_the_way_back_cuts_everyone() -> None:
    network = with_nacl(small_network(), entry(100, (5432, 5432), "10.0.0.0/16", egress=False))
    refused = judge(network, "function", DATABASE, 5432)
    assert refused == died(Checkpoint.NACL_OUT, "database-nacl", "no entry allows it", "back")


def test_a_nacl_asks_for_the_port_that_the_answer_goes_to() -> None:
    network = with_nacl(
        small_network(),
        entry(100, (5432, 5432), "10.0.0.0/16", egress=False),
        entry(100, (50000, 65535), "10.0.0.0/16", egress=True),
    )
    assert isinstance(judge(network, "function", DATABASE, 5432), Died)  # the attempt's source port is 40000


def test_the_lowest_number_of_a_nacl_decides() -> None:
    allow_all = (entry(50, (0, 65535), "0.0.0.0/0", egress=True), entry(50, (0, 65535), "0.0.0.0/0", egress=False))
    deny = entry(10, (5432, 5432), "10.0.1.0/24", egress=False, allow=False)
    refused = judge(with_nacl(small_network(), *allow_all, deny), "function", DATABASE, 5432)
    assert refused == died(Checkpoint.NACL_IN, "database-nacl", "in 10")
    assert isinstance(
        judge(with_nacl(small_network(), *allow_all, replace(deny, number=60)), "function", DATABASE, 5432), Arrived
    )


def test_a_nacl_is_not_asked_within_its_subnet() -> None:
    network = with_nacl(with_interface(small_network(), "function", subnet="database", address=DATABASE + 1))
    assert judge(network, "function", DATABASE, 5432) == Arrived(seen_as=DATABASE + 1)


def test_what_goes_to_a_nat_gateway_enters_its_subnet() -> None:
    network = with_subnet(with_nacl(small_network()), "public", nacl="database-nacl")
    refused = judge(network, "function", PARTNER.address)
    assert refused == died(Checkpoint.NACL_IN, "database-nacl", "no entry allows it")


# ---- Routes


def test_the_local_route_wins_over_shorter_ones() -> None:
    network = with_table(small_network(), "private-table", route("10.0.0.0/8", Blackhole(was="peering")))
    assert judge(network, "function", DATABASE, 5432) == Arrived(seen_as=FUNCTION)


def test_a_route_within_the_vpc_wins_over_the_local_one() -> None:
    network = with_table(small_network(), "private-table", route("10.0.2.0/24", Blackhole(was="middlebox")))
    refused = judge(network, "function", DATABASE, 5432)
    assert refused == died(Checkpoint.BLACKHOLE, "to 10.0.2.0/24", "middlebox is gone")


def test_a_propagated_route_within_the_vpc_does_not_win_over_the_local_one() -> None:
    propagated = route("10.0.2.0/24", VpnTarget(gateway="vgw"), propagated=True)
    network = with_table(small_network(), "private-table", propagated)
    assert judge(network, "function", DATABASE, 5432) == Arrived(seen_as=FUNCTION)


def test_a_static_route_wins_over_a_propagated_one_to_the_same_range() -> None:
    static = route(str(CORPORATE), Blackhole(was="peering"))
    propagated = route(str(CORPORATE), VpnTarget(gateway="vgw"), propagated=True)
    network = with_table(small_network(), "private-table", propagated, static)
    assert isinstance(judge(network, "function", CORPORATE[10]), Died)


def test_the_longest_prefix_wins() -> None:
    network = with_table(
        small_network(),
        "private-table",
        route("0.0.0.0/0", NatTarget(nat="nat")),
        route("198.51.100.66/32", Blackhole(was="nat-2")),
    )
    assert judge(network, "function", PARTNER.address) == Arrived(seen_as=FIXED)
    refused = judge(network, "function", ATTACKER.address)
    assert refused == died(Checkpoint.BLACKHOLE, "to 198.51.100.66/32", "nat-2 is gone")


def test_a_subnet_without_a_default_route_leads_nowhere() -> None:
    network = with_group(
        with_subnet(small_network(), "database", nacl=None), "database-group", egress=(rule("all", ANYWHERE),)
    )
    assert judge(network, "database", PARTNER.address) == died(Checkpoint.ROUTE, "database-table", "no route")


def test_an_address_that_nobody_has_is_not_reached() -> None:
    refused = judge(small_network(), "function", IPv4Address("10.0.1.99"))
    assert refused == died(Checkpoint.ADDRESS, "vpc", "no interface has this address")


# ---- NAT gateways and the internet gateway


def test_partners_see_the_fixed_address() -> None:
    assert judge(small_network(), "function", PARTNER.address) == Arrived(seen_as=FIXED)


def test_a_nat_gateway_takes_no_connections() -> None:
    for address in (NAT, FIXED):
        source = "function" if address == NAT else "attacker"
        assert judge(small_network(), source, address) == died(Checkpoint.NAT, "nat", "it takes no connections")


def test_a_nat_gateway_in_a_private_subnet_is_routed_to_itself() -> None:
    nat = replace(small_network().nat_gateways[0], subnet="private", address=FUNCTION + 96)
    refused = judge(small_network(nat_gateways=(nat,)), "function", PARTNER.address)
    assert refused == died(Checkpoint.LOOP, "nat", "it is routed to itself")


def test_an_elastic_ip_on_a_host_behind_a_nat_gateway_is_reached_but_its_answers_go_astray() -> None:
    network = with_interface(small_network(), "web", subnet="private", address=FUNCTION + 1)
    refused = judge(network, "attacker", WEB_PUBLIC)
    assert refused == died(Checkpoint.NAT, "nat", "it belongs to no connection that it translates", "back")


def test_a_host_without_a_public_address_does_not_pass_the_internet_gateway() -> None:
    network = with_table(small_network(), "private-table", route("0.0.0.0/0", InternetGatewayTarget(gateway="igw")))
    refused = judge(network, "function", PARTNER.address)
    assert refused == died(Checkpoint.GATEWAY, "igw", "the sender has no public address")


def test_the_internet_routes_no_private_addresses() -> None:
    refused = judge(small_network(), "attacker", DATABASE, 5432)
    assert refused == died(Checkpoint.INTERNET, "internet", "private addresses are not routed")


def test_a_public_address_without_an_internet_gateway_is_nobodys() -> None:
    network = with_table(small_network(internet_gateway=None), "public-table")
    refused = judge(network, "attacker", WEB_PUBLIC)
    assert refused == died(Checkpoint.INTERNET, "internet", "no host has this address")


def test_a_regional_nat_gateway_serves_the_zones_that_it_has_addresses_in() -> None:
    address = NatAddress(zone="a", allocation="eip", public_address=FIXED)
    regional = NatGateway(id="nat", subnet=None, address=None, addresses=(address,))
    network = small_network(nat_gateways=(regional,))
    assert judge(network, "function", PARTNER.address) == Arrived(seen_as=FIXED)
    refused = judge(with_subnet(network, "private", zone="b"), "function", PARTNER.address)
    assert refused == died(Checkpoint.NAT, "nat", "it has no address in the sender's zone")


# ---- Gateway endpoints, the VPN, the resolver, the source check


def test_a_gateway_endpoint_is_passed_with_the_private_address() -> None:
    assert judge(small_network(), "function", SERVICE[10]) == Arrived(seen_as=FUNCTION)
    network = with_table(small_network(), "private-table", route("0.0.0.0/0", NatTarget(nat="nat")))
    assert judge(network, "function", SERVICE[10]) == Arrived(seen_as=FIXED)


def test_the_corporate_network_reaches_what_is_open_to_it_and_no_more() -> None:
    assert judge(small_network(), "corporate", BASTION, 22) == Arrived(seen_as=CORPORATE[10])
    assert isinstance(judge(small_network(), "corporate", BASTION, 443), Died)
    assert isinstance(judge(small_network(), "corporate", DATABASE, 5432), Died)


def test_the_vpn_leads_into_the_vpc_and_not_through_it() -> None:
    for address in (PARTNER.address, SERVICE[10], WEB_PUBLIC):
        refused = judge(small_network(), "corporate", address)
        assert refused == died(Checkpoint.VPN, "vgw", "it leads into the VPC, not through it")


def test_without_a_route_back_the_vpn_gets_no_answers() -> None:
    network = with_table(small_network(), "private-table")
    refused = judge(network, "corporate", BASTION, 22)
    assert refused == died(Checkpoint.ROUTE, "private-table", "no route", "back")


def test_the_resolver_is_asked_past_every_filter_by_those_inside() -> None:
    network = with_group(small_network(), "function-group", egress=())
    resolver = IPv4Address("10.0.0.2")
    assert judge(network, "function", resolver, 53) == Arrived(seen_as=FUNCTION)
    assert judge(with_nacl(network), "database", resolver, 53) == Arrived(seen_as=DATABASE)
    assert judge(network, "function", resolver, 443) == died(
        Checkpoint.RESOLVER, "vpc", "it answers DNS on port 53 alone"
    )
    assert isinstance(judge(network, "corporate", resolver, 53), Died)


def test_nobody_sends_as_someone_else() -> None:
    refused = judge(small_network(), "bastion", DATABASE, 5432, spoofed_source=FUNCTION)
    assert refused == died(Checkpoint.SOURCE, "bastion", f"its address is {BASTION}")


# ---- Opening the database to the world takes two mistakes


@pytest.mark.parametrize(("open_group", "public_subnet"), [(True, False), (False, True)])
def test_one_mistake_alone_lets_no_attacker_into_the_database(open_group: bool, public_subnet: bool) -> None:
    assert isinstance(judge(_opened(open_group, public_subnet), "attacker", WEB_PUBLIC + 9, 5432), Died)


def test_both_mistakes_together_do() -> None:
    assert judge(_opened(True, True), "attacker", WEB_PUBLIC + 9, 5432) == Arrived(seen_as=ATTACKER.address)


def _opened(open_group: bool, public_subnet: bool) -> Network:
    network = small_network()
    if open_group:
        network = with_group(network, "database-group", ingress=(rule("the world", ANYWHERE, 5432),))
    if public_subnet:
        network = with_subnet(network, "database", route_table="public-table", nacl=None)
        network = with_interface(network, "database", public_address=WEB_PUBLIC + 9)
    return network

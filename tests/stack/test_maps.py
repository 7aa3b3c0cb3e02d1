"""The pictures in docs/maps are those of the templates, say what the access table says, and can be read."""

import re
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from stack import render
from stack.diagram import maps
from stack.diagram.badges import Flow, acl_of, routes_of
from stack.diagram.maps import MAPS, PICTURES, pictures
from stack.diagram.picture import draw
from stack.network import from_templates
from stack.network.access_table import UNCONNECTED
from stack.network.model import ANYWHERE, InterfaceKind, Network, Rule
from tests.support.pictures import SVG, badges, boxes, outside, overlaps, texts

DRAWN = pictures()


def network(**parameters: str) -> Network:
    needs = render.NEEDS.get(parameters.get("Topology", ""), {})
    return from_templates.network(render.render({**needs, **parameters}))


# What the pictures in docs/maps do not show.
OTHERS = {
    "bastion, reader and proxy": network(
        Bastion="yes", DatabaseReader="yes", DatabaseProxy="yes", DatabaseMinCapacity="0.5", Egress="per-az"
    ),
    "endpoints": network(InterfaceEndpoints="sqs,secretsmanager", S3GatewayEndpoint="no"),
    "corporate database": network(Topology="on-premises", CorporateDatabaseAccess="yes", VpnRouting="static"),
    "internal with a bastion": network(Topology="internal-only", Bastion="yes"),
    "one developer": network(Topology="internet-accessible", DeveloperCidr="198.51.100.7/32"),
    "single addresses inside": network(Topology="internal-only", AllowedPrivateCidrs="10.200.0.1/32,10.201.0.0/31"),
    "a corporate network of one": network(Topology="on-premises", CorporateCidr="172.20.0.1/32"),
    "developers, two zones": network(Topology="internet-accessible", Egress="regional", DatabaseReader="yes"),
}
ALL = {**DRAWN, **{name: draw(vpc, name=name) for name, vpc in OTHERS.items()}}


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_in_the_docs_is_that_of_the_templates(name: str, repository: Path) -> None:
    path = repository / MAPS / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == DRAWN[name], "run make map"


def test_there_is_no_picture_of_something_else(repository: Path) -> None:
    assert {path.stem for path in (repository / MAPS).iterdir()} == set(PICTURES)


def test_a_picture_is_drawn_the_same_every_time() -> None:
    assert pictures() == DRAWN


@pytest.mark.parametrize("name", ALL)
def test_no_label_lies_on_another_or_leaves_the_picture(name: str) -> None:
    assert overlaps(ALL[name]) == []
    assert outside(ALL[name]) == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_names_ranges_addresses_and_what_is_closed(name: str) -> None:
    vpc = network(**PICTURES[name])
    labels = " ".join(texts(DRAWN[name]))
    for subnet in vpc.subnets:
        assert f"{subnet.role} subnet {subnet.cidr}" in labels
    for nat in vpc.nat_gateways:
        for address in nat.addresses:
            assert f"Elastic IP {address.public_address}" in labels
    assert "no way in" in labels
    assert ("no way out" in labels) == (name == "internal-only")
    assert f'<title id="title">The network of Sallyport: {PICTURES[name]["Topology"]}' in DRAWN[name]
    assert "Connections that may be opened" in DRAWN[name]


@pytest.mark.parametrize("name", ALL)
def test_a_picture_has_a_caller_and_a_reason_for_each_way_that_is_closed(name: str) -> None:
    labels = texts(ALL[name])
    assert {"API consumers", "with the API's consumers"} & set(labels)
    assert "stopped" not in labels
    for words in labels:
        if words.startswith("third parties in "):
            assert {UNCONNECTED, "through the VPN, by private address"} & set(labels)


def test_the_readme_says_of_each_design_what_its_picture_shows(repository: Path) -> None:
    table = re.findall(
        r"^\| \[([a-z-]+)\]\(docs/maps/\1\.svg\)[^|]*\| (.*?) \| (.*?) \|", readme(repository), re.MULTILINE
    )
    assert [name for name, _, _ in table] == list(render.TOPOLOGIES)
    for name, seen, callers in table:
        labels = texts(DRAWN[name])
        assert ("fixed address" in seen) == any(words.startswith("Elastic IP ") for words in labels)
        assert (
            ("none on the internet" in seen) == ("Third parties on the internet" in labels) == ("no way out" in labels)
        )
        assert ("once their network is connected" in seen) == ("once you connect them" in labels)
        assert ("the VPC" in callers) == ("in the VPC" in labels)
        assert ("VPN" in callers) or ("API consumers" in labels)


def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_developers_and_the_corporate_network_are_shown_where_they_are_let_in() -> None:
    assert "198.51.100.0/24" in texts(DRAWN["internet-accessible"])
    assert {"Corporate network", "172.20.0.0/16", "gateway 198.51.100.7"} <= set(texts(DRAWN["on-premises"]))
    assert "Developers" not in texts(DRAWN["public-private"])


def test_a_database_that_is_open_to_all_is_shown_open() -> None:
    vpc = network(Topology="internet-accessible")
    everyone = Rule(id="opened", protocol="tcp", first_port=5432, last_port=5432, peer=ANYWHERE)
    groups = tuple(replace(group, ingress=(*group.ingress, everyone)) for group in vpc.security_groups)
    acls = tuple(
        replace(nacl, entries=tuple(replace(entry, cidr=ANYWHERE, allow=True) for entry in nacl.entries))
        for nacl in vpc.nacls
    )
    labels = texts(draw(replace(vpc, security_groups=groups, nacls=acls)))
    assert "OPEN" in labels
    assert "no way in" not in labels


def flow(*at: str, arrived: bool = False) -> Flow:
    became = "arrived, seen as 203.0.113.10" if arrived else "died at the security group, outbound: no rule allows it"
    return Flow(who="API", whom="the database", ports=(22, 443), tried=7, became=became, by="A", at=at, arrived=arrived)


def places(vpc: Network) -> list[str]:
    """Wherever a flow can end in the picture of a network."""
    subnets = [
        place
        for subnet in vpc.subnets
        for place in (routes_of(subnet.id), *([acl_of(subnet.id)] if subnet.nacl else []))
    ]
    gateways = [nat.id for nat in vpc.nat_gateways] + ([vpc.internet_gateway] if vpc.internet_gateway else [])
    corporate = [vpc.vpn.gateway, "corporate"] if vpc.vpn else []
    return [
        "internet",
        "third party",
        vpc.vpc,
        *(interface.id for interface in vpc.interfaces),
        *subnets,
        *gateways,
        *corporate,
    ]


@pytest.mark.parametrize("name", OTHERS | dict.fromkeys(PICTURES))
def test_two_badges_have_room_at_every_place(name: str) -> None:
    vpc = OTHERS[name] if name in OTHERS else network(**PICTURES[name])
    drawn = draw(vpc, [flow(*places(vpc)), flow(*places(vpc), arrived=True)])
    assert overlaps(drawn) == []
    assert outside(drawn) == []
    assert len(badges(drawn)) > 2 * (2 + len(vpc.subnets) + len(vpc.zones))


def test_flows_are_told_in_words_and_numbered_where_they_ended() -> None:
    vpc = network()
    database = next(interface for interface in vpc.interfaces if interface.kind is InterfaceKind.DATABASE)
    acl = acl_of(database.subnet)
    drawn = draw(vpc, [flow(database.id, arrived=True), flow(acl), flow(acl, "internet")], note="7 of 8")
    labels = texts(drawn)
    assert {"API", "the database", "22, 443", "7", "arrived, seen as 203.0.113.10", "A", "7 of 8"} <= set(labels)
    assert [labels.count(number) for number in "123"] == [2, 2, 3]  # each once in the list
    assert len(badges(drawn)) == 4 + 3 + 2  # with those of the list and of the legend
    assert "Tried: API to the database, ports 22, 443: arrived" in drawn


def test_a_network_acl_that_lets_all_pass_is_not_said_to_list_something() -> None:
    vpc = network()
    (own,) = vpc.nacls
    low = {entry.egress: entry for entry in own.entries}
    opened = [replace(entry, number=1, allow=True, protocol="any", cidr=ANYWHERE) for entry in low.values()]
    for entries, is_told in (((*own.entries, *opened), False), ((*own.entries, opened[0]), True)):
        labels = texts(draw(replace(vpc, nacls=(replace(own, entries=entries),))))
        assert ("network ACL: only what is listed below" in labels) is is_told


def test_badges_beside_each_other_read_to_the_right() -> None:
    drawn = draw(network(), [flow("internet"), flow("internet")])
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    at = {label.text: float(label.attrib["x"]) for label in root.iter(f"{SVG}text") if float(label.attrib["y"]) < 132}
    assert at["1"] < at["2"]


def test_the_lines_are_those_of_the_map_and_none_is_slanted() -> None:
    vpc = network(Topology="on-premises", Egress="per-az")
    drawn = draw(vpc, [flow(*places(vpc))])
    for words in re.findall(r'd="M([-0-9. ]+)" fill="none"', drawn):
        numbers = [float(word) for word in words.split()]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        slanted = [step for step in pairwise(points) if step[0][0] != step[1][0] and step[0][1] != step[1][1]]
        assert slanted == [] or abs(points[0][0] - points[1][0]) == 24  # but for the cross at "no way in"


def test_a_flow_that_ended_where_nothing_is_drawn_is_refused() -> None:
    with pytest.raises(KeyError, match=r"Network\.Nowhere"):
        draw(network(), [flow("Network.Nowhere")])


def test_what_has_no_room_is_refused_and_not_left_out() -> None:
    vpc = network()
    with pytest.raises(ValueError, match="two zones"):
        draw(replace(vpc, zones=("a", "b", "c")))
    with pytest.raises(ValueError, match="private and database subnets"):
        draw(replace(vpc, subnets=tuple(subnet for subnet in vpc.subnets if subnet.role != "database")))
    (nat,) = vpc.nat_gateways
    with pytest.raises(ValueError, match="one fixed address for each zone"):
        draw(replace(vpc, nat_gateways=(nat, nat)))


@pytest.mark.parametrize("role", ["public", "private", "database"])
def test_whoever_stands_in_a_subnet_is_drawn_there(role: str) -> None:
    vpc = network()
    subnet = next(subnet for subnet in vpc.subnets if subnet.role == role)
    moved = tuple(
        replace(interface, subnet=subnet.id, security_groups=()) if interface.owner == "AdminFunction" else interface
        for interface in vpc.interfaces
    )
    drawn = draw(replace(vpc, interfaces=moved))
    at = {words: top for words, _, top, _, _ in boxes(drawn)}
    following = {"public": "private", "private": "database"}.get(role)
    upper = at[next(words for words in at if words.startswith(f"{role} subnet"))]
    lower = at[next(words for words in at if words.startswith(f"{following} subnet"))] if following else 1e9
    assert upper < at["function: admin"] < lower


def test_names_are_escaped() -> None:
    vpc = network()
    odd = tuple(
        replace(interface, owner="a<b&c") if interface.owner == "AdminFunction" else interface
        for interface in vpc.interfaces
    )
    assert "a &lt; b &amp; c" in draw(replace(vpc, interfaces=odd))


def test_a_real_address_is_not_called_a_stand_in() -> None:
    vpc = network()
    (nat,) = vpc.nat_gateways
    own = replace(
        nat, addresses=tuple(replace(address, public_address=IPv4Address("52.1.2.3")) for address in nat.addresses)
    )
    labels = " ".join(texts(draw(replace(vpc, nat_gateways=(own,)))))
    assert "Elastic IP 52.1.2.3" in labels
    assert "stand for" not in labels


def test_the_command_writes_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(maps, "OUT_OF", tmp_path)
    (tmp_path / "docs").mkdir()
    assert maps.main() == 0
    assert {path.stem for path in (tmp_path / MAPS).iterdir()} == set(PICTURES)
    assert "docs/maps/on-premises.svg" in capsys.readouterr().out

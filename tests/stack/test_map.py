"""The pictures in docs/maps are those of the templates, say what stack/talk.py says, and can be read."""

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from stack import map as maps
from stack import reading, render
from stack.map import MAPS, PICTURES, pictures
from stack.network import ANYWHERE, Kind, Network, Rule
from stack.picture import Flow, draw
from stack.svg import width

DRAWN = pictures()
SVG = "{http://www.w3.org/2000/svg}"


def network(**parameters: str) -> Network:
    needs = render.NEEDS.get(parameters.get("Topology", ""), {})
    return reading.network(render.render({**needs, **parameters}))


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
ALL = {**DRAWN, **{name: draw(found, name=name) for name, found in OTHERS.items()}}


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314 - our own


def boxes(picture: str) -> list[tuple[str, float, float, float, float]]:
    """Each text with its left, top, right and lower edge."""
    found = []
    for element in ET.fromstring(picture).iter(f"{SVG}text"):  # noqa: S314 - our own
        size = float(element.get("font-size", "15"))
        wide = width(element.text or "", size, bold=element.get("font-weight") == "bold")
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        left = x - {"middle": wide / 2, "end": wide}.get(element.get("text-anchor", ""), 0)
        found.append((element.text or "", left, y - 0.75 * size, left + wide, y + 0.2 * size))
    return found


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
    placed = boxes(ALL[name])
    high = float(ET.fromstring(ALL[name]).attrib["height"])  # noqa: S314 - our own
    outside = [text for text, left, top, right, low in placed if left < 8 or right > 1192 or top < 8 or low > high - 8]
    assert outside == []
    crossing = [
        (one[0], other[0])
        for one, other in combinations(placed, 2)
        if one[1] < other[3] and other[1] < one[3] and one[2] < other[4] and other[2] < one[4]
    ]
    assert crossing == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_names_ranges_addresses_and_what_is_closed(name: str) -> None:
    found = network(**PICTURES[name])
    told = " ".join(texts(DRAWN[name]))
    for subnet in found.subnets:
        assert f"{subnet.role} subnet {subnet.cidr}" in told
    for nat in found.nat_gateways:
        for address in nat.addresses:
            assert f"Elastic IP {address.public_address}" in told
    assert "no way in" in told
    assert ("no way out" in told) == (name == "internal-only")
    assert f'<title id="title">The network of Sallyport: {PICTURES[name]["Topology"]}' in DRAWN[name]
    assert "Connections that may be opened" in DRAWN[name]


def test_developers_and_the_corporate_network_are_shown_where_they_are_let_in() -> None:
    assert "198.51.100.0/24" in texts(DRAWN["internet-accessible"])
    assert {"Corporate network", "172.20.0.0/16", "gateway 198.51.100.7"} <= set(texts(DRAWN["on-premises"]))
    assert "Developers" not in texts(DRAWN["public-private"])


def test_a_database_that_is_open_to_all_is_shown_open() -> None:
    found = network(Topology="internet-accessible")
    everyone = Rule(id="opened", protocol="tcp", first_port=5432, last_port=5432, peer=ANYWHERE)
    groups = tuple(replace(group, ingress=(*group.ingress, everyone)) for group in found.security_groups)
    acls = tuple(
        replace(nacl, entries=tuple(replace(entry, cidr=ANYWHERE, allow=True) for entry in nacl.entries))
        for nacl in found.nacls
    )
    told = texts(draw(replace(found, security_groups=groups, nacls=acls)))
    assert "OPEN" in told
    assert "no way in" not in told


def test_flows_are_drawn_to_where_they_arrived_or_died() -> None:
    found = network()
    database = next(each.owner for each in found.interfaces if each.kind is Kind.DATABASE)
    arrived = Flow(source="ApiFunction", destination=database, port=5432)
    died = Flow(source="internet", destination=database, port=5432, died_at="Network.DatabaseSecurityGroup")
    drawn = draw(found, [arrived, died])
    told = texts(drawn)
    assert f"ApiFunction to {database}, port 5432: arrived" in told
    assert f"internet to {database}, port 5432: died at Network.DatabaseSecurityGroup" in told
    assert drawn.count("<circle") == draw(found).count("<circle") + 4


def test_a_flow_between_places_that_are_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match=r"Network\.Nowhere"):
        draw(network(), [Flow(source="ApiFunction", destination="Network.Nowhere", port=443)])


def test_what_has_no_room_is_refused_and_not_left_out() -> None:
    found = network()
    with pytest.raises(ValueError, match="two zones"):
        draw(replace(found, zones=("a", "b", "c")))
    with pytest.raises(ValueError, match="private and database subnets"):
        draw(replace(found, subnets=tuple(each for each in found.subnets if each.role != "database")))
    (nat,) = found.nat_gateways
    with pytest.raises(ValueError, match="one fixed address for each zone"):
        draw(replace(found, nat_gateways=(nat, nat)))


@pytest.mark.parametrize("role", ["public", "private", "database"])
def test_whoever_stands_in_a_subnet_is_drawn_there(role: str) -> None:
    found = network()
    subnet = next(each for each in found.subnets if each.role == role)
    moved = tuple(
        replace(each, subnet=subnet.id, security_groups=()) if each.owner == "AdminFunction" else each
        for each in found.interfaces
    )
    drawn = draw(replace(found, interfaces=moved))
    at = {words: top for words, _, top, _, _ in boxes(drawn)}
    following = {"public": "private", "private": "database"}.get(role)
    upper = at[next(words for words in at if words.startswith(f"{role} subnet"))]
    lower = at[next(words for words in at if words.startswith(f"{following} subnet"))] if following else 1e9
    assert upper < at["function: admin"] < lower


def test_names_are_escaped() -> None:
    found = network()
    odd = tuple(replace(each, owner="a<b&c") if each.owner == "AdminFunction" else each for each in found.interfaces)
    assert "a &lt; b &amp; c" in draw(replace(found, interfaces=odd))


def test_a_real_address_is_not_called_a_stand_in() -> None:
    found = network()
    (nat,) = found.nat_gateways
    own = replace(nat, addresses=tuple(replace(each, public_address=IPv4Address("52.1.2.3")) for each in nat.addresses))
    told = " ".join(texts(draw(replace(found, nat_gateways=(own,)))))
    assert "Elastic IP 52.1.2.3" in told
    assert "stand for" not in told


def test_the_command_writes_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(maps, "OUT_OF", tmp_path)
    (tmp_path / "docs").mkdir()
    assert maps.main() == 0
    assert {path.stem for path in (tmp_path / MAPS).iterdir()} == set(PICTURES)
    assert "docs/maps/on-premises.svg" in capsys.readouterr().out

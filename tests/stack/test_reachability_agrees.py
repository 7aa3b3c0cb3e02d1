"""stack/network/reachability.py and the lab's oracle share no code; here they are asked the same."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from lab.model.attempts import Arrived, ConnectionAttempt, PacketResult
from lab.model.outside import OutsideHost, standard_outside
from lab.oracle import Oracle
from stack import render
from stack.network import from_templates
from stack.network.access_table import STRANGER
from stack.network.model import ANYWHERE, Network, Rule
from stack.network.reachability import Passage, inside, inward, outward

PORTS = (22, 80, 443, 5432, 8443)
DESIGNS: dict[str, dict[str, str]] = {
    "default": {},
    "per-az": {"Egress": "per-az", "Bastion": "yes", "DatabaseReader": "yes"},
    "regional": {"Egress": "regional", "S3GatewayEndpoint": "no", "InterfaceEndpoints": "sqs,secretsmanager"},
    "developers": {"Topology": "internet-accessible"},
    "corporate": {"Topology": "on-premises", "Bastion": "yes"},
    "corporate database": {"Topology": "on-premises", "CorporateDatabaseAccess": "yes", "VpnRouting": "static"},
    "internal": {"Topology": "internal-only", "Bastion": "yes"},
}


NAMES = [*DESIGNS, *(f"{name}, groups open" for name in DESIGNS)]


def network(name: str) -> Network:
    """With open groups, routes and access lists alone decide."""
    design, _, opened = name.partition(", ")
    parameters = DESIGNS[design]
    found = from_templates.network(
        render.render({**render.NEEDS.get(parameters.get("Topology", ""), {}), **parameters})
    )
    return with_open_groups(found) if opened else found


def with_open_groups(found: Network) -> Network:
    anything = (Rule(id="anything", protocol="any", first_port=0, last_port=65535, peer=ANYWHERE),)
    groups = (replace(group, ingress=anything, egress=anything) for group in found.security_groups)
    return replace(found, security_groups=tuple(groups))


def outsiders(found: Network) -> tuple[OutsideHost, ...]:
    stranger = OutsideHost(name="stranger", address=STRANGER, place="internet", listens=(443,))
    return (*standard_outside(found), stranger)


def judged(found: Network, source: str, destination: IPv4Address, port: int) -> PacketResult:
    attempt = ConnectionAttempt(source=source, destination=destination, port=port, source_port=40000)
    return Oracle(found, outsiders(found)).judge(attempt)


def agree(verdict: PacketResult, passage: Passage) -> bool:
    """Whether both let it through, as the same address; the oracle takes a port that nobody listens on for reached."""
    unheard = "does not listen" in str(passage.stopped_by)
    if isinstance(verdict, Arrived) and passage.seen_as and verdict.seen_as:
        return verdict.seen_as == passage.seen_as
    return isinstance(verdict, Arrived) == (passage.open or unheard)


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same_of_every_connection_inside_the_vpc(name: str) -> None:
    found = network(name)
    different = [
        (source.id, destination.id, port)
        for source in found.interfaces
        for destination in found.interfaces
        if source.address != destination.address
        for port in PORTS
        if not agree(judged(found, source.id, destination.address, port), inside(found, source, destination, port))
    ]
    assert different == []


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same_of_every_connection_out_of_the_vpc(name: str) -> None:
    found = network(name)
    different = [
        (source.id, host.name, port)
        for source in found.interfaces
        for host in outsiders(found)
        for port in PORTS
        if not agree(judged(found, source.id, host.address, port), outward(found, source, host.address, port))
    ]
    assert different == []


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same_of_every_connection_into_the_vpc(name: str) -> None:
    found = network(name)
    different = [
        (host.name, destination.id, port)
        for host in outsiders(found)
        if host.place != "service"
        for destination in found.interfaces
        for port in PORTS
        if (address := destination.address if host.place == "corporate" else destination.public_address) is not None
        if not agree(judged(found, host.name, address, port), inward(found, host.address, destination, port))
    ]
    assert different == []

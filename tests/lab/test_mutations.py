"""Templates with one mistake each, of the kinds that proofs once let pass: a proof notices every one of them.

The mistakes are made in the rendered resources, so that reading them is tested too. tests/contract holds the templates
themselves; these tests show that the lab alone would not let such a change pass.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lab.model.case import Case
from lab.proofs.catalogue import PROOFS
from lab.proofs.runner import prove
from stack.network.from_templates import network
from stack.render import render
from tests.support.enclosed import inside

type Resources = dict[str, dict[str, Any]]

PUBLIC: Mapping[str, str] = {"Topology": "public-private", "Egress": "single"}
CORPORATE: Mapping[str, str] = {
    "Topology": "on-premises",
    "Egress": "single",
    "CorporateCidr": "172.20.0.0/16",
    "CustomerGatewayAddress": "198.51.100.7",
}
INTERNAL: Mapping[str, str] = {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"}
EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """`noticed` are the proofs that must fail."""

    name: str
    change: Callable[[Resources], None]
    noticed: Sequence[str]
    parameters: Mapping[str, str] = field(default_factory=lambda: PUBLIC)


def routed(cidr: str, **target: str) -> Callable[[Resources], None]:
    """The private subnet of zone A has one more route."""

    def change(resources: Resources) -> None:
        properties = {"RouteTableId": "Network.PrivateRouteTableA", "DestinationCidrBlock": cidr, **target}
        resources["Network.Mistake"] = {"Type": "AWS::EC2::Route", "Properties": properties}

    return change


def opened(group: str, side: str, **rule: Any) -> Callable[[Resources], None]:
    """A security group has one more rule."""

    def change(resources: Resources) -> None:
        properties = resources[f"Network.{group}"]["Properties"]
        properties[f"SecurityGroup{side}"] = [*properties.get(f"SecurityGroup{side}", []), rule]

    return change


def all_of_them(resources: Resources) -> None:
    entry = {
        "NetworkAclId": "Network.DatabaseNetworkAcl",
        "RuleAction": "allow",
        "Protocol": -1,
        "CidrBlock": EVERYWHERE,
    }
    for place, egress in enumerate((True, False)):
        properties = {**entry, "Egress": egress, "RuleNumber": 90}
        resources[f"Network.Mistake{place}"] = {"Type": "AWS::EC2::NetworkAclEntry", "Properties": properties}


def database_routed_out(resources: Resources) -> None:
    properties = {
        "RouteTableId": "Network.DatabaseRouteTable",
        "DestinationCidrBlock": EVERYWHERE,
        "NatGatewayId": "Network.NatGatewayA",
    }
    resources["Network.Mistake"] = {"Type": "AWS::EC2::Route", "Properties": properties}
    all_of_them(resources)


ALL = {"IpProtocol": "-1", "CidrIp": EVERYWHERE}
MISTAKES = (
    Mistake(
        name="a route for 55.0.0.0/8 to the VPN gateway",
        change=routed("55.0.0.0/8", GatewayId="Vpn.VpnGateway"),
        noticed=["partners_see_only_the_fixed_addresses"],
        parameters=CORPORATE,
    ),
    Mistake(
        name="a route for 54.0.0.0/8 to the VPN gateway",
        change=routed("54.0.0.0/8", GatewayId="Vpn.VpnGateway"),
        noticed=["partners_see_only_the_fixed_addresses"],
        parameters=CORPORATE,
    ),
    Mistake(
        name="a route for half of the internet to the internet gateway",
        change=routed("128.0.0.0/1", GatewayId="Network.InternetGateway"),
        noticed=["partners_see_only_the_fixed_addresses"],
    ),
    Mistake(
        name="the database's group opened outward",
        change=opened("DatabaseSecurityGroup", "Egress", **ALL),
        noticed=["the_database_calls_nobody"],
    ),
    Mistake(
        name="the database's group opened outward by UDP to one address",
        change=opened(
            "DatabaseSecurityGroup", "Egress", IpProtocol="udp", FromPort=53, ToPort=53, CidrIp="198.51.99.9/32"
        ),
        noticed=["the_database_calls_nobody"],
    ),
    Mistake(
        name="the database's group opened to the VPC on another port",
        change=opened(
            "DatabaseSecurityGroup", "Ingress", IpProtocol="tcp", FromPort=5433, ToPort=5433, CidrIp="10.64.0.0/16"
        ),
        noticed=["a_newcomer_cannot_open_the_database"],
        parameters=INTERNAL,
    ),
    Mistake(
        name="the database's network ACL allows all",
        change=all_of_them,
        noticed=["one_protection_is_enough"],
    ),
    Mistake(
        name="the database's subnets lead to the NAT gateway",
        change=database_routed_out,
        noticed=["the_database_has_no_way_out"],
    ),
    Mistake(
        name="the functions that call out may use any port",
        change=opened("OutboundFunctionSecurityGroup", "Egress", **ALL),
        noticed=["only_ports_of_partners_lead_out"],
    ),
    Mistake(
        name="the egress check may use UDP",
        change=opened("EgressCheckSecurityGroup", "Egress", IpProtocol="udp", FromPort=1, ToPort=9, CidrIp=EVERYWHERE),
        noticed=["only_ports_of_partners_lead_out"],
    ),
    Mistake(
        name="the migration may send echoes",
        change=opened(
            "MigrateFunctionSecurityGroup", "Egress", IpProtocol="icmp", FromPort=-1, ToPort=-1, CidrIp=EVERYWHERE
        ),
        noticed=["only_ports_of_partners_lead_out"],
    ),
    Mistake(
        name="the functions of the database may call one public range",
        change=opened(
            "DatabaseClientSecurityGroup", "Egress", IpProtocol="tcp", FromPort=443, ToPort=443, CidrIp="9.9.9.0/24"
        ),
        noticed=["partners_see_only_the_fixed_addresses"],
    ),
    Mistake(
        name="a function takes connections from the VPC",
        change=opened(
            "OutboundFunctionSecurityGroup", "Ingress", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.64.0.0/16"
        ),
        noticed=["nobody_reaches_a_function"],
    ),
    Mistake(
        name="the bastion takes connections by SSH",
        change=opened("BastionSecurityGroup", "Ingress", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=EVERYWHERE),
        noticed=["nobody_reaches_a_function"],
        parameters={**PUBLIC, "Bastion": "yes"},
    ),
    Mistake(
        name="the endpoints take connections from anywhere",
        change=opened("EndpointSecurityGroup", "Ingress", **ALL),
        noticed=["nobody_reaches_a_function"],
        parameters=INTERNAL,
    ),
    Mistake(
        name="the API's endpoint takes connections by SSH from the corporate network",
        change=opened(
            "ApiEndpointSecurityGroup", "Ingress", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="172.20.0.0/16"
        ),
        noticed=["the_vpn_leads_to_what_it_should"],
        parameters=CORPORATE,
    ),
)


def changed(mistake: Mistake) -> Case:
    rendered = render(mistake.parameters)
    resources = deepcopy(dict(rendered.resources))
    mistake.change(resources)
    with_mistake = replace(rendered, resources=resources)
    return Case(name="changed", parameters=rendered.parameters, network=network(with_mistake), rendered=with_mistake)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_the_templates_is_noticed_by_a_proof(
    mistake: Mistake, noticed: Mapping[str, tuple[list[str], list[str]]]
) -> None:
    failing, disagreements = noticed[mistake.name]
    assert sorted(mistake.noticed) == sorted(failing)
    assert disagreements == []


@pytest.fixture(scope="module")
def noticed() -> Mapping[str, tuple[list[str], list[str]]]:
    return dict(inside(_all_failing))


def _all_failing() -> Mapping[str, tuple[list[str], list[str]]]:
    return {mistake.name: _failing(mistake) for mistake in MISTAKES}


def _failing(mistake: Mistake) -> tuple[list[str], list[str]]:
    """Of the proofs that must fail those that do, by evidence: one about nobody does not count."""
    proofs = [proof for proof in PROOFS if proof.name in mistake.noticed]
    evidence = prove(changed(mistake), proofs=proofs, controls=False)
    refuted = [
        result.proof.name for result in evidence.proofs if any(assertion.is_refuted for assertion in result.assertions)
    ]
    return refuted, list(evidence.disagreements)

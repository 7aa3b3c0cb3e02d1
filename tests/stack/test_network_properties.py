"""Every property of what makes a network is read, irrelevant for a reason, or refused: stack/network/properties.py.

Held against the resource schemas that cfn-lint ships, so a property that AWS adds is missed here first.
"""

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stack.network.from_templates import Unmodelled, network
from stack.network.properties import TABLE, WITHIN
from stack.render import ROOT, Rendered, render, templates

_LINT = next((ROOT / ".venv-sam/lib").glob("python3*"), Path("missing")) / "site-packages/cfnlint/data/schemas"
needs_lint = pytest.mark.skipif(not _LINT.exists(), reason="the schemas are cfn-lint's: make setup-sam")


@cache
def schema(kind: str) -> dict[str, Any]:
    names = json.loads((_LINT / "providers/us-east-1.json").read_text())
    found: dict[str, Any] = json.loads((_LINT / "resources" / f"{names[kind]}.json").read_text())
    return found


def properties(kind: str) -> set[str]:
    """What a template may set of a type, or of a part of one ("AWS::EC2::SecurityGroup/Ingress")."""
    name, _, part = kind.partition("/")
    if part:
        return set(schema(name)["definitions"][part]["properties"])
    told = {path.split("/")[2] for path in schema(name).get("readOnlyProperties", ()) if path.count("/") == 2}
    return set(schema(name)["properties"]) - told


@needs_lint
@pytest.mark.parametrize("kind", TABLE)
def test_it_is_said_of_every_property_what_it_means(kind: str) -> None:
    counted = Counter(TABLE[kind].names())
    assert [name for name, times in counted.items() if times > 1] == []
    assert properties(kind) - counted.keys() == set()
    assert counted.keys() - properties(kind) == set()


@pytest.mark.parametrize("kind", TABLE)
def test_what_is_said_to_be_read_is_read(kind: str) -> None:
    """Its name is in the text of who reads."""
    texts = (ROOT / "stack/network/from_templates.py").read_text() + (ROOT / "lab/proofs/ways.py").read_text()
    texts = texts.replace('f"SecurityGroup{direction}"', '"SecurityGroupIngress" "SecurityGroupEgress"')
    assert [name for name in TABLE[kind].read if f'"{name}"' not in texts] == []


def test_every_part_is_looked_into() -> None:
    assert {kind for kind in TABLE if "/" in kind} == set(WITHIN.values())


# ---- What is refused


type Change = Callable[[dict[str, dict[str, Any]]], None]
INTERNAL = {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16", "Bastion": "yes"}


def setting(address: str, name: str, value: Any) -> Change:
    def change(resources: dict[str, dict[str, Any]]) -> None:
        resources[address]["Properties"][name] = value

    return change


def without(address: str, name: str) -> Change:
    def change(resources: dict[str, dict[str, Any]]) -> None:
        del resources[address]["Properties"][name]

    return change


def rule(**properties_of_it: Any) -> Change:
    def change(resources: dict[str, dict[str, Any]]) -> None:
        resources["Network.DatabaseSecurityGroup"]["Properties"]["SecurityGroupIngress"] = [properties_of_it]

    return change


def changed(change: Change) -> Rendered:
    rendered = render(INTERNAL)
    resources = deepcopy(dict(rendered.resources))
    change(resources)
    return replace(rendered, resources=resources)


REFUSED: dict[str, tuple[Change, str, str]] = {
    "names are off": (setting("Network.Vpc", "EnableDnsSupport", False), "Network.Vpc", "EnableDnsSupport: a VPC with"),
    "host names are off": (
        setting("Network.Vpc", "EnableDnsHostnames", False),
        "Network.Vpc",
        "EnableDnsHostnames: it",
    ),
    "host names are left out": (without("Network.Vpc", "EnableDnsHostnames"), "Network.Vpc", "EnableDnsHostnames: it"),
    "an endpoint without its name": (
        setting("Endpoints.SqsEndpoint", "PrivateDnsEnabled", False),
        "Endpoints.SqsEndpoint",
        "PrivateDnsEnabled: the service keeps its public addresses",
    ),
    "an API that takes all names": (
        setting("Endpoints.ApiEndpoint", "PrivateDnsEnabled", True),
        "Endpoints.ApiEndpoint",
        "PrivateDnsEnabled: it would take over",
    ),
    "an instance that routes": (
        setting("BastionHost.Bastion", "SourceDestCheck", False),
        "BastionHost.Bastion",
        "SourceDestCheck: an instance that passes on",
    ),
    "an instance without a cluster": (
        without("Database.DatabaseInstance", "DBClusterIdentifier"),
        "Database.DatabaseInstance",
        "DBClusterIdentifier: an instance without a cluster",
    ),
    "one type of ICMP": (
        rule(IpProtocol="icmp", FromPort=8, ToPort=0, CidrIp="0.0.0.0/0"),
        "Network.DatabaseSecurityGroup",
        "a rule for the types of ICMP 8 and 0",
    ),
    "a range of IPv6": (
        rule(IpProtocol="-1", CidrIpv6="::/0"),
        "Network.DatabaseSecurityGroup",
        "SecurityGroupIngress: CidrIpv6: IPv6 is not modelled",
    ),
    "a prefix list": (
        rule(IpProtocol="-1", SourcePrefixListId="pl-1"),
        "Network.DatabaseSecurityGroup",
        "SecurityGroupIngress: SourcePrefixListId",
    ),
    "a property that nobody knows": (
        setting("Network.PrivateSubnetA", "LeadsAnywhere", True),
        "Network.PrivateSubnetA",
        "LeadsAnywhere: a property of AWS::EC2::Subnet that is not known here",
    ),
    "a property that is missing": (
        without("Network.PrivateSubnetA", "CidrBlock"),
        "Network.PrivateSubnetA",
        "CidrBlock",
    ),
    "a value that is no range": (
        setting("Network.PrivateSubnetA", "CidrBlock", "10.64.4"),
        "Network.PrivateSubnetA",
        "'10.64.4' is no IPv4 range",
    ),
    "no map of rules": (
        setting("Network.DatabaseSecurityGroup", "SecurityGroupIngress", "all"),
        "Network.DatabaseSecurityGroup",
        "a value that cannot be read: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_stops_with_the_resource_and_the_property(name: str) -> None:
    change, address, missing = REFUSED[name]
    with pytest.raises(Unmodelled) as refused:
        network(changed(change))
    assert refused.value.address == address
    assert missing in refused.value.missing


def test_an_address_of_an_instance_is_refused() -> None:
    rendered = render({"Topology": "public-private"})
    resources = deepcopy(dict(rendered.resources))
    resources["Network.EgressAddressA"]["Properties"]["InstanceId"] = "BastionHost.Bastion"
    with pytest.raises(Unmodelled, match=r"Network\.EgressAddressA: InstanceId: an address that an instance has"):
        network(replace(rendered, resources=resources))


def test_an_item_of_a_list_that_only_aws_knows_is_not_a_letter_of_its_name() -> None:
    texts = templates()
    path = "infra/network.yaml"
    text = texts[path].replace("Value: !Ref Vpc\n", "Value: !Select [0, !GetAtt Vpc.CidrBlockAssociations]\n", 1)
    assert text != texts[path]
    assert render({}, texts={**texts, path: text}).outputs["Network.VpcId"] == "Network.Vpc.CidrBlockAssociations[0]"

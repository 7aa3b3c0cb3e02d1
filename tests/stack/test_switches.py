"""What a switch of topology or egress leaves alone: the fixed address above all.

Two renderings are compared, the one before and the one after. A resource is replaced when a property differs that AWS
lets nobody change in place; which ones those are is told by AWS's own schemas, which cfn-lint ships. The addresses of
the renderer stand for ids: where they are the same before and after, so is the resource.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from stack.render import NEEDS, REGION, TOPOLOGIES, ParametersRefused, Rendered, render, templates

GIVEN = {"EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718,eipalloc-1a1b2c3d4e5f60718"}
STAY = ("AWS::EC2::EIP", "AWS::EC2::NatGateway", "AWS::EC2::VPC", "AWS::RDS::DBCluster", "AWS::RDS::DBInstance")


def stack(topology: str = "public-private", egress: str = "single", **more: str) -> Rendered:
    """One choice of the application."""
    return render({"Topology": topology, "Egress": egress, **NEEDS.get(topology, {}), **more})


def replaced(before: Rendered, after: Rendered) -> Iterator[str]:
    """What CloudFormation would make anew: addresses of resources, with the property that asks for it."""
    for address in before.resources.keys() & after.resources.keys():
        one, other = before.resources[address], after.resources[address]
        for name in _unchangeable(str(one["Type"])):
            if one["Properties"].get(name) != other["Properties"].get(name):
                yield f"{address} by {name}"


def _unchangeable(kind: str) -> list[str]:
    if kind.startswith("Custom::") or kind == "AWS::Lambda::Version":
        return []  # no schema of AWS's, and what is published anew on purpose
    schema: Mapping[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return [str(path).removeprefix("/properties/") for path in schema.get("createOnlyProperties", [])]


def lost(before: Rendered, after: Rendered) -> set[str]:
    """What must stay and is not there afterwards. An address stays in the account all the same."""
    gone = before.resources.keys() - after.resources.keys()
    return {address for address in gone if before.resources[address]["Type"] in STAY}


@pytest.mark.parametrize("more", [{}, GIVEN], ids=["new addresses", "given addresses"])
@pytest.mark.parametrize("topology", ["public-private", "internet-accessible", "on-premises"])
def test_single_and_per_az_share_the_first_gateway_and_its_address(topology: str, more: dict[str, str]) -> None:
    single = stack(topology, "single", **{name: ids.partition(",")[0] for name, ids in more.items()})
    each = stack(topology, "per-az", **more)
    for address in ("Network.NatGatewayA", "Network.EgressAddressA", "Network.PrivateDefaultRouteA"):
        assert single.resources.get(address) == each.resources.get(address)
    assert lost(single, each) == set()
    assert lost(each, single) <= {"Network.NatGatewayB", "Network.EgressAddressB"}
    assert [*replaced(single, each), *replaced(each, single)] == []


@pytest.mark.parametrize(("before", "after"), [*permutations(TOPOLOGIES, 2)])
def test_another_topology_replaces_nothing_and_keeps_network_and_database(before: str, after: str) -> None:
    one, other = stack(before), stack(after)
    assert list(replaced(one, other)) == []
    # internal-only has no way out, so its address goes back to the account's shelf, where it is kept.
    assert lost(one, other) <= (
        {"Network.NatGatewayA", "Network.EgressAddressA"} if after == "internal-only" else set()
    )


@pytest.mark.parametrize("topology", ["public-private", "internet-accessible", "on-premises"])
@pytest.mark.parametrize(("before", "after"), [*permutations(["single", "per-az", "regional"], 2)])
def test_another_egress_keeps_network_and_database_and_every_address(topology: str, before: str, after: str) -> None:
    one, other = stack(topology, before), stack(topology, after)
    assert list(replaced(one, other)) == []
    assert {address for address in lost(one, other) if "NatGateway" not in address} <= {"Network.EgressAddressB"}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_functions_keep_their_way_to_a_proxy_that_goes(topology: str) -> None:
    """The network is updated first, and the functions minutes later."""
    one, other = (stack(topology, DatabaseMinCapacity="0.5", DatabaseProxy=answer) for answer in ("yes", "no"))
    for group in ("OutboundFunctionSecurityGroup", "DatabaseClientSecurityGroup", "ProxySecurityGroup"):
        assert one.resources[f"Network.{group}"] == other.resources.get(f"Network.{group}")


def test_callers_that_move_up_in_their_list_keep_their_rules() -> None:
    """A rule that is made anew for the next place would be the same as the one that is deleted with the last place."""
    listed = [f"198.51.100.{16 * place}/28" for place in range(10)]
    one = stack("internal-only", AllowedCallerCidrs=",".join(listed))
    other = stack("internal-only", AllowedCallerCidrs=",".join(listed[1:]))
    assert list(replaced(one, other)) == []


@pytest.mark.parametrize("egress", ["per-az", "regional"])
def test_an_address_that_leaves_the_stack_stays_in_the_account(egress: str) -> None:
    addresses = stack(egress=egress).of_type("AWS::EC2::EIP").values()
    assert [(item["DeletionPolicy"], item["UpdateReplacePolicy"]) for item in addresses] == [
        ("RetainExceptOnCreate", "Retain")
    ] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "AllocationId: !If [MakesAddressA, !GetAtt EgressAddressA.AllocationId, !Ref AllocationIdA]",
            "AllocationId: !If [HasTwoAddresses, !GetAtt EgressAddressB.AllocationId, !Ref AllocationIdA]",
        ),
        (
            "      SubnetId: !Ref PublicSubnetA\n",
            "      SubnetId: !If [HasTwoAddresses, !Ref PublicSubnetB, !Ref PublicSubnetA]\n",
        ),
    ],
)
def test_a_template_that_would_replace_the_gateway_is_noticed(old: str, new: str) -> None:
    texts = templates()
    assert old in texts["infra/network.yaml"]
    texts["infra/network.yaml"] = texts["infra/network.yaml"].replace(old, new, 1)
    one, other = (render({"Egress": egress}, texts=texts) for egress in ("single", "per-az"))
    assert any(text.startswith("Network.NatGatewayA by ") for text in replaced(one, other))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"Egress": "single", **GIVEN}, "names two. Remove the second, or set Egress to per-az or regional"),
        (
            {"Egress": "per-az", "EgressAllocationIds": ",".join(["eipalloc-0a1b2c3d4e5f60718"] * 2)},
            "one address twice",
        ),
        ({"EgressAllocationIds": "eipalloc-xyz"}, "must be one or two allocation ids"),
        ({"EgressAllocationIds": "eipalloc-0a1b2c3d4e5f60718, eipalloc-1a1b2c3d4e5f60718"}, "must be one or two"),
        ({"CustomerGatewayAsn": "4200000000"}, "CustomerGatewayAsn"),
    ],
)
def test_addresses_that_do_not_fit_are_refused_with_what_to_change(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(ParametersRefused, match=words):
        render(parameters)

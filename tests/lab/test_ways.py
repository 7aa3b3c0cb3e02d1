"""Ways to the database past the network: none is open in any design, and each mistake is found with its resource."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from lab.model.case import Case
from lab.proofs.ways import WAYS, Found, WayResult, look
from lab.sources.templates import case, cases

type Resources = dict[str, dict[str, Any]]

PROXY = {"DatabaseProxy": "yes", "DatabaseMinCapacity": "1"}
PLAIN = case("plain", {"Bastion": "yes"})
INTERNAL = case("internal", {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"})


@pytest.mark.parametrize("design", [*cases(), case("proxy", PROXY)], ids=lambda design: design.name)
def test_no_way_is_open_in_any_design_and_every_control_is_found(design: Case) -> None:
    results = look(design, controls=True)
    assert [(result.way.name, result.found) for result in results if result.found] == []
    without = {result.way.name for result in results if result.control is not True}
    assert without <= ({"no_public_instance"} if design.parameters["Topology"] == "internet-accessible" else set())


def opened(change: Callable[[Resources], object], design: Case = PLAIN) -> dict[str, tuple[Found, ...]]:
    assert design.rendered is not None
    resources = deepcopy(dict(design.rendered.resources))
    change(resources)
    changed = replace(design, rendered=replace(design.rendered, resources=resources))
    return {result.way.name: result.found for result in look(changed, controls=False) if result.found}


def policy(**statement: Any) -> Callable[[Resources], object]:
    def change(resources: Resources) -> None:
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **statement}]}
        properties = {"PolicyDocument": document, "PolicyName": "x", "Users": ["somebody"]}
        resources["APolicy"] = {"Type": "AWS::IAM::Policy", "Properties": properties}

    return change


def added(kind: str, **properties: Any) -> Callable[[Resources], object]:
    return lambda resources: resources.update(Added={"Type": kind, "Properties": properties})


CONNECT = "arn:aws:rds-db:us-east-1:555555555555:dbuser:Database.DatabaseCluster.DBClusterResourceId/"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (policy(Action="*"), {"no_policy_for_the_data_api", "no_copy_for_others", "only_functions_sign_in"}),
        (policy(NotAction="iam:*"), {"no_policy_for_the_data_api", "no_copy_for_others", "only_functions_sign_in"}),
        (policy(Action=["RDS-DB:Connect"]), {"only_functions_sign_in"}),
        (policy(Action="rds-db:connect", Resource=[f"{CONNECT}sallyport_readonly"]), {"only_functions_sign_in"}),
        (policy(Action="rds-data:*"), {"no_policy_for_the_data_api"}),
        (policy(Action="rds:StartExportTask"), {"no_copy_for_others"}),
        (policy(Action="logs:PutLogEvents"), set()),
        (added("AWS::Lambda::Url", AuthType="AWS_IAM"), {"no_function_url"}),
        (added("AWS::Lambda::Permission", Principal="*", SourceArn="arn:x"), {"no_function_url"}),
        (added("AWS::Lambda::Permission", Principal="events.amazonaws.com"), {"no_function_url"}),
        (added("AWS::VpcLattice::Service"), {"no_lattice"}),
        (added("AWS::EC2::TransitGatewayVpcAttachment"), {"no_other_network"}),
        (added("AWS::EC2::InstanceConnectEndpoint"), {"no_other_network"}),
    ],
)
def test_what_is_open_is_found(change: Callable[[Resources], object], names: set[str]) -> None:
    assert set(opened(change)) == names


def test_a_function_may_sign_in_as_its_own_role_alone() -> None:
    def change(resources: Resources) -> None:
        (statement,) = [
            statement
            for statement in resources["AuthorizeRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
            if statement["Action"] == "rds-db:connect"
        ]
        statement["Resource"] = [f"{CONNECT}sallyport_owner"]

    assert opened(change) == {"only_functions_sign_in": (("AuthorizeRole", "it may sign in as sallyport_owner"),)}


def test_a_role_with_a_policy_of_awss_is_told() -> None:
    def change(resources: Resources) -> None:
        resources["ApiRole"]["Properties"]["ManagedPolicyArns"] = ["arn:aws:iam::aws:policy/AdministratorAccess"]

    (found,) = opened(change)["only_functions_sign_in"]
    assert found[0] == "ApiRole"
    assert "AdministratorAccess" in found[1]


def test_an_endpoint_of_s3_that_lets_other_accounts_take_data_is_told() -> None:
    def change(resources: Resources) -> None:
        statements = resources["Network.S3Endpoint"]["Properties"]["PolicyDocument"]["Statement"]
        statements[:] = [statement for statement in statements if statement["Effect"] == "Allow"]

    assert set(opened(change)) == {"endpoints_let_little_pass"}


def test_an_endpoint_of_internal_only_that_names_no_bucket_is_told() -> None:
    def change(resources: Resources) -> None:
        resources["Network.S3Endpoint"]["Properties"]["PolicyDocument"]["Statement"][0]["Resource"] = "*"

    assert set(opened(change, INTERNAL)) == {"endpoints_let_little_pass"}


def test_what_a_deployed_stack_does_not_tell_is_not_looked_at() -> None:
    deployed = {"Peering": {"Type": "AWS::EC2::VPCPeeringConnection", "Properties": {}}}
    results: dict[str, WayResult] = {
        result.way.name: result for result in look(replace(PLAIN, rendered=None, deployed=deployed), controls=True)
    }
    assert results["no_other_network"].found == (
        ("Peering", "AWS::EC2::VPCPeeringConnection connects it to another network"),
    )
    assert results["no_password"].skipped is not None
    assert {way.name for way in WAYS} == set(results)

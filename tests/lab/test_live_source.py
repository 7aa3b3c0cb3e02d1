"""The network of a deployed stack, from what AWS describes: the same as its templates say, or an error with an id."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from lab.model.case import Case
from lab.proofs.ways import look
from lab.sources.description import CALLS, DeployedResource, NotDescribed, StackDescription, describe
from lab.sources.live import compared, read
from stack.network.from_templates import Unmodelled, network
from stack.network.model import NatGateway
from stack.network.serialize import dump, load
from stack.render import NEEDS, render
from tests.support.deployed import REGION, Deployed
from tests.support.enclosed import ROOT, inside
from tests.support.mocked_aws import mocked_aws

DESIGNS: Mapping[str, Mapping[str, str]] = {
    "public-private": {"DatabaseReader": "yes"},
    "public-private-per-az": {"Egress": "per-az"},
    "internet-accessible": {"Topology": "internet-accessible"},
    "internal-only": {"Topology": "internal-only"},
}


class Session:
    """boto3's, but for CloudFormation, whose answers are those of the stack that the test made itself."""

    def __init__(self, deployed: Deployed) -> None:
        self.real = boto3.session.Session(region_name=REGION)
        self.region_name = self.real.region_name
        self.asked: set[tuple[str, str]] = set()
        self._deployed = deployed

    def client(self, service: str) -> Any:
        client = self.real.client(service)
        client.meta.events.register("provide-client-params", self._remember)
        if service == "cloudformation":
            self._answer(Stubber(client))
        if service == "ec2":  # moto has no answer; this one is written as EC2's API reference has it
            client.meta.events.register("before-call.ec2.DescribeVpcBlockPublicAccessOptions", _not_blocking)
        return client

    def _remember(self, model: Any, **_: Any) -> None:
        self.asked.add((str(model.service_model.service_name), str(model.name)))

    def _answer(self, stubber: Stubber) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        stack = self._deployed.stack() | {"CreationTime": now, "StackStatus": "CREATE_COMPLETE"}
        stubber.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "lab"})
        for name in self._stacks("lab"):
            summaries = [
                summary | {"LastUpdatedTimestamp": now, "ResourceStatus": "CREATE_COMPLETE"}
                for summary in self._deployed.summaries(name)
            ]
            stubber.add_response("list_stack_resources", {"StackResourceSummaries": summaries}, {"StackName": name})
        stubber.activate()

    def _stacks(self, name: str) -> Iterator[str]:
        yield name
        for summary in self._deployed.summaries(name):
            if summary["ResourceType"] == "AWS::CloudFormation::Stack":
                yield from self._stacks(summary["PhysicalResourceId"])


def _not_blocking(**_: Any) -> tuple[Any, dict[str, Any]]:
    options = {"AwsRegion": REGION, "State": "default-state", "InternetGatewayBlockMode": "off"}
    return AWSResponse("", 200, {}, None), {"VpcBlockPublicAccessOptions": options}


@pytest.fixture(scope="module", autouse=True)
def _credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield


@cache
def deployed(design: str) -> tuple[Deployed, StackDescription, Session]:
    """A stack in moto, what it describes, and what it was asked: each design is made once, since nothing changes it."""
    parameters = DESIGNS[design]
    rendered = render({**NEEDS.get(parameters.get("Topology", ""), {}), **parameters})
    with mocked_aws():
        made = Deployed(rendered, network(rendered))
        session = Session(made)
        return made, describe("lab", session=session), session


# ---- The same as the templates


@pytest.mark.parametrize("design", DESIGNS)
def test_what_aws_describes_is_the_network_of_the_templates(design: str) -> None:
    made, described, _ = deployed(design)
    names = {identity: address for address, identity in made.ids.items()}
    assert _plain(read(described), names) == _plain(Case(name="templates", parameters={}, network=made.network), {})


def _plain(case: Case, names: Mapping[str, str]) -> Any:
    """The network in the templates' names, without those of rules, and without the default group, list and table."""
    plain = json.loads(dump(case.network))
    known = {group["id"] for group in plain["security_groups"] if not names or group["id"] in names}
    plain["security_groups"] = [group for group in plain["security_groups"] if group["id"] in known]
    used = {subnet["route_table"] for subnet in plain["subnets"]}
    plain["route_tables"] = [table for table in plain["route_tables"] if table["id"] in used]
    if names:
        plain["nacls"] = [nacl for nacl in plain["nacls"] if nacl["id"] in names]
        for subnet in plain["subnets"]:
            subnet["nacl"] = subnet["nacl"] if subnet["nacl"] in names else None
    return _sorted(_renamed(plain, {**names, **case.names}))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        ruled = {"peer", "cidr", "destination"} & value.keys() and not {"role", "vpc"} & value.keys()
        return {key: _renamed(part, names) for key, part in value.items() if not (ruled and key == "id")}
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(part) for key, part in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value


def test_the_proofs_hold_by_packets_on_what_aws_describes() -> None:
    _, described, _ = deployed("public-private-per-az")
    case = read(described)
    assert inside(_failed, dump(case.network), dict(case.parameters), dict(case.names)) == []


def _failed(text: str, parameters: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    from lab.proofs.runner import prove

    case = Case(name="lab", parameters=parameters, network=load(text), names=names)
    evidence = prove(case, controls=False)
    return [proof_result.proof.name for proof_result in evidence.proofs if not proof_result.holds] + list(
        evidence.disagreements
    )


# ---- Only what the policy allows


def test_the_policy_in_the_documents_allows_exactly_the_calls_that_are_made() -> None:
    _, _, session = deployed("public-private")
    made = {f"{service}:{operation}" for service, operation in session.asked}
    (policy,) = re.findall(r"```json\n(\{.*?\})\n```", (ROOT / "docs/lab.md").read_text(), re.DOTALL)
    allowed = {action for statement in json.loads(policy)["Statement"] for action in statement["Action"]}
    assert allowed == made
    assert {action.partition(":")[0] for action in allowed} == {service for service, _, _ in CALLS}


def test_every_call_only_reads() -> None:
    assert {operation.split("_")[0] for _, operation, _ in CALLS} == {"describe", "get", "list"}


# ---- Nothing is left out in silence


@pytest.fixture(scope="module")
def described() -> StackDescription:
    return deployed("public-private")[1]


def _with(described: StackDescription, operation: str, place: int, **changed: Any) -> StackDescription:
    answers = list(described.answers[operation])
    answers[place] = dict(answers[place]) | changed
    return replace(described, answers={**described.answers, operation: tuple(answers)})


def _refusal(described: StackDescription) -> str:
    with pytest.raises(Unmodelled) as refused:
        read(described)
    return str(refused.value)


@pytest.mark.parametrize(
    ("operation", "changed", "words"),
    [
        (
            "describe_route_tables",
            {"Routes": [{"DestinationCidrBlock": "10.9.0.0/16", "TransitGatewayId": "tgw-1", "State": "active"}]},
            "a route to tgw-1",
        ),
        (
            "describe_route_tables",
            {"Routes": [{"DestinationIpv6CidrBlock": "::/0", "GatewayId": "igw-1", "State": "active"}]},
            "a route for ::/0",
        ),
        (
            "describe_route_tables",
            {"Routes": [{"DestinationPrefixListId": "pl-none", "GatewayId": "vpce-1", "State": "active"}]},
            "the ranges of the prefix list pl-none",
        ),
        ("describe_nat_gateways", {"State": "pending"}, "it is pending"),
        ("describe_nat_gateways", {"ConnectivityType": "private"}, "a NAT gateway of the type private"),
        ("describe_nat_gateways", {"NatGatewayAddresses": []}, "a zonal NAT gateway with any but one address"),
        ("describe_vpc_endpoints", {"VpcEndpointType": "GatewayLoadBalancer"}, "of the type GatewayLoadBalancer"),
        (
            "describe_security_group_rules",
            {"CidrIpv4": None, "CidrIpv6": "::/0", "ReferencedGroupInfo": None},
            "the other side of a rule with CidrIpv6",
        ),
        (
            "describe_security_group_rules",
            {"CidrIpv4": None, "ReferencedGroupInfo": {"GroupId": "sg-elsewhere"}},
            "the security group sg-elsewhere, which is not of this VPC",
        ),
        ("describe_vpcs", {"Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlockState": {"State": "associated"}}]}, "IPv6"),
        ("describe_subnets", {"SubnetId": "subnet-new"}, "its network ACL"),
        ("describe_db_instances", {"AvailabilityZone": "us-east-1f"}, "0 network interfaces of Amazon RDS fit"),
        ("describe_db_instances", {"PubliclyAccessible": True}, "whether it has a public address"),
    ],
)
def test_what_cannot_be_read_is_named(
    described: StackDescription, operation: str, changed: Mapping[str, Any], words: str
) -> None:
    said = _refusal(_with(described, operation, 0, **changed))
    assert words in said
    assert re.match(r"(rtb|nat|vpce|sgr|vpc|subnet|lab)-", said), said


BEYOND: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "no resolver": (
        "describe_vpc_attribute",
        {"enableDnsSupport": False, "enableDnsHostnames": True},
        "enableDnsSupport: it is off",
    ),
    "no host names": (
        "describe_vpc_attribute",
        {"enableDnsSupport": True, "enableDnsHostnames": False},
        "enableDnsHostnames: it is off",
    ),
    "another resolver": (
        "describe_dhcp_options",
        {
            "DhcpOptionsId": "dopt-1",
            "DhcpConfigurations": [{"Key": "domain-name-servers", "Values": [{"Value": "10.9.9.9"}]}],
        },
        "dopt-1: other name servers: 10.9.9.9",
    ),
    "a peering": (
        "describe_vpc_peering_connections",
        {"VpcPeeringConnectionId": "pcx-1", "Status": {"Code": "active"}},
        "pcx-1: a peering connection with another VPC",
    ),
    "a transit gateway": (
        "describe_transit_gateway_vpc_attachments",
        {"TransitGatewayAttachmentId": "tgw-attach-1", "State": "available"},
        "tgw-attach-1: an attachment to a transit gateway",
    ),
    "Lattice": (
        "list_service_network_vpc_associations",
        {"arn": "arn:aws:vpc-lattice:us-east-1:1:servicenetworkvpcassociation/snva-1"},
        "an association with a service network of VPC Lattice",
    ),
    "Block Public Access": (
        "describe_vpc_block_public_access_options",
        {"InternetGatewayBlockMode": "block-ingress"},
        "VPC Block Public Access, which is block-ingress",
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_connects_the_vpc_past_its_interfaces_is_named(described: StackDescription, name: str) -> None:
    operation, answer, words = BEYOND[name]
    changed = replace(described, answers={**described.answers, operation: (answer,)})
    assert words in _refusal(changed)


def test_a_peering_that_was_rejected_connects_nothing(described: StackDescription) -> None:
    peering = {"VpcPeeringConnectionId": "pcx-1", "Status": {"Code": "rejected"}}
    answers = {**described.answers, "describe_vpc_peering_connections": (peering,)}
    assert read(replace(described, answers=answers)).network == read(described).network


def test_peerings_and_lattice_are_asked_for_where_moto_has_them() -> None:
    """They are made by hand, beside the stack: only the calls find them."""
    with mocked_aws():
        rendered = render({})
        made = Deployed(rendered, network(rendered))
        other = made.ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
        peering = made.ec2.create_vpc_peering_connection(VpcId=other, PeerVpcId=made.vpc)["VpcPeeringConnection"]
        made.ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=peering["VpcPeeringConnectionId"])
        described = describe("lab", session=Session(made))
    assert _refusal(described) == f"{peering['VpcPeeringConnectionId']}: a peering connection with another VPC"


def test_a_type_of_resource_that_shapes_traffic_is_named(described: StackDescription) -> None:
    firewall = DeployedResource(address="Way", type="AWS::EC2::TransitGatewayAttachment", id="tgw-attach-2")
    assert (
        _refusal(replace(described, resources=(*described.resources, firewall)))
        == "tgw-attach-2: what AWS::EC2::TransitGatewayAttachment (Way) does to the network"
    )


# ---- Ways past the network, of a deployed stack


def _open_ways(described: StackDescription) -> dict[str, Any]:
    return {result.way.name: result.found for result in look(read(described), controls=False) if result.found}


def test_what_a_deployed_stack_tells_of_ways_past_the_network_is_looked_at(described: StackDescription) -> None:
    assert _open_ways(described) == {}
    (cluster,) = described.answers["describe_db_clusters"]
    opened = {**described.answers, "describe_db_clusters": (dict(cluster) | {"HttpEndpointEnabled": True},)}
    url = DeployedResource(address="Url", type="AWS::Lambda::Url", id="lab-ApiFunction")
    changed = replace(described, answers=opened, resources=(*described.resources, url))
    assert set(_open_ways(changed)) == {"no_data_api", "no_function_url"}


# ---- Compared with the templates


@pytest.mark.parametrize("design", DESIGNS)
def test_a_stack_that_is_as_its_templates_has_no_differences(design: str) -> None:
    _, described, _ = deployed(design)
    assert compared(read(described), described).differences == ()


def _differences(described: StackDescription) -> tuple[str, ...]:
    found = compared(read(described), described).differences
    assert found is not None
    return found


def test_a_rule_that_was_added_by_hand_is_a_difference_though_no_proof_falls(described: StackDescription) -> None:
    rules = described.answers["describe_security_group_rules"]
    names = {resource.address: resource.id for resource in described.resources}
    added = dict(rules[0]) | {
        "SecurityGroupRuleId": "sgr-hand",
        "GroupId": names["Network.EndpointSecurityGroup"],
        "IsEgress": False,
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "CidrIpv4": "192.0.2.1/32",
        "ReferencedGroupInfo": None,
    }
    answers = {**described.answers, "describe_security_group_rules": (*rules, added)}
    assert _differences(replace(described, answers=answers)) == (
        "Network.EndpointSecurityGroup: deployed is ingress tcp 22 with 192.0.2.1/32",
    )


def test_a_route_and_a_group_that_are_gone_or_new_are_differences(described: StackDescription) -> None:
    names = {resource.address: resource.id for resource in described.resources}
    tables = described.answers["describe_route_tables"]
    place = [table["RouteTableId"] for table in tables].index(names["Network.PrivateRouteTableB"])
    routes = [route for route in tables[place]["Routes"] if not route.get("NatGatewayId")]
    changed = _with(described, "describe_route_tables", place, Routes=routes)
    groups = (*changed.answers["describe_security_groups"], {"GroupId": "sg-hand", "GroupName": "by hand"})
    found = _differences(replace(changed, answers={**changed.answers, "describe_security_groups": groups}))
    assert found == (
        "Network.PrivateRouteTableB: in the templates is a route for 0.0.0.0/0 to Network.NatGatewayA",
        "sg-hand: it is deployed, and the templates have none (nothing is known of it)",
    )


def test_parameters_that_the_templates_do_not_take_are_told(described: StackDescription) -> None:
    parameters = [{"ParameterKey": "Topology", "ParameterValue": "star"}]
    (difference,) = _differences(replace(described, stack={**described.stack, "Parameters": parameters}))
    assert difference.startswith("the templates cannot be compared: ")


def test_an_interface_that_nobody_is_known_to_own_is_named(described: StackDescription) -> None:
    interfaces = described.answers["describe_network_interfaces"]
    stranger = dict(interfaces[0]) | {
        "NetworkInterfaceId": "eni-stranger",
        "InterfaceType": "load_balancer",
        "Description": "ELB app/x",
        "Status": "in-use",
        "Attachment": {},
    }
    more = {**described.answers, "describe_network_interfaces": (*interfaces, stranger)}
    assert _refusal(replace(described, answers=more)) == "eni-stranger: whose it is (load_balancer: ELB app/x)"


def test_a_deleted_gateways_route_is_a_blackhole(described: StackDescription) -> None:
    place, table = next(
        (place, table)
        for place, table in enumerate(described.answers["describe_route_tables"])
        if any(route.get("NatGatewayId") for route in table["Routes"])
    )
    routes = [route | {"State": "blackhole"} if route.get("NatGatewayId") else route for route in table["Routes"]]
    network = read(_with(described, "describe_route_tables", place, Routes=routes)).network
    (read_table,) = [known for known in network.route_tables if known.id == table["RouteTableId"]]
    assert [type(route.target).__name__ for route in read_table.routes if route.destination.prefixlen == 0] == [
        "Blackhole"
    ]


def test_a_regional_nat_gateway_has_an_address_in_each_zone(described: StackDescription) -> None:
    """moto makes none; the answer is written as EC2's API reference has it."""
    regional = {
        "AvailabilityMode": "regional",
        "SubnetId": None,
        "NatGatewayAddresses": [
            {"AllocationId": f"eipalloc-{zone}", "PublicIp": f"203.0.113.{last}", "AvailabilityZone": zone}
            for zone, last in (("us-east-1a", 10), ("us-east-1b", 11))
        ],
    }
    changed = _with(described, "describe_nat_gateways", 0, **regional)
    freed = [
        dict(interface) | {"Status": "available"} for interface in described.answers["describe_network_interfaces"]
    ]
    answers = {**changed.answers, "describe_network_interfaces": tuple(freed)}
    (nat,) = read(replace(changed, answers=answers)).network.nat_gateways
    assert isinstance(nat, NatGateway)
    assert (nat.subnet, [(address.zone, str(address.public_address)) for address in nat.addresses]) == (
        None,
        [("us-east-1a", "203.0.113.10"), ("us-east-1b", "203.0.113.11")],
    )


def test_functions_of_a_group_and_subnet_share_lambdas_interface(described: StackDescription) -> None:
    """The first has its address, the others get free ones of the subnet."""
    function = next(function for function in described.functions if function["FunctionName"] == "lab-ApiFunction")
    place = function["VpcConfig"]
    shared = {
        "NetworkInterfaceId": "eni-lambda",
        "InterfaceType": "lambda",
        "SubnetId": place["SubnetIds"][0],
        "PrivateIpAddress": "10.64.4.77",
        "Groups": [{"GroupId": place["SecurityGroupIds"][0]}],
        "Status": "in-use",
        "AvailabilityZone": "us-east-1a",
    }
    interfaces = (*described.answers["describe_network_interfaces"], shared)
    more = replace(described, answers={**described.answers, "describe_network_interfaces": interfaces})
    read_interfaces = read(more).network.interfaces
    there = {
        interface.owner: str(interface.address)
        for interface in read_interfaces
        if interface.subnet == place["SubnetIds"][0]
    }
    assert there["lab-ApiFunction"] == "10.64.4.77"
    assert len(set(there.values())) == len(there)


def test_a_vpn_is_read_with_its_static_routes(described: StackDescription) -> None:
    """moto keeps no static routes; the answers are written as EC2's API reference has them."""
    answers = {
        **described.answers,
        "describe_vpn_gateways": ({"VpnGatewayId": "vgw-1", "State": "available"},),
        "describe_vpn_connections": (
            {
                "VpnConnectionId": "vpn-1",
                "VpnGatewayId": "vgw-1",
                "CustomerGatewayId": "cgw-1",
                "State": "available",
                "Options": {"StaticRoutesOnly": True},
                "Routes": [{"DestinationCidrBlock": "172.20.0.0/16", "State": "available"}],
            },
        ),
        "describe_customer_gateways": ({"CustomerGatewayId": "cgw-1", "IpAddress": "198.51.100.7"},),
    }
    vpn = read(replace(described, answers=answers)).network.vpn
    assert vpn is not None
    assert (vpn.gateway, [str(cidr) for cidr in vpn.corporate]) == ("vgw-1", ["172.20.0.0/16"])
    without = {**answers, "describe_customer_gateways": ()}
    assert _refusal(replace(described, answers=without)) == "vpn-1: its customer gateway"


def test_a_stack_that_was_asked_for_by_its_arn_has_its_own_name(described: StackDescription) -> None:
    """The report's files are called by it."""
    assert read(replace(described, stack={**described.stack, "StackName": "sallyport-dev"})).name == "sallyport-dev"


def test_a_stack_that_is_not_there_gets_one_line() -> None:
    with mocked_aws(), pytest.raises(NotDescribed, match=rf"there is no stack nothing in {REGION} "):
        describe("nothing", region=REGION)

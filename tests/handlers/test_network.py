"""The network's custom resources, on EC2 as moto has it: given addresses looked up or refused, the IDs of zones looked
up, the default group emptied, and CloudFormation told of it in every case."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest

from flows import network as flow
from handlers import network
from runtime.observability import logger
from runtime.settings import ZoneSettings
from tests.egress.servers import Line, Partner, Script
from tests.support.api import Context
from tests.support.gateway import REGION, QueueServer
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]
type Ask = Callable[..., dict[str, Any]]

OWN_STACK = "sallyport-dev-Network-1AB2CD3EF4GH5"


@pytest.fixture
def ec2(queue_server: QueueServer, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3's client of the EC2 that the function is set to."""
    monkeypatch.setenv("EC2_ENDPOINT_URL", queue_server.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)  # boto3 reads this one; Lambda sets both
    client = boto3.client("ec2", endpoint_url=queue_server.endpoint_url, region_name=REGION)
    yield client
    client.close()


@pytest.fixture
def subnet(ec2: Any) -> str:
    vpc = ec2.create_vpc(CidrBlock="10.64.0.0/16")["Vpc"]["VpcId"]
    return str(ec2.create_subnet(VpcId=vpc, CidrBlock="10.64.0.0/24")["Subnet"]["SubnetId"])


@pytest.fixture
def cloudformation(partner: StartPartner) -> Partner:
    """Where the presigned URL leads."""
    return partner(answers(200))


@pytest.fixture
def ask(cloudformation: Partner, repository: Path) -> Ask:
    """Invokes the function with the stack's own event, changed; returns what CloudFormation received."""
    stored: dict[str, Any] = json.loads((repository / "events" / "network.json").read_text())

    def invoke(allocation_ids: str = "", *, seconds: float = 180, **changes: Any) -> dict[str, Any]:
        properties = {"AllocationIds": allocation_ids} | changes.pop("properties", {})
        event = stored | {"ResponseURL": cloudformation.url("/answer"), "ResourceProperties": properties} | changes
        before = len(cloudformation.requests)
        network.handler(event, Context(lambda: seconds))
        (request,) = cloudformation.requests[before:]
        answer: dict[str, Any] = json.loads(request.partition(b"\r\n\r\n")[2])
        for name in ("StackId", "RequestId", "LogicalResourceId"):
            assert answer[name] == event[name]
        own = f"sallyport-{event['ResourceType'].removeprefix('Custom::')}"
        assert answer["PhysicalResourceId"] == changes.get("PhysicalResourceId", own)
        return answer

    return invoke


def refused(answer: dict[str, Any]) -> str:
    assert (answer["Status"], answer["Data"]) == ("FAILED", {})
    return str(answer["Reason"])


def allocate(ec2: Any) -> tuple[str, str]:
    """The allocation id and the public address of a new Elastic IP."""
    made = ec2.allocate_address(Domain="vpc")
    return made["AllocationId"], made["PublicIp"]


def nat_gateway(ec2: Any, subnet: str, allocation_id: str, *, stack: str = "") -> str:
    made = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=allocation_id)["NatGateway"]["NatGatewayId"]
    if stack:
        ec2.create_tags(Resources=[made], Tags=[{"Key": "aws:cloudformation:stack-name", "Value": stack}])
    return str(made)


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_given_ids_become_their_addresses_in_their_order(ec2: Any, ask: Ask, kind: str) -> None:
    (first, first_address), (second, second_address) = allocate(ec2), allocate(ec2)
    answer = ask(f"{second},{first}", RequestType=kind)
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {"AddressA": second_address, "AddressB": first_address}


def test_an_operator_may_ask_and_gets_the_answer_or_the_error_itself(ec2: Any, repository: Path) -> None:
    stored: dict[str, Any] = json.loads((repository / "events" / "network.json").read_text())
    del stored["ResponseURL"]
    given, address = allocate(ec2)
    asked = stored | {"ResourceProperties": {"AllocationIds": given}}
    assert network.handler(asked, Context()) == {"AddressA": address, "AddressB": ""}
    with pytest.raises(flow.NetworkRefused, match="eipalloc-0a1b2c3d4e5f60718 is not an Elastic IP"):
        network.handler(stored, Context())


def test_one_id_is_enough(ec2: Any, ask: Ask) -> None:
    given, address = allocate(ec2)
    assert ask(given)["Data"] == {"AddressA": address, "AddressB": ""}


def test_an_address_on_the_stacks_own_nat_gateway_goes_on_being_its_own(ec2: Any, ask: Ask, subnet: str) -> None:
    given, address = allocate(ec2)
    nat_gateway(ec2, subnet, given, stack=OWN_STACK)
    assert ask(given, RequestType="Update")["Data"]["AddressA"] == address


@pytest.mark.parametrize(
    ("stack", "maker"),
    [
        ("sallyport-prod-Network-1AB2CD3EF4GH5", "stack sallyport-prod-Network-1AB2CD3EF4GH5"),
        ("sallyport-dev-2-Network-1AB2CD3EF4GH5", "stack sallyport-dev-2-Network-1AB2CD3EF4GH5"),
        ("", "no stack"),
    ],
)
def test_an_address_on_another_stacks_nat_gateway_is_refused(
    ec2: Any, ask: Ask, subnet: str, stack: str, maker: str
) -> None:
    given, _ = allocate(ec2)
    gateway = nat_gateway(ec2, subnet, given, stack=stack)
    reason = refused(ask(f"{allocate(ec2)[0]},{given}"))
    assert reason == f"{given} is in use by {gateway} of {maker}; delete that NAT gateway first"


def test_an_address_of_a_nat_gateway_that_is_gone_is_free(ec2: Any, ask: Ask, subnet: str) -> None:
    given, address = allocate(ec2)
    ec2.delete_nat_gateway(NatGatewayId=nat_gateway(ec2, subnet, given, stack="other"))
    held = ec2.describe_addresses(AllocationIds=[given])["Addresses"][0].get("AssociationId")
    if held:  # moto leaves the address with a gateway that is gone
        ec2.disassociate_address(AssociationId=held)
    assert ask(given)["Data"]["AddressA"] == address


def test_an_address_on_an_instance_is_refused(ec2: Any, ask: Ask, subnet: str) -> None:
    given, _ = allocate(ec2)
    interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    ec2.associate_address(AllocationId=given, NetworkInterfaceId=interface)
    assert refused(ask(given)) == f"{given} is in use by something other than a NAT gateway; disassociate it"


def test_an_id_that_does_not_exist_here_is_refused_by_name(ec2: Any, ask: Ask) -> None:
    reason = refused(ask(f"{allocate(ec2)[0]},eipalloc-0123456789abcdef0"))
    assert "eipalloc-0123456789abcdef0 is not an Elastic IP of this account and Region" in reason


def test_an_id_of_another_region_is_refused(queue_server: QueueServer, ec2: Any, ask: Ask) -> None:
    elsewhere = boto3.client("ec2", endpoint_url=queue_server.endpoint_url, region_name="us-east-1")
    given, _ = allocate(elsewhere)
    elsewhere.close()
    assert given in refused(ask(given))


def test_an_id_that_stands_twice_is_refused(ec2: Any, ask: Ask) -> None:
    given, _ = allocate(ec2)
    assert "twice" in refused(ask(f"{given},{given}"))


@pytest.mark.parametrize("kind", ["Custom::EgressAddresses", "Custom::DefaultSecurityGroup", "Custom::ZoneIds"])
def test_deleting_changes_nothing_and_needs_no_ec2(
    ask: Ask, aws_credentials: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("EC2_ENDPOINT_URL", "http://127.0.0.1:1")
    answer = ask("eipalloc-0123456789abcdef0", RequestType="Delete", ResourceType=kind)
    assert answer["Status"] == "SUCCESS"


def test_a_resource_is_deleted_under_the_id_that_cloudformation_gave_it(ask: Ask, aws_credentials: None) -> None:
    """As it does where no answer came when it was made."""
    given = {"PhysicalResourceId": "sallyport-dev-EgressAddresses-1A2B3C4D5E6F7"}
    assert ask(RequestType="Delete", **given)["PhysicalResourceId"] == given["PhysicalResourceId"]


def default_group(ec2: Any) -> dict[str, Any]:
    """The default group of a new VPC, with the rule that AWS puts into it and moto leaves out."""
    vpc = ec2.create_vpc(CidrBlock="10.64.0.0/16")["Vpc"]["VpcId"]
    group = described(ec2, Filters=[{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}])
    own = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group["GroupId"]}]}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[own])
    return group


def described(ec2: Any, **which: Any) -> dict[str, Any]:
    (found,) = ec2.describe_security_groups(**which)["SecurityGroups"]
    assert isinstance(found, dict)
    return found


def test_the_default_group_loses_its_rules_and_stays_without(ec2: Any, ask: Ask) -> None:
    group_id = default_group(ec2)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group_id,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
        ],
    )
    change = {"ResourceType": "Custom::DefaultSecurityGroup", "properties": {"SecurityGroupId": group_id}}
    for revoked in ("4", "0"):
        answer = ask(**change)
        assert (answer["Status"], answer["Data"]) == ("SUCCESS", {"RulesRevoked": revoked})
        left = described(ec2, GroupIds=[group_id])
        assert (left["IpPermissions"], left["IpPermissionsEgress"]) == ([], [])


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_zones_get_their_ids_in_their_order(ec2: Any, ask: Ask, kind: str) -> None:
    found = {zone["ZoneName"]: zone["ZoneId"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]}
    second, first = sorted(found)[:2]
    answer = ask(ResourceType="Custom::ZoneIds", RequestType=kind, properties={"ZoneA": first, "ZoneB": second})
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"] == {"ZoneIds": f"{first}={found[first]},{second}={found[second]}"}
    assert len(ZoneSettings.from_environment({"EGRESS_ZONE_IDS": answer["Data"]["ZoneIds"]}).egress_zone_ids) == 2


def test_a_zone_that_ec2_does_not_know_is_refused_by_name(ec2: Any, ask: Ask) -> None:
    zones = {"ZoneA": f"{REGION}a", "ZoneB": "us-east-1a"}
    assert refused(ask(ResourceType="Custom::ZoneIds", properties=zones)).startswith(
        "EC2 returned no ID of us-east-1a; "
    )


def test_what_ec2_says_about_a_zone_is_passed_on(scripted: Callable[..., None], ask: Ask) -> None:
    """EC2 refuses unknown zones, which moto leaves out."""
    scripted((400, UNAUTHORIZED.replace(b"UnauthorizedOperation", b"InvalidParameterValue")))
    reason = refused(ask(ResourceType="Custom::ZoneIds", properties={"ZoneA": "eu-west-1a", "ZoneB": "eu-west-1b"}))
    assert reason.startswith("InvalidParameterValue: ")


def test_a_group_that_is_no_default_group_keeps_its_rules(ec2: Any, ask: Ask, subnet: str) -> None:
    vpc = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["VpcId"]
    group_id = ec2.create_security_group(GroupName="database", Description="x", VpcId=vpc)["GroupId"]
    reason = refused(ask(ResourceType="Custom::DefaultSecurityGroup", properties={"SecurityGroupId": group_id}))
    assert reason == f"{group_id} is the group 'database', not a VPC's default group; its rules are not changed"
    assert len(described(ec2, GroupIds=[group_id])["IpPermissionsEgress"]) == 1


def test_a_group_that_does_not_exist_is_a_failure_with_ec2s_own_words(ec2: Any, ask: Ask) -> None:
    change = {"ResourceType": "Custom::DefaultSecurityGroup", "properties": {"SecurityGroupId": "sg-0123456789abcdef0"}}
    assert refused(ask(**change)).startswith("InvalidGroup.NotFound: ")


def test_a_resource_of_another_kind_is_a_failure(ec2: Any, ask: Ask) -> None:
    assert refused(ask(ResourceType="Custom::Nothing")) == "this function does not handle Custom::Nothing"


def test_an_ec2_that_does_not_answer_is_a_failure(
    ask: Ask, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EC2_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr("runtime.ec2.TRIES", 1)
    assert refused(ask("eipalloc-0123456789abcdef0")).startswith("ConnectionFailed: ")


def test_an_unexpected_error_is_reported_to_cloudformation_too(ec2: Any, ask: Ask, cloudformation: Partner) -> None:
    with pytest.raises(KeyError):
        ask(ResourceType="Custom::DefaultSecurityGroup", properties={})
    (request,) = cloudformation.requests
    answer = json.loads(request.partition(b"\r\n\r\n")[2])
    assert (answer["Status"], answer["Reason"]) == ("FAILED", "unexpected, see the log of the function")


UNAUTHORIZED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized.</Message></Error></Errors>
<RequestID>1</RequestID></Response>"""
ADDRESS = b"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId><addressesSet><item>
<publicIp>203.0.113.10</publicIp><allocationId>eipalloc-0123456789abcdef0</allocationId><domain>%s</domain>
<networkBorderGroup>%s</networkBorderGroup></item></addressesSet></DescribeAddressesResponse>"""


def says(*turns: tuple[int, bytes]) -> Script:
    """An EC2 that answers so, in turn, and the last one from then on: for what moto does not do."""
    left = list(turns)

    def script(line: Line) -> None:
        while line.read_request():
            status, body = left.pop(0) if len(left) > 1 else left[0]
            line.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    return script


@pytest.fixture
def scripted(partner: StartPartner, aws_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a scripted EC2 in the place of moto's."""

    def start(*turns: tuple[int, bytes]) -> None:
        monkeypatch.setenv("EC2_ENDPOINT_URL", partner(says(*turns)).url("/"))
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    return start


def test_a_right_that_iam_does_not_know_yet_is_waited_for(
    scripted: Callable[..., None], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "PAUSE_SECONDS", 0.01)
    scripted((403, UNAUTHORIZED), (403, UNAUTHORIZED), (200, ADDRESS % (b"vpc", REGION.encode())))
    assert ask("eipalloc-0123456789abcdef0")["Data"]["AddressA"] == "203.0.113.10"


def test_a_permission_that_never_arrives_is_a_failure_reported_in_time(scripted: Callable[..., None], ask: Ask) -> None:
    scripted((403, UNAUTHORIZED))
    reason = refused(ask("eipalloc-0123456789abcdef0", seconds=network.RESERVE_SECONDS + flow.PAUSE_SECONDS - 1))
    assert reason.startswith("UnauthorizedOperation: ")


@pytest.mark.parametrize(
    ("domain", "group", "words"),
    [
        (b"standard", REGION.encode(), "EC2-Classic"),
        (b"vpc", b"us-west-2-lax-1", "announced in us-west-2-lax-1"),
    ],
)
def test_an_address_that_no_nat_gateway_here_can_use_is_refused(
    scripted: Callable[..., None], ask: Ask, domain: bytes, group: bytes, words: str
) -> None:
    scripted((200, ADDRESS % (domain, group)))
    assert words in refused(ask("eipalloc-0123456789abcdef0"))


def test_rules_that_someone_else_took_away_meanwhile_are_no_failure(scripted: Callable[..., None], ask: Ask) -> None:
    group = b"""<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><securityGroupInfo><item>
<groupId>sg-1</groupId><groupName>default</groupName><ipPermissions><item><ipProtocol>-1</ipProtocol></item>
</ipPermissions><ipPermissionsEgress/></item></securityGroupInfo></DescribeSecurityGroupsResponse>"""
    change = {"ResourceType": "Custom::DefaultSecurityGroup", "properties": {"SecurityGroupId": "sg-1"}}
    scripted((200, group), (400, UNAUTHORIZED.replace(b"UnauthorizedOperation", b"InvalidPermission.NotFound")))
    assert ask(**change)["Status"] == "SUCCESS"
    scripted((200, group), (400, UNAUTHORIZED.replace(b"UnauthorizedOperation", b"DependencyViolation")))
    assert refused(ask(**change)).startswith("DependencyViolation: ")


def test_the_log_names_the_resource_and_the_reason(ec2: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    ask("eipalloc-0123456789abcdef0")
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["message"], line["resource"]) == ("custom resource failed", "EgressAddresses")

"""The deployment as a whole, with a stand-in for `sam` (a program that packages nothing) and two for AWS.

A first deployment runs against moto, which carries change sets out for real resources of its own (without outputs). An
update runs against botocore's Stubber, which holds requests and answers to the service's model: moto has no nested
change sets. What none of this shows is how CloudFormation itself behaves; it was never asked from here.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from rich.console import Console

from stack.deploy import deployment
from stack.deploy.afterwards import associate_private_api
from stack.deploy.change_sets import ChangeSetUnreadable, ExistingResource
from stack.deploy.deployment import (
    Deployment,
    DeploymentStopped,
    StageConfig,
    architecture,
    deploy,
    main,
    packages_sha256,
    region_of,
    stage_config,
    validate_parameters,
)
from stack.deploy.stack_policy import policy_allowing, policy_for, protect
from stack.render import render
from stack.stack_states import STATES, Readiness, state_of
from tests.support.mocked_aws import mocked_aws

REGION = "eu-central-1"
TEMPLATE: dict[str, Any] = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Parameters": {"Stage": {"Type": "String"}, "Size": {"Type": "String", "Default": "1"}},
    "Resources": {"WakeupQueue": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {"QueueUrl": {"Value": {"Ref": "WakeupQueue"}}},
}
SAMCONFIG = """
version = 0.1
[default.build.parameters]
parallel = true
[dev.deploy.parameters]
stack_name = "sallyport-dev"
capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
tags = "app=sallyport stage=dev"
parameter_overrides = ["Stage=dev", "Architecture=x86_64"]
[prod.deploy.parameters]
stack_name = "sallyport-prod"
region = "eu-central-1"
parameter_overrides = ["Stage=prod", "AllowedPrivateCidrs=10.1.0.0/16,10.2.0.0/16"]
"""
WANTED = StageConfig(
    stage="dev",
    stack="sallyport-dev",
    region="",
    parameters={"Stage": "dev"},
    tags={"app": "sallyport"},
    capabilities=("CAPABILITY_IAM",),
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".aws-sam").mkdir()
    (tmp_path / "template.json").write_text(json.dumps(TEMPLATE), encoding="utf-8")
    sam = tmp_path / "sam"
    sam.write_text('#!/bin/sh\necho "$@" > asked\ncp template.json .aws-sam/packaged.yaml\n', encoding="utf-8")
    sam.chmod(0o700)
    return tmp_path


def deployment_of(folder: Path, **more: Any) -> Deployment:
    usual: dict[str, Any] = {
        "config": WANTED,
        "region": REGION,
        "session": boto3.Session(),
        "console": Console(file=io.StringIO(), width=160),
        "ask": lambda _: True,
        "sam": str(folder / "sam"),
        "folder": folder,
        "pause": lambda: None,
    }
    return Deployment(**{**usual, **more})


def text_of(deployment: Deployment) -> str:
    assert isinstance(deployment.console.file, io.StringIO)
    return deployment.console.file.getvalue()


def yes_to(asked: list[str]) -> Callable[[str], bool]:
    """Says yes and keeps the question."""

    def ask(question: str) -> bool:
        asked.append(question)
        return True

    return ask


# ---- What is to be deployed ------------------------------------------------------------------------------------------


def test_a_stage_is_read_from_its_table() -> None:
    found = stage_config(SAMCONFIG, "dev")
    assert (found.stack, found.region) == ("sallyport-dev", "")
    assert found.tags == {"app": "sallyport", "stage": "dev"}
    assert found.capabilities == ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
    assert stage_config(SAMCONFIG, "prod").parameters["AllowedPrivateCidrs"] == "10.1.0.0/16,10.2.0.0/16"


@pytest.mark.parametrize(
    "line", ['role_arn = "arn:aws:iam::1:role/x"', 's3_bucket = "mine"', "disable_rollback = true"]
)
def test_a_table_that_asks_for_what_is_not_done_stops_it(line: str) -> None:
    samconfig = SAMCONFIG.replace('stack_name = "sallyport-dev"', f'stack_name = "sallyport-dev"\n{line}')
    with pytest.raises(DeploymentStopped, match=line.split(maxsplit=1)[0]):
        stage_config(samconfig, "dev")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('"Stage=dev Egress"', "has Egress where Name=value is expected"),
        ('["LogRetentionDays:7"]', "has LogRetentionDays:7 where"),
        ("'Stage=\"dev'", "cannot be read: No closing quotation"),
    ],
)
def test_what_is_no_parameter_is_one_line_and_no_traceback(given: str, words: str) -> None:
    samconfig = f'[dev.deploy.parameters]\nstack_name = "sallyport-dev"\nparameter_overrides = {given}\n'
    with pytest.raises(DeploymentStopped, match=words):
        stage_config(samconfig, "dev")


def test_a_table_that_sam_has_saved_is_read_as_sam_reads_it() -> None:
    saved = (
        '[default.deploy.parameters]\nstack_name = "sam-app"\nresolve_s3 = true\ns3_prefix = "sam-app"\n'
        'image_repositories = []\nregion = "eu-central-1"\n'
        """parameter_overrides = 'Stage="dev" AvailabilityZones="" AllowlistContact="network team"'\n"""
    )
    for_all = (
        '[default.global.parameters]\ncapabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"\nregion = "us-east-1"\n'
    )
    found = stage_config(for_all + saved, "default")
    assert found.parameters == {"Stage": "dev", "AvailabilityZones": "", "AllowlistContact": "network team"}
    assert (found.stack, found.region) == ("sam-app", "eu-central-1")
    assert found.capabilities == ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")


def test_our_own_stages_are_four_stacks_that_the_rules_admit() -> None:
    samconfig = (deployment.ROOT / "samconfig.toml").read_text(encoding="utf-8")
    configs = [stage_config(samconfig, stage) for stage in ("dev", "staging", "prod", "internal")]
    assert len({config.stack for config in configs}) == len(configs)
    assert [render(config.parameters).parameters["Topology"] for config in configs[-2:]] == [
        "public-private",
        "internal-only",
    ]


@pytest.mark.parametrize("stage", ["production", "default"])
def test_an_unknown_stage_is_told_with_those_that_there_are(stage: str) -> None:
    with pytest.raises(DeploymentStopped, match="it has dev, prod"):
        stage_config(SAMCONFIG, stage)


def test_the_architecture_is_the_stages_own_or_that_of_its_stack_or_the_templates() -> None:
    template = "Parameters:\n  Architecture:\n    Type: String\n    Default: arm64\n"
    assert architecture(stage_config(SAMCONFIG, "dev"), {"Architecture": "arm64"}, template) == "x86_64"
    assert architecture(stage_config(SAMCONFIG, "prod"), {"Architecture": "x86_64"}, template) == "x86_64"
    assert architecture(stage_config(SAMCONFIG, "prod"), {"Stage": "prod"}, template) == "arm64"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"Stage": "prod", "DatabaseMinCapacity": "0"}, "of prod are refused: .*does not let its database pause"),
        ({"Egress": "two"}, "Egress"),
        (
            {"EgressAllocationIds": "eipalloc-0a1b2c3d,eipalloc-1a1b2c3d"},  # a Rule of a nested template
            "Remove the second",
        ),
        ({"Color": "blue"}, "gives Color, which the template does not have"),
        (
            {"AllowedPrivateCidrs": "172.20.0.0/16,10.64.8.0/24"},
            "10.64.8.0/24 lies in the VPC",
        ),
        (
            {
                "Topology": "on-premises",
                "CorporateCidr": "10.64.0.0/20",
                "CustomerGatewayAddress": "198.51.100.7",
            },
            "CorporateCidr 10.64.0.0/20 lies in",
        ),
    ],
)
def test_what_would_be_refused_is_refused_before_anything_is_built(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(DeploymentStopped, match=words):
        validate_parameters(replace(WANTED, stage="prod", parameters=parameters), {}, region=REGION)


def test_what_the_stack_keeps_counts_too() -> None:
    wanted = replace(WANTED, parameters={"VpcCidr": "10.64.0.0/16", "AllowedPrivateCidrs": "10.0.0.0/8"})
    validate_parameters(wanted, {"DatabaseProxy": "no", "Former": "gone from the template"}, region=REGION)
    with pytest.raises(DeploymentStopped, match="RDS Proxy holds connections"):
        validate_parameters(wanted, {"DatabaseProxy": "yes"}, region=REGION)


@pytest.mark.parametrize(
    ("wanted", "environment", "profile", "found"),
    [
        ("", {"AWS_REGION": "eu-west-1"}, None, "eu-west-1"),
        ("", {"AWS_DEFAULT_REGION": "eu-west-1"}, "us-east-1", "eu-west-1"),
        ("", {}, "us-east-1", "us-east-1"),
        ("eu-west-1", {}, "us-east-1", "eu-west-1"),
        ("eu-west-1", {"AWS_REGION": "eu-west-1"}, None, "eu-west-1"),
    ],
)
def test_the_region_is_that_of_the_stage_or_the_environment(
    wanted: str, environment: dict[str, str], profile: str | None, found: str
) -> None:
    assert region_of(replace(WANTED, region=wanted), environment, profile) == found


@pytest.mark.parametrize(
    ("wanted", "environment", "words"),
    [("", {}, "no Region"), ("eu-west-1", {"AWS_REGION": "us-east-1"}, "to eu-west-1, the environment says us-east-1")],
)
def test_two_regions_or_none_stop_it(wanted: str, environment: dict[str, str], words: str) -> None:
    with pytest.raises(DeploymentStopped, match=words):
        region_of(replace(WANTED, region=wanted), environment, None)


# ---- A first deployment, against moto --------------------------------------------------------------------------------


@pytest.fixture
def aws() -> Iterator[Any]:
    """moto, with the bucket of SAM that `sam package --resolve-s3` would have made."""
    with mocked_aws():
        session = boto3.Session()
        location = {"LocationConstraint": REGION}
        session.client("s3", region_name=REGION).create_bucket(Bucket="packages", CreateBucketConfiguration=location)
        buckets = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
            "Outputs": {"SourceBucket": {"Value": "packages"}},
        }
        client = session.client("cloudformation", region_name=REGION)
        client.create_stack(StackName=deployment.SAM_BUCKETS_STACK, TemplateBody=json.dumps(buckets))
        yield client


def test_a_first_deployment_makes_the_stack_and_protects_it(aws: Any, folder: Path) -> None:
    asked: list[str] = []
    deployment = deployment_of(folder, ask=yes_to(asked))
    assert deploy(deployment) == 0
    assert asked == ["Make sallyport-dev in eu-central-1?"]
    (stack,) = aws.describe_stacks(StackName="sallyport-dev")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert {"Key": "app", "Value": "sallyport"} in stack["Tags"]
    assert "WakeupQueue" in text_of(deployment)
    policy = json.loads(aws.get_stack_policy(StackName="sallyport-dev")["StackPolicyBody"])
    assert policy["Statement"][1]["Effect"] == "Deny"


@pytest.mark.parametrize("answer", [True, False])
def test_addresses_of_an_earlier_stack_are_used_for_a_yes(aws: Any, folder: Path, answer: bool) -> None:
    ec2 = boto3.client("ec2", region_name=REGION)
    allocated = ec2.allocate_address(Domain="vpc")
    tags = [{"Key": "Name", "Value": "sallyport-dev-Network-1K3V egress A"}]
    ec2.create_tags(Resources=[allocated["AllocationId"]], Tags=tags)
    template = {**TEMPLATE, "Parameters": {**TEMPLATE["Parameters"], "EgressAllocationIds": {"Type": "String"}}}
    template["Parameters"]["EgressAllocationIds"]["Default"] = ""
    (folder / "template.json").write_text(json.dumps(template), encoding="utf-8")
    question = f"Use the addresses that an earlier stack left ({allocated['PublicIp']})?"
    assert deploy(deployment_of(folder, ask=lambda asked: answer if asked == question else True)) == 0
    (stack,) = aws.describe_stacks(StackName="sallyport-dev")["Stacks"]
    given = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
    assert given["EgressAllocationIds"] == (allocated["AllocationId"] if answer else "")


def test_sam_is_asked_to_package_for_this_stack_and_region(aws: Any, folder: Path) -> None:
    deploy(deployment_of(folder))
    words = (folder / "asked").read_text(encoding="utf-8").split()
    assert words[0] == "package"
    assert words[words.index("--s3-prefix") + 1] == "sallyport-dev"
    assert words[words.index("--region") + 1] == REGION
    assert "--resolve-s3" in words


def test_a_no_changes_nothing(aws: Any, folder: Path) -> None:
    deployment = deployment_of(folder, ask=lambda _: False)
    assert deploy(deployment) == 1
    assert text_of(deployment).endswith("Nothing was changed.\n")
    assert not aws.list_change_sets(StackName="sallyport-dev")["Summaries"]


def test_a_change_set_tells_what_is_in_it(aws: Any, folder: Path) -> None:
    build = folder / ".aws-sam/build"
    (build / "ApiFunction").mkdir(parents=True)
    (build / "template.yaml").write_text("{}", encoding="utf-8")
    code = build / "ApiFunction/code.py"
    code.write_text("1", encoding="utf-8")
    told: list[str] = []

    def ask(_: str) -> bool:
        (change_set,) = aws.list_change_sets(StackName="sallyport-dev")["Summaries"]
        told.append(aws.describe_change_set(ChangeSetName=change_set["ChangeSetId"])["Description"])
        return False

    deploy(deployment_of(folder, ask=ask))
    (build / "template.yaml").write_text("{ }", encoding="utf-8")
    os.utime(code, (0, 0))
    same = packages_sha256(build / "template.yaml")
    code.write_text("2", encoding="utf-8")
    packaged = hashlib.sha256((folder / ".aws-sam/packaged.yaml").read_bytes()).hexdigest()
    assert told == [f"Made by make deploy. SHA-256 of the template: {packaged}, of the packages: {same}"]
    assert packages_sha256(build / "template.yaml") != same


def test_sam_failing_stops_it_with_its_words(aws: Any, folder: Path) -> None:
    (folder / "sam").write_text('#!/bin/sh\necho "no such bucket" >&2\nexit 1\n', encoding="utf-8")
    deployment = deployment_of(folder)
    with pytest.raises(DeploymentStopped, match="sam package failed"):
        deploy(deployment)
    assert "no such bucket" in text_of(deployment)


def test_no_sam_stops_it(aws: Any, folder: Path) -> None:
    (folder / "sam").unlink()
    with pytest.raises(DeploymentStopped, match=r"sam cannot be run \(No such file or directory\): make build"):
        deploy(deployment_of(folder))


def test_a_parameter_that_the_template_does_not_have_stops_it(aws: Any, folder: Path) -> None:
    wanted = replace(WANTED, parameters={"Stage": "dev", "Sise": "2"})
    with pytest.raises(DeploymentStopped, match="gives Sise, which the template does not have"):
        deploy(deployment_of(folder, config=wanted))


# ---- An update, against the service's model --------------------------------------------------------------------------

STACK_ID = f"arn:aws:cloudformation:{REGION}:123456789012:stack/sallyport-dev/5f0c2b10"
NESTED_ID = f"arn:aws:cloudformation:{REGION}:123456789012:stack/sallyport-dev-Network-1K3V/7a31e0c0"
CHANGE_SET = f"arn:aws:cloudformation:{REGION}:123456789012:changeSet/deploy-1/0a6d3941"
NESTED_CHANGE_SET = f"arn:aws:cloudformation:{REGION}:123456789012:changeSet/deploy-1-Network/1b7e4a52"
LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)


SERVICES = ("apigateway", "cloudformation", "ec2", "rds", "s3", "sts")


class Session:
    """boto3's session with one client of each service, each of which takes only the calls that are queued."""

    region_name = REGION

    def __init__(self) -> None:
        self.clients = {name: boto3.client(name, region_name=REGION) for name in SERVICES}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}

    def client(self, name: str, *, region_name: str) -> Any:
        assert region_name == REGION
        return self.clients[name]

    def queue(self, operation: str, answer: dict[str, Any], service: str = "cloudformation", **asked: Any) -> None:
        self.stubs[service].add_response(operation, answer, asked or None)


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session()
    for stub in made.stubs.values():
        stub.activate()
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


def stacks(status: str = "UPDATE_COMPLETE", **more: Any) -> dict[str, Any]:
    return {"Stacks": [{"StackName": "sallyport-dev", "CreationTime": LONG_AGO, "StackStatus": status, **more}]}


def event(minutes: int, logical_id: str, status: str, *, stack: str = STACK_ID, **more: Any) -> dict[str, Any]:
    return {
        "StackId": stack,
        "StackName": stack.split("/")[1],
        "EventId": f"{logical_id}-{minutes}-{status}",
        "LogicalResourceId": logical_id,
        "ResourceType": "AWS::CloudFormation::Stack",
        "ResourceStatus": status,
        "Timestamp": LONG_AGO + timedelta(minutes=minutes),
        **more,
    }


def change(logical_id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"Type": "Resource", "ResourceChange": {"LogicalResourceId": logical_id, "ResourceType": kind, **more}}


def up_to_the_change_set(
    session: Session, *, status: str = "CREATE_COMPLETE", reason: str = "", nested: bool = True
) -> None:
    """Everything until a change set is there or has failed."""
    session.queue("get_caller_identity", {"Account": "123456789012"}, "sts")
    session.queue("describe_stacks", stacks(), StackName="sallyport-dev")
    output = {"OutputKey": "SourceBucket", "OutputValue": "packages"}
    session.queue("describe_stacks", stacks(Outputs=[output]), StackName=deployment.SAM_BUCKETS_STACK)
    session.queue("put_object", {}, "s3", Bucket="packages", Key=ANY, Body=ANY, ExpectedBucketOwner="123456789012")
    known = [{"ParameterKey": name, "ParameterValue": "1"} for name in ("Stage", "Size", "Gone")]
    session.queue("describe_stacks", stacks(Parameters=known), StackName="sallyport-dev")
    session.queue(
        "create_change_set",
        {"Id": CHANGE_SET, "StackId": STACK_ID},
        StackName="sallyport-dev",
        ChangeSetName=ANY,
        ChangeSetType="UPDATE",
        TemplateURL=ANY,
        Parameters=[
            {"ParameterKey": "Stage", "ParameterValue": "dev"},
            {"ParameterKey": "Size", "UsePreviousValue": True},
        ],
        Tags=[{"Key": "app", "Value": "sallyport"}],
        Capabilities=["CAPABILITY_IAM"],
        IncludeNestedStacks=nested,
        Description=ANY,
    )
    session.queue("describe_change_set", {"Status": "CREATE_IN_PROGRESS"}, ChangeSetName=CHANGE_SET)
    page = {"ChangeSetId": CHANGE_SET, "Status": status} | ({"StatusReason": reason} if reason else {})
    session.queue("describe_change_set", page, ChangeSetName=CHANGE_SET)


def guarded(session: Session, inner: dict[str, Any]) -> None:
    """The guard reads the root's change set and that of the network, which has one change."""
    network = change("Network", "AWS::CloudFormation::Stack", Action="Modify", Replacement="False")
    network["ResourceChange"] |= {"PhysicalResourceId": NESTED_ID, "ChangeSetId": NESTED_CHANGE_SET}
    page = {"Status": "CREATE_COMPLETE", "StackName": "sallyport-dev", "StackId": STACK_ID}
    root = {**page, "ChangeSetId": CHANGE_SET, "Changes": [network]}
    session.queue("describe_change_set", root, ChangeSetName=CHANGE_SET, IncludePropertyValues=True)
    nested = {**page, "ChangeSetId": NESTED_CHANGE_SET, "ParentChangeSetId": CHANGE_SET, "Changes": [inner]}
    session.queue("describe_change_set", nested, ChangeSetName=NESTED_CHANGE_SET, IncludePropertyValues=True)


class Lifts:
    """Equal to the text of a stack policy that denies the loss of all but `name` in the network's stack, or by type."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, text: object) -> bool:
        denials = [statement for statement in json.loads(str(text))["Statement"] if statement["Effect"] == "Deny"]
        if not self.name:
            return any("Condition" in statement for statement in denials)
        resources = [name for statement in denials for name in statement["Resource"]]
        return bool(resources) and f"LogicalResourceId/{self.name}" not in resources

    def __hash__(self) -> int:
        return hash(self.name)


def protected(session: Session, *, lifts: str = "") -> None:
    """The stack policy is set on the root and on the network's stack."""
    for stack, resources in (
        ("sallyport-dev", [("Network", NESTED_ID, "AWS::CloudFormation::Stack"), ("Topic", "t", "AWS::SNS::Topic")]),
        (NESTED_ID, [("EgressAddressA", "203.0.113.10", "AWS::EC2::EIP"), ("EgressAddressB", "e", "AWS::EC2::EIP")]),
    ):
        names = ("LogicalResourceId", "PhysicalResourceId", "ResourceType")
        usual = {"LastUpdatedTimestamp": LONG_AGO, "ResourceStatus": "CREATE_COMPLETE"}
        summaries = [dict(zip(names, resource, strict=True)) | usual for resource in resources]
        session.queue("list_stack_resources", {"StackResourceSummaries": summaries}, StackName=stack)
        session.queue("set_stack_policy", {}, StackName=stack, StackPolicyBody=Lifts(lifts))


NETWORK = ("Network", NESTED_ID, "AWS::CloudFormation::Stack")


def looked_after(session: Session, *more: tuple[str, str, str], stage: str = "dev") -> None:
    """Once the stack is as wanted: is there a private API, and is it prod? `more` is what its nested stack has."""
    resources_listed(session, *more)
    parameters = [{"ParameterKey": "Stage", "ParameterValue": stage}]
    session.queue("describe_stacks", stacks(Parameters=parameters), StackName="sallyport-dev")


def resources_listed(session: Session, *inner: tuple[str, str, str]) -> None:
    """The root's resources, a nested stack and an API, and those of the nested stack."""
    api = ("Api", "a1b2c3", "AWS::ApiGateway::RestApi")
    for stack, resources in (("sallyport-dev", (NETWORK, api)), (NESTED_ID, inner)):
        summaries = [
            {"LogicalResourceId": name, "PhysicalResourceId": physical, "ResourceType": kind}
            | {"LastUpdatedTimestamp": LONG_AGO, "ResourceStatus": "CREATE_COMPLETE"}
            for name, physical, kind in resources
        ]
        session.queue("list_stack_resources", {"StackResourceSummaries": summaries}, StackName=stack)


def followed(session: Session, end: str, **more: Any) -> None:
    """Execution, and events that come in two lots; the nested stack's are asked for from the second lot on."""
    old = event(0, "sallyport-dev", "UPDATE_COMPLETE", PhysicalResourceId=STACK_ID)
    session.queue("describe_stack_events", {"StackEvents": [old]}, StackName="sallyport-dev")
    session.queue("execute_change_set", {}, ChangeSetName=CHANGE_SET)
    first = event(1, "Network", "UPDATE_IN_PROGRESS", PhysicalResourceId=NESTED_ID)
    session.queue("describe_stack_events", {"StackEvents": [first, old]}, StackName="sallyport-dev")
    clean_up = event(3, "sallyport-dev", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", PhysicalResourceId=STACK_ID)
    last = event(4, "sallyport-dev", end, PhysicalResourceId=STACK_ID)
    session.queue("describe_stack_events", {"StackEvents": [last, clean_up, first, old]}, StackName="sallyport-dev")
    inner = event(2, "EgressAddressA", more.pop("inner", "UPDATE_COMPLETE"), stack=NESTED_ID, **more)
    session.queue("describe_stack_events", {"StackEvents": [inner]}, StackName=NESTED_ID)


HARMLESS = change("EgressAddressA", "AWS::EC2::EIP", Action="Modify", Replacement="False")
HARMFUL = change("EgressAddressB", "AWS::EC2::EIP", Action="Remove", PhysicalResourceId="e", PolicyAction="Retain")


def test_an_update_is_guarded_asked_about_followed_and_protected(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMLESS)
    protected(session)
    followed(session, "UPDATE_COMPLETE")
    protected(session)
    looked_after(session)
    outputs = [{"OutputKey": "FixedAddresses", "OutputValue": "203.0.113.10"}]
    session.queue("describe_stacks", stacks(Outputs=outputs), StackName="sallyport-dev")
    asked: list[str] = []
    deployment = deployment_of(folder, session=session, ask=yes_to(asked))
    assert deploy(deployment) == 0
    assert asked == ["Change sallyport-dev in eu-central-1?"]
    lines = text_of(deployment).splitlines()
    assert "00:01:00 UPDATE_IN_PROGRESS Network" in lines
    assert "00:02:00 UPDATE_COMPLETE Network.EgressAddressA" in lines
    assert not any(line.startswith("00:00:00") for line in lines)
    assert "203.0.113.10" in text_of(deployment)


def test_a_refused_change_set_is_thrown_away_and_nobody_is_asked(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMFUL)
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    deployment = deployment_of(folder, session=session, ask=lambda _: pytest.fail("it asked"))
    assert deploy(deployment) == 1
    assert "REFUSED: Network.EgressAddressB" in text_of(deployment)


def test_what_is_allowed_is_let_through_the_stack_policy_for_the_time_being(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMFUL)
    protected(session, lifts="EgressAddressB")
    followed(session, "UPDATE_COMPLETE")
    protected(session)  # put back
    looked_after(session)
    session.queue("describe_stacks", stacks(), StackName="sallyport-dev")
    deployment = deployment_of(folder, session=session, allow=["EgressAddressB"])
    assert deploy(deployment) == 0
    assert "ALLOWED: Network.EgressAddressB" in text_of(deployment)


def test_a_failed_update_tells_its_failures_and_puts_the_policy_back(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMFUL)
    protected(session, lifts="EgressAddressB")
    reason = "Action denied by stack policy"
    followed(session, "UPDATE_ROLLBACK_COMPLETE", inner="UPDATE_FAILED", ResourceStatusReason=reason)
    protected(session)
    deployment = deployment_of(folder, session=session, allow=["EgressAddressB"])
    assert deploy(deployment) == 1
    said = text_of(deployment)
    assert "sallyport-dev is UPDATE_ROLLBACK_COMPLETE: the update failed, and the stack is as it was before" in said
    assert "\n  00:02:00 UPDATE_FAILED Network.EgressAddressA: " in said
    assert text_of(deployment).endswith(f"{reason}\n")


def test_nothing_to_change_is_no_failure(session: Session, folder: Path) -> None:
    up_to_the_change_set(session, status="FAILED", reason="The submitted information didn't contain changes.")
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    deployment = deployment_of(folder, session=session)
    assert deploy(deployment) == 0
    assert text_of(deployment).endswith("Nothing to change.\n")


def test_a_nested_change_set_that_failed_tells_why(session: Session, folder: Path) -> None:
    reason = f"Nested change set {NESTED_CHANGE_SET} was not successfully created: Currently in FAILED."
    up_to_the_change_set(session, status="FAILED", reason=reason)
    inner = {"Status": "FAILED", "StackName": "sallyport-dev-Network-1K3V", "StatusReason": "Parameter X must be Y"}
    session.queue("describe_change_set", inner, ChangeSetName=NESTED_CHANGE_SET)
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    with pytest.raises(DeploymentStopped, match="sallyport-dev-Network-1K3V: Parameter X must be Y"):
        deploy(deployment_of(folder, session=session))


def test_without_nested_change_sets_the_stack_policy_is_set_first_and_the_root_still_guarded(
    session: Session, folder: Path
) -> None:
    up_to_the_change_set(session, nested=False)
    network = change("Network", "AWS::CloudFormation::Stack", Action="Modify", Replacement="False")
    root = {"Status": "CREATE_COMPLETE", "ChangeSetId": CHANGE_SET, "StackName": "sallyport-dev", "Changes": [network]}
    session.queue("describe_change_set", root, ChangeSetName=CHANGE_SET, IncludePropertyValues=True)
    protected(session)
    followed(session, "UPDATE_COMPLETE")
    protected(session)
    looked_after(session)
    session.queue("describe_stacks", stacks(), StackName="sallyport-dev")
    deployment = deployment_of(folder, session=session, nested=False)
    assert deploy(deployment) == 0
    assert "did not look into nested stacks" in text_of(deployment)


def test_an_interrupted_watch_says_that_cloudformation_goes_on(session: Session, folder: Path) -> None:
    def interrupted() -> None:
        if session.stubs["cloudformation"]._queue:  # the change set is being made
            return
        raise KeyboardInterrupt

    up_to_the_change_set(session)
    guarded(session, HARMLESS)
    protected(session)
    old = event(0, "sallyport-dev", "UPDATE_COMPLETE", PhysicalResourceId=STACK_ID)
    session.queue("describe_stack_events", {"StackEvents": [old]}, StackName="sallyport-dev")
    session.queue("execute_change_set", {}, ChangeSetName=CHANGE_SET)
    session.queue("describe_stack_events", {"StackEvents": [old]}, StackName="sallyport-dev")
    with pytest.raises(DeploymentStopped, match=r"continues unwatched \(interrupted\); .*make protect STAGE=dev"):
        deploy(deployment_of(folder, session=session, pause=interrupted))


def interrupted(*_: object) -> bool:
    """Ctrl-C."""
    raise KeyboardInterrupt


def test_ctrl_c_at_the_question_leaves_no_change_set_behind(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMLESS)
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    with pytest.raises(KeyboardInterrupt):
        deploy(deployment_of(folder, session=session, ask=interrupted))


def test_ctrl_c_while_the_change_set_is_made_leaves_none_behind(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    session.stubs["cloudformation"]._queue.pop()  # the answer that it is made does not come
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    with pytest.raises(KeyboardInterrupt):
        deploy(deployment_of(folder, session=session, pause=interrupted))


def test_a_change_set_that_the_guard_cannot_read_is_thrown_away(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    page = {"ChangeSetId": CHANGE_SET, "Status": "CREATE_COMPLETE", "ExecutionStatus": "OBSOLETE"}
    session.queue("describe_change_set", page, ChangeSetName=CHANGE_SET, IncludePropertyValues=True)
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    with pytest.raises(ChangeSetUnreadable, match="obsolete"):
        deploy(deployment_of(folder, session=session))


def test_a_policy_is_put_back_when_the_change_set_is_not_taken(session: Session, folder: Path) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMFUL)
    protected(session, lifts="EgressAddressB")
    old = event(0, "sallyport-dev", "UPDATE_COMPLETE", PhysicalResourceId=STACK_ID)
    session.queue("describe_stack_events", {"StackEvents": [old]}, StackName="sallyport-dev")
    session.stubs["cloudformation"].add_client_error("execute_change_set", "InvalidChangeSetStatus", "is OBSOLETE")
    protected(session)  # put back
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    deployment = deployment_of(folder, session=session, allow=["EgressAddressB"])
    with pytest.raises(ClientError, match="is OBSOLETE"):
        deploy(deployment)
    assert "make protect STAGE=dev" in text_of(deployment)


# ---- Every state that a stack can be in

KNOWN_STATES = boto3.client("cloudformation", region_name=REGION).meta.service_model.shape_for("StackStatus").enum
TAKING_A_CHANGE_SET = {
    *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
    *("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"),
}
ENDS = [status for status in KNOWN_STATES if not status.endswith("_IN_PROGRESS")]


def test_every_state_of_cloudformation_has_its_words() -> None:
    assert STATES.keys() == set(KNOWN_STATES)
    silent = {status for status, state in STATES.items() if not state.advice}
    assert silent == {status for status, state in STATES.items() if state.succeeded}
    alike = [state.advice for state in STATES.values() if state.readiness is Readiness.REPAIR]
    assert len(set(alike)) == len(alike)


@pytest.mark.parametrize("status", sorted(set(KNOWN_STATES) - TAKING_A_CHANGE_SET))
def test_a_stack_that_takes_no_change_set_stops_it_with_what_to_do(session: Session, folder: Path, status: str) -> None:
    session.queue("get_caller_identity", {"Account": "123456789012"}, "sts")
    session.queue("describe_stacks", stacks(status), StackName="sallyport-dev")
    with pytest.raises(DeploymentStopped) as stopped:
        deploy(deployment_of(folder, session=session))
    assert str(stopped.value) == f"sallyport-dev is {status}: {state_of(status, 'sallyport-dev').advice}"
    assert "{" not in str(stopped.value)


@pytest.mark.parametrize("status", sorted(TAKING_A_CHANGE_SET))
def test_a_stack_that_takes_a_change_set_gets_one(session: Session, folder: Path, status: str) -> None:
    (folder / "sam").unlink()  # so that it ends before anything is made, and after the state was looked at
    session.queue("get_caller_identity", {"Account": "123456789012"}, "sts")
    session.queue("describe_stacks", stacks(status), StackName="sallyport-dev")
    is_new = status in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
    if is_new:
        session.queue("describe_addresses", {"Addresses": []}, "ec2", Filters=ANY)
    deployment = deployment_of(folder, session=session)
    with pytest.raises(DeploymentStopped, match="sam cannot be run"):
        deploy(deployment)
    assert ("a new stack" if is_new else "an update") in text_of(deployment)


@pytest.mark.parametrize("status", ENDS)
def test_a_deployment_that_ends_says_what_to_do(session: Session, folder: Path, status: str) -> None:
    up_to_the_change_set(session)
    guarded(session, HARMLESS)
    protected(session)
    followed(session, status)
    state = STATES[status]
    if state.stays:
        protected(session)
    if state.succeeded:
        looked_after(session)
        session.queue("describe_stacks", stacks(), StackName="sallyport-dev")
    deployment = deployment_of(folder, session=session)
    assert deploy(deployment) == (0 if state.succeeded else 1)
    words = "" if state.succeeded else f"sallyport-dev is {status}: {state_of(status, 'sallyport-dev').advice}\n"
    assert words in text_of(deployment)


def test_a_state_that_botocore_does_not_know_is_not_touched() -> None:
    assert state_of("PONDERING", "sallyport-dev").readiness is Readiness.REPAIR


# ---- What comes last


def test_prod_is_protected_from_deletion_last(session: Session, folder: Path) -> None:
    cluster = ("DatabaseCluster", "sallyport-1a2b", "AWS::RDS::DBCluster")
    up_to_the_change_set(session)
    guarded(session, HARMLESS)
    protected(session)
    followed(session, "UPDATE_COMPLETE")
    protected(session)
    looked_after(session, cluster, stage="prod")
    session.queue("update_termination_protection", {}, StackName="sallyport-dev", EnableTerminationProtection=True)
    resources_listed(session, cluster)
    session.queue(
        "modify_db_cluster",
        {},
        "rds",
        DBClusterIdentifier="sallyport-1a2b",
        DeletionProtection=True,
        ApplyImmediately=True,
    )
    session.queue("describe_stacks", stacks(), StackName="sallyport-dev")
    deployment = deployment_of(folder, session=session)
    assert deploy(deployment) == 0
    assert "Protected from deletion: the database sallyport-1a2b" in text_of(deployment)


@pytest.mark.parametrize("found", [[], ["vpce-0a1b2c3d"]])
def test_a_private_api_gets_back_the_endpoint_that_it_lost(session: Session, found: list[str]) -> None:
    said: list[str] = []
    endpoint = ("ApiEndpoint", "vpce-0a1b2c3d", "AWS::EC2::VPCEndpoint")
    resources_listed(session, endpoint)
    resources_listed(session, endpoint)
    private = {"types": ["PRIVATE"], "vpcEndpointIds": found}
    session.queue("get_rest_api", {"endpointConfiguration": private}, "apigateway", restApiId="a1b2c3")
    if not found:
        patch = {"op": "add", "path": "/endpointConfiguration/vpcEndpointIds", "value": "vpce-0a1b2c3d"}
        session.queue("update_rest_api", {}, "apigateway", restApiId="a1b2c3", patchOperations=[patch])
    associate_private_api(session, REGION, "sallyport-dev", said.append)
    assert [line for line in said if "vpce-0a1b2c3d" in line] == said
    assert bool(said) is not bool(found)


# ---- Why there is no change set


def test_an_early_validation_tells_which_resource_and_why(session: Session, folder: Path) -> None:
    reason = (
        "The following hook(s)/validation failed: [AWS::EarlyValidation::ResourceExistenceCheck]. "
        "To troubleshoot Early Validation errors, use the DescribeEvents API."
    )
    up_to_the_change_set(session, status="FAILED", reason=reason)
    found = {
        "EventType": "VALIDATION_ERROR",
        "LogicalResourceId": "ApiLogGroup",
        "ResourceType": "AWS::Logs::LogGroup",
        "ValidationPath": "/Resources/ApiLogGroup/Properties/LogGroupName",
        "ValidationName": "NAME_CONFLICT_VALIDATION",
        "ValidationStatusReason": "The log group '/aws/lambda/x' already exists.",
    }
    progress = {"EventType": "STACK_EVENT", "LogicalResourceId": "sallyport-dev"}
    asked: dict[str, Any] = {"ChangeSetName": CHANGE_SET, "Filters": {"FailedEvents": True}}
    session.queue("describe_events", {"OperationEvents": [progress], "NextToken": "2"}, **asked)
    session.queue("describe_events", {"OperationEvents": [found, found]}, **asked, NextToken="2")
    session.queue("delete_change_set", {}, ChangeSetName=CHANGE_SET)
    with pytest.raises(DeploymentStopped) as stopped:
        deploy(deployment_of(folder, session=session))
    lines = str(stopped.value).splitlines()
    assert [line for line in lines if "ApiLogGroup (AWS::Logs::LogGroup) at /Resources/" in line] == lines[1:]
    assert "already exists" in lines[1]


# ---- The policy ------------------------------------------------------------------------------------------------------


def stack_resource(logical_id: str, kind: str) -> ExistingResource:
    return ExistingResource(logical_id=logical_id, physical_id="x", type=kind)


def test_a_lifted_policy_still_denies_what_was_not_named() -> None:
    network = [
        stack_resource("EgressAddressA", "AWS::EC2::EIP"),
        stack_resource("EgressAddressB", "AWS::EC2::EIP"),
        stack_resource("T", "AWS::X"),
    ]
    for name in ("EgressAddressB", "Network.EgressAddressB"):
        allow, deny = policy_allowing(network, "Network.", {name})["Statement"]
        assert allow["Effect"] == "Allow"
        assert deny["Resource"] == ["LogicalResourceId/EgressAddressA"]
    assert len(policy_allowing(network, "", {"EgressAddressA", "EgressAddressB"})["Statement"]) == 1


def test_the_nested_stacks_that_hold_what_must_stay_may_not_go() -> None:
    root = [
        stack_resource("Network", "AWS::CloudFormation::Stack"),
        stack_resource("Bastion", "AWS::CloudFormation::Stack"),
    ]
    assert policy_for({"Statement": []}, root)["Statement"][0]["Resource"] == ["LogicalResourceId/Network"]
    assert policy_for({"Statement": []}, [])["Statement"] == []


def test_each_stack_gets_a_policy_of_its_own(session: Session) -> None:
    protected(session)
    console = Console(file=io.StringIO())
    protect(session.client("cloudformation", region_name=REGION), "sallyport-dev", console)


def test_a_nested_stack_that_could_not_be_made_is_in_nobodys_way(session: Session) -> None:
    unmade = {
        "LogicalResourceId": "Vpn",
        "ResourceType": "AWS::CloudFormation::Stack",
        "LastUpdatedTimestamp": LONG_AGO,
        "ResourceStatus": "CREATE_FAILED",
    }
    session.queue("list_stack_resources", {"StackResourceSummaries": [unmade]}, StackName="sallyport-dev")
    session.queue("set_stack_policy", {}, StackName="sallyport-dev", StackPolicyBody=ANY)
    console = Console(file=io.StringIO())
    protect(session.client("cloudformation", region_name=REGION), "sallyport-dev", console)


# ---- The command -----------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "_run_command", interrupted)
    assert said("deploy", "--stage", "dev") == (1, "Stopped: interrupted\n")


def said(*arguments: str) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=160)
    code = main(arguments, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_an_unknown_stage_ends_in_one_line() -> None:
    code, text = said("deploy", "--stage", "production")
    assert code == 1
    assert text.startswith("Stopped: samconfig.toml has no stage production; it has ")


def test_no_stage_is_asked_for() -> None:
    assert said("deploy", "--stage", "") == (1, "Stopped: which stage? STAGE= one of dev, internal, prod, staging\n")


def test_no_region_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    code, text = said("deploy", "--stage", "dev")
    assert (code, text.startswith("Stopped: no Region: ")) == (1, True)


def test_no_credentials_end_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_REGION", REGION)
    code, text = said("ready", "--stage", "dev")
    assert code == 1
    assert text == "Stopped: no AWS credentials were found: sign in, as with `aws sso login`, or set AWS_PROFILE\n"


def test_a_stage_says_what_to_build_for_once_it_is_clear_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(deployment, "preflight", lambda *_: True)  # moto lacks what it looks at
    template = {"Parameters": {"Architecture": {"Type": "String"}}, "Resources": TEMPLATE["Resources"]}
    with mocked_aws():
        assert said("ready", "--stage", "dev") == (0, "arm64\n")
        boto3.client("cloudformation", region_name=REGION).create_stack(
            StackName="sallyport-dev",
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": "Architecture", "ParameterValue": "x86_64"}],
        )
        assert said("ready", "--stage", "dev") == (0, "x86_64\n")  # an update keeps what the stage's table leaves open


def test_nothing_is_built_for_an_account_that_lacks_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "il-central-1")
    with mocked_aws():
        assert said("ready", "--stage", "dev") == (1, "")
        told = capsys.readouterr().err
        assert "Stopped by: root certificate of RDS" in told
        assert said("preflight", "--stage", "dev")[0] == 1


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "ROLLBACK_FAILED", "DELETE_FAILED"])
def test_what_is_left_of_a_stack_is_not_protected(
    status: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setattr(boto3, "Session", lambda: session)
    session.queue("describe_stacks", stacks(status), StackName="sallyport-dev")
    code, text = said("protect", "--stage", "dev")
    assert (code, f"nothing to protect: sallyport-dev is {status}: " in text) == (1, True)


@pytest.mark.parametrize(
    ("typed", "wanted"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_only_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, typed: str, wanted: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert deployment._ask("Change it?", Console(file=io.StringIO())) is wanted

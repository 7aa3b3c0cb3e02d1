"""The commands for AWS in the documents are carried out, as they stand, by AWS's own command line against moto.

moto stands for a stack: one that CloudFormation's API describes with its outputs, and the resources that the commands
ask for. The stack's own templates are not made in it. What is compared is that each command is one that the command
line takes and that finds what it asks for: a wrong option, output, filter or query finds nothing.
"""

import json
import os
import re
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.contract.project import load
from tests.support.documents import Block, blocks, is_setting, pages, prose

REGION = "us-east-1"
STACKS = ("sallyport-dev", "sallyport-prod")
# Version 1 of the command line is a Python package. Of version 2 it lacks one option, which says what is its own
# default, and `logs tail`, which is filter-log-events in a loop.
SHIM = """#!{python}
import os, sys
words = sys.argv[1:]
if "--cli-binary-format" in words:
    at = words.index("--cli-binary-format")
    if words[at + 1] != "raw-in-base64-out":
        sys.exit("an unknown format")
    del words[at : at + 2]
if words[:2] == ["logs", "tail"]:
    at = words.index("--since")
    if words[at + 1][-1] not in "smhdw" or not words[at + 1][:-1].isdigit():
        sys.exit("--since takes a number with a unit")
    words = ["logs", "filter-log-events", "--log-group-name", words[2], *words[3:at], *words[at + 2 :]]
os.execv({aws!r}, [{aws!r}, "--endpoint-url", os.environ["AWS_ENDPOINT_URL"], *words])
"""
NOTHING = {"", "null", "[]", "{}", "None"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account in moto. `made` are the ids of what was made, by what the documents call it."""

    environment: dict[str, str]
    made: dict[str, str]

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        """A shell with the definitions of docs/deploy.md, STACK among them."""
        for written, real in self.made.items():
            script = script.replace(written, real)
        text = f"{definitions()}\n{script}"
        return subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", text],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def definitions() -> str:
    """STACK, output() and admin(), as docs/deploy.md defines them."""
    text = pages()["docs/deploy.md"]
    found = re.findall(r"^(?:STACK=sallyport-dev|\w+\(\) \{\n.*?^\})$", text, re.MULTILINE | re.DOTALL)
    assert [line.split("=")[0].split("(")[0] for line in found] == ["STACK", "output", "admin"]
    return "\n".join(found)


def for_aws() -> list[Block]:
    """The blocks that call AWS and nothing that builds or deploys."""
    asks = re.compile(r"^(?:aws|output|admin) ", re.MULTILINE)
    found = [block for block in blocks() if asks.search(block.text)]
    return sorted(found, key=lambda block: "delete-stack" in block.text)


def run_in_blocks() -> list[str]:
    """The commands of those blocks that are for AWS."""
    return [command for block in for_aws() for command in block.commands if _is_for_aws(command)]


def _is_for_aws(command: str) -> bool:
    return command.split(maxsplit=1)[0] in ("aws", "output", "admin")


def quoted() -> list[str]:
    """Commands between backticks: of `aws` those that have options."""
    form = re.compile(r"`(aws\s[^`]+ --[^`]+|(?:output|admin)\s[^`]+)`")
    found = {command for text in prose().values() for command in form.findall(text)}
    return sorted(" ".join(command.split()) for command in found)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "PATH": f"{_shim(tmp_path_factory.mktemp('bin'))}:{os.environ['PATH']}",
        "HOME": str(tmp_path_factory.mktemp("home")),
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PAGER": "",
        "ADMIN_FUNCTION_NAME": f"{STACKS[0]}-NetworkResourcesFunction",
    }
    try:
        yield Account(environment=environment, made=_furnish(environment))
    finally:
        server.stop()


def _shim(folder: Path) -> Path:
    path = folder / "aws"
    path.write_text(SHIM.format(python=sys.executable, aws=str(Path(sys.executable).with_name("aws"))))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


def _furnish(environment: dict[str, str]) -> dict[str, str]:
    """Everything that a document's command asks for."""
    url = environment["AWS_ENDPOINT_URL"]
    lambdas_without_docker = json.dumps({"lambda": {"use_docker": False}}).encode()
    asked = urllib.request.Request(  # noqa: S310 (moto's own address)
        f"{url}/moto-api/config", lambdas_without_docker, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(asked, timeout=60).close()  # noqa: S310 (as above)
    session = boto3.Session("AKIDEXAMPLE", "secret", region_name=REGION)

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=url)

    for stack in STACKS:
        _furnish_stack(client, stack)
    return _furnish_network(client)


def _furnish_stack(client: Any, stack: str) -> None:
    client("rds").create_db_cluster(
        DBClusterIdentifier=stack, Engine="aurora-postgresql", MasterUsername="u", MasterUserPassword="made-up-1"
    )
    role = client("iam").create_role(RoleName=stack, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    queue = client("sqs").create_queue(QueueName=f"{stack}-dead")["QueueUrl"]
    source = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": source, "maxReceiveCount": "5"})
    client("sqs").create_queue(QueueName=f"{stack}-wakeups", Attributes={"RedrivePolicy": redrive})
    client("sqs").send_message(QueueUrl=queue, MessageBody="{}")
    names = ("NetworkResourcesFunction", "CheckEgressA-1A2B-Function", "AttemptFunction")
    functions = {name.replace("-", ""): _function(f"{stack}-{name}", role) for name in names}
    outputs = dict.fromkeys(load().written("template.yaml")["Outputs"], "found") | {
        "AdminFunctionName": f"{stack}-NetworkResourcesFunction",
        "DatabaseEndpoint": f"{stack}.cluster-a1b2c3.{REGION}.rds.amazonaws.com",
        "DeadLetterQueueUrl": queue,
        "FixedAddresses": "203.0.113.10",
        "EgressAllocationIds": "eipalloc-0123456789abcdef0",
        "VpnConnectionId": "vpn-0123456789abcdef0",
    }
    client("cloudformation").create_stack(
        StackName=stack,
        TemplateBody=json.dumps(
            {"Resources": functions, "Outputs": {name: {"Value": value} for name, value in outputs.items()}}
        ),
    )
    logs = client("logs")
    for name in ("api", "attempt", "authorize", "check-egress-a"):
        group = f"/aws/lambda/{stack}-{name}"
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="1")
        line = 'told of "01a203c7-77fb-788f-a3b0-54d47b8c9561"'
        events = [{"timestamp": 1795361128000, "message": line}]
        logs.put_log_events(logGroupName=group, logStreamName="1", logEvents=events)
    client("ssm").put_parameter(Name=f"/sallyport/{stack}/egress/a", Value="{}", Type="String")


def _function(name: str, role: str) -> dict[str, Any]:
    code = {"ZipFile": "def handler(event, context): pass"}
    properties = {"FunctionName": name, "Handler": "index.handler", "Runtime": "python3.13", "Role": role, "Code": code}
    return {"Type": "AWS::Lambda::Function", "Properties": properties}


def _furnish_network(client: Any) -> dict[str, str]:
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    kept, freed = (ec2.allocate_address(Domain="vpc") for _ in range(2))
    gateway = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=kept["AllocationId"])["NatGateway"]["NatGatewayId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=gateway)
    customer = ec2.create_customer_gateway(BgpAsn=65000, PublicIp="198.51.100.7", Type="ipsec.1")
    other_end = ec2.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    vpn = ec2.create_vpn_connection(
        CustomerGatewayId=customer["CustomerGateway"]["CustomerGatewayId"], Type="ipsec.1", VpnGatewayId=other_end
    )["VpnConnection"]["VpnConnectionId"]
    named = [{"Key": "aws:cloudformation:stack-name", "Value": f"{STACKS[0]}-Network-1"}]
    named += [{"Key": "Name", "Value": f"{STACKS[0]}-Network-1 egress A"}]
    ec2.create_tags(Resources=[gateway, table, kept["AllocationId"]], Tags=named)
    client("cloudwatch").put_metric_alarm(
        AlarmName="NAME",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="m",
        Namespace="n",
        Period=60,
        Statistic="Sum",
        Threshold=1,
    )
    return {
        "203.0.113.10": kept["PublicIp"],
        "--nat-gateway-id nat-0123456789abcdef0": f"--nat-gateway-id {gateway}",
        "--nat-gateway-ids nat-0123456789abcdef0": f"--nat-gateway-ids {gateway}",
        "release-address --allocation-id eipalloc-0123456789abcdef0": (
            f"release-address --allocation-id {freed['AllocationId']}"
        ),
        "eipalloc-0123456789abcdef0": kept["AllocationId"],
        "$(output VpnConnectionId)": vpn,
    }


# What prints nothing when all is well; and what moto has no answer for: of that the command line checks the form alone.
SILENT = ("delete-stack", "delete-nat-gateway", "nat-gateway-deleted", "release-address", "set-alarm-state")
BEYOND_MOTO = {
    "continue-update-rollback": "moto's stacks never fail",
    "VgwTelemetry": "moto keeps no telemetry of tunnels",
    "describe-events": "moto's RDS has no events",
    "start-message-move-task": "moto's SQS moves no messages",
    "update-termination-protection": "moto's stacks are not protected from deletion",
}


@pytest.mark.parametrize("command", quoted())
def test_a_command_for_aws_in_a_sentence_is_one_that_the_command_line_takes(account: Account, command: str) -> None:
    done = account.run(_formal(command))
    incomplete = "the following arguments are required: --" in done.stderr  # a sentence names the option it is about
    assert done.returncode == 0 or incomplete, f"{command}\n{done.stderr}"
    assert command.startswith("aws") or done.stdout.strip() not in NOTHING, f"{command} found nothing"


@pytest.mark.parametrize("block", for_aws(), ids=lambda block: block.commands[0][:60])
def test_a_block_of_commands_for_aws_finds_what_it_asks_for(account: Account, block: Block) -> None:
    settings = "\n".join(command for command in block.commands if is_setting(command))
    for command in filter(_is_for_aws, block.commands):
        done = account.run(f"{settings}\n{_formal(command)}")
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if not any(word in command for word in (*SILENT, *BEYOND_MOTO)):
            assert done.stdout.strip() not in NOTHING, f"{command} found nothing"


def _formal(command: str) -> str:
    """Without the call itself, where moto has no answer."""
    return f"{command} --generate-cli-skeleton output" if any(word in command for word in BEYOND_MOTO) else command

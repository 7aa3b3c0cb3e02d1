"""The AWS description of a deployed stack: the responses of read-only calls, not interpreted.

CALLS are all that is asked; docs/lab.md has the IAM policy of exactly these, and a test holds them together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stack.stack_states import is_there

# (service, operation, what holds the answers). Of EC2 and RDS nothing is changed, and nothing outside of the VPC read
# but addresses, customer gateways and the ranges of AWS's services.
CALLS: tuple[tuple[str, str, str], ...] = (
    ("cloudformation", "describe_stacks", "Stacks"),
    ("cloudformation", "list_stack_resources", "StackResourceSummaries"),
    ("ec2", "describe_vpcs", "Vpcs"),
    ("ec2", "describe_subnets", "Subnets"),
    ("ec2", "describe_route_tables", "RouteTables"),
    ("ec2", "describe_internet_gateways", "InternetGateways"),
    ("ec2", "describe_nat_gateways", "NatGateways"),
    ("ec2", "describe_addresses", "Addresses"),
    ("ec2", "describe_vpn_gateways", "VpnGateways"),
    ("ec2", "describe_vpn_connections", "VpnConnections"),
    ("ec2", "describe_customer_gateways", "CustomerGateways"),
    ("ec2", "describe_vpc_endpoints", "VpcEndpoints"),
    ("ec2", "describe_prefix_lists", "PrefixLists"),
    ("ec2", "describe_security_groups", "SecurityGroups"),
    ("ec2", "describe_security_group_rules", "SecurityGroupRules"),
    ("ec2", "describe_network_acls", "NetworkAcls"),
    ("ec2", "describe_network_interfaces", "NetworkInterfaces"),
    ("lambda", "get_function_configuration", ""),
    ("rds", "describe_db_instances", "DBInstances"),
)
_KEYS = {(service, operation): key for service, operation, key in CALLS}
_NESTED = "AWS::CloudFormation::Stack"

type Description = Mapping[str, Any]


class NotDescribed(ValueError):
    """AWS did not answer, or not with what is needed; the message says which call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedResource:
    """One resource of the stack. `address` is as the templates have it: Network.PrivateSubnetA."""

    address: str
    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDescription:
    """All answers. `answers` are by operation, `functions` the configurations of those in the VPC."""

    stack: Description
    resources: tuple[DeployedResource, ...]
    answers: Mapping[str, tuple[Description, ...]]
    functions: tuple[Description, ...]

    def of_type(self, kind: str) -> tuple[DeployedResource, ...]:
        return tuple(resource for resource in self.resources if resource.type == kind)


def describe(stack: str, *, region: str = "", session: Any = None) -> StackDescription:
    """Ask AWS, by a session of its own when None is given. Raises NotDescribed."""
    import boto3  # in here, since it takes a third of a second that all other commands of the lab would wait for

    from stack.aws import REPORTED, readable, region_name  # it imports botocore too

    try:
        session = session or boto3.session.Session(region_name=region_name(region))
        return _Describer(session).all(stack)
    except REPORTED as error:
        raise NotDescribed(f"{stack}: {readable(error, session and session.region_name)}") from error


class _Describer:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._clients: dict[str, Any] = {}

    def all(self, name: str) -> StackDescription:
        (stack,) = self._ask("cloudformation", "describe_stacks", StackName=name)
        resources = tuple(self._resources(name, ""))
        vpcs = [resource.id for resource in resources if resource.type == "AWS::EC2::VPC"]
        if len(vpcs) != 1:
            raise NotDescribed(f"{name}: it has {len(vpcs)} resources of the type AWS::EC2::VPC, and one is needed")
        return StackDescription(
            stack=stack,
            resources=resources,
            answers=dict(self._answers(vpcs[0], resources)),
            functions=tuple(self._functions(resources)),
        )

    def _resources(self, stack: str, prefix: str) -> Iterator[DeployedResource]:
        for summary in self._ask("cloudformation", "list_stack_resources", StackName=stack):
            if not is_there(summary):
                continue
            identity = str(summary.get("PhysicalResourceId", ""))
            address = f"{prefix}{summary['LogicalResourceId']}"
            yield DeployedResource(address=address, type=summary["ResourceType"], id=identity)
            if summary["ResourceType"] == _NESTED and identity:
                yield from self._resources(identity, f"{address}.")

    def _answers(
        self, vpc: str, resources: tuple[DeployedResource, ...]
    ) -> Iterator[tuple[str, tuple[Description, ...]]]:
        of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
        attached = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
        yield "describe_vpcs", self._ask("ec2", "describe_vpcs", VpcIds=[vpc])
        for operation in (
            "describe_subnets",
            "describe_route_tables",
            "describe_vpc_endpoints",
            "describe_security_groups",
            "describe_network_acls",
            "describe_network_interfaces",
        ):
            yield operation, self._ask("ec2", operation, Filters=of_vpc)
        yield "describe_nat_gateways", self._ask("ec2", "describe_nat_gateways", Filters=of_vpc)
        yield "describe_internet_gateways", self._ask("ec2", "describe_internet_gateways", Filters=attached)
        yield "describe_vpn_gateways", self._ask("ec2", "describe_vpn_gateways", Filters=attached)
        for operation in (
            "describe_addresses",
            "describe_vpn_connections",
            "describe_customer_gateways",
            "describe_prefix_lists",
        ):
            yield operation, self._ask("ec2", operation)
        groups = [str(group["GroupId"]) for group in self._ask("ec2", "describe_security_groups", Filters=of_vpc)]
        rules = [{"Name": "group-id", "Values": groups}]
        yield "describe_security_group_rules", self._ask("ec2", "describe_security_group_rules", Filters=rules)
        instances = [resource.id for resource in resources if resource.type == "AWS::RDS::DBInstance"]
        yield (
            "describe_db_instances",
            tuple(
                instance
                for name in instances
                for instance in self._ask("rds", "describe_db_instances", DBInstanceIdentifier=name)
            ),
        )

    def _functions(self, resources: tuple[DeployedResource, ...]) -> Iterator[Description]:
        for resource in resources:
            if resource.type == "AWS::Lambda::Function":
                client = self._client("lambda")
                yield client.get_function_configuration(FunctionName=resource.id)

    def _ask(self, service: str, operation: str, **arguments: Any) -> tuple[Description, ...]:
        """All pages."""
        client, key = self._client(service), _KEYS[service, operation]
        if not client.can_paginate(operation):
            return tuple(getattr(client, operation)(**arguments)[key])
        pages = client.get_paginator(operation).paginate(**arguments)
        return tuple(answer for page in pages for answer in page[key])

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]

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
    ("ec2", "describe_vpc_attribute", ""),
    ("ec2", "describe_dhcp_options", "DhcpOptions"),
    ("ec2", "describe_vpc_peering_connections", "VpcPeeringConnections"),
    ("ec2", "describe_transit_gateway_vpc_attachments", "TransitGatewayVpcAttachments"),
    ("ec2", "describe_vpc_block_public_access_options", ""),
    ("vpc-lattice", "list_service_network_vpc_associations", "items"),
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
    ("rds", "describe_db_clusters", "DBClusters"),
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
        vpcs = self._ask("ec2", "describe_vpcs", VpcIds=[vpc])
        yield "describe_vpcs", vpcs
        yield from self._beyond(vpc, str(vpcs[0].get("DhcpOptionsId", "default")))
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
        clusters = [resource.id for resource in resources if resource.type == "AWS::RDS::DBCluster"]
        yield (
            "describe_db_clusters",
            tuple(
                cluster
                for name in clusters
                for cluster in self._ask("rds", "describe_db_clusters", DBClusterIdentifier=name)
            ),
        )
        instances = [resource.id for resource in resources if resource.type == "AWS::RDS::DBInstance"]
        yield (
            "describe_db_instances",
            tuple(
                instance
                for name in instances
                for instance in self._ask("rds", "describe_db_instances", DBInstanceIdentifier=name)
            ),
        )

    def _beyond(self, vpc: str, dhcp_options: str) -> Iterator[tuple[str, tuple[Description, ...]]]:
        """How names are found in the VPC, and what connects it that has no interface in it."""
        client = self._client("ec2")
        attributes = {
            name: client.describe_vpc_attribute(VpcId=vpc, Attribute=name)[name[0].upper() + name[1:]]["Value"]
            for name in ("enableDnsSupport", "enableDnsHostnames")
        }
        yield "describe_vpc_attribute", (attributes,)
        own = [{"Name": "dhcp-options-id", "Values": [dhcp_options]}]
        yield "describe_dhcp_options", self._ask("ec2", "describe_dhcp_options", Filters=own)
        sides = ("accepter-vpc-info.vpc-id", "requester-vpc-info.vpc-id")
        peerings = [
            peering
            for side in sides
            for peering in self._ask(
                "ec2", "describe_vpc_peering_connections", Filters=[{"Name": side, "Values": [vpc]}]
            )
        ]
        yield "describe_vpc_peering_connections", tuple(peerings)
        of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
        operation = "describe_transit_gateway_vpc_attachments"
        yield operation, self._ask("ec2", operation, Filters=of_vpc)
        blocking = client.describe_vpc_block_public_access_options()["VpcBlockPublicAccessOptions"]
        yield "describe_vpc_block_public_access_options", (blocking,)
        operation = "list_service_network_vpc_associations"
        yield operation, self._ask("vpc-lattice", operation, vpcIdentifier=vpc)

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

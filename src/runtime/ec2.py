"""The few EC2 calls that a custom resource makes, with the boto3 of Lambda's own runtime.

EC2 speaks XML and not the JSON of runtime/aws.py, and nobody waits for this function's cold start. boto3 is imported at
the first use and is not part of our package.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.aws import AwsCallFailed
from runtime.settings import NetworkSettings

CONNECT_SECONDS = 3
ANSWER_SECONDS = 10
TRIES = 3
_GONE = "InvalidPermission.NotFound"  # somebody else has just revoked the rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticIp:
    """An Elastic IP. `border_group` is where AWS announces it, "" where EC2 does not say; `held` whether anything uses
    it."""

    allocation_id: str
    public_ip: str
    domain: str
    border_group: str
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2NatGateway:
    """A NAT gateway that exists. `stack` is the CloudFormation stack that made it, "" for none."""

    nat_gateway_id: str
    stack: str
    allocation_ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ec2SecurityGroup:
    """A security group; its rules in EC2's own form, as the calls that revoke them take them."""

    group_id: str
    name: str
    ingress: tuple[Mapping[str, Any], ...]
    egress: tuple[Mapping[str, Any], ...]


class Ec2Client(Protocol):
    """What is used of boto3's EC2 client, which has no types of its own."""

    def describe_addresses(self, *, AllocationIds: list[str]) -> dict[str, Any]: ...  # noqa: N803 - EC2's names
    def describe_availability_zones(self, *, ZoneNames: list[str]) -> dict[str, Any]: ...  # noqa: N803
    def get_paginator(self, operation_name: str) -> Any: ...
    def describe_security_groups(self, *, GroupIds: list[str]) -> dict[str, Any]: ...  # noqa: N803
    def revoke_security_group_ingress(self, *, GroupId: str, IpPermissions: list[Any]) -> Any: ...  # noqa: N803
    def revoke_security_group_egress(self, *, GroupId: str, IpPermissions: list[Any]) -> Any: ...  # noqa: N803


class Ec2:
    """EC2 in the function's own account and Region. Every method raises AwsCallFailed with EC2's own code."""

    def __init__(self, settings: NetworkSettings) -> None:
        import boto3
        from botocore.config import Config

        retries = {"mode": "standard", "total_max_attempts": TRIES}
        self._client: Ec2Client = boto3.client(
            "ec2",
            endpoint_url=settings.ec2_endpoint_url or None,
            config=Config(connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries=retries),
        )

    def address(self, allocation_id: str) -> ElasticIp:
        """The code is `InvalidAllocationID.NotFound` for an id that this account and Region do not have."""
        (address,) = _translated(lambda: self._client.describe_addresses(AllocationIds=[allocation_id]))["Addresses"]
        return ElasticIp(
            allocation_id=allocation_id,
            public_ip=address["PublicIp"],
            domain=address["Domain"],
            border_group=address.get("NetworkBorderGroup", ""),
            held=bool(address.get("AssociationId")),
        )

    def nat_gateways(self) -> tuple[Ec2NatGateway, ...]:
        """All that still hold their addresses, including those that are being deleted."""
        states = [{"Name": "state", "Values": ["pending", "available", "deleting"]}]
        pages = self._client.get_paginator("describe_nat_gateways").paginate(Filters=states)
        return tuple(_translated(lambda: list(_nat_gateways(pages))))

    def zone_ids(self, zones: Sequence[str]) -> dict[str, str]:
        """The ID of each of these zones by its name. The code is `InvalidParameterValue` for one that this Region does
        not have."""
        response = _translated(lambda: self._client.describe_availability_zones(ZoneNames=list(zones)))
        return {zone["ZoneName"]: zone["ZoneId"] for zone in response["AvailabilityZones"]}

    def security_group(self, group_id: str) -> Ec2SecurityGroup:
        """The code is `InvalidGroup.NotFound` for one that does not exist."""
        (group,) = _translated(lambda: self._client.describe_security_groups(GroupIds=[group_id]))["SecurityGroups"]
        return Ec2SecurityGroup(
            group_id=group_id,
            name=group["GroupName"],
            ingress=tuple(group["IpPermissions"]),
            egress=tuple(group["IpPermissionsEgress"]),
        )

    def revoke(self, group: Ec2SecurityGroup) -> None:
        """Revokes all rules of `group`. One that no longer exists is no error."""
        for rules, revoke in (
            (group.ingress, self._client.revoke_security_group_ingress),
            (group.egress, self._client.revoke_security_group_egress),
        ):
            for rule in rules:
                _revoke(revoke, group.group_id, rule)


def _nat_gateways(pages: Any) -> Iterator[Ec2NatGateway]:
    for page in pages:
        for gateway in page["NatGateways"]:
            tags = {tag["Key"]: tag["Value"] for tag in gateway.get("Tags", [])}
            addresses = gateway.get("NatGatewayAddresses", [])
            yield Ec2NatGateway(
                nat_gateway_id=gateway["NatGatewayId"],
                stack=tags.get("aws:cloudformation:stack-name", ""),  # CloudFormation's own tag
                allocation_ids=frozenset(address["AllocationId"] for address in addresses if "AllocationId" in address),
            )


def _revoke(revoke: Callable[..., Any], group_id: str, rule: Mapping[str, Any]) -> None:
    try:
        _translated(lambda: revoke(GroupId=group_id, IpPermissions=[rule]))
    except AwsCallFailed as failure:
        if failure.code != _GONE:
            raise


def _translated[Result](call: Callable[[], Result]) -> Result:
    """What `call` returns; boto3's errors become AwsCallFailed, which has the code."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        details = error.response["Error"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        raise AwsCallFailed(code=details["Code"], message=details["Message"], retryable=status >= 500) from error
    except BotoCoreError as error:
        raise AwsCallFailed(code="ConnectionFailed", message=str(error), retryable=True) from error

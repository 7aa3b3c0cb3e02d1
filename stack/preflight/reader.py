"""Read-only calls to an account, and what came of each look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stack.aws import DENIED, holds_for_all_calls, readable

# Every call that the preflight makes, and the permission that it takes; docs/deploy.md lists them as a policy.
CALLS: Mapping[tuple[str, str], str] = {
    ("acm", "describe_certificate"): "acm:DescribeCertificate",
    ("apigateway", "get_account"): "apigateway:GET",
    ("cloudformation", "describe_stack_resource"): "cloudformation:DescribeStackResource",
    ("cloudformation", "list_stacks"): "cloudformation:ListStacks",
    ("ec2", "describe_addresses"): "ec2:DescribeAddresses",
    ("ec2", "describe_availability_zones"): "ec2:DescribeAvailabilityZones",
    ("ec2", "describe_customer_gateways"): "ec2:DescribeCustomerGateways",
    ("ec2", "describe_nat_gateways"): "ec2:DescribeNatGateways",
    ("ec2", "describe_subnets"): "ec2:DescribeSubnets",
    ("ec2", "describe_vpc_endpoint_services"): "ec2:DescribeVpcEndpointServices",
    ("ec2", "describe_vpcs"): "ec2:DescribeVpcs",
    ("events", "describe_event_bus"): "events:DescribeEventBus",
    ("iam", "get_role"): "iam:GetRole",
    ("kms", "describe_key"): "kms:DescribeKey",
    ("kms", "get_key_policy"): "kms:GetKeyPolicy",
    ("lambda", "get_account_settings"): "lambda:GetAccountSettings",
    ("lambda", "get_layer_version_by_arn"): "lambda:GetLayerVersion",
    ("rds", "describe_db_cluster_snapshots"): "rds:DescribeDBClusterSnapshots",
    ("rds", "describe_db_clusters"): "rds:DescribeDBClusters",
    ("rds", "describe_orderable_db_instance_options"): "rds:DescribeOrderableDBInstanceOptions",
    ("s3", "get_bucket_location"): "s3:GetBucketLocation",
    ("s3", "get_object_lock_configuration"): "s3:GetBucketObjectLockConfiguration",
    ("service-quotas", "get_service_quota"): "servicequotas:GetServiceQuota",
}


class PreflightVerdict(StrEnum):
    """What a look came to. CREATE is missing and is created if asked for; UNKNOWN could not be looked at."""

    FINE = "ok"
    LOOK = "look"
    CREATE = "create"
    STOP = "stop"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFinding:
    """One line of the table. `advice` says what to do, and is '' where that is nothing."""

    subject: str
    verdict: PreflightVerdict
    found: str
    advice: str = ""


class NotReadable(Exception):
    """AWS did not answer a call. The message is one line and says why."""


class NotThere(Exception):
    """AWS answered that what was asked for does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """`session` is boto3's; `calls` are those that may be made, with the permission of each."""

    session: Any
    region: str
    calls: Mapping[tuple[str, str], str] = field(default_factory=lambda: CALLS)
    clients: dict[str, Any] = field(default_factory=dict)

    def ask(self, service: str, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """One answer. Raises NotReadable and NotThere, and what botocore raises where no other call would work either.

        A call that is not listed is a mistake of ours.
        """
        permission = self.calls[service, operation]
        try:
            answer: Mapping[str, Any] = getattr(self._client(service), operation)(**arguments)
        except (BotoCoreError, ClientError) as failure:
            if holds_for_all_calls(failure):
                raise
            if not isinstance(failure, ClientError):
                raise NotReadable(readable(failure)) from None
            code = str(failure.response["Error"]["Code"])
            if code.startswith("NoSuch") or "NotFound" in code:
                raise NotThere(code) from None
            why = f"it takes {permission}" if code in DENIED else f"{permission}: {readable(failure)}"
            raise NotReadable(why) from None
        return answer

    def all(self, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        """The members of `key` on all pages. Raises NotReadable and NotThere."""
        token: dict[str, str] = {}
        while True:
            page = self.ask(service, operation, **arguments, **token)
            yield from page.get(key, ())
            name = next((name for name in ("NextToken", "Marker") if page.get(name)), "")
            if not name:
                return
            token = {name: page[name]}

    def _client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.session.client(service, region_name=self.region)
        return self.clients[service]

"""CloudFormation custom resources of the network, outside the VPC: looks up given fixed addresses and the IDs of zones,
empties the VPC's default security group. It always answers. Deleting any of them changes nothing.

An operator may invoke it with such an event without its ResponseURL, to see beforehand whether addresses can be taken
over: the same, with the result as the function's answer.
"""

import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from flows.network import NetworkRefused, RetryTime, empty_default_group, public_addresses, zone_ids
from runtime.aws import AwsCallFailed
from runtime.cloudformation import CustomResourceEvent, answer
from runtime.ec2 import Ec2
from runtime.observability import logger, observed
from runtime.settings import NetworkSettings, SettingsError

RESERVE_SECONDS = 60.0  # reserved for EC2 calls that are running and for the answer to CloudFormation


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A custom resource's event in, its attributes out.

    Raises OSError where CloudFormation could not be answered. An operator gets the error itself.
    """
    if "ResponseURL" not in event:
        return dict(_made(event, context))
    # Never changes, or CloudFormation would take an update for a replacement.
    physical_id = event.get("PhysicalResourceId") or f"sallyport-{event['ResourceType'].rpartition('::')[2]}"
    if event["RequestType"] == "Delete":
        answer(event, succeeded=True, physical_id=physical_id)
        return {}
    return _answered(event, context, physical_id=physical_id)


def _answered(event: CustomResourceEvent, context: LambdaContext, *, physical_id: str) -> dict[str, Any]:
    """Whatever happens, CloudFormation is answered: it would wait for its own time-out otherwise."""
    reason = "unexpected, see the log of the function"
    data: dict[str, str] | None = None
    try:
        data = _made(event, context)
    except (AwsCallFailed, NetworkRefused, SettingsError) as error:
        reason = str(error)
        logger.error("custom resource failed", resource=event["LogicalResourceId"], reason=reason)
    finally:
        answer(event, succeeded=data is not None, physical_id=physical_id, reason=reason, data=data)
    return dict(data or {})


def _made(event: CustomResourceEvent, context: LambdaContext) -> dict[str, str]:
    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS

    ec2, retry_time = Ec2(NetworkSettings.from_environment()), RetryTime(seconds_left=seconds_left, sleep=time.sleep)
    match event["ResourceType"]:
        case "Custom::EgressAddresses":
            return _egress_addresses(event, ec2, retry_time)
        case "Custom::ZoneIds":
            properties = event["ResourceProperties"]
            ids = zone_ids((properties["ZoneA"], properties["ZoneB"]), ec2=ec2, retry_time=retry_time)
            return {"ZoneIds": ",".join(f"{zone}={zone_id}" for zone, zone_id in ids.items())}
        case "Custom::DefaultSecurityGroup":
            group_id = event["ResourceProperties"]["SecurityGroupId"]
            return {"RulesRevoked": str(empty_default_group(group_id, ec2=ec2, retry_time=retry_time))}
        case other:
            raise NetworkRefused(f"this function does not handle {other}")


def _egress_addresses(event: CustomResourceEvent, ec2: Ec2, retry_time: RetryTime) -> dict[str, str]:
    """AddressA and AddressB, the latter empty where only one id is given."""
    given = event["ResourceProperties"]["AllocationIds"].split(",")
    # arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/ID
    _, _, _, region, _, stack = event["StackId"].split(":", 5)
    addresses = public_addresses(given, stack=stack.split("/")[1], region=region, ec2=ec2, retry_time=retry_time)
    return {"AddressA": addresses[0], "AddressB": addresses[1] if len(addresses) > 1 else ""}

"""What CloudFormation cannot do in the network: look up given fixed addresses and the IDs of zones, and empty the
default security group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from runtime.aws import AwsCallFailed
from runtime.ec2 import Ec2, Ec2NatGateway, Ec2SecurityGroup, ElasticIp
from runtime.observability import logger

PAUSE_SECONDS = 5.0
NETWORK_STACK = "Network"  # the logical id in template.yaml; CloudFormation names the nested stack PARENT-Network-XXXX
# IAM takes a moment until a new permission is known everywhere (IAM user guide: "Changes that I make are not always
# immediately visible").
_NOT_YET_ALLOWED = frozenset({"UnauthorizedOperation", "AccessDenied"})
_UNKNOWN_ID = frozenset({"InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed", "InvalidAddress.NotFound"})


class NetworkRefused(Exception):
    """The network cannot be created as asked. The message says what to change."""


@dataclass(frozen=True, kw_only=True)
class RetryTime:
    """How long to retry, and how to wait in between."""

    seconds_left: Callable[[], float]
    sleep: Callable[[float], None]


def public_addresses(
    allocation_ids: Sequence[str], *, stack: str, region: str, ec2: Ec2, retry_time: RetryTime
) -> tuple[str, ...]:
    """The public addresses of Elastic IPs that `stack` is to take over, in their order.

    Raises NetworkRefused for an id that this account and Region do not have, one that is given twice, an address that
    is not for VPCs or not announced in this Region, and one that anything but a NAT gateway of `stack` itself uses; and
    AwsCallFailed.
    """
    if len(set(allocation_ids)) < len(allocation_ids):
        raise NetworkRefused(
            f"EgressAllocationIds names {allocation_ids[0]} twice: each zone needs an address of its own"
        )
    addresses = [_retried(partial(_address, allocation_id, ec2=ec2), retry_time) for allocation_id in allocation_ids]
    gateways = _retried(ec2.nat_gateways, retry_time) if any(address.held for address in addresses) else ()
    for address in addresses:
        _require_usable(address, region=region)
        _require_free(address, stack=stack, gateways=gateways)
    return tuple(address.public_ip for address in addresses)


def zone_ids(zones: Sequence[str], *, ec2: Ec2, retry_time: RetryTime) -> dict[str, str]:
    """The IDs of these zones by their names, in their order. Raises NetworkRefused for one that EC2 does not know, and
    AwsCallFailed."""
    ids = _retried(lambda: ec2.zone_ids(zones), retry_time)
    unknown = [zone for zone in zones if zone not in ids]
    if unknown:
        raise NetworkRefused(
            f"EC2 returned no ID of {unknown[0]}; aws ec2 describe-availability-zones lists the zones that it knows"
        )
    return {zone: ids[zone] for zone in zones}


def empty_default_group(group_id: str, *, ec2: Ec2, retry_time: RetryTime) -> int:
    """Revokes all rules of a VPC's default security group; returns how many there were. May be called again.

    Raises NetworkRefused for any other group, and AwsCallFailed.
    """
    group = _retried(lambda: ec2.security_group(group_id), retry_time)
    if group.name != "default":
        raise NetworkRefused(
            f"{group_id} is the group '{group.name}', not a VPC's default group; its rules are not changed"
        )
    _retried(lambda: ec2.revoke(group), retry_time)
    logger.info("default security group emptied", group_id=group_id, rules=_rules(group))
    return _rules(group)


def _address(allocation_id: str, *, ec2: Ec2) -> ElasticIp:
    try:
        return ec2.address(allocation_id)
    except AwsCallFailed as failure:
        if failure.code not in _UNKNOWN_ID:
            raise
        raise NetworkRefused(
            f"{allocation_id} is not an Elastic IP of this account and Region; aws ec2 describe-addresses lists those"
        ) from failure


def _require_usable(address: ElasticIp, *, region: str) -> None:
    if address.domain != "vpc":
        raise NetworkRefused(f"{address.allocation_id} is for EC2-Classic (domain {address.domain}), not for a VPC")
    if address.border_group not in ("", region):
        raise NetworkRefused(
            f"{address.allocation_id} is announced in {address.border_group}, so no NAT gateway of {region} can use it"
        )


def _require_free(address: ElasticIp, *, stack: str, gateways: Sequence[Ec2NatGateway]) -> None:
    if not address.held:
        return
    holder = next((gateway for gateway in gateways if address.allocation_id in gateway.allocation_ids), None)
    if holder is None:
        raise NetworkRefused(
            f"{address.allocation_id} is in use by something other than a NAT gateway; disassociate it"
        )
    if not holder.stack.startswith(f"{stack}-{NETWORK_STACK}-"):
        owner = f"stack {holder.stack}" if holder.stack else "no stack"
        raise NetworkRefused(
            f"{address.allocation_id} is in use by {holder.nat_gateway_id} of {owner}; delete that NAT gateway first"
        )


def _retried[Result](call: Callable[[], Result], retry_time: RetryTime) -> Result:
    """What `call` returns. Raises AwsCallFailed; for a permission that is not known yet only when the time is up."""
    while True:
        try:
            return call()
        except AwsCallFailed as failure:
            if failure.code not in _NOT_YET_ALLOWED or retry_time.seconds_left() < PAUSE_SECONDS:
                raise
        logger.info("waiting for a permission to take effect")
        retry_time.sleep(PAUSE_SECONDS)


def _rules(group: Ec2SecurityGroup) -> int:
    return len(group.ingress) + len(group.egress)

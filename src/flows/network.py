"""What CloudFormation cannot do in the network itself: look up given fixed addresses and the IDs of zones, empty the
default group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from runtime.aws import AwsCallFailed
from runtime.ec2 import Ec2, Ec2NatGateway, Ec2SecurityGroup, ElasticIp
from runtime.observability import logger

PAUSE_SECONDS = 5.0
NETWORK_STACK = "Network"  # the logical id in template.yaml; CloudFormation names the nested stack PARENT-Network-XXXX
# IAM takes a moment until a new right is known everywhere (IAM user guide: "Changes that I make are not always
# immediately visible").
_NOT_YET_ALLOWED = frozenset({"UnauthorizedOperation", "AccessDenied"})
_UNKNOWN_ID = frozenset({"InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed", "InvalidAddress.NotFound"})


class NetworkRefused(Exception):
    """The network cannot be made as asked. The message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to try again, and what to do meanwhile."""

    seconds_left: Callable[[], float]
    sleep: Callable[[float], None]


def public_addresses(
    allocation_ids: Sequence[str], *, stack: str, region: str, ec2: Ec2, patience: Patience
) -> tuple[str, ...]:
    """The public addresses of Elastic IPs that `stack` is to take over, in their order.

    Raises NetworkRefused for an id that this account and Region do not have, one that stands twice, an address that is
    not for VPCs or not announced in this Region, and one that anything but a NAT gateway of `stack` itself uses; and
    AwsCallFailed.
    """
    if len(set(allocation_ids)) < len(allocation_ids):
        raise NetworkRefused(
            f"EgressAllocationIds names {allocation_ids[0]} twice: each zone needs an address of its own"
        )
    found = [_patiently(partial(_address, item, ec2=ec2), patience) for item in allocation_ids]
    gateways = _patiently(ec2.nat_gateways, patience) if any(item.held for item in found) else ()
    for address in found:
        _demand_usable(address, region=region)
        _demand_free(address, stack=stack, gateways=gateways)
    return tuple(address.public_ip for address in found)


def zone_ids(zones: Sequence[str], *, ec2: Ec2, patience: Patience) -> dict[str, str]:
    """The IDs of these zones by their names, in their order. Raises NetworkRefused for one that EC2 does not know, and
    AwsCallFailed."""
    found = _patiently(lambda: ec2.zone_ids(zones), patience)
    unknown = [zone for zone in zones if zone not in found]
    if unknown:
        raise NetworkRefused(
            f"EC2 tells no ID of {unknown[0]}; aws ec2 describe-availability-zones lists what it knows"
        )
    return {zone: found[zone] for zone in zones}


def empty_default_group(group_id: str, *, ec2: Ec2, patience: Patience) -> int:
    """Takes all rules of a VPC's default security group away; how many there were. Does no harm a second time.

    Raises NetworkRefused for any other group, and AwsCallFailed.
    """
    group = _patiently(lambda: ec2.security_group(group_id), patience)
    if group.name != "default":
        raise NetworkRefused(f"{group_id} is the group '{group.name}', not a VPC's default group; it keeps its rules")
    _patiently(lambda: ec2.revoke(group), patience)
    logger.info("default security group emptied", group_id=group_id, rules=_rules(group))
    return _rules(group)


def _address(allocation_id: str, *, ec2: Ec2) -> ElasticIp:
    try:
        return ec2.address(allocation_id)
    except AwsCallFailed as failure:
        if failure.code not in _UNKNOWN_ID:
            raise
        raise NetworkRefused(
            f"{allocation_id} is no Elastic IP of this account and Region; aws ec2 describe-addresses lists those"
        ) from failure


def _demand_usable(address: ElasticIp, *, region: str) -> None:
    if address.domain != "vpc":
        raise NetworkRefused(f"{address.allocation_id} is for EC2-Classic (domain {address.domain}), not for a VPC")
    if address.border_group not in ("", region):
        raise NetworkRefused(
            f"{address.allocation_id} is announced in {address.border_group}, so that no NAT gateway of {region} has it"
        )


def _demand_free(address: ElasticIp, *, stack: str, gateways: Sequence[Ec2NatGateway]) -> None:
    if not address.held:
        return
    holder = next((found for found in gateways if address.allocation_id in found.allocation_ids), None)
    if holder is None:
        raise NetworkRefused(f"{address.allocation_id} is in use by something that is no NAT gateway; disassociate it")
    if not holder.stack.startswith(f"{stack}-{NETWORK_STACK}-"):
        maker = f"stack {holder.stack}" if holder.stack else "no stack"
        raise NetworkRefused(
            f"{address.allocation_id} is in use by {holder.nat_gateway_id} of {maker}; delete that NAT gateway first"
        )


def _patiently[Result](call: Callable[[], Result], patience: Patience) -> Result:
    """Raises AwsCallFailed; a right that is not there yet only when the time is up."""
    while True:
        try:
            return call()
        except AwsCallFailed as failure:
            if failure.code not in _NOT_YET_ALLOWED or patience.seconds_left() < PAUSE_SECONDS:
                raise
        logger.info("waiting for a right to be known")
        patience.sleep(PAUSE_SECONDS)


def _rules(group: Ec2SecurityGroup) -> int:
    return len(group.ingress) + len(group.egress)

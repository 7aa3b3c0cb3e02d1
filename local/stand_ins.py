"""What takes the place of the cloud for a function on this machine.

A function gets the variables that the template gives it and no others: one that reads what it is not given fails here
as it would on AWS. Where the value is one of the cloud's, something here stands in for it; a variable that nothing
stands in for stops the start.
"""

from collections.abc import Mapping

from local.template import FunctionTemplate

# The template's variable, and those that a function here has instead, or with it.
STAND_INS: Mapping[str, tuple[str, ...]] = {
    "DATABASE_HOST": ("DATABASE_URL",),
    "DATABASE_PORT": ("DATABASE_URL",),
    "DATABASE_NAME": ("DATABASE_URL",),
    "DATABASE_ROOT_CERTIFICATES": ("DATABASE_URL",),
    "SEAL_KEY_SECRET_ARN": ("SEAL_KEY_FILE",),
    "WAKEUP_QUEUE_URL": ("WAKEUP_QUEUE_URL", "SQS_ENDPOINT_URL"),
    "EGRESS_RESULTS_PATH": ("EGRESS_RESULTS_PATH", "SSM_ENDPOINT_URL"),
}
# Two zones, as on AWS; whatever leaves this machine for itself comes from the loopback.
ZONES = ("local-a", "local-b")
# `Ref` of the API, whose name the functions refuse to call.
API_ID = "local"


def attributes(*, vpc_cidr: str, owner: str) -> dict[str, str]:
    """`Fn::GetAtt` of the nested stacks: `vpc_cidr` is the template's own, `owner` the database's master user."""
    return {
        "Network.Outputs.ZoneA": ZONES[0],
        "Network.Outputs.ZoneB": ZONES[1],
        "Network.Outputs.EgressAddresses": ",".join(f"{zone}=127.0.0.1" for zone in ZONES),
        "Network.Outputs.VpcCidr": vpc_cidr,
        "Database.Outputs.MasterUsername": owner,
    }


def variables(function: FunctionTemplate, *, ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of `function`. A value of `ours` takes the place of the template's of that name.

    Raises ValueError for a variable that only the cloud can answer, and that neither `ours` nor STAND_INS has.
    """
    names = {name for given in function.names for name in STAND_INS.get(given, (given,))}
    values = {**function.variables, **ours}
    if missing := names - values.keys():
        raise ValueError(f"nothing stands in for {', '.join(sorted(missing))} of {function.logical_id} here")
    return {name: values[name] for name in sorted(names)}

"""What all commands for an AWS account share: which Region they ask, and how they say what is missing or refused."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    LoginError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnection

SAMCONFIG = Path(__file__).parents[1] / "samconfig.toml"
SIGN_IN = "sign in, as with `aws sso login`, or set AWS_PROFILE"
# Codes that services use for the same thing (botocore's retry handlers and each service's "Common Errors").
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"})
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
NOT_ACCEPTED = frozenset(
    {
        *("AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"),
        *("IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch"),
        *("MissingAuthenticationToken", "OptInRequired"),
    }
)
THROTTLED = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
        *("RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "EC2ThrottledException", "SlowDown"),
    }
)


def region_name(given: str = "") -> str | None:
    """The option, else AWS_REGION, which boto3 itself does not read; None leaves it to boto3."""
    return given or os.environ.get("AWS_REGION") or None


def readable(error: Exception, region: str | None = None) -> str:
    """One line: what is missing or was refused in `region`, and what to do; else what boto3 says."""
    if isinstance(error, ClientError):
        return _refusal(error, region)
    return next((say(error) for kinds, say in _MISSING if isinstance(error, kinds)), _first_line(error))


def holds_for_all_calls(error: Exception) -> bool:
    """Whether it says that no call can work: the credentials, the Region or the way to AWS are at fault."""
    if isinstance(error, ClientError):
        return _code(error) in EXPIRED | NOT_ACCEPTED
    return isinstance(error, _OF_CREDENTIALS + _OF_REGIONS)


def describe_stack(client: Any, stack: str) -> dict[str, Any] | None:
    """DescribeStacks for one stack; None where it does not exist. `client` is boto3's for CloudFormation."""
    try:
        described: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as failure:
        if _missing_stack(failure):
            return None
        raise
    return described


def no_stack(stack: str, region: str | None) -> str:
    """There is none of that name in that Region: one line that names the command which makes one."""
    return (
        f"there is no stack {stack} in {region or 'this Region'} of this account: {_which_makes(stack)} makes one. "
        "Where you have one, set AWS_REGION and AWS_PROFILE to where it is"
    )


def _which_makes(stack: str) -> str:
    """By the stage of samconfig.toml whose stack has this name, if one has."""
    stages = tomllib.loads(SAMCONFIG.read_text(encoding="utf-8"))
    tables: Mapping[str, Any] = {name: table for name, table in stages.items() if isinstance(table, dict)}
    names = {
        name: table.get("deploy", {}).get("parameters", {}).get("stack_name") for name, table in sorted(tables.items())
    }
    stage = next((name for name, of_stage in names.items() if of_stage == stack), "")
    return f"make deploy STAGE={stage}" if stage else "make deploy with a stage of samconfig.toml"


# ---- What boto3 raises


def _missing_stack(error: ClientError) -> str:
    """The name or id of the stack that does not exist; '' for another error. CloudFormation has no code for it: it is a
    ValidationError like any other, but for its words."""
    words = re.match(r"Stack (?:with id )?\[?([^\s\]]+)\]? does not exist", _message(error))
    return words[1] if words else ""


def _refusal(error: ClientError, region: str | None) -> str:
    code = _code(error)
    if stack := _missing_stack(error):
        return no_stack(stack, region)
    if code in DENIED:
        return _denial(error)
    if code in EXPIRED:
        return f"the AWS credentials have expired, or this machine's clock is wrong ({code}): {SIGN_IN}"
    if code in NOT_ACCEPTED:
        return f"AWS does not accept these credentials in this Region ({code}): {SIGN_IN}, or enable the Region"
    if code in THROTTLED:
        return f"AWS takes no more calls at the moment ({code} of {error.operation_name}): repeat it in a minute"
    return _first_line(error)


def _denial(error: ClientError) -> str:
    """Which action, of whom, and AWS's own reason: its message names them, except where a service leaves them out."""
    message = _message(error)
    action = re.search(r"perform: ([\w-]+:\w+)", message)
    who = re.search(r"User: (\S+)", message)
    why = re.search(r"(because no .+?|with an explicit deny in .+?)(?:\.? Encoded|[.\n]|$)", message)
    name = action[1] if action else f"the action of {error.operation_name}"
    return (
        f"access denied: {who[1] if who else 'your credentials'} may not {name}{f' ({why[1]})' if why else ''}. "
        "Allow it, or use other credentials"
    )


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _message(error: ClientError) -> str:
    return str(error.response["Error"].get("Message", ""))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_OF_CREDENTIALS: tuple[type[Exception], ...] = (
    *(NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound),
    *(SSOError, LoginError, TokenRetrievalError),
)
_OF_REGIONS: tuple[type[Exception], ...] = (NoRegionError, InvalidRegionError)
_MISSING: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Exception], str]], ...] = (
    (NoRegionError, lambda _: "no Region is set: give REGION=eu-central-1, or set AWS_REGION"),
    (NoCredentialsError, lambda _: f"no AWS credentials were found: {SIGN_IN}"),
    ((SSOError, LoginError, TokenRetrievalError), lambda _: f"the AWS session has ended or never began: {SIGN_IN}"),
    (_OF_CREDENTIALS, lambda error: f"{_first_line(error)}: {SIGN_IN}"),
    (InvalidRegionError, lambda error: f"{_first_line(error)} Set AWS_REGION, such as eu-central-1"),
    (
        NoConnection,
        lambda error: f"{_first_line(error)}: is the name of the Region right, and is there a way to the internet?",
    ),
)
REPORTED = (BotoCoreError, ClientError)  # what a call to AWS raises, all of which `readable` puts into one line

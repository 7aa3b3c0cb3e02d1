"""What all commands for an AWS account share: which Region they ask, and how they say that something is missing."""

import os

from botocore.exceptions import NoCredentialsError, NoRegionError


def region_name(given: str = "") -> str | None:
    """The option, else AWS_REGION, which boto3 itself does not read; None leaves it to boto3."""
    return given or os.environ.get("AWS_REGION") or None


def readable(error: Exception) -> str:
    """One line: what boto3 says, or what to set where it only says that something is missing."""
    if isinstance(error, NoRegionError):
        return "no Region is set: give REGION=eu-central-1, or set AWS_REGION"
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials were found: sign in, as with `aws sso login`, or set AWS_PROFILE"
    return str(error).partition("\n")[0]

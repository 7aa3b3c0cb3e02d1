"""The commands for an account find the Region in the same places, and say in the same words what is missing."""

from collections.abc import Callable
from io import StringIO

import boto3
import pytest
from rich.console import Console

from lab.sources.description import NotDescribed, describe
from stack import db_shell
from stack.deploy import guard

NO_REGION = "no Region is set: give REGION=eu-central-1, or set AWS_REGION"
NO_CREDENTIALS = "no AWS credentials were found: sign in, as with `aws sso login`, or set AWS_PROFILE"


def lab_says() -> str:
    with pytest.raises(NotDescribed) as stopped:
        describe("sallyport-dev")
    return str(stopped.value)


def guard_says() -> str:
    console = Console(file=StringIO(), width=500)
    assert guard.main(["--change-set", "deploy-1", "--stack", "sallyport-dev"], console) == 2
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO has it


def db_shell_says() -> str:
    options, rest = db_shell.parser().parse_known_args(["--stack", "sallyport-dev"])
    with pytest.raises(db_shell.ShellStopped) as stopped:
        db_shell.shell(options, rest)
    return str(stopped.value)


COMMANDS = [lab_says, guard_says, db_shell_says]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # another test's may still have a Region
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.mark.parametrize("says", COMMANDS)
def test_a_missing_region_is_said_with_what_to_set(says: Callable[[], str]) -> None:
    assert NO_REGION in says()


@pytest.mark.parametrize("says", COMMANDS)
def test_aws_region_is_enough_and_missing_credentials_are_said(
    says: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert NO_CREDENTIALS in says()

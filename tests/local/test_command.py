"""`python -m local`, for `make run`, `make token` and `make run-clean`: what it prints, how it ends, what is left."""

import ast
import inspect
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local import command
from local.command import _ADVICE, hung_up
from local.demonstration import read_token
from local.errors import Advice
from local.front import listening
from local.functions import REPOSITORY

READY = "/v1/via/partner/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A running `python -m local run`."""

    process: subprocess.Popen[str]
    port: int

    def until_ready(self) -> str:
        """All that it printed up to the last line to paste."""
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if READY in line:
                return text
        raise AssertionError(f"it ended with {self.process.wait()} and said: {text}")

    def ended(self) -> tuple[int, str]:
        """The exit status and the rest of what it printed."""
        rest, _ = self.process.communicate(timeout=90)
        return self.process.returncode, rest


def started(
    directory: Path,
    *,
    port: int | None = None,
    partner_port: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Run:
    port, partner_port = port or free_port(), partner_port or free_port()
    command = [sys.executable, "-m", "local", "run", "--port", str(port), "--partner-port", str(partner_port)]
    process = subprocess.Popen(
        [*command, "--directory", str(directory)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return Run(process=process, port=port)


def stop(running: Run) -> None:
    """Whether or not it has ended."""
    process = running.process
    if process.poll() is None:
        process.terminate()
    if process.stdout is not None and not process.stdout.closed:
        process.communicate(timeout=90)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*, directory: Path = tmp_path / "kept", **options: Any) -> Run:
        runs.append(started(directory, **options))
        return runs[-1]

    yield start
    for running in runs:
        stop(running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A stack that runs on `directory`, and what it printed. A start takes seconds, so tests that leave the stack as it
    is share it. `before` is what an earlier run on the same directory printed."""

    directory: Path
    text: str
    before: str = ""

    @property
    def commands(self) -> list[str]:
        """The lines to paste."""
        return [line for line in self.text.splitlines() if line.startswith("curl")]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """In a directory whose name holds what shells and programs stumble over."""
    directory = tmp_path_factory.mktemp("standing") / 'it\'s "quoted", mit Umläuten'
    running = started(directory)
    try:
        yield Standing(directory=directory, text=running.until_ready())
    finally:
        stop(running)


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """The second run on a directory, whose name is as long as they come. The first left an unfinished delivery, and had
    another port for the partner, as every run here has."""
    directory = tmp_path_factory.mktemp("restarted") / ("long" * 40)
    first = started(directory)
    try:
        before = Standing(directory=directory, text=first.until_ready())
        curl = next(line for line in before.commands if "Idempotency-Key" in line)
        pasted(curl.replace('"path": "/orders"', '"path": "/status/503"'))
    finally:
        stop(first)
    second = started(directory)
    try:
        yield Standing(directory=directory, text=second.until_ready(), before=before.text)
    finally:
        stop(second)


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """Started with a token file that holds none, a seal key of an earlier version, and no HOME."""
    directory = tmp_path_factory.mktemp("repaired") / "kept"
    directory.mkdir(mode=0o700)
    (directory / "token").write_bytes(b"\xff spt_")
    (directory / "seal.key").write_bytes(b"\xff" * 32)
    (directory / "seal.key").chmod(0o600)
    homeless = {name: value for name, value in os.environ.items() if name != "HOME"}
    running = started(directory, environment=homeless)
    try:
        yield Standing(directory=directory, text=running.until_ready())
    finally:
        stop(running)


def pasted(line: str) -> str:
    """What a line to paste prints."""
    return subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, timeout=90, check=True).stdout


def free_port() -> int:
    with listening(0) as found:
        port: int = found.getsockname()[1]
        return port


def descendants(pid: int) -> set[int]:
    """All living processes below `pid`."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    running = {int(pid) for pid, status in (line.split() for line in listed.splitlines()) if status[0] != "Z"}
    return pids & running


def token_of(text: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if line.startswith("Token"))


# Ctrl-C while the named module is being imported.
INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == "%s":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
"""


@pytest.mark.parametrize("module", ["argparse", "local.command", "moto", "local.stack"])
def test_ctrl_c_before_there_is_anything_to_stop_ends_it_without_a_traceback(
    run: Callable[..., Run], tmp_path: Path, module: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_IMPORT % module)
    search = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    assert run(environment={**os.environ, "PYTHONPATH": search}).ended() == (-signal.SIGINT, "")


@pytest.fixture
def hangups_reach_children() -> Iterator[None]:
    """Under nohup they are ignored, and a child inherits that; a handler of ours it does not inherit."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_reach_children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_of_it(run: Callable[..., Run], number: signal.Signals) -> None:
    running = run()
    running.until_ready()
    children = descendants(running.process.pid)
    assert len(children) > 5
    running.process.send_signal(number)
    status, rest = running.ended()
    assert (status, rest.strip()) == (0, "Stopped.")
    assert alive(children) == set()


def test_nothing_outlives_it_even_when_it_is_killed(run: Callable[..., Run]) -> None:
    running = run()
    running.until_ready()
    children = descendants(running.process.pid)
    running.process.kill()
    deadline = time.monotonic() + 60
    while alive(children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(children) == set()


def test_what_it_prints_works(standing: Standing) -> None:
    assert re.search(r"API docs  http://127\.0\.0\.1:\d+/docs$", standing.text, re.MULTILINE)
    assert re.search(
        r"Console   http://127\.0\.0\.1:\d+/console \(sign in with the token\)$", standing.text, re.MULTILINE
    )
    assert len(standing.commands) == 3
    assert "amount=10" in pasted(standing.commands[2])


def test_the_token_is_reused_by_the_next_run_and_private(restarted: Standing) -> None:
    assert token_of(restarted.text) == token_of(restarted.before)
    for private in ("token", "seal.key"):
        assert (restarted.directory / private).stat().st_mode & 0o777 == 0o600


def test_another_port_of_the_partner_becomes_that_of_the_stored_destination(restarted: Standing) -> None:
    assert "amount=10" in pasted(restarted.commands[2])


def test_an_unfinished_delivery_continues_in_the_next_run(restarted: Standing) -> None:
    assert "Unfinished deliveries of the last run that go on: 1" in restarted.text


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"spt_a\nspt_b", b"spt_a\r\nX: y", b"x" * 100_000])
def test_a_token_file_that_holds_no_token_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert read_token(tmp_path / "token") is None
    assert read_token(tmp_path / "nowhere") is None


def test_a_damaged_token_file_gets_a_token_that_works(repaired: Standing) -> None:
    token = token_of(repaired.text)
    assert read_token(repaired.directory / "token") == token
    assert "amount=10" in pasted(repaired.commands[2])


def test_a_seal_key_of_an_earlier_version_is_replaced_and_said(repaired: Standing) -> None:
    assert "The seal key of an earlier version" in repaired.text
    assert (repaired.directory / "seal.key").read_text().isalnum()


def is_a_file(kept: Path) -> None:
    kept.write_text("")


def lies_in_a_file(kept: Path) -> None:
    kept.parent.rmdir()
    kept.parent.write_text("")


def has_a_lock_that_is_a_directory(kept: Path) -> None:
    (kept / "lock").mkdir(parents=True)


def has_logs_that_are_a_file(kept: Path) -> None:
    kept.mkdir()
    (kept / "logs").write_text("")


def has_a_token_that_is_a_directory(kept: Path) -> None:
    (kept / "token").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil",
    [
        is_a_file,
        lies_in_a_file,
        has_a_lock_that_is_a_directory,
        has_logs_that_are_a_file,
        has_a_token_that_is_a_directory,
    ],
)
def test_a_directory_that_cannot_be_used_is_one_clear_line(
    run: Callable[..., Run], tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    kept = tmp_path / "below" / "kept"
    kept.parent.mkdir()
    spoil(kept)
    status, said = run(directory=kept).ended()
    assert status == 1, said
    *_, line = said.strip().splitlines()
    assert "Traceback" not in said
    assert str(kept.parent) in line
    assert "cannot be used (" in line


def test_any_name_of_a_directory_will_do(standing: Standing, restarted: Standing) -> None:
    for kept in (standing.directory, restarted.directory):
        assert (kept / "postgres").is_dir()


def test_a_closed_reader_ends_it(run: Callable[..., Run]) -> None:
    """`make run | head -1`."""
    running = run()
    running.until_ready()
    children = descendants(running.process.pid)
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.process.wait(timeout=90) == 0
    assert alive(children) == set()


def test_an_event_source_that_ends_by_itself_ends_all_of_it(tmp_path: Path) -> None:
    """A fault of ours that nobody foresaw; without the event source the API would accept and nothing be delivered."""
    broken = """
import sys
from local import command, event_source
event_source.EventSourceMapping._received = lambda self: [][1]
sys.exit(command.main(sys.argv[1:]))
"""
    ports = ["--port", str(free_port()), "--partner-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-c", broken, "run", *ports, "--directory", str(tmp_path / "kept")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "IndexError" in done.stdout
    assert "The event source of AttemptFunction ended. `make run` starts it again" in done.stdout.splitlines()[-1]


def test_a_second_run_on_the_same_data_is_refused(run: Callable[..., Run], standing: Standing) -> None:
    status, said = run(directory=standing.directory).ended()
    assert status == 1
    assert "A stack is already running with" in said.splitlines()[-1]


def test_a_busy_port_is_one_clear_line(run: Callable[..., Run]) -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
        status, said = run(port=port).ended()
    assert status == 1
    (line,) = said.splitlines()[1:]
    assert line.startswith(f"127.0.0.1:{port} cannot be used (Address already in use)")
    assert line.endswith("make run PORT=9000")


def test_a_busy_port_of_the_partner_is_one_clear_line(run: Callable[..., Run]) -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
        status, said = run(partner_port=port).ended()
    assert status == 1
    (line,) = said.splitlines()[1:]
    assert line.startswith(f"127.0.0.1:{port} cannot be used (Address already in use)")
    assert line.endswith("make run PARTNER_PORT=9001")


def test_the_same_port_for_both_is_one_clear_line(run: Callable[..., Run]) -> None:
    with listening(0) as taken:
        port = taken.getsockname()[1]
    status, said = run(port=port, partner_port=port).ended()
    assert status == 1
    assert said.splitlines() == [
        f"PORT and PARTNER_PORT are both {port}. Choose another for one of them: make run PARTNER_PORT=9001"
    ]


def test_the_messages_of_the_parts_name_no_command() -> None:
    """Tests, the bench and the lab run them too; what to type is advice, in the words of the one command."""
    for path in sorted((REPOSITORY / "local").glob("*.py")):
        if path.name != "command.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert [text for text in texts_of(tree) if "make " in text and text not in docstrings_of(tree)] == [], path
    assert any("make run" in text for text in texts_of(ast.parse(inspect.getsource(command))))


def texts_of(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def docstrings_of(tree: ast.AST) -> set[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return {ast.get_docstring(node, clean=False) or "" for node in ast.walk(tree) if isinstance(node, documented)}


def test_every_advice_has_its_text() -> None:
    assert set(_ADVICE) == set(Advice)


def test_a_home_is_not_needed(repaired: Standing) -> None:
    assert READY in repaired.text


@pytest.mark.parametrize("mebibytes", [1, 20])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, mebibytes: int) -> None:
    """In the first the cluster's log does not fit, in the second its tables do not."""
    status, said = on_a_small_disk(tmp_path, mebibytes, f"{RUN_ON_DISK}")
    assert status == 1, said
    (line,) = said.splitlines()[1:]
    assert line.startswith(f"PostgreSQL's initdb failed in {tmp_path}/kept/postgres: FATAL:")
    assert "No space left" in line or "could not extend" in line
    assert processes_with(tmp_path) == []


def test_nobody_is_advised_to_delete_data_because_the_disk_is_full(tmp_path: Path) -> None:
    """A server that was killed writes before it is ready again, here to a disk that somebody has filled meanwhile."""
    crash = "kill -KILL $(head -1 kept/postgres/data/postmaster.pid); wait $!"
    fill = "dd if=/dev/zero of=rest bs=64k 2>/dev/null"
    first = f"{RUN_ON_DISK} >said & until grep -q {READY} said; do kill -0 $! || exit 3; sleep 0.2; done; {crash}"
    status, said = on_a_small_disk(tmp_path, 90, f"{first}; {fill}; {RUN_ON_DISK}")
    assert status == 1, said
    assert said.splitlines()[-1].endswith("no space is left on its disk. The data are kept.")
    assert "run-clean" not in said.splitlines()[-1]
    assert processes_with(tmp_path) == []


RUN_ON_DISK = '"$PYTHON" -m local run --port 0 --partner-port 0 --directory "$PWD/kept"'


def on_a_small_disk(directory: Path, mebibytes: int, script: str) -> tuple[int, str]:
    """The exit status and the words of a script on a file system of that size, mounted for it alone."""
    command = ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={mebibytes}m,mode=755 small "{directory}" && cd "{directory}"'
    if subprocess.run([*command, mount], check=False, capture_output=True, timeout=90).returncode != 0:
        pytest.skip("no file system can be mounted in a namespace here")
    variables = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}", "PYTHON": sys.executable}
    done = subprocess.run(
        [*command, f"{mount} && {{ {script}; }}"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables,
        timeout=300,
    )
    return done.returncode, done.stdout


def processes_with(directory: Path) -> list[str]:
    """The command lines of all processes that name `directory`."""
    listed = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(directory) in line]


@pytest.mark.parametrize("port", ["abc", "-1", "65536"])
def test_a_wrong_port_is_one_clear_line(port: str) -> None:
    command = [sys.executable, "-m", "local", "run", f"--port={port}"]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"make run: error: argument --port: '{port}' is not a port number, which is 0 to 65535 (0: any that is free)"
    ]


def test_a_broken_data_directory_is_one_clear_line_and_clean_fixes_it(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "kept" / "postgres" / "data").mkdir(parents=True)
    status, said = run().ended()
    assert status == 1
    assert "is not a PostgreSQL data directory. `make run-clean` starts over" in said.splitlines()[1]
    clean = [sys.executable, "-m", "local", "clean", "--directory", str(tmp_path / "kept")]
    cleaned = subprocess.run(clean, cwd=REPOSITORY, check=True, timeout=60, capture_output=True, text=True)
    assert cleaned.stdout == f"Deleted {tmp_path / 'kept'}\n"
    assert not (tmp_path / "kept").exists()
    run().until_ready()


def test_cleaning_nothing_is_fine_and_cleaning_under_a_running_stack_is_not(standing: Standing, tmp_path: Path) -> None:
    clean = [sys.executable, "-m", "local", "clean", "--directory"]
    nothing = subprocess.run([*clean, str(tmp_path / "nothing")], cwd=REPOSITORY, check=False, timeout=90)
    assert nothing.returncode == 0
    refused = subprocess.run(
        [*clean, str(standing.directory)], cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "already running" in refused.stderr


def another_token(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "local", "token", "--directory", str(directory), *options]
    return subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=90)


def test_another_token_is_printed_alone_and_what_is_refused_is_one_line(standing: Standing) -> None:
    first = token_of(standing.text)
    issued = another_token(standing.directory)
    assert (issued.returncode, issued.stderr) == (0, "")
    (token,) = issued.stdout.splitlines()
    assert token.startswith("spt_")
    assert token != first
    for options, words in (
        (["--tenant", "Acme"], "/tenant: must be 1 to 63 lower-case letters, digits and hyphens."),
        (["--scopes", "read,everything"], "/scopes: must be one or more of read, send, manage."),
        (["--scopes", ","], "/scopes: must be one or more of read, send, manage."),
    ):
        refused = another_token(standing.directory, *options)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"No token was issued: {words}\n"


def test_without_a_stack_there_is_no_token(tmp_path: Path) -> None:
    refused = another_token(tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"No stack runs with {tmp_path}. Start one in another terminal: make run\n"


def test_a_closed_terminal_is_noticed() -> None:
    """`make` as the leader of a session keeps the signal to itself."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert not hung_up(terminal)
        os.close(ours)
        assert hung_up(terminal)


def test_a_python_is_found_and_a_missing_one_is_one_clear_line(tmp_path: Path) -> None:
    """pyenv's stand-ins count only if they work."""
    find = REPOSITORY / "local" / "find-python"
    broken = tmp_path / "python3.13"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": str(broken)}
    missing = subprocess.run([find], env=variables, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert missing.stderr == f"PYTHON={broken} is not a Python 3.12 or newer.\n"
    below_pyenv = tmp_path / ".pyenv" / "versions" / "3.13.9" / "bin"
    below_pyenv.mkdir(parents=True)
    (below_pyenv / "python3.13").symlink_to(sys.executable)
    del variables["PYTHON"]
    found = subprocess.run([find], env=variables, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).samefile(sys.executable)

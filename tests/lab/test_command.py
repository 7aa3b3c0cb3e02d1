"""`make lab` and `make lab-shell`: what they exit with, what they say, and that nothing outlives them."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from tests.support.enclosed import REQUIRED, ROOT, environment, inside
from tests.support.making import clean
from tests.support.terminal import Terminal

COMMAND = (sys.executable, "-m", "lab")
GENEROUS_SECONDS = 120  # what ends is waited for, so only a failure takes as long
FORBIDDEN = "lab: this machine lets no process make namespaces of its own"


def ran(words: Sequence[str], text: str = "") -> "subprocess.CompletedProcess[str]":
    """A command that may be forbidden here, which skips the test."""
    done = subprocess.run(
        words, input=text, env=clean(environment()), cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    if FORBIDDEN in done.stderr and not REQUIRED:
        pytest.skip(f"THE LAB DID NOT RUN: {done.stderr.strip()}")
    return done


# ---- Questions that make no sense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--topology", "star"),
            "there is no TOPOLOGY=star; possible are public-private with single, per-az, regional",
        ),
        (("--topology", "internal-only", "--egress", "per-az"), "internal-only with single"),
        (("--controls", "maybe"), "CONTROLS is yes or no, not 'maybe'"),
        (
            ("--egress", "single", "--stack", "x"),
            "a STACK is read as it is deployed: TOPOLOGY, EGRESS and PROGRAMS are not",
        ),
        (("--region", "us-east-1"), "REGION goes with STACK"),
    ],
)
def test_a_wrong_value_gets_one_line_with_what_is_possible(options: Sequence[str], message: str) -> None:
    done = subprocess.run([*COMMAND, *options], env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_an_unknown_host_gets_the_hosts_that_there_are() -> None:
    done = subprocess.run([*COMMAND, "--host", ""], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("lab: HOST is missing; in public-private-single there are\n")
    assert "  attacker " in done.stderr
    assert "  ApiFunction/Network.PrivateSubnetA " in done.stderr


def test_a_machine_that_forbids_namespaces_gets_one_line() -> None:
    status, error = inside(_forbidden)
    assert status == 2
    assert len(error.splitlines()) == 1
    assert error.startswith(FORBIDDEN)


@pytest.mark.parametrize(
    ("limit", "said"),
    [("max_net_namespaces", "gives the lab no more network namespaces"), ("open files", "100 open files are too few")],
)
def test_a_machine_that_gives_too_little_gets_one_line(limit: str, said: str) -> None:
    status, words = inside(_short_of, limit)
    assert (status, len(words.splitlines())) == (2, 1), words
    assert said in words


def _short_of(limit: str) -> tuple[int, str]:
    if limit == "open files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    else:
        Path("/proc/sys/user", limit).write_text("5")
    return _refused()


def _forbidden() -> tuple[int, str]:
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    return _refused()


def _refused() -> tuple[int, str]:
    with TemporaryDirectory(dir="/run") as out:
        words = [*COMMAND, "--topology", "public-private", "--egress", "regional", "--out", out]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


# ---- What it exits with


ONE = ("TOPOLOGY=internet-accessible", "EGRESS=regional", "CONTROLS=no", "PROGRAMS=no")


def test_make_lab_says_in_few_lines_what_holds_and_writes_the_rest(tmp_path: Path) -> None:
    done = ran(["make", "lab", *ONE, f"OUT={tmp_path}"])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("Proofs that hold, by design")
    assert lines[3].replace(" ", "") == "internet-accessible-regional│5/5│4/4│1/1│n/a│n/a│2/2│10/10│-│-"
    kept = tmp_path / "internet-accessible-regional"
    assert json.loads(kept.with_suffix(".json").read_text())["holds"] is True
    assert kept.with_suffix(".svg").read_text().startswith("<svg")
    for words in ("✔ 22 of 22 proofs hold", "What the lab does not model"):
        assert words in kept.with_suffix(".txt").read_text()
        assert words not in done.stdout


def test_it_prints_all_of_it_where_that_is_asked_for(tmp_path: Path) -> None:
    done = ran(["make", "lab", *ONE, f"OUT={tmp_path}", "VERBOSE=yes"])
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("✔ 22 of 22 proofs hold", "What the lab does not model", "Proofs that hold, by design"):
        assert words in done.stdout


def test_a_second_lab_does_not_write_into_the_firsts_files(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = ran(["make", "lab", *ONE, f"OUT={tmp_path}"])
    assert second.stdout == ""
    (line,) = [line for line in second.stderr.splitlines() if not line.startswith("make: ***")]
    assert line == f"lab: another lab writes its reports into {tmp_path}: wait for its end, or say OUT=folder"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


_BROKEN = """
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from lab import __main__
from lab.proofs import mutations
from lab.sources.templates import cases
from lab.workers import CaseRun
(case, *_) = cases("public-private", "single")
case = replace(case, name="broken", network=mutations.everything_opened(case.network))
case_runs = [CaseRun(case=case, controls=False, programs=False)]
sys.exit(__main__.with_exit_status(lambda: __main__.prove_all(case_runs, out=Path(sys.argv[1]))))
"""


def test_a_proof_that_fails_makes_the_status_1(tmp_path: Path) -> None:
    done = ran([sys.executable, "-c", _BROKEN, str(tmp_path)])
    assert (tmp_path / "broken.json").exists()
    if shutil.which("jq"):
        reader = Terminal(directory=tmp_path, instead={".lab/*.json": "broken.json"})
        assert "attacker to " in reader.types("docs/lab.md", "jq -r")
    assert done.returncode == 1, done.stderr
    assert "not as claimed: attacker arrived at" in done.stdout
    assert "What the lab does not model" not in done.stdout


def test_a_network_that_cannot_be_made_stops_with_its_resource(tmp_path: Path) -> None:
    other = "replace(case.network, internet_gateway='igw-other')"
    other_network = _BROKEN.replace("mutations.everything_opened(case.network)", other)
    done = ran([sys.executable, "-c", other_network, str(tmp_path)])
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("lab: broken: Network.")
    assert "its target, internet gateway Network.InternetGateway, is unknown" in done.stderr


# ---- A shell


def test_a_shell_writes_nothing_outside_of_the_lab(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    ask = f"echo x > {kept}; echo $?; cd /tmp && echo x > mine && cat mine; touch {ROOT}/lab-was-here; echo $?\n"
    done = ran(["make", "lab-shell", "HOST=attacker"], ask)
    assert done.stdout.split() == ["1", "x", "1"]
    assert "Read-only file system" in done.stderr
    assert "none can be written" in done.stderr
    assert not kept.exists()
    assert not (ROOT / "lab-was-here").exists()
    assert not Path("/tmp", "mine").exists()  # noqa: S108 (the one outside of the lab)


def test_a_shell_stands_on_the_host_and_the_programs_answer() -> None:
    ask = "curl -s -m 5 -o /dev/null -w '%{http_code}\\n' https://partner.example.com/; cat /etc/resolv.conf; exit 3\n"
    done = ran(["make", "lab-shell", "HOST=attacker"], ask)
    assert done.returncode == 2, done.stderr
    assert "Error 3" in done.stderr
    assert done.stdout.splitlines()[0] == "403"
    assert "You are on attacker" in done.stderr


# ---- Nothing is left


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_the_command(how: signal.Signals, tmp_path: Path) -> None:
    mark = f"lab-{uuid4()}"
    lab = subprocess.Popen(
        [sys.executable, "-c", _WITH_INTERRUPTS, *COMMAND, "--topology", "on-premises", "--out", str(tmp_path)],
        env=environment(LAB_MARK=mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until_it_works(lab, mark)
        os.kill(lab.pid, how)
        said = lab.communicate(timeout=GENEROUS_SECONDS)[1]
    finally:
        lab.kill()
        lab.communicate()
    if how is signal.SIGINT:
        assert lab.returncode == 130
        assert said.splitlines()[-1] == "lab: stopped"
        assert "Traceback" not in said
    until = time.monotonic() + GENEROUS_SECONDS
    while (left := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


# As at a terminal: who runs the tests in the background has all that they start inherit that Ctrl-C is ignored.
_WITH_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


_AS_MAKE = (
    "import os, subprocess, sys; "
    "lab = [sys.executable, '-m', 'lab', f'--tied={os.getpid()}', '--topology', 'on-premises', *sys.argv[1:]]; "
    "subprocess.run(lab)"
)


def test_the_command_ends_with_make(tmp_path: Path) -> None:
    """Who kills make with -9 kills nothing else, so the command ties itself to it."""
    mark = f"lab-{uuid4()}"
    make = subprocess.Popen(
        [sys.executable, "-c", _AS_MAKE, "--out", str(tmp_path)],
        env=environment(LAB_MARK=mark),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until_it_works(make, mark, processes=6)
    finally:
        make.kill()
        make.communicate()
    until = time.monotonic() + GENEROUS_SECONDS
    while (left := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


def _wait_until_it_works(lab: "subprocess.Popen[str]", mark: str, processes: int = 5) -> None:
    """The command, and of each of two designs the process outside of its private world and that inside."""
    while len(_marked(mark)) < processes:
        if lab.poll() is not None:
            said = lab.communicate()[1]
            assert FORBIDDEN in said
            assert not REQUIRED
            pytest.skip(f"THE LAB DID NOT RUN: {said.strip()}")
        time.sleep(0.05)


def _marked(mark: str) -> list[str]:
    """The processes that have the mark in their environment, which all of the lab's inherit."""
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark.encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended in between, or is not ours


def test_make_lab_fuzz_compares_packets_with_the_oracle_and_ends_with_make() -> None:
    done = ran(["make", "lab-fuzz", "N=2", "SEED=7"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 networks" in done.stdout + done.stderr
    assert " 0 disagreements" in done.stdout + done.stderr

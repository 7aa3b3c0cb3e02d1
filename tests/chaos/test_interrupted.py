"""Interrupted, `make faults` says what was done, and leaves no process, mount or file."""

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import eventually

WAIT_SECONDS = 600


@pytest.fixture
def own_tmp(tmp_path: Path) -> Path:
    """Short enough for the path of a socket."""
    del tmp_path
    return Path(tempfile.mkdtemp(prefix="sf"))


@contextmanager
def running(repository: Path, own_tmp: Path, *, until: str) -> Iterator[subprocess.Popen[str]]:
    """`make faults`, in a process group of its own, once it has said `until`. It is killed if all of this takes too
    long, so that nobody reads for ever."""
    process = subprocess.Popen(
        ["make", "faults", "N=100000", "FAULTS=1000", "SEED=3"],
        cwd=repository,
        env={**os.environ, "TMPDIR": str(own_tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    too_late = threading.Timer(WAIT_SECONDS, kill, [process])
    too_late.start()
    try:
        for line in process.stdout:
            if until in line:
                break
        yield process
    finally:
        too_late.cancel()
        kill(process)
        process.stdout.close()
        process.wait(60)


def kill(process: subprocess.Popen[str]) -> None:
    """All of its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def alive(own_tmp: Path) -> list[str]:
    """Command lines and environments of processes that were started by the run, by the directory they all name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(own_tmp).encode() in words and "Z" not in (process / "stat").read_text().rpartition(")")[2][:3]:
                found.append(words.decode(errors="replace"))
    return found


def to_the_group(process: subprocess.Popen[str]) -> None:
    """As a terminal does on Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)


def to_make(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGTERM)


def kill_make(process: subprocess.Popen[str]) -> None:
    """It has no time to pass anything on."""
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("stop", "until"),
    [(to_the_group, "1000 faults"), (to_make, "deliveries accepted"), (kill_make, "1000 faults")],
    ids=["Ctrl-C", "kill", "kill -9"],
)
def test_interrupted_it_says_what_was_done_and_leaves_nothing(
    repository: Path, own_tmp: Path, stop: Callable[[subprocess.Popen[str]], None], until: str
) -> None:
    with running(repository, own_tmp, until=until) as process:
        assert process.stdout is not None
        stop(process)
        rest = process.stdout.read()
        assert re.search(r"stopped after [\d,]+ deliveries and \d+ faults", rest), rest
        assert process.wait(WAIT_SECONDS) != 0
    assert eventually(lambda: not alive(own_tmp))
    assert list(own_tmp.iterdir()) == []
    own_tmp.rmdir()
    assert str(own_tmp) not in Path("/proc/self/mounts").read_text()

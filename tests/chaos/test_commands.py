"""`make chaos` and `make faults` run, count and say so; interrupted, they leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faults.disk import NoSuchDisk, enter_namespace
from tests.e2e.conftest import eventually

WAIT_SECONDS = 600
KINDS = 18  # one fault of each


def run(repository: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def can_mount() -> bool:
    """Asked in a process of its own, as it would change this one."""
    child = os.fork()
    if child == 0:
        with suppress(NoSuchDisk):
            enter_namespace()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def test_a_short_make_chaos_counts_the_promises(repository: Path) -> None:
    said = run(repository, *["make", "chaos", "SECONDS=4", "SEED=1"])
    held = re.search(r"every promise held: (\d+) deliveries, (\d+) steps, (\d+) answers, (\d+) faults", said)
    assert held is not None, said
    assert all(int(number) > 0 for number in held.groups())


def test_a_short_make_faults_strikes_with_every_fault_and_reports_it(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    run(repository, *["make", "faults", "N=250", f"FAULTS={KINDS}", "SEED=1", f"OUT={out}"])
    report = json.loads((out / "faults.json").read_text())
    assert report["deliveries"]["total"] >= 250
    assert report["faults"]["total"] == KINDS
    assert set(report["promises"].values()) == {0}
    struck = set(report["faults"]["by_kind"])
    assert len(struck) >= KINDS - 1
    assert ("full disk" in struck) == (report["setting"]["no_full_disk_because"] == "")
    assert report["faults"]["statements_refused_for_want_of_space"] == ("full disk" in struck)
    assert (out / "faults.md").read_text().startswith("# Faults")


def test_where_disks_can_be_mounted_the_disk_is_filled(repository: Path) -> None:
    if not can_mount():
        pytest.skip("this machine lets nobody mount a disk of their own: `make faults` runs without a full disk")
    assert "the disk is never full" not in run(repository, *["make", "chaos", "SECONDS=1", "SEED=2"])


@pytest.fixture
def own_tmp(tmp_path: Path) -> Path:
    """Short enough for the path of a socket."""
    del tmp_path
    return Path(tempfile.mkdtemp(prefix="sf"))


@contextmanager
def running(repository: Path, own_tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """`make faults`, in a process group of its own, once it has begun to strike."""
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
    try:
        for line in process.stdout:
            if "deliveries accepted" in line:
                break
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait(60)


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


@pytest.mark.parametrize("stop", [to_the_group, to_make], ids=["Ctrl-C", "kill"])
def test_interrupted_it_says_what_was_done_and_leaves_nothing(
    repository: Path, own_tmp: Path, stop: Callable[[subprocess.Popen[str]], None]
) -> None:
    with running(repository, own_tmp) as process:
        assert process.stdout is not None
        stop(process)
        rest = process.stdout.read()
        assert re.search(r"stopped after \d+ deliveries and the faults \{", rest), rest
        assert process.wait(WAIT_SECONDS) != 0
    assert eventually(lambda: not alive(own_tmp))
    assert list(own_tmp.iterdir()) == []
    own_tmp.rmdir()
    assert str(own_tmp) not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("faults", "N=many"), "N=many is not a whole number"),
        (("faults", "FAULTS=-1"), "FAULTS=-1 is not a whole number"),
        (("faults", "N=0"), "'0' is no number from 1"),
        (("chaos", "SEED=x"), "SEED=x is not a whole number"),
    ],
)
def test_what_is_no_number_is_refused_in_a_line(repository: Path, arguments: tuple[str, str], words: str) -> None:
    done = subprocess.run(
        ["make", *arguments], cwd=repository, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr

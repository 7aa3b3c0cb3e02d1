"""What the faults are made of does what it says: a full disk is full, a clock is off, a deck has every kind."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import cast

import pytest

from faults.load import Load
from faults.monkey import Monkey
from faults.shifted import CLOCKS, set_clock
from faults.site import Pace, Session, Site

FILL = """
import errno, sys
from pathlib import Path
from faults.disk import Disk, NoSuchDisk, enter_namespace
try:
    enter_namespace()
    disk = Disk(Path(sys.argv[1]), size_bytes=3 << 20)
except NoSuchDisk as error:
    sys.exit(f"skip: {error}")
(disk.directory / "before").write_bytes(b"x" * 5000)
disk.fill()
try:
    (disk.directory / "more").write_bytes(b"x" * 5000)
except OSError as error:
    assert error.errno == errno.ENOSPC
else:
    sys.exit("the disk was not full")
disk.free()
(disk.directory / "more").write_bytes(b"x" * 5000)
disk.unmount()
"""
SHIFTED = """
import os, sys, time
before = time.time()
import faults.shifted
handler = faults.shifted.attempt
from handlers import wiring
print(os.getpid(), flush=True)
sys.stdin.readline()
print(time.time() - before, (wiring.utc_now().timestamp() - before), time.monotonic() - time.monotonic())
"""


def python(program: str, *arguments: str, before: Sequence[str] = (), **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": "src:.", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "before", [(), ("unshare", "--user", "--map-user=1000", "--map-group=1000")], ids=["as we are", "as a plain user"]
)
def test_a_full_disk_takes_nothing_until_it_is_freed_and_is_seen_by_nobody_else(
    tmp_path: Path, before: Sequence[str]
) -> None:
    with python(FILL, str(tmp_path), before=before) as process:
        _, error = process.communicate(timeout=120)
    if error.startswith(("skip: ", "unshare: ")):
        pytest.skip(error.strip())
    assert process.returncode == 0, error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("off_seconds", [3600, -3600])
def test_a_clock_that_is_set_is_off_for_its_process_at_once(tmp_path: Path, off_seconds: int) -> None:
    (tmp_path / CLOCKS).mkdir()
    with python(SHIFTED, SEAL_KEY_FILE=str(tmp_path / "seal.key")) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        set_clock(tmp_path / CLOCKS, pid, off_seconds=off_seconds)
        said, error = process.communicate("\n", timeout=120)
    assert error == ""
    wall, utc, _ = map(float, said.split())
    assert round(wall / off_seconds) == round(utc / off_seconds) == 1


class Unmade:
    """As much of a site as dealing a deck needs."""

    disk = object()
    pace = Pace(lease_seconds=8, visibility_seconds=14.0)

    def session(self) -> Session | None:
        return None


@pytest.mark.parametrize("count", [18, 40, 500])
def test_a_deck_has_so_many_faults_and_every_kind(count: int) -> None:
    monkey = Monkey(cast(Site, Unmade()), cast(Load, None), Random(1))
    dealt = Counter(monkey.deck(count))
    assert dealt.total() == count
    assert len(dealt) == 18


def test_a_session_that_hangs_goes_on_also_while_the_run_itself_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a lock of PostgreSQL's own, for which the monkey's statement waits without end."""
    monkey = Monkey(cast(Site, Unmade()), cast(Load, None), Random(1))
    with subprocess.Popen(["sleep", "600"]) as session:
        monkeypatch.setattr(monkey, "_sessions", lambda: [session.pid])
        monkey._hang_sessions()
        while state_of(session.pid) != "T":
            time.sleep(0.01)
        while state_of(session.pid) == "T":  # nobody calls tick() meanwhile
            time.sleep(0.05)
        session.kill()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def test_without_a_disk_of_our_own_it_is_never_full() -> None:
    bare = Unmade()
    bare.disk = cast(object, None)
    assert "full disk" not in Monkey(cast(Site, bare), cast(Load, None), Random(1)).deck(500)

"""`lab --tied` ends with make at whatever moment of its start make is killed: nothing of it goes on without make.

The moments are not points in time. The lab stands still before its n-th call of a function of ours, or of the system's
where that matters, in one of its processes; then make is killed, and only when it is gone the lab goes on.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lab.kernel import sandbox
from lab.kernel.sandbox import SKIPPED
from tests.support.enclosed import REQUIRED, environment

SECONDS = 4  # in which an orphan must end; what ends is waited for, so only a failure takes as long
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_OURS = ("lab/__main__.py", "lab/kernel/sandbox.py", "lab/workers.py", "multiprocessing/popen_fork.py")
_CALLS = {"fork", "unshare", "getppid", "pipe", "select"}
DEPTHS = ("the command", "the process of a design", "the first process of its private world")

_HARNESS = """
import sys
from tests.lab import test_tied
test_tied.harness(int(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("depth", range(len(DEPTHS)), ids=DEPTHS)
def test_nothing_goes_on_without_make_wherever_in_its_start_it_is_killed(depth: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HARNESS, str(depth), str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
        check=False,
    )
    if done.returncode == SKIPPED and not REQUIRED:
        pytest.skip(f"THE LAB DID NOT RUN: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["went on"] == ""
    assert outcome["moments"] >= 3


def harness(depth: int, out: str) -> None:
    """In a process of its own, which inherits whoever loses its parent."""
    from lab import __main__  # once, before the processes part
    from lab.sources.templates import cases
    from lab.workers import CaseRun

    case_runs = [CaseRun(case=case, controls=False, programs=False) for case in cases("public-private", "per-az")]
    __main__._case_runs = lambda asked: case_runs  # noqa: ARG005 (its name is the real one's, for mypy); worked out once
    sandbox._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, _too_long)
    moments, went_on = 0, ""
    while not went_on and (where := _killed_at(depth, moments, out)) is not None:
        moments += 1
        went_on = "" if _all_ended() else where
    sys.stdout.write(json.dumps({"moments": moments, "went on": went_on}) + "\n")


def _killed_at(depth: int, moment: int, out: str) -> str | None:
    """Where the lab stood when make was killed; None where it came to its work without standing still before."""
    said, say = os.pipe()
    stay, go = os.pipe()
    make = os.fork()
    if make == 0:
        os.close(said)
        os.close(go)
        _as_make(_Stops(depth, moment, say, stay), out)
    os.close(say)
    os.close(stay)
    words = os.read(said, 200).decode()
    os.close(said)
    os.kill(make, signal.SIGKILL)
    os.waitpid(make, 0)
    os.close(go)
    if (
        "at " in words
    ):  # perhaps after "working", which another process of the lab may write before this one stands still
        return words
    if words != "working":
        sys.exit(SKIPPED)
    assert _all_ended()
    return None


class _TooLongError(Exception):
    pass


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise _TooLongError


def _all_ended() -> bool:
    """Waits until nobody is left. Who goes on without make works for ever, and is noticed by that."""
    signal.alarm(SECONDS)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return True
    except _TooLongError:
        for process in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        return False
    finally:
        signal.alarm(0)


def _as_make(stops: "_Stops", out: str) -> None:
    """Starts the lab and waits for it. make is killed; it does not end."""
    make = os.getpid()
    lab = os.fork()
    if lab == 0:
        stops.begin()
        _as_lab(make, stops.say, out)
    os.waitpid(lab, 0)
    os.close(stops.say)
    while True:
        signal.pause()


def _as_lab(make: int, say: int, out: str) -> None:
    from lab import __main__, workers

    def works_for_ever(case_run: Any, report: Any) -> Any:
        with suppress(BrokenPipeError):  # it was told of another moment, and listens no more
            os.write(say, b"working")
        while True:
            signal.pause()

    workers._result = works_for_ever
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    status = __main__.main([f"--tied={make}", f"--out={out}"])
    os._exit(status)


class _Stops:
    """Makes a process stand still before its n-th call that matters, at one depth of the processes."""

    def __init__(self, depth: int, moment: int, say: int, stay: int) -> None:
        self.say = say
        self._depth, self._left, self._stay = depth, moment, stay
        self._at = 0

    def begin(self) -> None:
        os.register_at_fork(after_in_child=self._deeper)
        sys.setprofile(self._called)

    def _deeper(self) -> None:
        self._at += 1

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if self._at != self._depth or not _matters(frame, event, argument):
            return
        self._left -= 1
        if self._left == -1:
            sys.setprofile(None)
            where = argument.__name__ if event == "c_call" else frame.f_code.co_name
            os.write(self.say, f"at {where}".encode())
            os.read(self._stay, 1)


def _matters(frame: FrameType, event: str, argument: Callable[..., Any]) -> bool:
    if not frame.f_code.co_filename.endswith(_OURS):
        return False
    return event == "call" or (event == "c_call" and argument.__name__ in _CALLS)

"""The command line behind `make chaos` and `make faults`."""

import argparse
import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from faults.disk import NoSuchDisk, enter_namespace
from local.stopping import stoppable, unstopped

if TYPE_CHECKING:
    from faults.run import FaultPlan, FaultRun, Say

RECORDED = Path("docs/measured")
KEPT = Path(".faults")  # logs of the last run that broke a promise
LEAST_DELIVERIES, LEAST_FAULTS = 100_000, 500  # of a run that is recorded
FAULTS_PER_SECOND = 0.75  # of `make chaos`
LEAST_OF_CHAOS = 4
_INTERRUPTED = 130


class Interrupted(BaseException):
    """Somebody asked us to stop."""


def main(arguments: list[str] | None = None) -> int:
    """0 where every promise held, 1 where one is broken, 2 where nothing could be started, 130 after Ctrl-C."""
    asked = parser().parse_args(arguments)
    logging.getLogger("local").setLevel(logging.ERROR)  # functions that end and calls that fail are the point here
    because = _namespace()
    try:
        with stoppable(Interrupted), _directory() as directory:
            return _run(asked, directory, because, _saying())
    except Interrupted:
        return _INTERRUPTED


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sallyport-faults-"))
    try:
        yield directory
    finally:
        with unstopped():
            shutil.rmtree(directory, ignore_errors=True)


def _namespace() -> str:
    """Why no disk can be mounted; empty where it can."""
    try:
        enter_namespace()
    except NoSuchDisk as error:
        return str(error)
    return ""


def _run(asked: argparse.Namespace, directory: Path, because: str, say: "Say") -> int:
    from faults.report import stopped, told  # late: a namespace must be entered before a library starts a thread
    from faults.run import carry_out
    from local.errors import LocalError

    begun: list[FaultRun] = []
    try:
        plan = _plan(asked)
        done = carry_out(plan, directory=directory, no_disk_because=because, say=say, begun=begun.append)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Interrupted:
        if not begun:
            say("stopped before anything was struck")
        for run in begun:
            say(stopped(run))
        raise
    status = told(done, out=_out(asked), say=say)
    if status != 0:
        _keep_logs(directory, say)
    return status


def _keep_logs(directory: Path, say: "Say") -> None:
    """The functions' own, which would be deleted with the run's directory; they have errors only."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir()
    for log in directory.glob("*.log"):
        shutil.copy2(log, KEPT)
    say(f"what the functions logged is in {KEPT}/")


def _plan(asked: argparse.Namespace) -> "FaultPlan":
    from faults.run import FaultPlan
    from faults.site import Pace

    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    quick = Pace(lease_seconds=4, visibility_seconds=6.0)
    if asked.seconds is None:
        return FaultPlan(
            deliveries=asked.n,
            faults=asked.faults,
            seed=seed,
            pace=Pace(lease_seconds=8, visibility_seconds=14.0) if _is_long(asked) else quick,
            per_second=60.0,
            over_http=False,
        )
    return FaultPlan(
        deliveries=asked.n,
        faults=max(LEAST_OF_CHAOS, int(asked.seconds * FAULTS_PER_SECOND)),
        seed=seed,
        pace=quick,
        per_second=18.0,
        over_http=True,
        seconds=asked.seconds,
    )


def _out(asked: argparse.Namespace) -> Path | None:
    """Where the report goes: a run that is too short for it replaces no recorded one."""
    if asked.out is not None:
        return Path(asked.out)
    return RECORDED if _is_long(asked) else None


def _is_long(asked: argparse.Namespace) -> bool:
    return asked.seconds is None and asked.n >= LEAST_DELIVERIES and asked.faults >= LEAST_FAULTS


def _saying() -> "Say":
    """One line at once, with the seconds since the start. A terminal that is gone is no reason to fail."""
    started_at = time.monotonic()

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(f"{time.monotonic() - started_at:7.1f} s  {text}\n")
            sys.stdout.flush()

    return say


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    made.add_argument(
        "--seconds", type=_from_one, default=None, help="make chaos: for how long (N and FAULTS do not matter)"
    )
    made.add_argument("--n", type=_from_one, default=LEAST_DELIVERIES, help=f"deliveries ({LEAST_DELIVERIES})")
    made.add_argument("--faults", type=_from_one, default=LEAST_FAULTS, help=f"faults ({LEAST_FAULTS})")
    made.add_argument("--seed", type=int, default=None, help="of orders and faults")
    made.add_argument("--out", default=None, help=f"the folder of the report ({RECORDED})")
    return made


def _from_one(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

"""Instructions per warm call under valgrind's callgrind: a number that is reproducible on a busy machine."""

import re
import shutil
import subprocess
import sys

from bench import events
from bench.figures import heading, skipped, table
from bench.handler import GET, OURS, PLAIN, POST, delivered
from bench.side import Side
from bench.stage import Stage

WARM_UP = 40
CALLS = 40
STATUS = {POST: 202, GET: 200}


def run(stage: Stage) -> None:
    """Only the process of the handler is measured, not PostgreSQL and not the queue."""
    if shutil.which("valgrind") is None:
        skipped("instructions", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    heading(f"Instructions per warm call under callgrind, {stage.times(CALLS)} calls")
    delivery_id = delivered(stage)
    rows = []
    for what in STATUS:
        ours, plain = (count(stage, handler, what, delivery_id) for handler in (OURS, PLAIN))
        rows.append([what, f"{ours / 1e6:.3f}", f"{plain / 1e6:.3f}", f"{ours / plain:.2f}"])
    table(["call", "ours, million", "plain, million", "ratio"], rows)


def count(stage: Stage, handler: str, what: str, delivery_id: str) -> float:
    """Instructions per call."""
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={stage.directory / 'callgrind.%p'}"]
    environment = stage.environment() | {"PYTHONHASHSEED": "0"}
    with Side(environment, command=["valgrind", *options, sys.executable]) as side:
        _call(stage, side, handler, what, delivery_id, stage.times(WARM_UP))
        _preload(stage, side, what, delivery_id, stage.times(CALLS))
        _switch(side, on=True)
        side.do("preloaded_calls", handler=handler, status=STATUS[what])
        _switch(side, on=False)
        said = side.close()
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        raise AssertionError(f"callgrind counted nothing: {said[-500:]}")
    return int(found[1]) / stage.times(CALLS)


def _call(stage: Stage, side: Side, handler: str, what: str, delivery_id: str, number: int) -> None:
    _preload(stage, side, what, delivery_id, number)
    side.do("preloaded_calls", handler=handler, status=STATUS[what])


def _preload(stage: Stage, side: Side, what: str, delivery_id: str, number: int) -> None:
    if what == POST:
        side.do("preload", events=[events.post(stage) for _ in range(number)])
    else:
        side.do("preload", events=[events.get(stage, delivery_id)] * number)


def _switch(side: Side, *, on: bool) -> None:
    """Counting starts and stops between two requests to the side."""
    process_id = side.do("process_id")
    command = ["callgrind_control", "-i", "on" if on else "off", str(process_id)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "ERROR" in done.stdout:
        raise AssertionError(f"callgrind_control failed: {done.stdout}{done.stderr}")

"""Instructions per warm call under valgrind's callgrind: the number that repeats, whatever else the machine does."""

import re
import shutil
import subprocess
import sys
from typing import Any

from bench import events
from bench.figures import heading, skipped, table
from bench.handler import OURS, PLAIN, delivered
from bench.side import Side
from bench.stage import Stage

WARM_UP = 40
CALLS = 40


def run(stage: Stage) -> None:
    """The process of the handler alone counts, not PostgreSQL's and not the queue's."""
    if shutil.which("valgrind") is None:
        skipped("instructions", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    heading(f"Instructions per warm call under callgrind, {CALLS} calls")
    delivery_id = delivered(stage)
    rows = []
    for what in ("POST /v1/deliveries", "GET /v1/deliveries/{id}"):
        ours, plain = (count(stage, handler, what, delivery_id) for handler in (OURS, PLAIN))
        rows.append([what, f"{ours / 1e6:.3f}", f"{plain / 1e6:.3f}", f"{ours / plain:.2f}"])
    table(["call", "ours, million", "plain, million", "ratio"], rows)


def count(stage: Stage, handler: str, what: str, delivery_id: str) -> float:
    """Instructions per call."""
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={stage.directory / 'callgrind.%p'}"]
    environment = stage.environment() | {"PYTHONHASHSEED": "0"}
    with Side(environment, command=["valgrind", *options, sys.executable]) as side:
        _call(stage, side, handler, what, delivery_id, WARM_UP)
        _switch(side, on=True)
        _call(stage, side, handler, what, delivery_id, CALLS)
        _switch(side, on=False)
        said = side.close()
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        raise AssertionError(f"callgrind counted nothing: {said[-500:]}")
    return int(found[1]) / CALLS


def _call(stage: Stage, side: Side, handler: str, what: str, delivery_id: str, number: int) -> None:
    if what.startswith("POST"):
        made: list[Any] = [events.post(stage) for _ in range(number)]
        side.do("calls", handler=handler, events=made, status=202)
    else:
        side.do("calls", handler=handler, events=[events.get(stage, delivery_id)] * number, status=200)


def _switch(side: Side, *, on: bool) -> None:
    """Counting starts and ends between two calls; what it takes to read and answer a request is far below one call."""
    process_id = side.do("process_id")
    command = ["callgrind_control", "-i", "on" if on else "off", str(process_id)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "ERROR" in done.stdout:
        raise AssertionError(f"callgrind_control failed: {done.stdout}{done.stderr}")

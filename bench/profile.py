"""What an attempt consists of, by steps: the instructions within each function, from callgrind.

Python makes a small machine-code function for each of its functions when it is asked to support profilers
(https://docs.python.org/3/howto/perf_profiling.html), which callgrind counts like any other. That itself takes about a
tenth more instructions.
"""

import bisect
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import heading, skipped, table
from bench.instructions import ATTEMPT, _works, switch
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH

CALLS = 40
# What is shown, as function:file, and what it does. Each is within the one that is named before it with fewer dots.
STEPS = {
    "handler:src/handlers/attempt.py": "the whole invocation",
    "BasePartialProcessor.process:batch/base.py": "· reads the messages (Powertools' batch)",
    "_claim:src/flows/attempt.py": "· claims",
    "make_attempts:src/flows/attempt.py": "· makes the attempts",
    "prepared:src/flows/prepare.py": "· · prepares the request",
    "Client.send_all:src/egress/client.py": "· · sends and receives",
    "Guard.target:src/egress/addresses.py": "· · · judges where the URL leads",
    "fault_in_request:src/egress/request.py": "· · · checks method and headers",
    "Run.__init__:src/egress/transfer.py": "· · · prepares libcurl's handle",
    "Engine.turn:src/egress/engine.py": "· · · waits and moves bytes (libcurl)",
    "OpenSockets.is_usable:src/egress/sockets.py": "· · · · checks the open connection",
    "Run.end:src/egress/transfer.py": "· · · makes the outcome and its times",
    "judged:src/flows/judge.py": "· · judges",
    "stored_response:src/domain/bodies.py": "· · · makes what is stored of the answer",
    "settle:src/flows/settle.py": "· settles",
    "_log_attempts:src/flows/settle.py": "· · logs and counts",
    "record:src/db/attempts.py": "· records (in a thread with a deadline)",
}


def run(stage: Stage) -> None:
    """Of batches of ten, thousands of instructions per attempt."""
    if shutil.which("valgrind") is None:
        skipped("profile", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    heading(f"What an attempt consists of, {BATCH} at once: thousands of instructions by step")
    found = measured(stage, calls=stage.times(CALLS))
    rows = [[what, f"{found[step] / 1e3:.0f}"] for step, what in STEPS.items() if step in found]
    table(["step", "thousand instructions"], rows)


def measured(stage: Stage, *, calls: int) -> Mapping[str, float]:
    """Instructions per attempt within each function of STEPS."""
    work = _works(stage)[ATTEMPT]
    counts = stage.directory / "callgrind.profile"
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}"]
    environment = stage.environment() | {"PYTHONHASHSEED": "0", "PYTHONPERFSUPPORT": "1"}
    with Side(environment, command=["valgrind", *options, sys.executable]) as side:
        side.do("preload", events=work.events(calls))
        side.do("preloaded_calls", handler=work.ours, status=None)
        counted = work.events(calls)
        side.do("preload", events=counted)
        names = Path("/", "tmp", f"perf-{side.do('process_id')}.map")  # where Python writes it
        switch(side, on=True)
        side.do("preloaded_calls", handler=work.ours, status=None)
        switch(side, on=False)
        side.close()
    try:
        return {
            step: instructions / len(counted) / work.per_call
            for step, instructions in within_each(counts.read_text().splitlines(), _Names(names)).items()
        }
    finally:
        names.unlink(missing_ok=True)


class _Names:
    """Of Python's functions, by address: lines of address, size and name."""

    def __init__(self, path: Path) -> None:
        lines = (line.split(" ", 2) for line in path.read_text(encoding="utf-8").splitlines())
        self._known = sorted((int(address, 16), name) for address, _, name in lines)

    def step_at(self, address: int) -> str | None:
        """The step of STEPS that begins or goes on there; None for others."""
        place = bisect.bisect_right(self._known, (address, "\U0010ffff")) - 1
        name = self._known[place][1].removeprefix("py::") if place >= 0 else ""
        function, _, path = name.partition(":")
        return next(
            (step for step in STEPS if step.partition(":")[0] == function and path.endswith(step.partition(":")[2])),
            None,
        )


def within_each(lines: Sequence[str], names: _Names) -> Counter[str]:
    """Callgrind's format: `cfn=` names whom the function calls, `calls=` precedes the line with what that took. A name
    is written once, with a number that stands for it afterwards."""
    known: dict[str, str] = {}
    found: Counter[str] = Counter()
    called, counts = "", False
    for line in lines:
        if match := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
            number, name = match[1], match[2]
            if name:
                known[number] = name
            if line.startswith("c"):
                called = known[number]
        elif line.startswith("calls="):
            counts = True
        elif counts:
            counts = False
            step = names.step_at(int(called.partition("'")[0], 16)) if called.startswith("0x") else None
            if step is not None:
                found[step] += int(line.split()[1])
    return found

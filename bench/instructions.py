"""Instructions per warm call under valgrind's callgrind: a number that is reproducible on a busy machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import events
from bench.attempts import PLAIN_WORKER
from bench.figures import heading, say, skipped, table
from bench.handler import GET, OURS, PLAIN, POST, delivered
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH, WORKER
from local.functions import REPOSITORY

RECORDED = REPOSITORY / "docs" / "measured" / "instructions.json"
ATTEMPT = f"an attempt, {BATCH} at once"
WARM_UP = 40
CALLS = 40
MOST_GROWTH = 1.05  # of ours relative to plain's, over what is recorded: counts repeat to half of one percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The handlers of both sides, the status that they answer with (None for none), how many pieces of work one call
    is, and the events of so many calls."""

    ours: str
    plain: str
    status: int | None
    per_call: int
    events: Callable[[int], Sequence[events.LambdaEvent]]


def run(stage: Stage, *, out: Path | None = None, warm_up: int = WARM_UP, calls: int = CALLS) -> None:
    """Only the process of the handler is measured, not PostgreSQL and not the queue. With `out` the counts are
    recorded in that folder, for comparison (tests/tools/test_instructions.py)."""
    if shutil.which("valgrind") is None:
        skipped("instructions", "valgrind is not installed (on Debian and Ubuntu: apt install valgrind)")
        return
    heading(f"Instructions per warm call under callgrind, {stage.times(calls)} calls")
    counts = measured(stage, warm_up=stage.times(warm_up), calls=stage.times(calls))
    rows = [
        [name, f"{count['ours'] / 1e6:.3f}", f"{count['plain'] / 1e6:.3f}", f"{count['ours'] / count['plain']:.2f}"]
        for name, count in counts.items()
    ]
    table(["call", "ours, million", "plain, million", "ratio"], rows)
    if out is not None:
        path = out / RECORDED.name
        path.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
        say(f"\nRecorded in {path}.")


def measured(stage: Stage, *, warm_up: int, calls: int) -> Mapping[str, Mapping[str, int]]:
    """Instructions of each call by name and by side, rounded to whole ones."""
    warm = {
        name: {
            side: count(stage, handler, work, warm_up=warm_up, calls=calls)
            for side, handler in (("ours", work.ours), ("plain", work.plain))
        }
        for name, work in _works(stage).items()
    }
    return {**warm, **loading(stage)}


def loading(stage: Stage) -> Mapping[str, Mapping[str, int]]:
    """Instructions that loading a function's modules takes, with bytecode at hand: the processor's part of its init.
    Those of the interpreter's own start are subtracted, and its end is left out: Lambda never lets a process end."""
    nothing = _of_process(stage, "pass")
    plain = _of_process(stage, f"import {PLAIN.partition(':')[0]}") - nothing
    return {
        name: {"ours": _of_process(stage, f"import {handler.partition(':')[0]}") - nothing, "plain": plain}
        for name, handler in (("loading the API", OURS), ("loading the worker", WORKER))
    }


def grown(counts: Mapping[str, Mapping[str, int]], recorded: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What takes more of plain's instructions than recorded, by more than MOST_GROWTH; in words."""
    return [
        f"{name}: {_ratio(counts[name]):.3f} of plain's instructions, {_ratio(before):.3f} are recorded"
        for name, before in recorded.items()
        if _ratio(counts[name]) > MOST_GROWTH * _ratio(before)
    ]


def count(
    stage: Stage, handler: str, work: Work, *, warm_up: int, calls: int, python: Path = Path(sys.executable)
) -> int:
    """Instructions per piece of work, in a process of `python`."""
    options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={stage.directory / 'callgrind.%p'}"]
    environment = stage.environment() | {"PYTHONHASHSEED": "0"}
    with Side(environment, command=["valgrind", *options, str(python)]) as side:
        side.do("preload", events=work.events(warm_up))
        side.do("preloaded_calls", handler=handler, status=work.status)
        counted = work.events(calls)
        side.do("preload", events=counted)
        switch(side, on=True)
        side.do("preloaded_calls", handler=handler, status=work.status)
        switch(side, on=False)
        said = side.close()
    return round(_collected(said) / len(counted) / work.per_call)


def _of_process(stage: Stage, code: str) -> int:
    """Of a whole process that runs `code` a second time: the first one writes the bytecode."""
    environment = stage.environment() | {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(stage.directory / "pyc")}
    del environment["PYTHONDONTWRITEBYTECODE"]
    command = [sys.executable, "-c", f"import os; {code}; os._exit(0)"]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
    done = subprocess.run(
        [*valgrind, *command], cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True
    )
    return _collected(done.stderr)


def _collected(said: str) -> int:
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        raise AssertionError(f"callgrind counted nothing: {said[-500:]}")
    return int(found[1])


def _works(stage: Stage) -> Mapping[str, Work]:
    delivery_id = delivered(stage)

    def batches(calls: int) -> list[events.LambdaEvent]:
        number = max(1, calls // 4)  # each of them is as much work as several calls of the API
        ids = pending(stage, number * BATCH)
        return [events.batch(stage, ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]

    return {
        POST: Work(
            ours=OURS,
            plain=PLAIN,
            status=202,
            per_call=1,
            events=lambda calls: [events.post(stage) for _ in range(calls)],
        ),
        GET: Work(
            ours=OURS,
            plain=PLAIN,
            status=200,
            per_call=1,
            events=lambda calls: [events.get(stage, delivery_id)] * calls,
        ),
        ATTEMPT: Work(ours=WORKER, plain=PLAIN_WORKER, status=None, per_call=BATCH, events=batches),
    }


def _ratio(count: Mapping[str, int]) -> float:
    return count["ours"] / count["plain"]


def switch(side: Side, *, on: bool) -> None:
    """Counting starts and stops between two requests to the side. callgrind_control looks for valgrind in TMPDIR, so it
    gets the side's; where it finds nothing, it says so and exits with 0."""
    process_id = side.do("process_id")
    command = ["callgrind_control", "-i", "on" if on else "off", str(process_id)]
    done = subprocess.run(command, env=side.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "OK." not in done.stdout:
        raise AssertionError(f"callgrind_control failed: {done.stdout}{done.stderr}")

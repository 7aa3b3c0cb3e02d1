"""The command line behind `make bench`: python -m bench [--only handler,cold] [--rows 1000000]."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import (
    attempts,
    audit,
    cold,
    frameworks,
    handler,
    hanging,
    instructions,
    logs,
    memory,
    profile,
    rows,
    statements,
    tables,
    wait,
    workers,
)
from bench.figures import say
from bench.stage import Stage, restore, stage
from local.errors import LocalError
from local.postgres import MAJOR_VERSION
from local.stopping import stoppable
from stack.switches import add_switch

INTERRUPTED = 130
BUSY_LOAD = 0.5  # of all cores: above it the figures show other load more than ours


def main() -> int:
    """Runs the selected parts, all on one stage. Returns the exit status, 130 after Ctrl-C or a kill."""
    options = parser().parse_args()
    parts = _parts(options.rows, options.out)
    wanted = options.only.split(",") if options.only else list(parts)
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        sys.stderr.write(f"No part '{unknown[0]}'; there are {', '.join(parts)}.\n")
        return 2
    try:
        with stoppable(KeyboardInterrupt):
            _run([parts[name] for name in wanted], small=options.small)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: what is printed above is not all. Nothing was left running.\n")
        return INTERRUPTED
    return 0


def _parts(count: int, out: Path | None = None) -> dict[str, Callable[[Stage], None]]:
    return {
        "handler": handler.run,
        "instructions": partial(instructions.run, out=out),
        "profile": profile.run,
        "peers": partial(frameworks.run, out=out),
        "statements": statements.run,
        "logs": logs.run,
        "wait": wait.run,
        "attempts": attempts.run,
        "hanging": hanging.run,
        "workers": partial(workers.run, out=out),
        "memory": memory.run,
        "rows": partial(rows.run, rows=count),
        "tables": partial(tables.run, rows=count, out=out),
        "audit": audit.run,
        "cold": cold.run,
    }


def _run(parts: list[Callable[[Stage], None]], *, small: bool) -> None:
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    say(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {cores} cores, load {load:.1f}, "
        f"CPython {platform.python_version()}, PostgreSQL {MAJOR_VERSION} without fsync on a Unix socket"
    )
    say("Medians of rounds, with the least and the most of any round in brackets. Sides alternate within each round.")
    if load > cores * BUSY_LOAD:
        say("\n!!! The machine is busy with other work: trust only the ratios, or better, run it again later\n")
    if small:
        say("\n!!! A small run: it shows that every side does the work. Ignore the figures.\n")
    with stage(small=small) as ready:
        for part in parts:
            restore(ready)
            part(ready)


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = argparse.ArgumentParser(prog="python -m bench", description="Sallyport compared with the bare minimum.")
    made.add_argument("--only", default="", help=f"parts, separated by commas: {', '.join(_parts(0))}")
    made.add_argument("--rows", type=int, default=100_000, help="size of the large table (default 100000)")
    made.add_argument(
        "--out",
        type=Path,
        help="the folder for the figures of `tables`, `instructions`, `peers` and `workers`, as JSON",
    )
    add_switch(made, "--small", words="do everything only a few times, as the tests do")
    return made


if __name__ == "__main__":
    sys.exit(main())

"""Attempts per second of one worker process, against the bare HTTP client at the same concurrency."""

from bench import events
from bench.figures import heading, ratio, say, spread, table
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH, WORKER

ROUNDS = 7
BATCHES = 30  # per round
PLAIN_WORKER = "bench.plain:attempt"


def run(stage: Stage) -> None:
    """Ours and plain claim, send and record batches of ten; the bare client only sends, ten at a time."""
    count = stage.times(BATCHES) * BATCH
    heading(f"Attempts per second of one worker process, {BATCH} at a time, {stage.times(ROUNDS)} rounds of {count}")
    rows = [
        _row(stage, "partner", "may be repeated: connections are kept", fresh=False),
        _row(stage, "once", "must not be repeated: a connection each", fresh=True),
    ]
    columns = [
        "requests",
        "ours",
        "plain (claims and records too)",
        "ratio to plain",
        "bare pycurl multi",
        "ratio",
        "budget",
    ]
    table(columns, rows)
    say("\nThe partner is a Python server on loopback; it and PostgreSQL share the machine's cores with the worker.")


def _row(stage: Stage, destination: str, what: str, *, fresh: bool) -> list[str]:
    per_second: dict[str, list[float]] = {"ours": [], "plain": [], "bare": []}
    count = stage.times(BATCHES) * BATCH
    with Side(stage.environment()) as ours, Side(stage.environment()) as plain, Side(stage.environment()) as bare:
        for number in range(stage.times(ROUNDS) + 1):
            taken = {
                "ours": _worked(stage, ours, WORKER, destination),
                "plain": _worked(stage, plain, PLAIN_WORKER, destination),
                "bare": bare.do(
                    "bare_requests", url=f"{stage.partner_url}/orders", count=count, at_once=BATCH, fresh=fresh
                ),
            }
            if number > 0:  # the first warms up
                for name, seconds in taken.items():
                    per_second[name].append(count / seconds)
    return [
        what,
        spread(per_second["ours"], digits=0),
        spread(per_second["plain"], digits=0),
        str(ratio(per_second["ours"], per_second["plain"])),
        spread(per_second["bare"], digits=0),
        str(ratio(per_second["ours"], per_second["bare"])),
        "at least 0.50",
    ]


def _worked(stage: Stage, worker: Side, handler: str, destination: str) -> float:
    ids = pending(stage, stage.times(BATCHES) * BATCH, destination=destination)
    batches = [events.batch(stage, ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    return float(sum(worker.do("calls", handler=handler, events=batches)) / 1e6)

"""Attempts per second of one worker process, against the bare HTTP client at the same concurrency."""

from bench import events
from bench.figures import heading, ratio, say, spread, table
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH, WORKER

ROUNDS = 7
BATCHES = 30  # per round


def run(stage: Stage) -> None:
    """Ours claims, sends and records batches of ten; the bare client only sends, ten at a time."""
    count = BATCHES * BATCH
    heading(f"Attempts per second of one worker process, {BATCH} at a time, {ROUNDS} rounds of {count}")
    rows = [
        _row(stage, "partner", "may be repeated: connections are kept", fresh=False),
        _row(stage, "once", "must not be repeated: a connection each", fresh=True),
    ]
    table(["requests", "ours per s", "pycurl multi per s", "ratio", "budget"], rows)
    say("\nThe partner is a Python server on loopback that shares the machine's cores with both.")


def _row(stage: Stage, destination: str, what: str, *, fresh: bool) -> list[str]:
    ours, bare = [], []
    url = f"{stage.partner_url}/orders"
    with Side(stage.environment()) as worker, Side(stage.environment()) as client:
        for number in range(ROUNDS + 1):
            made = _worked(stage, worker, destination)
            sent = client.do("bare_requests", url=url, count=BATCHES * BATCH, at_once=BATCH, fresh=fresh)
            if number > 0:  # the first warms up
                ours.append(BATCHES * BATCH / made)
                bare.append(BATCHES * BATCH / sent)
    return [what, spread(ours, digits=0), spread(bare, digits=0), str(ratio(ours, bare)), "at least 0.50"]


def _worked(stage: Stage, worker: Side, destination: str) -> float:
    ids = pending(stage, BATCHES * BATCH, destination=destination)
    batches = [events.batch(stage, ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    return float(sum(worker.do("calls", handler=WORKER, events=batches)) / 1e6)

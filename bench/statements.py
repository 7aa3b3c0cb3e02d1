"""SQL statements per call, counted on the wire."""

from bench import events
from bench.figures import heading, table
from bench.handler import OURS
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage

WORKER = "handlers.attempt:handler"
BATCH = 10


def run(stage: Stage) -> None:
    """Of a warm process: the first call also makes the connection."""
    heading("SQL statements, counted on the wire by libpq's own trace")
    with Side(stage.environment()) as side:
        side.do("calls", handler=OURS, events=[events.post(stage)], status=202)
        accepted = side.do("last_answer", handler=OURS, event=events.post(stage))
        rows = [
            ["POST /v1/deliveries", _count(side, events.post(stage)), "1"],
            ["POST /v1/deliveries, Prefer: wait", _count(side, events.post(stage, Prefer="wait=25")), ""],
            ["GET /v1/deliveries/{id}", _count(side, events.get(stage, accepted["delivery_id"])), ""],
        ]
    with Side(stage.environment()) as side:
        batch = events.batch(stage, pending(stage, BATCH))
        found = side.do("statements", handler=WORKER, event=batch, attempts=True)
        rows.append([f"a batch of {BATCH} attempts", str(found), "2"])
    table(["call", "statements", "budget"], rows)


def _count(side: Side, event: events.LambdaEvent) -> str:
    return str(side.do("statements", handler=OURS, event=event))

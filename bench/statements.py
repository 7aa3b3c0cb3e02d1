"""SQL statements per call, counted on the wire; and what a slow batch's additional one takes."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from bench import events
from bench.figures import heading, ratio, spread, table
from bench.handler import OURS
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from db import deliveries
from db.connection import Database
from db.deliveries import Lease
from domain.ids import DeliveryId, LeaseId
from domain.limits import SLOW_SECONDS, USUAL_WORKERS, usual_share
from runtime.settings import DatabaseSettings

WORKER = "handlers.attempt:handler"
BATCH = 10
ROUNDS = 200
SLOW = 2  # of a batch


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
    _note(stage)


def _note(stage: Stage) -> None:
    """What it takes to note some of a batch as slow, beside claiming the batch."""
    heading(f"Noting that {SLOW} of {BATCH} attempts take long, {stage.times(ROUNDS)} rounds: milliseconds")
    settings = DatabaseSettings(database_url=stage.environment()["DATABASE_URL"])
    with closing(Database(settings)) as database:
        pairs = [_claimed_and_noted(database, pending(stage, BATCH)) for _ in range(stage.times(ROUNDS))]
    claims, notes = [claim for claim, _ in pairs], [note for _, note in pairs]
    per_batch = f"{max(notes) / SLOW_SECONDS / 10:.2f} % at most"
    columns = ["the claim", "the note", "note / claim", f"note / the {SLOW_SECONDS:g} s of such a batch"]
    table(columns, [[spread(claims), spread(notes), str(ratio(notes, claims)), per_batch]])


def _claimed_and_noted(database: Database, ids: Sequence[UUID]) -> tuple[float, float]:
    now = datetime.now(UTC)
    lease = Lease(lease_id=LeaseId(uuid4()), until=now + timedelta(seconds=55))
    due, share = [DeliveryId(delivery_id) for delivery_id in ids], usual_share(USUAL_WORKERS)
    return (
        _milliseconds(lambda: deliveries.claim(database, due, lease=lease, now=now, share=share)),
        _milliseconds(
            lambda: deliveries.note_slow(database, due[:SLOW], lease_id=lease.lease_id, since=now, share=share)
        ),
    )


def _milliseconds(work: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    work()
    return (time.perf_counter() - began_at) * 1000


def _count(side: Side, event: events.LambdaEvent) -> str:
    return str(side.do("statements", handler=OURS, event=event))

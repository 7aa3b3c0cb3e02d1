"""Bytes of log per call: what the functions write to standard output, and what CloudWatch Logs bills for it.

stack/cost/load.toml has these figures under the names of MEASURED, because a bill is calculated without a database at
hand. tests/tools/test_log_bytes.py measures them again and fails when the two differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import events
from bench.figures import heading, say, table
from bench.handler import OURS
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH, WORKER

AUTHORIZER = "handlers.authorize:handler"
EVENT_BYTES = 26  # PutLogEvents counts them besides each line (AWS: API reference of PutLogEvents)
# The name in stack/cost/load.toml, and what is called.
MEASURED = {
    "log_bytes_per_post": "POST /v1/deliveries",
    "log_bytes_per_look": "GET /v1/deliveries/{id}",
    "log_bytes_per_authorization": "a token checked",
    "log_bytes_per_attempt": "an attempt",
    "log_bytes_per_batch": "a batch, besides its attempts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBytes:
    """What one call writes: `lines`, and `billed` bytes, EVENT_BYTES for each line included."""

    lines: float
    billed: float

    def __sub__(self, other: "LogBytes") -> "LogBytes":
        return LogBytes(lines=self.lines - other.lines, billed=self.billed - other.billed)


def run(stage: Stage) -> None:
    """Of warm calls; Lambda's own three lines come on top."""
    heading("Log per call: lines on standard output, and the bytes that CloudWatch Logs bills for them")
    found = measured(stage)
    table(
        ["call", "in stack/cost/load.toml", "lines", "bytes billed"],
        [[what, name, f"{found[name].lines:g}", f"{found[name].billed:.0f}"] for name, what in MEASURED.items()],
    )
    say(f"\nEach line with its end and {EVENT_BYTES} bytes besides. Lambda's START, END and REPORT come on top.")


def measured(stage: Stage) -> Mapping[str, LogBytes]:
    """By the names of MEASURED."""
    with Side(stage.environment()) as api:
        api.do("calls", handler=OURS, events=[events.post(stage)], status=202)
        delivery_id = api.do("last_answer", handler=OURS, event=events.post(stage))["delivery_id"]
        post = _of_one(api, OURS, [events.post(stage) for _ in range(BATCH)])
        look = _of_one(api, OURS, [events.get(stage, delivery_id)] * BATCH)
    with Side(stage.environment(role="sallyport_authorizer")) as authorizer:
        authorizer.do("written", handler=AUTHORIZER, events=[events.authorize(stage)])
        authorization = _of_one(authorizer, AUTHORIZER, [events.authorize(stage)] * BATCH)
    with Side(stage.environment()) as worker:
        worker.do("calls", handler=WORKER, events=[events.batch(stage, pending(stage, BATCH))])
        alone = _of_one(worker, WORKER, [events.batch(stage, pending(stage, 1))])
        full = _of_one(worker, WORKER, [events.batch(stage, pending(stage, BATCH))])
    attempt = LogBytes(
        lines=(full.lines - alone.lines) / (BATCH - 1), billed=(full.billed - alone.billed) / (BATCH - 1)
    )
    return dict(zip(MEASURED, (post, look, authorization, attempt, alone - attempt), strict=True))


def _of_one(side: Side, handler: str, calls: Sequence[events.LambdaEvent]) -> LogBytes:
    """The mean of these calls."""
    lines: list[str] = side.do("written", handler=handler, events=list(calls))
    billed = sum(len(line.encode()) + len("\n") + EVENT_BYTES for line in lines)
    return LogBytes(lines=len(lines) / len(calls), billed=billed / len(calls))

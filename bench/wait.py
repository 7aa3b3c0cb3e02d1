"""What a synchronous call through the gateway costs over the same request made directly with the same client."""

import shutil
from collections.abc import Callable, Mapping
from statistics import median

from bench import events
from bench.figures import heading, say, skipped, spread, table
from bench.handler import OURS
from bench.instructions import CALLS as COUNTED_CALLS
from bench.instructions import WARM_UP, Work, count
from bench.side import Side
from bench.stage import Stage

ROUNDS = 7
CALLS = 60
DIRECT = "bench.work:direct_call"


def run(stage: Stage) -> None:
    """By the clock, one process, each call followed by a direct one; then by instructions of the process alone."""
    heading(
        f"Calls that wait and calls passed through, {stage.times(ROUNDS)} rounds of {stage.times(CALLS)}: "
        "p50 over the same request made directly, ms"
    )
    table(
        ["call", "through the gateway", "directly", "overhead", "budget"],
        [_row(stage, name, event) for name, event in _events(stage).items()],
    )
    if shutil.which("valgrind") is None:
        skipped("instructions of calls that wait", "valgrind is not installed")
        return
    directly = _count(stage, DIRECT, lambda: {"url": _url(stage)})
    counts = {name: _count(stage, OURS, event) for name, event in _events(stage).items()}
    say("")
    table(
        ["call", "million instructions", "over the direct one"],
        [
            ["the request made directly", f"{directly / 1e6:.3f}", ""],
            *([name, f"{made / 1e6:.3f}", f"{(made - directly) / 1e6:.3f}"] for name, made in counts.items()),
        ],
    )


def _events(stage: Stage) -> Mapping[str, Callable[[], events.LambdaEvent]]:
    return {
        "POST /v1/deliveries, Prefer: wait": lambda: events.post(stage, Prefer="wait=25"),
        "POST /v1/via/{destination}/...": lambda: events.via(stage),
    }


def _row(stage: Stage, name: str, event: Callable[[], events.LambdaEvent]) -> list[str]:
    through, direct = [], []
    with Side(stage.environment()) as side:
        for number in range(stage.times(ROUNDS) + 1):
            made = [event() for _ in range(stage.times(CALLS))]
            found = side.do("calls_with_direct_ones", events=made, url=_url(stage))
            if number > 0:  # the first warms up
                through.append(median(found["through"]) / 1000)
                direct.append(median(found["direct"]) / 1000)
    overhead = [ours - other for ours, other in zip(through, direct, strict=True)]
    return [name, spread(through), spread(direct), spread(overhead), "2.00"]


def _count(stage: Stage, handler: str, event: Callable[[], events.LambdaEvent]) -> int:
    work = Work(
        ours=handler, plain=handler, status=200, per_call=1, events=lambda calls: [event() for _ in range(calls)]
    )
    return count(stage, handler, work, warm_up=stage.times(WARM_UP), calls=stage.times(COUNTED_CALLS))


def _url(stage: Stage) -> str:
    return f"{stage.partner_url}/orders"

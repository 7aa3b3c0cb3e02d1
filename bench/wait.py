"""What a synchronous call through the gateway costs over the same call made directly with the same client."""

from statistics import median

from bench import events
from bench.figures import heading, spread, table
from bench.side import Side
from bench.stage import Stage

ROUNDS = 7
CALLS = 60


def run(stage: Stage) -> None:
    """One process; each call through the gateway is followed by a direct one."""
    calls = stage.times(CALLS)
    heading(f"Prefer: wait, {stage.times(ROUNDS)} rounds of {calls} calls: p50 over the same call made directly, ms")
    through, direct = [], []
    with Side(stage.environment()) as side:
        for number in range(stage.times(ROUNDS) + 1):
            made = [events.post(stage, Prefer="wait=25") for _ in range(calls)]
            found = side.do("wait_calls", events=made, url=f"{stage.partner_url}/orders")
            if number > 0:  # the first warms up
                through.append(median(found["through"]) / 1000)
                direct.append(median(found["direct"]) / 1000)
    overhead = [ours - other for ours, other in zip(through, direct, strict=True)]
    table(
        ["through the gateway", "directly", "overhead", "budget"],
        [[spread(through), spread(direct), spread(overhead), "2.00"]],
    )

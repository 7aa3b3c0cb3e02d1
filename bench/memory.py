"""Memory of one worker process that sends large bodies: its peak, and whether it grows."""

from pathlib import Path
from statistics import median

from bench import events
from bench.figures import heading, say, skipped, table
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage
from bench.statements import BATCH, WORKER

BODY_BYTES = 4_000_000
BATCHES = 40
LEAST_BATCHES = 3
WARM = 5  # batches, after which it should have all that it needs
STATUS = Path("/proc/self/status")


def run(stage: Stage) -> None:
    """Batches of ten bodies of 4 MB each, what the process holds after each, and the most that it ever held."""
    batches = max(LEAST_BATCHES, stage.times(BATCHES))
    warm = min(WARM, batches - 2)
    heading(f"Memory of one worker process, {batches} batches of {BATCH} deliveries with {BODY_BYTES:,} bytes each, MB")
    if not STATUS.exists():
        skipped("memory", "there is no /proc here; Linux has it")
        return
    held, peaks = [], []
    with Side(stage.environment()) as side:
        for _ in range(batches):
            batch = events.batch(stage, pending(stage, BATCH, body_bytes=BODY_BYTES))
            side.do("calls", handler=WORKER, events=[batch])
            found = side.do("memory_bytes")
            held.append(found["held"] / 1e6)
            peaks.append(found["peak"] / 1e6)
    half = warm + (batches - warm) // 2
    table(
        ["after", "held, median", "peak so far"],
        [
            [f"{warm} batches", f"{median(held[:warm]):.0f}", f"{peaks[warm - 1]:.0f}"],
            [f"{half} batches", f"{median(held[warm:half]):.0f}", f"{peaks[half - 1]:.0f}"],
            [f"{batches} batches", f"{median(held[half:]):.0f}", f"{peaks[-1]:.0f}"],
        ],
    )
    say(f"\nFrom batch {warm} to the last the peak grew by {peaks[-1] - peaks[warm - 1]:.1f} MB.")

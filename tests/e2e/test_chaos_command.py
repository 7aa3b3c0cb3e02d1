"""`make chaos` runs, counts and says so: a few seconds of it, so that the command cannot break unseen."""

import re
import subprocess
from pathlib import Path


def test_a_short_make_chaos_counts_the_promises(repository: Path) -> None:
    command = ["make", "chaos", "SECONDS=4", "SEED=1"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    held = re.search(r"every promise held: (\d+) deliveries, (\d+) steps, (\d+) answers", done.stdout)
    assert held is not None
    assert all(int(number) > 0 for number in held.groups())
    assert re.search(r"faults {'.+': \d+", done.stdout) is not None

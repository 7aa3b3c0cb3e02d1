"""The bytes of log that the bill is calculated from are those that the handlers write."""

import pytest

from bench import logs
from bench.stage import stage
from stack.cost.bill import load_load

# Numbers in a line, such as its milliseconds, have more or fewer digits from run to run.
TOLERANCE_BYTES = 16


def test_the_bill_is_calculated_from_the_bytes_of_log_that_a_call_writes() -> None:
    with stage(small=True) as ready:
        measured = {name: written.billed for name, written in logs.measured(ready).items()}
    stated = {name: value for name, value in load_load().items() if name in logs.MEASURED}
    assert stated == pytest.approx(measured, abs=TOLERANCE_BYTES), "make bench ONLY=logs prints what load.toml must say"

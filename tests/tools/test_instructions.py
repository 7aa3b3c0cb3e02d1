"""What a call costs, in instructions: relative to plain, which does the same work, no more than recorded."""

import json
import shutil

import pytest

from bench.instructions import MOST_GROWTH, RECORDED, grown, measured
from bench.stage import stage

# Enough for every statement to be prepared, and for what is made once per process.
WARM_UP = 16
CALLS = 12


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_call_takes_more_instructions_than_recorded() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    with stage() as ready:
        counts = measured(ready, warm_up=WARM_UP, calls=CALLS)
    assert counts.keys() == recorded.keys()
    assert grown(counts, recorded) == []


def test_growth_is_told_by_the_ratio_to_plain_and_not_by_the_counts() -> None:
    recorded = {"POST": {"ours": 1200, "plain": 1000}}
    slower_machine = {"POST": {"ours": 2400, "plain": 2000}}
    within = {"POST": {"ours": int(1200 * MOST_GROWTH), "plain": 1000}}
    beyond = {"POST": {"ours": int(1200 * MOST_GROWTH) + 2, "plain": 1000}}
    assert grown(slower_machine, recorded) == grown(within, recorded) == []
    assert grown(beyond, recorded) == ["POST: 1.262 of plain's instructions, 1.200 are recorded"]

"""What a call costs, in instructions: relative to plain, which does the same work, no more than recorded."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from bench.instructions import MOST_GROWTH, RECORDED, grown, run, switch
from bench.side import Side
from bench.stage import stage
from local.functions import REPOSITORY

# Enough for every statement to be prepared, and for what is made once per process.
WARM_UP = 16
CALLS = 12


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_no_call_takes_more_instructions_than_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The part of `make bench` itself, as valgrind takes too long to run it there once more."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    with stage() as ready:
        run(ready, out=tmp_path, warm_up=WARM_UP, calls=CALLS)
    counts = json.loads((tmp_path / RECORDED.name).read_text(encoding="utf-8"))
    assert counts.keys() == recorded.keys()
    assert grown(counts, recorded) == []
    said = capsys.readouterr().out
    assert re.findall(r"^\| (\w.*?) +\| [\d.]+ +\| [\d.]+ +\| [\d.]+ +\|$", said, re.MULTILINE) == list(recorded)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_process_that_is_not_counted_is_a_failure_and_not_a_count_of_nothing() -> None:
    side = Side({"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"})
    with side, pytest.raises(AssertionError, match="callgrind_control failed"):
        switch(side, on=True)


def test_growth_is_told_by_the_ratio_to_plain_and_not_by_the_counts() -> None:
    recorded = {"POST": {"ours": 1200, "plain": 1000}}
    slower_machine = {"POST": {"ours": 2400, "plain": 2000}}
    within = {"POST": {"ours": int(1200 * MOST_GROWTH), "plain": 1000}}
    beyond = {"POST": {"ours": int(1200 * MOST_GROWTH) + 2, "plain": 1000}}
    assert grown(slower_machine, recorded) == grown(within, recorded) == []
    assert grown(beyond, recorded) == ["POST: 1.262 of plain's instructions, 1.200 are recorded"]

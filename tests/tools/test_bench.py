"""`make bench` does the work of every part on every side: here a few times only, which measures nothing."""

import re
import shutil
import subprocess

from bench import cold
from bench.__main__ import _parts
from stack.functions import DATABASE_USERS
from tests.contract.project import ROOT

# Cold starts are those of built packages.
PARTS = [name for name in _parts(0) if name != "cold"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def test_every_part_of_make_bench_does_its_work() -> None:
    done = bench("SMALL=yes", "ROWS=10500", f"ONLY={','.join(PARTS)}")
    assert done.returncode == 0, done.stderr[-3000:]
    skipped = re.findall(r"SKIPPED: (\w+)", done.stdout)
    assert skipped == ([] if shutil.which("valgrind") else ["instructions"])
    headings = re.findall(r"^## ", done.stdout, re.MULTILINE)
    tables = re.findall(r"^\| -+ \|", done.stdout, re.MULTILINE)
    assert len(headings) == len(tables) == len(PARTS) - len(skipped)


def test_cold_starts_are_those_of_every_function_that_uses_the_database() -> None:
    assert sorted(measured.function for measured in cold.MEASURED) == sorted(DATABASE_USERS)


def test_a_part_that_does_not_exist_is_named_with_those_that_do() -> None:
    done = bench("ONLY=handlr")
    assert done.returncode != 0
    assert "No part 'handlr'; there are handler, instructions, statements" in done.stderr

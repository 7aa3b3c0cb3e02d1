"""`make bench` does the work of every part on every side: here a few times only, which measures nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from bench import cold, tables
from bench.__main__ import _parts
from stack.functions import DATABASE_USERS
from tests.contract.project import ROOT

# Cold starts are those of built packages. What the frameworks and other queues' workers do, and the count of
# instructions, is tested by itself (test_frameworks.py, test_workers.py, test_instructions.py).
PARTS = [name for name in _parts(0) if name not in ("cold", "peers", "workers", "instructions")]
MEASURED = ROOT / "docs/measured"
BEFORE, AFTER = (json.loads((MEASURED / name).read_text("utf-8")) for name in ("tables-before.json", "tables.json"))
TABLES = tables.tables(AFTER)
COMPARED = 100_000


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def test_every_part_of_make_bench_does_its_work(tmp_path: Path) -> None:
    done = bench("SMALL=yes", "ROWS=10500", f"ONLY={','.join(PARTS)}", f"OUT={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    skipped = re.findall(r"SKIPPED: (\w+)", done.stdout)
    counted = shutil.which("valgrind") is not None
    # The second is of calls that wait, the third of the audit log.
    assert skipped == ([] if counted else ["profile", "instructions", "sealing"])
    headings = re.findall(r"^## ", done.stdout, re.MULTILINE)
    printed = re.findall(r"^\| -+ \|", done.stdout, re.MULTILINE)
    # The statements have two headings: how many, and what the note of a slow batch takes. The audit log has two: what
    # sealing takes and what its verifier takes.
    assert len(headings) == len(PARTS) + 1 + (1 if counted else -1)
    # Calls that wait have two tables, and the audit log a sentence under each of its headings.
    assert len(printed) == len(headings) + len(TABLES) - 1 + (1 - 2 if counted else 0 - 1)
    assert all(
        table in done.stdout
        for table in tables.tables(json.loads((tmp_path / "tables.json").read_text(encoding="utf-8")))
    )


def cells(text: str) -> list[list[str]]:
    """The cells of each line of a page's tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_page_quotes_the_figures_of_the_tables_as_they_were_measured() -> None:
    page = cells((ROOT / "docs/performance.md").read_text(encoding="utf-8"))
    for table in TABLES:
        head, _, *rows = cells(table)
        assert head in page
        assert [row for row in rows if row not in page] == []


def test_the_record_quotes_the_figures_before_and_after() -> None:
    record = cells((ROOT / "docs/adr/0032-an-attempt-writes-no-index.md").read_text(encoding="utf-8"))
    before, after = (
        next(size for size in measured["sizes"] if size["deliveries"] == COMPARED) for measured in (BEFORE, AFTER)
    )
    wanted = [
        ["disk, bytes", *(f"{sum(size['disk_bytes'].values()):,.0f}" for size in (before, after))],
        *(
            [f"log of {step}, bytes", *(f"{size['log_bytes'][step]:,.0f}" for size in (before, after))]
            for step in tables.STEPS
        ),
        *(
            [f"{step} in place", *(f"{size['in_place'][step]:.0%}" for size in (before, after))]
            for step in tables.STEPS[1:]
        ),
    ]
    assert [row for row in wanted if row not in record] == []


def test_cold_starts_are_those_of_every_function_that_uses_the_database() -> None:
    assert sorted(measured.function for measured in cold.MEASURED) == sorted(DATABASE_USERS)


def test_a_part_that_does_not_exist_is_named_with_those_that_do() -> None:
    done = bench("ONLY=handlr")
    assert done.returncode != 0
    assert f"No part 'handlr'; there are {', '.join(_parts(0))}." in done.stderr

"""docs/proof.md lists what the simulator really checks and breaks, no more and no less."""

import re
from pathlib import Path

import pytest

from simulator.faults import Kind
from simulator.marks import SEEDS_NEEDED
from simulator.meanings import MEANINGS
from simulator.mutants import MUTANTS, mutated
from simulator.partner import BEHAVIOURS
from simulator.shrinking import BUDGET_RUNS


def test_every_promise_that_can_be_broken_is_in_the_table(repository: Path) -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted((repository / "simulator").glob("promises*.py"))]
    named = set(re.findall(r'(?:promise=|_broken\(\s*)"([^"]+)"', "".join(sources)))
    assert len(named) > 15
    assert set(_first_cells(_section(repository, "### The promises"))) == named


def test_the_page_of_a_failure_says_of_a_promise_what_the_table_says(repository: Path) -> None:
    rows = _rows(_section(repository, "### The promises"))
    assert {name: meaning.replace("`", "") for name, meaning in rows} == MEANINGS


def test_every_fault_is_in_the_table(repository: Path) -> None:
    cells = [row[1] for row in _rows(_section(repository, "### What goes wrong"))]
    written = [fault for cell in cells for fault in cell.split("; ")]
    assert sorted(written) == sorted(kind.value for kind in Kind)


def test_every_way_of_a_partner_is_named(repository: Path) -> None:
    text = " ".join(_section(repository, "### What goes wrong").split())
    sentence = re.search(r"A partner (.*?)\. Its", text)
    assert sentence is not None
    assert sentence[1].replace("; or ", "; ").split("; ") == list(BEHAVIOURS)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mistake_fits_the_code_as_it_is(name: str) -> None:
    """Who changes the code writes it again; tests/simulator/test_mutants.py shows that it is found."""
    with mutated(name):
        pass


def test_its_numbers_are_those_of_the_code(repository: Path) -> None:
    text = " ".join((repository / "docs/proof.md").read_text(encoding="utf-8").split())
    assert f"# {len(MUTANTS)} deliberate mistakes in the code" in text
    assert f"`simulator/mutants.py` has {len(MUTANTS)} such mistakes" in text
    assert f"in {BUDGET_RUNS} runs at most" in text
    assert f"A run of {SEEDS_NEEDED:,} seeds fails if it never came" in text


def _section(repository: Path, heading: str) -> str:
    text = (repository / "docs/proof.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n{heading}\n")
    return re.split(r"\n##+ ", rest)[0]


def _rows(section: str) -> list[list[str]]:
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def _first_cells(section: str) -> list[str]:
    return [row[0] for row in _rows(section)]

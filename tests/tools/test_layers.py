"""The layers in docs/architecture.md are those of the import contracts."""

from pathlib import Path

import pytest

from tests.support.copies import copy_project
from tests.support.making import ROOT, make
from tools.layers import CLOSED, OPENED, PAGE, contracts, drawn, renewed, written

CONTRACT = {"type": "layers", "name": "a -> b | c", "layers": ["a", "b | c"]}


def test_the_page_shows_the_contracts_as_they_are() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert renewed(page, contracts()) == page, "run make layers"


def test_a_layer_that_moves_a_contract_that_goes_and_a_name_that_changes_are_noticed() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    first, *others = contracts()
    lower, *higher = reversed(first["layers"])
    for changed in (
        others,
        [{**first, "layers": [lower, *higher]}, *others],
        [*others[:-1], {**others[-1], "name": "x"}],
    ):
        assert renewed(page, changed) != page


def test_what_is_side_by_side_is_one_layer_and_boxes_end_at_one_edge() -> None:
    lines = drawn([["a"], ["b", "c"]]).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1::2]] == [["a"], ["b", "c"]]
    assert len({len(line) for line in lines}) == 1


def test_a_package_inside_another_is_described_in_a_line() -> None:
    inner = {**CONTRACT, "containers": ["lab.plan"]}
    assert "- `lab.plan`: `a` → `b`, `c`\n" in written([CONTRACT, inner])


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has lost its marks"):
        renewed(f"# Layers\n{OPENED}", [CONTRACT])


def test_make_layers_writes_what_the_page_shows(tmp_path: Path) -> None:
    page = copy_project(tmp_path) / PAGE
    page.write_text(f"# Layers\n{OPENED}nothing yet\n{CLOSED}The end.\n")
    done = make("layers", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PAGE
    assert page.read_text() == f"# Layers\n{OPENED}{written(contracts())}{CLOSED}The end.\n"

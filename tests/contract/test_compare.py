"""docs/compare.md: each of our yes is shown by a test that exists, each claim about others has a source."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.contract.project import ROOT

PAGE = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
OURS = re.compile(r'\[yes[^\]]*\]\((?P<path>\.\./tests/[\w/]+\.py) "(?P<name>test_\w+)"\)')
SOURCE = re.compile(r"\[[^\]]+\]\((https://[^\s)]+)\)")
# What is said of others without a source, since it needs none.
PLAIN = {"-", "a service", "your own network's", "the caller's matter", "as any proxy"}
NOT_YES = ("no", "not yet", "MIT")


def rows(page: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of the tables below the two headings, each with how many cells its table has."""
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        lines = [line for line in section.splitlines() if line.startswith("| ")]
        if len(lines) > 2 and "Sallyport" in lines[0]:
            width = len(cells(lines[0]))
            yield from ((width, cells(line)) for line in lines[2:])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@cache
def named_tests(path: Path) -> frozenset[str]:
    """The functions of a file that pytest runs as tests; empty where there is no file."""
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def faults(page: str) -> list[str]:
    """What is wrong with the tables, in words."""
    found = []
    for width, row in rows(page):
        if len(row) != width:
            found.append(f"{row[0]}: {len(row)} cells instead of {width}")
            continue
        found += [f"{row[0]}: {fault}" for fault in (*_of_ours(row[1]), *_of_others(row[2:]))]
    if not re.search(r"^As of 20\d\d-\d\d-\d\d\.", page, re.MULTILINE):
        found.append("there is no date")
    return found


def _of_ours(cell: str) -> Iterator[str]:
    link = OURS.search(cell)
    if link is None:
        if not cell.startswith(NOT_YES):
            yield f"ours is neither a no nor a yes with a test: {cell}"
    elif link["name"] not in named_tests((ROOT / "docs" / link["path"]).resolve()):
        yield f"there is no {link['path']}::{link['name']}"


def _of_others(row: list[str]) -> Iterator[str]:
    for cell in row:
        sources = SOURCE.findall(cell)
        if not sources and cell not in PLAIN:
            yield f"no source: {cell}"
        yield from (f"an odd source: {source}" for source in sources if not _is_well_formed(source))
        yield from (f"no https: {link}" for link in re.findall(r"\]\((http:[^)]*)\)", cell))


def _is_well_formed(source: str) -> bool:
    return bool(re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[\w./~%#?=&-]*)?", source))


def test_the_tables_hold() -> None:
    assert faults(PAGE) == []


def test_the_tables_were_found() -> None:
    found = list(rows(PAGE))
    assert {width for width, _ in found} == {6, 8}
    assert len(found) > 40
    assert sum(bool(OURS.search(row[1])) for _, row in found) > 25


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("test_the_last_answer_counts_and", "test_the_last_answer_is_and", "there is no ../tests/db/test_sightings.py"),
        ("tests/unit/test_retry.py", "tests/unit/test_retries.py", "there is no ../tests/unit/test_retries.py"),
        ("| licence | MIT |", "| licence | yes |", "ours is neither a no nor a yes with a test"),
        ("[8 in 28 h](https://docs.svix.com/retries)", "8 in 28 h", "no source: 8 in 28 h"),
        ("https://docs.svix.com/throttling)", "http://docs.svix.com/throttling)", "no source"),
        ("https://docs.svix.com/throttling)", "https://docs)", "an odd source"),
        ("As of 2026-11-27.", "Lately.", "there is no date"),
        ("| MIT |", "| MIT | - |", "7 cells instead of 6"),
    ],
)
def test_a_page_that_does_not_hold_is_noticed(before: str, after: str, fault: str) -> None:
    assert before in PAGE
    assert any(fault in found for found in faults(PAGE.replace(before, after, 1)))


def test_the_readme_leads_there() -> None:
    assert "(docs/compare.md)" in (ROOT / "README.md").read_text(encoding="utf-8")

"""docs/security.md: each claim is shown by a test that exists, or said not to be met."""

import re

import pytest

from tests.contract.project import ROOT
from tests.contract.test_compare import OURS, cells, named_tests

PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
OPEN = ("not yet", "yours to accept")


def faults(page: str) -> list[str]:
    """What is wrong with the tables whose last column says what shows it, in words."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = table.splitlines()
        if cells(head)[-1] == "shown by":
            found += [fault for row in rows for fault in _of_row(cells(row), len(cells(head)))]
    return found


def _of_row(row: list[str], width: int) -> list[str]:
    if len(row) != width:
        return [f"{row[0]}: {len(row)} cells instead of {width}"]
    link = OURS.fullmatch(row[-1])
    if link is None:
        return [] if row[-1] in OPEN else [f"{row[0]}: neither a test nor an open point: {row[-1]}"]
    exists = link["name"] in named_tests((ROOT / "docs" / link["path"]).resolve())
    return [] if exists else [f"{row[0]}: there is no {link['path']}::{link['name']}"]


def test_every_claim_is_shown_or_said_to_be_open() -> None:
    assert faults(PAGE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"test_a_revoked_token_is_unauthorized"', '"test_a_revoked_token_is_no_more"'),
        ("| yours to accept |", "| soon |"),
        ("| V8 authorization |", "| V8 | authorization |"),
    ],
)
def test_a_claim_that_nothing_shows_is_noticed(old: str, new: str) -> None:
    assert faults(PAGE.replace(old, new, 1)) != []

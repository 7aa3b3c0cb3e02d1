"""The page of all known ways to fail: each row names a look, a rule or a test that exists, and no look is left out."""

import re

from stack.preflight.checks import LOOKS
from tests.contract.project import ROOT

PAGE = (ROOT / "docs/failures.md").read_text(encoding="utf-8")
OFFERED = "addresses of an earlier stack"  # loses nothing: it is an offer


def rows() -> list[tuple[str, list[str]]]:
    """What goes wrong, and the names in the column beside it."""
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    return [(what, re.findall(r"`([^`]+)`", catches)) for what, catches in found if not set(what) <= set("- ")]


def functions() -> set[str]:
    """Of all tests and rules."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    return {name for text in texts for name in re.findall(r"^def (\w+)", text, re.MULTILINE)}


def test_every_row_names_what_catches_it() -> None:
    known = functions() | LOOKS.keys()
    wrong = {what: names for what, names in rows() if what != "what goes wrong" and not set(names) <= known}
    assert wrong == {}
    assert [what for what, names in rows() if what != "what goes wrong" and not names] == []
    assert len(rows()) > 30


def test_every_look_of_the_preflight_has_its_row() -> None:
    named = {name for _, names in rows() for name in names}
    assert LOOKS.keys() - named == {OFFERED}

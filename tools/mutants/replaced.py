"""Where migrations define functions that a later migration defines again or drops: nothing runs those definitions in an
up-to-date database, so an edit of them breaks no promise.
"""

import re
from collections.abc import Mapping
from pathlib import Path

MIGRATIONS = "src/db/migrations"
# What is between the dollars has semicolons of its own.
_FUNCTION = re.compile(
    r"^(?:CREATE(?: OR REPLACE)? FUNCTION (?P<made>\w+)\b.*?\$\$.*?\$\$[^;]*;"
    r"|DROP FUNCTION (?:IF EXISTS )?(?P<gone>\w+))",
    re.DOTALL | re.MULTILINE,
)

type Spans = dict[str, list[tuple[int, int]]]


def migrations(root: Path) -> dict[str, str]:
    """The text of each migration, by its path from the root, in the order in which they are applied."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((root / MIGRATIONS).glob("*.sql"))
    }


def replaced(texts: Mapping[str, str]) -> Spans:
    """The offsets of such definitions, by the path of the file. `texts` are all migrations, in their order.

    A function is known by its name alone: tests/db/test_roles.py holds that no two share one.
    """
    valid: dict[str, tuple[str, int, int]] = {}
    spans: Spans = {}
    for path, text in texts.items():
        for found in _FUNCTION.finditer(text):
            name = found["made"] or found["gone"]
            if name in valid:
                before, start, end = valid.pop(name)
                spans.setdefault(before, []).append((start, end))
            if found["made"]:
                valid[name] = path, found.start(), found.end()
    return spans

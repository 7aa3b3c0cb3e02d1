"""What a migration must be, so that the code before it can live with it: expand first, contract a release later.

squawk knows what PostgreSQL's statements lock and whom they break; the rest are agreements of this project
(docs/migrations.md). Each rule takes the files by name and returns its faults in words.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from db.migrations import OUTSIDE_A_TRANSACTION

type Files = Mapping[str, str]

FOLDER = Path(__file__).parents[2] / "src/db/migrations"
LANDED = Path(__file__).with_name("landed-migrations.sha256")
# What older code cannot live with. A line `-- contract: 0007_new_names stopped using it` says that none is left.
BREAKING = (
    "ban-drop-column",
    "ban-drop-constraint",
    "ban-drop-function",
    "ban-drop-table",
    "renaming-column",
    "renaming-table",
)
NOT_ASKED = (
    "require-lock-timeout",  # the runner sets both
    "require-statement-timeout",
    "prefer-bigint-over-int",  # a small number is a choice: HTTP's status, the number of an attempt
    "prefer-bigint-over-smallint",
)
RERUNNABLE = "prefer-robust-stmts"  # asked of files outside a transaction alone: of the others nothing is left
CONTRACT = re.compile(r"^-- contract: (\d{4}_\w+|v\d+\.\d+\.\d+) stopped using it\b", re.MULTILINE)
TAKES_AWAY = re.compile(r"^\s*(?:ALTER\b.*?\b)?(DROP|RENAME|REVOKE|TRUNCATE|DELETE)\b", re.IGNORECASE | re.DOTALL)

CLOSES_A_FUNCTION = re.compile(r"REVOKE EXECUTE ON FUNCTION (\w+) FROM PUBLIC")


def files() -> dict[str, str]:
    """Ours, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.sql"))}


def each_opens_with_why(files: Files) -> list[str]:
    """A comment, before anything else."""
    return [
        f"{name} does not open with `-- Why: ...`" for name, text in files.items() if not text.startswith("-- Why: ")
    ]


def each_is_named_in_order(files: Files) -> list[str]:
    """0001_what_it_brings.sql: four digits without a gap, then words."""
    numbers = [int(name[:4]) if re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) else -1 for name in files]
    return [] if numbers == list(range(1, len(files) + 1)) else [f"{list(files)} are not numbered in order"]


def none_that_landed_was_changed(files: Files, landed: str | None = None) -> list[str]:
    """By their SHA-256. A new one is listed too, so that landing it is a decision."""
    text = LANDED.read_text(encoding="utf-8") if landed is None else landed
    known = {name: digest for digest, name in (line.split() for line in text.splitlines())}
    found = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    faults = [f"{name} landed and is gone" for name in known.keys() - found.keys()]
    faults += [f"{name} was changed after it landed" for name in known if found.get(name, known[name]) != known[name]]
    return faults + [
        f"{name} is new: add `{digest}  {name}` to {LANDED.name}" for name, digest in found.items() if name not in known
    ]


def what_takes_something_away_says_who_stopped_using_it(files: Files) -> list[str]:
    """By naming a migration that came before, or a release."""
    faults = []
    for name, text in files.items():
        statements = [part for part in _statements(text) if not _closes_a_function_of(text, part)]
        taken = sorted({match[1].upper() for match in map(TAKES_AWAY.match, statements) if match})
        named = CONTRACT.search(text)
        if taken and not named:
            faults.append(f"{name} says {', '.join(taken)} without `-- contract: NNNN_name stopped using it`")
        if named and not named[1].startswith("v") and (f"{named[1]}.sql" not in files or f"{named[1]}.sql" >= name):
            faults.append(f"{name}: there is no earlier migration {named[1]}")
    return faults


def _closes_a_function_of(text: str, statement: str) -> bool:
    """Whether it takes from everybody what they may by default: to call a function that the same file makes."""
    closed = CLOSES_A_FUNCTION.fullmatch(statement)
    return closed is not None and re.search(rf"^CREATE FUNCTION {closed[1]}\b", text, re.MULTILINE) is not None


def what_runs_outside_a_transaction_is_one_statement(files: Files) -> list[str]:
    """Which could not run inside one: CREATE or DROP INDEX CONCURRENTLY, and nothing else."""
    faults = []
    for name, text in files.items():
        statements = _statements(text)
        concurrent = [part for part in statements if re.search(r"\bCONCURRENTLY\b", part, re.IGNORECASE)]
        outside = OUTSIDE_A_TRANSACTION in text.splitlines()
        if outside and (len(statements), len(concurrent)) != (1, 1):
            faults.append(f"{name} runs outside a transaction and is not one CREATE INDEX CONCURRENTLY")
        if concurrent and not outside:
            faults.append(f"{name} lacks the line `{OUTSIDE_A_TRANSACTION}`")
    return faults


def squawk_finds_nothing(files: Files) -> list[str]:
    """Nothing that breaks older code or holds a table for long. An exception has `-- squawk-ignore RULE` above it."""
    return [fault for name, text in files.items() for fault in _squawked(name, text)]


def _squawked(name: str, text: str) -> Iterator[str]:
    inside = OUTSIDE_A_TRANSACTION not in text.splitlines()
    excluded = [*NOT_ASKED, *([RERUNNABLE] if inside else []), *(BREAKING if CONTRACT.search(text) else [])]
    for complaint in _complaints(text, ",".join(excluded), inside):
        yield f"{name}:{complaint['line'] + 1}: {complaint['rule_name']}: {complaint['message']}"


@cache
def _complaints(text: str, excluded: str, inside: bool) -> list[dict[str, Any]]:
    command = [str(Path(sys.executable).with_name("squawk")), "--pg-version", "17", "--reporter", "json"]
    command += [
        f"--exclude={excluded}",
        f"--{'' if inside else 'no-'}assume-in-transaction",
        "--stdin-filepath",
        "x.sql",
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    complaints: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return complaints


def _statements(text: str) -> list[str]:
    """Without comments, texts in quotes, and the bodies of functions, which run later: what they delete is rows."""
    bare = re.sub(r"--[^\n]*|'(?:[^']|'')*'", "", text)
    bare = re.sub(r"(\bCREATE (?:OR REPLACE )?FUNCTION\b[^$;]*)\$\$.*?\$\$", r"\1", bare, flags=re.DOTALL)
    return [part.strip() for part in bare.split(";") if part.strip()]


RULES = [
    each_opens_with_why,
    each_is_named_in_order,
    none_that_landed_was_changed,
    what_takes_something_away_says_who_stopped_using_it,
    what_runs_outside_a_transaction_is_one_statement,
    squawk_finds_nothing,
]

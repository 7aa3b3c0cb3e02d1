"""The lists of columns in src/db: a list that is read into one type is the same in every statement.

A statement is one literal in the function that runs it, so that readers and the mutation tester see all of it. A list
therefore stands in several statements, and these tests hold them together: whoever adds a column learns where it lacks.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

type Texts = Mapping[str, str]

# By module, the functions that together make a value of a row; a destination has more columns for those who manage it.
READERS = {
    "destinations.py": ("_attempted",),
    "destinations.py, managed": ("_attempted", "_managed"),
    "deliveries.py": ("delivery_of",),
    "attempts.py": ("_attempt", "_response"),
}
MOST = 0.8  # a list that has so many of a type's columns is meant to have them all


def texts(folder: Path) -> Texts:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


def columns_read(text: str, functions: tuple[str, ...]) -> set[str]:
    """The columns that the functions take from a row."""
    readers = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name in functions]
    return {
        str(node.slice.value)
        for reader in readers
        for node in ast.walk(reader)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }


def statements(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and re.match(r"\s*(SELECT|WITH)\b", str(node.value)):
            yield node.lineno, re.sub(r"\s+", " ", re.sub(r"--.*", "", str(node.value)))


def lists(statement: str) -> Iterator[set[str]]:
    """The columns of each SELECT of a statement, by their names in the row."""
    for select in re.findall(r"SELECT (?!FROM )(.+?) FROM ", statement):
        named = [re.sub(r".* AS ", "", column.strip()) for column in re.split(r",(?![^(]*\))", select)]
        yield {column.rpartition(".")[2] for column in named}


def faults(modules: Texts, owner: str) -> Iterator[str]:
    wanted = columns_read(modules[owner.partition(",")[0]], READERS[owner])
    for module, text in modules.items():
        for line, statement in statements(text):
            for columns in lists(statement):
                if len(columns & wanted) > MOST * len(wanted) and not wanted <= columns:
                    yield f"{module}:{line} lacks {sorted(wanted - columns)}"


@pytest.mark.parametrize("owner", READERS)
def test_every_list_of_a_table_has_all_columns_that_are_read(owner: str, repository: Path) -> None:
    assert list(faults(texts(repository / "src/db"), owner)) == []


@pytest.mark.parametrize(
    ("owner", "module", "column"),
    [
        ("destinations.py", "destinations.py", "guarantee, idempotent,\n               idempotency_header"),
        ("destinations.py, managed", "destinations.py", "state_changed_by, version"),
        ("destinations.py", "deliveries.py", "target.guarantee, "),
        ("deliveries.py", "deliveries.py", "delivery.attempts_allowed,\n"),
        ("deliveries.py", "attempts.py", "delivery.fingerprint, "),
        ("attempts.py", "attempts.py", "attempt.tls_ms, "),
        ("attempts.py", "attempts.py", "response_sha256, response_truncated\n        FROM attempt"),
    ],
)
def test_a_list_without_one_of_them_is_noticed(owner: str, module: str, column: str, repository: Path) -> None:
    modules = dict(texts(repository / "src/db"))
    shortened = column.partition(", ")[2] if "\n" in column.strip() else ""
    assert column in modules[module]
    modules[module] = modules[module].replace(column, shortened)
    assert len(list(faults(modules, owner))) >= 1

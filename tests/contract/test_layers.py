"""What import-linter cannot say: it forbids by name, and the standard library is what is not named."""

import ast
import sys
from pathlib import Path

import pytest

OURS = {"handlers", "flows", "db", "egress", "wakeups", "domain", "runtime"}


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_domain_imports_itself_and_the_standard_library_alone(repository: Path) -> None:
    for path in (repository / "src" / "domain").rglob("*.py"):
        assert imports(path) <= sys.stdlib_module_names | {"domain"}, path


def test_runtime_imports_none_of_the_other_layers(repository: Path) -> None:
    for path in (repository / "src" / "runtime").rglob("*.py"):
        assert not imports(path) & (OURS - {"runtime"}), path


@pytest.mark.parametrize("stranger", ["local", "lab", "bench", "simulator", "faults", "tests", "tools"])
def test_what_ships_imports_nothing_that_stays_at_home(repository: Path, stranger: str) -> None:
    for path in (repository / "src").rglob("*.py"):
        assert stranger not in imports(path), path


def test_no_file_has_the_marks_of_a_conflict(repository: Path) -> None:
    """Within a literal, such as a statement, no linter sees them."""
    folders = (
        "src",
        "tests",
        "local",
        "stack",
        "lab",
        "bench",
        "simulator",
        "faults",
        "infra",
        "events",
        "docs",
        "make",
    )
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    for path in [repository / "template.yaml", *(path for name in folders for path in (repository / name).rglob("*"))]:
        if path.suffix in {".py", ".sql", ".yaml", ".json", ".md", ".mk", ".txt", ".sha256"}:
            lines = path.read_text(encoding="utf-8").splitlines()
            assert [line for line in lines if line.startswith(marks)] == [], path


def test_no_package_of_ours_shadows_the_standard_library(repository: Path) -> None:
    """In the deployed package src is on the path before everything else."""
    names = {path.stem for path in (repository / "src").iterdir()}
    assert not names & set(sys.stdlib_module_names)

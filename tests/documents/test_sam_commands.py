"""Every `sam` command in a document is one that SAM takes, and one that a test runs.

A command counts as run where a test calls sam("<word>", ...) with its very words. In a sentence, `sam deploy` is
a name; a command there has options.
"""

import ast
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import ROOT, blocks, commands
from tests.support.sam import PROGRAMS, SECONDS, surroundings

# What no test calls with these very words. Each with its reason.
EXEMPT = {
    ("validate", "--lint"): "`make validate` types it, a part of `make check`",
    ("build", "--parameter-overrides", "Architecture=x86_64"): "run with the processor of the machine in its place",
}

OF_TESTS = {"--skip-pull-image"}  # what tests add to a command


def documented() -> list[tuple[str, ...]]:
    """The words behind `sam`, each command once."""
    shown = {line for block in blocks() for line in block.commands}
    found = {tuple(words[1:]) for _, words in commands("sam") if any(word.startswith("--") for word in words[2:])}
    in_blocks = {tuple(line.split("#")[0].split()[1:]) for line in shown if line.startswith("sam ")}
    return sorted(found | in_blocks)


def run_by_tests() -> set[tuple[str, ...]]:
    """The words of each call of sam() or start_api() in a test, as far as they stand there."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    return {words for path in files for words in _run_in(ast.parse(path.read_text(encoding="utf-8")))}


def _run_in(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("sam", "start_api"):
            words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            yield tuple(word for word in words if word not in OF_TESTS)


def objections(words: list[tuple[str, ...]], folder: Path) -> list[str]:
    """The error of SAM's parser for each, with the documents' own files; empty where it accepts the command."""
    shutil.copy2(ROOT / "samconfig.toml", folder)
    shutil.copy2(ROOT / "template.yaml", folder)
    shutil.copytree(ROOT / "events", folder / "events")
    (folder / ".sallyport").mkdir()
    (folder / ".sallyport/sam-variables.json").write_text("{}")
    done = subprocess.run(
        [str(PROGRAMS / "python"), str(ROOT / "tests/tools/sam_parses.py"), json.dumps(words)],
        cwd=folder,
        env=surroundings(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_sam_takes_every_command_that_a_document_shows_and_no_misspelt_one(tmp_path: Path) -> None:
    shown = documented()
    assert len(shown) > 10
    misspelt = [("build", "--use-containr"), ("deploy", "--config-env", "devel"), ("local", "start_api")]
    *said, option, table, command = objections([*shown, *misspelt], tmp_path)
    assert {words: text for words, text in zip(shown, said, strict=True) if text} == {}
    assert "No such option" in option
    assert "Missing option '--stack-name'" in table
    assert "No such command" in command


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_a_test_runs_every_command_that_a_document_shows(words: tuple[str, ...]) -> None:
    assert words in run_by_tests() or words in EXEMPT, f"no test calls sam{words}"


def test_no_command_is_exempt_that_is_not_documented_or_is_run() -> None:
    assert set(EXEMPT) <= set(documented()) - run_by_tests()

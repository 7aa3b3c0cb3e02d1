"""The clean run: which tests of a folder pass on the unedited files, how long each takes, and which lines it runs.

The results are cached in `.mutants`, one file for each test file, named by a digest of all files that the tests may
read.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tools.mutants.owners import within
from tools.mutants.trees import OUTPUT, Tree, tracked

CACHE_DIRECTORY = ".mutants"
CACHED_FILES = 400
# What the tests of the code can read; those of the templates read the documents too.
READ_BY_CODE = ("src/", "local/", "events/", "infra/", "template.yaml", "samconfig.toml", "pyproject.toml")


class NotClean(Exception):
    """Tests fail without any edit; the message names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """`seconds` has every test that passes, by its id; `lines` the tests that run a line, by file and number; `failing`
    those that fail without any edit.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    failing: tuple[str, ...]

    def touching(self, path: str, first: int, last: int) -> set[str]:
        """The tests that run any of these lines."""
        lines = self.lines.get(path, {})
        return {test for line in range(first, last + 1) for test in lines.get(line, [])}

    def of(self, file: str) -> "Baseline":
        """The part of it that belongs to the tests of one file."""
        lines = {
            path: {
                line: own
                for line, tests in by_line.items()
                if (own := [test for test in tests if _is_of_file(test, file)])
            }
            for path, by_line in self.lines.items()
        }
        return Baseline(
            seconds={test: seconds for test, seconds in self.seconds.items() if _is_of_file(test, file)},
            lines={path: by_line for path, by_line in lines.items() if by_line},
            failing=tuple(test for test in self.failing if _is_of_file(test, file)),
        )


def _is_of_file(test: str, file: str) -> bool:
    return test.partition("::")[0] == file


def baseline(root: Path, tree: Tree, tests: str, *, python: Path, covered: bool, anyway: bool) -> Baseline:
    """The baseline of a folder or file of tests. A test that fails is reported and left out; if it fails again,
    NotClean is raised, except with `anyway`.

    Each test file is cached separately, so that after an edit of one of them the others are not run again.
    """
    cached = {
        file: root / CACHE_DIRECTORY / f"{digest}.json"
        for file, digest in _digests(root, tests, covered=covered, anyway=anyway).items()
    }
    missing = [file for file, path in cached.items() if not path.exists()]
    if missing:
        wanted = [tests] if len(missing) == len(cached) else missing
        made = _measured(tree, wanted, python=python, covered=covered, anyway=anyway)
        (root / CACHE_DIRECTORY).mkdir(exist_ok=True)
        for file in missing:
            part = made.of(file)
            cached[file].write_text(json.dumps({"seconds": part.seconds, "lines": part.lines, "failing": part.failing}))
        _evict(root / CACHE_DIRECTORY, keep=cached.values())
    return _merged([_read(path.read_text()) for path in cached.values()])


def _evict(cached: Path, *, keep: Iterable[Path]) -> None:
    """Deletes the oldest files beyond CACHED_FILES, except those to keep."""
    for old in sorted(cached.glob("*.json"), key=lambda path: -path.stat().st_mtime)[CACHED_FILES:]:
        if old not in keep:
            old.unlink()


def _merged(parts: Iterable[Baseline]) -> Baseline:
    seconds: dict[str, float] = {}
    lines: dict[str, dict[int, list[str]]] = {}
    failing: tuple[str, ...] = ()
    for part in parts:
        seconds |= part.seconds
        failing += part.failing
        for path, by_line in part.lines.items():
            for line, tests in by_line.items():
                lines.setdefault(path, {}).setdefault(line, []).extend(tests)
    return Baseline(seconds=seconds, lines=lines, failing=failing)


def _read(text: str) -> Baseline:
    entries = json.loads(text)
    lines = {path: {int(line): tests for line, tests in by.items()} for path, by in entries["lines"].items()}
    return Baseline(seconds=entries["seconds"], lines=lines, failing=tuple(entries["failing"]))


def _digests(root: Path, tests: str, *, covered: bool, anyway: bool) -> dict[str, str]:
    """For each test file a digest of all files that it may read."""
    read = [path for path in tracked(root) if not _is_unread(path, tests, covered=covered)]
    own = [path for path in read if _is_tests(path) and within(path, [tests])]
    digests = {path: hashlib.sha256((root / path).read_bytes()).digest() for path in read}
    whole = hashlib.sha256(f"failing {covered} {anyway}".encode())
    for path in read:
        if path not in own:
            whole.update(path.encode() + b"\0" + digests[path])
    return {path: hashlib.sha256(path.encode() + whole.digest() + digests[path]).hexdigest()[:24] for path in own}


def _is_tests(path: str) -> bool:
    return Path(path).name.startswith("test_")


def _is_unread(path: str, tests: str, *, covered: bool) -> bool:
    """Whether these tests do not read a file; all tests read support, the fixtures and the partners."""
    folder = "/".join(path.split("/")[:2])
    if not path.startswith("tests/"):
        return path.startswith("tools/mutants/") or (covered and not path.startswith(READ_BY_CODE))
    shared = path.count("/") == 1 or folder == "tests/support" or path.endswith(("conftest.py", "servers.py"))
    return not shared and folder != "/".join(tests.split("/")[:2])


def _measured(tree: Tree, tests: Sequence[str], *, python: Path, covered: bool, anyway: bool) -> Baseline:
    log, data = tree.scratch / "clean.jsonl", tree.scratch / "coverage"
    log.unlink(missing_ok=True)
    options = ["--cov", "--cov-context=test", "--cov-report="] if covered else []
    tree.pytest(
        [*options, *tests],
        python=python,
        environment={"MUTANTS_LOG": str(log), "COVERAGE_FILE": str(data)},
        timeout_seconds=None,
    )
    entries = logged(log)
    if not entries:
        raise NotClean(f"{' '.join(tests)} did not run: " + (tree.scratch / OUTPUT).read_text()[-2000:])
    failed = sorted({line["test"] for line in entries if line["failed"]})
    if failed and not anyway:
        _confirm_failures(tree, failed, tests, python=python)
    seconds = {line["test"]: line["seconds"] for line in entries if line["test"] not in failed}
    return Baseline(seconds=seconds, lines=_lines(tree, data, seconds) if covered else {}, failing=tuple(failed))


def _confirm_failures(tree: Tree, failed: list[str], tests: Sequence[str], *, python: Path) -> None:
    log, wanted = tree.scratch / "again.jsonl", tree.scratch / "again.txt"
    log.unlink(missing_ok=True)
    wanted.write_text("\n".join(failed))
    environment = {"MUTANTS_LOG": str(log), "MUTANTS_WANTED": str(wanted)}
    code = tree.pytest(tests, python=python, environment=environment, timeout_seconds=None)
    if code:
        raise NotClean(
            "tests fail without any edit: " + ", ".join(line["test"] for line in logged(log) if line["failed"])
        )


def logged(log: Path) -> list[dict[str, Any]]:
    """What tools/mutants/plugin.py wrote; nothing if pytest did not get that far."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _lines(tree: Tree, data: Path, known: Iterable[str]) -> dict[str, dict[int, list[str]]]:
    """Processes that tests started leave data files of their own, without the name of a test; these are ignored."""
    lines_by_file: dict[str, dict[int, list[str]]] = {}
    tests = set(known)
    for part in sorted(data.parent.glob(f"{data.name}*")):
        read = CoverageData(str(part))
        read.read()
        for file in read.measured_files():
            path = Path(file).relative_to(tree.files).as_posix()
            by_line = lines_by_file.setdefault(path, defaultdict(list))
            for line, contexts in read.contexts_by_lineno(file).items():
                names = {context.rpartition("|")[0] for context in contexts}
                by_line[line] += sorted((names & tests) - set(by_line[line]))
    return lines_by_file

"""Runs the tests that must catch an edit, one edit after the other, each in a tree of its own."""

import ast
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

from tools.mutants.baseline import Baseline, baseline, logged
from tools.mutants.edits import Edit
from tools.mutants.owners import owners
from tools.mutants.sample import Texts
from tools.mutants.trees import OUTPUT, TIMED_OUT, Tree, copied
from tools.mutants.warm import Warm

# A run may take three times as long as the same tests did, plus the start of PostgreSQL on a busy machine.
TIMES_AS_LONG = 3
SPARE_SECONDS = 60.0
PASSED, FAILED, INTERRUPTED, USAGE, NO_TESTS = 0, 1, 2, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantResult:
    """`verdict` is caught, timeout, text, survived or equivalent. `text` means that only a pinned text caught it; that
    and a time-out count as caught. `by` is the test, or the reason.
    """

    edit: Edit
    verdict: str
    by: str


@dataclass(slots=True)
class Runner:
    """Runs edits in its trees, one tree for each job at a time, and has the clean runs of the tests."""

    root: Path
    texts: Texts
    trees: Queue[Tree]
    python: Path
    tests: tuple[str, ...]
    anyway: bool
    baselines: dict[tuple[str, bool], Baseline] = field(default_factory=dict)
    warm: dict[Path, Warm] = field(default_factory=dict)

    def folders(self, path: str) -> tuple[str, ...]:
        """The tests that own a file, or those that were named instead."""
        return self.tests or owners(path)

    def prepare(self, edits: Iterable[Edit]) -> Iterator[str]:
        """Makes the clean runs, as many at once as there are trees; a line about each. Raises NotClean."""
        needed = sorted({(tests, _covered(edit.path)) for edit in edits for tests in self.folders(edit.path)})
        with ThreadPoolExecutor(self.trees.qsize()) as pool:
            for key, made in zip(needed, pool.map(lambda key: self._clean(*key), needed), strict=True):
                self.baselines[key] = made
                failing = (
                    f"; LEFT OUT, since they failed without any edit: {', '.join(made.failing)}" if made.failing else ""
                )
                yield f"{key[0]}: {len(made.seconds)} tests, {sum(made.seconds.values()):.0f} s{failing}"

    def run(self, edits: Sequence[Edit]) -> Iterator[MutantResult]:
        """The result of each edit, in their order."""
        try:
            with ThreadPoolExecutor(self.trees.qsize()) as pool:
                yield from pool.map(self._run, edits)
        finally:
            for process in self.warm.values():
                process.close()

    def _clean(self, tests: str, covered: bool) -> Baseline:
        tree = self.trees.get()
        try:
            return baseline(self.root, tree, tests, python=self.python, covered=covered, anyway=self.anyway)
        finally:
            self.trees.put(tree)

    def _run(self, edit: Edit) -> MutantResult:
        chosen = self.chosen(edit)
        if not chosen:
            return MutantResult(edit=edit, verdict="survived", by="no test runs this line")
        tree = self.trees.get()
        try:
            warm = self._warm(tree) if _covered(edit.path) else None
            tree.write(edit.path, edit.applied(self.texts[edit.path]))
            found = None if warm is None else self._tested_warm(edit, warm, chosen)
            return found or self._tested(edit, tree, chosen)
        finally:
            tree.restore(edit.path, self.root)
            self.trees.put(tree)

    def _warm(self, tree: Tree) -> Warm:
        """That of a tree."""
        if tree.files not in self.warm:
            folders = sorted({tests for tests, covered in self.baselines if covered})
            self.warm[tree.files] = Warm(tree=tree, python=self.python, folders=folders)
        self.warm[tree.files].start()
        return self.warm[tree.files]

    def _tested_warm(self, edit: Edit, warm: Warm, chosen: dict[str, float]) -> MutantResult | None:
        """None where a process of the edit's own must say, as of all that nothing noticed."""
        log = warm.tree.scratch / "run.jsonl"
        log.unlink(missing_ok=True)
        code = warm.run(edit, self.texts[edit.path], list(chosen), log=log, timeout_seconds=_timeout_seconds(chosen))
        return MutantResult(edit=edit, **_verdict(code, log, "")) if code == FAILED else None

    def _tested(self, edit: Edit, tree: Tree, chosen: dict[str, float]) -> MutantResult:
        log, wanted = tree.scratch / "run.jsonl", tree.scratch / "wanted.txt"
        log.unlink(missing_ok=True)
        wanted.write_text("\n".join(chosen))
        code = tree.pytest(
            list(dict.fromkeys(test.partition("::")[0] for test in chosen)),
            python=self.python,
            environment={"MUTANTS_LOG": str(log), "MUTANTS_WANTED": str(wanted), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout_seconds=_timeout_seconds(chosen),
        )
        return MutantResult(edit=edit, **_verdict(code, log, (tree.scratch / OUTPUT).read_text(errors="replace")))

    def chosen(self, edit: Edit) -> dict[str, float]:
        """The tests to run with how long they take: the quickest files first, each file in its own order.

        For Python those that run the line; a line that runs at import concerns all of them.
        """
        wanted_tests: dict[str, float] = {}
        for tests in self.folders(edit.path):
            clean = self.baselines[tests, _covered(edit.path)]
            wanted = self._wanted(edit, clean)
            wanted_tests |= {test: seconds for test, seconds in clean.seconds.items() if test in wanted}
        files: dict[str, list[float]] = defaultdict(list)
        for test, seconds in wanted_tests.items():
            files[test.partition("::")[0]].append(seconds)
        order = sorted(files, key=lambda file: sum(files[file]) / len(files[file]))
        return {
            test: seconds for file in order for test, seconds in wanted_tests.items() if test.startswith(f"{file}::")
        }

    def _wanted(self, edit: Edit, clean: Baseline) -> set[str]:
        text = self.texts[edit.path]
        function = _function(text, edit.line(text)) if edit.path.endswith(".py") else None
        if function is None:
            return set(clean.seconds)
        first, last = edit.lines(text)
        # Coverage counts a statement of several lines at its first one: the function decides then.
        return clean.touching(edit.path, first, last) or clean.touching(edit.path, *function)


def _timeout_seconds(chosen: dict[str, float]) -> float:
    return TIMES_AS_LONG * sum(chosen.values()) + SPARE_SECONDS


def _covered(path: str) -> bool:
    """Whether the clean run must measure which tests run which lines: only for Python."""
    return path.endswith(".py")


def _function(text: str, line: int) -> tuple[int, int] | None:
    """The lines of the body of the function that contains a line; None if the line runs at import."""
    functions = [
        (node.body[0].lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return max((function for function in functions if function[0] <= line <= function[1]), default=None)


def _verdict(code: int, log: Path, output: str) -> dict[str, str]:
    logged_tests = logged(log)
    failures = [line for line in logged_tests if line["failed"]]
    real_failures = [str(line["test"]) for line in failures if not line["text_alone"]]
    if code == TIMED_OUT:
        return {
            "verdict": "timeout",
            "by": f"after {logged_tests[-1]['test']}" if logged_tests else "before the first test",
        }
    if real_failures:
        return {"verdict": "caught", "by": real_failures[0]}
    if failures:
        return {"verdict": "text", "by": str(failures[0]["test"])}
    if code in {PASSED, NO_TESTS}:
        return {"verdict": "survived", "by": f"{len(logged_tests)} tests passed"}
    if "conftest" in output and "Error" in output:
        return {"verdict": "caught", "by": "conftest.py, which cannot be imported"}
    raise RuntimeError(f"pytest ended with {code}:\n{output[-2000:]}")


def runner(root: Path, directory: Path, texts: Texts, *, jobs: int, tests: Sequence[str], anyway: bool) -> Runner:
    """A runner with `jobs` trees in a directory; `anyway` goes on without the tests that fail without any edit."""
    trees: Queue[Tree] = Queue()
    for job in range(jobs):
        trees.put(copied(root, directory, str(job)))
    python = root / ".venv" / "bin" / "python"
    return Runner(root=root, texts=texts, trees=trees, python=python, tests=tuple(tests), anyway=anyway)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

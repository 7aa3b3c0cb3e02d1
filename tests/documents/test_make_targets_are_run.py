"""Every target of make is run by a test.

A target counts as run where a test hands ["make", "<target>", ...], or make("<target>", ...), to a process without
--dry-run. What a target's variables do is for the tests of what stands behind it.
"""

import ast
from collections.abc import Iterator

from tests.support.making import ROOT, targets

# What no test can run, each with its reason.
EXEMPT = {
    "test": "it is what runs the tests; .ci/run types it",
    "cov": "all tests again, with a page of HTML",
    "check": "it is what .ci/run types",
    "check-scan": "a part of `make check`",
    "validate": "a part of `make check`",
    "format": "it writes the sources; `make check` holds the result",
    "clean": "it deletes the environment that runs the tests",
    "certs": "it asks AWS's trust store, which is beyond this machine",
}


def run_by_tests() -> set[str]:
    """The targets that some test runs for real."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != ROOT / "tests" / "documents"]
    return {name for path in files for name in _run_in(ast.parse(path.read_text(encoding="utf-8")))}


def _run_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        words = _words(node)
        if "make" in words[:1] and "--dry-run" not in words:
            yield from words[1:2]


def _words(node: ast.AST) -> list[str]:
    """The texts of a list that is a command, or of a call of a function named make."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return _texts(items)
        case ast.Call(func=ast.Name(id="make"), args=items):
            return ["make", *_texts(items)]
        case _:
            return []


def _texts(items: list[ast.expr]) -> list[str]:
    return [element.value for element in items if isinstance(element, ast.Constant) and isinstance(element.value, str)]


def test_every_target_of_make_is_run_by_a_test() -> None:
    unrun = set(targets()) - run_by_tests() - set(EXEMPT)
    assert not unrun, f"no test runs make {', make '.join(sorted(unrun))}"


def test_no_target_is_exempt_that_does_not_exist_or_is_run() -> None:
    assert set(EXEMPT) <= set(targets()) - run_by_tests()

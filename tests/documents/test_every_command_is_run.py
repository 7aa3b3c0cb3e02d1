"""Every command in every document is run by a test, as it stands there.

`make`, `sam` and `aws` have files of their own beside this one, whose rules count here too. Any other command is run
where a test calls the_command(), the_block() or a Terminal with its page and its beginning: with the text that they
return, not with a copy of it.
"""

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.documents import test_aws_commands, test_make_targets_are_run, test_sam_commands
from tests.support.documents import (
    ROOT,
    ShownCommand,
    blocks,
    is_setting,
    languages,
    pages,
    prose,
    shown_commands,
    the_block,
    the_command,
)
from tests.support.making import targets

LANGUAGES = {"sh", "json", "mermaid", "python", "sql", "text"}
# What no test runs. Each with its reason.
EXEMPT = {
    ("docs/lab.md", "apt install nftables"): "it installs a package of the system; without it the lab says so",
    ("docs/lab.md", "python -m lab"): "tests/lab/test_command.py starts it with its options",
    ("docs/sam.md", "tools/package.py built"): "the name of a step, which docs/running.md shows with its arguments",
    ("docs/adr/0014-processor-and-snapshot.md", "tools/package.py built --for"): "the same",
    ("docs/adr/0017-the-lab-is-made-of-network-namespaces.md", "nft -f -"): "what the lab itself calls",
}


@cache
def typed_by_tests() -> set[ShownCommand]:
    """The commands whose text a test takes from its page to run it."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "documents"]
    files += [
        path for path in (ROOT / "tests/documents").glob("test_*.py") if path.name != "test_every_command_is_run.py"
    ]
    return {command for path in files for command in _typed_in(ast.parse(path.read_text(encoding="utf-8")))}


def _typed_in(tree: ast.AST) -> Iterator[ShownCommand]:
    for name, page, beginning in _calls(tree):
        if name in ("the_command", "types"):
            yield ShownCommand(page=page, text=the_command(page, beginning))
        if name == "every_example":
            yield from (
                ShownCommand(page=page, text=text)
                for block in blocks()
                if block.page == page
                for text in block.commands
            )
        if name in ("the_block", "types_block"):
            yield from (ShownCommand(page=page, text=text) for text in the_block(page, beginning).commands)


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name),
                args=[ast.Constant(value=str(page)), ast.Constant(value=str(beginning)), *_],
            ):
                yield name, page, beginning
            case ast.Call(func=ast.Name(id="every_example" as name), args=[ast.Constant(value=str(page))]):
                yield name, page, ""


@cache
def run_by_tests() -> frozenset[ShownCommand]:
    """Those of the documents that some test runs."""
    typed, others = typed_by_tests(), _with_tests_of_their_own()
    return frozenset(command for command in shown_commands() if command in typed or others(command))


@cache
def _with_tests_of_their_own() -> Callable[[ShownCommand], bool]:
    """Whether the files beside this one run a command of `make`, `sam` or `aws`; in a sentence one may be a name."""
    make_runs = test_make_targets_are_run.run_by_tests() | set(test_make_targets_are_run.EXEMPT)
    sam_runs = set(test_sam_commands.documented())
    aws_runs = {*test_aws_commands.run_in_blocks(), *test_aws_commands.quoted()}

    def is_run(command: ShownCommand) -> bool:
        words = shlex.split(command.text, comments=True)
        match words[0]:
            case "make":
                return words[1] in make_runs or words[1] not in targets()
            case "sam":
                return tuple(words[1:]) in sam_runs or not any(word.startswith("--") for word in words)
            case "aws":
                return command.text in aws_runs or "--" not in command.text
            case _:
                return command.text in aws_runs

    return is_run


def test_every_command_in_every_document_is_run_by_a_test() -> None:
    commands = shown_commands()
    assert len(commands) > 150
    missing = [command for command in commands if command not in run_by_tests()]
    missing = [command for command in missing if (command.page, command.text) not in EXEMPT]
    assert not missing, "\n".join(f"{command.page}: {command.text}" for command in missing)


def test_no_command_is_exempt_that_is_not_documented_or_is_run() -> None:
    assert set(EXEMPT) <= {(command.page, command.text) for command in set(shown_commands()) - run_by_tests()}


@pytest.mark.parametrize(
    "text",
    [
        "curl http://127.0.0.1:8080/v1/nothing",
        "openssl version",
        "for name in a b; do curl x; done",
        "VARIABLE=1 python3 -m nothing",
        'admin \'{"action": "nothing"}\'',
        "aws s3 rm s3://bucket --recursive",
        "sam build --nothing",
        "(cd folder && git status)",
    ],
)
def test_a_command_that_no_test_runs_is_found(text: str) -> None:
    command = ShownCommand(page="README.md", text=text)
    assert command not in typed_by_tests()
    assert not _with_tests_of_their_own()(command)
    assert not is_setting(text)


def test_every_program_in_a_document_is_run_by_a_test() -> None:
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    run = {page for text in files for page in re.findall(r'(?:the_program|every_example)\("([^"]+)"\)', text)}
    assert {page for page, language in languages() if language == "python"} == run


def test_every_block_says_its_language_and_no_command_stands_in_an_indented_one() -> None:
    assert {language for page, language in languages()} <= LANGUAGES, [
        page for page, language in languages() if language not in LANGUAGES
    ]
    indented = re.compile(r"^ {4,}(?:make|sam|aws|curl|docker|git|pip|python3?|output|admin|\$) ", re.MULTILINE)
    assert [page for page, text in prose().items() if indented.search(text)] == []
    assert pages().keys() >= {"README.md", "CONTRIBUTING.md", "docs/sam.md"}

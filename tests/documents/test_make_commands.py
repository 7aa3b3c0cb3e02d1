"""Every `make` command in a document is one that make takes, with the variables it is shown with."""

import subprocess

import pytest

from tests.support.documents import ROOT, commands

# Places of a document that stand for something: what a reader types there.
STANDS_FOR = {"...": "sallyport-dev", "name": "sallyport-dev", "region": "eu-central-1"}


def documented() -> list[tuple[str, ...]]:
    """The words behind `make`, each command once that has a variable: `make guard` in a sentence is a name.

    `make deploy` is left to tests/stack: even its dry run asks AWS.
    """
    typed = {tuple(_filled(word) for word in words[1:]) for _, words in commands("make")}
    return sorted(words for words in typed if len(words) > 1 and words[0] != "deploy")


def _filled(word: str) -> str:
    name, sign, value = word.partition("=")
    return f"{name}{sign}{STANDS_FOR.get(value, value)}"


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_make_takes_every_command_that_a_document_shows(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr

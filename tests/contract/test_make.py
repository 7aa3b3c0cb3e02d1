"""`make` explains itself, and says in one line what is wrong with a value, before it begins."""

import re
import subprocess
from fnmatch import fnmatch

import pytest

from tests.contract.project import ROOT

MAKEFILES = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
LINE_CHARACTERS = 120


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_help_has_every_target_that_is_described_once_and_every_group_once() -> None:
    told = make("help").stdout
    targets = [
        target for path in MAKEFILES for target in re.findall(r"^([\w-]+):.*## ", path.read_text(), re.MULTILINE)
    ]
    groups = re.findall(r"^\S.*$", told, re.MULTILINE)
    assert sorted(re.findall(r"^  make (\S+)", told, re.MULTILINE)) == sorted(targets)
    assert len(groups) == len(set(groups)) >= 5
    assert groups[0] == "Use it on this machine"


def test_files_add_to_the_groups_of_the_makefile_and_make_none_of_their_own() -> None:
    first, *others = [re.findall(r"^##@ (.+)$", path.read_text(), re.MULTILINE) for path in MAKEFILES]
    assert {group for groups in others for group in groups} <= set(first)


def test_no_line_of_help_is_too_long() -> None:
    assert [line for line in make("help").stdout.splitlines() if len(line) > LINE_CHARACTERS] == []


@pytest.mark.parametrize(
    ("target", "value", "words"),
    [
        ("deploy", "YES=please", "YES=please is neither yes nor no"),
        ("deploy", "NESTED=some", "NESTED=some is neither yes nor no"),
        ("cost", "WRITE=maybe", "WRITE=maybe is neither yes nor no"),
        ("chaos", "SEED=x1", "SEED=x1 is not a whole number, such as SEED=1"),
        ("chaos", "SECONDS=1.5", "SECONDS=1.5 is not a whole number, such as SECONDS=120"),
        ("bench", "ROWS=1e6", "ROWS=1e6 is not a whole number"),
        ("lab-fuzz", "N=-1", "N=-1 is not a whole number, such as N=100"),
        ("build", "ARCHITECTURE=amd64", "ARCHITECTURE=amd64 is not one of arm64, x86_64"),
    ],
)
def test_a_wrong_value_is_one_line_and_nothing_begins(target: str, value: str, words: str) -> None:
    done = make("--dry-run", target, value)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "***" in line]
    assert done.returncode != 0
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize(("value", "option"), [("0", "--seed=0"), ("120", "--seed=120"), ("", "")])
def test_a_number_is_passed_on_zero_included(value: str, option: str) -> None:
    shown = make("--eval=xyzzy: ; @echo $(call options_of,mutants)", "xyzzy", f"SEED={value}", "ONLY=")
    assert shown.stdout.strip() == option


def test_clean_deletes_all_that_git_ignores_but_the_data_of_make_run() -> None:
    """Python's own caches, which are everywhere, stay too."""
    deleted = make("--dry-run", "clean").stdout.split()
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split("\n") if line and line[0] != "#"}
    left = {name for name in ignored if not any(fnmatch(word, name) for word in deleted)}
    assert left == {".sallyport", "__pycache__", "*.pyc"}

"""`make` looks before it begins: a misspelt variable, a wrong value or something missing is one line, and no more."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stack.render import combinations
from tests.support.copies import copy_clone
from tests.support.making import make, taken, targets

# What the project's own scripts call, and no Python, container engine, nft or package manager.
TOOLS = ("sh", "bash", "make", "awk", "sed", "grep", "head", "dirname", "uname", "cat", "env", "tr", "rm", "mktemp")
TARGETS = sorted({*targets(), "check-format", "check-lint", "check-types", "check-imports"} - {"help"})
NEEDED = {
    "db-shell": "STACK=x",
    "deploy": "STAGE=dev",
    "preflight": "STAGE=dev",
    "protect": "STAGE=dev",
    "guard": "RECORDED=x",
    "status": "STAGE=dev",
}
NOBODY = {"HOME": "/nonexistent", "PYENV_ROOT": "/nonexistent"}
WITHOUT_PYTHON = ("clean", "certs")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is cloned: no environment is set up."""
    return copy_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of programs that has those alone without which there is no `make`."""
    folder = tmp_path_factory.mktemp("bin")
    for name in TOOLS:
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    return folder


def stopped(done: "subprocess.CompletedProcess[str]") -> str:
    """The only line that was said."""
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].endswith(".  Stop."), lines
    assert not lines[0].endswith("..  Stop."), lines
    return lines[0].split(" *** ", 1)[1].removesuffix(".  Stop.")


def placed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("target", [*TARGETS, "help"])
def test_no_target_takes_a_variable_that_its_help_does_not_name(target: str) -> None:
    assert f"make {target} takes no NONSENSICAL" in stopped(make(target, "NONSENSICAL=x"))


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target in targets() for name in dict.fromkeys(taken(target)) if name != "N"]
)
def test_a_misspelt_variable_is_answered_with_the_nearest_right_one(target: str, name: str) -> None:
    """A letter left out, in every name of every target."""
    for misspelt in (name[:-1], name[0] + name[2:], name + "S"):
        if misspelt not in taken(target):
            words = stopped(make(target, f"{misspelt}=x"))
            assert f"make {target} takes no {misspelt} (did you mean " in words
            assert f"It takes {', '.join(dict.fromkeys(taken(target)))}" in words


def test_the_variables_of_two_targets_may_be_given_to_both() -> None:
    assert make("--dry-run", "lab-fuzz", "cost", "N=1", "TOPOLOGY=on-premises").returncode == 0


@pytest.mark.parametrize("target", targets())
def test_a_misspelt_target_is_answered_with_the_nearest_right_one(target: str) -> None:
    """The last letter twice."""
    goal = target + target[-1]
    assert stopped(make("run", goal, "NONSENSICAL=x")) == f"there is no make {goal} (did you mean {target}?)"


def test_a_misspelt_target_alone_is_answered_too() -> None:
    assert stopped(make("tests")) == "there is no make tests (did you mean test?)"


def test_a_target_like_no_other_is_reported_by_make_and_a_file_is_made() -> None:
    assert "No rule to make target 'nonsensical'" in make("nonsensical", "NONSENSICAL=x").stderr
    assert make("--dry-run", ".venv/.ready-to-develop").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("lab TOPOLOGY=internal-onyl", "TOPOLOGY=internal-onyl is not one of public-private, internet-accessible,"),
        ("lab TOPOLOGY=internal-onyl", "(did you mean internal-only?)"),
        ("lab EGRESS=double", "EGRESS=double is not one of single, per-az, regional"),
        ("lab CONTROLS=maybe", "CONTROLS=maybe is neither yes nor no"),
        ("lab-shell TOPOLOGY=star", "TOPOLOGY=star is not one of"),
        ("lab-fuzz N=many", "N=many is not a whole number, such as N=100"),
        ("cost STAGE=beta", "STAGE=beta is not one of dev, staging, prod"),
        ("build ARCHITECTURE=arm", "ARCHITECTURE=arm is not one of arm64, x86_64"),
        ("deploy STAGE=prd", "STAGE=prd is not one of dev, staging, prod, internal (did you mean prod?)"),
        ("protect", "make protect needs STAGE=, one of dev, staging, prod, internal"),
        ("deploy", "make deploy needs STAGE=, one of dev, staging, prod, internal"),
        ("guard", "make guard needs CHANGE_SET= or RECORDED="),
        ("test ONLY=tests/uint", "ONLY=tests/uint: there is no tests/uint"),
        ("test ONLY=src/none.py::test_a", "there is no src/none.py"),
        ("cov ONLY=it's", "there is no it's"),
        ("mutants ONLY=src/db,src/bd", "ONLY=src/db,src/bd: there is no src/bd"),
        ("mutants TESTS=/nowhere", "TESTS=/nowhere: there is no /nowhere"),
        ("db-shell", "make db-shell needs STACK=, such as STACK=sallyport-dev"),
    ],
)
def test_a_wrong_or_missing_value_is_one_line_before_anything_is_set_up(
    copy: Path, bare: Path, arguments: str, words: str
) -> None:
    before = placed(copy)
    assert words in stopped(make(*arguments.split(), root=copy, environment=NOBODY | {"PATH": str(bare)}))
    assert placed(copy) == before


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in WITHOUT_PYTHON])
def test_without_a_python_each_target_says_so_in_one_line_and_sets_up_nothing(
    copy: Path, bare: Path, target: str
) -> None:
    before = placed(copy)
    given = [NEEDED[target]] if target in NEEDED else []
    words = stopped(make(target, *given, root=copy, environment=NOBODY | {"PATH": str(bare)}))
    assert words.startswith("Sallyport needs Python 3.13 or 3.12 and found neither")
    assert placed(copy) == before


@pytest.mark.parametrize(
    ("target", "program", "words"),
    [
        ("lab", "nft", "nft is not installed"),
        ("lab-fuzz", "unshare", "this machine lets no process make namespaces of its own"),
        ("lab-shell", "unshare", "this machine lets no process make namespaces of its own"),
        ("invoke", "docker", "no container engine is running"),
    ],
)
def test_what_a_machine_lacks_is_one_line_before_anything_is_set_up(
    copy: Path, bare: Path, tmp_path: Path, target: str, program: str, words: str
) -> None:
    """A Python is there, and the program refuses, or is not there."""
    before = placed(copy)
    for name in ("python3.13", "nft", "unshare", "docker"):
        does = "echo /python" if name == "python3.13" else "exit 1" if name == program else "exit 0"
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    if program == "nft":
        (tmp_path / "nft").unlink()
    done = make(target, root=copy, environment=NOBODY | {"PATH": f"{tmp_path}:{bare}", "LOOK_SBIN": "/nonexistent"})
    assert words in stopped(done)
    assert placed(copy) == before


def test_the_values_that_are_known_beforehand_are_those_of_the_templates() -> None:
    topologies = {combination.parameters["Topology"] for combination in combinations()}
    words = stopped(make("lab", "TOPOLOGY=x"))
    assert set(words.split(" is not one of ")[1].split(", ")) == topologies

"""`make build` and `make invoke` as a person types them: the packages that would be deployed, and that they run."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.contract.project import ROOT, load
from tests.support.copies import copy_project, has_no_container_engine
from tests.support.making import clean, make
from tests.support.terminal import Terminal
from tools.package import (
    MARKER,
    SHIPPED_SUFFIXES,
    architecture_of,
    check_binaries,
    check_bytecode,
    pinned,
    require_pins,
)

BUILD_SECONDS = 600  # where the shelf is empty pip fetches every dependency first
INVOKE_SECONDS = 1800  # the first one may have to make the image


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its environments."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def built(copy: Path) -> tuple[str, Mapping[str, Path]]:
    """What one `make build` printed, and each function's package that it made."""
    done = subprocess.run(
        ["make", "build"],
        cwd=copy,
        env=clean(),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    build = copy / ".aws-sam/build"
    packages = {
        ".".join(path.parent.relative_to(build).parts): path.parent for path in build.glob("**/*Function/handlers")
    }
    return done.stdout, packages


def test_make_build_makes_a_package_of_every_function_and_of_nothing_else(
    built: tuple[str, Mapping[str, Path]],
) -> None:
    assert built[1].keys() == load().functions().keys()


def test_each_package_contains_our_code_unchanged(built: tuple[str, Mapping[str, Path]]) -> None:
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.suffix in SHIPPED_SUFFIXES}
    assert ours
    for name, package in built[1].items():
        different = [path for path in ours if (package / path).read_bytes() != (ROOT / "src" / path).read_bytes()]
        assert not different, name


def test_each_package_holds_exactly_the_pinned_dependencies(built: tuple[str, Mapping[str, Path]]) -> None:
    for package in built[1].values():
        require_pins(ROOT / "src/requirements.txt", package)


def test_make_sbom_lists_what_each_package_holds(copy: Path, built: tuple[str, Mapping[str, Path]]) -> None:
    done = make("sbom", root=copy)
    assert done.returncode == 0, done.stderr
    listed = json.loads((copy / ".aws-sam/build/sallyport.cdx.json").read_text(encoding="utf-8"))["components"]
    assert {part["name"]: part["version"] for part in listed} == pinned(ROOT / "src/requirements.txt")
    assert all(part["hashes"] and part["licenses"] for part in listed)


def test_make_lock_writes_the_hashes_of_what_is_pinned(copy: Path) -> None:
    locked = copy / "src/requirements.lock"
    locked.unlink()
    done = make("lock", root=copy)
    assert done.returncode == 0, done.stderr
    assert locked.read_text(encoding="utf-8") == (ROOT / "src/requirements.lock").read_text(encoding="utf-8")


def test_each_package_is_for_the_templates_processor_and_has_bytecode_of_its_sources(
    built: tuple[str, Mapping[str, Path]],
) -> None:
    default = load().written("template.yaml")["Parameters"]["Architecture"]["Default"]
    for package in built[1].values():
        assert (package / MARKER).is_file()
        assert architecture_of(package) == default
        assert check_binaries(package) > 0
        assert check_bytecode(package) > 0


def test_the_built_template_names_each_package(copy: Path, built: tuple[str, Mapping[str, Path]]) -> None:
    build = copy / ".aws-sam/build"
    for name, package in built[1].items():
        template = build.joinpath(*name.split(".")[:-1], "template.yaml")
        function = yaml.safe_load(template.read_text())["Resources"][name.rpartition(".")[2]]
        assert (template.parent / function["Properties"]["CodeUri"]).resolve() == package.resolve()


@pytest.mark.usefixtures("built")
def test_the_check_of_the_packages_processor_runs_alone_as_the_page_shows(copy: Path) -> None:
    said = Terminal(directory=copy).types("docs/running.md", ".venv-sam/bin/python tools/package.py built")
    default = load().written("template.yaml")["Parameters"]["Architecture"]["Default"]
    assert said == f"{default}\n"


def test_make_build_says_what_it_checked(built: tuple[str, Mapping[str, Path]]) -> None:
    (line,) = [line for line in built[0].splitlines() if line.startswith(".aws-sam/build/ApiFunction: for ")]
    assert "MB zipped" in line
    assert "hash-checked bytecode" in line


@pytest.mark.skipif(
    has_no_container_engine(), reason="make invoke needs a running container engine, and `docker info` fails here"
)
def test_make_invoke_runs_all_functions_in_lambdas_image(copy: Path) -> None:
    done = subprocess.run(
        ["make", "invoke"],
        cwd=copy,
        env=clean(),
        capture_output=True,
        text=True,
        check=False,
        timeout=INVOKE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All functions run in Lambda's image.\n")

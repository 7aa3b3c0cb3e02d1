"""The packages that `sam build` makes: all of our code, none of the junk, bytecode that is what it says, and binaries
for one processor."""

import importlib.util
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.deploy.deployment import packages_sha256
from tests.contract.project import ROOT
from tools import package as packaging
from tools.package import PackageError

UNUSED = "aws_lambda_powertools/utilities/kafka/consumer.py"
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of our code alone, as `sam build` leaves it; dependencies need a package index."""

    def one_dependency(_requirements: Path, target: Path, _architecture: str) -> None:
        for name in ("bank/__init__.py", "bank/tests/test_bank.py", "bank/bank.pyi", "bin/bank", "cffi/api.py", UNUSED):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text("BALANCE = 0\n")

    monkeypatch.setattr(packaging, "install_locked", one_dependency)
    monkeypatch.setattr(packaging, "require_pins", lambda *_: None)  # it has tests of its own below
    monkeypatch.setattr(packaging, "LAMBDA_PYTHON", sys.version_info[:2])  # what runs the tests may be 3.12
    package = tmp_path / "build" / "ApiFunction"
    package.mkdir(parents=True)
    packaging.build(ROOT / "src", package, architecture="arm64")
    return package


def test_the_package_holds_all_code_certificates_and_migrations_and_nothing_else_of_src(built: Path) -> None:
    shipped = {
        path.relative_to(built) for path in built.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    source = {
        path.relative_to(ROOT / "src")
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    more = {Path("bank/__init__.py"), Path("ARCHITECTURE")}
    assert shipped == source - {Path("Makefile"), Path("requirements.txt"), Path("requirements.lock")} | more


def test_a_build_in_another_folder_on_another_day_is_the_same_byte_for_byte(built: Path, tmp_path: Path) -> None:
    source, package = tmp_path / "elsewhere/src", tmp_path / "elsewhere/build/ApiFunction"
    shutil.copytree(ROOT / "src", source)
    for path in source.rglob("*"):
        os.utime(path, (0, 0))
    package.mkdir(parents=True)
    packaging.build(source, package, architecture="arm64")
    assert packages_sha256(package / "template.yaml") == packages_sha256(built / "template.yaml")
    (package / "domain/errors.py").write_text("", encoding="utf-8")
    assert packages_sha256(package / "template.yaml") != packages_sha256(built / "template.yaml")


def test_no_part_that_is_left_out_is_imported_by_what_is_left() -> None:
    spec = importlib.util.find_spec("aws_lambda_powertools")
    assert spec is not None
    assert spec.origin is not None
    powertools = Path(spec.origin).parent
    left_out = {str(part.relative_to(powertools.name)) for part in packaging.UNUSED_PARTS}
    assert all((powertools / part).exists() for part in left_out)
    imported = re.compile(r"aws_lambda_powertools\.utilities\.(\w+)")
    for source in (*powertools.rglob("*.py"), *(ROOT / "src").rglob("*.py")):
        if not any(source.is_relative_to(powertools / part) for part in left_out):
            text = source.read_text(encoding="utf-8")
            only_with_pydantic = 'has_pydantic = "pydantic" in sys.modules' in text
            names = {f"utilities/{name}" for name in imported.findall(text)}
            assert not names & left_out - ({"utilities/parser"} if only_with_pydantic else set()), source


def test_every_source_has_bytecode_of_its_very_text(built: Path) -> None:
    assert packaging.check_bytecode(built) == len(list(built.rglob("*.py"))) > 30


def test_a_source_that_changed_after_it_was_compiled_is_noticed(built: Path) -> None:
    (built / "domain/retry.py").write_text("LIMIT = 0\n")
    with pytest.raises(PackageError, match="another version of"):
        packaging.check_bytecode(built)


def test_a_missing_bytecode_is_noticed(built: Path) -> None:
    next((built / "domain/__pycache__").glob("retry.*.pyc")).unlink()
    with pytest.raises(PackageError, match="has no bytecode"):
        packaging.check_bytecode(built)


@pytest.mark.parametrize("mode", [mode for mode in py_compile.PycInvalidationMode if mode != UNCHECKED])
def test_bytecode_that_lambda_would_compare_or_throw_away_is_noticed(
    built: Path, mode: py_compile.PycInvalidationMode
) -> None:
    py_compile.compile(str(built / "domain/retry.py"), invalidation_mode=mode, doraise=True)
    with pytest.raises(PackageError, match="not unchecked-hash bytecode"):
        packaging.check_bytecode(built)


def test_tracebacks_name_the_place_on_lambda(built: Path) -> None:
    bytecode = next((built / "domain/__pycache__").glob("retry.*.pyc")).read_bytes()
    assert b"/var/task/domain/retry.py" in bytecode
    assert str(built).encode() not in bytecode


def test_a_second_build_takes_the_dependencies_of_the_first(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_requirements: Path, _target: Path, _architecture: str) -> None:
        raise AssertionError("installed again")

    monkeypatch.setattr(packaging, "install_locked", never)
    other = built.parent / "AdminFunction"
    other.mkdir()
    packaging.build(ROOT / "src", other, architecture="arm64")
    assert packaging.check_bytecode(other) == packaging.check_bytecode(built)


def test_the_dependencies_of_two_processors_lie_side_by_side(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def note(_requirements: Path, target: Path, architecture: str) -> None:
        asked.append(architecture)
        target.mkdir()

    monkeypatch.setattr(packaging, "install_locked", note)
    for name, architecture in (("One", "x86_64"), ("Two", "arm64"), ("Three", "x86_64")):
        (built.parent / name).mkdir()
        packaging.build(ROOT / "src", built.parent / name, architecture=architecture)
    assert asked == ["x86_64"]
    shelf = [path.name.partition("-")[0] for path in (built.parents[1] / "dependencies").iterdir() if path.is_dir()]
    assert sorted(shelf) == ["arm64", "x86_64"]


def elf(machine: int) -> bytes:
    """The beginning of a shared object for a machine: e_ident, e_type, e_machine."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(44)


def test_a_binary_of_another_processor_is_noticed_whatever_its_name(built: Path) -> None:
    (built / "libs").mkdir()
    (built / "libs/libssl.so.3").write_bytes(elf(183))
    assert packaging.check_binaries(built) == 1
    (built / "libs/helper").write_bytes(elf(62))
    with pytest.raises(PackageError, match=r"libs/helper is not for arm64 .*62"):
        packaging.check_binaries(built)


def test_an_environment_that_asks_for_another_processor_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        sys.executable,
        str(ROOT / "tools/package.py"),
        "build",
        str(ROOT / "src"),
        str(tmp_path),
        "--for",
        "arm64",
    ]
    monkeypatch.setenv("ARCHITECTURE", "x86_64")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sam build --parameter-overrides Architecture=x86_64, or unset ARCHITECTURE" in done.stderr
    assert list(tmp_path.iterdir()) == []
    for said in ("arm64", ""):
        monkeypatch.setenv("ARCHITECTURE", said)
        packaging.require_same_architecture("arm64")


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_makefile_builds_for_the_processor_whose_directory_it_runs_in(architecture: str) -> None:
    """As SAM runs it: by its path, in the function's WorkingDirectory."""
    command = ["make", "--dry-run", "--makefile", str(ROOT / "src/Makefile"), "build-ApiFunction"]
    directory = ROOT / "tools/processors" / architecture
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    assert f'--for "{architecture}"' in done.stdout
    assert f'cd "{ROOT}"' in done.stdout


def test_a_makefile_that_runs_elsewhere_does_not_guess_a_processor(tmp_path: Path) -> None:
    command = ["make", "--makefile", str(ROOT / "src/Makefile"), "build-ApiFunction", f"ARTIFACTS_DIR={tmp_path}"]
    done = subprocess.run([*command, f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "invalid choice" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_whole_build_is_for_one_processor(built: Path) -> None:
    assert packaging.built_architecture(built.parent) == "arm64"
    other = built.parent / "AdminFunction"
    (other / "handlers").mkdir(parents=True)
    with pytest.raises(PackageError, match="does not say which processor"):
        packaging.built_architecture(built.parent)
    (other / "ARCHITECTURE").write_text("x86_64\n")
    with pytest.raises(PackageError, match="packages for arm64 and x86_64"):
        packaging.built_architecture(built.parent)


def test_a_build_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"there are no packages in .*: run make build first"):
        packaging.built_architecture(tmp_path / "build")


def test_a_build_for_another_processor_than_the_deployment_s_is_refused(built: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/package.py"), "built", str(built.parent)]
    fitting = subprocess.run([*command, "--for", "arm64"], capture_output=True, text=True, check=False)
    assert (fitting.returncode, fitting.stdout) == (0, "arm64\n")
    other = subprocess.run([*command, "--for", "x86_64"], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "make build ARCHITECTURE=x86_64" in other.stderr
    assert "Architecture=arm64" in other.stderr


def installed(directory: Path, **versions: str) -> Path:
    """A directory as pip leaves it."""
    for name, version in versions.items():
        (directory / f"{name}-{version}.dist-info").mkdir(parents=True)
        (directory / f"{name}-{version}.dist-info/METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    return directory


def test_an_older_version_than_the_pinned_one_is_noticed(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("psycopg-binary==3.3.9  # a reason\ncryptography==50.0.2\n")
    packaging.require_pins(requirements, installed(tmp_path / "right", psycopg_binary="3.3.9", cryptography="50.0.2"))
    with pytest.raises(PackageError, match=r"3\.2\.13"):
        packaging.require_pins(
            requirements, installed(tmp_path / "older", psycopg_binary="3.2.13", cryptography="50.0.2")
        )
    with pytest.raises(PackageError, match="cryptography"):
        packaging.require_pins(requirements, installed(tmp_path / "fewer", psycopg_binary="3.3.9"))


def test_only_this_machine_s_processor_runs_here() -> None:
    here = {"x86_64": "x86_64", "aarch64": "arm64"}.get(os.uname().machine)
    running = [name for name in ("arm64", "x86_64") if packaging.runs_here(name)]
    assert running == ([here] if here and sys.platform == "linux" else [])


def test_code_that_is_no_python_stops_the_build(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "requirements.txt").write_bytes((ROOT / "src/requirements.txt").read_bytes())
    (source / "broken.py").write_text("def handler(:\n")
    package = built.parent / "BrokenFunction"
    package.mkdir()
    with pytest.raises(PackageError, match="not every file"):
        packaging.build(source, package, architecture="arm64")


def test_what_is_imported_without_bytecode_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers/__init__.py").touch()
    (tmp_path / "handlers/api.py").write_text("def handler(event, context): ...\n")
    with pytest.raises(PackageError, match="imported without bytecode"):
        packaging.check_imports(tmp_path)


def test_a_handler_that_cannot_be_imported_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers/__init__.py").touch()
    (tmp_path / "handlers/api.py").write_text("import no_such_module\n")
    with pytest.raises(PackageError, match="no_such_module"):
        packaging.check_imports(tmp_path)


def test_another_python_than_lambdas_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packaging, "LAMBDA_PYTHON", (3, 1))
    with pytest.raises(PackageError, match="needs Python 3"):
        packaging.build(ROOT / "src", tmp_path, architecture="arm64")

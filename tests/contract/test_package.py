"""The packages that `sam build` makes: all of our code, none of the junk, and bytecode that is what it says."""

import py_compile
import sys
from pathlib import Path

import pytest

from tests.contract.project import ROOT
from tools import package as packaging
from tools.package import PackageError

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of our code alone, as `sam build` leaves it; dependencies need a package index."""

    def one_dependency(_requirements: Path, target: Path) -> None:
        for name in ("bank/__init__.py", "bank/tests/test_bank.py", "bank/bank.pyi", "bin/bank", "cffi/api.py"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text("BALANCE = 0\n")

    monkeypatch.setattr(packaging, "_install", one_dependency)
    monkeypatch.setattr(packaging, "LAMBDA_PYTHON", sys.version_info[:2])  # what runs the tests may be 3.12
    package = tmp_path / "build" / "ApiFunction"
    package.mkdir(parents=True)
    packaging.build(ROOT / "src", package)
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
    assert shipped == source - {Path("Makefile"), Path("requirements.txt")} | {Path("bank/__init__.py")}


def test_every_source_has_bytecode_of_its_very_text(built: Path) -> None:
    assert packaging.check_bytecode(built) == len(list(built.rglob("*.py"))) > 30


def test_a_source_that_changed_after_it_was_compiled_is_noticed(built: Path) -> None:
    (built / "domain/retry.py").write_text("LIMIT = 0\n")
    with pytest.raises(PackageError, match="another text than"):
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
    def never(_requirements: Path, _target: Path) -> None:
        raise AssertionError("installed again")

    monkeypatch.setattr(packaging, "_install", never)
    other = built.parent / "AdminFunction"
    other.mkdir()
    packaging.build(ROOT / "src", other)
    assert packaging.check_bytecode(other) == packaging.check_bytecode(built)


def test_code_that_is_no_python_stops_the_build(built: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "requirements.txt").write_bytes((ROOT / "src/requirements.txt").read_bytes())
    (source / "broken.py").write_text("def handler(:\n")
    package = built.parent / "BrokenFunction"
    package.mkdir()
    with pytest.raises(PackageError, match="not every file"):
        packaging.build(source, package)


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
        packaging.build(ROOT / "src", tmp_path)

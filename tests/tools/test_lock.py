"""What ships is installed by its hashes, and listed part by part."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import package, sbom
from tools.package import LOCK, PackageError, pinned

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "src/requirements.txt"


def test_the_lock_has_the_pins_and_a_hash_for_each_processor_at_most() -> None:
    assert pinned(REQUIREMENTS.with_name(LOCK)) == pinned(REQUIREMENTS), "run make lock"
    hashes = sbom.hashes_of(REQUIREMENTS.with_name(LOCK))
    assert {name for name, found in hashes.items() if not 1 <= len(found) <= len(package.WHEEL_MACHINES)} == set()
    assert {name for name, found in hashes.items() if len(found) == 2} == {
        "cffi",
        "cryptography",
        "msgspec",
        "psycopg-binary",
        "pycurl",
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="missing"),
        pytest.param("jmespath==1.0.1 --hash=sha256:" + "0" * 64, id="of another version"),
    ],
)
def test_without_its_hashes_nothing_is_installed(text: str | None, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("jmespath==1.1.0\n")
    if text is not None:
        (tmp_path / LOCK).write_text(text)
    with pytest.raises(PackageError, match="make lock"):
        package.install_locked(tmp_path / "requirements.txt", tmp_path / "installed", "arm64")


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("jmespath==1.1.0\n")
    (tmp_path / LOCK).write_text("jmespath==1.1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(PackageError, match="pip could not install"):
        package.install_locked(tmp_path / "requirements.txt", tmp_path / "installed", "arm64")
    assert not (tmp_path / "installed").exists()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A package of two dependencies as they are installed here, beside which nothing is."""
    directory = tmp_path / "build/ApiFunction"
    directory.mkdir(parents=True)
    for name in ("jmespath-1.1.0.dist-info", "msgspec-0.22.0.dist-info"):
        shutil.copytree(Path(msgspec.__file__).parents[1] / name, directory / name)
    return directory


def test_the_list_of_parts_is_cyclonedx_with_hash_and_licence(built: Path) -> None:
    assert sbom.main([str(built)]) == 0
    text = (built.parent / sbom.PARTS).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    jmespath, of_msgspec = json.loads(text)["components"]
    assert jmespath["purl"] == "pkg:pypi/jmespath@1.1.0"
    assert jmespath["licenses"] == [{"license": {"id": "MIT"}}]
    assert [entry["alg"] for entry in of_msgspec["hashes"]] == ["SHA-256", "SHA-256"]


def test_the_same_package_has_the_same_list(built: Path) -> None:
    locked = REQUIREMENTS.with_name(LOCK)
    assert sbom.parts(built, locked) == sbom.parts(built, locked)


def test_without_a_package_the_next_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main([str(tmp_path / "nothing")]) == 1
    assert "Run make build first" in capsys.readouterr().err

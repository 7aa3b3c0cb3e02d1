"""Sealing: what is sealed opens for its purpose, its row and its key alone; and where the key comes from."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.auth import AuthType
from domain.errors import Unsealable
from domain.ids import DestinationId
from egress.seal_keys import SealKeys, load_seal_keys
from egress.sealing import SealKey, seal, unseal
from runtime.settings import SealKeySettings, SettingsError

KEY = SealKey(bytes(range(32)))
HERE = DestinationId(UUID(int=1))
SECRET_TEXT = "0123456789abcdef0123456789abcdef"
PURPOSES = (*AuthType, "certificate", "signing")


def test_each_purpose_opens_its_own_values_only() -> None:
    for purpose in PURPOSES:
        sealed = seal(b"secret", purpose=purpose, destination_id=HERE, key=KEY)
        assert unseal(sealed, purpose=purpose, destination_id=HERE, keys=[KEY]) == b"secret"
        for other in set(PURPOSES) - {purpose}:
            with pytest.raises(Unsealable, match=str(HERE)):
                unseal(sealed, purpose=other, destination_id=HERE, keys=[KEY])


def test_an_empty_secret_is_sealed_like_any() -> None:
    sealed = seal(b"", purpose="signing", destination_id=HERE, key=KEY)
    assert unseal(sealed, purpose="signing", destination_id=HERE, keys=[KEY]) == b""


def test_a_key_derived_from_a_text_is_hkdf_sha256_of_it() -> None:
    expected = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"sallyport seal key 1")
    assert SealKey.derived_from(SECRET_TEXT).secret == expected.derive(SECRET_TEXT.encode())


def test_weak_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SealKey(b"short")
    with pytest.raises(ValueError, match="32 characters"):
        SealKey.derived_from(SECRET_TEXT[:-1])


def test_no_function_loads_what_few_attempts_need_when_it_starts(repository: Path) -> None:
    """The library has the largest binary of the package."""
    functions = [path.stem for path in sorted((repository / "src/handlers").glob("*.py")) if path.stem != "__init__"]
    late = {"cryptography", "flows.oauth", "egress.oauth", "egress.aws_signature"}
    imports = ", ".join(f"handlers.{name}" for name in functions)
    program = f"import sys, {imports}; assert not {late} & sys.modules.keys(), {late} & sys.modules.keys()"
    environment = {"PYTHONPATH": str(repository / "src"), "POWERTOOLS_SERVICE_NAME": "sallyport"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdin=subprocess.DEVNULL)


def test_a_private_key_file_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    file.write_text(f"{SECRET_TEXT}\n")
    file.chmod(0o600)
    assert load_seal_keys(SealKeySettings(seal_key_file=str(file))) == SealKeys(texts=(SECRET_TEXT,))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o400, 0o700])
def test_a_key_file_of_another_mode_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "seal.key"
    file.write_text(SECRET_TEXT)
    file.chmod(mode)
    with pytest.raises(SettingsError, match="SEAL_KEY_FILE must be of mode 0600") as caught:
        load_seal_keys(SealKeySettings(seal_key_file=str(file)))
    assert SECRET_TEXT not in str(caught.value)


def test_a_key_file_of_someone_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "seal.key"
    file.write_text(SECRET_TEXT)
    file.chmod(0o600)
    monkeypatch.setattr("os.geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(SettingsError, match="owned by us"):
        load_seal_keys(SealKeySettings(seal_key_file=str(file)))


def test_a_key_file_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    with pytest.raises(SettingsError, match="SEAL_KEY_FILE cannot be read"):
        load_seal_keys(SealKeySettings(seal_key_file=str(file)))
    file.write_bytes(b"\xff" * 40)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="SEAL_KEY_FILE cannot be read"):
        load_seal_keys(SealKeySettings(seal_key_file=str(file)))


def test_a_key_file_with_too_little_in_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    file.write_text("short")
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"SEAL_KEY_FILE: .*32 characters"):
        load_seal_keys(SealKeySettings(seal_key_file=str(file)))


def test_a_key_must_be_set_somewhere() -> None:
    with pytest.raises(SettingsError, match="SEAL_KEY_SECRET_ARN must be set"):
        load_seal_keys(SealKeySettings())

"""The local secret that credentials are sealed with: of the shape that the template has Secrets Manager make."""

import stat
import string
from pathlib import Path

import pytest

from egress.seal_keys import SealKeys, load_seal_keys
from local.errors import Advice, LocalError
from local.seal_key import generated, make_seal_key
from local.template import SecretTemplate, Template
from runtime.settings import SealKeySettings

TEXT = SecretTemplate(length=64, kinds=("Lowercase", "Uppercase", "Numbers"))


@pytest.fixture
def told() -> list[str]:
    return []


def made(path: Path, told: list[str], template: SecretTemplate = TEXT) -> SealKeys:
    make_seal_key(path, template, report=told.append)
    return load_seal_keys(SealKeySettings(seal_key_file=str(path)))


def test_the_templates_secret_is_the_local_one(repository: Path) -> None:
    assert Template(repository / "template.yaml").secrets() == {"SealKey": TEXT}


def test_a_secret_has_the_templates_length_and_every_kind_of_character() -> None:
    for _ in range(50):
        text = generated(TEXT)
        assert len(text) == 64
        assert set(text) <= set(string.ascii_letters + string.digits)
    shortest = generated(SecretTemplate(length=4, kinds=(*TEXT.kinds, "Punctuation")))
    assert any(character in string.punctuation for character in shortest)
    assert any(character in string.digits for character in shortest)


def test_what_is_not_acted_out_of_a_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    properties = "{GenerateSecretString: {IncludeSpace: true}}"
    path.write_text(f"Resources: {{Key: {{Type: AWS::SecretsManager::Secret, Properties: {properties}}}}}")
    with pytest.raises(ValueError, match="IncludeSpace"):
        Template(path).secrets()


def test_the_functions_read_it_and_it_stays(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "seal.key"
    first = made(path, told)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made(path, told) == first
    assert told == []


def test_the_bytes_of_an_earlier_version_are_set_aside_and_replaced(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(b"\xff" + bytes(31))
    path.chmod(0o600)
    key = made(path, told)
    assert made(path, told) == key
    assert (tmp_path / "seal.key.unusable").read_bytes() == b"\xff" + bytes(31)
    (line,) = told
    assert "earlier version" in line


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"\xff" * 40, 0o600), (b"x" * 40, 0o644)])
def test_any_other_file_that_is_no_key_is_one_clear_line_and_stays(
    tmp_path: Path, told: list[str], content: bytes, mode: int
) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(LocalError, match=r"^The seal key is not usable: ") as refused:
        made(path, told)
    assert "\n" not in str(refused.value)
    assert refused.value.advice is Advice.START_OVER
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]

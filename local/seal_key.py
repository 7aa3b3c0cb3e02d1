"""The secret that credentials are sealed with, on this machine: a file with a text as Secrets Manager generates it."""

import secrets
import string
from collections.abc import Callable
from pathlib import Path

from egress.seal_keys import load_seal_keys
from egress.sealing import KEY_BYTES
from local.errors import Advice, LocalError
from local.files import write_private
from local.template import SecretTemplate
from runtime.settings import SealKeySettings, SettingsError


def generated(template: SecretTemplate) -> str:
    """A secret of the template's length and kinds of characters, each kind at least once, as Secrets Manager has it."""
    kinds = tuple(_KINDS[name] for name in template.kinds)
    while True:
        text = "".join(secrets.choice("".join(kinds)) for _ in range(template.length))
        if all(set(kind) & set(text) for kind in kinds):
            return text


def make_seal_key(path: Path, template: SecretTemplate, *, report: Callable[[str], None]) -> None:
    """Write the key unless it is there. Raises LocalError for a file that the functions could not use.

    Earlier versions wrote 32 random bytes, with which nothing could be sealed: such a file is set aside.
    """
    if path.exists() and _holds_bytes(path):
        aside = path.with_name(f"{path.name}.unusable")
        path.rename(aside)
        report(f"The seal key of an earlier version was no text, and sealed nothing: replaced (kept as {aside.name}).")
    if not path.exists():
        write_private(path, generated(template).encode("ascii"))
    try:
        load_seal_keys(SealKeySettings(seal_key_file=str(path)))
    except SettingsError as error:
        raise LocalError(f"The seal key is not usable: {error}.", advice=Advice.START_OVER) from None


def _holds_bytes(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False  # load_seal_keys says what is wrong with it
    return len(content) == KEY_BYTES and not content.isascii()


# Secrets Manager API reference, GetRandomPassword: ExcludePunctuation names these.
_KINDS = {
    "Lowercase": string.ascii_lowercase,
    "Uppercase": string.ascii_uppercase,
    "Numbers": string.digits,
    "Punctuation": string.punctuation,
}

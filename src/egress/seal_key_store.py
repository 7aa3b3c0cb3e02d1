"""Changes the secret that has the seal keys: for the rotation of the key, which alone does that.

A version of the secret is replaced by the next one only where it still is the current one, so that of two rotations at
once neither undoes what the other did.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import string
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from domain.errors import SecretUnavailable
from domain.values import value_class
from egress.seal_keys import SealKeys, private_text, read_keys, secret_text, written_keys
from egress.sealing import SealKey
from runtime.aws import AwsCallFailed, call
from runtime.settings import SealKeySettings, SettingsError

TEXT_CHARACTERS = 64  # as template.yaml has Secrets Manager make the first one
_ALPHABET = string.ascii_letters + string.digits
_WRITE_SECONDS = 5.0
_RETRY_AFTER_SECONDS = 5
_TAKEN = "ResourceExistsException"


@value_class(frozen=True, slots=True, kw_only=True)
class StoredKeys:
    """The keys as they are, and the version of the secret that has them."""

    keys: SealKeys
    version: str


class KeysChanged(Exception):
    """Somebody else changed the secret meanwhile: nothing was written."""


class SealKeyStore:
    """The secret, or the file, of the settings. `endpoint_url` is for an API that is not AWS's own."""

    def __init__(self, settings: SealKeySettings, *, endpoint_url: str = "") -> None:
        if not settings.seal_key_file and not settings.seal_key_secret_arn:
            raise SettingsError("SEAL_KEY_SECRET_ARN must be set (or SEAL_KEY_FILE, on a developer's machine)")
        self._file = Path(settings.seal_key_file) if settings.seal_key_file else None
        self._arn = settings.seal_key_secret_arn
        self._endpoint_url = endpoint_url

    def read(self) -> StoredKeys:
        """Raises SettingsError and SecretUnavailable."""
        if self._file is not None:
            text = private_text(self._file)
            return StoredKeys(keys=read_keys(text, source="SEAL_KEY_FILE"), version=_digest(text))
        text, version = secret_text(self._arn, endpoint_url=self._endpoint_url)
        return StoredKeys(keys=read_keys(text, source="SEAL_KEY_SECRET_ARN"), version=version)

    def replace(self, stored: StoredKeys, keys: SealKeys) -> None:
        """Writes `keys` in place of what `stored` says. Raises KeysChanged, SettingsError and SecretUnavailable."""
        if self._file is not None:
            _replace_file(self._file, written_keys(keys), version=stored.version)
        else:
            self._put(written_keys(keys), instead_of=stored.version)

    def _put(self, text: str, *, instead_of: str) -> None:
        """The id of a version is the token of the call that made it, and with another text the same token is refused
        (Secrets Manager API reference, PutSecretValue). So whatever comes after a version is made once."""
        payload = {
            "SecretId": self._arn,
            "ClientRequestToken": str(uuid5(NAMESPACE_URL, f"sallyport seal key after {instead_of}")),
            "SecretString": text,
        }
        try:
            call(
                "secretsmanager",
                "secretsmanager.PutSecretValue",
                payload,
                endpoint_url=self._endpoint_url,
                timeout_seconds=_WRITE_SECONDS,
            )
        except AwsCallFailed as failure:
            if failure.code == _TAKEN:
                raise KeysChanged from None
            raise SecretUnavailable(
                f"Secrets Manager: {failure.code}", retry_after_seconds=_RETRY_AFTER_SECONDS
            ) from None


def new_text(present: SealKeys) -> str:
    """A random text for one more key, whose id is none of the present keys'."""
    known = {key.key_id for key in present.keys}
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(TEXT_CHARACTERS))
        if SealKey.derived_from(text).key_id not in known:
            return text


def _replace_file(path: Path, text: str, *, version: str) -> None:
    """The next file takes the place of the present one in one step, once it is on the disk: whoever reads meanwhile
    reads one of the two."""
    following = path.with_name(f"{path.name}.next")
    try:
        with _locked(path):
            if _digest(private_text(path)) != version:
                raise KeysChanged
            following.unlink(missing_ok=True)  # of one that stopped in between
            with os.fdopen(os.open(following, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            following.rename(path)
            _sync(path.parent)
    except OSError as error:
        raise SettingsError(f"SEAL_KEY_FILE cannot be replaced: {path}: {error}") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with os.fdopen(os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

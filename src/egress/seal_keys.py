"""The keys that secrets are sealed with: where they are kept, and how a process gets them.

One secret has them all: in Secrets Manager, or on a developer's machine in a file. It begins as a random text, which
is the one key. When the key is rotated it becomes JSON, of which the first key seals and all open:

    {"version": 1, "keys": ["...", "..."], "step": "sealing", "at": "2026-11-28T06:00:00Z", "allowlist_seed": "..."}

`allowlist_seed`, in base64, is that of the allowlist's key from before the first rotation, which partners know.
"""

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import msgspec

from domain.errors import SecretUnavailable
from domain.values import value_class
from egress.sealing import SealKey, key_id_of
from runtime.aws import AwsCallFailed, call
from runtime.settings import SealKeySettings, SettingsError

FRESH_SECONDS = 60.0  # with keys that were fetched longer ago nothing is sealed, as there may be a new one
STALE_SECONDS = 1800.0  # unless they cannot be fetched; flows/rotate_seal_key.py retires a key after twice as long
AGAIN_SECONDS = 30.0  # between two tries to find out about a key that is not known
MOST_KEYS = 5
_SECRET_SECONDS = 5.0
_RETRY_AFTER_SECONDS = 5
_SEED_BYTES = 32
_NOT_KEYS = (
    "is neither a random text nor JSON of seal keys as docs/people-and-database.md describes it (The seal key); "
    "its value is not shown"
)


class KeyStep(StrEnum):
    """How far a rotation is. `settled` is before and after one; `announced`: the last key is new and opens, the first
    one seals; `sealing`: the first key is new and seals; `resealed`: nothing was left that another key had sealed."""

    SETTLED = "settled"
    ANNOUNCED = "announced"
    SEALING = "sealing"
    RESEALED = "resealed"


@value_class(frozen=True, slots=True, kw_only=True)
class SealKeys:
    """The first of the `texts` is what the key is derived from that seals; values of any of them open. `at` is when
    this step began, None where nothing was ever rotated."""

    texts: tuple[str, ...] = field(repr=False)
    step: KeyStep = KeyStep.SETTLED
    at: datetime | None = None
    kept_seed: bytes | None = field(default=None, repr=False)

    @property
    def keys(self) -> tuple[SealKey, ...]:
        """The first one seals. Raises ValueError for a text that is too short."""
        return tuple(map(SealKey.derived_from, self.texts))

    @property
    def allowlist_seed(self) -> bytes:
        """Of the key that signs the allowlist, which no rotation changes."""
        return self.kept_seed or SealKey.derived_from(self.texts[0]).allowlist_seed


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    keys: list[str]
    step: KeyStep = KeyStep.SETTLED
    at: datetime | None = None
    allowlist_seed: bytes | None = None


def read_keys(text: str, *, source: str) -> SealKeys:
    """The keys of a secret. Raises SettingsError, which names `source` and repeats nothing of the secret."""
    keys = _from_json(text, source=source) if text.startswith("{") else SealKeys(texts=(text,))
    try:
        ids = {key.key_id for key in keys.keys}
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None
    if not 1 <= len(ids) == len(keys.texts) <= MOST_KEYS or len(keys.allowlist_seed) != _SEED_BYTES:
        raise SettingsError(f"{source} must have 1 to {MOST_KEYS} different keys; its value is not shown")
    return keys


def written_keys(keys: SealKeys) -> str:
    """The text of a secret that `read_keys` reads as these."""
    written = _Written(version=1, keys=list(keys.texts), step=keys.step, at=keys.at, allowlist_seed=keys.allowlist_seed)
    return msgspec.json.encode(written).decode()


def load_seal_keys(settings: SealKeySettings, *, endpoint_url: str = "") -> SealKeys:
    """The keys from `seal_key_file`, or else out of the secret `seal_key_secret_arn`.

    Raises SettingsError when neither is set, or the file is not a private one of ours, or its text no keys;
    SecretUnavailable when Secrets Manager does not return the secret. `endpoint_url` is for an API that is not AWS's
    own.
    """
    if settings.seal_key_file:
        return read_keys(private_text(Path(settings.seal_key_file)), source="SEAL_KEY_FILE")
    if settings.seal_key_secret_arn:
        text, _ = secret_text(settings.seal_key_secret_arn, endpoint_url=endpoint_url)
        return read_keys(text, source="SEAL_KEY_SECRET_ARN")
    raise SettingsError("SEAL_KEY_SECRET_ARN must be set (or SEAL_KEY_FILE, on a developer's machine)")


class SealKeyRing:
    """The keys of this process: fetched at their first use, and again where a value was sealed with one that is not
    known, or before one of them seals that may not be the one to seal with any more. Safe to use from many threads."""

    def __init__(self, load: Callable[[], SealKeys], *, clock: Callable[[], datetime]) -> None:
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: SealKeys | None = None
        self._by_id: dict[bytes, list[SealKey]] = {}
        self._loaded_at = self._tried_at = datetime.min.replace(tzinfo=UTC)

    def ready(self) -> "SealKeyRing":
        """Itself, once it has keys. Raises SecretUnavailable and SettingsError."""
        if self._keys is None:
            with self._lock:
                if self._keys is None:
                    self._fetch()
        return self

    def opening(self, sealed: bytes | None) -> list[SealKey]:
        """The key that opens `sealed`, in a list; an empty one where there is none, or nothing to open.

        Raises SecretUnavailable and SettingsError where no key was ever fetched.
        """
        if sealed is None:
            return []
        self.ready()
        found = self._by_id.get(key_id_of(sealed))
        return self._looked_again(key_id_of(sealed)) if found is None else found

    @property
    def sealing(self) -> SealKey:
        """The key that seals. Raises SecretUnavailable and SettingsError."""
        return self._fresh().keys[0]

    @property
    def allowlist_seed(self) -> bytes:
        """Of the key that signs the allowlist. Raises SecretUnavailable and SettingsError."""
        return self._fresh().allowlist_seed

    def _looked_again(self, key_id: bytes) -> list[SealKey]:
        """Once in AGAIN_SECONDS, however many values of a key are met that nobody knows."""
        with self._lock:
            if key_id not in self._by_id and self._clock() - self._tried_at >= timedelta(seconds=AGAIN_SECONDS):
                try:
                    self._fetch()
                except (SecretUnavailable, SettingsError):
                    return []
            return self._by_id.get(key_id, [])

    def _fresh(self) -> SealKeys:
        with self._lock:
            now = self._clock()
            if self._keys is None:
                return self._fetch()
            if now - self._loaded_at < timedelta(seconds=FRESH_SECONDS):
                return self._keys
            is_stale = now - self._loaded_at >= timedelta(seconds=STALE_SECONDS)
            if is_stale or now - self._tried_at >= timedelta(seconds=AGAIN_SECONDS):
                try:
                    return self._fetch()
                except (SecretUnavailable, SettingsError):
                    if is_stale:
                        raise
            return self._keys

    def _fetch(self) -> SealKeys:
        began_at = self._tried_at = self._clock()
        keys = self._load()
        self._by_id = {key.key_id: [key] for key in keys.keys}
        self._keys, self._loaded_at = keys, began_at
        return keys


def _from_json(text: str, *, source: str) -> SealKeys:
    try:
        written = msgspec.json.decode(text, type=_Written)
    except ValueError:
        raise SettingsError(f"{source} {_NOT_KEYS}") from None
    if written.version != 1 or not written.keys:
        raise SettingsError(f"{source} {_NOT_KEYS}")
    return SealKeys(texts=tuple(written.keys), step=written.step, at=written.at, kept_seed=written.allowlist_seed)


def private_text(path: Path) -> str:
    """The text of a file that only its owner, this user, may read. The checks are made on the open file, not on its
    name. Raises SettingsError."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o600:
                raise SettingsError(f"SEAL_KEY_FILE must be of mode 0600 and owned by us: {path} is not (chmod 600 it)")
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"SEAL_KEY_FILE cannot be read: {path}: {_told(error)}") from None


def _told(error: OSError | UnicodeDecodeError) -> str:
    """The text of the second kind would show bytes of the file."""
    return str(error) if isinstance(error, OSError) else "it is not text in UTF-8"


def secret_text(arn: str, *, endpoint_url: str) -> tuple[str, str]:
    """The current text of the secret and the id of its version. Raises SecretUnavailable."""
    try:
        answer = call(
            "secretsmanager",
            "secretsmanager.GetSecretValue",
            {"SecretId": arn},
            endpoint_url=endpoint_url,
            timeout_seconds=_SECRET_SECONDS,
        )
    except AwsCallFailed as failure:
        raise SecretUnavailable(
            f"Secrets Manager: {failure.code}", retry_after_seconds=_RETRY_AFTER_SECONDS
        ) from failure
    return str(answer.get("SecretString") or ""), str(answer.get("VersionId") or "")

"""Partners' credentials: sealed for the database, unsealed for one attempt, turned into headers.

A sealed value is

    byte 0       the version of this format, 1
    bytes 1-4    which key sealed it: the first four bytes of SHA-256 over the key
    bytes 5-16   the nonce: 96 random bits, fresh for every sealing (NIST SP 800-38D section 8.2.2)
    the rest     AES-256-GCM ciphertext and its tag of 128 bits

and is bound to its row: destination id and kind of credentials are authenticated along with it, so that a value moved
to another row, or whose row changes its kind, does not open.

libsodium (PyNaCl) does the encryption: of the well-maintained libraries it is the smallest in the package. It is
imported at the first use: most calls need no credentials.
"""

import base64
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from domain.destinations import Auth, AuthType, BasicAuth, BearerAuth, HeaderAuth, NoAuth
from domain.errors import SecretUnavailable, Unsealable
from domain.ids import DestinationId
from domain.outcomes import Headers
from runtime.aws import AwsCallFailed, call
from runtime.settings import SealKeySettings, SettingsError

FORMAT_VERSION = 1
KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES + _NONCE_BYTES
_LEAST_SECRET_CHARACTERS = 32
_SECRET_SECONDS = 5.0
_RETRY_AFTER_SECONDS = 5
_KEY_PURPOSE = b"sallyport seal key 1"


@dataclass(frozen=True, slots=True)
class SealKey:
    """256 bits that credentials are sealed with. Raises ValueError for any other length."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a seal key has {KEY_BYTES} bytes, got {len(self.secret)}")

    @property
    def key_id(self) -> bytes:
        """Four bytes that distinguish keys and reveal nothing about them."""
        return hashlib.sha256(b"sallyport key id" + self.secret).digest()[:_KEY_ID_BYTES]

    @classmethod
    def derived_from(cls, text: str) -> "SealKey":
        """The key that is derived from a secret text: HKDF-SHA256 (RFC 5869) of it, without salt.

        Secrets Manager generates texts, not bits; HKDF spreads their entropy evenly over 256 bits and ties the key to
        this one purpose, so that the text may serve other purposes later. The text must be random (32 characters or
        more): nothing here slows down the guessing of a password. Raises ValueError for a shorter one.
        """
        if len(text) < _LEAST_SECRET_CHARACTERS:
            raise ValueError(
                f"the seal key's text must be random and have {_LEAST_SECRET_CHARACTERS} characters or more"
            )
        extracted = hmac.digest(bytes(hashlib.sha256().digest_size), text.encode(), "sha256")
        return cls(hmac.digest(extracted, _KEY_PURPOSE + b"\x01", "sha256"))


def auth_type(auth: Auth) -> AuthType:
    """The kind of `auth`, as the API and the database name it."""
    match auth:
        case NoAuth():
            return AuthType.NONE
        case BearerAuth():
            return AuthType.BEARER
        case BasicAuth():
            return AuthType.BASIC
        case HeaderAuth():
            return AuthType.HEADER
        case _:
            assert_never(auth)


def auth_headers(auth: Auth) -> Headers:
    """The headers that carry `auth`. Basic is UTF-8, as RFC 7617 section 2.1 recommends."""
    match auth:
        case NoAuth():
            return ()
        case BearerAuth(token=token):
            return (("Authorization", f"Bearer {token}"),)
        case BasicAuth(username=username, password=password):
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            return (("Authorization", f"Basic {pair}"),)
        case HeaderAuth(name=name, value=value):
            return ((name, value),)
        case _:
            assert_never(auth)


def seal(auth: Auth, *, destination_id: DestinationId, key: SealKey) -> bytes | None:
    """`auth` encrypted for the row of `destination_id`; None when there are none."""
    from nacl.bindings import crypto_aead_aes256gcm_encrypt

    plain = _plain(auth)
    if plain is None:
        return None
    nonce = os.urandom(_NONCE_BYTES)
    bound_to = _bound_to(destination_id, auth_type(auth))
    return (
        bytes((FORMAT_VERSION,))
        + key.key_id
        + nonce
        + crypto_aead_aes256gcm_encrypt(plain, bound_to, nonce, key.secret)
    )


def unseal(
    sealed: bytes | None, *, auth_type: AuthType, destination_id: DestinationId, keys: Sequence[SealKey]
) -> Auth:
    """The credentials that `seal` was given, for the same row; NoAuth for None where `auth_type` is none.

    Raises Unsealable when none of `keys` opens it: another key, another row, another kind, or bytes that were changed.
    """
    if auth_type is AuthType.NONE and sealed is None:
        return NoAuth()
    if sealed is None or len(sealed) < _HEAD_BYTES + _TAG_BYTES or sealed[0] != FORMAT_VERSION:
        raise Unsealable(f"the credentials of destination {destination_id} are not in a known format")
    for key in keys:
        if key.key_id == sealed[1 : 1 + _KEY_ID_BYTES]:
            plain = _decrypted(sealed, bound_to=_bound_to(destination_id, auth_type), key=key)
            if plain is not None:
                return _auth(auth_type, plain)
    raise Unsealable(f"no key opens the credentials of destination {destination_id}")


def load_seal_key(settings: SealKeySettings, *, endpoint_url: str = "") -> SealKey:
    """The key from `seal_key_file`, or else out of the secret `seal_key_secret_arn`.

    Raises SettingsError when neither is set, or the file is not a private one of ours or too short; SecretUnavailable
    when Secrets Manager does not return the secret. `endpoint_url` is for an API that is not AWS's own.
    """
    if settings.seal_key_file:
        return _derived(_private_text(Path(settings.seal_key_file)), source="SEAL_KEY_FILE")
    if settings.seal_key_secret_arn:
        return _derived(_secret_text(settings.seal_key_secret_arn, endpoint_url), source="SEAL_KEY_SECRET_ARN")
    raise SettingsError("SEAL_KEY_SECRET_ARN must be set (or SEAL_KEY_FILE, on a developer's machine)")


def _plain(auth: Auth) -> bytes | None:
    match auth:
        case NoAuth():
            return None
        case BearerAuth(token=token):
            parts = [token]
        case BasicAuth(username=username, password=password):
            parts = [username, password]
        case HeaderAuth(name=name, value=value):
            parts = [name, value]
        case _:
            assert_never(auth)
    return json.dumps(parts).encode()


def _auth(kind: AuthType, plain: bytes) -> Auth:
    parts = json.loads(plain)
    match kind:
        case AuthType.NONE:
            return NoAuth()
        case AuthType.BEARER:
            return BearerAuth(token=parts[0])
        case AuthType.BASIC:
            return BasicAuth(username=parts[0], password=parts[1])
        case AuthType.HEADER:
            return HeaderAuth(name=parts[0], value=parts[1])
        case _:
            assert_never(kind)


def _bound_to(destination_id: DestinationId, kind: AuthType) -> bytes:
    return destination_id.bytes + kind.value.encode()


def _decrypted(sealed: bytes, *, bound_to: bytes, key: SealKey) -> bytes | None:
    from nacl.bindings import crypto_aead_aes256gcm_decrypt
    from nacl.exceptions import CryptoError

    nonce = sealed[1 + _KEY_ID_BYTES : _HEAD_BYTES]
    try:
        return crypto_aead_aes256gcm_decrypt(sealed[_HEAD_BYTES:], bound_to, nonce, key.secret)
    except CryptoError:
        return None


def _derived(text: str, *, source: str) -> SealKey:
    try:
        return SealKey.derived_from(text)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None


def _private_text(path: Path) -> str:
    """The text of a file that only its owner, this user, may read. The checks are made on the open file, not on its
    name."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o600:
                raise SettingsError(f"SEAL_KEY_FILE must be of mode 0600 and owned by us: {path} is not (chmod 600 it)")
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"SEAL_KEY_FILE cannot be read: {path}: {error}") from None


def _secret_text(arn: str, endpoint_url: str) -> str:
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
    return str(answer.get("SecretString") or "")

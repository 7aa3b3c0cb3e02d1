"""Seals secrets for the database: credentials, certificates, signing keys, tokens.

A sealed value is

    byte 0       the version of this format, 1
    bytes 1-4    which key sealed it: the first four bytes of SHA-256 over the key
    bytes 5-16   the nonce: 96 random bits, fresh for every sealing (NIST SP 800-38D section 8.2.2)
    the rest     AES-256-GCM ciphertext and its tag of 128 bits

and is bound to its place: destination id and purpose are authenticated along with it, so that a value moved to another
row or another column does not open. The purpose of credentials is the name of their kind.

`cryptography` does the encryption, and is imported at the first use: most calls need no secret.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache

from domain.errors import Unsealable
from domain.ids import DestinationId
from domain.values import value_class

FORMAT_VERSION = 1
KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES + _NONCE_BYTES
_LEAST_SECRET_CHARACTERS = 32
_KEY_PURPOSE = b"sallyport seal key 1"
_ALLOWLIST_PURPOSE = b"sallyport allowlist signing key 1"


@value_class(frozen=True, slots=True, kw_only=False)
class SealKey:
    """256 bits that credentials are sealed with. Raises ValueError for any other length."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a seal key has {KEY_BYTES} bytes, got {len(self.secret)}")

    @property
    def key_id(self) -> bytes:
        """Four bytes that distinguish keys and reveal nothing about them."""
        return _key_id(self.secret)

    @property
    def allowlist_seed(self) -> bytes:
        """32 bytes for the Ed25519 key that signs the allowlist: derived from this key for that purpose alone, so that
        neither says anything about the other."""
        return _hkdf(self.secret, _ALLOWLIST_PURPOSE)

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
        return cls(_hkdf(text.encode(), _KEY_PURPOSE))


@lru_cache(maxsize=16)
def _key_id(secret: bytes) -> bytes:
    return hashlib.sha256(b"sallyport key id" + secret).digest()[:_KEY_ID_BYTES]


def _hkdf(material: bytes, purpose: bytes) -> bytes:
    """256 bits by HKDF-SHA256 (RFC 5869), without salt."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), material, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def seal(plain: bytes, *, purpose: str, destination_id: DestinationId, key: SealKey) -> bytes:
    """`plain` encrypted for one purpose of one destination."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    encrypted = AESGCM(key.secret).encrypt(nonce, plain, _bound_to(destination_id, purpose))
    return bytes((FORMAT_VERSION,)) + key.key_id + nonce + encrypted


def key_id_of(sealed: bytes) -> bytes:
    """Which key sealed a value; of what is in no known format, bytes that are no key's."""
    return sealed[1 : 1 + _KEY_ID_BYTES] if sealed[:1] == bytes((FORMAT_VERSION,)) else b""


def unseal(sealed: bytes, *, purpose: str, destination_id: DestinationId, keys: Sequence[SealKey]) -> bytes:
    """What `seal` was given, for the same destination and purpose.

    Raises Unsealable when none of `keys` opens it: another key, another row, another purpose, or bytes that were
    changed.
    """
    if len(sealed) < _HEAD_BYTES + _TAG_BYTES or sealed[0] != FORMAT_VERSION:
        raise Unsealable(f"a secret ({purpose}) of destination {destination_id} is not in a known format")
    bound_to = _bound_to(destination_id, purpose)
    for key in keys:
        if key.key_id == key_id_of(sealed):
            plain = _decrypted(sealed, bound_to=bound_to, key=key)
            if plain is not None:
                return plain
    raise Unsealable(f"no key opens a secret ({purpose}) of destination {destination_id}")


def _bound_to(destination_id: DestinationId, purpose: str) -> bytes:
    return destination_id.bytes + purpose.encode()


def _decrypted(sealed: bytes, *, bound_to: bytes, key: SealKey) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = sealed[1 + _KEY_ID_BYTES : _HEAD_BYTES]
    try:
        return AESGCM(key.secret).decrypt(nonce, sealed[_HEAD_BYTES:], bound_to)
    except InvalidTag:
        return None

"""Keys that sign: read from what a client sends, made, and used.

A secret is stored as the bytes of a shared secret, or as PKCS #8 in DER. `cryptography` is imported at the first use:
most processes never sign.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, assert_never

from domain.signing import KeyKind, SecretEncoding
from domain.values import value_class

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

NEW_RSA_BITS = 3072
NEW_SECRET_BYTES = 32
# standardwebhooks.com, version 1.0, has these two bounds.
LEAST_WEBHOOK_BYTES = 24
MOST_WEBHOOK_BYTES = 64
LEAST_SECRET_BYTES = 16
_ED25519_BYTES = 32
_CURVES = {KeyKind.P256: "secp256r1", KeyKind.P384: "secp384r1", KeyKind.P521: "secp521r1"}
_KIND_NAMES = {
    KeyKind.ED25519: "an Ed25519 key",
    KeyKind.P256: "a P-256 key",
    KeyKind.P384: "a P-384 key",
    KeyKind.P521: "a P-521 key",
    KeyKind.RSA: "an RSA key",
}


class KeyRefused(Exception):
    """A key that cannot be used. `member` is the one at fault, the message says why and never repeats the key."""

    def __init__(self, member: str, detail: str) -> None:
        super().__init__(detail)
        self.member = member
        self.detail = detail


@value_class(frozen=True, slots=True, kw_only=True)
class Key:
    """A key that may sign. `public` is None for a shared secret; `text` is what its partner must be told of a shared
    secret, None where the public key is all that a partner needs."""

    secret: bytes = field(repr=False)
    public: str | None = None
    text: str | None = field(default=None, repr=False)


def webhook_secret(text: str) -> Key:
    """The key of `whsec_...`. Raises KeyRefused."""
    raw = _decoded(text.removeprefix("whsec_")) if text.startswith("whsec_") else None
    if raw is None or not LEAST_WEBHOOK_BYTES <= len(raw) <= MOST_WEBHOOK_BYTES:
        detail = f"must be whsec_ and base64 of {LEAST_WEBHOOK_BYTES} to {MOST_WEBHOOK_BYTES} bytes"
        raise KeyRefused("secret", detail)
    return Key(secret=raw, text=text)


def webhook_private_key(text: str) -> Key:
    """The key of `whsk_...`: an Ed25519 private key, alone or with its public key behind it. Raises KeyRefused."""
    raw = _decoded(text.removeprefix("whsk_")) if text.startswith("whsk_") else None
    if raw is None or len(raw) not in (_ED25519_BYTES, 2 * _ED25519_BYTES):
        raise KeyRefused("secret", "must be whsk_ and base64 of an Ed25519 private key, 32 or 64 bytes")
    key = _webhook_key(raw[:_ED25519_BYTES])
    if raw[_ED25519_BYTES:] and key.public != f"whpk_{base64.b64encode(raw[_ED25519_BYTES:]).decode()}":
        raise KeyRefused("secret", "must end with the public key that belongs to the private one")
    return key


def shared_secret(text: str, *, encoding: SecretEncoding) -> Key:
    """The key of a text that both sides have. Raises KeyRefused."""
    raw = _shared(text, encoding)
    if raw is None:
        raise KeyRefused("secret", f"must be {encoding.value}")
    if len(raw) < LEAST_SECRET_BYTES:
        raise KeyRefused("secret", f"must have {LEAST_SECRET_BYTES} bytes or more")
    return Key(secret=raw, text=text)


def private_key(pem: str, *, passphrase: str | None, kind: KeyKind) -> Key:
    """The key of a PEM file: PKCS #8, or the older forms of OpenSSL. Raises KeyRefused."""
    from egress.certificates import PemFault
    from egress.certificates import private_key as read_private_key

    faults: list[PemFault] = []
    key = read_private_key(pem, passphrase, faults=faults)
    if key is None:
        member = "passphrase" if faults[0].member == "passphrase" else "private_key"
        raise KeyRefused(member, faults[0].detail)
    found = _kind_of(key)
    if found is not kind:
        detail = f"must be {_KIND_NAMES[kind]} for this algorithm"
        raise KeyRefused("private_key", f"{detail}, not {_KIND_NAMES[found]}" if found else detail)
    return _stored(key)


def new_webhook_secret() -> Key:
    """A new key of Standard Webhooks v1."""
    raw = secrets.token_bytes(NEW_SECRET_BYTES)
    return Key(secret=raw, text=f"whsec_{base64.b64encode(raw).decode()}")


def new_webhook_private_key() -> Key:
    """A new key of Standard Webhooks v1a. Nobody but the gateway needs its private half."""
    return _webhook_key(secrets.token_bytes(_ED25519_BYTES))


def new_shared_secret(encoding: SecretEncoding) -> Key:
    """A new shared secret, in the form in which the partner has to enter it."""
    raw = secrets.token_bytes(NEW_SECRET_BYTES)
    match encoding:
        case SecretEncoding.TEXT:
            text = secrets.token_urlsafe(NEW_SECRET_BYTES)
            return Key(secret=text.encode(), text=text)
        case SecretEncoding.HEX:
            return Key(secret=raw, text=raw.hex())
        case SecretEncoding.BASE64:
            return Key(secret=raw, text=base64.b64encode(raw).decode())
        case _:
            assert_never(encoding)


def new_private_key(kind: KeyKind) -> Key:
    """A new private key; nobody but the gateway needs it."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match kind:
        case KeyKind.ED25519:
            return _stored(ed25519.Ed25519PrivateKey.generate())
        case KeyKind.RSA:
            return _stored(rsa.generate_private_key(public_exponent=65537, key_size=NEW_RSA_BITS))
        case KeyKind.P256:
            return _stored(ec.generate_private_key(ec.SECP256R1()))
        case KeyKind.P384:
            return _stored(ec.generate_private_key(ec.SECP384R1()))
        case KeyKind.P521:
            return _stored(ec.generate_private_key(ec.SECP521R1()))
        case KeyKind.SECRET:
            raise ValueError("a shared secret is no private key")
        case _:
            assert_never(kind)


def mac(secret: bytes, data: bytes, *, digest: str) -> bytes:
    """The HMAC (RFC 2104) of `data`."""
    return hmac.digest(secret, data, digest)


def signed(secret: bytes, data: bytes, *, algorithm: str) -> bytes:
    """The signature of `data`: one of RFC 9421 section 3.3 or of RFC 7518, by the name that it has there.

    Those of elliptic curves are r and s behind each other, as both ask. Raises ValueError where the key does not fit.
    """
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    if algorithm == "hmac-sha256":
        return mac(secret, data, digest="sha256")
    # The key was checked when it came, and is sealed: to check an RSA key again takes longer than to sign with it.
    key = load_der_private_key(secret, None, unsafe_skip_rsa_key_validation=True)
    try:
        return _SIGNERS[algorithm](key, data)
    except TypeError as error:
        raise ValueError(f"the key is of another kind than {algorithm} needs") from error


def _ed25519(key: Any, data: bytes) -> bytes:
    return bytes(key.sign(data))


def _ecdsa(bits: int, coordinate_bytes: int) -> "Callable[[Any, bytes], bytes]":
    def sign(key: Any, data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        algorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}[bits]
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
        return r.to_bytes(coordinate_bytes) + s.to_bytes(coordinate_bytes)

    return sign


def _rsa_pss(bits: int) -> "Callable[[Any, bytes], bytes]":
    def sign(key: Any, data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        algorithm = {256: hashes.SHA256(), 512: hashes.SHA512()}[bits]
        pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=bits // 8)
        return bytes(key.sign(data, pss, algorithm))

    return sign


def _rsa_pkcs1(key: Any, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return bytes(key.sign(data, padding.PKCS1v15(), hashes.SHA256()))


_SIGNERS: "Mapping[str, Callable[[Any, bytes], bytes]]" = {
    "ed25519": _ed25519,
    "EdDSA": _ed25519,
    "Ed25519": _ed25519,
    "ecdsa-p256-sha256": _ecdsa(256, 32),
    "ES256": _ecdsa(256, 32),
    "ecdsa-p384-sha384": _ecdsa(384, 48),
    "ES384": _ecdsa(384, 48),
    "ES512": _ecdsa(512, 66),
    "rsa-pss-sha512": _rsa_pss(512),
    "PS256": _rsa_pss(256),
    "rsa-v1_5-sha256": _rsa_pkcs1,
    "RS256": _rsa_pkcs1,
}


def _kind_of(key: "PrivateKeyTypes") -> KeyKind | None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match key:
        case ed25519.Ed25519PrivateKey():
            return KeyKind.ED25519
        case rsa.RSAPrivateKey():
            return KeyKind.RSA
        case ec.EllipticCurvePrivateKey():
            return next((kind for kind, name in _CURVES.items() if key.curve.name == name), None)
        case _:
            return None


def _stored(key: "PrivateKeyTypes") -> Key:
    from cryptography.hazmat.primitives import serialization

    secret = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(secret=secret, public=public.decode())


def _webhook_key(seed: bytes) -> Key:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return Key(secret=_stored(key).secret, public=f"whpk_{public}")


def _shared(text: str, encoding: SecretEncoding) -> bytes | None:
    match encoding:
        case SecretEncoding.TEXT:
            return text.encode()
        case SecretEncoding.HEX:
            return _from_hex(text)
        case SecretEncoding.BASE64:
            return _decoded(text)
        case _:
            assert_never(encoding)


def _from_hex(text: str) -> bytes | None:
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return None


def _decoded(text: str) -> bytes | None:
    """Base64 with its padding; None for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None

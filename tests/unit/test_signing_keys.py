"""Keys as clients send them: what is taken, and what is refused with which words."""

import base64
from collections.abc import Callable
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from domain.errors import Unsealable
from domain.ids import DestinationId
from domain.signing import (
    DetachedJws,
    Form,
    JwsAlgorithm,
    KeyKind,
    SecretEncoding,
    StandardWebhooks,
    TemplatedHmac,
    WebhookVersion,
)
from egress.sealing import SealKey, unseal
from egress.signing.given import GivenKey, make_key, read_key, seal_keys, unseal_keys
from egress.signing.keys import (
    LEAST_SECRET_BYTES,
    Key,
    KeyRefused,
    new_private_key,
    new_webhook_private_key,
    new_webhook_secret,
    private_key,
    shared_secret,
    signed,
    webhook_private_key,
    webhook_secret,
)
from tests.support.signing import key_of

# Keys and algorithms of different kinds: each of the four ways to sign meets the key of another.
WRONG = [
    (KeyKind.RSA, "ed25519"),
    (KeyKind.RSA, "ES256"),
    (KeyKind.ED25519, "ES512"),
    (KeyKind.ED25519, "PS256"),
    (KeyKind.P256, "RS256"),
    (KeyKind.P256, "EdDSA"),
]
PKCS8, OLD = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
OPEN = serialization.NoEncryption()
SECRET = serialization.BestAvailableEncryption(b"open sesame")
RSA_2048 = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_1024 = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it must be refused
P256 = ec.generate_private_key(ec.SECP256R1())
NO_PEM = "is not a private key in PEM"
OTHER_PASSPHRASE = "cannot be read with this passphrase"
NO_WHSK = "must be whsk_ and base64 of an Ed25519 private key, 32 or 64 bytes"
OTHER_HALF = "must end with the public key that belongs to the private one"
ED448 = ed448.Ed448PrivateKey.generate()
SECP256K1 = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem(
    key: rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey,
    form: serialization.PrivateFormat = PKCS8,
    encryption: serialization.KeySerializationEncryption = OPEN,
) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def refusal(read: Callable[[], Key]) -> tuple[str, str]:
    with pytest.raises(KeyRefused) as caught:
        read()
    return caught.value.member, caught.value.detail


@pytest.mark.parametrize(
    ("text", "passphrase", "kind"),
    [
        (pem(RSA_2048), None, KeyKind.RSA),
        (pem(RSA_2048, OLD), None, KeyKind.RSA),
        (pem(RSA_2048, PKCS8, SECRET), "open sesame", KeyKind.RSA),
        (pem(P256, OLD, SECRET), "open sesame", KeyKind.P256),
        (pem(P256), None, KeyKind.P256),
        (pem(ED25519), None, KeyKind.ED25519),
        ("\n" + pem(ED25519).replace("\n", "\r\n"), None, KeyKind.ED25519),
    ],
)
def test_a_private_key_is_taken_in_any_usual_form(text: str, passphrase: str | None, kind: KeyKind) -> None:
    key = private_key(text, passphrase=passphrase, kind=kind)
    assert (key.public or "").startswith("-----BEGIN PUBLIC KEY-----")
    assert key.text is None


def test_a_key_is_stored_without_its_passphrase() -> None:
    key = private_key(pem(P256, PKCS8, SECRET), passphrase="open sesame", kind=KeyKind.P256)
    assert key.secret == P256.private_bytes(serialization.Encoding.DER, PKCS8, OPEN)


@pytest.mark.parametrize(
    ("text", "passphrase", "kind", "member", "detail"),
    [
        (pem(RSA_1024), None, KeyKind.RSA, "private_key", "has 1024 bits; an RSA key must have 2048 to 4096"),
        (pem(P256), None, KeyKind.RSA, "private_key", "must be an RSA key for this algorithm, not a P-256 key"),
        (pem(RSA_2048), None, KeyKind.P521, "private_key", "must be a P-521 key for this algorithm, not an RSA key"),
        (pem(ED448), None, KeyKind.ED25519, "private_key", "must be an Ed25519 key for this algorithm"),
        (pem(SECP256K1), None, KeyKind.P256, "private_key", "is on another curve than P-256, P-384 and P-521"),
        (pem(P256, PKCS8, SECRET), None, KeyKind.P256, "passphrase", "is missing: the key is encrypted"),
        (" " * 5000 + "x" * 5000, None, KeyKind.P256, "private_key", "has more than 4,500 characters"),
        (pem(P256, PKCS8, SECRET), "wrong", KeyKind.P256, "private_key", OTHER_PASSPHRASE),
        (pem(P256), "needless", KeyKind.P256, "passphrase", "must be left out: the key is not encrypted"),
        ("", None, KeyKind.P256, "private_key", NO_PEM),
        ("\0\ud7ff", None, KeyKind.P256, "private_key", NO_PEM),
        (key_of(KeyKind.P256).public, None, KeyKind.P256, "private_key", NO_PEM),
        (pem(P256).replace("M", "N", 1), None, KeyKind.P256, "private_key", NO_PEM),
    ],
)
def test_a_private_key_that_cannot_sign_is_refused(
    text: str, passphrase: str | None, kind: KeyKind, member: str, detail: str
) -> None:
    assert refusal(lambda: private_key(text, passphrase=passphrase, kind=kind)) == (member, detail)


@pytest.mark.parametrize("size", [24, 64])
def test_a_secret_of_standard_webhooks_has_24_to_64_bytes(size: int) -> None:
    assert webhook_secret("whsec_" + base64.b64encode(b"k" * size).decode()).secret == b"k" * size


@pytest.mark.parametrize(
    "text",
    [
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        base64.b64encode(b"k" * 24).decode(),
        "WHSEC_" + base64.b64encode(b"k" * 24).decode(),
        "whsec_" + base64.b64encode(b"k" * 25).decode().rstrip("="),
        "whsec_" + base64.b64encode(b"k" * 24).decode() + "\n",
        "whsec_" + "\u00e9" * 32,
        "whsec_",
        "",
    ],
)
def test_any_other_secret_of_standard_webhooks_is_refused(text: str) -> None:
    assert refusal(lambda: webhook_secret(text)) == ("secret", "must be whsec_ and base64 of 24 to 64 bytes")


def test_a_private_key_of_standard_webhooks_may_come_without_its_public_half() -> None:
    whole = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    seed = base64.b64decode(whole.removeprefix("whsk_"))[:32]
    assert webhook_private_key(f"whsk_{base64.b64encode(seed).decode()}") == webhook_private_key(whole)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("whsk_", NO_WHSK),
        ("whsk_" + base64.b64encode(b"k" * 33).decode(), NO_WHSK),
        ("whsec_" + base64.b64encode(b"k" * 32).decode(), NO_WHSK),
        ("whsk_" + base64.b64encode(b"k" * 64).decode(), OTHER_HALF),
    ],
)
def test_a_private_key_of_standard_webhooks_that_is_none_is_refused(text: str, detail: str) -> None:
    assert refusal(lambda: webhook_private_key(text)) == ("secret", detail)


@pytest.mark.parametrize(
    ("text", "encoding", "raw"),
    [
        ("It's a Secret to Everybody", SecretEncoding.TEXT, b"It's a Secret to Everybody"),
        ("\u00fc" * 8, SecretEncoding.TEXT, b"\xc3\xbc" * 8),
        ("00ff" * 8, SecretEncoding.HEX, b"\0\xff" * 8),
        ("AP8A" * 6, SecretEncoding.BASE64, b"\0\xff\0" * 6),
    ],
)
def test_a_shared_secret_is_read_as_it_says(text: str, encoding: SecretEncoding, raw: bytes) -> None:
    assert shared_secret(text, encoding=encoding).secret == raw


@pytest.mark.parametrize(
    ("text", "encoding", "detail"),
    [
        ("k" * (LEAST_SECRET_BYTES - 1), SecretEncoding.TEXT, "must have 16 bytes or more"),
        ("ff" * (LEAST_SECRET_BYTES - 1), SecretEncoding.HEX, "must have 16 bytes or more"),
        ("f" * 33, SecretEncoding.HEX, "must be hex"),
        ("zz" * 16, SecretEncoding.HEX, "must be hex"),
        ("\u00fc" * 32, SecretEncoding.HEX, "must be hex"),
        ("a" * 33, SecretEncoding.BASE64, "must be base64"),
        ("a-_a" * 8, SecretEncoding.BASE64, "must be base64"),
    ],
)
def test_a_shared_secret_that_is_none_is_refused(text: str, encoding: SecretEncoding, detail: str) -> None:
    assert refusal(lambda: shared_secret(text, encoding=encoding)) == ("secret", detail)


def test_no_key_shows_itself() -> None:
    for key in (new_webhook_secret(), new_webhook_private_key(), new_private_key(KeyKind.P256)):
        assert "secret" not in repr(key)
        assert "text" not in repr(key)


def test_a_shared_secret_is_no_private_key() -> None:
    with pytest.raises(ValueError, match="no private key"):
        new_private_key(KeyKind.SECRET)


@pytest.mark.parametrize(("kind", "algorithm"), WRONG)
def test_a_key_of_another_kind_than_the_algorithm_cannot_sign(kind: KeyKind, algorithm: str) -> None:
    """It cannot be stored so; a row that was changed by hand must still not be an unforeseen error."""
    with pytest.raises(ValueError, match="of another kind than"):
        signed(key_of(kind).secret, b"", algorithm=algorithm)


def test_what_is_no_key_at_all_cannot_sign() -> None:
    with pytest.raises(ValueError, match=r".*"):
        signed(b"\0" * 32, b"", algorithm="ed25519")


@pytest.mark.parametrize(
    ("form", "public", "text"),
    [
        (StandardWebhooks(), "", "whsec_"),
        (StandardWebhooks(version=WebhookVersion.V1A), "whpk_", ""),
        (TemplatedHmac(header="X"), "", ""),
        (DetachedJws(algorithm=JwsAlgorithm.ES256, header="X"), "-----BEGIN PUBLIC KEY-----", ""),
    ],
)
def test_a_key_that_is_made_fits_its_form(form: Form, public: str, text: str) -> None:
    key = make_key(form)
    assert (key.public or "").startswith(public)
    assert (key.text or "").startswith(text)
    assert (key.public is None) == (key.text is not None)
    given = GivenKey(secret=key.text) if key.text else GivenKey()
    assert (read_key(form, given) or key).secret == key.secret


def test_keys_are_sealed_for_one_destination_and_one_purpose() -> None:
    secrets = {"a": b"\0\xff", "b": b""}
    here, there = DestinationId(UUID(int=1)), DestinationId(UUID(int=2))
    seal_key = SealKey(b"k" * 32)
    sealed = seal_keys(secrets, destination_id=here, key=seal_key)
    assert unseal_keys(sealed, destination_id=here, keys=[seal_key]) == secrets
    assert unseal_keys(None, destination_id=here, keys=[]) == {}
    with pytest.raises(Unsealable):
        unseal_keys(sealed, destination_id=there, keys=[seal_key])
    with pytest.raises(Unsealable):
        unseal(sealed, purpose="certificate", destination_id=here, keys=[seal_key])

"""Keys and messages for tests of signatures."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, load_pem_public_key
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from http_message_signatures.algorithms import HTTPSignatureAlgorithm
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.registry import HeaderParameter

from domain.outcomes import Headers
from domain.signing import DetachedJws, Form, KeyInfo, KeyKind, MessageAlgorithm, Scheme, key_kind, scheme
from egress.signing.keys import Key, new_private_key
from egress.signing.schemes import signed_headers
from egress.signing.unsigned import UnsignedRequest

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ALGORITHMS: Mapping[MessageAlgorithm, type[HTTPSignatureAlgorithm]] = {
    MessageAlgorithm.ED25519: algorithms.ED25519,
    MessageAlgorithm.ECDSA_P256_SHA256: algorithms.ECDSA_P256_SHA256,
    MessageAlgorithm.ECDSA_P384_SHA384: algorithms.ECDSA_P384_SHA384,
    MessageAlgorithm.RSA_PSS_SHA512: algorithms.RSA_PSS_SHA512,
    MessageAlgorithm.RSA_V1_5_SHA256: algorithms.RSA_V1_5_SHA256,
    MessageAlgorithm.HMAC_SHA256: algorithms.HMAC_SHA256,
}
# Slack's "Verifying requests" has secret, timestamp, body and signature.
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


@cache
def key_of(kind: KeyKind) -> Key:
    """A private key of that kind, the same one in all tests of a process: an RSA key takes long to find."""
    return new_private_key(kind)


def unsigned(**overrides: Any) -> UnsignedRequest:
    """A POST, with what is to be different."""
    chosen: dict[str, Any] = {
        "method": "POST",
        "url": "https://bank.example/v1/payments?x=1",
        "headers": (("Content-Type", "application/json"),),
        "body": b'{"amount": 5}',
        "message_id": "key-1",
        "at": AT,
        **overrides,
    }
    return UnsignedRequest(**chosen)


def key_info(ref: str = "k", **overrides: Any) -> KeyInfo:
    """What is known of a key."""
    return KeyInfo(**{"ref": ref, "key_id": f"id-of-{ref}", "created_at": AT, **overrides})


def one_key(form: Form, **overrides: Any) -> Scheme:
    """A scheme with the one key `k`."""
    return scheme(form, name="of-a-test", keys=[key_info(**overrides)])


def sign(form: Form, secret: bytes, sent: UnsignedRequest, **overrides: Any) -> Headers:
    """The headers of `sent` once it is signed with that one key."""
    return signed_headers(sent, [one_key(form, **overrides)], secrets={"k": secret})


def value(headers: Headers, name: str) -> str:
    """The value of the one header of that name."""
    (found,) = [text for header, text in headers if header.lower() == name.lower()]
    return found


def public_key(secret: bytes) -> Any:
    """The public key that belongs to a stored private one."""
    return load_der_private_key(secret, None).public_key()


def public_key_of_public_pem(pem: str) -> Any:
    """The public key of a PEM file."""
    return load_pem_public_key(pem.encode())


def public_key_of_pem(pem: str) -> Any:
    """The public key that belongs to a private one in PEM."""
    return load_pem_private_key(pem.encode(), None).public_key()


class OneKey(HTTPSignatureKeyResolver):
    """Knows one key."""

    def __init__(self, public: Any) -> None:
        self._public = public

    def resolve_public_key(self, key_id: str) -> Any:  # noqa: ARG002 - it has one
        return self._public

    def resolve_private_key(self, key_id: str) -> Any:  # noqa: ARG002 - it has none
        raise AssertionError("a verifier needs no private key")


class OldOnesToo(HTTPMessageVerifier):
    """Takes signatures of any age."""

    def validate_created_and_expires(self, *_: Any, **__: Any) -> None:
        """Finds nothing wrong."""


def verify_message(
    algorithm: MessageAlgorithm, public: Any, *, method: str, url: str, headers: Headers, body: bytes | None = None
) -> list[Any]:
    """What an independent implementation of RFC 9421 found in the request. Raises its InvalidSignature."""
    verifier = OldOnesToo(signature_algorithm=ALGORITHMS[algorithm], key_resolver=OneKey(public))
    request = SimpleNamespace(method=method, url=url, headers=_joined(headers))
    return verifier.verify(request, max_age=None, body=body)


def _joined(headers: Headers) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, text in headers:
        joined[name.lower()] = f"{joined[name.lower()]}, {text}" if name.lower() in joined else text
    return joined


def _jwk_of(form: DetachedJws, pem: str) -> Any:
    match key_kind(form):
        case KeyKind.RSA:
            return RSAKey.import_key(pem)
        case KeyKind.ED25519:
            return OKPKey.import_key(pem)
        case _:
            return ECKey.import_key(pem)


def verify_jws(text: str, payload: bytes, form: DetachedJws, *, pem: str | None = None) -> Any:
    """The protected header of a detached JWS, as another implementation verified it with the public key `pem`, or that
    of the tests. Raises its JoseError."""
    registry = jws.JWSRegistry(
        algorithms=[form.algorithm.value],
        header_registry={name: HeaderParameter(name, lambda _: None) for name in form.critical},
        strict_check_header=False,
    )
    registry.max_header_length, registry.max_payload_length = 4096, 10_000_000
    return jws.deserialize_compact(
        text, _jwk_of(form, pem or key_of(key_kind(form)).public or ""), registry=registry, payload=payload
    ).headers()

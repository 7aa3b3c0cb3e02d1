"""A client's assertion to a token endpoint: a JSON Web Token that it signs with its private key (RFC 7523)."""

import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from domain.auth import AssertionAlgorithm, OAuthClient

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

LIFE_SECONDS = 300  # servers refuse longer ones, and clocks differ by less
_P256_BYTES = 32
_PSS_SALT_BYTES = 32  # as long as the hash (RFC 7518 section 3.5)


def assertion(client: OAuthClient, private_key: str, *, assertion_id: str, now: datetime) -> str:
    """The signed assertion (RFC 7523 sections 2.2 and 3, RFC 7515 section 3.1). `assertion_id` is never used twice.

    Raises ValueError where the key does not fit the algorithm.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    algorithm = client.algorithm or AssertionAlgorithm.RS256
    issued_at = int(now.timestamp())
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": client.assertion_audience or client.token_url,
        "jti": assertion_id,
        "iat": issued_at,
        "exp": issued_at + LIFE_SECONDS,
    }
    header = {"alg": algorithm.value, "typ": "JWT"} | ({} if client.key_id is None else {"kid": client.key_id})
    signed = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
    key = load_pem_private_key(private_key.encode(), None)
    return f"{signed}.{_encoded(_signature(key, algorithm, signed.encode()))}"


def key_fault(key: "PrivateKeyTypes", algorithm: AssertionAlgorithm) -> str | None:
    """Why a key cannot sign by this algorithm; None where it can."""
    try:
        _signature(key, algorithm, b"")
    except ValueError as error:
        return str(error)
    return None


def _signature(key: "PrivateKeyTypes", algorithm: AssertionAlgorithm, signed: bytes) -> bytes:
    """RFC 7518 sections 3.3 to 3.5, and RFC 8037 section 3.1."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    match algorithm, key:
        case AssertionAlgorithm.RS256, rsa.RSAPrivateKey():
            return key.sign(signed, padding.PKCS1v15(), SHA256())
        case AssertionAlgorithm.PS256, rsa.RSAPrivateKey():
            pss = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=_PSS_SALT_BYTES)
            return key.sign(signed, pss, SHA256())
        case AssertionAlgorithm.ES256, ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
            return r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES)
        case AssertionAlgorithm.EDDSA, ed25519.Ed25519PrivateKey():
            return key.sign(signed)
        case _:
            kinds = {AssertionAlgorithm.ES256: "P-256", AssertionAlgorithm.EDDSA: "Ed25519"}
            raise ValueError(f"{algorithm} needs a key of kind {kinds.get(algorithm, 'RSA')}")


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

"""Public keys as joserfc takes them."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from joserfc.jwk import Key

JWS_ALGORITHMS = ["RS256", "PS256", "PS512", "ES256", "ES512", "EdDSA", "Ed25519"]


def public_key(pem: str) -> "Key":
    """Of a PEM text. Raises ValueError where it is none, or of a kind that signs nothing."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from joserfc.jwk import import_key

    loaded = load_pem_public_key(pem.encode())
    kinds: dict[type, Literal["EC", "OKP", "RSA"]] = {
        ec.EllipticCurvePublicKey: "EC",
        ed25519.Ed25519PublicKey: "OKP",
        rsa.RSAPublicKey: "RSA",
    }
    kind = next((name for known, name in kinds.items() if isinstance(loaded, known)), None)
    if kind is None:
        raise ValueError("the key is neither RSA, nor EC, nor Ed25519")
    return import_key(pem, kind)

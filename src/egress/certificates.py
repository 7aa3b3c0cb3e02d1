"""Certificates and keys in PEM: judged before they are stored, and described.

The library that reads them (`cryptography`) is imported at the first use.
"""

import base64
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from domain.certificates import CertificateFacts, ClientCertificate
from domain.values import value_class

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

MOST_CERTIFICATES = 10
MOST_ROOTS = 50
LEAST_RSA_BITS = 2048  # NIST SP 800-131A revision 2, table 2
MOST_RSA_BITS = 4096
# Whether numbers are prime is checked when a key is read, before its size is known: of 8,192 bits that takes seconds.
MOST_KEY_CHARACTERS = 4500
# Whoever encrypts a key chooses how long it takes to derive that key's key from the passphrase. Usual are 2,048 to
# 600,000 rounds; a million take half a second.
MOST_ROUNDS = 1_000_000
_LONGEST_NAME = 500
_WEAK_HASHES = frozenset({"md5", "sha1"})  # OpenSSL refuses certificates that are signed with them
_INTEGER, _CONSTRUCTED = 0x02, 0x20  # tags (X.690 section 8.1.2)
_ENCRYPTED = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----([A-Za-z0-9+/=\s]*)-----END")


@value_class(frozen=True, slots=True, kw_only=True)
class PemFault:
    """What is wrong with one text. `member` is its name in the API: certificate, key or passphrase."""

    member: str
    detail: str


class PemFaultsError(Exception):
    """PEM that cannot be used, with every fault that was found. The texts repeat nothing of a key."""

    def __init__(self, faults: Sequence[PemFault]) -> None:
        super().__init__("; ".join(f"{fault.member} {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


def client_certificate(
    certificate: str, key: str, passphrase: str | None, *, now: datetime
) -> tuple[ClientCertificate, CertificateFacts]:
    """Certificate and key as they are stored, and what is shown of them. Raises PemFaultsError.

    `certificate` is the chain, the certificate of the key first.
    """
    faults: list[PemFault] = []
    chain = _read_certificates(certificate, member="certificate", most=MOST_CERTIFICATES, faults=faults)
    private = private_key(key, passphrase, faults=faults)
    if chain:
        faults += _chain_faults(chain, now=now)
    if chain and private is not None:
        faults += _pair_faults(chain, private)
    if faults or private is None:
        raise PemFaultsError(faults)
    return ClientCertificate(chain=_pem(chain), key=key_pem(private)), facts(chain[0])


def roots_faults(roots: str, *, now: datetime) -> list[str]:
    """What is wrong with the roots that a destination is to trust."""
    faults: list[PemFault] = []
    certificates = _read_certificates(roots, member="ca", most=MOST_ROOTS, faults=faults)
    expired = (_time_fault(root, number, now=now) for number, root in enumerate(certificates, start=1))
    return [fault.detail for fault in faults] + [detail for detail in expired if detail is not None]


def private_key(key: str, passphrase: str | None, *, faults: list[PemFault]) -> "PrivateKeyTypes | None":
    """A private key in PEM, perhaps encrypted. Where it cannot be used, None, and why is added to `faults`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if len(key.strip()) > MOST_KEY_CHARACTERS:
        faults.append(PemFault(member="key", detail=f"has more than {MOST_KEY_CHARACTERS:,} characters"))
        return None
    if _rounds(key) > MOST_ROUNDS:
        faults.append(PemFault(member="key", detail=f"is encrypted with more than {MOST_ROUNDS:,} rounds"))
        return None
    try:
        private = load_pem_private_key(key.encode(), passphrase.encode() if passphrase is not None else None)
    except TypeError:  # with a passphrase for a key that is not encrypted, or the other way round
        faults.append(_passphrase_fault(passphrase))
        return None
    except UnsupportedAlgorithm:
        faults.append(PemFault(member="key", detail="is of a kind, or encrypted in a way, that is not supported"))
        return None
    except ValueError:
        wrong = "cannot be read with this passphrase" if passphrase is not None else "is not a private key in PEM"
        faults.append(PemFault(member="key", detail=wrong))
        return None
    weak = [PemFault(member="key", detail=detail) for detail in _weaknesses(private)]
    faults += weak
    return None if weak else private


def key_pem(private: "PrivateKeyTypes") -> str:
    """The key as it is sealed: PKCS #8 in PEM, not encrypted."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def facts(certificate: "Certificate") -> CertificateFacts:
    """What is shown of a certificate."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return CertificateFacts(
        subject=_name(certificate.subject.rfc4514_string()),
        issuer=_name(certificate.issuer.rfc4514_string()),
        serial_number=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(SHA256()).hex(),
    )


def facts_of_der(der: bytes) -> CertificateFacts | None:
    """What is shown of a certificate that a partner sent; None where it cannot be read."""
    from cryptography.x509 import load_der_x509_certificate

    try:
        return facts(load_der_x509_certificate(der))
    except ValueError:
        return None


def _read_certificates(text: str, *, member: str, most: int, faults: list[PemFault]) -> "list[Certificate]":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import load_pem_x509_certificates

    if text.count("-----BEGIN") > most:
        faults.append(PemFault(member=member, detail=f"has more than {most} certificates"))
        return []
    try:
        certificates = load_pem_x509_certificates(text.encode())
        for certificate in certificates:
            _read_whole(certificate)
    except (ValueError, UnsupportedAlgorithm):
        faults.append(PemFault(member=member, detail="is not one or more certificates in PEM"))
        return []
    return certificates


def _read_whole(certificate: "Certificate") -> None:
    """The library reads parts at their first use: here, so that a certificate with an unreadable part is refused now.

    Raises ValueError and UnsupportedAlgorithm.
    """
    facts(certificate)
    certificate.public_key()
    _ = certificate.signature_hash_algorithm, certificate.extensions


def _chain_faults(chain: "Sequence[Certificate]", *, now: datetime) -> Iterator[PemFault]:
    for number, certificate in enumerate(chain, start=1):
        detail = _time_fault(certificate, number, now=now)
        if detail is not None:
            yield PemFault(member="certificate", detail=detail)
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name in _WEAK_HASHES and certificate.issuer != certificate.subject:
            yield PemFault(
                member="certificate", detail=f"{number} is signed with {algorithm.name}, which is not accepted any more"
            )
    for number, (certificate, issuer) in enumerate(itertools.pairwise(chain), start=1):
        if certificate.issuer != issuer.subject:
            yield PemFault(
                member="certificate", detail=f"{number} was not issued by the next one: the chain is out of order"
            )


def _time_fault(certificate: "Certificate", number: int, *, now: datetime) -> str | None:
    if certificate.not_valid_after_utc <= now:
        return f"{number} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    if certificate.not_valid_before_utc > now:
        return f"{number} is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _pair_faults(chain: "Sequence[Certificate]", private: "PrivateKeyTypes") -> Iterator[PemFault]:
    public = private.public_key()
    owners = [number for number, certificate in enumerate(chain, start=1) if certificate.public_key() == public]
    if not owners:
        yield PemFault(member="key", detail="is not the key of the certificate")
    elif owners[0] != 1:
        yield PemFault(member="certificate", detail=f"must begin with that of the key, which is number {owners[0]}")


def _weaknesses(private: "PrivateKeyTypes") -> Iterator[str]:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    match private:
        case RSAPrivateKey():
            if not LEAST_RSA_BITS <= private.key_size <= MOST_RSA_BITS:
                yield f"has {private.key_size} bits; an RSA key must have {LEAST_RSA_BITS} to {MOST_RSA_BITS}"
        case EllipticCurvePrivateKey():
            if not isinstance(private.curve, SECP256R1 | SECP384R1 | SECP521R1):
                yield "is on another curve than P-256, P-384 and P-521"
        case Ed25519PrivateKey() | Ed448PrivateKey():
            return
        case _:
            yield "is not a key for RSA, ECDSA, Ed25519 or Ed448"


def _passphrase_fault(passphrase: str | None) -> PemFault:
    if passphrase is None:
        return PemFault(member="passphrase", detail="is missing: the key is encrypted")
    return PemFault(member="passphrase", detail="must be left out: the key is not encrypted")


def _rounds(key: str) -> int:
    """The largest number in the parameters of an encrypted key (RFC 8018 appendix A.2): its rounds, or the cost of
    scrypt. 0 where it is not an encrypted key that can be read; then the library says so, or derives nothing.
    """
    match = _ENCRYPTED.search(key)
    if match is None:
        return 0
    try:
        return max(_integers(base64.b64decode("".join(match[1].split()))), default=0)
    except (ValueError, IndexError):
        return 0


def _integers(der: bytes) -> Iterator[int]:
    """All INTEGERs of a DER text, however deep."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        content, at = der[at : at + length], at + length
        if tag == _INTEGER:
            yield int.from_bytes(content)
        elif tag & _CONSTRUCTED:
            yield from _integers(content)


def _pem(chain: "Sequence[Certificate]") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)


def _name(text: str) -> str:
    """A name that anybody may have chosen, for one line of text: without control characters and not endless."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable if len(printable) <= _LONGEST_NAME else f"{printable[:_LONGEST_NAME]}..."

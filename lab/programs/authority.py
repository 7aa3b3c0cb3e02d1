"""The lab's certificate authority. It stands in for Amazon's and the public ones, and all of the lab's programs
trust it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, create_default_context

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=1)
_EARLIER = timedelta(hours=1)
_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Two PEM files: the certificate and its key, which nobody else may read."""

    chain: Path
    key: Path

    def server(self) -> SSLContext:
        """For a server that shows it."""
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Issues certificates into `directory`, for a day. `roots` is the PEM file to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sallyport lab")])
        self._own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self.roots = directory / "roots.pem"
        self.roots.write_bytes(self._root().public_bytes(serialization.Encoding.PEM))

    def issue(self, file: str, names: Iterable[str], addresses: Iterable[IPv4Address] = ()) -> Certificate:
        """A server's certificate for all of `names` and `addresses`; `file` is what its files are called."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)])
        certificate = (
            self._begun(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        made = Certificate(chain=self._directory / f"{file}.pem", key=self._directory / f"{file}.key")
        made.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.touch(mode=0o600)
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made

    def client(self) -> SSLContext:
        """For a client that verifies the server."""
        return create_default_context(cafile=str(self.roots))

    def _root(self) -> x509.Certificate:
        return (
            self._begun(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._own), critical=False)
        )

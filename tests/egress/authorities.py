"""A certificate authority of the tests' own, servers' TLS set-ups under it, and clients' certificates."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, kw_only=True)
class Authority:
    """`roots` is its CA bundle; certificates that it signs go into `directory`."""

    roots: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @classmethod
    def new(cls, directory: Path, *, name: str = "tests") -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key, ends=datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        roots = directory / "roots.pem"
        roots.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(roots=roots, key=key, certificate=certificate, directory=directory)

    def context(
        self, *names: str, expired: bool = False, self_signed: bool = False, protocols: tuple[str, ...] = ()
    ) -> ssl.SSLContext:
        """For a server whose certificate says `names` (host names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner")])
        issuer, issuer_key = (subject, key) if self_signed else (self.certificate.subject, self.key)
        ends = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        certificate = (
            _builder(subject, issuer, key, ends=ends)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files(certificate, key))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def insisting(self, *names: str, clients: "Authority", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """For a server that only clients with a certificate of `clients` may use, by this version of TLS alone."""
        context = self.context(*names)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.roots)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def client(
        self,
        name: str,
        *,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        starts_in: timedelta = timedelta(days=-1),
        lasts: timedelta = timedelta(days=2),
        self_signed: bool = False,
    ) -> tuple[str, str]:
        """A client's certificate and its key, both in PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        starts = datetime.now(UTC) + starts_in
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(starts + lasts)
            .sign(key if self_signed else self.key, None if _is_edwards(key, self_signed) else hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), unencrypted(key)

    def _files(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        certificate_file = self.directory / f"{certificate.serial_number}.pem"
        key_file = self.directory / f"{certificate.serial_number}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file


def unencrypted(key: CertificateIssuerPrivateKeyTypes) -> str:
    """The key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def encrypted(key: CertificateIssuerPrivateKeyTypes, passphrase: str) -> str:
    """The key in PEM, encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()


def _is_edwards(key: CertificateIssuerPrivateKeyTypes, self_signed: bool) -> bool:
    """Whether the signature has a hash of its own."""
    return self_signed and isinstance(key, ed25519.Ed25519PrivateKey)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=3))
        .not_valid_after(ends)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)

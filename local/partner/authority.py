"""The partner's certificates, made at the start, in memory: a CA, what its listeners show, what callers show."""

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key, PKCS #8, not encrypted."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption())


class PartnerAuthority:
    """A CA with the common name `name`. It signs for a month, or for a day that is over."""

    def __init__(self, name: str = "Sallyport demo partner") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _subject(name)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = self._builder(self._subject, key, expired=False).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._own = KeyPair(certificate=builder.add_extension(_SIGNS, True).sign(key, hashes.SHA256()), key=key)

    @property
    def certificate_pem(self) -> bytes:
        """What callers have to trust."""
        return self._own.certificate_pem

    def server(self, *names: str, expired: bool = False) -> KeyPair:
        """For a listener with these host names or addresses."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue(names[0], ExtendedKeyUsageOID.SERVER_AUTH, alternatives, expired=expired)

    def client(self, name: str, *, expired: bool = False) -> KeyPair:
        """For a caller."""
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, alternatives, expired=expired)

    def _issue(
        self, name: str, usage: x509.ObjectIdentifier, names: x509.SubjectAlternativeName, *, expired: bool
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_subject(name), key, expired=expired)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=False)
        )
        return KeyPair(certificate=builder.sign(self._own.key, hashes.SHA256()), key=key)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool
    ) -> x509.CertificateBuilder:
        begins = datetime.now(UTC) - timedelta(days=2 if expired else 1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + (timedelta(days=1) if expired else _LIFE))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
        )


def server_context(shown: KeyPair, *, clients_of: PartnerAuthority | None = None) -> ssl.SSLContext:
    """For a listener that shows `shown`; with `clients_of` it demands a certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL takes certificates from a file alone: nobody else can read it, and it is gone with the block.
    with tempfile.NamedTemporaryFile(prefix="sallyport-partner-", suffix=".pem") as file:
        file.write(shown.certificate_pem + shown.key_pem)
        file.flush()
        context.load_cert_chain(Path(file.name))
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients_of.certificate_pem.decode("ascii"))
    return context


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


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)

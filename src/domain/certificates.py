"""Client certificates and what a destination asks of TLS."""

from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from domain.values import value_class

EXPIRING_DAYS = (7, 30)  # before its end somebody is told that a certificate has to be replaced


@value_class(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What is shown of a certificate. Names are those of RFC 4514, `serial_number` and `sha256` (of the DER form, as
    in RFC 8705 section 3.1) are lower-case hex."""

    subject: str
    issuer: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    sha256: str

    def expiring_days(self, *, now: datetime) -> int | None:
        """The smallest of EXPIRING_DAYS within which it ends, or has ended; None where it lasts longer."""
        left = self.not_after - now
        return next((days for days in EXPIRING_DAYS if left <= timedelta(days=days)), None)


@value_class(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A chain in PEM, the certificate of the key first, and its private key, unencrypted PKCS #8 in PEM."""

    chain: str
    key: str = field(repr=False)


class TlsVersion(StrEnum):
    """Versions of TLS, as the API and the database name them."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@value_class(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """What a destination asks of TLS.

    `ca` are the roots to trust instead of the public ones, in PEM; None for those. `pins` are of the form
    sha256/<base64 of SHA-256 over a SubjectPublicKeyInfo>: where there are any, the partner's own certificate must
    have one of these keys (RFC 7469 section 2.4), beside all other checks.
    """

    ca: str | None = None
    pins: tuple[str, ...] = ()
    minimum_version: TlsVersion = TlsVersion.TLS_1_2

"""`client_certificate`: what a destination's partner knows us by in TLS."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.certificates import CertificateFacts, ClientCertificate
from domain.errors import Fault
from egress.certificates import PemFaultsError, client_certificate
from handlers.schemas.destinations.fields import Secret


class NewClientCertificateBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client certificate and its key, both in PEM. Write-only: sealed, and never shown again."""

    certificate: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=65_536,
            extra_json_schema={"writeOnly": True},
            description="The chain, that of the key first and each one issued by the next; at most ten",
        ),
    ]
    key: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=8192,
            extra_json_schema={"writeOnly": True},
            description="The private key: RSA of 2048 to 4096 bits, P-256, P-384, P-521, Ed25519 or Ed448",
        ),
    ]
    passphrase: Annotated[Secret, Meta(description="Of an encrypted key. It is not stored")] | UnsetType = UNSET


class ClientCertificateBody(Struct, frozen=True, kw_only=True):
    """What is shown of a client certificate."""

    subject: Annotated[str, Meta(description="Whom it names (RFC 4514)")]
    issuer: Annotated[str, Meta(description="Who issued it (RFC 4514)")]
    serial_number: Annotated[str, Meta(description="Hexadecimal, as its issuer numbered it")]
    not_before: Annotated[datetime, Meta(description="From when on it is valid")]
    not_after: Annotated[datetime, Meta(description="Until when it is valid; from then on partners refuse it")]
    sha256: Annotated[str, Meta(description="Thumbprint: SHA-256 over its DER form, in hexadecimal")]


def faults(
    body: NewClientCertificateBody | None, at: str = "/client_certificate", *, base_url: str, now: datetime
) -> list[Fault]:
    """What is wrong with the certificate, all of it. No fault repeats anything of the key."""
    if body is None:
        return []
    plain = not base_url.lower().startswith("https://")
    found = [Fault(field=at, detail="needs a base_url that begins with https://")] if plain else []
    try:
        domain(body, now=now)
    except PemFaultsError as error:
        found += [Fault(field=f"{at}/{fault.member}", detail=fault.detail) for fault in error.faults]
    return found


def domain(body: NewClientCertificateBody, *, now: datetime) -> tuple[ClientCertificate, CertificateFacts]:
    """The certificate as it is sealed, and what is shown of it. Raises PemFaultsError."""
    passphrase = None if body.passphrase is UNSET else body.passphrase
    return client_certificate(body.certificate, body.key, passphrase, now=now)


def shown(certificate: CertificateFacts | None) -> ClientCertificateBody | None:
    """What the API shows of it."""
    if certificate is None:
        return None
    names = ClientCertificateBody.__struct_fields__
    return ClientCertificateBody(**{name: getattr(certificate, name) for name in names})

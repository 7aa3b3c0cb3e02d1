"""`tls`: what a destination asks of TLS."""

import base64
import binascii
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from domain.certificates import TlsOptions, TlsVersion
from domain.errors import Fault
from egress.certificates import roots_faults

MOST_PINS = 10
_PIN_PREFIX = "sha256/"
_SHA256_BYTES = 32


class TlsBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked of TLS beyond the usual: certificate and host name are always verified."""

    ca: Annotated[
        Annotated[str, Meta(min_length=1, max_length=131_072)] | None,
        Meta(description="Roots in PEM that are trusted instead of the public ones; null for those"),
    ] = None
    pins: Annotated[
        list[Annotated[str, Meta(max_length=100)]],
        Meta(
            max_length=MOST_PINS,
            description="Where there are any, the partner must show a certificate with one of these keys: sha256/ and "
            "base64 of SHA-256 over its SubjectPublicKeyInfo",
        ),
    ] = []
    minimum_version: Annotated[TlsVersion, Meta(description="The oldest version that is spoken")] = TlsVersion.TLS_1_2


def faults(body: TlsBody | None, at: str = "/tls", *, base_url: str, now: datetime) -> list[Fault]:
    """What is wrong with it, all of it."""
    if body is None:
        return []
    plain = not base_url.lower().startswith("https://")
    found = [Fault(field=at, detail="needs a base_url that begins with https://")] if plain else []
    if body.ca is not None:
        found += [Fault(field=f"{at}/ca", detail=detail) for detail in roots_faults(body.ca, now=now)]
    return found + [
        Fault(field=f"{at}/pins/{number}", detail="must be sha256/ and the base64 of 32 bytes")
        for number, pin in enumerate(body.pins)
        if not _is_pin(pin)
    ]


def domain(body: TlsBody | None) -> TlsOptions | None:
    """As the flows take it; None where it is the usual."""
    if body is None:
        return None
    options = TlsOptions(ca=body.ca, pins=tuple(body.pins), minimum_version=body.minimum_version)
    return None if options == TlsOptions() else options


def shown(options: TlsOptions | None) -> TlsBody | None:
    """What the API shows of it."""
    if options is None:
        return None
    return TlsBody(ca=options.ca, pins=list(options.pins), minimum_version=options.minimum_version)


def _is_pin(pin: str) -> bool:
    try:
        digest = base64.b64decode(pin.removeprefix(_PIN_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return pin.startswith(_PIN_PREFIX) and len(digest) == _SHA256_BYTES

"""`verify`: how a destination is verified, and what came of it."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from domain.errors import Fault
from domain.probe import ProbeOptions, ProbeResult
from domain.targets import path_fault
from flows.verify_destination import Verified
from handlers.schemas.destinations import certificate
from handlers.schemas.destinations.certificate import ClientCertificateBody


class VerifyBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for to verify a destination."""

    path: Annotated[
        str, Meta(max_length=500, description="Asked for with GET, below the base URL; a GET of it must change nothing")
    ]


class VerificationBody(Struct, frozen=True, kw_only=True):
    """How far a request to the destination came just now."""

    method: Annotated[str, Meta(description="OPTIONS, or GET where the destination says a path")]
    path: Annotated[str, Meta(description="Below the base URL")]
    result: Annotated[
        ProbeResult,
        Meta(
            description="answered: with any status but these. denied: with 401, 403 or 407, so credentials or the "
            "allowlist are wrong. no_answer: it was sent. tls_refused_by_us, tls_refused_by_partner, tls_failed: "
            "reason says why. not_connected: most often the partner has not allowlisted our address. "
            "name_not_resolved. no_access_token: none could be had. credentials_unusable: they cannot be opened, or "
            "it cannot be signed. refused_by_guard: we do not call such addresses. not_sent: otherwise, see reason"
        ),
    ]
    partner_status: Annotated[int | None, Meta(description="The partner's status; null without an answer")]
    reason: Annotated[str | None, Meta(description="Why there is no answer; null with one")]
    partner_certificate: Annotated[
        ClientCertificateBody | None,
        Meta(description="Which certificate the partner showed, where TLS failed after it"),
    ]
    remote_address: Annotated[
        str | None,
        Meta(description="The partner's address that was connected to, or that a connection was tried to first"),
    ]
    egress_address: Annotated[
        str | None,
        Meta(description="The fixed address it left from; null where nothing left, or where it is not known"),
    ]
    total_ms: Annotated[float, Meta(description="Milliseconds until it was over")]
    verified_at: Annotated[datetime, Meta(description="When it was sent")]


def faults(body: VerifyBody | None, at: str = "/verify") -> list[Fault]:
    """What the types alone cannot judge."""
    fault = None if body is None else path_fault(body.path)
    return [] if fault is None else [Fault(field=f"{at}/path", detail=fault)]


def domain(body: VerifyBody | None) -> ProbeOptions | None:
    """As the flows take it."""
    return None if body is None else ProbeOptions(path=body.path)


def shown(options: ProbeOptions | None) -> VerifyBody | None:
    """What the API shows of it."""
    return None if options is None else VerifyBody(path=options.path)


def verification_body(verified: Verified) -> VerificationBody:
    """What the API shows of a request that was made."""
    return VerificationBody(
        method=verified.method,
        path=verified.path,
        result=verified.result,
        partner_status=verified.status,
        reason=verified.reason,
        partner_certificate=certificate.shown(verified.shown),
        remote_address=verified.remote_address,
        egress_address=verified.egress_address,
        total_ms=round(verified.total_ms, 3),
        verified_at=verified.verified_at,
    )

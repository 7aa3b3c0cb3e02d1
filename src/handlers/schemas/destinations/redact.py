"""`redact`: what of requests and responses is never stored."""

from typing import Annotated

from msgspec import Meta, Struct

from domain.errors import Fault
from domain.questions import pointer_fault
from domain.redaction import Redaction
from handlers.schemas.destinations.fields import FIELD_NAME, IS_HEADER

MOST = 50

HeaderName = Annotated[str, Meta(pattern=FIELD_NAME, extra=IS_HEADER)]


class RedactBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of requests and responses is never stored, beyond the end of a delivery."""

    headers: Annotated[
        list[HeaderName], Meta(max_length=MOST, description="Names of headers whose values are not stored, in any case")
    ] = []
    pointers: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=500)]],
        Meta(
            max_length=MOST,
            description="JSON pointers (RFC 6901) to what is not stored of responses: null is stored instead. A "
            "response that is not JSON is not stored, nor is the body of a request once its delivery has ended",
        ),
    ] = []


def faults(body: RedactBody | None, at: str = "/redact") -> list[Fault]:
    """What the types alone cannot judge."""
    if body is None:
        return []
    if not body.headers and not body.pointers:
        return [Fault(field=at, detail="must name headers or pointers; null for nothing")]
    wrong = ((number, pointer_fault(pointer)) for number, pointer in enumerate(body.pointers))
    return [Fault(field=f"{at}/pointers/{number}", detail=detail) for number, detail in wrong if detail is not None]


def domain(body: RedactBody | None) -> Redaction | None:
    """As the flows take it."""
    return None if body is None else Redaction(headers=tuple(body.headers), pointers=tuple(body.pointers))


def shown(redaction: Redaction | None) -> RedactBody | None:
    """What the API shows of it."""
    return None if redaction is None else RedactBody(headers=list(redaction.headers), pointers=list(redaction.pointers))

"""Attempts and partners' responses, as parts of a delivery's body."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from domain.bodies import STORED_RESPONSE_BYTES
from domain.deliveries import Attempt, AttemptKind, StoredResponse
from domain.outcomes import OutcomeKind
from handlers.schemas.headers import HeaderValues, header_values


class TimingsBody(Struct, frozen=True):
    """Milliseconds from the start of the attempt; null where that step was not reached."""

    dns_ms: Annotated[float | None, Meta(description="Until the partner's name was resolved")]
    connect_ms: Annotated[float | None, Meta(description="Until the connection stood")]
    tls_ms: Annotated[float | None, Meta(description="Until TLS was agreed")]
    first_byte_ms: Annotated[float | None, Meta(description="Until the first byte of the answer")]
    total_ms: Annotated[float, Meta(description="Until the attempt was over")]


class ResponseBody(Struct, frozen=True, kw_only=True):
    """A partner's response. Its body is in `body` where it is text and in `body_base64` otherwise, the other is null.

    `length_bytes` and `sha256` (hex) speak of the whole body, decoded; null where it was not read to its end.
    `truncated` says that what is here is not the whole answer as it came: the body was cut, headers were left out or
    cut, or credentials that the partner sent back were masked.
    """

    status: Annotated[int, Meta(description="The partner's status")]
    headers: HeaderValues
    body: Annotated[str | None, Meta(description="The body where it is text; null otherwise")]
    body_base64: Annotated[str | None, Meta(description="The body in base64 where it is no text; null otherwise")]
    length_bytes: Annotated[
        int | None, Meta(description="Of the whole body, decoded; null where it was not read to its end")
    ]
    sha256: Annotated[
        str | None,
        Meta(description="Of the whole body, decoded, in hexadecimal; null where it was not read to its end"),
    ]
    truncated: Annotated[
        bool,
        Meta(
            description="Not the whole answer as it came: its body was cut, headers were left out or cut, or "
            "credentials that the partner sent back were masked. A header `Sallyport-Note` says more"
        ),
    ]


class AttemptBody(Struct, frozen=True, kw_only=True):
    """One try. `reason` is null when answered, `response` unless answered."""

    attempt_id: Annotated[UUID, Meta(description="The attempt's id")]
    number: Annotated[int, Meta(ge=1, description="1 for the first attempt; of questions too")]
    kind: Annotated[
        AttemptKind,
        Meta(description="send: the delivery was sent. reconcile: the partner was asked what became of it"),
    ]
    outcome: Annotated[
        OutcomeKind,
        Meta(
            description="answered: an answer came. unreachable: nothing was sent. unknown: some of it was sent and no "
            "complete answer came. refused: Sallyport did not let it out"
        ),
    ]
    reason: Annotated[str | None, Meta(description="Why no answer came, in words; null when answered")]
    started_at: Annotated[
        datetime,
        Meta(description="When the attempt began; of one whose worker crashed, when that was found, after its lease"),
    ]
    timings: Annotated[TimingsBody, Meta(description="How long its steps took")]
    remote_address: Annotated[str | None, Meta(description="The partner's address that was connected to")]
    egress_address: Annotated[str | None, Meta(description="The fixed address it left from, where one is known")]
    response: Annotated[ResponseBody | None, Meta(description="What is stored of the answer; null unless answered")]


def attempt_body(attempt: Attempt) -> AttemptBody:
    """What the API shows of an attempt."""
    timings = attempt.timings
    return AttemptBody(
        attempt_id=attempt.attempt_id,
        number=attempt.number,
        kind=attempt.kind,
        outcome=attempt.outcome,
        reason=attempt.reason,
        started_at=attempt.started_at,
        timings=TimingsBody(
            dns_ms=_rounded(timings.dns_ms),
            connect_ms=_rounded(timings.connect_ms),
            tls_ms=_rounded(timings.tls_ms),
            first_byte_ms=_rounded(timings.first_byte_ms),
            total_ms=round(timings.total_ms, 3),
        ),
        remote_address=attempt.remote_address,
        egress_address=attempt.egress_address,
        response=None if attempt.response is None else response_body(attempt.response),
    )


def response_body(response: StoredResponse) -> ResponseBody:
    """What the API shows of a stored response."""
    text = _text(response.body)
    return ResponseBody(
        status=response.status,
        headers=header_values(response.headers),
        body=text,
        body_base64=b64encode(response.body).decode() if text is None else None,
        length_bytes=response.length_bytes,
        sha256=response.sha256.hex() if response.sha256 else None,
        truncated=response.truncated,
    )


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _text(body: bytes) -> str | None:
    """The body as text; None where it is none, or where escaping it in JSON could take more room than base64 does."""
    if len(body) > STORED_RESPONSE_BYTES:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None

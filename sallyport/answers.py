"""What an answer means: whose it is, and what became of the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sallyport import exact
from sallyport.errors import (
    AnswerWithheld,
    GatewayError,
    GatewayUnavailable,
    NotSallyport,
    PartnerUnreachable,
    RequestRefused,
    StillRunning,
    TokenRefused,
    UnknownOutcome,
)

PROBLEM = "application/problem+json"
PREFIX = "urn:sallyport:problem:"
_UNAVAILABLE = {"unavailable", "too-many-requests", "would-wait", "destination-paused", "too-soon"}
_UNREACHED = {"partner-unreachable", "egress-refused"}
_WITHHELD = {"response-too-large", "invalid-status", "response-not-stored", "answer-too-large"}
_OPEN = {"timeout", "internal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """An answer as it came; names of headers in lower case, the last of several values."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body. Raises NotSallyport where it is not JSON."""
        try:
            return exact.loads(self.content)
        except ValueError as error:
            raise NotSallyport(f"the answer ({self.status}) is not JSON: this is not Sallyport's API") from error

    @property
    def delivery_id(self) -> str | None:
        """Of the delivery that the call led to."""
        return self.headers.get("sallyport-delivery-id")


def is_partners(answer: GatewayAnswer) -> bool:
    """Whether it is the partner's own answer: no partner can set this header, and nothing else does."""
    return answer.headers.get("sallyport-outcome") == "answered"


def checked(answer: GatewayAnswer, *, key: str | None = None) -> GatewayAnswer:
    """The answer, where the gateway did what was asked. Raises the error that it means otherwise."""
    if answer.status < 300 and _is_ours(answer):
        return answer
    raise failure(answer, key=key)


def _is_ours(answer: GatewayAnswer) -> bool:
    """Redirects, and pages that some proxy or portal sent, are not."""
    return not answer.headers.get("content-type", "").startswith("text/html") or answer.status == 204


def failure(answer: GatewayAnswer, *, key: str | None = None) -> GatewayError:
    """What an answer means that is neither the partner's nor a success. `key` is the request's idempotency key."""
    if not answer.headers.get("content-type", "").startswith(PROBLEM):
        return _foreign(answer, key)
    problem = answer.json
    kind = str(problem.get("type", "")).removeprefix(PREFIX) if isinstance(problem, dict) else ""
    if not kind:
        return _foreign(answer, key)
    delivery_id = problem.get("delivery_id") or answer.delivery_id
    text = _told(kind, problem)
    if kind in _UNAVAILABLE:
        return GatewayUnavailable(text, kind=kind, status=answer.status, retry_after_seconds=_retry_after(answer))
    if kind == "outcome-unknown" or kind in _OPEN:
        return UnknownOutcome(text, delivery_id=delivery_id, idempotency_key=key)
    if kind in ("not-ended", "in-flight"):
        wait = _retry_after(answer)
        return StillRunning(text, delivery_id=delivery_id, idempotency_key=key, retry_after_seconds=wait)
    if kind in _UNREACHED:
        return PartnerUnreachable(text, delivery_id=delivery_id)
    if kind in _WITHHELD:
        return AnswerWithheld(text, delivery_id=delivery_id, partner_status=problem.get("partner_status"))
    error = TokenRefused if kind == "unauthorized" else RequestRefused
    return error(text, kind=kind, status=answer.status, members=problem)


def _told(kind: str, problem: Mapping[str, Any]) -> str:
    """The problem in words: its title, and what is at fault."""
    faults = [f"{fault['field'] or 'the body'}: {fault['detail']}" for fault in problem.get("faults", [])]
    detail = "; ".join(faults) or problem.get("detail") or ""
    said = f"{problem.get('title', kind)} ({detail})" if detail else str(problem.get("title", kind))
    if kind == "outcome-unknown":
        return f"{said}. This is no time-out: the partner may have acted on it. Do not send it again, ask the partner"
    return said


def _foreign(answer: GatewayAnswer, key: str | None) -> GatewayError:
    """An answer that is no problem of Sallyport's: something before it or instead of it sent it."""
    kind = answer.headers.get("content-type", "no media type").partition(";")[0]
    said = f"the answer ({answer.status}, {kind}) is not Sallyport's"
    if answer.status in (502, 503, 504):
        text = f"{said}: something before it failed, and the call may have been passed on"
        return UnknownOutcome(text, delivery_id=answer.delivery_id, idempotency_key=key)
    if answer.status == 403:
        said += ": on API Gateway the URL ends with the stage, such as /prod"
    return NotSallyport(said)


def _retry_after(answer: GatewayAnswer) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None

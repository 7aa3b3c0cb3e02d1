"""Errors become problems here: the only table from our exceptions to RFC 9457 `application/problem+json`.

docs/problems.md describes each kind; a contract test holds the two together.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from http import HTTPStatus
from typing import assert_never

from aws_lambda_powertools.event_handler import Response

from domain import errors
from domain.deliveries import Delivery
from domain.errors import SallyportError
from domain.outcomes import OutcomeKind
from domain.values import value_class

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sallyport:problem:"
FAULTS_SHOWN = 100


@value_class(frozen=True, slots=True, kw_only=True)
class Problem:
    """One answer to a request that did not succeed. `extensions` are RFC 9457 extension members."""

    kind: str
    status: HTTPStatus
    title: str
    detail: str
    extensions: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


TITLES = {
    "invalid-request": "The request has fields that cannot be accepted",
    "malformed-request": "The request cannot be read",
    "unauthorized": "A valid bearer token is required",
    "forbidden": "The token does not allow this",
    "not-allowed": "The destination does not allow this request",
    "not-found": "The resource does not exist",
    "method-not-allowed": "The resource does not support this method",
    "name-taken": "The name is in use",
    "wrong-state": "The state does not allow this",
    "no-question": "The destination does not say how its partner is asked",
    "being-asked": "The partner is being asked about it at present",
    "deliveries-unfinished": "Deliveries to the destination are unfinished",
    "same-token": "Another token has to approve this",
    "too-many-proposals": "Too many proposals are open",
    "too-many-jobs": "Too many jobs are unfinished",
    "destination-deleted": "The delivery's destination was deleted",
    "payload-gone": "What the delivery sent is not stored any more",
    "destination-disabled": "The destination is disabled",
    "destination-paused": "The destination is paused",
    "too-soon": "The destination was verified a moment ago",
    "precondition-failed": "The resource is not at the version that was expected",
    "in-flight": "The first request with this idempotency key is still in flight",
    "response-not-stored": "The stored response is not complete",
    "settled": "What became of the request was settled, but not by its answer",
    "key-reused": "The idempotency key belongs to another request",
    "too-large": "The body is too large",
    "would-wait": "The destination's limits do not let the request go now",
    "unavailable": "Something that Sallyport needs is unavailable at the moment",
    "partner-unreachable": "The partner could not be reached; nothing was sent",
    "outcome-unknown": "The request was sent and no complete answer came",
    "egress-refused": "Sallyport does not allow this request",
    "not-ended": "The delivery has not ended yet",
    "response-too-large": "The partner's response cannot be passed through in full",
    "invalid-status": "The partner's status is not an HTTP status",
    "answer-too-large": "The answer is too large to be returned",
    "internal": "Sallyport failed",
}


def problem(
    kind: str,
    status: HTTPStatus,
    detail: str,
    *,
    extensions: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """A problem of one of the kinds in `TITLES`."""
    return Problem(
        kind=kind, status=status, title=TITLES[kind], detail=detail, extensions=extensions or {}, headers=headers or {}
    )


def problem_of(error: SallyportError) -> Problem:
    """The problem that an error of ours becomes."""
    match error:
        case (
            errors.InvalidRequest()
            | errors.Malformed()
            | errors.KeyReused()
            | errors.JobKeyReused()
            | errors.TooLarge()
        ):
            return _at_fault(error)
        case errors.Unauthorized() | errors.Forbidden() | errors.Restricted() | errors.NotAllowed() | errors.NotFound():
            return _not_allowed(error)
        case errors.Conflict():
            return _conflict(error)
        case errors.TooSoon(retry_after_seconds=seconds, window_seconds=window):
            wait = {"Retry-After": str(seconds), **rate_limit("verify", quota=1, window=window, seconds=seconds)}
            return problem("too-soon", HTTPStatus.TOO_MANY_REQUESTS, str(error), headers=wait)
        case errors.Outdated(version=version):
            members: dict[str, object] = {"version": version}
            return problem("precondition-failed", HTTPStatus.PRECONDITION_FAILED, str(error), extensions=members)
        case errors.DestinationPaused() | errors.NotNow():
            return _not_now(error)
        case errors.Unavailable(retry_after_seconds=seconds):
            headers = {"Retry-After": str(seconds)}
            return problem("unavailable", HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=headers)
        case _:
            return problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "the details are in the log")


def _at_fault(
    error: errors.InvalidRequest | errors.Malformed | errors.KeyReused | errors.JobKeyReused | errors.TooLarge,
) -> Problem:
    match error:
        case errors.InvalidRequest(faults=faults):
            return _invalid(faults)
        case errors.Malformed():
            return problem("malformed-request", HTTPStatus.BAD_REQUEST, str(error))
        case errors.KeyReused(delivery_id=delivery_id):
            members: dict[str, object] = {"delivery_id": delivery_id}
            return problem("key-reused", HTTPStatus.UNPROCESSABLE_ENTITY, str(error), extensions=members)
        case errors.JobKeyReused(job_id=job_id):
            return problem("key-reused", HTTPStatus.UNPROCESSABLE_ENTITY, str(error), extensions={"job_id": job_id})
        case errors.TooLarge():
            return problem("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
        case _:
            assert_never(error)


def _invalid(faults: Sequence[errors.Fault]) -> Problem:
    """Of very many faults the first, for the answer must stay small; `faults_in_all` counts them then."""
    shown = faults[:FAULTS_SHOWN]
    members: dict[str, object] = {"faults": [{"field": fault.field, "detail": fault.detail} for fault in shown]}
    detail = "; ".join(f"{fault.field or 'the body'}: {fault.detail}" for fault in shown)
    if len(faults) > len(shown):
        members["faults_in_all"] = len(faults)
        detail += f"; and {len(faults) - len(shown)} more"
    return problem("invalid-request", HTTPStatus.UNPROCESSABLE_ENTITY, detail, extensions=members)


def _not_allowed(
    error: errors.Unauthorized | errors.Forbidden | errors.Restricted | errors.NotAllowed | errors.NotFound,
) -> Problem:
    match error:
        case errors.Unauthorized():
            headers = {"WWW-Authenticate": 'Bearer realm="sallyport"'}
            return problem("unauthorized", HTTPStatus.UNAUTHORIZED, str(error), headers=headers)
        case errors.Forbidden() | errors.Restricted():
            return problem("forbidden", HTTPStatus.FORBIDDEN, str(error))
        case errors.NotAllowed():
            return problem("not-allowed", HTTPStatus.FORBIDDEN, str(error))
        case errors.NotFound():
            return problem("not-found", HTTPStatus.NOT_FOUND, str(error))
        case _:
            assert_never(error)


# Conflicts that say no more than their detail.
_PLAIN: Mapping[type[errors.Conflict], str] = {
    errors.NameTaken: "name-taken",
    errors.DestinationDeleted: "destination-deleted",
    errors.TooManyJobs: "too-many-jobs",
    errors.SameToken: "same-token",
    errors.NoQuestion: "no-question",
    errors.TooManyProposals: "too-many-proposals",
}


def _conflict(error: errors.Conflict) -> Problem:
    said = _said_of(error)
    if said is None:
        return problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "the details are in the log")
    kind, members, headers = said
    return problem(kind, HTTPStatus.CONFLICT, str(error), extensions=members, headers=headers)


def _said_of(error: errors.Conflict) -> tuple[str, Mapping[str, object], Mapping[str, str]] | None:
    """The kind of a conflict, its extension members, and its headers; None of one that is not known here."""
    match error:
        case errors.WrongState(state=state, possible=possible):
            return "wrong-state", {"state": state, "possible": list(possible)}, {}
        case errors.Unfinished(count=count):
            return "deliveries-unfinished", {"unfinished": count}, {}
        case errors.Disabled(reason=reason):
            return "destination-disabled", {"reason": reason}, {}
        case errors.PayloadGone(payload=payload):
            return "payload-gone", {"payload": payload}, {}
        case errors.BeingAsked(retry_after_seconds=seconds):
            return "being-asked", {}, {"Retry-After": str(seconds)}
        case errors.StillInFlight(delivery_id=delivery_id, retry_after_seconds=seconds):
            return "in-flight", {"delivery_id": delivery_id}, {"Retry-After": str(seconds)}
        case errors.ResponseNotStored(delivery_id=delivery_id, status=status):
            return "response-not-stored", {"delivery_id": delivery_id, "partner_status": status}, {}
        case _:
            kind = _PLAIN.get(type(error))
            return None if kind is None else (kind, {}, {})


def _not_now(error: errors.DestinationPaused | errors.NotNow) -> Problem:
    """429 where the caller sends more than is sent on; 503 where the destination takes nothing at the moment."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    if isinstance(error, errors.DestinationPaused):
        reason = {"reason": error.reason}
        return problem(
            "destination-paused", HTTPStatus.SERVICE_UNAVAILABLE, str(error), extensions=reason, headers=headers
        )
    too_many = error.waiting_for in ("rate_limit", "concurrency")
    status = HTTPStatus.TOO_MANY_REQUESTS if too_many else HTTPStatus.SERVICE_UNAVAILABLE
    members = {"waiting_for": error.waiting_for}
    if error.quota is not None:
        name = error.waiting_for
        headers |= rate_limit(name, quota=error.quota, window=error.window_seconds, seconds=error.retry_after_seconds)
    return problem("would-wait", status, str(error), extensions=members, headers=headers)


def rate_limit(name: str, *, quota: int, window: int | None, seconds: int) -> dict[str, str]:
    """The two fields of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4, for a limit of which nothing is left
    for so many seconds. Without a window it is about requests at one time."""
    unit = 'qu="concurrent-requests"' if window is None else f"w={window}"
    return {"RateLimit-Policy": f'"{name}";q={quota};{unit}', "RateLimit": f'"{name}";r=0;t={seconds}'}


def respond(reported: Problem) -> Response[str]:
    """The HTTP answer that carries a problem."""
    members = {
        "type": TYPE_PREFIX + reported.kind,
        "title": reported.title,
        "status": int(reported.status),
        "detail": reported.detail,
        **reported.extensions,
    }
    return Response(
        status_code=int(reported.status),
        content_type=CONTENT_TYPE,
        body=json.dumps(members),
        headers=dict(reported.headers),
    )


def no_answer(delivery_id: str, outcome: OutcomeKind, reason: str) -> Problem:
    """The problem of a pass-through call whose partner gave no answer; `outcome` is the attempt's."""
    members = {"delivery_id": delivery_id, "outcome": outcome.value}
    match outcome:
        case OutcomeKind.UNREACHABLE:
            return problem("partner-unreachable", HTTPStatus.BAD_GATEWAY, reason, extensions=members)
        case OutcomeKind.REFUSED:
            return problem("egress-refused", HTTPStatus.BAD_GATEWAY, reason, extensions=members)
        case OutcomeKind.UNKNOWN | OutcomeKind.ANSWERED:
            detail = f"{reason}; the partner may have acted on the request"
            return problem("outcome-unknown", HTTPStatus.GATEWAY_TIMEOUT, detail, extensions=members)
        case _:
            assert_never(outcome)


def not_whole(delivery_id: str, status: int, *, reason: str) -> Problem:
    """The problem of a pass-through call whose partner's answer cannot be returned in full; `reason` says why."""
    members = {"delivery_id": delivery_id, "partner_status": status}
    detail = f"{reason}; what came of its answer is stored with the delivery, up to 64 KiB"
    return problem("response-too-large", HTTPStatus.BAD_GATEWAY, detail, extensions=members)


def unsupported_status(delivery_id: str, status: int) -> Problem:
    """The problem of a pass-through call whose partner answered with a status that cannot be returned."""
    members = {"delivery_id": delivery_id, "partner_status": status}
    detail = "the partner answered with a status above 599; its answer is stored with the delivery"
    return problem("invalid-status", HTTPStatus.BAD_GATEWAY, detail, extensions=members)


def settled(delivery: Delivery, *, partner_status: int | None) -> Problem:
    """The problem of a pass-through call that is repeated after its delivery was resolved: what was decided counts more
    than what came, or did not come, of its attempts. `partner_status` is that of an answer to one of them."""
    members: dict[str, object] = {
        "delivery_id": str(delivery.delivery_id),
        "state": delivery.state.value,
        "resolution": delivery.resolution and delivery.resolution.value,
        "resolved_by": delivery.resolved_by,
        "resolved_at": delivery.resolved_at and delivery.resolved_at.isoformat(),
    }
    if partner_status is not None:
        members["partner_status"] = partner_status
    detail = f"the delivery is {delivery.state.value}: it was resolved as {members['resolution']}; nothing was sent now"
    return problem("settled", HTTPStatus.CONFLICT, detail, extensions=members)


def answer_too_large(delivery_id: str | None) -> Problem:
    """The problem where Lambda would not return the answer; with the delivery that it was about, if any."""
    detail = "what was asked for was done, but the answer to it is larger than Lambda can return"
    members = {} if delivery_id is None else {"delivery_id": delivery_id}
    return problem("answer-too-large", HTTPStatus.INTERNAL_SERVER_ERROR, detail, extensions=members)


def not_ended(delivery_id: str) -> Problem:
    """The problem of a pass-through call whose time was up before its attempt ended."""
    detail = f"GET /v1/deliveries/{delivery_id} shows its outcome; it will not be sent a second time"
    return problem("not-ended", HTTPStatus.GATEWAY_TIMEOUT, detail, extensions={"delivery_id": delivery_id})

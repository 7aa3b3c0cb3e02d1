"""/v1/via/{destination}/...: pass a call through. The caller changes its base URL and nothing else.

Method, path, query, headers and body go to the partner, the partner's status, headers and body come back. There is one
attempt: the caller sees its result and decides about another. With `Prefer: respond-async` the call becomes an ordinary
delivery with retries.
"""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, assert_never

from aws_lambda_powertools.event_handler import Response

from domain.deliveries import (
    ASYNC_ATTEMPTS,
    PASS_THROUGH_ATTEMPTS,
    Attempt,
    Delivery,
    NewDelivery,
    Resolution,
    State,
    StoredResponse,
)
from domain.destinations import MAX_TOTAL_SECONDS
from domain.errors import Fault, InvalidRequest, ResponseNotStored
from domain.headers import forwardable, returnable
from domain.outcomes import Answered, Headers, OutcomeKind
from domain.scopes import SEND
from domain.targets import encoded_path, path_fault
from flows.accept import accept
from flows.deliver import Progress, deliver
from handlers import wiring
from handlers.answers import fits
from handlers.operations import Operation, OperationResponse, Parameter, as_json, new_router, serves
from handlers.problems import (
    Problem,
    no_answer,
    not_ended,
    not_whole,
    problem_of,
    respond,
    settled,
    unsupported_status,
)
from handlers.request import Request
from handlers.routes.deliveries import IDEMPOTENCY_KEY
from handlers.schemas.deliveries import DeliveryBody, delivery_body
from handlers.schemas.headers import header_faults

router = new_router()

PREFIX = "/v1/via/"
REPLAYED = "Idempotency-Replayed"
TARGET_LIMIT = 14_000  # path and query, encoded: with the longest base URL they are no longer than the guard allows
HIGHEST_STATUS = 599  # RFC 9110 section 15; API Gateway accepts no other from a function
NOT_MODIFIED = 304
TOO_LONG = "the partner answered with more than 4 MiB"
MAY_BE_CUT = "the partner's TLS connection ended without a close_notify, so that its answer may be cut"
NO_ROOM = "the partner's answer and its headers are together larger than Lambda can return"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RESPOND_ASYNC = Parameter(
    name="Prefer",
    place="header",
    description="respond-async makes it a delivery with retries",
    example="respond-async",
)
PARTNERS_HEADERS = ("Sallyport-Delivery-Id", "Sallyport-Outcome")


def _operation(method: str) -> Operation:
    return Operation(
        method=method,
        path="/v1/via/<destination>(/.*)?",
        shown_path="/v1/via/{destination}/{path}",
        summary="Pass a call through to a partner",
        description="The partner's own status, headers and body come back, with `Sallyport-Delivery-Id`. "
        "The path may have any number of segments.",
        scope=SEND,
        parameters=(IDEMPOTENCY_KEY, RESPOND_ASYNC),
        passes=True,
        responses={
            200: OperationResponse(
                description="The partner's response",
                media_type="*/*",
                headers=PARTNERS_HEADERS,
                some_headers=(REPLAYED, "Sallyport-Content-Length"),
            ),
            202: OperationResponse(
                description="Accepted (Prefer: respond-async)",
                body=DeliveryBody,
                headers=("Location", "Preference-Applied", "Sallyport-Delivery-Id"),
                some_headers=(REPLAYED,),
            ),
        },
        problems=(
            "not-found",
            "not-allowed",
            "destination-disabled",
            "destination-paused",
            "in-flight",
            "key-reused",
            "response-not-stored",
            "settled",
            "partner-unreachable",
            "egress-refused",
            "outcome-unknown",
            "not-ended",
            "would-wait",
            "response-too-large",
            "invalid-status",
        ),
    )


def pass_through(request: Request, **_: str) -> Response[Any]:
    """One call, one attempt."""
    if "respond-async" in request.preferences():
        return _respond_async(request)
    services = wiring.api()
    progress = deliver(_new(request, PASS_THROUGH_ATTEMPTS), wait_seconds=MAX_TOTAL_SECONDS, services=services)
    if progress.answer is not None:
        return _live(progress, progress.answer)
    last = progress.deciding
    if not progress.delivery.state.finished or last is None:  # canceled before its first attempt
        return _ours(progress, not_ended(str(progress.delivery.delivery_id)))
    if _is_settled(progress.delivery, last):
        status = None if last.response is None else last.response.status
        return _ours(progress, settled(progress.delivery, partner_status=status))
    if last.response is not None:
        return _stored(progress, last.response)
    return _ours(progress, no_answer(str(progress.delivery.delivery_id), last.outcome, last.reason or ""))


for _method in METHODS:
    serves(router, _operation(_method))(pass_through)


def _is_settled(delivery: Delivery, last: Attempt) -> bool:
    """Whether a decision says what became of it, and no answer to an attempt that was made since."""
    match delivery.resolution:
        case None:
            return False
        case Resolution.AGAIN:
            return last.response is None and delivery.state is not State.UNKNOWN
        case Resolution.DELIVERED | Resolution.FAILED:
            return True
        case _:
            assert_never(delivery.resolution)


def _respond_async(request: Request) -> Response[Any]:
    acceptance = accept(_new(request, ASYNC_ATTEMPTS), wait_seconds=None, services=wiring.api())
    headers = {
        "Location": f"{request.stage_path}/v1/deliveries/{acceptance.delivery.delivery_id}",
        "Preference-Applied": "respond-async",
        **_own_headers(acceptance.delivery, outcome=None, replayed=acceptance.replayed),
    }
    return as_json(202, delivery_body(acceptance.delivery, stack_days=wiring.api().retention_days), headers)


def _new(request: Request, attempts_allowed: int) -> NewDelivery:
    destination, slash, rest = request.path.removeprefix(PREFIX).partition("/")
    path = encoded_path(slash + rest)
    query, headers = request.raw_query(), forwardable(request.headers)
    if faults := list(_faults(path, query, headers)):
        raise InvalidRequest(*faults)
    return NewDelivery(
        tenant_id=request.tenant_id,
        destination=destination,
        method=request.method,
        path=path,
        query=query,
        headers=headers,
        body=request.body,
        idempotency_key=request.idempotency_key(),
        attempts_allowed=attempts_allowed,
    )


def _faults(path: str, query: str, headers: Headers) -> Iterator[Fault]:
    if fault := path_fault(path):
        yield Fault(field="path", detail=fault)
    if len(path) + len(query) > TARGET_LIMIT:
        yield Fault(field="path", detail=f"must be at most {TARGET_LIMIT} characters, the encoded query included")
    yield from header_faults(headers, field="headers")


def _live(progress: Progress, answer: Answered) -> Response[Any]:
    """The answer as it came, byte for byte."""
    if not answer.complete:
        reason = TOO_LONG if answer.capped else MAY_BE_CUT
        return _ours(progress, not_whole(str(progress.delivery.delivery_id), answer.status, reason=reason))
    return _partner_response(progress, answer.status, answer.headers, answer.body)


def _stored(progress: Progress, stored: StoredResponse) -> Response[Any]:
    """The answer as it was stored: to the key's first request, or to an attempt that the worker made meanwhile."""
    if stored.truncated:
        cut = ResponseNotStored(delivery_id=str(progress.delivery.delivery_id), status=stored.status)
        return _ours(progress, problem_of(cut))
    return _partner_response(progress, stored.status, stored.headers, stored.body)


def _ours(progress: Progress, refusal: Problem) -> Response[Any]:
    """An answer of our own. A header says the attempt's outcome; a partner's own header of that name is dropped."""
    answer = respond(refusal)
    outcome = None if progress.deciding is None else progress.deciding.outcome
    shown = "withheld" if outcome is OutcomeKind.ANSWERED else outcome and outcome.value
    own = _own_headers(progress.delivery, outcome=shown, replayed=progress.replayed)
    answer.headers.update(own)
    return answer


def _partner_response(progress: Progress, status: int, headers: Headers, body: bytes) -> Response[Any]:
    delivery_id = str(progress.delivery.delivery_id)
    if status > HIGHEST_STATUS:
        return _ours(progress, unsupported_status(delivery_id, status))
    listed: dict[str, list[str]] = {}
    for name, value in returnable(headers):
        listed.setdefault(name, []).append(value)
    own = _own_headers(progress.delivery, outcome=OutcomeKind.ANSWERED.value, replayed=progress.replayed)
    length = _content_length(headers) if progress.delivery.method == "HEAD" or status == NOT_MODIFIED else {}
    text = b64encode(body).decode()
    if not fits({"body": text, "multiValueHeaders": listed}):
        return _ours(progress, not_whole(delivery_id, status, reason=NO_ROOM))
    answer: Response[Any] = Response(status_code=status, body=text, headers={**listed, **length, **own})
    answer.base64_encoded = True  # set here, because Powertools would serialise a body of bytes that is JSON
    return answer


def _content_length(headers: Headers) -> dict[str, str]:
    """The Content-Length of an answer without a body, under another name: API Gateway writes a length of its own."""
    values = {value for name, value in headers if name.lower() == "content-length" and value.isdecimal()}
    return {"Sallyport-Content-Length": values.pop()} if len(values) == 1 else {}


def _own_headers(delivery: Delivery, *, outcome: str | None, replayed: bool) -> dict[str, str]:
    """`Sallyport-Outcome: answered` marks the partner's own answer, and nothing else does."""
    own = {"Sallyport-Delivery-Id": str(delivery.delivery_id)}
    if outcome is not None:
        own["Sallyport-Outcome"] = outcome
    return own | {REPLAYED: "true"} if replayed else own

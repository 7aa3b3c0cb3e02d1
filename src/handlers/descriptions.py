"""What the OpenAPI document says about problems and headers, in addition to the table of operations.

Nothing else needs it; handlers/problems.py makes the problems, and a test compares each kind here with those.
API Gateway makes three more kinds by itself (GatewayResponses in template.yaml).
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from domain.control import POSSIBLE, DeliveryControl
from domain.deliveries import Payload, Resolution, State, WaitingFor
from domain.destinations import DestinationState, Transition
from domain.jobs import JobState, JobTransition
from domain.outcomes import OutcomeKind
from domain.proposals import Decision, ProposalState
from domain.values import value_class
from handlers.problems import TITLES

EXAMPLE_ID = "01a203c7-77fb-788f-a3b0-54d47b8c9561"
_UUID: Mapping[str, Any] = {"type": "string", "format": "uuid"}


@value_class(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """One kind of problem: the statuses it has, an example of its detail, and its extension members with examples.

    `headers` always come with it, `some_headers` and `some_members` in some cases.
    """

    statuses: tuple[int, ...]
    detail: str
    members: Mapping[str, Any] = field(default_factory=dict)
    some_members: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    some_headers: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Header:
    """A header of an answer."""

    description: str
    example: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


ALL_TITLES = TITLES | {
    "too-many-requests": "Requests arrive too fast",
    "timeout": "No answer came in time",
    "blocked": "The request was blocked",
}
ALWAYS = (
    "malformed-request",
    "forbidden",
    "blocked",
    "method-not-allowed",
    "too-large",
    "invalid-request",
    "too-many-requests",
    "internal",
    "answer-too-large",
    "timeout",
)
WITH_TOKEN = ("unauthorized", "unavailable")
_RETRY = ("Retry-After",)
_LIMITED = ("Retry-After", "RateLimit", "RateLimit-Policy")
_OF_CALL = ("Sallyport-Delivery-Id", "Sallyport-Outcome", "Idempotency-Replayed")
_DELIVERY = {"delivery_id": EXAMPLE_ID}
_PARTNER = {**_DELIVERY, "partner_status": 200}
KINDS: Mapping[str, ProblemKind] = {
    "malformed-request": ProblemKind(
        statuses=(400,), detail="the body is not JSON: Expecting value (line 1, column 1)"
    ),
    "unauthorized": ProblemKind(
        statuses=(401,),
        detail="Send a valid token as Authorization: Bearer <token>.",
        headers=("WWW-Authenticate",),
    ),
    "forbidden": ProblemKind(statuses=(403,), detail="this token lacks the scope 'send'"),
    "blocked": ProblemKind(
        statuses=(403,), detail="The firewall before this API did not let the request through. Nothing was recorded."
    ),
    "not-allowed": ProblemKind(
        statuses=(403,),
        detail="the destination does not allow this method; whoever manages it says what it allows",
    ),
    "not-found": ProblemKind(statuses=(404,), detail="there is no such destination"),
    "method-not-allowed": ProblemKind(statuses=(405,), detail="this resource takes GET, POST", headers=("Allow",)),
    "name-taken": ProblemKind(statuses=(409,), detail="there is a destination of that name already"),
    "wrong-state": ProblemKind(
        statuses=(409,),
        detail="the destination is disabled; possible is enable",
        members={"state": "disabled", "possible": ["enable"]},
    ),
    "no-question": ProblemKind(
        statuses=(409,), detail="its destination has no `reconcile`, which says how the partner is asked"
    ),
    "being-asked": ProblemKind(
        statuses=(409,), detail="the partner is being asked about it at present", headers=("Retry-After",)
    ),
    "destination-deleted": ProblemKind(
        statuses=(409,), detail="its destination was deleted; nothing is sent to it any more"
    ),
    "payload-gone": ProblemKind(
        statuses=(409,),
        detail="what it sent is expunged, so it cannot be sent again; create a new delivery instead",
        members={"payload": "expunged"},
    ),
    "deliveries-unfinished": ProblemKind(
        statuses=(409,),
        detail="3 deliveries to it are unfinished; ?pending=cancel cancels those that are pending",
        members={"unfinished": 3},
    ),
    "destination-disabled": ProblemKind(
        statuses=(409,),
        detail="the destination is disabled: the partner answered with status 410",
        members={"reason": "the partner answered with status 410"},
    ),
    "precondition-failed": ProblemKind(
        statuses=(412,),
        detail="it was changed meanwhile, and is at version 3",
        members={"version": 3},
    ),
    "in-flight": ProblemKind(
        statuses=(409,),
        detail=f"delivery {EXAMPLE_ID} with this key is still in flight",
        members=_DELIVERY,
        headers=_RETRY,
    ),
    "response-not-stored": ProblemKind(
        statuses=(409,),
        detail=f"the response of delivery {EXAMPLE_ID} (status 200) was not stored as it came",
        members=_PARTNER,
        some_headers=_OF_CALL,
    ),
    "settled": ProblemKind(
        statuses=(409,),
        detail="the delivery is delivered: it was resolved as delivered; nothing was sent now",
        members={
            **_DELIVERY,
            "state": "delivered",
            "resolution": "delivered",
            "resolved_by": "reconcile",
            "resolved_at": "2026-11-27T12:00:00+00:00",
        },
        some_members=("partner_status",),
        some_headers=_OF_CALL,
    ),
    "too-large": ProblemKind(statuses=(413,), detail="the request body is larger than 4194304 bytes"),
    "invalid-request": ProblemKind(
        statuses=(422,),
        detail="/body_base64: cannot be combined with body",
        members={"faults": [{"field": "/body_base64", "detail": "cannot be combined with body"}]},
        some_members=("faults_in_all",),
    ),
    "key-reused": ProblemKind(
        statuses=(422,),
        detail=f"this key belongs to delivery {EXAMPLE_ID}, whose request differs",
        members=_DELIVERY,
        some_members=("delivery_id", "job_id"),
    ),
    "same-token": ProblemKind(statuses=(409,), detail="this token made the proposal; another one has to approve it"),
    "too-many-proposals": ProblemKind(statuses=(409,), detail="too many proposals are open; decide some of them first"),
    "too-many-jobs": ProblemKind(statuses=(409,), detail="too many jobs are unfinished; wait for one, or cancel one"),
    "too-soon": ProblemKind(statuses=(429,), detail="the destination was verified a moment ago", headers=_LIMITED),
    "too-many-requests": ProblemKind(
        statuses=(429,),
        detail="Requests arrive faster than this API takes them. Nothing was recorded.",
        headers=_LIMITED,
    ),
    "would-wait": ProblemKind(
        statuses=(429, 503),
        detail="the request would have to wait (rate_limit); nothing was sent or recorded",
        members={"waiting_for": "rate_limit"},
        headers=_RETRY,
        some_headers=("RateLimit", "RateLimit-Policy"),
    ),
    "internal": ProblemKind(statuses=(500, 502), detail="the details are in the log"),
    "answer-too-large": ProblemKind(
        statuses=(500,),
        detail="what was asked for was done, but the answer to it is larger than Lambda can return",
        members=_DELIVERY,
        some_headers=("Sallyport-Delivery-Id",),
    ),
    "partner-unreachable": ProblemKind(
        statuses=(502,),
        detail="the connection was refused",
        members={**_DELIVERY, "outcome": "unreachable"},
        some_headers=_OF_CALL,
    ),
    "egress-refused": ProblemKind(
        statuses=(502,),
        detail="the destination's address is not public",
        members={**_DELIVERY, "outcome": "refused"},
        some_headers=_OF_CALL,
    ),
    "response-too-large": ProblemKind(
        statuses=(502,),
        detail="the partner answered with more than 4 MiB; what came of its answer is stored with the delivery, "
        "up to 64 KiB",
        members=_PARTNER,
        some_headers=_OF_CALL,
    ),
    "invalid-status": ProblemKind(
        statuses=(502,),
        detail="the partner answered with a status above 599; its answer is stored with the delivery",
        members={**_DELIVERY, "partner_status": 600},
        some_headers=_OF_CALL,
    ),
    "unavailable": ProblemKind(statuses=(503,), detail="the database is not available", headers=_RETRY),
    "destination-paused": ProblemKind(
        statuses=(503,),
        detail="the destination is paused: until their cut-off",
        members={"reason": "until their cut-off"},
        headers=_RETRY,
    ),
    "timeout": ProblemKind(
        statuses=(504,),
        detail="The request was taken but no answer came in time. It may have been recorded: list the deliveries, or "
        "send it again with the same Idempotency-Key.",
    ),
    "outcome-unknown": ProblemKind(
        statuses=(504,),
        detail="no answer came in time; the partner may have acted on the request",
        members={**_DELIVERY, "outcome": "unknown"},
        some_headers=_OF_CALL,
    ),
    "not-ended": ProblemKind(
        statuses=(504,),
        detail=f"GET /v1/deliveries/{EXAMPLE_ID} shows its outcome; it will not be sent a second time",
        members=_DELIVERY,
        some_headers=_OF_CALL,
    ),
}
_POSSIBLE = dict.fromkeys(
    [
        *(transition.value for transition in Transition),
        *(name for possible in POSSIBLE.values() for name in possible),
        *(name.value for kind in (DeliveryControl, JobTransition, Decision) for name in kind),
    ]
)
MEMBERS: Mapping[str, Mapping[str, Any]] = {
    "state": {
        "type": "string",
        "enum": list(
            dict.fromkeys(state.value for kind in (DestinationState, State, JobState, ProposalState) for state in kind)
        ),
        "description": "The state that the destination, the delivery, the job or the proposal is in",
        "examples": ["disabled"],
    },
    "possible": {
        "type": "array",
        "items": {"type": "string", "enum": list(_POSSIBLE)},
        "description": "What would be possible instead: calls, or members of a PATCH",
        "examples": [["enable"]],
    },
    "unfinished": {"type": "integer", "description": "How many deliveries are pending or sent", "examples": [3]},
    "reason": {
        "type": ["string", "null"],
        "description": "The reason that was given for the destination's state; null where there was none",
        "examples": ["until their cut-off"],
    },
    "version": {"type": "integer", "description": "The version that it is at", "examples": [3]},
    "delivery_id": {**_UUID, "description": "The delivery that this is about", "examples": [EXAMPLE_ID]},
    "payload": {
        "type": "string",
        "enum": [kind.value for kind in Payload if kind is not Payload.WHOLE],
        "description": "What became of what the delivery sent",
        "examples": ["expunged"],
    },
    "job_id": {**_UUID, "description": "The job that this is about", "examples": [EXAMPLE_ID]},
    "partner_status": {"type": "integer", "description": "The status of the partner's answer", "examples": [200]},
    "resolution": {
        "type": "string",
        "enum": [kind.value for kind in Resolution],
        "description": "What the delivery was resolved as",
        "examples": ["delivered"],
    },
    "resolved_by": {
        "type": "string",
        "description": "Who resolved it: token: and an id, approval: and an id, or reconcile",
        "examples": ["reconcile"],
    },
    "resolved_at": {
        "type": "string",
        "format": "date-time",
        "description": "When it was resolved",
        "examples": ["2026-11-27T12:00:00+00:00"],
    },
    "outcome": {
        "type": "string",
        "enum": [kind.value for kind in OutcomeKind],
        "description": "What became of the attempt",
        "examples": ["unknown"],
    },
    "waiting_for": {
        "type": "string",
        "enum": [kind.value for kind in WaitingFor],
        "description": "What the request would wait for",
        "examples": ["rate_limit"],
    },
    "faults_in_all": {
        "type": "integer",
        "description": "How many faults there are, where not all are listed",
        "examples": [250],
    },
}
HEADERS: Mapping[str, Header] = {
    "Allow": Header(description="The methods that the resource takes", example="GET, POST"),
    "Cache-Control": Header(description="For how long it may be kept (RFC 9111)", example="no-cache"),
    "Content-Encoding": Header(description="gzip where Accept-Encoding allows it", example="gzip"),
    "Content-Security-Policy": Header(
        description="Lets the page run or load nothing but its own", example="default-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": Header(description="Keeps the page apart from others", example="same-origin"),
    "Cross-Origin-Resource-Policy": Header(description="Keeps the file from other sites", example="same-origin"),
    "ETag": Header(description="The version, for If-Match or If-None-Match (RFC 9110 section 8.8.3)", example='"1"'),
    "Idempotency-Replayed": Header(
        description="true where the key came before and this is what its first request led to; absent otherwise",
        example="true",
        schema={"type": "string", "enum": ["true"]},
    ),
    "Link": Header(
        description="Where the rest is (RFC 8288); absent where nothing is left",
        example='</dev/v1/audit/export?after=5000>; rel="next"',
    ),
    "Location": Header(
        description="The path of what was made",
        example=f"/dev/v1/deliveries/{EXAMPLE_ID}",
        schema={"type": "string", "format": "uri-reference"},
    ),
    "Preference-Applied": Header(description="The preference that was honoured (RFC 7240)", example="wait=10"),
    "Referrer-Policy": Header(description="What other sites are told of the page", example="no-referrer"),
    "RateLimit": Header(
        description="What is left of the limit that was met, and in how many seconds there is more (draft-ietf-httpapi-"
        "ratelimit-headers-11)",
        example='"rate_limit";r=0;t=3',
    ),
    "RateLimit-Policy": Header(
        description="The limit that was met: so many requests in so many seconds, or at one time",
        example='"rate_limit";q=10;w=2',
    ),
    "Retry-After": Header(
        description="Seconds after which another try makes sense", example="5", schema={"type": "integer", "minimum": 0}
    ),
    "Sallyport-Content-Length": Header(
        description="The partner's Content-Length where its answer has no body, as to HEAD",
        example="1024",
        schema={"type": "integer", "minimum": 0},
    ),
    "Sallyport-Delivery-Id": Header(description="The delivery's id", example=EXAMPLE_ID, schema=_UUID),
    "Sallyport-Outcome": Header(
        description="answered marks the partner's own answer, and nothing else does. Otherwise what became of the "
        "attempt, or withheld where the partner answered and its answer cannot be returned",
        example="answered",
        schema={"type": "string", "enum": [*(kind.value for kind in OutcomeKind), "withheld"]},
    ),
    "Vary": Header(description="What the form of the answer depends on", example="Accept"),
    "WWW-Authenticate": Header(description="How to authenticate (RFC 6750)", example='Bearer realm="sallyport"'),
    "X-Content-Type-Options": Header(
        description="nosniff", example="nosniff", schema={"type": "string", "enum": ["nosniff"]}
    ),
    "webhook-id": Header(description="The id of this copy of the document", example=EXAMPLE_ID, schema=_UUID),
    "webhook-signature": Header(
        description="v1a of Standard Webhooks: Ed25519 over id, timestamp and body, with a full stop between them",
        example="v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
    "webhook-timestamp": Header(description="Unix time of `issued_at`", example="1795798800"),
}

"""Every error of ours is a problem, and every kind has a title."""

import json
from collections.abc import Iterator

import pytest

from domain import errors
from domain.errors import Fault, SallyportError
from domain.outcomes import OutcomeKind
from handlers.problems import TITLES, no_answer, not_whole, problem_of, respond

CASES: list[tuple[SallyportError, int, str, dict[str, str]]] = [
    (errors.InvalidRequest(Fault(field="/a", detail="is required")), 422, "invalid-request", {}),
    (errors.Malformed("not JSON"), 400, "malformed-request", {}),
    (errors.Unauthorized("no"), 401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="sallyport"'}),
    (errors.Forbidden("send"), 403, "forbidden", {}),
    (errors.Restricted(), 403, "forbidden", {}),
    (errors.NotAllowed("path"), 403, "not-allowed", {}),
    (errors.NotFound("delivery", "42"), 404, "not-found", {}),
    (errors.NameTaken("taken"), 409, "name-taken", {}),
    (errors.WrongState(state="disabled", possible=("enable",)), 409, "wrong-state", {}),
    (errors.Unfinished(count=3), 409, "deliveries-unfinished", {}),
    (errors.Disabled(reason=None), 409, "destination-disabled", {}),
    (errors.ApprovalNeeded("delivery.resolve"), 500, "internal", {}),  # a proposal is made of it before
    (errors.SameToken(), 409, "same-token", {}),
    (errors.TooManyProposals(), 409, "too-many-proposals", {}),
    (errors.TooManyJobs(), 409, "too-many-jobs", {}),
    (errors.JobKeyReused(job_id="42"), 422, "key-reused", {}),
    (errors.DestinationDeleted(), 409, "destination-deleted", {}),
    (errors.NoQuestion(), 409, "no-question", {}),
    (errors.BeingAsked(retry_after_seconds=2), 409, "being-asked", {"Retry-After": "2"}),
    (errors.PayloadGone(payload="expunged"), 409, "payload-gone", {}),
    (errors.DestinationPaused(reason="x", retry_after_seconds=60), 503, "destination-paused", {"Retry-After": "60"}),
    (
        errors.TooSoon(retry_after_seconds=4, window_seconds=5),
        429,
        "too-soon",
        {"Retry-After": "4", "RateLimit-Policy": '"verify";q=1;w=5', "RateLimit": '"verify";r=0;t=4'},
    ),
    (errors.Outdated(version=3), 412, "precondition-failed", {}),
    (errors.StillInFlight(delivery_id="42", retry_after_seconds=2), 409, "in-flight", {"Retry-After": "2"}),
    (errors.ResponseNotStored(delivery_id="42", status=200), 409, "response-not-stored", {}),
    (errors.KeyReused(delivery_id="42"), 422, "key-reused", {}),
    (errors.TooLarge(limit_bytes=5), 413, "too-large", {}),
    (errors.DatabaseUntrusted("away", retry_after_seconds=10), 503, "unavailable", {"Retry-After": "10"}),
    (errors.QueueUnavailable("away", retry_after_seconds=5), 503, "unavailable", {"Retry-After": "5"}),
    (errors.SecretUnavailable("away", retry_after_seconds=7), 503, "unavailable", {"Retry-After": "7"}),
    (errors.ChecksUnavailable("away", retry_after_seconds=9), 503, "unavailable", {"Retry-After": "9"}),
    (errors.NotNow(waiting_for="rate_limit", retry_after_seconds=4), 429, "would-wait", {"Retry-After": "4"}),
    (
        errors.NotNow(waiting_for="rate_limit", retry_after_seconds=4, quota=10, window_seconds=2),
        429,
        "would-wait",
        {"RateLimit-Policy": '"rate_limit";q=10;w=2', "RateLimit": '"rate_limit";r=0;t=4'},
    ),
    (
        errors.NotNow(waiting_for="concurrency", retry_after_seconds=1, quota=3),
        429,
        "would-wait",
        {"RateLimit-Policy": '"concurrency";q=3;qu="concurrent-requests"', "RateLimit": '"concurrency";r=0;t=1'},
    ),
    (errors.NotNow(waiting_for="circuit_breaker", retry_after_seconds=3), 503, "would-wait", {"Retry-After": "3"}),
    (errors.StatementRefused(sqlstate="23514", constraint="a_rule"), 500, "internal", {}),
    (errors.Unsealable("which key, and which destination"), 500, "internal", {}),
]


@pytest.mark.parametrize(("error", "status", "kind", "headers"), CASES)
def test_an_error_becomes_a_problem(error: SallyportError, status: int, kind: str, headers: dict[str, str]) -> None:
    answer = respond(problem_of(error))
    members = json.loads(answer.body or "")
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert members["type"] == f"urn:sallyport:problem:{kind}"
    assert (members["status"], members["title"]) == (status, TITLES[kind])
    assert members["detail"]
    for name, value in headers.items():
        assert answer.headers[name] == value


def leaves(root: type[SallyportError]) -> Iterator[type[SallyportError]]:
    for kind in root.__subclasses__():
        yield from leaves(kind)
        if not kind.__subclasses__():
            yield kind


def test_a_database_that_is_away_is_answered_as_one_that_is_not_trusted() -> None:
    away = problem_of(errors.DatabaseUnavailable("away", retry_after_seconds=10))
    assert (away.status, away.kind) == (503, "unavailable")


def test_no_error_is_forgotten() -> None:
    assert {type(error) for error, *_ in CASES} == set(leaves(SallyportError))


def test_every_conflict_has_a_kind_of_its_own() -> None:
    kinds = [kind for error, _, kind, _ in CASES if isinstance(error, errors.Conflict)]
    assert len(kinds) == len(set(kinds)) == len(list(leaves(errors.Conflict)))


def test_a_conflict_that_the_table_does_not_know_is_no_other_one() -> None:
    assert problem_of(errors.Conflict("of a new kind")).kind == "internal"


def test_an_internal_error_is_not_disclosed() -> None:
    assert "key" not in problem_of(errors.Unsealable("which key, and which destination")).detail


def test_the_faults_are_listed() -> None:
    error = errors.InvalidRequest(Fault(field="/a", detail="is required"), Fault(field="limit", detail="too high"))
    found = problem_of(error)
    assert found.extensions["faults"] == [
        {"field": "/a", "detail": "is required"},
        {"field": "limit", "detail": "too high"},
    ]
    assert found.detail == "/a: is required; limit: too high"


@pytest.mark.parametrize(("count", "shown"), [(100, 100), (101, 100)])
def test_of_many_faults_the_first_hundred_are_listed(count: int, shown: int) -> None:
    found = problem_of(errors.InvalidRequest(*[Fault(field="/a", detail="wrong")] * count))
    listed = found.extensions["faults"]
    assert isinstance(listed, list)
    assert len(listed) == shown
    assert found.extensions.get("faults_in_all") == (count if count > shown else None)
    assert found.detail.endswith("; and 1 more") == (count > shown)


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (OutcomeKind.UNREACHABLE, 502, "partner-unreachable"),
        (OutcomeKind.REFUSED, 502, "egress-refused"),
        (OutcomeKind.UNKNOWN, 504, "outcome-unknown"),
    ],
)
def test_a_partner_that_did_not_answer_is_a_problem_of_its_own(outcome: OutcomeKind, status: int, kind: str) -> None:
    found = no_answer("42", outcome, "the reason")
    assert (found.status, found.kind) == (status, kind)
    assert "the reason" in found.detail
    assert found.extensions == {"delivery_id": "42", "outcome": outcome}


def test_an_answer_that_is_too_large_says_where_its_beginning_is() -> None:
    found = not_whole("42", 200, reason="the reason")
    assert found.detail == "the reason; what came of its answer is stored with the delivery, up to 64 KiB"
    assert (found.status, found.extensions) == (502, {"delivery_id": "42", "partner_status": 200})


def test_a_fault_of_the_whole_body_says_so_in_the_detail() -> None:
    found = problem_of(errors.InvalidRequest(Fault(field="", detail="member 2 is unknown")))
    assert found.detail == "the body: member 2 is unknown"
    assert found.extensions == {"faults": [{"field": "", "detail": "member 2 is unknown"}]}

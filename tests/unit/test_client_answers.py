"""What an answer of the gateway means to its client."""

import json
import re
from typing import Any

import httpx
import pytest

from handlers.descriptions import KINDS
from handlers.problems import TITLES, TYPE_PREFIX
from sallyport import errors
from sallyport.again import FIRST_PAUSE_SECONDS, TRIES, lost, pause_before_another
from sallyport.answers import GatewayAnswer, checked, failure, is_partners
from sallyport.cli.codes import ExitCode, of_error, of_state

DELIVERY = "01a203c7-77fb-788f-a3b0-54d47b8c9561"


def problem(kind: str, status: int, **members: Any) -> GatewayAnswer:
    body = {"type": TYPE_PREFIX + kind, "title": TITLES.get(kind, kind), "status": status, **members}
    return GatewayAnswer(
        status=status,
        headers={"content-type": "application/problem+json", "retry-after": "7"},
        content=json.dumps(body).encode(),
    )


MEANINGS = {
    "outcome-unknown": errors.UnknownOutcome,
    "not-ended": errors.StillRunning,
    "in-flight": errors.StillRunning,
    "timeout": errors.UnknownOutcome,
    "internal": errors.UnknownOutcome,
    "partner-unreachable": errors.PartnerUnreachable,
    "egress-refused": errors.PartnerUnreachable,
    "response-too-large": errors.AnswerWithheld,
    "invalid-status": errors.AnswerWithheld,
    "response-not-stored": errors.AnswerWithheld,
    "answer-too-large": errors.AnswerWithheld,
    "unavailable": errors.GatewayUnavailable,
    "too-many-requests": errors.GatewayUnavailable,
    "would-wait": errors.GatewayUnavailable,
    "destination-paused": errors.GatewayUnavailable,
    "too-soon": errors.GatewayUnavailable,
    "unauthorized": errors.TokenRefused,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_problem_has_its_meaning(kind: str) -> None:
    error = failure(problem(kind, KINDS[kind].statuses[0], delivery_id=DELIVERY), key="k")
    assert type(error) is MEANINGS.get(kind, errors.RequestRefused)
    assert error.may_have_happened == isinstance(error, errors.UnknownOutcome | errors.AnswerWithheld)


def test_an_unknown_outcome_is_no_time_out_and_carries_what_is_needed_to_ask_the_partner() -> None:
    error = failure(problem("outcome-unknown", 504, detail="no answer", delivery_id=DELIVERY), key="order-1")
    assert isinstance(error, errors.UnknownOutcome)
    assert not isinstance(error, TimeoutError | OSError | httpx.HTTPError)
    assert (error.delivery_id, error.idempotency_key) == (DELIVERY, "order-1")
    assert "This is no time-out: the partner may have acted on it" in str(error)


def test_no_error_of_the_client_is_a_time_out() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    assert not [kind for kind in kinds if issubclass(kind, TimeoutError | OSError | httpx.HTTPError)]


def test_all_fields_at_fault_are_named() -> None:
    faults = [{"field": "/path", "detail": "must begin with /"}, {"field": "", "detail": "is no object"}]
    error = failure(problem("invalid-request", 422, detail="2 faults", faults=faults))
    assert str(error).endswith("(/path: must begin with /; the body: is no object)")


@pytest.mark.parametrize(("status", "kind"), [(502, "text/html"), (503, "application/json"), (504, "")])
def test_a_failure_of_something_before_the_gateway_leaves_it_open(status: int, kind: str) -> None:
    error = failure(GatewayAnswer(status=status, headers={"content-type": kind}, content=b"{}"), key="k")
    assert type(error) is errors.UnknownOutcome


@pytest.mark.parametrize("status", [200, 302, 403, 404])
def test_what_is_not_sallyports_is_said_to_be_something_else(status: int) -> None:
    page = GatewayAnswer(status=status, headers={"content-type": "text/html"}, content=b"<html>")
    with pytest.raises(errors.NotSallyport, match=f"{status}, text/html"):
        checked(page)


def test_a_problem_without_a_type_is_not_sallyports() -> None:
    bare = GatewayAnswer(status=400, headers={"content-type": "application/problem+json"}, content=b'{"title": "x"}')
    assert isinstance(failure(bare), errors.NotSallyport)


def test_only_the_mark_that_no_partner_can_set_makes_an_answer_the_partners() -> None:
    assert is_partners(GatewayAnswer(status=504, headers={"sallyport-outcome": "answered"}, content=b""))
    assert not is_partners(GatewayAnswer(status=200, headers={"sallyport-outcome": "withheld"}, content=b""))
    assert not is_partners(GatewayAnswer(status=200, headers={}, content=b""))


# ---- repeats


def unavailable(kind: str) -> errors.GatewayError:
    return errors.GatewayUnavailable("", kind=kind, status=503, retry_after_seconds=7.0)


def running(seconds: float | None) -> errors.GatewayError:
    return errors.StillRunning("", delivery_id=None, idempotency_key="k", retry_after_seconds=seconds)


LOST = errors.AnswerLost("", delivery_id=None, idempotency_key="k")


@pytest.mark.parametrize(
    ("error", "repeatable", "pause"),
    [
        (LOST, True, FIRST_PAUSE_SECONDS),
        (LOST, False, None),
        (errors.GatewayAway("", layer="tcp"), False, FIRST_PAUSE_SECONDS),
        (errors.GatewayAway("", layer="dns"), True, None),
        (errors.GatewayAway("", layer="tls"), True, None),
        (unavailable("unavailable"), False, 7.0),
        (unavailable("destination-paused"), True, None),
        (running(2.0), True, 2.0),
        (running(2.0), False, None),
        (running(None), True, None),
        (errors.UnknownOutcome("", delivery_id=DELIVERY, idempotency_key="k"), True, None),
        (errors.PartnerUnreachable(""), True, None),
    ],
)
def test_what_is_repeated_is_what_cannot_happen_twice(
    error: errors.GatewayError, repeatable: bool, pause: float | None
) -> None:
    assert pause_before_another(error, tries=1, repeatable=repeatable) == pause
    assert pause_before_another(error, tries=TRIES, repeatable=repeatable) is None


def test_the_pauses_double() -> None:
    pauses = [pause_before_another(LOST, tries=tries, repeatable=True) for tries in range(1, TRIES)]
    assert pauses == [FIRST_PAUSE_SECONDS * 2**n for n in range(TRIES - 1)]


@pytest.mark.parametrize("kind", [httpx.ConnectTimeout, httpx.ConnectError, httpx.PoolTimeout])
def test_without_a_connection_nothing_was_sent(kind: type[httpx.TransportError]) -> None:
    error = lost(kind("refused"), url="https://api.example", key="k")
    assert isinstance(error, errors.GatewayAway)
    assert not error.may_have_happened


@pytest.mark.parametrize("kind", [httpx.ReadTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError])
def test_once_something_was_sent_it_may_have_happened(kind: type[httpx.TransportError]) -> None:
    error = lost(kind("gone"), url="https://api.example", key="order-1")
    assert isinstance(error, errors.AnswerLost)
    assert error.idempotency_key == "order-1"


# ---- exit codes


def test_each_state_and_each_error_has_its_exit_code() -> None:
    assert [of_state(state) for state in ("delivered", "failed", "canceled", "unknown", "pending", "sending")] == [
        ExitCode.DONE,
        ExitCode.NOT_DONE,
        ExitCode.NOT_DONE,
        ExitCode.MAY_HAVE_HAPPENED,
        ExitCode.NOT_ENDED,
        ExitCode.NOT_ENDED,
    ]
    assert of_error(LOST) is ExitCode.MAY_HAVE_HAPPENED
    assert of_error(errors.AnswerWithheld("", delivery_id=None, partner_status=200)) is ExitCode.MAY_HAVE_HAPPENED
    assert of_error(running(1.0)) is ExitCode.NOT_ENDED
    assert of_error(unavailable("unavailable")) is ExitCode.AWAY
    assert of_error(errors.NotSallyport("")) is ExitCode.REFUSED


def test_no_message_of_the_client_has_more_than_one_line() -> None:
    for kind, described in KINDS.items():
        assert not re.search(r"[\r\n]", str(failure(problem(kind, described.statuses[0], detail=described.detail))))

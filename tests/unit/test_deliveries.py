"""Deliveries: fingerprints, states, guarantees, references."""

import hashlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.auth import AuthType
from domain.deliveries import Claim, State, fingerprint, state_after
from domain.destinations import Destination, Guarantee, RepeatRule, Timeouts, is_reference, repeat_rule
from domain.ids import DeliveryId, DestinationId, LeaseId, TenantId
from domain.options import DestinationOptions
from domain.outcomes import Answered, Outcome, OutcomeKind, Refused, Unknown, Unreachable, outcome_kind
from domain.retry import Delivered, Failed, Held, RetryAt, Verdict
from domain.retry_policy import RetryPolicy
from tests.support.gateway import START

PARTS = st.tuples(st.text("ab/", max_size=3), st.text("ab", max_size=3), st.text("/ab", max_size=3), st.text("ab="))
REQUESTS = st.tuples(PARTS, st.binary(max_size=4))


def print_of(request: tuple[tuple[str, str, str, str], bytes]) -> bytes:
    (destination, method, path, query), body = request
    return fingerprint(destination=destination, method=method, path=path, query=query, body=body)


@given(REQUESTS, REQUESTS)
def test_two_requests_have_one_fingerprint_exactly_where_they_are_the_same(
    one: tuple[tuple[str, str, str, str], bytes], other: tuple[tuple[str, str, str, str], bytes]
) -> None:
    assert (print_of(one) == print_of(other)) == (one == other)
    assert len(print_of(one)) == 32


def test_a_fingerprint_is_the_same_in_every_version() -> None:
    """It is stored with the delivery: another one would make a repeat after an upgrade a different request."""
    of = fingerprint(destination="bank", method="POST", path="/orders", query="a=1", body=b"\x00body")
    framed = b"".join(
        len(part).to_bytes(8, "big") + part for part in (b"bank", b"POST", b"/orders", b"a=1", b"\x00body")
    )
    assert of == hashlib.sha256(framed).digest()


def test_parts_do_not_run_together() -> None:
    assert print_of((("ab", "", "", ""), b"")) != print_of((("a", "b", "", ""), b""))
    assert print_of((("", "", "", "a"), b"b")) != print_of((("", "", "", ""), b"ab"))


@pytest.mark.parametrize(
    ("verdict", "state", "finished"),
    [
        (Delivered(), State.DELIVERED, True),
        (RetryAt(at=START), State.PENDING, False),
        (Failed(), State.FAILED, True),
        (Held(), State.UNKNOWN, True),
    ],
)
def test_a_verdict_leads_to_a_state(verdict: Verdict, state: State, finished: bool) -> None:
    assert state_after(verdict) is state
    assert state.finished is finished


def test_a_delivery_that_is_being_sent_is_not_finished_and_a_canceled_one_is() -> None:
    assert not State.SENDING.finished
    assert State.CANCELED.finished


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (Answered(status=500), "answered"),
        (Unreachable(reason=""), "unreachable"),
        (Unknown(reason=""), "unknown"),
        (Refused(reason=""), "refused"),
    ],
)
def test_an_outcome_has_one_name(outcome: Outcome, name: str) -> None:
    assert outcome_kind(outcome) is OutcomeKind(name)


def rule(guarantee: Guarantee, *, idempotent: bool = False, method: str = "POST") -> RepeatRule:
    return repeat_rule(guarantee=guarantee, idempotent=idempotent, method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_an_idempotent_method_may_be_repeated(method: str) -> None:
    assert rule(Guarantee.AUTO, method=method) is RepeatRule.ALWAYS


@pytest.mark.parametrize("method", ["POST", "PATCH", "get"])
def test_any_other_method_may_not_unless_the_destination_says_so(method: str) -> None:
    assert rule(Guarantee.AUTO, method=method) is RepeatRule.WHEN_ANSWERED
    assert rule(Guarantee.AUTO, idempotent=True, method=method) is RepeatRule.ALWAYS


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_guarantee_that_was_asked_for_holds_for_every_request(method: str, idempotent: bool) -> None:
    assert rule(Guarantee.AT_LEAST_ONCE, idempotent=idempotent, method=method) is RepeatRule.ALWAYS
    assert rule(Guarantee.AT_MOST_ONCE, idempotent=idempotent, method=method) is RepeatRule.WHEN_NOT_PROCESSED


@pytest.mark.parametrize(
    "text", ["a", "bank-2", "0", "a" * 63, "01939d2a-7a10-7c3e-9f4b-5d1c0e6a2b31", "01939D2A" + "-" * 28]
)
def test_what_may_be_a_name_or_an_id_is_looked_up(text: str) -> None:
    assert is_reference(text)


@pytest.mark.parametrize("text", ["", "-a", "Bank", "a b", "a\n", "b\u00e4nk", "a" * 64, "a%2Fb", "\x00"])
def test_what_cannot_be_either_is_not(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize("attempts_allowed", [1, 2, 10])
@pytest.mark.parametrize(
    "policy", [None, RetryPolicy(), *(RetryPolicy(schedule=schedule) for schedule in ((0,), (0, 5)))]
)
def test_one_request_is_passed_through_but_where_a_schedule_has_no_more(
    attempts_allowed: int, policy: RetryPolicy | None
) -> None:
    claim = Claim(
        delivery_id=DeliveryId(UUID(int=1)),
        tenant_id=TenantId(UUID(int=2)),
        lease_id=LeaseId(UUID(int=3)),
        destination=Destination(
            destination_id=DestinationId(UUID(int=4)),
            tenant_id=TenantId(UUID(int=2)),
            name="bank",
            base_url="https://bank.example",
            auth_type=AuthType.NONE,
            sealed_credentials=None,
            guarantee=Guarantee.AUTO,
            idempotent=False,
            idempotency_header="Idempotency-Key",
            timeouts=Timeouts(connect_seconds=2, first_byte_seconds=2, total_seconds=3),
            created_at=START,
            options=DestinationOptions(retry=policy),
        ),
        method="POST",
        path="/",
        query="",
        headers=(),
        body=b"",
        idempotency_key="key",
        attempts_made=1,
        attempts_allowed=attempts_allowed,
        lapsed=False,
    )
    is_whole_schedule = policy is not None and policy.schedule == (0,)
    assert claim.passes == (attempts_allowed == 1 and not is_whole_schedule)

"""Wake-ups as message bodies, there and back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.deliveries import Attempt, Record, State, StoredResponse
from domain.ids import AttemptId, DeliveryId, LeaseId
from domain.outcomes import OutcomeKind, Timings
from domain.wakeups import Wakeup
from wakeups.sqs import MESSAGE_LIMIT_BYTES, decode, decode_any, encode

DELIVERY = DeliveryId(UUID("01936f5e-0000-7000-8000-000000000001"))
DUE = datetime(2026, 11, 22, 15, 30, 0, 250_000, tzinfo=UTC)
WAKEUP = Wakeup(delivery_id=DELIVERY, due_at=DUE, group="tenant:bank", misses=2)


def message(**changes: object) -> str:
    fields: dict[str, object] = json.loads(encode(WAKEUP)) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


def test_a_message_has_four_fields() -> None:
    assert json.loads(encode(WAKEUP)) == {
        "delivery_id": "01936f5e-0000-7000-8000-000000000001",
        "due_at": "2026-11-22T15:30:00.250000+00:00",
        "group": "tenant:bank",
        "misses": 2,
    }


@given(
    st.builds(
        Wakeup,
        delivery_id=st.uuids().map(DeliveryId),
        due_at=st.datetimes(timezones=st.just(UTC)),
        group=st.text(min_size=1),
        misses=st.integers(min_value=0),
        after_outage=st.booleans(),
    )
)
def test_what_is_encoded_is_decoded(wakeup: Wakeup) -> None:
    assert decode(encode(wakeup)) == wakeup


ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.none()))
MEMBER_NAMES = st.sampled_from(["delivery_id", "due_at", "group", "misses", "after_outage", "record", "other"])
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), OFFSETS)).map(datetime.isoformat)
ODD_MOMENTS = st.sampled_from(["2026-01-31", "20260131T000000Z", "2026-01-31 00:00:00Z", "2026-02-30T00:00:00Z"])
ODD_MEMBERS = st.dictionaries(
    MEMBER_NAMES,
    st.one_of(ODD, MOMENTS, ODD_MOMENTS, st.uuids().map(str), st.uuids().map(lambda made: made.hex), st.just(...)),
)


@given(ODD_MEMBERS)
def test_the_usual_form_is_read_as_any_other(members: dict[str, Any]) -> None:
    text = message(**members)
    try:
        expected: Wakeup | None = decode_any(text)
    except ValueError:
        expected = None
    try:
        assert decode(text) == expected
    except ValueError:
        assert expected is None


def test_times_are_utc_whatever_they_came_in() -> None:
    elsewhere = DUE.astimezone(timezone(timedelta(hours=2)))
    there_and_back = decode(encode(Wakeup(delivery_id=DELIVERY, due_at=elsewhere, group="g")))
    assert there_and_back.due_at == DUE
    assert there_and_back.due_at.tzinfo is UTC
    assert decode(message(due_at="2026-11-22T17:30:00.25+02:00")).due_at.tzinfo is UTC


def test_misses_may_be_left_out() -> None:
    assert decode(message(misses=...)).misses == 0


@pytest.mark.parametrize("value", [..., False, None, 1, "true"])
def test_nothing_but_true_says_that_there_was_an_outage(value: object) -> None:
    assert not decode(message(after_outage=value)).after_outage
    assert decode(message(after_outage=True)).after_outage


def carrying(body: bytes = b"\x00paid", headers: tuple[tuple[str, str], ...] = (("X", "1"),)) -> Wakeup:
    response = StoredResponse(
        status=200, headers=headers, body=body, length_bytes=len(body), sha256=bytes(32), truncated=False
    )
    attempt = Attempt(
        attempt_id=AttemptId(UUID(int=1)),
        delivery_id=DELIVERY,
        number=1,
        outcome=OutcomeKind.ANSWERED,
        reason=None,
        started_at=DUE,
        timings=Timings(total_ms=1.5),
        remote_address="203.0.113.9",
        egress_address=None,
        response=response,
    )
    record = Record(attempt=attempt, lease_id=LeaseId(UUID(int=2)), next_state=State.DELIVERED, due_at=None)
    return replace(WAKEUP, record=record)


def test_an_outcome_is_carried_there_and_back() -> None:
    assert decode(encode(carrying())) == carrying()


@pytest.mark.parametrize(
    ("wakeup", "body", "headers"),
    [
        (carrying(b"b" * 65_536), 65_536, 1),
        (carrying(b"b" * 65_536, (("X", "h" * 200_000),)), 0, 1),
        (carrying(b"b" * 65_536, (("X", "h" * 300_000),)), 0, 0),
    ],
)
def test_what_is_too_large_for_a_message_is_left_behind(wakeup: Wakeup, body: int, headers: int) -> None:
    text = encode(wakeup)
    assert len(text) <= MESSAGE_LIMIT_BYTES
    record = decode(text).record
    assert record is not None
    assert record.attempt.response is not None
    assert (len(record.attempt.response.body), len(record.attempt.response.headers)) == (body, headers)


@pytest.mark.parametrize("unreadable", [7, {}, [], {"attempt": None}, "x"])
def test_a_carried_outcome_that_cannot_be_read_does_not_lose_the_wake_up(unreadable: object) -> None:
    assert decode(message(record=unreadable)) == WAKEUP


def test_another_delivery_s_outcome_is_not_carried() -> None:
    other = json.loads(encode(carrying())) | {"delivery_id": str(UUID(int=9))}
    assert decode(json.dumps(other)).record is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        "1e999999",
        "[" * 100_000,
        message(delivery_id=...),
        message(delivery_id=5),
        message(delivery_id="not-a-uuid"),
        message(due_at=...),
        message(due_at="soon"),
        message(due_at="2026-11-22T15:30:00"),
        message(due_at="9999-12-31T23:59:59-23:00"),
        message(group=...),
        message(group=""),
        message(group=None),
        message(misses=-1),
        message(misses=True),
        message(misses="2"),
        message(misses=1.5),
    ],
)
def test_what_is_not_a_wake_up_is_reported_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)

"""Wake-ups as message bodies, there and back."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from wakeups.sqs import decode, encode

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
    )
)
def test_what_is_encoded_is_decoded(wakeup: Wakeup) -> None:
    assert decode(encode(wakeup)) == wakeup


def test_times_are_utc_whatever_they_came_in() -> None:
    elsewhere = DUE.astimezone(timezone(timedelta(hours=2)))
    there_and_back = decode(encode(Wakeup(delivery_id=DELIVERY, due_at=elsewhere, group="g")))
    assert there_and_back.due_at == DUE
    assert there_and_back.due_at.tzinfo is UTC
    assert decode(message(due_at="2026-11-22T17:30:00.25+02:00")).due_at.tzinfo is UTC


def test_misses_may_be_left_out() -> None:
    assert decode(message(misses=...)).misses == 0


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
def test_what_is_no_wake_up_is_told_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)

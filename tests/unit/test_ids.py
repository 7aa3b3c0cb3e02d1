"""UUIDs of version 7: in the order of their time."""

from copy import copy
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import RANDOM_BYTES, age_seconds, uuid7, uuid7_floor

EPOCH, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
MOMENTS = st.integers(0, int(LAST.timestamp() * 1000)).map(lambda number: EPOCH + timedelta(milliseconds=number))
RANDOMNESS = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def test_the_example_of_rfc_9562_is_reproduced() -> None:
    # Appendix A.6: 2022-02-22 14:22:22.00 GMT-5, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F
    now = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    randomness = bytes.fromhex("0cc318c4dc0c0c07398f")
    assert uuid7(now=now, randomness=randomness) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@given(MOMENTS, RANDOMNESS)
def test_every_one_is_of_version_7_and_holds_its_millisecond(now: datetime, randomness: bytes) -> None:
    made = uuid7(now=now, randomness=randomness)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == int(now.timestamp() * 1000)


@given(MOMENTS, MOMENTS, RANDOMNESS, RANDOMNESS)
def test_a_later_one_sorts_later(one: datetime, other: datetime, some: bytes, more: bytes) -> None:
    earlier, later = sorted((one, other))
    if later - earlier >= timedelta(milliseconds=2):
        assert uuid7(now=earlier, randomness=some) < uuid7(now=later, randomness=more)


@given(MOMENTS, RANDOMNESS)
def test_the_floor_of_a_moment_lies_below_all_of_it_and_above_all_before(now: datetime, randomness: bytes) -> None:
    floor = uuid7_floor(now)
    assert floor <= uuid7(now=now, randomness=randomness)
    before = now - timedelta(milliseconds=2)
    if before >= EPOCH:
        assert uuid7(now=before, randomness=randomness) < floor


def test_before_1970_the_floor_is_that_of_1970() -> None:
    assert uuid7_floor(datetime(1, 1, 1, tzinfo=UTC)) == uuid7_floor(EPOCH)


def test_the_age_of_an_id_follows_from_it() -> None:
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    made = uuid7(now=made_at, randomness=bytes(10))
    assert age_seconds(made, now=made_at + timedelta(seconds=45.5)) == pytest.approx(45.5)
    assert age_seconds(made, now=made_at - timedelta(seconds=2)) == pytest.approx(-2)


@pytest.mark.parametrize("of", [0, 2**128 - 1])
def test_the_age_of_any_id_is_a_number(of: int) -> None:
    assert isinstance(age_seconds(UUID(int=of), now=datetime(2026, 1, 1, tzinfo=UTC)), float)


@pytest.mark.parametrize("count", [0, 9, 11, 16])
def test_any_other_amount_of_randomness_is_a_mistake(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count}"):
        uuid7(now=datetime(2026, 1, 1, tzinfo=UTC), randomness=bytes(count))


@given(MOMENTS, RANDOMNESS)
def test_one_is_what_pythons_own_constructor_makes(now: datetime, randomness: bytes) -> None:
    made = uuid7(now=now, randomness=randomness)
    same = UUID(int=made.int)
    assert (made, hash(made), str(made), made.is_safe) == (same, hash(same), str(same), same.is_safe)
    assert copy(made) == same
    with pytest.raises(TypeError):
        made.int = 5  # type: ignore[misc]

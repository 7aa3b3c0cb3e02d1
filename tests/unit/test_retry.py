"""When to try again, and when to stop."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.destinations import RepeatRule
from domain.outcomes import Answered, Outcome, Refused, Unknown, Unreachable
from domain.retry import (
    AMBIGUOUS_STATUSES,
    RETRIABLE_STATUSES,
    SCHEDULE_SECONDS,
    Delivered,
    Failed,
    Held,
    RetryAt,
    Verdict,
    retry_after,
    retry_at,
    verdict,
)
from egress.headers import storable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CHANCE = st.floats(0, 1, exclude_max=True)


def judged(outcome: Outcome, *, attempts_made: int = 1, rule: RepeatRule = RepeatRule.WHEN_ANSWERED) -> Verdict:
    return verdict(outcome, attempts_made=attempts_made, attempts_allowed=10, repeat_rule=rule, now=NOW, chance=0.5)


def after(seconds: float) -> RetryAt:
    return RetryAt(at=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_is_a_delivery(status: int) -> None:
    assert judged(Answered(status=status)) == Delivered()


@pytest.mark.parametrize("status", sorted(RETRIABLE_STATUSES))
def test_what_passes_is_tried_again_even_where_a_repeat_is_not_harmless(status: int) -> None:
    assert judged(Answered(status=status), rule=RepeatRule.WHEN_ANSWERED) == after(5)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 400, 401, 403, 404, 409, 410, 422, 451, 499, 501, 505, 506, 508, 510, 511]
)
def test_what_will_not_change_fails_at_once(status: int) -> None:
    assert judged(Answered(status=status), rule=RepeatRule.ALWAYS) == Failed()


@pytest.mark.parametrize("status", [507, 509, 512, *range(520, 528), 529, 530, 598, 599, 600, 777, 999])
def test_an_unknown_server_error_is_judged_as_500(status: int) -> None:
    assert judged(Answered(status=status)) == judged(Answered(status=500)) == after(5)
    assert at_most_once(status) == at_most_once(500) == Held()


@pytest.mark.parametrize("status", [199, *range(300, 600)])
def test_every_status_that_is_not_listed_counts_as_the_first_of_its_class(status: int) -> None:
    listed = RETRIABLE_STATUSES | {501, 505, 506, 508, 510, 511}
    if status not in listed:
        assert judged(Answered(status=status)) == (after(5) if status >= 500 else Failed())
    assert isinstance(at_most_once(status), Held) == (
        status in AMBIGUOUS_STATUSES or (status >= 500 and status not in listed)
    )


def at_most_once(status: int) -> Verdict:
    return judged(Answered(status=status), rule=RepeatRule.WHEN_NOT_PROCESSED)


@pytest.mark.parametrize("rule", RepeatRule)
def test_what_was_never_sent_is_tried_again(rule: RepeatRule) -> None:
    assert judged(Unreachable(reason="no"), rule=rule) == after(5)


def test_what_may_have_arrived_is_tried_again_only_where_a_repeat_is_harmless() -> None:
    assert judged(Unknown(reason="?"), rule=RepeatRule.ALWAYS) == after(5)
    assert judged(Unknown(reason="?"), rule=RepeatRule.WHEN_ANSWERED) == Held()
    assert judged(Unknown(reason="?"), rule=RepeatRule.WHEN_NOT_PROCESSED) == Held()


def test_what_our_guard_refuses_is_not_tried_again() -> None:
    assert judged(Refused(reason="private"), rule=RepeatRule.ALWAYS) == Failed()


@pytest.mark.parametrize(
    ("outcome", "last"),
    [
        (Answered(status=503), Failed()),
        (Unreachable(reason="no"), Failed()),
        (Unknown(reason="?"), Held()),  # the last one may have arrived, too
        (Answered(status=200), Delivered()),
    ],
)
def test_after_the_last_attempt_there_is_no_other(outcome: Outcome, last: Verdict) -> None:
    assert judged(outcome, attempts_made=10, rule=RepeatRule.ALWAYS) == last
    assert judged(outcome, attempts_made=11, rule=RepeatRule.ALWAYS) == last


@pytest.mark.parametrize("attempts_made", range(1, 10))
def test_in_the_middle_of_the_jitter_lies_the_schedule(attempts_made: int) -> None:
    assert retry_at(attempts_made, now=NOW, chance=0.5) == NOW + timedelta(seconds=SCHEDULE_SECONDS[attempts_made])


@given(st.integers(0, 1000), CHANCE)
def test_the_jitter_stays_within_a_fifth(attempts_made: int, chance: float) -> None:
    delay = SCHEDULE_SECONDS[min(attempts_made, 9)]
    waited = (retry_at(attempts_made, now=NOW, chance=chance) - NOW).total_seconds()
    assert 0.8 * delay - 1e-6 <= waited <= 1.2 * delay + 1e-6


@given(CHANCE, CHANCE)
def test_two_chances_are_two_moments(one: float, other: float) -> None:
    moments = [retry_at(9, now=NOW, chance=chance) for chance in sorted((one, other))]
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("00000000000000000000120", 120),
        ("86401", 86_400),
        ("9" * 1000, 86_400),
        (format_datetime(NOW + timedelta(hours=1), usegmt=True), 3600),
        ("Sun, 01 Mar 2026 13:00:00 -0000", 3600),
        ("Sunday, 01-Mar-26 13:00:00 GMT", 3600),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 86_400),
        (format_datetime(NOW - DAY, usegmt=True), -86_400),
    ],
)
def test_both_forms_of_retry_after_are_read_and_capped_at_a_day(value: str, seconds: int) -> None:
    assert retry_after((("RETRY-after", value),), now=NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "soon", "-5", "1.5", "5s", "\u00b2", "\u0665", "Sun, 99 Mar 2026 12:00:00 GMT", "9" * 1001),
        "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:00:00 +99999999999999999",
        "Thu, 01 Jan 2026 00:00:00 -99999999999999999",
        "Thu, 01 Jan 2026 99999999999999999999:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2300",
        "Thu, 01 Jan 2026 00:00:00 GMT\x00" + "9" * 5000,
    ],
)
def test_a_retry_after_that_cannot_be_read_counts_for_nothing(value: str) -> None:
    assert retry_after((("Retry-After", value),), now=NOW) is None


@settings(derandomize=True)
@given(
    st.text(st.characters(max_codepoint=0xFF))
    | st.text("0123456789 :,+-.GMTJanThu", max_size=60)
    | st.binary().map(storable)
)
def test_no_partner_can_make_retry_after_fail_or_exceed_the_cap(value: str) -> None:
    asked = retry_after((("Retry-After", value),), now=NOW)
    assert asked is None or asked <= NOW + DAY


@settings(derandomize=True)
@given(
    st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Mon", "x", ""]),
        st.integers(-1, 40),
        st.sampled_from(["Jan", "Feb", "x"]),
        st.integers(-1, 100_000) | st.integers(-(10**30), 10**30),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.sampled_from(
            ["GMT", "+0000", "-0000", "+2359", "-2359", "+9999", "EST", "", "+" + "9" * 17, "-" + "9" * 30]
        ),
    )
)
def test_no_date_can_either(value: str) -> None:
    asked = retry_after((("Retry-After", value),), now=NOW)
    assert asked is None or asked <= NOW + DAY


def test_a_delay_has_a_least_length_within_the_time_that_is_left() -> None:
    def judged_at(least_seconds: float, *, give_up_after: float = 60.0) -> Verdict:
        return verdict(
            Unknown(reason="lapsed"),
            attempts_made=1,
            attempts_allowed=10,
            repeat_rule=RepeatRule.ALWAYS,
            now=NOW,
            chance=0.5,
            give_up_at=NOW + timedelta(seconds=give_up_after),
            least_seconds=least_seconds,
        )

    assert judged_at(30.0) == after(30)
    assert judged_at(3.0) == after(5)
    assert judged_at(30.0, give_up_after=29.0) == Held()


def test_retry_after_wins_only_where_it_is_later() -> None:
    later, earlier = (("Retry-After", "600"),), (("Retry-After", "1"),)
    assert judged(Answered(status=429, headers=later)) == after(600)
    assert judged(Answered(status=429, headers=earlier)) == after(5)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["7", "9"], 9),
        (["9", "7"], 9),
        (["soon", "7"], 7),
        (["7", "9" * 1001], 7),
        (["7", format_datetime(NOW + timedelta(hours=1), usegmt=True)], 3600),
        (["7", "9" * 1000], 86_400),
        ([*["1"] * 9, "2"], 2),
        ([*["1"] * 10, "2"], 1),
    ],
)
def test_of_several_the_latest_of_the_first_ten_counts(values: list[str], seconds: int) -> None:
    headers = tuple(("Retry-After", value) for value in values)
    assert retry_after(headers, now=NOW) == NOW + timedelta(seconds=seconds)

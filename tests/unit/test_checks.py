"""What a sighting of our address says about the published one, and for how long."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.checks import LONGEST_AGE, Check, CheckStatus, NotObserved, Observed, as_of, checked, judge, unverified

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
OURS, OTHERS = "203.0.113.10", "198.51.100.99"
GOOD = Check(published=OURS, verdict=CheckStatus.MATCHES, seen=OURS, checked_at=NOW, verified_at=NOW, since=NOW)


def test_any_published_address_is_right() -> None:
    assert judge(Observed(address=OURS), published=["203.0.113.11", OURS]) == (CheckStatus.MATCHES, None)


def test_another_address_is_named() -> None:
    verdict, reason = judge(Observed(address=OTHERS), published=[OURS])
    assert verdict is CheckStatus.DIFFERS
    assert OTHERS in str(reason)


def test_a_service_that_cannot_be_asked_says_nothing_about_the_address() -> None:
    assert judge(NotObserved(reason="no connection"), published=[OURS]) == (CheckStatus.FAILED, "no connection")


def test_the_published_address_is_verified_when_it_is_seen() -> None:
    assert checked(Observed(address=OURS), published=OURS, previous=None, now=NOW) == GOOD


@pytest.mark.parametrize("sighting", [Observed(address=OTHERS), NotObserved(reason="no connection")])
def test_when_it_was_last_verified_outlives_a_check_that_finds_something_else(sighting: Observed | NotObserved) -> None:
    later = NOW + timedelta(minutes=15)
    found = checked(sighting, published=OURS, previous=GOOD, now=later)
    assert (found.checked_at, found.verified_at) == (later, NOW)
    assert found.reason is not None


def test_what_was_verified_of_another_address_says_nothing_about_this_one() -> None:
    found = checked(NotObserved(reason="no connection"), published=OTHERS, previous=GOOD, now=NOW)
    assert found.verified_at is None


def test_a_result_counts_for_an_hour() -> None:
    assert as_of(NOW + LONGEST_AGE, GOOD, published=OURS) == GOOD
    late = as_of(NOW + LONGEST_AGE + timedelta(seconds=1), GOOD, published=OURS)
    assert late == replace(GOOD, verdict=CheckStatus.UNVERIFIED, reason="the last check is more than an hour old")


def test_an_address_that_was_never_checked_is_unverified() -> None:
    assert as_of(NOW, None, published=OURS).verdict is CheckStatus.UNVERIFIED
    assert as_of(NOW, unverified(OURS, reason="?"), published=OURS).reason == "this address has not been checked yet"


def test_a_result_for_the_address_before_says_nothing_about_the_new_one() -> None:
    found = as_of(NOW, GOOD, published=OTHERS)
    assert (found.published, found.verdict, found.seen, found.verified_at) == (
        OTHERS,
        CheckStatus.UNVERIFIED,
        None,
        None,
    )

"""Work with a deadline: its result, its error, or neither in time."""

import threading

import pytest

from runtime import deadline
from runtime.deadline import OutOfTime, within


def test_what_is_done_in_time_is_returned() -> None:
    assert within(5, lambda: 42, cut=pytest.fail) == 42


def test_what_fails_in_time_fails_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, cut=pytest.fail)


def test_what_takes_too_long_is_cut_off() -> None:
    hung_up = threading.Event()
    with pytest.raises(OutOfTime, match=r"not done after 0 s"):
        within(0.05, lambda: hung_up.wait(30), cut=hung_up.set)
    assert hung_up.is_set()


def test_what_nothing_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "CUT_SECONDS", 0.05)
    never, ended = threading.Event(), threading.Event()

    def work() -> None:
        never.wait(60)
        ended.set()

    with pytest.raises(OutOfTime):
        within(0.05, work, cut=lambda: None)
    assert not ended.is_set()
    never.set()


def test_when_the_time_is_over_already_nothing_is_waited_for() -> None:
    hung_up = threading.Event()
    with pytest.raises(OutOfTime):
        within(-20, lambda: hung_up.wait(30), cut=hung_up.set)

"""Signals that stop a program: the first one raises, and those that follow disturb nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from local.stopping import STOP_SIGNALS, children_unstopped, stoppable


class Stopped(BaseException):
    """Of this test."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """In the end all signals have the handlers that they had; meanwhile none is ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_raises_and_the_others_are_ignored(number: signal.Signals) -> None:
    cleaned_up = False

    def stop() -> None:
        nonlocal cleaned_up
        try:
            signal.raise_signal(number)
        finally:
            for other in STOP_SIGNALS:
                signal.raise_signal(other)
            cleaned_up = True

    with pytest.raises(Stopped), stoppable(Stopped):
        stop()
    assert cleaned_up


def test_afterwards_the_handlers_are_those_from_before() -> None:
    with stoppable(Stopped):
        pass
    assert {signal.getsignal(number) for number in STOP_SIGNALS} == {signal.default_int_handler}


def test_a_signal_that_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stoppable(Stopped):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_child_gets_none_of_them_and_what_came_meanwhile_is_ours_afterwards() -> None:
    raise_each = f"import signal; [signal.raise_signal(n) for n in {[int(number) for number in STOP_SIGNALS]}]"
    status = None

    def start() -> None:
        nonlocal status
        with children_unstopped():
            signal.raise_signal(signal.SIGINT)
            status = subprocess.run([sys.executable, "-c", raise_each], check=False).returncode

    with pytest.raises(Stopped), stoppable(Stopped):
        start()
    assert status == 0

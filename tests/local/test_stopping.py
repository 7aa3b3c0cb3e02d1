"""Signals that stop a program: the first one raises, and those that follow disturb nothing."""

import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import FrameType
from unittest.mock import patch

import pytest

from local.stopping import STOP_SIGNALS, children_unstopped, stoppable, unstopped


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


@pytest.mark.parametrize("stopped", [False, True])
def test_afterwards_the_handlers_are_those_from_before(stopped: bool) -> None:
    """Of a program that was stopped too: what it starts afterwards would inherit that they are ignored."""
    with suppress(Stopped), stoppable(Stopped):
        if stopped:
            signal.raise_signal(signal.SIGTERM)
    assert {signal.getsignal(number) for number in STOP_SIGNALS} == {signal.default_int_handler}
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_that_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stoppable(Stopped):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_kill_is_heeded_where_it_was_ignored() -> None:
    """Nobody sends it by accident, and whoever ignored it ignored it for himself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(Stopped), stoppable(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def swallow(act: Callable[[], object]) -> None:
    """As a library does that catches whatever comes."""
    with suppress(BaseException):
        act()


def lose_in_a_destructor(act: Callable[[], object]) -> None:
    class Lost:
        def __del__(self) -> None:
            act()

    with patch.object(sys, "unraisablehook", lambda _: None):
        Lost()


def lose_in_a_callback(act: Callable[[], object]) -> None:
    class Watched:
        """Something that a weak reference can point to."""

    watched = Watched()
    reference = weakref.ref(watched, lambda _: act() and None)
    with patch.object(sys, "unraisablehook", lambda _: None):
        del watched
    assert reference() is None


def lose_in_a_finally(act: Callable[[], object]) -> None:
    def returning() -> None:
        for _ in range(1):
            try:
                act()
            finally:
                break  # noqa: B012 - this is how it gets lost

    returning()


LOSERS = [swallow, lose_in_a_destructor, lose_in_a_callback, lose_in_a_finally]


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("lose", LOSERS)
def test_where_the_exception_is_lost_it_comes_again_until_somebody_unwinds(
    lose: Callable[[Callable[[], object]], None], times: int
) -> None:
    def lose_and_wait_for_ever() -> None:
        lose(lambda: signal.raise_signal(signal.SIGTERM))
        for _ in range(times - 1):
            lose(threading.Event().wait)
        threading.Event().wait()

    with pytest.raises(Stopped), stoppable(Stopped):
        lose_and_wait_for_ever()


def test_a_block_that_lost_it_does_not_end_well() -> None:
    with pytest.raises(Stopped), stoppable(Stopped):
        swallow(lambda: signal.raise_signal(signal.SIGTERM))


def break_off(act: Callable[[], object]) -> None:
    """As a connection does that is stopped in the middle of a statement: what is still to be run on it fails."""
    try:
        act()
    finally:
        raise ConnectionError


def test_an_error_that_came_of_stopping_is_no_other_end() -> None:
    def act() -> None:
        try:
            break_off(lambda: signal.raise_signal(signal.SIGTERM))
        except ConnectionError as error:
            raise ValueError(str(error)) from None

    with pytest.raises(Stopped) as stopped, stoppable(Stopped):
        act()
    assert isinstance(stopped.value.__cause__, ValueError)


def test_an_error_of_its_own_stays_what_it_is() -> None:
    with pytest.raises(ConnectionError), stoppable(Stopped):
        break_off(lambda: None)


def test_while_somebody_unwinds_it_does_not_come_again() -> None:
    """However long that takes, and whatever is raised and caught in it."""
    done = []

    def clean_up() -> None:
        ticks = Ticks()
        with suppress(KeyError):
            raise KeyError
        ticks.await_some()
        try:
            raise ValueError
        except ValueError:
            ticks.await_some()
        done.append("all")

    def act() -> None:
        with ExitStack() as cleanup:
            cleanup.callback(clean_up)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped), stoppable(Stopped):
        act()
    assert done == ["all"]


class Ticks:
    """Counts how often the alarm has come that would raise again."""

    def __init__(self) -> None:
        self._count = 0
        self._inner = signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, self._tick)

    def await_some(self) -> None:
        """Waits for two more."""
        until = self._count + 2
        while self._count < until:
            signal.pause()

    def _tick(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        assert callable(self._inner)
        self._inner(number, frame)


def test_what_must_not_be_done_by_half_is_done_first() -> None:
    done = []

    def act() -> None:
        with unstopped():
            signal.raise_signal(signal.SIGTERM)
            Ticks().await_some()
            done.append("all")
        done.append("more")

    with pytest.raises(Stopped), stoppable(Stopped):
        act()
    assert done == ["all"]


def test_an_inner_block_ends_alone() -> None:
    """The search for a smaller story is ended early; what follows can be stopped as before."""

    def act() -> None:
        with suppress(KeyError), stoppable(KeyError):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped), stoppable(Stopped):
        act()


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

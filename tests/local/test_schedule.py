"""EventBridge's schedules: at once, then at their rate, whatever became of the run before."""

import logging
import time
from pathlib import Path

import pytest

from local.schedule import Schedule
from tests.local.conftest import MakeFunction


def runs(log: Path) -> int:
    return log.read_text().count("ran\n") if log.exists() else 0


def wait_for(log: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while runs(log) < count:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_it_runs_at_once_and_then_at_its_rate(function_of: MakeFunction) -> None:
    function = function_of("note")
    schedule = Schedule(function, seconds=0.05)
    schedule.start()
    wait_for(function.configuration.log, 3)
    schedule.stop()


def test_a_long_rate_is_observed_and_stopping_does_not_wait_for_it(function_of: MakeFunction) -> None:
    function = function_of("note")
    schedule = Schedule(function, seconds=900)
    schedule.start()
    wait_for(function.configuration.log, 1)
    time.sleep(0.2)
    assert runs(function.configuration.log) == 1
    schedule.stop()
    schedule.join()


def test_a_run_that_fails_is_logged_and_the_next_one_follows(
    function_of: MakeFunction, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = Schedule(function_of("fail"), seconds=0.05)
    with caplog.at_level(logging.WARNING):
        schedule.start()
        deadline = time.monotonic() + 60
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    schedule.stop()
    schedule.join()
    assert caplog.messages[:2] == ["fail failed: no such luck"] * 2

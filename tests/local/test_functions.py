"""Execution environments: one request at a time in a process that is kept, and replaced when it dies."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.frames import PAYLOAD_LIMIT_BYTES
from local.functions import (
    FunctionCrashed,
    FunctionRaised,
    FunctionTimedOut,
    PayloadTooLarge,
)
from tests.local.conftest import MakeFunction


def test_a_function_answers_json_with_json(function_of: MakeFunction) -> None:
    event = {"text": "größer", "list": [1, 2.5, None, True], "nested": {"a": ""}}
    assert function_of("echo").invoke(event) == event


def test_the_environment_is_reused_for_the_next_request(function_of: MakeFunction) -> None:
    function = function_of("who")
    assert function.invoke({})["pid"] == function.invoke({})["pid"]


def test_the_context_is_that_of_lambda(function_of: MakeFunction) -> None:
    found = function_of("who", timeout_seconds=9).invoke({})
    assert found["name"] == "who"
    assert found["arn"].endswith(":function:who")
    assert 0 < found["left"] <= 9_000
    assert len(found["request"]) == 36


def test_nothing_of_the_developers_shell_reaches_a_function(
    function_of: MakeFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert function_of("who").invoke({})["home"] is None


def test_a_prefix_starts_the_environment_somewhere_else_with_what_it_inherits(function_of: MakeFunction) -> None:
    """As the lab does, whose prefix enters a namespace by a descriptor."""
    ours, theirs = os.pipe()
    try:
        prefix = ("sh", "-c", f'echo entered >/dev/fd/{theirs}; HOME=/elsewhere exec "$@"', "sh")
        assert function_of("who", prefix=prefix, descriptors=(theirs,)).invoke({})["home"] == "/elsewhere"
        assert os.read(ours, 100) == b"entered\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_second_request_at_the_same_time_gets_an_environment_of_its_own(function_of: MakeFunction) -> None:
    function = function_of("sleep")
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(function.invoke, [{"seconds": 0.5}] * 2)
    assert first["pid"] != second["pid"]


def test_more_requests_than_places_wait(function_of: MakeFunction) -> None:
    function = function_of("sleep", concurrency=1)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(function.invoke, [{"seconds": 0.1}] * 2)
    assert first["pid"] == second["pid"]


def test_an_exception_is_reported_and_the_environment_continues(function_of: MakeFunction, tmp_path: Path) -> None:
    function = function_of("fail")
    for _ in range(2):
        with pytest.raises(FunctionRaised, match="no such luck") as caught:
            function.invoke({})
        assert caught.value.error_type == "ValueError"
    assert len(function.process_ids) == 1
    assert (tmp_path / "fail.log").read_text().count("Traceback (most recent call last)") == 2


def test_a_refused_token_is_one_line_of_the_log_and_no_traceback(function_of: MakeFunction, tmp_path: Path) -> None:
    with pytest.raises(FunctionRaised, match=r"^Unauthorized$"):
        function_of("refuse").invoke({})
    assert (tmp_path / "refuse.log").read_text() == "Unauthorized\n"


def test_a_result_that_is_no_json_is_an_error_of_the_function(function_of: MakeFunction) -> None:
    with pytest.raises(FunctionRaised, match="not JSON serializable"):
        function_of("odd").invoke({})


def test_a_handler_that_cannot_be_imported_is_named(function_of: MakeFunction) -> None:
    with pytest.raises(FunctionRaised, match="no attribute 'missing'"):
        function_of("missing").start()


def test_an_environment_that_dies_in_a_request_is_replaced(function_of: MakeFunction, tmp_path: Path) -> None:
    function = function_of("vanish")
    for _ in range(2):
        with pytest.raises(FunctionCrashed, match=f"status -9; see {tmp_path}"):
            function.invoke({})
    assert function.process_ids == []


def test_an_environment_that_died_while_idle_is_replaced(function_of: MakeFunction) -> None:
    function = function_of("who")
    pid = function.invoke({})["pid"]
    os.kill(pid, signal.SIGKILL)
    _wait_for_end(pid)
    assert function.invoke({})["pid"] != pid


def test_a_time_out_ends_the_environment(function_of: MakeFunction) -> None:
    function = function_of("sleep", timeout_seconds=0.3)
    function.start()
    (pid,) = function.process_ids
    with pytest.raises(FunctionTimedOut, match=r"sleep timed out after 0\.30 seconds"):
        function.invoke({"seconds": 30})
    assert function.process_ids == []
    _wait_for_end(pid)


def test_a_limit_below_the_time_out_counts(function_of: MakeFunction) -> None:
    function = function_of("sleep")
    function.start()
    with pytest.raises(FunctionTimedOut):
        function.invoke({"seconds": 30}, limit_seconds=0.2)


def test_an_event_over_lambdas_limit_is_not_sent(function_of: MakeFunction) -> None:
    function = function_of("echo")
    with pytest.raises(PayloadTooLarge):
        function.invoke({"body": "x" * PAYLOAD_LIMIT_BYTES})
    assert function.invoke({"body": "x" * (PAYLOAD_LIMIT_BYTES - 1000)})["body"][:1] == "x"


def test_a_result_over_lambdas_limit_is_an_error_of_the_function(function_of: MakeFunction) -> None:
    with pytest.raises(FunctionRaised, match="Response payload size exceeded maximum allowed payload size"):
        function_of("large").invoke({"bytes": PAYLOAD_LIMIT_BYTES})


def test_stopping_ends_a_request_under_way(function_of: MakeFunction) -> None:
    function = function_of("sleep", timeout_seconds=90)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(function.invoke, {"seconds": 30})
        while not function.process_ids:
            time.sleep(0.01)
        time.sleep(0.3)
        function.stop()
        with pytest.raises(FunctionCrashed):
            running.result(60)


def test_after_stopping_nothing_is_invoked(function_of: MakeFunction) -> None:
    function = function_of("echo")
    function.stop()
    with pytest.raises(FunctionCrashed, match="shut down"):
        function.invoke({})


def _wait_for_end(pid: int) -> None:
    """Until our child has ended with all of its threads; the last one closes its files."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
        except ChildProcessError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still alive")

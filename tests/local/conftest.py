"""Functions of our own making, in real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.functions import Function, FunctionConfiguration

HANDLERS = """
import os, signal, sys, time

def echo(event, context):
    return event

def who(event, context):
    return {"pid": os.getpid(), "name": context.function_name, "left": context.get_remaining_time_in_millis(),
            "request": context.aws_request_id, "arn": context.invoked_function_arn, "home": os.environ.get("HOME")}

def note(event, context):
    print("ran")

def fail(event, context):
    raise ValueError("no such luck")

def refuse(event, context):
    raise ValueError("Unauthorized")

def vanish(event, context):
    os.kill(os.getpid(), signal.SIGKILL)

def sleep(event, context):
    time.sleep(event["seconds"])
    return {"pid": os.getpid()}

def large(event, context):
    return "x" * event["bytes"]

def odd(event, context):
    return {"bytes": b"not JSON"}
"""


type MakeFunction = Callable[..., Function]


@pytest.fixture
def function_of(tmp_path: Path) -> Iterator[MakeFunction]:
    """Makes a function that runs one of HANDLERS; all are stopped afterwards."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "handlers_of_test.py").write_text(HANDLERS)
    made: list[Function] = []

    def make(handler: str, *, timeout_seconds: float = 20.0, concurrency: int = 2, **more: Any) -> Function:
        configuration = FunctionConfiguration(
            name=handler,
            handler=f"handlers_of_test.{handler}",
            code=tmp_path / "code",
            log=tmp_path / f"{handler}.log",
            timeout_seconds=timeout_seconds,
            **more,
        )
        made.append(Function(configuration, concurrency=concurrency))
        return made[-1]

    yield make
    for function in made:
        function.stop()

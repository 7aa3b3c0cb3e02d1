"""Runs a function of a test file inside of the lab's private world, in a process of its own."""

import inspect
import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from lab.kernel.sandbox import SKIPPED, NamespacesForbidden, enter

ROOT = Path(__file__).resolve().parents[2]
# Where the lab must run (in CI), a machine that forbids it is a failure and not a reason to skip.
REQUIRED = os.environ.get("SALLYPORT_LAB") == "required"
_LIMIT_SECONDS = 600

_INSIDE = """
import json, runpy, sys
from lab.kernel.sandbox import NamespacesForbidden, enter, main_or_skip
function = runpy.run_path(sys.argv[1])[sys.argv[2]]
try:
    enter()
except NamespacesForbidden as error:
    sys.exit(main_or_skip(error))
print(json.dumps(function(*json.load(sys.stdin))))
"""


def environment(**more: str) -> Mapping[str, str]:
    """What a process needs to import ours."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | more


def command(function: Callable[..., Any]) -> list[str]:
    """Runs `function` inside, with the arguments that stand on its input as JSON, and prints what it returns."""
    return [sys.executable, "-c", _INSIDE, inspect.getfile(function), function.__name__]


def inside(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns inside. Arguments and results pass as JSON. Skips the test where namespaces are not to
    be had."""
    outcome, text = _outcome(inspect.getfile(function), function.__name__, json.dumps(arguments))
    if outcome == "forbidden" and not REQUIRED:
        pytest.skip(f"THE LAB DID NOT RUN: {text}")
    assert outcome == "returned", text[-4000:]
    return json.loads(text)


def _outcome(file: str, name: str, arguments: str) -> tuple[str, str]:
    """("returned", JSON), ("forbidden", the advice) or ("raised", the traceback), from a process of its own."""
    ours, theirs = _processes().Pipe(duplex=False)
    process = _processes().Process(target=_run, args=(file, name, arguments, theirs, dict(environment())))
    process.start()
    theirs.close()
    try:
        assert ours.poll(_LIMIT_SECONDS), f"{name} takes longer than {_LIMIT_SECONDS} s"
        outcome: tuple[str, str] = ours.recv()
    except EOFError:
        process.join()
        outcome = ("ended", f"the process of {name} ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()
    return outcome


@cache
def _processes() -> Any:
    """Processes that are forked from one that has imported what this one has of the lab by now, which takes longer
    than most of what runs inside. It has one thread, as a process that makes a private world must."""
    context = get_context("forkserver")
    imported = sorted(name for name in sys.modules if name.startswith("lab."))
    backends = ["tests.support.moto_backends"] if "lab.programs.services" in imported else []
    context.set_forkserver_preload([*imported, *backends])
    return context


def _run(file: str, name: str, arguments: str, results: Connection, variables: Mapping[str, str]) -> None:
    """In a process of its own. Its outcome is sent by the process inside, which is the one that goes on after enter."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread was started before the private world was made"
    os.environ.update(variables)
    function = runpy.run_path(file)[name]
    try:
        enter()
        results.send(("returned", json.dumps(function(*json.loads(arguments)))))
    except NamespacesForbidden as error:
        results.send(("forbidden", str(error)))
    except BaseException:  # noqa: BLE001 - whatever it is, the test that asked for it must hear of it
        results.send(("raised", traceback.format_exc()))


def finished(words: list[str], text: str = "[]") -> "subprocess.CompletedProcess[str]":
    """A process of the lab's that ended well; `text` is what it reads."""
    done = subprocess.run(
        words, input=text, env=environment(), capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
    )
    if done.returncode == SKIPPED and not REQUIRED:
        pytest.skip(f"THE LAB DID NOT RUN: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done

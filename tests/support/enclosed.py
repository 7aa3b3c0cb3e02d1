"""Runs a function of a test file inside of the lab's private world, in a process of its own."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.kernel.sandbox import SKIPPED

ROOT = Path(__file__).resolve().parents[2]
# Where the lab must run (in CI), a machine that forbids it is a failure and not a reason to skip.
REQUIRED = os.environ.get("SALLYPORT_LAB") == "required"

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
    return json.loads(finished(command(function), json.dumps(arguments)).stdout.splitlines()[-1])


def finished(words: list[str], text: str = "[]") -> "subprocess.CompletedProcess[str]":
    """A process of the lab's that ended well; `text` is what it reads."""
    done = subprocess.run(
        words, input=text, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode == SKIPPED and not REQUIRED:
        pytest.skip(f"THE LAB DID NOT RUN: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done

"""Runs `make` as a person does, also where a `make` runs the tests: the variables of that one are not for this one."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILES = [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
_OF_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEFILES", "MAKEOVERRIDES", "GNUMAKEFLAGS"}


def targets() -> Mapping[str, str]:
    """Every target with a line in `make help`, and its help."""
    found: dict[str, str] = {}
    for path in MAKEFILES:
        found |= dict(re.findall(r"^([a-z-]+):.*?## (.*\n(?:#\? .*\n)*)", path.read_text(), re.MULTILINE))
    return found


def taken(target: str) -> list[str]:
    """The variables that the help of a target names."""
    return re.findall(r"(?<![\w])([A-Z][A-Z_]*)=", targets()[target])


def clean(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without the variables of a `make` around us."""
    given = os.environ if environment is None else environment
    variables = {name for target in targets() for name in taken(target)}
    return {name: value for name, value in given.items() if name not in _OF_MAKE | variables}


def make(
    *arguments: str, root: Path = ROOT, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """`make` in the project, or in a copy of it, to its end."""
    return subprocess.run(
        ["make", *arguments],
        cwd=root,
        env=clean() | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

"""Runs the SAM CLI as a person without an account, a Region or a profile types it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".venv-sam/bin"
SECONDS = 1200  # a build may have to fetch every dependency first, and a container engine may copy an image


def surroundings(home: Path, **variables: str) -> dict[str, str]:
    """The environment of such a person, whose files are in `home`, and `variables` on top of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name != "ARCHITECTURE"}
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": str(home), "SAM_CLI_TELEMETRY": "0", **variables}


def sam(*words: str, root: Path, environment: Mapping[str, str], typed: str = "") -> "subprocess.CompletedProcess[str]":
    """One command in the directory `root`, to its end; `typed` is what the person answers."""
    return subprocess.run(
        ["sam", *words],
        cwd=root,
        env=dict(environment),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

"""Commands that print line by line end quietly when their reader does, as in `make mutants LIST=yes | head`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["tools.mutants", "--only", "src/domain/ids.py", "--list"],
        ["lab.fuzz", "--n", "1"],
        ["stack.cost"],
        ["stack.cost", "--topology", "on-premises", "--free"],
    ],
)
def test_no_traceback_is_printed(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody_reads:
        environment = os.environ | {"PYTHONPATH": f"src{os.pathsep}."}
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=nobody_reads, stderr=subprocess.PIPE, check=False, timeout=300
        )
    assert (done.returncode, done.stderr) == (1, b"")

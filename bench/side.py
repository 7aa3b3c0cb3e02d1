"""A process of one side of a comparison: runs functions of bench/work.py and returns their results.

    python -m bench.side      one JSON line per request on standard input: {"do": "calls", "with": {...}}

Each is answered by one JSON line. The output of the handlers goes to /dev/null, on every side.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from local.functions import REPOSITORY


class SideFailed(Exception):
    """A process ended in the middle of its work; the message is the end of its output."""


class Side:
    """The parent's end of such a process. `command` precedes the module, such as valgrind."""

    def __init__(self, environment: Mapping[str, str], *, command: Sequence[str] = (sys.executable,)) -> None:
        self.environment = dict(environment)
        self._process = subprocess.Popen(
            [*command, "-m", "bench.side"],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, function: str, **arguments: Any) -> Any:
        """The result of `function` of bench/work.py. Raises SideFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.write(json.dumps({"do": function, "with": arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(self._process.stderr.read()[-2000:])
        return json.loads(line)

    def close(self) -> str:
        """Ends the process; what it wrote to standard error."""
        return self._process.communicate()[1]

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def main() -> None:
    """Answers until standard input ends."""
    from bench import work

    answers = os.fdopen(os.dup(1), "w")
    silence = os.open(Path(os.devnull), os.O_WRONLY)
    os.dup2(silence, 1)
    for line in sys.stdin:
        request = json.loads(line)
        result = getattr(work, request["do"])(**request["with"])
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

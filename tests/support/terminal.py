"""Types commands of the documents, as they stand there, into bash."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.documents import the_block, the_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A shell in `directory`. `instead` is what differs from the page, such as a port; `before` what a reader has to
    define first; `variables` are set on top of the tests' own.
    """

    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    before: str = ""

    def types(self, page: str, beginning: str, *, then: str = "") -> str:
        """What the one command of a page that begins so prints, and `then` after it. They must end with 0.

        That a test types a command is read from the constants of this call (tests/documents).
        """
        return self._run(f"{the_command(page, beginning)}\n{then}")

    def types_block(self, page: str, beginning: str) -> str:
        """The same for all commands of the block whose first command begins so."""
        return self._run(the_block(page, beginning).text)

    def says(self, script: str) -> str:
        """What a script of the test's own prints."""
        return self._run(script)

    def _run(self, script: str) -> str:
        for written, real in self.instead.items():
            script = script.replace(written, real)
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", f"{self.before}\n{script}"],
            cwd=self.directory,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

"""The virtual environments of what Sallyport is compared with: made when they are first needed."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.functions import REPOSITORY

ENVIRONMENTS = REPOSITORY / ".venv-bench" / "peers"
SHIPPED = REPOSITORY / "src" / "requirements.txt"  # beside each one's own, so that all have the same drivers


class NotInstalled(Exception):
    """The message says what to install, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """`requirements` are complete pins. None means the packages that ship, which the bench itself runs on."""

    requirements: Path | None

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is there or not."""
        return Path(sys.executable) if self.requirements is None else self._directory / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether it has what its requirements say now."""
        return self.requirements is None or (
            self._mark.is_file() and self._mark.read_text(encoding="utf-8") == self._print and self.python.exists()
        )

    def pins(self) -> list[str]:
        """Of its own requirements: `Flask==3.1.3` and so on."""
        lines = self.requirements.read_text(encoding="utf-8").splitlines() if self.requirements else []
        return [line for line in lines if "==" in line and not line.startswith("#")]

    def install(self) -> None:
        """Nothing where it is ready. Raises NotInstalled."""
        if self.ready:
            return
        assert self.requirements is not None
        self._mark.unlink(missing_ok=True)
        command = [str(REPOSITORY / "local" / "set-up"), str(self._directory), str(SHIPPED), str(self.requirements)]
        status, said = _carried_out(command)
        if status != 0:
            raise NotInstalled(f"{', '.join(self.pins())} could not be installed: {_reason(said)}")
        self._mark.write_text(self._print, encoding="utf-8")

    @property
    def _directory(self) -> Path:
        assert self.requirements is not None
        return ENVIRONMENTS / self.requirements.stem

    @property
    def _mark(self) -> Path:
        return self._directory / ".ready"

    @property
    def _print(self) -> str:
        """Changes with what is to be installed."""
        assert self.requirements is not None
        return hashlib.sha256(SHIPPED.read_bytes() + self.requirements.read_bytes()).hexdigest()


def _carried_out(command: Sequence[str]) -> tuple[int, str]:
    """The exit status and standard error. Interrupted, it ends the command with all that it started."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            said = process.communicate()[1]
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode, said


def _reason(words: str) -> str:
    """pip's first error, on one line; what local/set-up says where there is none."""
    lines = [line for line in words.splitlines() if line]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["local/set-up failed without a word"])[0]

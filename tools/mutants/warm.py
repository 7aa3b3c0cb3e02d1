"""Warm runs: a process that has collected the tests already and forks for each edit of a function, which takes a tenth
of the time that a new process takes. Whatever survives there is tried in a process of its own.
"""

import ast
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tools.mutants.edits import Edit
from tools.mutants.trees import Tree

COLD, TIMED_OUT = 77, -1


class Ask(msgspec.Struct, kw_only=True):
    """To run `tests` with one function of `file` as it is in `text`: the one of that name that begins in `line`."""

    file: str
    text: str
    function: str
    line: int
    tests: list[str]
    log: str
    timeout_seconds: float


@dataclass(slots=True)
class Warm:
    """One such process, in one tree."""

    tree: Tree
    python: Path
    folders: Sequence[str]
    _process: subprocess.Popen[bytes] | None = None
    _asks: int = -1
    _answers: int = -1

    def run(self, edit: Edit, text: str, tests: Sequence[str], *, log: Path, timeout_seconds: float) -> int:
        """The exit code; COLD where the edit is not of a function, or the process cannot say."""
        place = outermost(text, edit.line(text))
        if place is None:
            return COLD
        ask = Ask(
            file=str(self.tree.files / edit.path), text=edit.applied(text), function=place[0], line=place[1],
            tests=list(tests), log=str(log), timeout_seconds=timeout_seconds,
        )  # fmt: skip
        _write(self._asks, msgspec.json.encode(ask) + b"\n")
        return int(_line(self._answers) or COLD)

    def close(self) -> None:
        """Ends the process, which ends what it started."""
        if self._process is not None:
            os.close(self._asks)
            self._process.wait()
            os.close(self._answers)
            self._process = None

    def start(self) -> None:
        """Before the first edit: what is loaded now is as it was."""
        if self._process is not None:
            return
        asked, self._asks = os.pipe()
        self._answers, answered = os.pipe()
        temporary = self.tree.scratch / "w"  # a run beside this one deletes the other place
        temporary.mkdir(parents=True, exist_ok=True)
        with (self.tree.scratch / "warm.txt").open("wb") as output:
            self._process = self.tree.started(
                ["-p", "tools.mutants.forks", f"--basetemp={temporary / 'b'}", *self.folders],
                python=self.python,
                environment={
                    "MUTANTS_PIPES": f"{asked} {answered}",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "TMPDIR": str(temporary),
                },
                output=output,
                pass_fds=(asked, answered),
            )
        os.close(asked)
        os.close(answered)
        _line(self._answers)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _line(descriptor: int) -> str:
    """Up to a newline; empty where the other end is gone."""
    read = b""
    while not read.endswith(b"\n"):
        more = os.read(descriptor, 1)
        if not more:
            return ""
        read += more
    return read.decode().strip()


def outermost(text: str, line: int) -> tuple[str, int] | None:
    """The function of a module or a class whose body has the line: its name and where its code begins, the first
    decorator. None where the line runs at import.
    """
    found = [
        (node.name, min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body[0].lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return min(found, key=lambda place: place[1], default=None)

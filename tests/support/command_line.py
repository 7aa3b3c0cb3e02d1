"""The command `sallyport`, typed by a test: in this process, as another Python takes 0.3 s."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from sallyport.cli.main import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as a document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A user whose configuration is in `home`. `variables` are set on top of the tests' own."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: bytes = b"", **variables: str) -> Printed:
        out, err = _terminal(), _terminal()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SALLYPORT_")}
        given = {**clean, "XDG_CONFIG_HOME": str(self.home), **self.variables, **variables}
        with (
            mock.patch.dict(os.environ, given, clear=True),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = _ended(words)
        return Printed(code=code, out=_text(out), err=_text(err))


def _ended(words: tuple[str, ...]) -> int:
    try:
        return run(words)
    except SystemExit as ended:  # click's own, after it has completed a word for a shell
        return int(ended.code or 0)


def _terminal() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(terminal: io.TextIOWrapper) -> str:
    buffer = terminal.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()

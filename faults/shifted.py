"""The handlers of API and worker with a wall clock that can be moved while they run.

As a handler `faults.shifted.attempt` is `handlers.attempt.handler`. All that the code reads of the wall clock is moved:
`handlers.wiring.utc_now`, from which the flows get their clock, and `time.time`. What is monotonic stays, as on a host
whose clock is set. Each process reads how far its clock is off from a file that is named after it.
"""

import importlib
import mmap
import os
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CLOCKS = "clocks"  # the directory of those files, beside the seal key
_OFFSET = struct.Struct("d")
_true_time = time.time


def clock_directory(seal_key_file: Path) -> Path:
    """Where the processes' files are."""
    return seal_key_file.parent / CLOCKS


def set_clock(directory: Path, pid: int, *, off_seconds: float) -> None:
    """Moves a process's clock; nothing where it has none yet."""
    file = directory / str(pid)
    if file.exists():
        with file.open("r+b") as opened:
            opened.write(_OFFSET.pack(off_seconds))


def _follow_file() -> None:
    file = clock_directory(Path(os.environ["SEAL_KEY_FILE"])) / str(os.getpid())
    file.write_bytes(_OFFSET.pack(0.0))
    with file.open("r+b") as opened:
        offset = mmap.mmap(opened.fileno(), _OFFSET.size)
    time.time = lambda: _true_time() + float(_OFFSET.unpack_from(offset)[0])


def _utc_now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def __getattr__(name: str) -> Callable[[Any, Any], Any]:
    """The handler of handlers/<name>.py; its module is imported with the clock already in place."""
    if name.startswith("_"):
        raise AttributeError(name)
    _follow_file()
    wiring = importlib.import_module("handlers.wiring")
    wiring.utc_now = _utc_now  # type: ignore[attr-defined]  # a module of its own, imported by name
    handler: Callable[[Any, Any], Any] = importlib.import_module(f"handlers.{name}").handler
    return handler

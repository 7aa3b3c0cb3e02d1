"""Reads plain values into our classes, one thread at a time.

When msgspec first meets a dataclass it reads its fields, runs Python code for that, and lets other threads see what it
has read by then: a thread that converts to the same class meanwhile ends the process (a segmentation fault, in
msgspec 0.22). Structs are read when they are defined, and need no lock.
"""

import threading

import msgspec

_LOCK = threading.Lock()


def converted[T](stored: object, kind: type[T]) -> T:
    """`stored` as a `kind`. Raises msgspec.ValidationError."""
    with _LOCK:
        return msgspec.convert(stored, kind)

"""Idempotency keys: one for each request, the same for each of its repeats."""

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_UNDER: ContextVar[str | None] = ContextVar("sallyport_key", default=None)
_LONGEST = 200  # of the 255 characters that a key may have, 33 are for the request's own part


def new_key() -> str:
    """A key that nobody has used: a time, so that keys sort, and 80 random bits."""
    return f"{int(time.time() * 1000):012x}-{secrets.token_hex(10)}"


@contextmanager
def under_key(key: str) -> Iterator[None]:
    """Every request of the transports in here gets a key that follows from `key` and the request itself.

    So a request that is repeated in here, by an SDK or after a crash by your own code under the same `key`, is not made
    twice, while different requests have different keys. Raises ValueError for a key that cannot be sent.
    """
    if not 1 <= len(key) <= _LONGEST or not (key.isascii() and key.isprintable() and " " not in key and '"' not in key):
        raise ValueError(f"a key has 1 to {_LONGEST} visible ASCII characters without quotes, not {key!r}")
    before = _UNDER.set(key)
    try:
        yield
    finally:
        _UNDER.reset(before)


def key_for(method: str, target: str, content: bytes) -> str:
    """The key of a request: a new one, or under_key()'s. `target` is its path with the query."""
    common = _UNDER.get()
    if common is None:
        return new_key()
    digest = hashlib.sha256(b"\0".join((method.encode(), target.encode(), content))).hexdigest()
    return f"{common}/{digest[:32]}"

"""Header fields in JSON, as callers write them and as they are shown."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from domain.errors import Fault
from domain.headers import header_fault
from domain.outcomes import Headers

HEADERS_LIMIT_BYTES = 16 * 1024
HEADERS_LIMIT = 100  # how many, each value of a repeated one by itself
HeaderValues = Annotated[
    dict[str, str | list[str]], Meta(description="Header names with their value, or all values of a repeated one")
]


def header_faults(pairs: Sequence[tuple[str, str]], *, field: str) -> Iterator[Fault]:
    """What is wrong with headers that a caller wants to send. They go by position: a name may be a misplaced secret."""
    for position, (name, value) in enumerate(pairs, start=1):
        if fault := header_fault(name, value):
            yield Fault(field=field, detail=f"header {position}: {fault}")
    if len(pairs) > HEADERS_LIMIT:
        yield Fault(field=field, detail=f"must be at most {HEADERS_LIMIT} in all")
    if sum(len(name) + len(value) for name, value in pairs) > HEADERS_LIMIT_BYTES:
        yield Fault(field=field, detail=f"must be at most {HEADERS_LIMIT_BYTES} bytes in all")


def header_values(headers: Headers) -> dict[str, str | list[str]]:
    """Each name with its value, or with all values where it is repeated."""
    once: dict[str, str | list[str]] = dict(headers)
    if len(once) == len(headers):  # as nearly always
        return once
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in by_name.items()}

"""Which requests callers may send to a destination."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """The methods and the path prefixes that callers may use; None for all."""

    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None

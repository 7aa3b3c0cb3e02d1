"""Which requests callers may send to a destination."""

import re

from domain.values import value_class

_ESCAPE = r"%[0-9A-Fa-f]{2}"
_UNRESERVED = r"[A-Za-z0-9._~-]"  # RFC 3986 section 2.3


@value_class(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """The methods and the path prefixes that callers may use; None for all. Prefixes are plain paths, and end with a
    segment: `/orders` allows itself and what is below it. `db/deliveries.py` compares them.
    """

    methods: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None


def plain_path(path: str) -> str:
    """`path` as it is compared with prefixes: without escapes of characters that need none (RFC 3986 section 6.2.2.2).

    Other escapes stay, since a server may or may not decode them. So what begins with a prefix here begins with it for
    every server, and it does not climb out again, which `domain.targets.path_fault` makes sure of.
    """
    return re.sub(_ESCAPE, _decoded, path or "/") if "%" in path else path or "/"


def _decoded(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if re.fullmatch(_UNRESERVED, character) else escape[0].upper()

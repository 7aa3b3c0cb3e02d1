"""W3C Trace Context: the trace that a caller's request belongs to is passed on to the partner.

https://www.w3.org/TR/trace-context/
"""

import re
from collections.abc import Sequence

from domain.outcomes import Headers

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
STATE_LIMIT = 512  # characters: what has to be passed on at least (section 3.3.1.5)
STATE_MEMBERS = 32
# Of version 00 that is all; a later version may have more behind it. Neither id is all zeros.
_PARENT = re.compile(
    r"(?:00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,200})?)"
)
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


def with_trace(headers: Headers, *, parents: Sequence[str], states: Sequence[str]) -> Headers:
    """`headers` with the trace context of the call that brought them, unless they say their own.

    `parents` and `states` are the values of the call's two headers. What is not valid is left out: the parent where
    there is more than one, and with it the state; and a state that is too long.
    """
    named = {name.lower() for name, _ in headers}
    if named & {TRACEPARENT, TRACESTATE} or len(parents) != 1 or not _PARENT.fullmatch(parents[0]):
        return headers
    state = _state(states)
    return (*headers, (TRACEPARENT, parents[0]), *([(TRACESTATE, state)] if state else []))


def _state(values: Sequence[str]) -> str:
    """All members together, empty where one of them is not valid. Empty ones count as none."""
    members = [member for member in (part.strip(" \t") for part in ",".join(values).split(",")) if member]
    together = ",".join(members)
    if len(members) > STATE_MEMBERS or len(together) > STATE_LIMIT or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return together

"""How large an answer may be. Lambda returns 6 MB of JSON, in which the body is a string: each quote and each backslash
in it takes one byte more, and a body of bytes a third more as base64. A larger answer never reaches the caller, who
gets a 502 from API Gateway instead. So lists and attempts end early, with a cursor for the rest.

Source: "Lambda quotas" in AWS's developer guide, and the text of the error itself, which has the exact number.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

LAMBDA_ANSWER_BYTES = 6_291_556
ANSWER_BYTES = 6_200_000  # of a body of ours; the rest is for headers and for the object around it
# No character takes more than seven bytes and no partner's headers come near what is left, so that a body of so many
# characters need not be measured.
_SURELY_SMALL_CHARACTERS = 250_000


def fits(answer: Mapping[str, Any]) -> bool:
    """Whether Lambda returns this proxy response."""
    if len(answer.get("body") or "") <= _SURELY_SMALL_CHARACTERS:
        return True
    return len(json.dumps(answer, ensure_ascii=False).encode()) <= LAMBDA_ANSWER_BYTES  # as the runtime encodes it


def surely_fits(body: object, *, room_bytes: int) -> bool:
    """Whether `body` has room even if each byte of its JSON had to be escaped."""
    return 2 * len(msgspec.json.encode(body)) <= room_bytes


def weight(body: object) -> int:
    """The bytes that `body` takes as a JSON string in Lambda's answer, once it is JSON itself."""
    encoded = msgspec.json.encode(body)
    return len(encoded) + encoded.count(b'"') + encoded.count(b"\\")


def fitting[T](items: Sequence[T], *, room_bytes: int = ANSWER_BYTES) -> list[T]:
    """As many of `items`, from the first on, as fit into a list of that size."""
    sizes = accumulate(weight(body) + 1 for body in items)  # a comma each
    return [body for body, size in zip(items, sizes, strict=True) if size <= room_bytes]

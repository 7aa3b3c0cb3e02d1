"""Which of the media types that we have is sent (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Sequence

_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def preferred(accept: Sequence[str], offered: Sequence[str]) -> str:
    """The one of `offered` that the values of the Accept header prefer; of equal ones the first in `offered`.

    Without the header, and where nothing that is offered is acceptable, it is the first one: section 12.4.1 allows
    that, and a document in another form is more use than none.
    """
    ranges = [entry for value in accept for entry in map(_range, value.split(",")) if entry is not None]
    weights = [_weight(media_type, ranges) for media_type in offered]
    return offered[weights.index(max(weights))]


def _range(text: str) -> tuple[str, float] | None:
    """A media range and its weight; None where it is no good."""
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    return (media_range, float(weight)) if media_range.count("/") == 1 and _WEIGHT.fullmatch(weight) else None


def _weight(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the most specific range that has it; 0 where none has."""
    for wanted in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [weight for media_range, weight in ranges if media_range == wanted]
        if found:
            return max(found)
    return 0.0

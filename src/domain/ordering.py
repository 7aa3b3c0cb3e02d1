"""Ordering keys: deliveries to one destination that carry the same key are sent one after the other."""

import re
from enum import StrEnum

from domain.values import value_class

MAX_ORDERING_KEY = 200  # characters
_CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"


class AfterFailure(StrEnum):
    """What a delivery that ended as `failed` or `unknown` does to those behind it: `hold` holds them back until it is
    resolved, `skip` lets the next one go."""

    HOLD = "hold"
    SKIP = "skip"


@value_class(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How a destination treats ordering keys."""

    after_failure: AfterFailure = AfterFailure.HOLD


def ordering_key_fault(key: str) -> str | None:
    """What is wrong with a key; None where nothing is."""
    if not 1 <= len(key) <= MAX_ORDERING_KEY:
        return f"must have 1 to {MAX_ORDERING_KEY} characters"
    return "must not contain control characters" if re.search(_CONTROL, key) else None

"""What the bodies of several resources have in common."""

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

# The escape of U+0000, unless its backslash is escaped itself.
_NUL = rb"(?<!\\)(?:\\\\)*\\u0000"

# What people write for people.
LINE = r"^[^\x00-\x1f\x7f]{1,500}$(?!\n)"
IS_LINE = {"must": "1 to 500 characters, none of them a control character"}

Cursor = Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last page")]
DestinationId = Annotated[UUID, Meta(description="The destination's id")]
CreatedAt = Annotated[datetime, Meta(description="When it was recorded")]


def holds_nul(encoded: bytes) -> bool:
    """Whether a text in this JSON holds U+0000, which PostgreSQL does not store."""
    return b"\\u0000" in encoded and re.search(_NUL, encoded) is not None

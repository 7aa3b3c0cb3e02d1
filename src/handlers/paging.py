"""Keyset pagination: a cursor is the id of the last item shown, so that pages stay stable while items are added."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from uuid import UUID

from domain.errors import Fault, InvalidRequest
from handlers.operations import Parameter
from handlers.request import Request

DEFAULT_LIMIT = 50
MOST = 200
LIMIT = Parameter(
    name="limit",
    place="query",
    description="How many items a page has",
    example=DEFAULT_LIMIT,
    schema={"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT_LIMIT},
)
CURSOR = Parameter(
    name="cursor",
    place="query",
    description="The next_cursor of the page before",
    example="AaIDx3f7eI-gs1TUe4yVYQ",
)
ATTEMPT_CURSOR = Parameter(
    name="cursor",
    place="query",
    description="The next_cursor of the page before: attempts after that number are shown",
    example="1",
)


def limit_of(request: Request) -> int:
    """The page size asked for. Raises InvalidRequest."""
    text = request.parameter("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST:
        raise InvalidRequest(Fault(field="limit", detail=f"must be a whole number from 1 to {MOST}"))
    return int(text)


def cursor_of(request: Request) -> UUID | None:
    """The id after which the page begins; None for the first page. Raises InvalidRequest."""
    text = request.parameter("cursor")
    if text is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(text + "=="))
    except ValueError as error:
        raise InvalidRequest(Fault(field="cursor", detail="must be the next_cursor of the page before")) from error


def attempt_cursor_of(request: Request) -> int:
    """The number of the attempt after which the page begins; 0 for the first page. Raises InvalidRequest."""
    text = request.parameter("cursor")
    if text is None:
        return 0
    if not re.fullmatch("[0-9]{1,5}", text):
        raise InvalidRequest(Fault(field="cursor", detail="must be the next_cursor of the page before"))
    return int(text)


def next_cursor(ids: Sequence[UUID], *, limit: int) -> str | None:
    """The cursor of the next page, given one more id than the page shows; None where this page is the last."""
    return cursor_behind(ids[limit - 1] if len(ids) > limit else None)


def cursor_behind(last: UUID | None) -> str | None:
    """The cursor of the page that begins behind `last`; None where there is none."""
    return None if last is None else urlsafe_b64encode(last.bytes).rstrip(b"=").decode()

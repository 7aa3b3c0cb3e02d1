"""Keyset pagination: limits and cursors."""

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidRequest
from handlers.paging import DEFAULT_LIMIT, MOST, cursor_of, limit_of, next_cursor
from handlers.request import Request, request_of


def asking(**parameters: str) -> Request:
    return request_of({"httpMethod": "GET", "path": "/v1/x", "queryStringParameters": parameters})


@given(st.lists(st.uuids(), min_size=2, max_size=5))
def test_the_cursor_of_a_page_is_its_last_item(ids: list[UUID]) -> None:
    cursor = next_cursor(ids, limit=len(ids) - 1)
    assert cursor is not None
    assert cursor_of(asking(cursor=cursor)) == ids[-2]


def test_the_last_page_has_no_cursor() -> None:
    assert next_cursor([UUID(int=1)], limit=1) is None
    assert next_cursor([], limit=1) is None
    assert cursor_of(asking()) is None


@given(st.text())
def test_no_cursor_fails_in_any_other_way(text: str) -> None:
    with suppress(InvalidRequest):
        assert isinstance(cursor_of(asking(cursor=text)), UUID)


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("007", 7), (str(MOST), MOST)])
def test_a_limit_is_a_whole_number_up_to_the_most(text: str, limit: int) -> None:
    assert limit_of(asking(limit=text)) == limit


@pytest.mark.parametrize(
    "text", ["", "0", "201", "0200", "-1", "1.5", "ten", " 1", "1\n", "\u0663", "\u00b2", "1" * 9999]
)
def test_any_other_limit_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="from 1 to 200"):
        limit_of(asking(limit=text))


def test_without_a_limit_there_is_a_default() -> None:
    assert limit_of(asking()) == DEFAULT_LIMIT

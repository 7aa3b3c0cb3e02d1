"""Accept: which form of a document is sent."""

import pytest

from handlers.negotiation import preferred

OFFERED = ("application/json", "text/plain", "text/html")
JSON, TEXT, HTML = OFFERED
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ([], JSON),
        (["*/*"], JSON),
        ([BROWSER], HTML),
        (["text/plain"], TEXT),
        (["TEXT/Plain; charset=utf-8"], TEXT),
        (["text/*"], TEXT),
        (["text/html;q=0.5, text/plain;q=0.9, application/json;q=0.1"], TEXT),
        (["text/*;q=0.9, text/html;q=0.1, application/json;q=0.5"], TEXT),
        (["*/*, application/json;q=0"], TEXT),
        (["text/html;q=0.3", "text/plain;q=0.4"], TEXT),
        (["application/json;q=0.2, text/html ; q=0.8"], HTML),
        (["text/html;Q=1"], HTML),
        (["image/png"], JSON),
        (["text/html;q=0, text/plain;q=0"], JSON),
        (["", ",", ";", "text", "text/html;q=x", "text/html;q=2", "text/html;q=0.1234", "a/b/c"], JSON),
        (["text/html;q=nan, text/plain;q=0.1"], TEXT),
    ],
)
def test_the_preferred_form_is_sent(accept: list[str], sent: str) -> None:
    assert preferred(accept, OFFERED) == sent

"""Where a request goes below its base URL."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.targets import base_url_fault, encoded_path, partner_url, path_fault, query_fault


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "/a/b/", "//", "/a%2Fb", "/%E2%82%AC", "/~a.b-c_d!$&'()*+,;=:@", "/..."]
)
def test_a_path_of_rfc_3986_is_fine(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    "path", ["a", "/a b", "/a?b", "/a#b", "/%", "/%zz", "/%0", "/\u00e9", "/a\n", "/a|b", "/[a]", "\\"]
)
def test_any_other_path_is_refused(path: str) -> None:
    assert "percent-encoded" in (path_fault(path) or "")


@pytest.mark.parametrize("path", ["/..", "/../a", "/a/..", "/.", "/a/./b", "/%2e%2e", "/.%2E/a", "/a/%2e"])
def test_a_path_that_climbs_is_refused(path: str) -> None:
    assert "segments" in (path_fault(path) or "")


@given(st.text())
def test_an_encoded_path_is_sent_or_refused_for_its_dots_alone(text: str) -> None:
    path = encoded_path("/" + text.encode("utf-8", "replace").decode())
    fault = path_fault(path)
    assert fault is None or "segments" in fault
    assert encoded_path(path) == path


@given(st.text(st.characters(exclude_characters="%", exclude_categories=["Cs"])))
def test_encoding_loses_nothing(text: str) -> None:
    assert unquote(encoded_path("/" + text)) == "/" + text


@pytest.mark.parametrize("query", ["", "a=1&b=2", "a", "a=%20", "a=/?b", "a+b", "=&="])
def test_a_raw_query_is_fine(query: str) -> None:
    assert query_fault(query) is None


@pytest.mark.parametrize("query", ["a=1#b", "a b", "a=%", "a=\u00e9", "a=1\n", "[a]=1", "a\x00"])
def test_any_other_query_is_refused(query: str) -> None:
    assert "raw query string" in (query_fault(query) or "")


@pytest.mark.parametrize(
    ("base_url", "path", "query", "url"),
    [
        ("https://a.example", "", "", "https://a.example"),
        ("https://a.example/", "", "", "https://a.example/"),
        ("https://a.example/", "/x", "", "https://a.example/x"),
        ("https://a.example/v1", "/x", "a=1", "https://a.example/v1/x?a=1"),
        ("https://a.example/v1/", "/x/", "", "https://a.example/v1/x/"),
        ("https://a.example/v1/", "", "a=1", "https://a.example/v1/?a=1"),
        ("https://a.example/v1", "/a%2Fb", "", "https://a.example/v1/a%2Fb"),
    ],
)
def test_path_and_query_go_below_the_base_url(base_url: str, path: str, query: str, url: str) -> None:
    assert partner_url(base_url, path=path, query=query) == url


@pytest.mark.parametrize("url", ["https://a.example", "https://a.example/v1/", "https://a.example/v1...x/..."])
def test_a_base_url_may_have_a_path(url: str) -> None:
    assert base_url_fault(url) is None


@pytest.mark.parametrize("url", ["https://a.example?", "https://a.example/v1?a=1", "https://a.example/v1/%2e%2e/x"])
def test_a_base_url_below_which_nothing_fits_is_refused(url: str) -> None:
    assert base_url_fault(url)

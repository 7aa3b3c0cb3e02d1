"""Where a request goes below its base URL."""

import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.targets import base_url_fault, encoded_path, partner_url, path_fault, query_fault


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "/a/b/",
        "//",
        "/a%2Fb",
        "/%E2%82%AC",
        "/~a.b-c_d!$&'()*+,;=:@",
        "/...",
        "/v1/items;v=2",
        "/file..txt",
        "/a%5cb",
        "/a;x=..",
        "/%25",
        "/100%25",
        "/.well-known/x",
        "/;a/b",
        "/%C3%A9",
        "/a%20b",
        "/%e9",
    ],
)
def test_a_path_of_rfc_3986_is_fine(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    "path", ["a", "/a b", "/a?b", "/a#b", "/%", "/%zz", "/%0", "/\u00e9", "/a\n", "/a|b", "/[a]", "\\"]
)
def test_any_other_path_is_refused(path: str) -> None:
    assert "percent-encoded" in (path_fault(path) or "")


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../a",
        "/a/..",
        "/.",
        "/a/./b",
        "/%2e%2e",
        "/.%2E/a",
        "/a/%2e",
        "/..%2fx",
        "/..%2Fx",
        "/..;/x",
        "/..;a=b/x",
        "/%2e%2e;x/",
        "/%5c..%5c",
        "/..%5cx",
        "/%252e%252e/",
        "/%25252e%25252e",
        "/..%00/",
        "/..%00x",
        "/.%00./",
        "/..%20/",
        "/..%09",
        "/%c0%ae%c0%ae/",
        "/%c0%2e.%c0%af",
        "/..%c1%9cx",
        "/a%2f..%2f..%2fb",
        "/%e0%80%ae./x",
        "/%f0%80%80%ae./x",
        "/%ef%bc%8e%ef%bc%8e/",
        "/..%ef%bc%8fx",
        "/..%e2%88%95x",
        "/%e2%80%a5/x",
        "/%25u002e%25u002e/",
        "/%25uff0e./x",
        "/..%3fx",
        "/..%253bx",
        "/%25%32%65./",
        "/..%25%35%63x",
        "/..%e2%88%96",
        "/%ef%bc%852e./",
        "/..%23",
    ],
)
def test_a_path_that_climbs_is_refused(path: str) -> None:
    assert "segments" in (path_fault(path) or "")


def test_a_path_that_is_encoded_without_end_is_refused_and_not_decoded_without_end() -> None:
    path = "."
    for _ in range(12):
        path = "".join(f"%{ord(character):02x}" for character in path)[:4000]
    assert path_fault("/" + path)
    assert path_fault("/%" + "25" * 2000 + "2e") == path_fault("/.")


SERVERS = st.lists(st.sampled_from(["decode", "backslash", "parameters", "nul", "wide"]), max_size=6)


@settings(derandomize=True, max_examples=500)
@given(
    st.lists(
        st.sampled_from(
            [
                *"./;a%\\",
                "..",
                "%2e",
                "%2f",
                "%5c",
                "%25",
                "2e",
                "%252e",
                "%3b",
                "%00",
                "%c0%ae",
                "%EF%BC%8E",
                "%32",
                "%65",
            ]
        ),
        max_size=10,
    ),
    SERVERS,
)
def test_no_server_is_led_out_of_the_base_path_by_a_path_that_passes(pieces: list[str], steps: list[str]) -> None:
    path = "/" + "".join(pieces)
    if path_fault(path) is None:
        reading = path
        for step in steps:
            reading = READS[step](reading)
        depth = 0
        for segment in reading.split("/"):
            depth -= segment == ".."
            assert depth == 0
            assert segment != "."


READS: dict[str, Callable[[str], str]] = {
    "decode": lambda path: unquote(path, errors="surrogateescape"),
    "backslash": lambda path: path.replace("\\", "/"),
    "parameters": lambda path: re.sub(r";[^/]*", "", path),
    "nul": lambda path: re.sub(r"\0[^/]*", "", path),
    "wide": lambda path: path.replace("\uff0e", "."),
}


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


@pytest.mark.parametrize("query", ["?a=1", "?", "a=1#b", "a b", "a=%", "a=\u00e9", "a=1\n", "[a]=1", "a\x00"])
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


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example?",
        "https://a.example/v1?a=1",
        "https://a.example/v1/%2e%2e/x",
        "https://a.example/v1/..%2fx",
        "https://a.example/..;/x",
        "https://a.example/%252e",
    ],
)
def test_a_base_url_below_which_nothing_fits_is_refused(url: str) -> None:
    assert base_url_fault(url)

"""Which headers travel, and which stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.headers import FRAMING, HOP_BY_HOP, OURS, forwardable, header_fault, merged, returnable
from domain.outcomes import Headers

NAMES = st.sampled_from(["X-A", "x-a", "X-B", "Accept", "Connection", "Host", "Via", "Sallyport-X"])
HEADERS = st.lists(st.tuples(NAMES, st.text("abc, ", max_size=5)), max_size=8)


@pytest.mark.parametrize("name", ["X-A", "accept", "!#$%&'*+-.^_`|~09aZ", "Content-Type", "Cookie", "Origin"])
def test_an_ordinary_header_may_be_asked_for(name: str) -> None:
    assert header_fault(name, "plain \t text \xff") is None


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-\u00e9", "X\n", "X\r\nY", "X\x00", "(X)", "X/A", "\ud800"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    assert "token" in (header_fault(name, "") or "")


@given(st.characters(), st.text("ab"))
def test_a_value_is_one_line_of_latin_1_without_control_characters(character: str, around: str) -> None:
    fine = character == "\t" or " " <= character <= "~" or "\x80" <= character <= "\xff"
    assert (header_fault("X-A", around + character + around) is None) == fine


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "transfer-encoding",
        "UPGRADE",
        "Host",
        "Content-Length",
        "Expect",
        "Authorization",
        "Prefer",
        "Idempotency-Key",
        "Via",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-For",
        "X-Amzn-Trace-Id",
        "X-Amz-Cf-Id",
        "CloudFront-Viewer-Country",
        "Sallyport-Delivery-Id",
    ],
)
def test_what_is_the_connections_or_ours_is_refused_and_not_forwarded(name: str) -> None:
    assert header_fault(name, "x")
    assert header_fault(name.lower(), "x")
    assert forwardable([(name, "x"), ("X-A", "1")]) == (("X-A", "1"),)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("Authorization", "the destination's 'auth'"),
        ("Idempotency-Key", "the destination's 'idempotency_header'"),
        ("Proxy-Authorization", "belongs to the connection"),
        ("Host", "is set by Sallyport"),
        ("Prefer", "'prefer' is reserved"),
        ("Sallyport-Delivery-Id", "names that begin with 'sallyport-'"),
    ],
)
def test_a_refusal_says_why_and_where_the_header_belongs(name: str, instead: str) -> None:
    assert instead in (header_fault(name, "x") or "")


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | FRAMING | OURS))
def test_a_refusal_names_the_header(name: str) -> None:
    assert f"'{name}'" in (header_fault(name.title(), "x") or "")


@given(HEADERS)
def test_forwarding_keeps_the_order_and_never_invents(headers: list[tuple[str, str]]) -> None:
    kept = list(forwardable(headers))
    assert kept == [pair for pair in headers if pair in kept]
    assert forwardable(kept) == tuple(kept)


def test_what_connection_names_stays_on_its_hop() -> None:
    headers: Headers = (("Connection", "close, X-Hop"), ("X-Hop", "1"), ("connection", "X-Other"), ("x-other", "2"))
    assert forwardable((*headers, ("X-A", "3"))) == (("X-A", "3"),)
    assert returnable((*headers, ("X-A", "3"))) == (("X-A", "3"),)


def test_the_partners_length_is_left_to_whoever_answers() -> None:
    headers: Headers = (("Content-Length", "5"), ("Content-Type", "a/b"), ("Set-Cookie", "a"), ("Set-Cookie", "b"))
    assert returnable(headers) == (("Content-Type", "a/b"), ("Set-Cookie", "a"), ("Set-Cookie", "b"))


def test_where_a_later_part_has_the_same_header_the_earlier_one_is_left_out() -> None:
    assert merged([("X-A", "1"), ("X-B", "2"), ("x-a", "3")], (), [("x-A", "4")]) == (("X-B", "2"), ("x-A", "4"))
    assert merged() == ()


@given(HEADERS, HEADERS)
def test_the_last_part_is_always_there_whole(first: list[tuple[str, str]], last: list[tuple[str, str]]) -> None:
    found = merged(first, last)
    assert list(found[len(found) - len(last) :]) == last
    names = {name.lower() for name, _ in last}
    assert [name for name, _ in found[: len(found) - len(last)] if name.lower() in names] == []

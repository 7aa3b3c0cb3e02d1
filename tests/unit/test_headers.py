"""Header fields: what may be sent, and how what was received is made safe to keep."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.headers import CLIENT_FIELDS, fault_in, field_line, is_token, received, received_in_any_form, storable


@pytest.mark.parametrize("name", ["X-Api-Key", "x", "!#$%&'*+.^_`|~09azAZ-"])
def test_tokens_are_names(name: str) -> None:
    assert is_token(name)
    assert fault_in(((name, "v"),)) is None


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "a\n", "(a)", "a/b"])
def test_what_is_no_token_is_no_name(name: str) -> None:
    assert not is_token(name)
    assert fault_in(((name, "v"),)) is not None


@pytest.mark.parametrize("name", sorted(CLIENT_FIELDS))
def test_fields_of_the_client_are_not_the_sender_s(name: str) -> None:
    assert fault_in((("X-Fine", "1"), (name.title(), "v"))) == f"the header {name.title()} is set by the client"


@pytest.mark.parametrize("value", ["a\r", "a\n", "a\r\nb: c", "\0", "\x1b", "\x7f", "€"])
def test_values_that_end_a_line_or_are_not_latin_1_are_at_fault(value: str) -> None:
    fault = fault_in((("X-Name", value),))
    assert fault == "the value of the header X-Name contains characters that RFC 9110 does not allow"


@given(st.text(alphabet=st.characters(codec="latin-1")))
def test_a_value_without_fault_fits_on_one_line(value: str) -> None:
    if fault_in((("X-Name", value),)) is None:
        line = field_line("X-Name", value)
        assert not set(b"\r\n\0") & set(line)
        assert line in (b"X-Name;", b"X-Name: " + value.strip(" \t").encode("latin-1"))


@given(st.binary())
def test_stored_text_is_latin_1_without_control_characters_and_as_long(raw: bytes) -> None:
    text = storable(raw)
    assert len(text) == len(raw)
    assert all(ord(character) < 256 for character in text)
    assert not {character for character in text if ord(character) < 0x20 and character != "\t"}


def test_fields_keep_their_order_and_duplicates() -> None:
    lines = [b"B: 1\r\n", b"a:2\r\n", b"B:  3 \r\n", b"C:\r\n"]
    assert received(lines) == (("B", "1"), ("a", "2"), ("B", "3"), ("C", ""))


LINE = st.builds(
    lambda name, colon, value, end: name + colon + value + end,
    st.one_of(st.sampled_from([b"Name", b"", b" folded", b"Bad Name", b"\xa0"]), st.binary(max_size=3)),
    st.sampled_from([b":", b": ", b" :", b"::", b""]),
    st.one_of(st.sampled_from([b"value", b" \t", b"\xa0a\x85", b"a\rb", b"\x00"]), st.binary(max_size=5)),
    st.sampled_from([b"\r\n", b"\n", b""]),
).filter(lambda line: b"\n" not in line[:-1])  # libcurl splits there


@given(st.lists(LINE, max_size=4))
def test_plain_fields_are_read_as_those_of_any_form_are(lines: list[bytes]) -> None:
    assert received(lines) == received_in_any_form(lines)


def test_lines_that_are_no_field_are_left_out() -> None:
    assert received([b"Bad Name: 1\r\n", b": 2\r\n", b"\0: 3\r\n", b"Fine: 4\r\n"]) == (("Fine", "4"),)


def test_folded_lines_are_joined() -> None:
    assert received([b"X: one\r\n", b"  two\r\n", b"\tthree\r\n"]) == (("X", "one two three"),)
    assert received([b" lost\r\n", b"X: one\r\n"]) == (("X", "one"),)


def test_an_empty_continuation_adds_nothing() -> None:
    assert received([b"X: one\r\n", b" \r\n", b"\t \r\n", b" two\r\n"]) == (("X", "one two"),)


def test_a_continuation_does_not_begin_a_field() -> None:
    assert received([b"\r\n", b" Not-A-Field: 1\r\n"]) == ()


class Weighed(bytes):
    """Counts the bytes that are copied of it, and of what is made of it."""

    copied = 0

    def strip(self, *chars: Any) -> "Weighed":
        return self._made(super().strip(*chars))

    def rstrip(self, *chars: Any) -> "Weighed":
        return self._made(super().rstrip(*chars))

    def __add__(self, other: Any) -> "Weighed":
        return self._made(super().__add__(other))

    def _made(self, content: bytes) -> "Weighed":
        Weighed.copied += len(content)
        return Weighed(content)


def test_a_field_that_is_folded_often_is_copied_a_few_times_and_not_once_a_line() -> None:
    lines = [Weighed(b"X: one\r\n"), *[Weighed(b" 0123456789\r\n")] * 2_000]
    Weighed.copied = 0
    ((name, value),) = received(lines)
    assert (name, len(value)) == ("X", 3 + 11 * 2_000)
    assert Weighed.copied <= 4 * sum(len(line) for line in lines)


def test_an_escaped_nul_cannot_reach_the_database() -> None:
    assert received([b"X: a\0b\r\n"]) == (("X", "a b"),)

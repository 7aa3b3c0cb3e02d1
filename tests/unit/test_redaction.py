"""What of a response is not stored: values in JSON, and headers."""

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bodies import NOT_READ, NOTE, stored_response
from domain.outcomes import Answered
from domain.questions import value_at
from domain.redaction import READ_BYTES, Redaction, redacted_body, redacted_headers

type Json = Any

NAMES = st.sampled_from(["a", "b", "0", "1", "a/b", "~", 'q"{', "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
POINTERS = st.lists(
    st.lists(NAMES | st.just("2"), min_size=1, max_size=3).map(
        lambda names: "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    ),
    min_size=1,
    max_size=4,
)


def without(content: Json, pointers: list[str]) -> Json:
    """The same, done on what JSON means."""
    for pointer in sorted(pointers, key=len, reverse=True):
        parent, _, name = pointer.rpartition("/")
        try:
            holder: Any = value_at(content, parent) if parent else content
            value_at(content, pointer)
        except LookupError:
            continue
        last = name.replace("~1", "/").replace("~0", "~")
        holder[int(last) if isinstance(holder, list) else last] = None
    return content


@given(VALUES, POINTERS, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_what_pointers_lead_to_is_null_and_all_else_is_as_it_was(
    content: Json, pointers: list[str], indent: Any, as_ascii: bool
) -> None:
    body = json.dumps(content, indent=indent, ensure_ascii=as_ascii).encode()
    redacted = redacted_body(body, Redaction(pointers=tuple(pointers)))
    assert redacted is not None
    assert json.loads(redacted) == without(json.loads(body), pointers)
    assert redacted_body(redacted, Redaction(pointers=tuple(pointers))) == redacted


@pytest.mark.parametrize(
    ("body", "redacted"),
    [
        (b'{"card": 4111, "amount": 1.10, "n": 12345678901234567890123}',
         b'{"card": null, "amount": 1.10, "n": 12345678901234567890123}'),
        (b'{"card": 1, "card": {"deep": ["x"]}}', b'{"card": null, "card": null}'),  # whichever its reader takes
        (b'{"c\\u0061rd": 1}', b'{"c\\u0061rd": null}'),
        (b'\xef\xbb\xbf{"card":1}', b'{"card":null}'),
        (b"[1, 2]", b"[1, 2]"),
        (b"", b""),
        (b'{"card": 1' + b"0" * 5000 + b"}", b'{"card": null}'),
    ],
)  # fmt: skip
def test_texts_and_numbers_stay_as_they_were_written(body: bytes, redacted: bytes) -> None:
    assert redacted_body(body, Redaction(pointers=("/card",))) == redacted


@pytest.mark.parametrize(
    "body",
    [b"card=4111", b'{"card": 4111', b"<card/>", b"[" * 100_000, '{"card": 1}'.encode("utf-16"), b'{"a": "\xff"}',
     b'{"a": "' + b"x" * READ_BYTES + b'"}'],
)  # fmt: skip
def test_what_cannot_be_searched_is_not_stored(body: bytes) -> None:
    assert redacted_body(body, Redaction(pointers=("/card",))) is None
    assert redacted_body(body, Redaction(headers=("X",))) == body
    kept = stored_response(Answered(status=200, body=body), redaction=Redaction(pointers=("/card",)))
    assert (kept.body, kept.length_bytes, kept.truncated) == (b"", len(body), True)
    assert (NOTE, NOT_READ) in kept.headers


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_response_is_redacted_before_it_is_cut_and_masked(encoding: str) -> None:
    body = json.dumps({"x": "x" * 100_000, "card": 4111, "token": "secret-token"}).encode()
    answer = Answered(
        status=200,
        headers=(("X-Card", "4111"), ("x-CARD", "4112"), ("Content-Encoding", encoding)),
        body=gzip.compress(body) if encoding else body,
        secrets=("secret-token",),
    )
    redaction = Redaction(headers=("x-card",), pointers=("/x", "/card"))
    kept = stored_response(answer, redaction=redaction)
    assert json.loads(kept.body) == {"x": None, "card": None, "token": "*" * 12}
    assert kept.headers[:2] == (("X-Card", "redacted"), ("x-CARD", "redacted"))
    assert (kept.length_bytes, kept.truncated) == (len(body), True)
    notes = [value for name, value in kept.headers if name == NOTE]
    assert notes == ["credentials were masked", "values were redacted"]


def test_where_nothing_is_to_be_redacted_a_response_is_whole() -> None:
    answer = Answered(status=200, headers=(("X-A", "a"),), body=b'{"a": 1}')
    redaction = Redaction(headers=("X-Card",), pointers=("/card",))
    assert stored_response(answer, redaction=redaction) == stored_response(answer)
    assert stored_response(Answered(status=204), redaction=redaction) == stored_response(Answered(status=204))
    assert redacted_headers((("A", "b"),), redaction) == (("A", "b"),)


def test_a_body_that_was_not_read_to_its_end_is_not_stored() -> None:
    answer = Answered(status=200, body=b'{"a": 1}', complete=False)
    assert stored_response(answer, redaction=Redaction(pointers=("/card",))).body == b""


WORST: dict[str, Callable[[int], bytes]] = {
    "empty lists": lambda size: b"[" + b"[]," * (size // 3 - 1) + b"0]",
    "numbers": lambda size: b"[" + b"0," * (size // 2 - 1) + b"0]",
    "deep": lambda size: b"[" * 900 + b"1" + b"]" * 900 + b" " * (size - 1801),
    "names": lambda size: b"{" + b",".join(b'"%d":0' % number for number in range(size // 12)) + b"}",
    "escapes": lambda size: b'["' + b"\\u0041" * (size // 6 - 1) + b'"]',
}


@pytest.mark.parametrize("kind", WORST)
def test_the_work_of_redaction_grows_with_the_bytes_and_not_with_their_square(kind: str) -> None:
    redaction = Redaction(pointers=tuple(f"/{number}{'/0' * (number % 5)}" for number in range(50)))
    works = []
    for size in (READ_BYTES // 32, READ_BYTES // 4):  # the rest only takes longer
        body = WORST[kind](size)
        with calls_of_python() as calls:
            assert redacted_body(body, redaction) is not None
        works.append(calls[0])
    small, large = works
    assert large <= 9 * small + 1000
    assert large <= 4 * (READ_BYTES // 4)


@contextmanager
def calls_of_python() -> Iterator[list[int]]:
    """How many functions are called meanwhile, of Python and of C."""
    calls = [0]

    def count(_frame: object, event: str, _argument: object) -> None:
        calls[0] += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)

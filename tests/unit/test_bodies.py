"""Cutting a response down to what is stored."""

import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.bodies import (
    _STEP_BYTES,
    FEED_BYTES,
    INFLATED_LIMIT_BYTES,
    LONGEST_HEADER_CHARACTERS,
    MOST_MEMBERS,
    NOTE,
    STORED_HEADER_BYTES,
    STORED_HEADERS,
    STORED_RESPONSE_BYTES,
    stored_response,
    whole_body,
)
from domain.deliveries import StoredResponse
from domain.outcomes import Answered, Headers


def packed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip" | "x-gzip" | "GZIP":
            return gzip.compress(body)
        case _:
            return zlib.compress(body)


@given(st.binary(max_size=200), st.integers(0, 100), st.booleans())
def test_what_is_stored_is_the_beginning_and_is_marked_as_such(body: bytes, limit: int, complete: bool) -> None:
    kept = stored_response(Answered(status=200, body=body, complete=complete), limit_bytes=limit)
    assert kept.body == body[:limit]
    assert kept.truncated == (not complete or len(body) > limit)
    assert kept.length_bytes == (len(body) if complete else None)
    assert kept.sha256 == (hashlib.sha256(body).digest() if complete else None)


@given(
    st.binary(max_size=200),
    st.integers(0, 250),
    st.sampled_from(["gzip", "x-gzip", "GZIP", "deflate"]),
)
def test_a_compressed_body_is_stored_decompressed(body: bytes, limit: int, encoding: str) -> None:
    headers: Headers = (("X-A", "1"), ("Content-Encoding", f" {encoding} "), ("X-B", "2"))
    kept = stored_response(Answered(status=201, headers=headers, body=packed(body, encoding)), limit_bytes=limit)
    assert (kept.status, kept.headers) == (201, (("X-A", "1"), ("X-B", "2")))
    assert kept.body == body[:limit]
    assert (kept.length_bytes, kept.sha256) == (len(body), hashlib.sha256(body).digest())
    assert kept.truncated == (len(body) > limit)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_no_bytes_can_make_it_fail(body: bytes, encoding: str) -> None:
    kept = stored_response(Answered(status=200, headers=(("Content-Encoding", encoding),), body=body), limit_bytes=100)
    assert len(kept.body) <= 100


@given(st.binary(min_size=1, max_size=300), st.integers(1, 20))
def test_a_compressed_body_that_ends_early_is_stored_as_far_as_it_goes(body: bytes, cut: int) -> None:
    piece = gzip.compress(body)[:-cut]
    kept = stored_response(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=piece))
    assert body.startswith(kept.body)
    assert (kept.truncated, kept.length_bytes, kept.sha256) == (True, None, None)


def test_a_packed_body_that_was_cut_at_the_cap_says_so() -> None:
    body = gzip.compress(b"x" * 1000)
    kept = stored_response(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=body, complete=False))
    assert (kept.truncated, kept.length_bytes) == (True, None)


@pytest.mark.parametrize("encoding", ["br", "zstd", "identity", "gzip, br", "compress"])
def test_an_unknown_encoding_is_stored_unchanged_with_its_name(encoding: str) -> None:
    headers: Headers = (("Content-Encoding", encoding),)
    kept = stored_response(Answered(status=200, headers=headers, body=b"\x00raw"))
    assert (kept.body, kept.headers, kept.truncated) == (b"\x00raw", headers, False)


def test_two_encoding_headers_are_two_encodings() -> None:
    headers: Headers = (("Content-Encoding", "gzip"), ("content-encoding", "gzip"))
    twice = gzip.compress(gzip.compress(b"x"))
    assert stored_response(Answered(status=200, headers=headers, body=twice)).body == twice


def test_a_body_without_end_is_followed_so_far_and_no_further() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(40)) + packer.flush()
    assert INFLATED_LIMIT_BYTES < 40 * 1024 * 1024
    kept = stored_response(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=bomb))
    assert kept.body == bytes(STORED_RESPONSE_BYTES)
    assert (kept.truncated, kept.length_bytes, kept.sha256) == (True, None, None)


def test_several_members_are_one_body() -> None:
    body = gzip.compress(b"one ") + gzip.compress(b"two")
    kept = stored_response(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=body))
    assert (kept.body, kept.length_bytes, kept.truncated) == (b"one two", 7, False)


def test_a_compressed_body_with_trailing_data_is_stored_unchanged() -> None:
    body, headers = gzip.compress(b"x") + b"trailing", (("Content-Encoding", "gzip"),)
    kept = stored_response(Answered(status=200, headers=headers, body=body))
    assert (kept.body, kept.headers) == (body, (*headers, (NOTE, "not decoded: the body is not gzip")))
    assert (kept.length_bytes, kept.sha256, kept.truncated) == (len(body), hashlib.sha256(body).digest(), False)


@dataclass
class Work:
    """What zlib was asked to do: inflaters made, calls, bytes handed in, and bytes copied out as not used."""

    inflaters: int = 0
    calls: int = 0
    fed_bytes: int = 0
    copied_bytes: int = 0


@contextmanager
def counted() -> Iterator[Work]:
    """The real zlib with its work counted."""
    work = Work()

    class Counting:
        def __init__(self, *, wbits: int) -> None:
            self._real = REAL_INFLATER(wbits=wbits)
            work.inflaters += 1

        def decompress(self, data: Any, limit: int) -> bytes:
            work.calls += 1
            work.fed_bytes += len(data)
            out = self._real.decompress(data, limit)
            work.copied_bytes += len(self._real.unconsumed_tail) + len(self._real.unused_data)
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    with patch("domain.bodies.zlib.decompressobj", Counting):
        yield work


REAL_INFLATER = zlib.decompressobj


def kept_of(body: bytes, encoding: str = "gzip") -> StoredResponse:
    return stored_response(Answered(status=200, headers=(("Content-Encoding", encoding),), body=body))


@pytest.mark.parametrize(
    ("encoding", "empty"),
    [("gzip", gzip.compress(b"", mtime=0)), ("deflate", zlib.compress(b""))],
    ids=["gzip", "deflate"],
)
def test_thousands_of_empty_members_are_stored_unchanged(encoding: str, empty: bytes) -> None:
    body = empty * (1024 * 1024 // len(empty))
    with counted() as work:
        kept = kept_of(body, encoding)
    assert work.inflaters == MOST_MEMBERS
    assert work.fed_bytes <= MOST_MEMBERS * FEED_BYTES
    assert (kept.body, kept.length_bytes) == (body[:STORED_RESPONSE_BYTES], len(body))
    assert (NOTE, "not decoded: more than 1000 members") in kept.headers
    assert ("Content-Encoding", encoding) in kept.headers


@pytest.mark.parametrize("count", [999, 1000, 1001])
def test_a_thousand_members_are_decoded_and_no_more(count: int) -> None:
    kept = kept_of(gzip.compress(b"x") * count)
    assert (kept.body == b"x" * count) == (count <= 1000)
    assert kept.sha256 is not None


def test_the_work_grows_with_the_bytes_and_not_with_their_square() -> None:
    works = []
    for size in (256 * 1024, 1024 * 1024):
        stored = zlib.compressobj(0, wbits=31)
        body = b"".join(stored.compress(b"y" * 512) + stored.flush(zlib.Z_FULL_FLUSH) for _ in range(size // 512))
        with counted() as work:
            kept_of(body + stored.flush())
        works.append(work.fed_bytes + work.copied_bytes)
        assert work.fed_bytes <= 2 * len(body)
    assert works[1] <= 4.5 * works[0]


def test_what_is_copied_of_a_bomb_is_bounded() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(40)) + packer.flush()
    with counted() as work:
        kept_of(bomb + b"z" * (4 * 1024 * 1024 - len(bomb)))
    assert work.calls <= INFLATED_LIMIT_BYTES // (64 * 1024) + 10
    assert work.copied_bytes <= work.calls * FEED_BYTES


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 3 * 65_536 + 1])
def test_output_that_zlib_holds_back_is_not_lost(size: int) -> None:
    kept = kept_of(gzip.compress(bytes(size)))
    assert (kept.length_bytes, kept.sha256) == (size, hashlib.sha256(bytes(size)).digest())


MEMBERS = st.sampled_from(
    [gzip.compress(b""), gzip.compress(b"abc" * 100), zlib.compress(b"x"), b"\x1f\x8b", b"", b"junk"]
)


@settings(derandomize=True)
@given(
    st.lists(MEMBERS, max_size=20),
    st.integers(0, 200),
    st.sampled_from(["gzip", "deflate", "x-gzip", "gzip, gzip", "br", "zstd", "identity", "gzip;q=1", "\x00"]),
    st.booleans(),
)
def test_nothing_put_together_or_cut_off_makes_it_fail(
    members: list[bytes], cut: int, encoding: str, complete: bool
) -> None:
    body = b"".join(members)
    body = body[: max(0, len(body) - cut)]
    headers: Headers = (("Content-Encoding", encoding),)
    kept = stored_response(Answered(status=200, headers=headers, body=body, complete=complete))
    assert kept.status == 200
    assert len(kept.body) <= STORED_RESPONSE_BYTES


def stored_bytes(kept: StoredResponse) -> int:
    return sum(len(json.dumps(field)) for field in kept.headers if field[0] != NOTE)


@settings(derandomize=True, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "b" * 300]), st.text(st.characters(max_codepoint=0xFF)), st.integers(1, 5000))
    )
)
def test_stored_headers_are_bounded_and_say_so(fields: list[tuple[str, str, int]]) -> None:
    headers = tuple((name, value * times) for name, value, times in fields)
    kept = stored_response(Answered(status=200, headers=headers))
    assert stored_bytes(kept) <= STORED_HEADER_BYTES
    assert len(kept.headers) <= STORED_HEADERS + 1
    whole = tuple(field for field in kept.headers if field[0] != NOTE) == headers
    assert kept.truncated != whole
    assert (NOTE in dict(kept.headers)) != whole


def test_the_bounds_of_headers_are_exact() -> None:
    assert (STORED_HEADERS, STORED_HEADER_BYTES, LONGEST_HEADER_CHARACTERS) == (100, 16 * 1024, 4096)
    assert len(stored_response(Answered(status=200, headers=(("A", ""),) * 100)).headers) == 100
    over = stored_response(Answered(status=200, headers=(("A", ""),) * 101))
    assert over.headers[100] == (NOTE, "headers were cut: 100 of 101 are here, 0 of them shortened")
    assert (over.truncated, over.length_bytes) == (True, 0)
    assert not stored_response(Answered(status=200, headers=(("A", "v" * 4096),))).truncated
    long = stored_response(Answered(status=200, headers=(("A", "v" * 4097), ("B", "w"))))
    assert long.headers[:2] == (("A", "v" * 4096), ("B", "w"))
    assert long.headers[2] == (NOTE, "headers were cut: 2 of 2 are here, 1 of them shortened")
    fits = 4096 - len(json.dumps(("A", "")))
    assert not stored_response(Answered(status=200, headers=(("A", "v" * fits),) * 4)).truncated
    assert stored_response(Answered(status=200, headers=(("A", "v" * fits),) * 4 + (("B", ""),))).truncated
    wide = stored_response(Answered(status=200, headers=(("A", "\xe9" * 4096), ("B", "w"))))
    assert wide.headers[0] == ("B", "w")


def test_a_partner_cannot_write_our_notes() -> None:
    kept = stored_response(
        Answered(status=200, headers=((NOTE, "all is well"), ("SALLYPORT-Outcome", "x"), ("A", "1")))
    )
    assert kept.headers == (("A", "1"),)


@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("x-gzip", 31), ("deflate", 15)])
def test_what_refers_back_by_the_whole_window_is_decoded(coding: str, bits: int) -> None:
    """The second half is nothing but a reference to the first one, 32,000 bytes before."""
    half = random.Random(5).randbytes(32_000)
    packer = zlib.compressobj(9, wbits=bits)
    packed = packer.compress(half + half) + packer.flush()
    assert len(packed) < 34_000
    stored = stored_response(Answered(status=200, headers=(("Content-Encoding", coding),), body=packed))
    assert stored.body == half + half


def test_a_whole_body_is_decoded_no_further_than_it_is_wanted() -> None:
    """A partner's answer to a question is read up to a limit: what is longer says nothing, however long it is."""
    bomb = gzip.compress(bytes(INFLATED_LIMIT_BYTES))
    answer = Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=bomb)
    with counted() as work:
        assert whole_body(answer, limit_bytes=1024 * 1024) is None
    assert work.calls <= 2 * 1024 * 1024 // _STEP_BYTES


def test_of_very_many_headers_no_more_are_measured_than_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[object] = []
    dumps = json.dumps

    def noted(field: object) -> str:
        measured.append(field)
        return dumps(field)

    monkeypatch.setattr("domain.bodies.json.dumps", noted)
    fields = tuple((f"X-{number}", "y") for number in range(40_000))
    kept = stored_response(Answered(status=200, headers=fields, body=b""))
    assert len(kept.headers) == STORED_HEADERS + 1  # and the note
    assert len(measured) == STORED_HEADERS
    measured.clear()
    long = tuple((f"X-{number}", "y" * 4000) for number in range(10_000))
    stored_response(Answered(status=200, headers=long, body=b""))
    assert len(measured) <= STORED_HEADERS

"""Cutting a response down to what is stored."""

import gzip
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bodies import INFLATED_LIMIT_BYTES, STORED_RESPONSE_BYTES, keep
from domain.outcomes import Answered, Headers


def packed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip" | "x-gzip" | "GZIP":
            return gzip.compress(body)
        case _:
            return zlib.compress(body)


@given(st.binary(max_size=200), st.integers(0, 100), st.booleans())
def test_what_is_kept_is_a_beginning_and_says_so(body: bytes, limit: int, complete: bool) -> None:
    kept = keep(Answered(status=200, body=body, complete=complete), limit_bytes=limit)
    assert kept.body == body[:limit]
    assert kept.truncated == (not complete or len(body) > limit)
    assert kept.length_bytes == (len(body) if complete else None)
    assert kept.sha256 == (hashlib.sha256(body).digest() if complete else None)


@given(
    st.binary(max_size=200),
    st.integers(0, 250),
    st.sampled_from(["gzip", "x-gzip", "GZIP", "deflate"]),
)
def test_a_packed_body_is_kept_unpacked(body: bytes, limit: int, encoding: str) -> None:
    headers: Headers = (("X-A", "1"), ("Content-Encoding", f" {encoding} "), ("X-B", "2"))
    kept = keep(Answered(status=201, headers=headers, body=packed(body, encoding)), limit_bytes=limit)
    assert (kept.status, kept.headers) == (201, (("X-A", "1"), ("X-B", "2")))
    assert kept.body == body[:limit]
    assert (kept.length_bytes, kept.sha256) == (len(body), hashlib.sha256(body).digest())
    assert kept.truncated == (len(body) > limit)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_no_bytes_can_make_it_fail(body: bytes, encoding: str) -> None:
    kept = keep(Answered(status=200, headers=(("Content-Encoding", encoding),), body=body), limit_bytes=100)
    assert len(kept.body) <= 100


@given(st.binary(min_size=1, max_size=300), st.integers(1, 20))
def test_a_packed_body_that_ends_early_is_kept_as_far_as_it_goes(body: bytes, cut: int) -> None:
    piece = gzip.compress(body)[:-cut]
    kept = keep(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=piece))
    assert body.startswith(kept.body)
    assert (kept.truncated, kept.length_bytes, kept.sha256) == (True, None, None)


def test_a_packed_body_that_was_cut_at_the_cap_says_so() -> None:
    body = gzip.compress(b"x" * 1000)
    kept = keep(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=body, complete=False))
    assert (kept.truncated, kept.length_bytes) == (True, None)


@pytest.mark.parametrize("encoding", ["br", "zstd", "identity", "gzip, br", "compress"])
def test_another_encoding_is_kept_as_it_came_with_its_name(encoding: str) -> None:
    headers: Headers = (("Content-Encoding", encoding),)
    kept = keep(Answered(status=200, headers=headers, body=b"\x00raw"))
    assert (kept.body, kept.headers, kept.truncated) == (b"\x00raw", headers, False)


def test_two_encoding_headers_are_two_encodings() -> None:
    headers: Headers = (("Content-Encoding", "gzip"), ("content-encoding", "gzip"))
    twice = gzip.compress(gzip.compress(b"x"))
    assert keep(Answered(status=200, headers=headers, body=twice)).body == twice


def test_a_body_without_end_is_followed_so_far_and_no_further() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(40)) + packer.flush()
    assert INFLATED_LIMIT_BYTES < 40 * 1024 * 1024
    kept = keep(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=bomb))
    assert kept.body == bytes(STORED_RESPONSE_BYTES)
    assert (kept.truncated, kept.length_bytes, kept.sha256) == (True, None, None)


def test_several_members_are_one_body() -> None:
    body = gzip.compress(b"one ") + gzip.compress(b"two")
    kept = keep(Answered(status=200, headers=(("Content-Encoding", "gzip"),), body=body))
    assert (kept.body, kept.length_bytes, kept.truncated) == (b"one two", 7, False)


def test_a_packed_body_with_something_else_behind_it_is_kept_as_it_came() -> None:
    body, headers = gzip.compress(b"x") + b"trailing", (("Content-Encoding", "gzip"),)
    kept = keep(Answered(status=200, headers=headers, body=body))
    assert (kept.body, kept.headers) == (body, headers)

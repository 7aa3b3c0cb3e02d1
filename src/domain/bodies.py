"""Cutting a partner's response down to what is stored, without ever inflating more than a bounded amount of it."""

import hashlib
import zlib
from collections.abc import Iterator

from domain.deliveries import KeptResponse
from domain.outcomes import Answered

STORED_RESPONSE_BYTES = 64 * 1024
INFLATED_LIMIT_BYTES = 32 * 1024 * 1024  # a compressed body is followed this far, then called endless
_STEP_BYTES = 64 * 1024
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def keep(answer: Answered, *, limit_bytes: int = STORED_RESPONSE_BYTES) -> KeptResponse:
    """The first `limit_bytes` of `answer`: decoded where its Content-Encoding is gzip or deflate (RFC 9110 section
    8.4.1).

    Another encoding, or a body that does not inflate, is stored as it came, its Content-Encoding header beside it.
    Where the body was decoded that header is left out, so that what is stored reads as what it is.
    """
    encoding = _content_encoding(answer)
    if encoding in _WINDOW_BITS and answer.body:
        inflated = _inflated(answer, _WINDOW_BITS[encoding], limit_bytes)
        if inflated is not None:
            return inflated
    whole = answer.complete
    return KeptResponse(
        status=answer.status,
        headers=answer.headers,
        body=answer.body[:limit_bytes],
        length_bytes=len(answer.body) if whole else None,
        sha256=hashlib.sha256(answer.body).digest() if whole else None,
        truncated=not whole or len(answer.body) > limit_bytes,
    )


def _content_encoding(answer: Answered) -> str:
    values = [value.strip().lower() for name, value in answer.headers if name.lower() == "content-encoding"]
    return ",".join(values)


def _inflated(answer: Answered, window_bits: int, limit_bytes: int) -> KeptResponse | None:
    kept, length, digest = bytearray(), 0, hashlib.sha256()
    whole = answer.complete
    try:
        for piece in _pieces(answer.body, window_bits):
            length += len(piece)
            digest.update(piece)
            kept += piece[: limit_bytes - len(kept)]
            if length > INFLATED_LIMIT_BYTES:
                whole = False
                break
    except EOFError:
        whole = False
    except zlib.error:
        return None
    return KeptResponse(
        status=answer.status,
        headers=tuple((name, value) for name, value in answer.headers if name.lower() != "content-encoding"),
        body=bytes(kept),
        length_bytes=length if whole else None,
        sha256=digest.digest() if whole else None,
        truncated=not whole or length > len(kept),
    )


def _pieces(data: bytes, window_bits: int) -> Iterator[bytes]:
    """What `data` inflates to, a bounded piece at a time; gzip data may have several members (RFC 1952 section 2.2).

    Raises EOFError where `data` ends too early, zlib.error where it is something else.
    """
    while data:
        inflater = zlib.decompressobj(wbits=window_bits)
        while data and not inflater.eof:
            yield inflater.decompress(data, _STEP_BYTES)
            data = inflater.unconsumed_tail
        if not inflater.eof:
            raise EOFError
        data = inflater.unused_data

"""Cuts a partner's response down to what is stored, with a bounded amount of work whatever it contains."""

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace

from domain.deliveries import StoredResponse
from domain.masks import longest_form, masked, masked_text
from domain.outcomes import Answered, Headers
from domain.redaction import READ_BYTES, Redaction, redacted_body, redacted_headers
from domain.values import value_class

STORED_RESPONSE_BYTES = 64 * 1024
INFLATED_LIMIT_BYTES = 32 * 1024 * 1024  # a compressed body is decoded this far and no further
MOST_MEMBERS = 1000  # a compressed body of more members is not decoded: each costs as much work as many bytes
FEED_BYTES = 16 * 1024  # short, since what is left of it may be copied at each step and at each member
STORED_HEADERS = 100
STORED_HEADER_BYTES = 16 * 1024  # of all together as JSON, in which a byte may take six
LONGEST_HEADER_CHARACTERS = 4096
NOTE = "Sallyport-Note"  # describes how a stored response differs from what came; a partner's own is not stored
_OURS = "sallyport-"
NOT_READ = "not stored: it could not be searched for what is to be redacted, as it is not JSON, not whole or too long"
_STEP_BYTES = 64 * 1024
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


@value_class(frozen=True, slots=True, kw_only=True)
class _Content:
    """A body to be stored. `beginning` has a few bytes more than will be stored, for secrets across the cut."""

    beginning: bytes
    length_bytes: int
    sha256: bytes
    whole: bool
    decoded: bool = False
    note: str | None = None


def stored_response(
    answer: Answered, *, limit_bytes: int = STORED_RESPONSE_BYTES, redaction: Redaction | None = None
) -> StoredResponse:
    """The first `limit_bytes` of `answer`: decoded where its Content-Encoding is gzip or deflate (RFC 9110 section
    8.4.1), with the destination's own credentials masked. Length and SHA-256 are those of what the partner sent. With a
    `redaction`, values are left out; a body that cannot be searched for them is not stored.

    Another encoding, or a body that does not inflate or only with too much work, is stored as it came, its
    Content-Encoding header beside it. Where the body was decoded that header is left out, since it is no longer
    true. Headers are bounded too. A header `Sallyport-Note` describes whatever else was left out.
    """
    beginning_bytes = limit_bytes + longest_form(answer.secrets)
    content = _content(answer, beginning_bytes if redaction is None else max(beginning_bytes, READ_BYTES + 1))
    whole, redacted = content, None
    if redaction is not None:
        content = _redacted(content, redaction)
        shown = redacted_headers(answer.headers, redaction)
        redacted = "values were redacted" if content is not whole or shown != answer.headers else None
        answer = replace(answer, headers=shown)
    fields = _masked_headers(answer)
    headers, cut = _bounded_headers(fields, decoded=content.decoded)
    body = masked(content.beginning, answer.secrets)[:limit_bytes]
    was_masked = body != content.beginning[:limit_bytes] or fields != answer.headers
    masks = "credentials were masked" if was_masked else None
    notes = [note for note in (content.note, cut, masks, redacted) if note]
    return StoredResponse(
        status=answer.status,
        headers=(*headers, *[(NOTE, note) for note in notes]) if notes else headers,
        body=body,
        length_bytes=content.length_bytes if content.whole else None,
        sha256=content.sha256 if content.whole else None,
        truncated=not content.whole
        or content.length_bytes > len(body)
        or cut is not None
        or was_masked
        or redacted is not None,
    )


def _redacted(content: _Content, redaction: Redaction) -> _Content:
    if not redaction.pointers:
        return content
    left = redacted_body(content.beginning, redaction) if content.whole else None
    if left is None:
        return replace(content, beginning=b"", note=NOT_READ)
    return content if left == content.beginning else replace(content, beginning=left)


def whole_body(answer: Answered, *, limit_bytes: int) -> bytes | None:
    """The decoded body of `answer`; None where it was not read to its end, is longer than `limit_bytes`, or has an
    encoding that is not decoded."""
    content = _content(answer, limit_bytes, decoded_limit_bytes=limit_bytes)
    is_plain = content.decoded or _content_encoding(answer) in ("", "identity")
    return content.beginning if is_plain and content.whole and content.length_bytes <= limit_bytes else None


def _content(answer: Answered, most_bytes: int, *, decoded_limit_bytes: int = INFLATED_LIMIT_BYTES) -> _Content:
    encoding = _content_encoding(answer)
    note = None
    if encoding in _WINDOW_BITS and answer.body:
        try:
            return _inflated(answer, _WINDOW_BITS[encoding], most_bytes, decoded_limit_bytes)
        except zlib.error:
            note = f"not decoded: the body is not {encoding}"
        except _TooManyMembers:
            note = f"not decoded: more than {MOST_MEMBERS} members"
    return _Content(
        beginning=answer.body[:most_bytes],
        length_bytes=len(answer.body),
        sha256=hashlib.sha256(answer.body).digest(),
        whole=answer.complete,
        note=note,
    )


def _content_encoding(answer: Answered) -> str:
    values = [value for name, value in answer.headers if name.lower() == "content-encoding"]
    return ",".join([value.strip().lower() for value in values]) if values else ""


def _inflated(answer: Answered, window_bits: int, most_bytes: int, decoded_limit_bytes: int) -> _Content:
    beginning, length, digest = bytearray(), 0, hashlib.sha256()
    whole = answer.complete
    try:
        for piece in _pieces(answer.body, window_bits):
            length += len(piece)
            digest.update(piece)
            beginning += piece[: most_bytes - len(beginning)]
            if length > decoded_limit_bytes:
                whole = False
                break
    except EOFError:
        whole = False
    return _Content(beginning=bytes(beginning), length_bytes=length, sha256=digest.digest(), whole=whole, decoded=True)


class _TooManyMembers(Exception):
    """More members than are decoded."""


def _pieces(data: bytes, window_bits: int) -> Iterator[bytes]:
    """What `data` inflates to, a bounded piece at a time; gzip data may have several members (RFC 1952 section 2.2).

    Raises EOFError where `data` ends too early, zlib.error where it is something else, _TooManyMembers.
    """
    view, at, members = memoryview(data), 0, 0
    while at < len(data):
        members += 1
        if members > MOST_MEMBERS:
            raise _TooManyMembers
        inflater = zlib.decompressobj(wbits=window_bits)
        while not inflater.eof:
            if at == len(data):
                raise EOFError
            fed = view[at : at + FEED_BYTES]
            at += len(fed)
            yield from _drained(inflater, fed)
        at -= len(inflater.unused_data)


def _drained(inflater: "zlib._Decompress", fed: memoryview) -> Iterator[bytes]:
    """All that `fed` inflates to. zlib may hold back output without any input being left."""
    piece = inflater.decompress(fed, _STEP_BYTES)
    yield piece
    while not inflater.eof and (inflater.unconsumed_tail or len(piece) == _STEP_BYTES):
        piece = inflater.decompress(inflater.unconsumed_tail, _STEP_BYTES)
        yield piece


def _masked_headers(answer: Answered) -> Headers:
    """All in one go, a line each, for a partner may send very many. No secret holds a line break."""
    if not answer.secrets:
        return answer.headers
    joined = masked_text("\n".join(text for field in answer.headers for text in field), answer.secrets)
    masked_fields, at = [], 0
    for name, value in answer.headers:
        name_end = at + len(name)
        value_end = name_end + 1 + len(value)
        masked_fields.append((joined[at:name_end], joined[name_end + 1 : value_end]))
        at = value_end + 1
    return tuple(masked_fields)


def _bounded_headers(fields: Headers, *, decoded: bool) -> tuple[Headers, str | None]:
    """The headers that are stored, and a note on what is missing; None when nothing is. `fields` are masked already."""
    wanted = [(name, value) for name, value in fields if not name.lower().startswith(_OURS)]
    if decoded:
        wanted = [(name, value) for name, value in wanted if name.lower() != "content-encoding"]
    if _surely_bounded(wanted):
        return tuple(wanted), None
    stored: list[tuple[str, str]] = []
    left_bytes, cut_values = STORED_HEADER_BYTES, 0
    for name, value in wanted:
        field = (name, value[:LONGEST_HEADER_CHARACTERS])
        if len(stored) == STORED_HEADERS or len(name) + len(field[1]) > left_bytes:
            continue  # without measuring it: there may be very many
        size = len(json.dumps(field))
        if size <= left_bytes:
            stored.append(field)
            left_bytes -= size
            cut_values += len(value) > LONGEST_HEADER_CHARACTERS
    if len(stored) == len(wanted) and not cut_values:
        return tuple(stored), None
    return tuple(stored), f"headers were cut: {len(stored)} of {len(wanted)} are here, {cut_values} of them shortened"


def _surely_bounded(fields: list[tuple[str, str]]) -> bool:
    """Whether nothing has to be cut, even if each character took six bytes and each field eight more."""
    characters = sum([len(name) + len(value) for name, value in fields])
    longest = min(LONGEST_HEADER_CHARACTERS * 6, STORED_HEADER_BYTES)
    return len(fields) <= STORED_HEADERS and 6 * characters + 8 * len(fields) <= longest

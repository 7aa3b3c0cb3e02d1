"""Masks a destination's own credentials in what a partner sends back: some partners echo what they were sent."""

import base64
import binascii
import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

from domain.outcomes import Headers

# A shorter secret protects nothing, and masking each "a" or "42" would destroy the answer.
LEAST_SECRET_CHARACTERS = 4
# Encoders differ in what they escape: some a "=" in JSON, some an apostrophe in HTML and as which number, some a "!" in
# a URL. These are read back, and the secret is looked for in what comes out.
_PERCENT = rb"%[0-9A-Fa-f]{2}"
_ESCAPES = (
    rb"\\u[0-9A-Fa-f]{4}|\\[\"\\/']",
    rb"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});",
    _PERCENT,
)
_LONGEST_ESCAPE_BYTES = 10
_LOWER_ESCAPE = r"%[0-9A-F]{2}"
_LINE_BREAK = rb"[\r\n]"


def secrets_in(headers: Headers) -> tuple[str, ...]:
    """What is secret in headers that carry credentials: whole values, what follows a scheme's name, and of Basic
    (RFC 7617) the password and the pair. A user name alone is not secret: "admin" may occur anywhere.
    """
    return tuple(dict.fromkeys([secret for _, value in headers for secret in _secrets(value)])) if headers else ()


def masked_text(text: str, secrets: tuple[str, ...]) -> str:
    """`text` (Latin-1 where it comes from a header) with an asterisk for each character of a secret."""
    return masked(text.encode("latin-1", "replace"), secrets).decode("latin-1") if secrets else text


def masked(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """`data` with each byte of a secret an asterisk, so that its length and all other positions stay the same.

    Secrets are found as they are (in UTF-8, Latin-1 and UTF-16), and as base64 on one line or several, hex,
    percent-encoded, and escaped for JSON and HTML, whichever characters the encoder escapes. Each form is searched for
    by itself, in time proportional to `data`: in a pattern of them all, a long secret that repeats itself would be
    compared from each place again, and a tenant and its partner can choose both.
    """
    if not secrets:
        return data
    result = bytearray(data)
    escaped = _escaped_places(data, _escapable(secrets))
    for start, end in (*_plain_places(data, secrets), *_wrapped_places(data, secrets), *escaped):
        result[start:end] = b"*" * (end - start)
    return bytes(result)


def longest_form(secrets: tuple[str, ...]) -> int:
    """How many bytes the longest form of a secret has; 0 where there is none."""
    if not secrets:
        return 0
    escaped = (_LONGEST_ESCAPE_BYTES * len(form) for form in _escapable(secrets))
    return max((*map(len, _all_forms(secrets)), *escaped), default=0)


def _places(data: bytes, form: bytes) -> Iterator[tuple[int, int]]:
    at = data.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = data.find(form, at + len(form))


def _plain_places(data: bytes, secrets: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for form in _all_forms(secrets):
        yield from _places(data, form)


def _wrapped_places(data: bytes, secrets: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where base64 of `secrets` goes over several lines, as in e-mail (RFC 2045 section 6.8)."""
    text = data.translate(None, b"\r\n")
    found = [place for form in _all_base64_forms(secrets) for place in _places(text, form)] if text != data else []
    breaks = array("q", (match.start() for match in re.finditer(_LINE_BREAK, data)) if found else ())

    def place_of(position: int) -> int:
        return position + bisect_right(range(len(breaks)), position, key=lambda at: breaks[at] - at)

    for start, end in found:
        yield place_of(start), place_of(end - 1) + 1


def _escaped_places(data: bytes, forms: list[bytes]) -> Iterator[tuple[int, int]]:
    """Where `forms` occur in `data` once escapes of one kind are read."""
    if not forms:
        return
    for escape in _ESCAPES:
        yield from _places_read(data, escape, forms)
    if b"+" in data:
        yield from _places_read(data.replace(b"+", b" "), _PERCENT, forms)  # a space, in forms


def _places_read(data: bytes, escape: bytes, forms: list[bytes]) -> Iterator[tuple[int, int]]:
    """Where `forms` occur in the decoded `data`, as positions in `data` itself."""
    read, at = bytearray(), 0
    read_places, data_places = array("q", (0,)), array("q", (0,))
    for match in re.finditer(escape, data):
        read += data[at : match.start()]
        read_places.append(len(read))
        data_places.append(match.start())
        read += _unescaped(match[0])
        at = match.end()
        read_places.append(len(read))
        data_places.append(at)

    def place_of(position: int) -> int:
        known = bisect_right(read_places, position) - 1
        return data_places[known] + position - read_places[known]

    text = bytes(read + data[at:])
    for form in forms:
        for start, end in _places(text, form):
            yield place_of(start), place_of(end)


def _unescaped(escape: bytes) -> bytes:
    """The bytes that an escape of `_ESCAPES` means."""
    if escape.startswith(b"%"):
        return bytes.fromhex(escape[1:].decode())
    if escape.startswith(b"&"):
        import html  # its table of names is a fiftieth of a cold start

        return html.unescape(escape.decode()).encode("utf-8", "surrogatepass")
    if escape.startswith(b"\\u"):
        return chr(int.from_bytes(bytes.fromhex(escape[2:].decode()))).encode("utf-8", "surrogatepass")
    return escape[1:]


def _secrets(value: str) -> Iterator[str]:
    value = value.strip(" \t")
    yield value
    scheme, blank, rest = value.partition(" ")
    if blank:
        yield rest.strip(" \t")
    if scheme.lower() == "basic":
        yield from _of_basic(rest.strip(" \t"))


def _of_basic(pair: str) -> Iterator[str]:
    try:
        plain = base64.b64decode(pair, validate=True).decode()
    except (binascii.Error, ValueError):
        return
    yield plain
    yield plain.partition(":")[2]


@lru_cache(maxsize=4)  # what is stored of one answer asks several times; the forms of long secrets take megabytes
def _all_forms(secrets: tuple[str, ...]) -> frozenset[bytes]:
    return _long_enough(secrets, lambda secret: (*_text_forms(secret), *_byte_forms(secret), *_base64_forms(secret)))


@lru_cache(maxsize=4)
def _all_base64_forms(secrets: tuple[str, ...]) -> frozenset[bytes]:
    return _long_enough(secrets, _base64_forms)


def _long_enough(secrets: tuple[str, ...], forms_of: Callable[[str], Iterable[bytes]]) -> frozenset[bytes]:
    return frozenset(
        form
        for secret in secrets
        if len(secret) >= LEAST_SECRET_CHARACTERS
        for form in forms_of(secret)
        if len(form) >= LEAST_SECRET_CHARACTERS
    )


def _escapable(secrets: tuple[str, ...]) -> list[bytes]:
    return [secret.encode() for secret in secrets if len(secret) >= LEAST_SECRET_CHARACTERS]


def _text_forms(secret: str) -> Iterator[bytes]:
    import html

    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms = {secret, *quoted, *escaped, html.escape(secret)}
    forms |= {re.sub(_LOWER_ESCAPE, lambda match: match[0].lower(), form) for form in quoted}
    forms |= {form.replace("/", "\\/") for form in escaped}
    for form in forms:
        yield form.encode()
        yield form.encode("latin-1", "ignore")


def _byte_forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield secret.encode("utf-16-le")
    yield secret.encode("utf-16-be")


def _base64_forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    for before in range(3):  # base64 looks different by what precedes it; these are the digits that are its own
        digits = base64.b64encode(bytes(before) + raw)
        own = digits.rstrip(b"=")[(0, 2, 3)[before] :]
        own = own if (before + len(raw)) % 3 == 0 else own[:-1]
        yield own
        yield own.translate(bytes.maketrans(b"+/", b"-_"))

"""Masks a destination's own credentials in what a partner sends back: some partners echo what they were sent."""

import base64
import binascii
import html
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

from domain.outcomes import Headers

# A shorter secret protects nothing, and masking each "a" or "42" would destroy the answer.
LEAST_SECRET_CHARACTERS = 4
_LOWER_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def secrets_in(headers: Headers) -> tuple[str, ...]:
    """What is secret in headers that carry credentials: whole values, what follows a scheme's name, and of Basic
    (RFC 7617) the password and the pair. A user name alone is not secret: "admin" may occur anywhere.
    """
    return tuple(dict.fromkeys(secret for _, value in headers for secret in _secrets(value)))


def masked_text(text: str, secrets: tuple[str, ...]) -> str:
    """`text` (Latin-1 where it comes from a header) with an asterisk for each character of a secret."""
    return masked(text.encode("latin-1", "replace"), secrets).decode("latin-1") if secrets else text


def masked(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """`data` with each byte of a secret an asterisk, so that its length and all other positions stay the same.

    Secrets are found as they are, and as base64, hex, percent-encoded, and escaped for JSON and HTML. Each form is
    searched for by itself, in time proportional to `data`: in a pattern of them all, a long secret that repeats itself
    would be compared from each place again, and a tenant and its partner can choose both.
    """
    result = bytearray(data)
    for form in _all_forms(secrets):
        at = data.find(form)
        while at >= 0:
            result[at : at + len(form)] = b"*" * len(form)
            at = data.find(form, at + len(form))
    return bytes(result)


def longest_form(secrets: tuple[str, ...]) -> int:
    """How many bytes the longest form of a secret has; 0 where there is none."""
    return max(map(len, _all_forms(secrets)), default=0)


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
    return frozenset(
        form
        for secret in secrets
        if len(secret) >= LEAST_SECRET_CHARACTERS
        for form in (*_text_forms(secret), *_byte_forms(secret))
        if len(form) >= LEAST_SECRET_CHARACTERS
    )


def _text_forms(secret: str) -> Iterator[bytes]:
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms = {secret, *quoted, *escaped, html.escape(secret)}
    forms |= {_LOWER_ESCAPE.sub(lambda match: match[0].lower(), form) for form in quoted}
    forms |= {form.replace("/", "\\/") for form in escaped}
    for form in forms:
        yield form.encode()
        yield form.encode("latin-1", "ignore")


def _byte_forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before in range(3):  # base64 looks different by what precedes it; these are the digits that are its own
        digits = base64.b64encode(bytes(before) + raw)
        own = digits.rstrip(b"=")[(0, 2, 3)[before] :]
        own = own if (before + len(raw)) % 3 == 0 else own[:-1]
        yield own
        yield own.translate(bytes.maketrans(b"+/", b"-_"))

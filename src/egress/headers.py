"""Header fields: checked before they are sent, and made safe to store when they are received."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from domain.headers import FRAMING, HOP_BY_HOP
from domain.outcomes import Headers

# The client sets these from URL and body; a second value would let a request be read in two ways (RFC 9112, 11.2).
CLIENT_FIELDS = FRAMING | HOP_BY_HOP
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5, obs-text included
LONGEST_REMEMBERED_LINE = 64
_CONTROLS = {code: " " for code in (*range(0x20), 0x7F) if code != 0x09}


def is_token(text: str) -> bool:
    """Whether `text` may be a method or a field name."""
    return _TOKEN.fullmatch(text) is not None


def fault_in(headers: Headers) -> str | None:
    """Why `headers` cannot be sent as they are; None when they can. The text names the field, never its value."""
    for name, value in headers:
        if (fault := _name_fault(name)) is not None:
            return fault
        if not _is_plain(value) and not _VALUE.fullmatch(value):
            return f"the value of the header {name} contains characters that RFC 9110 does not allow"
    return None


def field_line(name: str, value: str) -> bytes:
    """The field in libcurl's form: a semicolon stands for an empty value, as "Name:" would remove the field."""
    stripped = value.strip(" \t")
    return (f"{name}: {stripped}" if stripped else f"{name};").encode("latin-1")


def received(lines: Sequence[bytes]) -> Headers:
    """The fields of an answer, in their order, as storable text. Lines that are not fields are left out.

    Most answers have nothing but plain fields, and nearly all of these came before, with another answer.
    """
    fields = [_remembered_field(line) if len(line) <= LONGEST_REMEMBERED_LINE else _plain_field(line) for line in lines]
    return received_in_any_form(lines) if None in fields else tuple(filter(None, fields))


def received_in_any_form(lines: Iterable[bytes]) -> Headers:
    """The same for folded lines, control characters and whatever else comes."""
    pairs = (line.partition(b":")[::2] for line in _unfolded(lines))
    texts = ((storable(name).rstrip(), storable(value).strip()) for name, value in pairs)
    return tuple((name, value) for name, value in texts if is_token(name))


def storable(raw: bytes) -> str:
    """`raw` as Latin-1 text in which each control character but the tab is a space.

    RFC 9110 section 5.5 asks for that where a message is not rejected; PostgreSQL takes no NUL in text and jsonb.
    """
    text = raw.decode("latin-1")
    return text if text.isprintable() else text.translate(_CONTROLS)  # nearly all are


def _is_plain(value: str) -> bool:
    """Whether it has nothing but printable ASCII, as nearly all have; a fifth of what an expression takes."""
    return value.isascii() and value.isprintable()


def _plain_field(line: bytes) -> tuple[str, str] | None:
    """Its name and its value of printable ASCII; None where it is something else."""
    name, colon, value = line.decode("latin-1").partition(":")
    value = value.strip()
    return (name, value) if colon and is_token(name) and _is_plain(value) else None


_remembered_field = lru_cache(maxsize=1000)(_plain_field)


@lru_cache(maxsize=1000)
def _name_fault(name: str) -> str | None:
    """Names come again with each request, and hold no secrets."""
    if not is_token(name):
        return "a header's name contains characters that RFC 9110 does not allow"
    return f"the header {name} is set by the client" if name.lower() in CLIENT_FIELDS else None


def _unfolded(lines: Iterable[bytes]) -> list[bytes]:
    """Each field on one line: one that begins with white space continues the one before (RFC 9112 section 5.2).

    The parts are joined once, at the end: a partner may fold a field as often as libcurl's limit for headers allows.
    """
    fields: list[list[bytes]] = []
    for line in lines:
        stripped = line.strip()
        if line[:1] not in (b" ", b"\t") or not fields:
            fields.append([line.rstrip()])
        elif stripped:
            fields[-1].append(stripped)
    return [b" ".join(parts) for parts in fields]

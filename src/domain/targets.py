"""The URL of a request: the rules for path and query below a destination's base URL."""

import re
from unicodedata import normalize
from urllib.parse import quote, unquote_to_bytes, urlsplit

_PATH = re.compile(r"(/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")  # RFC 3986 section 3.3
_QUERY = re.compile(r"([A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")  # RFC 3986 section 3.4
_MOST_DECODINGS = 8
_PERCENTS = rb"%(?:25)+"  # a percent sign, however often it was encoded
_WIDE_ESCAPE = r"%u([0-9A-Fa-f]{4})"  # of IIS
_PARAMETERS = rb"[;?#\x00]"  # a segment's name ends there: for Tomcat (;), after decoding (?, #), in C (NUL)
_BLANKS = rb"[\x00-\x20\x7f]+"  # Windows drops blanks, others drop control characters
# Overlong forms as lax decoders read them, which look only at the lower six bits of the last byte.
_OVERLONG = (
    (rb"(?:\xc0|\xe0\x80|\xf0\x80\x80)[\x2e\x6e\xae\xee]", b"."),
    (rb"(?:\xc0|\xe0\x80|\xf0\x80\x80)[\x2f\x6f\xaf\xef]", b"/"),
    (rb"(?:\xc1|\xe0\x81|\xf0\x80\x81)[\x1c\x5c\x9c\xdc]", rb"\\"),
)
_SLASHES = {0x2044: "/", 0x2215: "/", 0x29F8: "/", 0x2216: "\\", 0x29F5: "\\"}  # Windows maps these, NFKC does not
_USUAL_PORTS = {"http": 80, "https": 443}
_PATH_AS_IT_IS = "/-._~!$&'()*+,;=:@%"


def path_fault(path: str) -> str | None:
    """Why `path` cannot be sent; None when it can.

    Dot segments are refused, and whatever a server may read as one: percent-encoded any number of times, with
    parameters, backslashes, overlong or full-width characters. They would leave the base URL's own path.
    """
    if not _PATH.fullmatch(path):
        return "must be empty or start with '/', with everything but RFC 3986 path characters percent-encoded"
    if "." not in path and "%" not in path:  # of what a path may consist of, only these can become a dot
        return None
    return _dot_segment_fault(path)


def base_url_fault(url: str) -> str | None:
    """Why the absolute URL `url` cannot be a base URL; None when it can. Whether its host may be called is for the
    guard to judge."""
    if "?" in url:
        return "must not have a query: paths are appended to it, and each delivery has a query of its own"
    return _dot_segment_fault(urlsplit(url).path)


def _dot_segment_fault(path: str) -> str | None:
    """Why a server may read `path` as leaving its base, however often it decodes and whatever it takes for a dot."""
    raw = path.encode("latin-1", "replace")
    for _ in range(_MOST_DECODINGS):
        plain = _overlong(unquote_to_bytes(re.sub(_PERCENTS, b"%", raw)))
        if _climbs(raw) or _climbs(plain):
            return "must not contain the segments '.' or '..', nor anything that a server may decode to one"
        decoded = _look_alikes(plain)
        if decoded == raw:
            return None
        raw = decoded
    return "is percent-encoded too many times over; it could hide the segments '.' or '..'"


def _climbs(path: bytes) -> bool:
    return any(
        re.sub(_BLANKS, b"", re.split(_PARAMETERS, segment, maxsplit=1)[0]) in (b".", b"..")
        for segment in re.split(rb"[/\\]", path)
    )


def _overlong(raw: bytes) -> bytes:
    """`raw` with dots, slashes and backslashes in place of their forbidden long forms (RFC 3629 section 10)."""
    for form, character in _OVERLONG:
        raw = re.sub(form, character, raw)
    return raw


def _look_alikes(raw: bytes) -> bytes:
    """`raw` as a server reads it that knows %u002e and maps full-width characters to ASCII ones."""
    text = raw.decode("utf-8", "surrogateescape")
    text = re.sub(_WIDE_ESCAPE, lambda match: _character(match[1]), text)
    return normalize("NFKC", text).translate(_SLASHES).encode("utf-8", "surrogateescape")


def _character(digits: str) -> str:
    """The character of that number; a question mark for a surrogate."""
    number = int(digits, 16)
    return "?" if 0xD800 <= number <= 0xDFFF else chr(number)


def query_fault(query: str) -> str | None:
    """Why `query` cannot be sent; None when it can. RFC 3986 allows a '?' at its beginning too, where it is a slip."""
    if query.startswith("?") or not _QUERY.fullmatch(query):
        return "must be a raw query string such as a=1&b=2, without the '?' before it, everything else percent-encoded"
    return None


def encoded_path(path: str) -> str:
    """`path` with the characters that RFC 3986 does not allow percent-encoded; what is encoded already stays."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path), safe=_PATH_AS_IT_IS)


def origin(url: str) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port of a URL (RFC 6454 section 4), the port also where it is the usual one; None where it
    cannot be read."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _USUAL_PORTS.get(parts.scheme)
    except ValueError:
        return None


def partner_url(base_url: str, *, path: str, query: str) -> str:
    """The URL to call: base URL, then the path, then the query."""
    url = base_url.rstrip("/") + path if path else base_url
    return f"{url}?{query}" if query else url

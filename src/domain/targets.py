"""Where a request goes: the rules for the path and the query below a destination's base URL."""

import re
from urllib.parse import quote, unquote, urlsplit

_PATH = re.compile(r"(/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*")  # RFC 3986 section 3.3
_QUERY = re.compile(r"([A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")  # RFC 3986 section 3.4
_PATH_AS_IT_IS = "/-._~!$&'()*+,;=:@%"


def path_fault(path: str) -> str | None:
    """Why `path` cannot be sent; None when it can.

    Dot segments are refused, also percent-encoded: they would lead out of the base URL's own path.
    """
    if not _PATH.fullmatch(path):
        return "must be empty or start with '/', with everything but RFC 3986 path characters percent-encoded"
    return _dots(path)


def base_url_fault(url: str) -> str | None:
    """Why nothing can go below the absolute URL `url`; None when it can. Where it leads is the guard's to judge."""
    if "?" in url:
        return "must not have a query: paths go below it, and each delivery brings a query of its own"
    return _dots(urlsplit(url).path)


def _dots(path: str) -> str | None:
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        return "must not contain the segments '.' or '..'"
    return None


def query_fault(query: str) -> str | None:
    """Why `query` cannot be sent; None when it can."""
    if not _QUERY.fullmatch(query):
        return "must be a raw query string such as a=1&b=2, without '?', everything else percent-encoded"
    return None


def encoded_path(path: str) -> str:
    """`path` with the characters that RFC 3986 does not allow percent-encoded; what is encoded already stays."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path), safe=_PATH_AS_IT_IS)


def partner_url(base_url: str, *, path: str, query: str) -> str:
    """The URL to call: base URL, then the path, then the query."""
    url = base_url.rstrip("/") + path if path else base_url
    return f"{url}?{query}" if query else url

"""AWS Signature Version 4: signs a request as AWS's own clients do.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. libcurl signs too, for AWS's
own APIs (runtime/aws.py), but not paths and queries as they are sent: it reads them differently where there are several
slashes in a row or lower-case percent-encoding.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes, urlsplit

from domain.auth import AwsSigV4Auth
from domain.headers import merged
from domain.outcomes import Headers

# botocore leaves these out too: something on the way may change or add them.
NOT_SIGNED = frozenset({"user-agent", "expect", "transfer-encoding", "connection", "x-amzn-trace-id"})
_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_BLANKS = re.compile(r" +")
_AS_IT_IS = "s3"  # the only service that takes the path as it is, and wants the hash of the body as a header


def signed_headers(
    headers: Headers, *, auth: AwsSigV4Auth, method: str, url: str, body: bytes, at: datetime
) -> Headers:
    """`headers` with those of the signature, which covers them all, method, path, query, host and body."""
    scope, body_hash = auth.scope, hashlib.sha256(body).hexdigest()
    time = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = [("X-Amz-Date", time)]
    if auth.session_token is not None:
        added.append(("X-Amz-Security-Token", auth.session_token))
    if scope.service == _AS_IT_IS:
        added.append(("X-Amz-Content-Sha256", body_hash))
    sent = merged(headers, added)
    covered = _canonical_headers((*sent, ("Host", _host(url))))
    names = ";".join(name for name, _ in covered)
    canonical = "\n".join(
        (
            method,
            _path(url, as_it_is=scope.service == _AS_IT_IS),
            _query(url),
            *(f"{name}:{value}" for name, value in covered),
            "",
            names,
            body_hash,
        )
    )
    within = f"{time[:8]}/{scope.region}/{scope.service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{time}\n{within}\n{hashlib.sha256(canonical.encode('latin-1')).hexdigest()}"
    signature = hmac.digest(_key(auth, time[:8]), to_sign.encode(), "sha256").hex()
    credential = f"Credential={scope.access_key_id}/{within}"
    authorization = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    return merged(sent, [("Authorization", authorization)])


def _key(auth: AwsSigV4Auth, date: str) -> bytes:
    key = f"AWS4{auth.secret_access_key}".encode()
    for part in (date, auth.scope.region, auth.scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """By name in lower case; several of one name are one, in their order."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in NOT_SIGNED:
            values.setdefault(name.lower(), []).append(_BLANKS.sub(" ", value.strip(" \t")))
    return sorted((name, ",".join(listed)) for name, listed in values.items())


def _host(url: str) -> str:
    """As it is sent: without the scheme's own port."""
    parts = urlsplit(url)
    return parts.netloc.removesuffix(_DEFAULT_PORTS.get(parts.scheme.lower(), ""))


def _path(url: str, *, as_it_is: bool) -> str:
    """The path as it is sent, encoded once more; without empty segments and dots (RFC 3986 section 5.2.4)."""
    path = urlsplit(url).path or "/"
    if as_it_is:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    trailing = "/" if path.endswith("/") and kept else ""
    return quote(f"/{'/'.join(kept)}{trailing}", safe="/~")


def _query(url: str) -> str:
    """Names and values as the other end reads them, encoded in the one way and sorted."""
    pairs = [part.partition("=")[::2] for part in urlsplit(url).query.split("&") if part]
    return "&".join(
        f"{name}={value}" for name, value in sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    )


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")

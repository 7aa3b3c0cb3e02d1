"""/console: the pages for people. Static files, which call /v1 with the token of whoever looks, and nothing else."""

import gzip
import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import Response

from domain.errors import NotFound
from handlers.operations import Operation, OperationResponse, new_router, serves
from handlers.request import Request

router = new_router()

_FILES = Path(__file__).parents[2] / "console"
_PAGE = "index.html"
_JAVASCRIPT = "text/javascript; charset=utf-8"
# Every file that is served, so that no path leads anywhere else.
MEDIA_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "api.js": _JAVASCRIPT,
    "app.js": _JAVASCRIPT,
    "audit.js": _JAVASCRIPT,
    "bytes.js": _JAVASCRIPT,
    "deliveries.js": _JAVASCRIPT,
    "delivery.js": _JAVASCRIPT,
    "destinations.js": _JAVASCRIPT,
    "dom.js": _JAVASCRIPT,
    "now.js": _JAVASCRIPT,
    "stack.js": _JAVASCRIPT,
    "unknown.js": _JAVASCRIPT,
}
# A version never changes, so that a browser asks for its files once.
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_ALWAYS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_HEADERS = ("Cache-Control", "ETag", *_ALWAYS)


@serves(
    router,
    Operation(
        method="GET",
        path="/console",
        summary="The console",
        description="Pages to look at deliveries, resolve what is unknown and manage destinations. They call `/v1` "
        "with the token that is entered there.",
        scope=None,
        responses={
            200: OperationResponse(
                description="The console's page",
                media_type="text/html",
                headers=_HEADERS,
                some_headers=("Content-Encoding",),
            ),
            304: OperationResponse(description="Not changed", media_type="text/html", headers=_HEADERS),
        },
    ),
)
def page(request: Request) -> Response[Any]:
    """Asked for at every visit, because it names the version of everything else."""
    text = _text(_PAGE).replace("{version}", current_version())
    return _file(request, text, media_type="text/html; charset=utf-8", caching=_ASK_AGAIN)


@serves(
    router,
    Operation(
        method="GET",
        path="/console/<version>/<file>",
        summary="A file of the console",
        scope=None,
        responses={
            200: OperationResponse(
                description="The file",
                media_type="text/javascript",
                other_media_types=("text/css", "image/svg+xml"),
                headers=_HEADERS,
                some_headers=("Content-Encoding",),
            ),
            304: OperationResponse(description="Not changed", media_type="text/javascript", headers=_HEADERS),
        },
        problems=("not-found",),
    ),
)
def static_file(request: Request, version: str, file: str) -> Response[Any]:
    """By its name in the table. A page from before a deployment gets the file as it is now, and does not keep it."""
    media_type = MEDIA_TYPES.get(file)
    if media_type is None:
        raise NotFound("file", file)
    caching = _FOR_EVER if version == current_version() else _ASK_AGAIN
    return _file(request, _text(file), media_type=media_type, caching=caching)


@cache
def current_version() -> str:
    """Of all files together; another one where a byte of them differs."""
    digest = hashlib.sha256()
    for name in (_PAGE, *sorted(MEDIA_TYPES)):
        digest.update(_text(name).encode() + b"\0")
    return digest.hexdigest()[:16]


@cache
def _compressed(text: str) -> str:
    """In base64, as Lambda returns bytes; the same bytes whenever it is made."""
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _text(name: str) -> str:
    """Read when it is asked for first: the start of the function does not pay for it."""
    return (_FILES / name).read_text(encoding="utf-8")


def _file(request: Request, text: str, *, media_type: str, caching: str) -> Response[Any]:
    tag = f'"{current_version()}"'
    headers = {"Cache-Control": caching, "ETag": tag, **_ALWAYS}
    if tag in ",".join(request.values("if-none-match")):
        return Response(status_code=304, content_type=media_type, body="", headers=headers)
    if "gzip" not in ",".join(request.values("accept-encoding")):
        return Response(status_code=200, content_type=media_type, body=text, headers=headers)
    headers["Content-Encoding"] = "gzip"
    answer: Response[Any] = Response(status_code=200, content_type=media_type, body=_compressed(text), headers=headers)
    answer.base64_encoded = True
    return answer

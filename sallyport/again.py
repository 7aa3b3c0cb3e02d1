"""Whether a call is made again by itself, and when. Nothing is sent or slept here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from sallyport.errors import AnswerLost, GatewayAway, GatewayError, GatewayUnavailable, StillRunning

TRIES = 4
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# What the gateway says of itself; a destination that is paused or at its limits is for the caller to decide about.
_PASSING = {"unavailable", "too-many-requests"}

# Nothing was sent when these are raised: no name, no connection, no TLS, no free connection, an impossible URL.
_NOTHING_SENT: Mapping[type[Exception], str] = MappingProxyType(
    {
        httpx.ConnectTimeout: "tcp",
        httpx.PoolTimeout: "tcp",
        httpx.ConnectError: "tcp",
        httpx.ProxyError: "tcp",
        httpx.UnsupportedProtocol: "address",
        httpx.InvalidURL: "address",
        httpx.LocalProtocolError: "address",
    }
)
_WORDS = {"dns": "its name does not resolve", "tls": "TLS failed", "address": "it is no URL that can be called"}


def pause_before_another(error: GatewayError, *, tries: int, repeatable: bool, of: int = TRIES) -> float | None:
    """How many seconds to wait before the call is made again after `tries` `of` them; None for not again.

    What was not accepted can be sent again. What was lost, only where a repeat changes nothing, as under a key.
    """
    if tries >= of:
        return None
    planned: float = min(FIRST_PAUSE_SECONDS * 2 ** (tries - 1), LONGEST_PAUSE_SECONDS)
    match error:
        case AnswerLost() if repeatable:
            return planned
        case GatewayAway(layer="tcp"):
            return planned
        case GatewayUnavailable(kind=kind) if kind in _PASSING:
            return min(error.retry_after_seconds or planned, LONGEST_PAUSE_SECONDS)
        case StillRunning() if error.retry_after_seconds is not None and repeatable:
            return min(error.retry_after_seconds, LONGEST_PAUSE_SECONDS)
        case _:
            return None


def lost(error: Exception, *, url: str, key: str | None) -> GatewayError:
    """What an error of httpx means for the call."""
    layer = next((layer for kind, layer in _NOTHING_SENT.items() if isinstance(error, kind)), None)
    if layer is None:
        said = str(error) or type(error).__name__
        return AnswerLost(
            f"the call was sent to {url} and its answer was lost ({said}): it may have been carried out",
            delivery_id=None,
            idempotency_key=key,
        )
    layer = _more_exactly(error, layer)
    said = _WORDS.get(layer) or str(error) or "no connection came about"
    return GatewayAway(f"no answer from {url}: {said}. Nothing was sent", layer=layer)


def _more_exactly(error: BaseException, layer: str) -> str:
    """DNS and TLS fail within what httpx calls a connection."""
    import socket
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        if isinstance(cause, socket.gaierror):
            return "dns"
        cause = cause.__cause__ or cause.__context__
    return layer


def as_answer(response: Any) -> dict[str, Any]:
    """The parts of an httpx or requests response that GatewayAnswer has."""
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    return {"status": response.status_code, "headers": headers, "content": response.content}

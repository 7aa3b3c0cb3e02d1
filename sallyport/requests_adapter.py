"""An adapter for requests that sends what an SDK sends through the gateway: `pip install requests`, which SDKs bring.

    session.mount("https://api.example/", SallyportAdapter(token))

Only the partner's own answers are returned. Everything else is an error of sallyport.errors; where nothing was sent, it
is a requests.ConnectionError too, after which an SDK may send again.
"""

import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NameResolutionError, NewConnectionError

from sallyport.again import TRIES, as_answer
from sallyport.answers import GatewayAnswer
from sallyport.errors import AnswerLost, GatewayAway, GatewayError, PartnerUnreachable
from sallyport.passing import Crossing, passage


class PartnerUnreachableByRequests(PartnerUnreachable, requests.ConnectionError):
    """Nothing was sent to the partner."""


class GatewayAwayForRequests(GatewayAway, requests.ConnectionError):
    """Nothing was sent to the gateway."""


class SallyportAdapter(HTTPAdapter):
    """Mount it on a session for the gateway's URL. Other options are those of HTTPAdapter."""

    def __init__(self, token: str, *, tries: int = TRIES, **options: Any) -> None:
        self._token = token
        self._tries = tries
        super().__init__(**options)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The partner's answer, read to its end. Raises GatewayError."""
        passing = _passage(request, self._token)
        request.headers.update(passing.headers)
        tries = 0
        while True:
            tries += 1
            try:
                return self._once(request, passing, stream, timeout, verify, cert, proxies)
            except GatewayError as error:
                pause = passing.pause(error, tries) if tries < self._tries else None
                if pause is None:
                    raise
            time.sleep(pause)

    def _once(self, request: requests.PreparedRequest, passing: Crossing, *options: Any) -> requests.Response:
        try:
            response = super().send(request, *options)
            answer = GatewayAnswer(**as_answer(response))  # reads it: what is lost on the way may be asked for again
        except requests.RequestException as error:
            raise _lost(error, request, passing) from error
        try:
            passing.judge(answer)
        except PartnerUnreachable as error:
            raise PartnerUnreachableByRequests(str(error), delivery_id=error.delivery_id) from error
        return response


def _passage(request: requests.PreparedRequest, token: str) -> Crossing:
    body = request.body or b""
    if not isinstance(body, bytes | str):
        raise TypeError("a body that is read while it is sent cannot be sent again: pass bytes")
    content = body.encode() if isinstance(body, str) else body
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    return passage(request.method or "GET", request.path_url, content, headers, token=token)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _lost(error: requests.RequestException, request: requests.PreparedRequest, passing: Crossing) -> GatewayError:
    layer = _layer(error)
    url = (request.url or "").partition("?")[0]
    if layer is not None:
        return GatewayAwayForRequests(f"no answer from {url}: no connection came about. Nothing was sent", layer=layer)
    return AnswerLost(
        f"the call was sent to {url} and its answer was lost ({type(error).__name__}): it may have been carried out",
        delivery_id=None,
        idempotency_key=passing.key,
    )


def _layer(error: BaseException) -> str | None:
    """The layer that failed before anything was sent; None where something was."""
    if isinstance(error, requests.exceptions.SSLError):
        return "tls"
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return "tcp"
    reason: object = error.args[0] if error.args else None
    reason = getattr(reason, "reason", reason)
    if isinstance(reason, NameResolutionError):
        return "dns"
    return "tcp" if isinstance(reason, NewConnectionError) else None

"""Transports of httpx that send what an SDK sends through the gateway.

    httpx.Client(transport=SallyportTransport(token), base_url=via("https://api.example/prod", "bank"))

Only the partner's own answers are returned. Everything else is an error of sallyport.errors; where nothing was sent, it
is an httpx.ConnectError too, after which an SDK may send again.
"""

import asyncio
import time

import httpx

from sallyport.again import TRIES, lost
from sallyport.answers import GatewayAnswer
from sallyport.errors import GatewayAway, GatewayError, PartnerUnreachable
from sallyport.passing import Crossing, passage


class PartnerUnreachableByHttpx(PartnerUnreachable, httpx.ConnectError):
    """Nothing was sent to the partner."""


class GatewayAwayForHttpx(GatewayAway, httpx.ConnectError):
    """Nothing was sent to the gateway."""


class SallyportTransport(httpx.BaseTransport):
    """For httpx.Client. `transport` is what connects to the gateway; httpx's own where it is None."""

    def __init__(self, token: str, *, tries: int = TRIES, transport: httpx.BaseTransport | None = None) -> None:
        self._token = token
        self._tries = tries
        self._transport = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The partner's answer. Raises GatewayError."""
        content = request.read()
        passing = _passage(request, content, self._token)
        tries = 0
        while True:
            tries += 1
            try:
                return self._once(request, content, passing)
            except GatewayError as error:
                pause = passing.pause(error, tries) if tries < self._tries else None
                if pause is None:
                    raise
            time.sleep(pause)

    def _once(self, request: httpx.Request, content: bytes, passing: Crossing) -> httpx.Response:
        try:
            response = self._transport.handle_request(_ours(request, content, passing))
            try:
                raw = b"".join(response.iter_raw())
            finally:
                response.close()
        except httpx.TransportError as error:
            raise _lost(error, request, passing) from error
        return _judged(response, raw, passing)

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()


class AsyncSallyportTransport(httpx.AsyncBaseTransport):
    """For httpx.AsyncClient."""

    def __init__(self, token: str, *, tries: int = TRIES, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._token = token
        self._tries = tries
        self._transport = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The partner's answer. Raises GatewayError."""
        content = await request.aread()
        passing = _passage(request, content, self._token)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(request, content, passing)
            except GatewayError as error:
                pause = passing.pause(error, tries) if tries < self._tries else None
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, request: httpx.Request, content: bytes, passing: Crossing) -> httpx.Response:
        try:
            response = await self._transport.handle_async_request(_ours(request, content, passing))
            try:
                raw = b"".join([part async for part in response.aiter_raw()])
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise _lost(error, request, passing) from error
        return _judged(response, raw, passing)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._transport.aclose()


def _passage(request: httpx.Request, content: bytes, token: str) -> Crossing:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return passage(request.method, request.url.raw_path.decode("ascii"), content, headers, token=token)


def _ours(request: httpx.Request, content: bytes, passing: Crossing) -> httpx.Request:
    """The request with our headers, which can be sent again."""
    headers = request.headers.copy()
    headers.update(passing.headers)
    return httpx.Request(
        request.method, request.url, headers=headers, stream=httpx.ByteStream(content), extensions=request.extensions
    )


def _judged(response: httpx.Response, raw: bytes, passing: Crossing) -> httpx.Response:
    """What the SDK gets; its body is decoded when it is read, as always."""
    whole = httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx.ByteStream(raw),
        extensions={name: value for name, value in response.extensions.items() if name != "network_stream"},
    )
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        passing.judge(GatewayAnswer(status=response.status_code, headers=headers, content=raw))
    except PartnerUnreachable as error:
        raise PartnerUnreachableByHttpx(str(error), delivery_id=error.delivery_id) from error
    return whole


def _lost(error: httpx.TransportError, request: httpx.Request, passing: Crossing) -> GatewayError:
    url = str(request.url.copy_with(query=None))
    found = lost(error, url=url, key=passing.key)
    return GatewayAwayForHttpx(str(found), layer=found.layer) if isinstance(found, GatewayAway) else found

"""The API on a local port: HTTP in, authorizer, function, HTTP out, in the order in which API Gateway does it."""

import asyncio
import logging
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from local import gateway
from local.errors import Advice, LocalError
from local.functions import FunctionError, FunctionRaised, FunctionTimedOut, Invocable, PayloadTooLarge
from local.gateway import HttpRequest, HttpResponse, Match
from local.template import ApiTemplate, Authorizer

CONCURRENCY = 64  # requests in the works at a time; each holds one of our threads
_LOGGER = logging.getLogger(__name__)


class _Refused(Exception):
    """API Gateway answers by itself: `kind` is a gateway response type."""

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class _Permit:
    """An authorizer's result, valid until `expires_at` (monotonic)."""

    policy: Mapping[str, Any]
    context: Mapping[str, Any]
    expires_at: float


class Gateway:
    """Answers HTTP requests by way of the functions. `answer` blocks and may be called from many threads."""

    def __init__(self, api: ApiTemplate, functions: Mapping[str, Invocable]) -> None:
        self._api = api
        self._functions = functions
        self._permits: dict[tuple[str, ...], _Permit] = {}

    def answer(self, request: HttpRequest) -> HttpResponse:
        """The response to `request`, always."""
        match = gateway.matched(self._api.routes, method=request.method, path=request.path)
        if match is None:
            return gateway.gateway_response(self._api, "MISSING_AUTHENTICATION_TOKEN", request_id=str(uuid.uuid4()))
        context = gateway.request_context(self._api, match, request)
        try:
            if len(request.body) > gateway.REQUEST_LIMIT_BYTES:
                raise _Refused("REQUEST_TOO_LARGE")
            if match.route.authorizer is not None:
                context["authorizer"] = self._authorized(match, request, context)
            return self._integrated(match, request, context)
        except _Refused as refused:
            return gateway.gateway_response(
                self._api, refused.kind, request_id=context["requestId"], message=refused.message
            )

    def _authorized(self, match: Match, request: HttpRequest, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """The authorizer's context. An identity header that is missing is refused without asking it."""
        authorizer = self._api.authorizers[match.route.authorizer or ""]
        headers = {name.lower(): value for name, value in request.headers}
        identity = tuple(headers.get(name.lower(), "") for name in authorizer.identity_headers)
        if not all(identity):
            raise _Refused("UNAUTHORIZED")
        permit = self._permits.get(identity)
        if permit is None or permit.expires_at < time.monotonic():
            permit = self._asked(authorizer, match, request, context)
            self._permits[identity] = permit
        if not gateway.allows(permit.policy, gateway.method_arn(self._api, request)):
            raise _Refused("ACCESS_DENIED")
        return permit.context

    def _asked(self, authorizer: Authorizer, match: Match, request: HttpRequest, context: Mapping[str, Any]) -> _Permit:
        event = gateway.authorizer_event(self._api, match, request, context=context)
        try:
            result = self._functions[authorizer.function].invoke(event)
            return _Permit(
                policy=result["policyDocument"],
                # API Gateway passes every value on as text.
                context={
                    "principalId": result["principalId"],
                    **{name: _text(value) for name, value in (result.get("context") or {}).items()},
                },
                expires_at=time.monotonic() + authorizer.ttl_seconds,
            )
        except FunctionRaised as error:
            raise _Refused("UNAUTHORIZED" if str(error) == "Unauthorized" else "AUTHORIZER_FAILURE") from error
        except FunctionError as error:
            raise _Refused("AUTHORIZER_FAILURE") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise _Refused("AUTHORIZER_CONFIGURATION_ERROR") from error

    def _integrated(self, match: Match, request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
        function = self._functions[match.route.function]
        event = gateway.proxy_event(self._api, match, request, context=context)
        try:
            result = function.invoke(event, limit_seconds=gateway.INTEGRATION_TIMEOUT_SECONDS)
            return gateway.http_response(result, request_id=context["requestId"])
        except PayloadTooLarge as error:
            raise _Refused("REQUEST_TOO_LARGE") from error
        except FunctionTimedOut as error:
            raise _Refused("INTEGRATION_TIMEOUT") from error
        except FunctionError as error:
            _LOGGER.warning("%s gave no answer: %s", match.route.function, error)
            raise _Refused("INTEGRATION_FAILURE") from error
        except gateway.MalformedProxyResponse as error:
            _LOGGER.warning("%s answered what API Gateway does not take: %s", match.route.function, error)
            raise _Refused("DEFAULT_5XX") from error


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


type _Receive = Callable[[], Awaitable[dict[str, Any]]]
type _Send = Callable[[dict[str, Any]], Awaitable[None]]


class Front:
    """An HTTP/1.1 server in a thread of its own. The port is taken at once, so that a busy one shows early.

    Where `listeners` are given it serves those instead of a port of the loopback; with `certificate`, the files of a
    chain and its key, it speaks TLS.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        listeners: Sequence[socket.socket] = (),
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self._answer: Callable[[HttpRequest], HttpResponse] = _not_ready
        self._sockets = list(listeners) or [listening(port)]
        chain, key = certificate or (None, None)
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="request")
        configuration = uvicorn.Config(
            self._application,
            interface="asgi3",
            http="h11",
            proxy_headers=False,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=chain,
            ssl_keyfile=key,
        )
        self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(target=self._serve, name="front", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    def start(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        """Serve from now on. Callers that came before have waited."""
        self._answer = answer
        self._thread.start()

    def is_running(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop taking requests; those under way get a second."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(3)
        for listener in self._sockets:
            listener.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=self._sockets))

    async def _application(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        """The ASGI application."""
        body = await _read(receive)
        request = HttpRequest(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
            body=body,
            source_ip=scope["client"][0],
        )
        response = await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, request)
        await _write(send, request, response)


def _not_ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - the signature of an answer
    raise RuntimeError("start() gives the answers")


async def _read(receive: _Receive) -> bytes:
    """The whole body; of one over the limit only as much as shows that, the rest is read and dropped."""
    body = bytearray()
    while True:
        message = await receive()
        if len(body) <= gateway.REQUEST_LIMIT_BYTES:
            body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)


async def _write(send: _Send, request: HttpRequest, response: HttpResponse) -> None:
    headers = [
        (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in response.headers
    ]
    bodiless = response.status in (204, 304) or response.status < 200
    if not bodiless:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if bodiless or request.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


def listening(port: int) -> socket.socket:
    """A socket that listens on a port of the loopback; 0 picks a free one. Raises LocalError when the port is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise LocalError(f"127.0.0.1:{port} cannot be used ({error.strerror}).", advice=Advice.CHOOSE_PORT) from error
    return listener

"""An HTTP/1.1 server on an event loop in a thread of its own: small, as it answers for SQS and for all partners."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

_LINE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """A request as it came; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WireResponse:
    """What to answer, as JSON."""

    status: int
    body: bytes


type Answering = Callable[[WireRequest], Awaitable[WireResponse | None]]


class WireServer:
    """Serves on a free port of the loopback. Where `answering` returns None the connection is closed instead."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._started.result(60)[0]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "WireServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        started = self._started.result(60)
        started[1].call_soon_threadsafe(started[2].set)
        self._thread.join(10)

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024, limit=_LINE_LIMIT_BYTES)
        self._started.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stopping))
        await stopping.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while (request := await _read(reader)) is not None:
                response = await self._answering(request)
                if response is None:
                    break
                writer.write(
                    b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (response.status, len(response.body), response.body)
                )
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> WireRequest | None:
    """None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return WireRequest(path=first.split(" ")[1], headers=headers, body=body)

"""Two fast servers on loopback, in a process of their own: a substitute for SQS and a partner.

    python -m bench.servers      prints {"queue": port, "partner": port} and serves until its standard input ends

The substitute answers only SendMessageBatch and stores nothing: moto, which the tests use, handles some hundred
messages a second and would dominate what is measured. The partner answers 200 to everything.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial

PARTNER_ANSWER = b'{"taken":true}'


class KeepAlive(asyncio.Protocol):
    """HTTP/1.1 with Content-Length, as much of it as our own clients use."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._unread = bytearray()
        self._wanted = 0  # bytes, before it is worth looking
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) < self._wanted:
            return
        while (body := self._next_body()) is not None and self._transport is not None:
            content = self._answer(body)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            self._transport.write(head.encode() + content)

    def _next_body(self) -> bytes | None:
        begin = self._unread.find(b"\r\n\r\n") + 4
        if begin < 4:
            return None
        end = begin + _content_length(bytes(self._unread[:begin]))
        self._wanted = end if len(self._unread) < end else 0
        if self._wanted:
            return None
        body = bytes(self._unread[begin:end])
        del self._unread[:end]
        return body


def _content_length(head: bytes) -> int:
    place = head.lower().find(b"content-length:")
    return int(head[place + 15 :].partition(b"\r\n")[0]) if place >= 0 else 0


def taken(body: bytes) -> bytes:
    """The answer of SendMessageBatch: all entries succeeded."""
    entries = json.loads(body)["Entries"]
    return json.dumps({"Successful": [{"Id": entry["Id"], "MessageId": "0" * 36} for entry in entries]}).encode()


def _take_request(_body: bytes) -> bytes:
    return PARTNER_ANSWER


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ports = {}
    for name, answer in (("queue", taken), ("partner", _take_request)):
        server = await loop.create_server(partial(KeepAlive, answer), "127.0.0.1", 0, backlog=1024)
        ports[name] = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())

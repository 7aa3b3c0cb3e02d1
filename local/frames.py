"""JSON messages over a socket: four bytes of length (big-endian), then that many bytes."""

import json
import socket
import struct
from typing import Any

PAYLOAD_LIMIT_BYTES = 6 * 1024 * 1024  # of an invocation, each way: "Lambda quotas"
_LENGTH = struct.Struct(">I")


def write_frame(connection: socket.socket, message: dict[str, Any]) -> None:
    """Raises OSError when the other end is gone, TypeError for what JSON cannot say."""
    connection.sendall(encoded(message))


def encoded(message: dict[str, Any]) -> bytes:
    """The frame's bytes."""
    content = json.dumps(message).encode()
    return _LENGTH.pack(len(content)) + content


def read_frame(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, None when the other end closed. Raises TimeoutError as the socket is set."""
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    content = _exactly(connection, _LENGTH.unpack(head)[0])
    if content is None:
        return None
    message: dict[str, Any] = json.loads(content)
    return message


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        piece = connection.recv(min(count - len(received), 1 << 20))
        if not piece:
            return None
        received += piece
    return bytes(received)

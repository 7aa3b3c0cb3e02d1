"""The relay of `make invoke`: bytes both ways, ends passed on, a closed door noticed."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.relay import Relay, to_loopback, to_unix_socket

MANY = b"0123456789abcdef" * 65536


@pytest.fixture
def shouting() -> Iterator[socket.socket]:
    """A server on the loopback that reads to the end and answers in upper case, once."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield server


def _serve(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(_all_of(connection).upper())


def _all_of(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
    return bytes(received)


def _asked(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        return _all_of(connection)


def test_a_request_and_its_end_are_relayed_and_so_is_the_answer(shouting: socket.socket) -> None:
    with Relay("127.0.0.1", to_loopback(shouting.getsockname()[1])) as relay:
        assert _asked(relay.port, MANY) == MANY.upper()


def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        with Relay("127.0.0.1", to_unix_socket(path)) as relay:
            assert _asked(relay.port, b"who is there?") == b"WHO IS THERE?"


def test_without_a_server_behind_it_the_connection_ends(tmp_path: Path) -> None:
    with Relay("127.0.0.1", to_unix_socket(str(tmp_path / "nothing"))) as relay:
        assert _asked(relay.port, b"") == b""


def test_it_stops_listening(shouting: socket.socket) -> None:
    with Relay("127.0.0.1", to_loopback(shouting.getsockname()[1])) as relay:
        port = relay.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=60)

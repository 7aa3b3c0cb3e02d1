"""Unit tests are pure: whatever opens a socket here fails."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest


class SocketOpened(AssertionError):
    """A unit test tried to use the network."""


def _refused_here(original: Callable[..., Any]) -> Callable[..., Any]:
    """`original` for other threads: fixtures of other tests, such as a running stack, may live in this process."""
    here = threading.get_ident()

    def guarded(*arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == here:
            raise SocketOpened("unit tests use no sockets; move this test to tests/db, tests/handlers or tests/egress")
        return original(*arguments, **options)

    return guarded


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close Python's doors to the network for one test. libcurl has its own: no unit test drives pycurl."""
    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, _refused_here(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", _refused_here(socket.getaddrinfo))

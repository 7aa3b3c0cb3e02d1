"""Unit tests are pure: whatever opens a socket here fails."""

import socket
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")


class SocketOpened(AssertionError):
    """A unit test tried to use the network."""


def _refuse(*_: object, **__: object) -> NoReturn:
    raise SocketOpened("unit tests use no sockets; move this test to tests/db, tests/handlers or tests/egress")


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close Python's doors to the network for one test. libcurl has its own: no unit test drives pycurl."""
    monkeypatch.setattr(socket.socket, "connect", _refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", _refuse)
    monkeypatch.setattr(socket.socket, "bind", _refuse)
    monkeypatch.setattr(socket.socket, "sendto", _refuse)
    monkeypatch.setattr(socket, "getaddrinfo", _refuse)

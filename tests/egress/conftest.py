"""Fixtures of the egress tests: partners, a certificate authority, the real client."""

import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from domain.destinations import Timeouts
from domain.outcomes import Exchange, Headers
from egress import client as client_module
from egress.addresses import Guard
from egress.client import Client, OutboundRequest
from egress.tls import RequestTls
from tests.egress.authorities import Authority
from tests.egress.servers import Partner, Script, Server, stop_all

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
EVERY_PORT = range(1, 65536)


@pytest.fixture
def partner() -> Iterator[Callable[..., Partner]]:
    """Starts servers: `partner(script, tls=None, host="127.0.0.1")`; they stop after the test."""
    servers: list[Server] = []

    def start(script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Partner:
        servers.append(Server(script, tls=tls, host=host))
        return servers[-1].partner

    yield start
    stop_all(servers)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The tests' certificate authority; `authority.roots` is its CA bundle."""
    return Authority.new(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def client(authority: Authority) -> Iterator[Client]:
    """The real client. It may call loopback, any port, and trusts `authority`."""
    guard = Guard(allowed_private_cidrs=LOOPBACK, allowed_ports=EVERY_PORT)
    client = Client(guard, ca_bundle=str(authority.roots))
    yield client
    client.close()


class Clock:
    """The real clock, until a test puts it forward."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_seconds

    def put_forward(self, seconds: float) -> None:
        self._ahead_seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the client compares its deadlines with whenever something has happened."""
    clock = Clock()
    monkeypatch.setattr(client_module, "time", clock)
    return clock


@pytest.fixture
def send(client: Client) -> Callable[..., Exchange]:
    """Sends one request: `send(url, method="POST", headers=(), body=b"", timeouts=..., may_repeat=False, owner="",
    tls=None)`."""

    def one(
        url: str,
        *,
        method: str = "POST",
        headers: Headers = (),
        body: bytes = b"",
        timeouts: Timeouts | None = None,
        may_repeat: bool = False,
        owner: str = "",
        tls: RequestTls | None = None,
    ) -> Exchange:
        request = OutboundRequest(
            method=method,
            url=url,
            headers=headers,
            body=body,
            timeouts=timeouts or Timeouts(),
            may_repeat=may_repeat,
            owner=owner,
            tls=tls,
        )
        return client.send_all([request])[0]

    return one

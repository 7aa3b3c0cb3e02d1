"""The demo partner: says what it got, misbehaves on demand, and never shows a credential."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.programs.authority import Authority
from local.errors import LocalError
from local.partner import Partner


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def partner(lines: list[str]) -> Iterator[Partner]:
    partner = Partner(port=0, report=lines.append)
    partner.start()
    yield partner
    partner.stop()


def call(partner: Partner, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", partner.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None
    finally:
        connection.close()


def test_a_silent_caller_does_not_hold_up_the_others_of_a_partner_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("partner", ["partner.example.com"])
    partner = Partner(port=0, report=lambda _: None, tls=certificate.server())
    partner.start()
    try:
        with (
            socket.create_connection(("127.0.0.1", partner.port)),  # it says nothing, not even hello
            socket.create_connection(("127.0.0.1", partner.port), timeout=60) as plain,
            authority.client().wrap_socket(plain, server_hostname="partner.example.com") as caller,
        ):
            caller.sendall(b"GET /ip HTTP/1.1\r\nHost: partner.example.com\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: caller.recv(4096), b"")).endswith(b"\r\n\r\n127.0.0.1\n")
    finally:
        partner.stop()


def test_an_order_is_taken_and_shown_on_one_line(partner: Partner, lines: list[str]) -> None:
    headers = {"Authorization": "Bearer secret", "Idempotency-Key": "k1"}
    assert call(partner, "POST", "/orders?token=secret", b"x=1", **headers) == (
        201,
        {"received": {"method": "POST", "path": "/orders", "body": "x=1"}},
    )
    assert lines == ["partner: 127.0.0.1 POST /orders auth=Bearer key=k1 -> 201"]


def test_flaky_recovers_per_key(partner: Partner) -> None:
    statuses = [
        call(partner, "PUT", "/flaky?failures=1", b"", **{"Idempotency-Key": key})[0]
        for key in ("a", "a", "b", "b", "b")
    ]
    assert statuses == [503, 200, 503, 200, 200]


def test_any_status_can_be_had(partner: Partner) -> None:
    assert call(partner, "GET", "/status/418") == (418, {"status": 418})
    assert call(partner, "DELETE", "/status/204") == (204, None)
    assert call(partner, "GET", "/status/999")[0] == 404


def test_it_can_be_slow(partner: Partner) -> None:
    assert call(partner, "GET", "/slow?seconds=0.01") == (200, {"slept_seconds": 0.01})


def test_it_can_hang_up(partner: Partner, lines: list[str]) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        call(partner, "POST", "/hang-up")
    assert lines == ["partner: 127.0.0.1 POST /hang-up auth=none key=- -> hung up"]


def test_elsewhere_it_says_where_to_go(partner: Partner) -> None:
    status, content = call(partner, "GET", "/")
    assert status == 404
    assert "/orders" in content["detail"]


def test_an_event_needs_no_path(partner: Partner) -> None:
    """Events go to the base URL of `events_to` itself."""
    assert call(partner, "POST", "/", b"{}") == (201, {"received": {"method": "POST", "path": "/", "body": "{}"}})
    assert call(partner, "GET", "/")[0] == 404


def test_a_head_request_gets_no_body(partner: Partner) -> None:
    assert call(partner, "HEAD", "/orders") == (201, None)


def test_a_busy_port_is_one_clear_line(partner: Partner) -> None:
    with pytest.raises(LocalError, match=rf"^127\.0\.0\.1:{partner.port} cannot be used"):
        Partner(port=partner.port)


def test_the_echo_returns_the_callers_address_and_does_not_report_it(partner: Partner, lines: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", partner.port, timeout=60)
    connection.request("GET", "/ip")
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type"), response.read()) == (200, "text/plain", b"127.0.0.1\n")
    connection.close()
    assert (lines, list(partner.calls)) == ([], [])

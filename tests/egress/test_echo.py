"""The echo service is asked over the way of deliveries; whatever it does is a sighting or a reason for none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from domain.checks import NotObserved, Observed
from egress import echo
from egress.addresses import Guard
from egress.client import Client
from egress.echo import observe
from tests.egress.authorities import Authority
from tests.egress.servers import Line, Partner
from tests.support.partners import answers

type StartPartner = Callable[..., Partner]


def reason(client: Client, url: str) -> str:
    found = observe(client, url)
    assert isinstance(found, NotObserved), found
    return found.reason


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"203.0.113.10", "203.0.113.10"),
        (b"203.0.113.10\n", "203.0.113.10"),  # as checkip.amazonaws.com gives it
        (b" \r\n203.0.113.10\t \r\n", "203.0.113.10"),
        (b"2001:0db8:0:0::A\n", "2001:db8::a"),
        (b"::ffff:203.0.113.10", "203.0.113.10"),  # as a server that listens on IPv6 for both gives it
    ],
)
def test_one_address_in_plain_text_is_seen(partner: StartPartner, client: Client, body: bytes, address: str) -> None:
    there = partner(answers(200, body))
    assert observe(client, there.url("/ip")) == Observed(address=address)
    assert there.requests[0].startswith(b"GET /ip HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"no address",
        b"203.0.113.10 203.0.113.11",
        b"203.0.113.10, 10.0.0.1",
        b"203.0.113.010",
        b"203.0.113.10/32",
        b"fe80::1%eth0",
        b"::1%<script>alert(1)</script>",
        b"3405803786",
        b'{"ip": "203.0.113.10"}',
        b"<html><body>203.0.113.10</body></html>",
        "\uff12\uff10\uff13.0.113.10".encode(),
        b"\xff\xfe",
        b" " * 100 + b"203.0.113.10",
        b"x" * 5_000_000,
    ],
)
def test_anything_else_is_not_believed_and_not_repeated(partner: StartPartner, client: Client, body: bytes) -> None:
    found = reason(client, partner(answers(200, body)).url("/"))
    assert found == "the echo service answered something that is not one address in plain text"


@pytest.mark.parametrize("status", [204, 301, 404, 500, 503])
def test_another_status_than_200_is_no_sighting(partner: StartPartner, client: Client, status: int) -> None:
    body = b"" if status == 204 else b"203.0.113.10"
    assert f"status {status}" in reason(client, partner(answers(status, body, "Location: /ip")).url("/"))


def test_every_request_uses_a_new_connection(partner: StartPartner, client: Client) -> None:
    there = partner(answers(200, b"203.0.113.10"))
    for _ in range(3):
        observe(client, there.url("/"))
    assert (there.connections, len(there.requests)) == (3, 3)


def test_a_service_that_is_gone_is_no_sighting(client: Client) -> None:
    assert "no answer" in reason(client, "http://127.0.0.1:1/")


def test_a_service_that_says_nothing_is_waited_for_as_long_as_stated(
    partner: StartPartner, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "TIMEOUTS", replace(echo.TIMEOUTS, first_byte_seconds=0.2, total_seconds=0.3))

    def hangs(line: Line) -> None:
        line.read_request()
        line.hang()

    assert reason(client, partner(hangs).url("/")) == "the echo service gave no answer: no answer within 0.2 s"


def test_a_service_that_cannot_prove_who_it_is_gets_no_request(
    partner: StartPartner, client: Client, authority: Authority, tmp_path: Path
) -> None:
    impostor = partner(answers(200, b"203.0.113.10"), tls=Authority.new(tmp_path).context("127.0.0.1"))
    assert "no answer" in reason(client, impostor.url("/"))
    assert impostor.requests == []
    proper = partner(answers(200, b"203.0.113.10"), tls=authority.context("127.0.0.1"))
    assert observe(client, proper.url("/")) == Observed(address="203.0.113.10")


def test_the_guard_holds_for_the_echo_service_too(partner: StartPartner, authority: Authority) -> None:
    there = partner(answers(200, b"203.0.113.10"))
    client = Client(Guard(allowed_ports=[there.port]), ca_bundle=str(authority.roots))
    assert "loopback" in reason(client, there.url("/"))
    assert "http" in reason(client, "")
    assert there.connections == 0
    client.close()

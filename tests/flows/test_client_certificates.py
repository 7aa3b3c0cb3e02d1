"""Destinations with client certificates: each shows its own, the one that it has now, and over its own connections."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from db.destinations import options_json
from domain.certificates import ClientCertificate, TlsOptions
from domain.destinations import Destination
from domain.options import PLAIN
from egress.credentials import seal_certificate
from flows.accept import accept
from flows.attempt import attempt_due
from tests.egress.authorities import Authority
from tests.egress.servers import Line, Partner, Server, stop_all
from tests.support.gateway import Gateway

type StartPartner = Callable[..., Partner]


@pytest.fixture
def tls_partner() -> Iterator[StartPartner]:
    """Starts servers with TLS: `tls_partner(script, context)`."""
    servers: list[Server] = []

    def start(script: Callable[[Line], None], tls: ssl.SSLContext) -> Partner:
        servers.append(Server(script, tls=tls))
        return servers[-1].partner

    yield start
    stop_all(servers)


def names_the_client(line: Line) -> None:
    """Answers with the number of the connection and the client's name."""
    while line.read_request():
        assert isinstance(line.connection, ssl.SSLSocket)
        der = line.connection.getpeercert(binary_form=True)
        assert der is not None
        body = f"{line.number} {x509.load_der_x509_certificate(der).subject.rfc4514_string()}".encode()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def show(gateway: Gateway, made: Destination, authority: Authority, name: str) -> None:
    """From now on the destination shows a new certificate of that name."""
    chain, key = authority.client(name)
    sealed = seal_certificate(
        ClientCertificate(chain=chain, key=key), destination_id=made.destination_id, key=gateway.services.seal_key
    )
    options = options_json(replace(PLAIN, tls=TlsOptions(ca=authority.roots.read_text())))
    gateway.sql(
        "UPDATE destination SET sealed_certificate = %s, options = %s WHERE destination_id = %s",
        sealed,
        options,
        made.destination_id,
    )


def answers_to(gateway: Gateway, destination: str) -> tuple[str, str]:
    """A GET, which may use an open connection; the connection's number, and whom the server saw."""
    new = gateway.new(destination=destination, method="GET", body=b"")
    delivery_id = accept(new, wait_seconds=None, services=gateway.services).delivery.delivery_id
    attempt_due(gateway.queue.take(), services=gateway.services)
    (attempt,) = gateway.sql("SELECT * FROM attempt WHERE delivery_id = %s", delivery_id)
    number, _, name = attempt["response_body"].decode().partition(" ")
    return number, name


def test_two_destinations_of_one_host_show_their_own_and_a_changed_one_is_shown_at_once(
    gateway: Gateway, tls_partner: StartPartner, tmp_path: Path
) -> None:
    authority = Authority.new(tmp_path)
    there = tls_partner(names_the_client, authority.insisting("127.0.0.1", clients=authority))
    made = {name: gateway.destination(there.url(), name=name) for name in ("ours", "theirs")}
    for name, destination in made.items():
        show(gateway, destination, authority, name)
    seen = [answers_to(gateway, name) for name in ("ours", "theirs", "ours", "theirs")]
    assert [name for _, name in seen] == ["CN=ours", "CN=theirs", "CN=ours", "CN=theirs"]
    assert seen[0] == seen[2]  # each has a connection of its own, which stays
    assert seen[1] == seen[3]
    show(gateway, made["ours"], authority, "renewed")
    changed = answers_to(gateway, "ours")
    assert changed[1] == "CN=renewed"
    assert changed[0] not in {number for number, _ in seen}
    assert answers_to(gateway, "theirs") == seen[1]


@pytest.mark.parametrize("column", ["sealed_certificate", "sealed_credentials"])
def test_a_certificate_that_does_not_open_sends_nothing(gateway: Gateway, column: str, tmp_path: Path) -> None:
    """Nor does one that was moved to where credentials are."""
    made = gateway.destination("https://127.0.0.1:1/")
    show(gateway, made, Authority.new(tmp_path), "ours")
    broken = {
        "sealed_certificate": "UPDATE destination SET sealed_certificate = decode('00', 'hex')",
        "sealed_credentials": "UPDATE destination SET auth_type = 'bearer', sealed_credentials = sealed_certificate",
    }
    gateway.sql(broken[column])
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    attempt_due(gateway.queue.take(), services=gateway.services)
    (attempt,) = gateway.attempts()
    assert (attempt["outcome"], attempt["reason"]) == (
        "unreachable",
        "the destination's credentials could not be unsealed; nothing was sent",
    )

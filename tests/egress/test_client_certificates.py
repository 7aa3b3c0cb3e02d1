"""Client certificates, private roots and pins, with servers that insist on them."""

import base64
import hashlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.certificates import ClientCertificate, TlsOptions, TlsVersion
from domain.outcomes import Answered, Exchange, Unreachable
from egress.tls import RequestTls
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Line, Partner, says

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def names_the_client(line: Line) -> None:
    """Answers each request with the common name of the certificate that the client showed, or "nobody"."""
    while line.read_request():
        assert isinstance(line.connection, ssl.SSLSocket)
        der = line.connection.getpeercert(binary_form=True)
        name = x509.load_der_x509_certificate(der).subject.rfc4514_string() if der else "nobody"
        line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}".encode())


def tls_with(certificate: tuple[str, str] | None = None, **options: Any) -> RequestTls:
    chain, key = certificate or (None, None)
    return RequestTls(
        options=replace(TlsOptions(), **options),
        certificate=ClientCertificate(chain=chain, key=key) if chain and key else None,
    )


def spki_pin(there: Partner) -> str:
    """The pin of the certificate that a server shows."""
    with socket.create_connection(("127.0.0.1", there.port)) as connection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(connection) as encrypted:
            der = encrypted.getpeercert(binary_form=True)
    assert der is not None
    key = x509.load_der_x509_certificate(der).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256/{base64.b64encode(hashlib.sha256(info).digest()).decode()}"


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that neither the client nor the servers trust."""
    return Authority.new(tmp_path_factory.mktemp("strangers"), name="strangers")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_insists_on_a_certificate_gets_it(
    partner: StartPartner, send: Send, authority: Authority, version: ssl.TLSVersion
) -> None:
    there = partner(names_the_client, tls=authority.insisting("127.0.0.1", clients=authority, version=version))
    outcome = send(there.url(), body=b"x", tls=tls_with(authority.client("acme"))).outcome
    assert isinstance(outcome, Answered)
    assert outcome.body == b"CN=acme"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_certificate_the_server_refuses_us_and_that_is_unreachable(
    partner: StartPartner, send: Send, authority: Authority, version: ssl.TLSVersion
) -> None:
    there = partner(names_the_client, tls=authority.insisting("127.0.0.1", clients=authority, version=version))
    outcome = send(there.url(), body=b"pay").outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith("TLS: the partner refused us: ")
    assert "it showed CN=partner, issued by CN=tests, valid " in outcome.reason
    assert there.requests == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_the_server_does_not_trust_is_unreachable_too(
    partner: StartPartner, send: Send, authority: Authority, strangers: Authority, version: ssl.TLSVersion
) -> None:
    there = partner(names_the_client, tls=authority.insisting("127.0.0.1", clients=authority, version=version))
    outcome = send(there.url(), body=b"pay", tls=tls_with(strangers.client("acme"))).outcome
    assert isinstance(outcome, Unreachable)
    assert "the partner refused us: unknown CA" in outcome.reason
    assert there.requests == []


def test_a_server_that_closes_at_once_instead_is_unreachable_and_what_it_asked_for_is_said(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    """By the time that we send, it has closed: nothing arrived."""

    def closes(line: Line) -> None:
        line.reset()

    context = authority.insisting("127.0.0.1", clients=authority, version=ssl.TLSVersion.TLSv1_2)
    context.verify_mode = ssl.CERT_OPTIONAL
    there = partner(closes, tls=context)
    outcomes = [send(there.url(), body=b"pay").outcome for _ in range(20)]
    reasons = {outcome.reason for outcome in outcomes if isinstance(outcome, Unreachable)}
    assert all("after a handshake in which the partner asked for a certificate" in reason for reason in reasons)
    assert there.requests == []


def test_the_certificate_that_we_refuse_is_described(partner: StartPartner, send: Send, authority: Authority) -> None:
    outcome = send(partner(says(OK), tls=authority.context("127.0.0.1", expired=True)).url()).outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith("TLS: we refused the partner's certificate: ")
    assert "it showed CN=partner, issued by CN=tests, valid " in outcome.reason
    assert "SHA-256 " in outcome.reason


def test_private_roots_replace_the_public_ones(
    partner: StartPartner, send: Send, authority: Authority, strangers: Authority
) -> None:
    """The client's own roots are those of `authority`."""
    private, public = (partner(says(OK), tls=roots.context("127.0.0.1")) for roots in (strangers, authority))
    tls = tls_with(ca=strangers.roots.read_text())
    assert isinstance(send(private.url(), tls=tls).outcome, Answered)
    refused = send(public.url(), tls=tls).outcome
    assert isinstance(refused, Unreachable)
    assert "we refused the partner's certificate" in refused.reason
    assert isinstance(send(public.url()).outcome, Answered)


def test_a_pin_is_asked_for_beside_the_roots(
    partner: StartPartner, send: Send, authority: Authority, strangers: Authority
) -> None:
    there, other = (partner(says(OK), tls=authority.context("127.0.0.1")) for _ in range(2))
    untrusted = partner(says(OK), tls=strangers.context("127.0.0.1"))
    pin, pin_of_other = spki_pin(there), spki_pin(other)
    assert isinstance(send(there.url(), tls=tls_with(pins=(pin,))).outcome, Answered)
    assert isinstance(send(there.url(), tls=tls_with(pins=(pin_of_other, pin))).outcome, Answered)
    refused = send(there.url(), body=b"pay", tls=tls_with(pins=(pin_of_other,))).outcome
    assert isinstance(refused, Unreachable)
    assert "we refused the partner's certificate: " in refused.reason
    assert "it showed CN=partner" in refused.reason
    assert there.requests == [there.requests[0]] * 2
    assert isinstance(send(untrusted.url(), tls=tls_with(pins=(spki_pin(untrusted),))).outcome, Unreachable)


def test_a_minimum_version_is_held(partner: StartPartner, send: Send, authority: Authority) -> None:
    context = authority.context("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    there = partner(says(OK), tls=context)
    assert isinstance(send(there.url()).outcome, Answered)
    outcome = send(there.url(), tls=tls_with(minimum_version=TlsVersion.TLS_1_3)).outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason == "TLS: the partner refused us: protocol version"


@pytest.mark.parametrize("version", VERSIONS)
def test_no_connection_or_session_is_shared_between_certificates(
    partner: StartPartner, send: Send, authority: Authority, version: ssl.TLSVersion
) -> None:
    """Even of one owner; and one without a certificate never goes over a connection that was made with one."""
    context = authority.insisting("127.0.0.1", clients=authority, version=version)
    context.verify_mode = ssl.CERT_OPTIONAL
    there = partner(names_the_client, tls=context)
    certificates = {name: tls_with(authority.client(name)) for name in ("one", "two")}

    def seen(name: str | None) -> bytes:
        tls = None if name is None else certificates[name]
        outcome = send(there.url(), method="GET", may_repeat=True, owner="same", tls=tls).outcome
        assert isinstance(outcome, Answered), outcome
        return outcome.body

    expected = {"one": b"CN=one", "two": b"CN=two", None: b"nobody"}
    for name in ("one", "two", None, "one", None, "two", "two", "one", None):
        assert seen(name) == expected[name]


def test_a_new_key_for_the_same_name_is_used_at_once(partner: StartPartner, send: Send, authority: Authority) -> None:
    def serial(line: Line) -> None:
        while line.read_request():
            assert isinstance(line.connection, ssl.SSLSocket)
            der = line.connection.getpeercert(binary_form=True)
            assert der is not None
            number = str(x509.load_der_x509_certificate(der).serial_number).encode()
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(number), number))

    there = partner(serial, tls=authority.insisting("127.0.0.1", clients=authority))
    seen = []
    for certificate in (authority.client("acme"), authority.client("acme")):
        for _ in range(2):
            outcome = send(there.url(), method="GET", may_repeat=True, owner="acme", tls=tls_with(certificate)).outcome
            assert isinstance(outcome, Answered)
            seen.append(outcome.body)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert there.connections == 2


def test_a_key_that_is_not_the_certificate_s_is_refused_by_our_own_side(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    """The door refuses it; whatever got past it sends nothing."""
    there = partner(names_the_client, tls=authority.insisting("127.0.0.1", clients=authority))
    chain, _ = authority.client("acme")
    _, key = authority.client("acme")
    outcome = send(there.url(), body=b"pay", tls=tls_with((chain, key))).outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith("TLS: ")
    assert key not in outcome.reason


def test_nothing_of_a_certificate_is_ever_a_file(
    partner: StartPartner, send: Send, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory for temporary files that cannot be written to changes nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    there = partner(names_the_client, tls=authority.insisting("127.0.0.1", clients=authority))
    assert isinstance(send(there.url(), tls=tls_with(authority.client("acme"))).outcome, Answered)

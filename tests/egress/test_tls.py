"""TLS: chain and host name are always verified, and a failure says that nothing was sent."""

import ssl
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from domain.outcomes import Answered, Exchange, Unknown, Unreachable
from egress.addresses import Guard
from egress.client import Client, OutboundRequest
from runtime.settings import SettingsError
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Line, Partner, says, says_and_closes

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]


def test_an_answer_without_a_length_and_without_a_farewell_is_an_answer_that_may_be_cut(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    there = partner(says_and_closes(b"HTTP/1.1 201 Made\r\nX-A: 1\r\n\r\nall"), tls=authority.context("127.0.0.1"))
    assert send(there.url()).outcome == Answered(status=201, headers=(("X-A", "1"),), body=b"all", complete=False)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_an_answer_that_falls_short_of_what_it_said_is_none(
    partner: StartPartner, send: Send, authority: Authority, answer: bytes
) -> None:
    there = partner(says_and_closes(answer), tls=authority.context("127.0.0.1"))
    assert isinstance(send(there.url()).outcome, Unknown)


def test_a_certificate_for_the_name_and_under_the_roots_is_accepted(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    there = partner(says(OK), tls=authority.context("localhost"))
    exchange = send(there.url(host="localhost"))
    assert isinstance(exchange.outcome, Answered)
    assert exchange.timings.connect_ms is not None
    assert exchange.timings.tls_ms is not None
    assert exchange.timings.connect_ms < exchange.timings.tls_ms


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("expired", "expired"),
        ("self-signed", "self-signed"),
        ("wrong host", "no alternative certificate subject name matches"),
        ("foreign authority", "unable to get local issuer"),
    ],
)
def test_a_certificate_at_fault_makes_the_partner_unreachable(
    partner: StartPartner, send: Send, authority: Authority, tmp_path: Path, fault: str, words: str
) -> None:
    contexts = {
        "expired": lambda: authority.context("127.0.0.1", expired=True),
        "self-signed": lambda: authority.context("127.0.0.1", self_signed=True),
        "wrong host": lambda: authority.context("elsewhere.example"),
        "foreign authority": lambda: Authority.new(tmp_path, name="strangers").context("127.0.0.1"),
    }
    there = partner(says(OK), tls=contexts[fault]())
    exchange = send(there.url(), body=b"secret words")
    assert isinstance(exchange.outcome, Unreachable)
    assert exchange.outcome.reason.startswith("TLS: ")
    assert words in exchange.outcome.reason
    assert exchange.timings.connect_ms is not None
    assert exchange.remote_address == "127.0.0.1"
    assert there.requests == []


def test_a_partner_that_speaks_no_tls_is_unreachable(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    outcome = send(f"https://127.0.0.1:{partner(script).port}/").outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith("TLS: ")


def test_a_partner_that_hangs_up_during_the_handshake_is_unreachable(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.connection.recv(10)
        line.reset()

    outcome = send(f"https://127.0.0.1:{partner(script).port}/", body=b"x").outcome
    assert isinstance(outcome, Unreachable)


def test_old_protocol_versions_are_not_spoken(partner: StartPartner, send: Send, authority: Authority) -> None:
    context = authority.context("127.0.0.1")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    there = partner(says(OK), tls=context)
    outcome = send(there.url()).outcome
    assert isinstance(outcome, Unreachable)
    assert outcome.reason.startswith("TLS: ")
    assert there.requests == []


def test_an_answer_cut_off_without_a_tls_goodbye_is_not_taken_for_complete(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    there = partner(
        says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), tls=authority.context("127.0.0.1")
    )
    assert not isinstance(send(there.url()).outcome, Answered)


def test_the_system_s_roots_do_not_know_the_tests_authority(partner: StartPartner, authority: Authority) -> None:
    there = partner(says(OK), tls=authority.context("127.0.0.1"))
    guard = Guard(allowed_private_cidrs=[ip_network("127.0.0.0/8")], allowed_ports=[there.port])
    outcome = Client(guard).send_all([OutboundRequest(method="GET", url=there.url())])[0].outcome
    assert isinstance(outcome, Unreachable)


def test_a_ca_bundle_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match="CA_BUNDLE must be a file"):
        Client(Guard(), ca_bundle="/nowhere/roots.pem")

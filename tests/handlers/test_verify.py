"""POST /v1/destinations/{destination}/verify, against real servers that end it in every way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.outcomes import Exchange, Refused, Unreachable
from domain.probe import ProbeResult, probe_result
from flows.probes import REMEMBERED_PROBES, Probes
from handlers import wiring
from tests.egress.authorities import Authority
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions
from tests.support.gateway import START
from tests.support.partners import answers, takes_and_closes

type StartPartner = Callable[[Script], Partner]

VERIFY = "/v1/destinations/partner/verify"


def verify(api: Api) -> Any:
    answer = api.call("POST", VERIFY)
    assert answer.status == 200, answer.body
    return answer.json


def test_one_harmless_request_is_sent_with_the_credentials_and_nothing_is_recorded(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(204, b""))
    api.destination(server.url("/v1"), auth={"type": "bearer", "token": "of-a-bank"})
    verified = verify(api)
    (request,) = server.requests
    assert request.startswith(b"OPTIONS /v1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer of-a-bank" in request.split(b"\r\n")
    assert (verified["result"], verified["partner_status"], verified["reason"]) == ("answered", 204, None)
    assert (verified["method"], verified["remote_address"]) == ("OPTIONS", "127.0.0.1")
    assert functions.attempts() == functions.sql("SELECT delivery_id FROM delivery") == []
    assert functions.queue.take() == []
    assert "of-a-bank" not in functions.log.getvalue() + str(verified)


def test_a_path_that_the_destination_says_is_asked_for_with_get(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    shown = api.destination(server.url("/v1"), verify={"path": "/health"})
    assert shown["verify"] == {"path": "/health"}
    assert verify(api)["method"] == "GET"
    assert server.requests[0].startswith(b"GET /v1/health HTTP/1.1\r\n")


@pytest.mark.parametrize(("status", "result"), [(401, "denied"), (403, "denied"), (407, "denied"), (404, "answered")])
def test_an_answer_that_denies_is_told_from_the_others(
    api: Api, partner: StartPartner, status: int, result: str
) -> None:
    api.destination(partner(answers(status)).url())
    verified = verify(api)
    assert (verified["result"], verified["partner_status"]) == (result, status)


def test_a_partner_that_closes_has_not_answered(api: Api, partner: StartPartner) -> None:
    api.destination(partner(takes_and_closes).url())
    assert (verify(api)["result"], verify_reason(api)) == ("no_answer", "too-soon")


def verify_reason(api: Api) -> str:
    """A second one, a moment after the first."""
    again = api.call("POST", VERIFY)
    assert (again.status, int(again.header("Retry-After") or 0) > 0) == (429, True)
    return again.kind


def test_no_connection_and_no_name_are_told_apart(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    url = server.url().replace("127.0.0.1", "127.23.45.67")
    api.destination(url)
    assert verify(api)["result"] == "not_connected"


def test_plain_text_behind_https_is_a_failure_of_tls(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url().replace("http://", "https://"))
    assert verify(api)["result"] == "tls_failed"


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        ("bank.example does not resolve", ProbeResult.NAME_NOT_RESOLVED),
        ("the name servers do not answer for bank.example", ProbeResult.NAME_NOT_RESOLVED),
        ("no connection within 5 s", ProbeResult.NOT_CONNECTED),
        ("no connection: Connection refused", ProbeResult.NOT_CONNECTED),
        ("TLS: we refused the partner's certificate: it has expired", ProbeResult.TLS_REFUSED_BY_US),
        ("TLS: the partner refused us: a certificate is required", ProbeResult.TLS_REFUSED_BY_PARTNER),
        ("TLS: wrong version number", ProbeResult.TLS_FAILED),
        ("the destination's credentials could not be unsealed; nothing was sent", ProbeResult.NOT_SENT),
    ],
)
def test_each_reason_has_its_result(reason: str, result: ProbeResult) -> None:
    assert probe_result(Exchange(outcome=Unreachable(reason=reason))) is result


def test_what_the_guard_refuses_is_not_sent() -> None:
    assert probe_result(Exchange(outcome=Refused(reason="10.0.0.1 is private use"))) is ProbeResult.NOT_SENT


def test_a_partner_that_we_do_not_trust_is_told_with_its_certificate(
    api: Api, partner_over_tls: Callable[..., Partner], tmp_path: Path
) -> None:
    """It is one of another authority than the roots that are trusted here."""
    stranger = Authority.new(tmp_path)
    server = partner_over_tls(answers(200), stranger.context("localhost"))
    api.destination(server.url().replace("http://", "https://").replace("127.0.0.1", "localhost"))
    verified = verify(api)
    assert verified["result"] == "tls_refused_by_us"
    assert "it showed" in verified["reason"]


@pytest.fixture
def partner_over_tls() -> Any:
    from tests.egress.servers import Server, stop_all

    servers: list[Server] = []

    def start(script: Script, context: Any) -> Partner:
        servers.append(Server(script, tls=context))
        return servers[-1].partner

    yield start
    stop_all(servers)


def test_a_paused_destination_may_be_verified(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url())
    api.call("POST", "/v1/destinations/partner/disable")
    assert verify(api)["result"] == "answered"


def test_a_destination_is_asked_again_after_a_while(
    api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    verify(api)
    services = wiring.api()
    later = replace(services, clock=lambda: services.clock() + timedelta(seconds=5))
    with monkeypatch.context() as changed:
        changed.setattr(wiring, "api", lambda: later)
        verify(api)
    assert len(server.requests) == 2


def test_only_who_manages_verifies_what_is_there(functions: Functions, api: Api) -> None:
    made = api.destination("https://bank.example")
    assert api.call("POST", "/v1/destinations/nobody/verify").kind == "not-found"
    assert api.call("POST", f"/v1/destinations/{NOBODYS_ID}/verify").kind == "not-found"
    theirs = functions.other_api.call("POST", f"/v1/destinations/{made['destination_id']}/verify")
    assert theirs.kind == "not-found"
    assert functions.api_with("read", "send").call("POST", VERIFY).kind == "forbidden"
    assert api.call("POST", VERIFY, body=b"{}").kind == "malformed-request"


def test_of_too_many_the_oldest_is_forgotten() -> None:
    probes = Probes()
    for number in range(REMEMBERED_PROBES + 1):
        assert probes.seconds_left(f"destination {number}", now=START, apart_seconds=5) == 0  # type: ignore[arg-type]
    assert probes.seconds_left("destination 1", now=START, apart_seconds=5) == 5  # type: ignore[arg-type]
    assert probes.seconds_left("destination 0", now=START, apart_seconds=5) == 0  # type: ignore[arg-type]

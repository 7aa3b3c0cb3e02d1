"""POST /v1/destinations/{destination}/verify, against real servers that end it in every way."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.outcomes import FailedStep, Unreachable
from domain.probe import ProbeResult, probe_result
from flows.probes import REMEMBERED_PROBES, Probes
from handlers import wiring
from runtime.settings import EgressAddress
from tests.egress.authorities import Authority
from tests.egress.servers import Line, Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions
from tests.support.gateway import FIXED_ADDRESS, START
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
    assert again.header("RateLimit-Policy") == '"verify";q=1;w=5'
    assert again.header("RateLimit") == f'"verify";r=0;t={again.header("Retry-After")}'
    return again.kind


def test_no_connection_and_no_name_are_told_apart(api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    url = server.url().replace("127.0.0.1", "127.23.45.67")
    api.destination(url)
    assert verify(api)["result"] == "not_connected"


def test_plain_text_behind_https_is_a_failure_of_tls(api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url().replace("http://", "https://"))
    assert verify(api)["result"] == "tls_failed"


@pytest.mark.parametrize("step", FailedStep)
def test_each_step_that_fails_has_its_result_whatever_the_words(step: FailedStep) -> None:
    found = probe_result(Unreachable(reason="in other words", at=step))
    assert found is not ProbeResult.NOT_SENT
    assert sum(probe_result(Unreachable(reason="", at=other)) is found for other in FailedStep) == 1


def test_a_name_that_does_not_resolve_and_one_whose_lookup_takes_too_long_are_one_result(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination("https://no-such-partner.invalid")
    found = verify(api)
    assert (found["result"], found["remote_address"], found["egress_address"]) == ("name_not_resolved", None, None)
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(60) and [])
    timeouts = {"connect_seconds": 0.3, "first_byte_seconds": 0.3, "total_seconds": 0.3}
    slow = {"name": "slow", "base_url": "https://b.example", "timeouts": timeouts}
    assert api.post("/v1/destinations", slow).status == 201
    late = api.call("POST", "/v1/destinations/slow/verify").json
    released.set()
    assert (late["result"], late["reason"]) == ("name_not_resolved", "b.example did not resolve in time")


def test_what_the_guard_refuses_is_told_from_what_has_no_credentials(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(answers(200))
    api.destination(there.url(), auth={"type": "bearer", "token": "of-a-bank"})
    functions.sql("UPDATE destination SET sealed_credentials = decode('00', 'hex')")
    assert verify(api)["result"] == "credentials_unusable"
    assert there.requests == []
    asked = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked)
    assert api.post("/v1/destinations", {"name": "inside", "base_url": "https://inside.example"}).status == 201
    found = api.call("POST", "/v1/destinations/inside/verify").json
    assert (found["result"], found["egress_address"]) == ("refused_by_guard", None)
    assert found["reason"] == "inside.example: 10.0.0.1 is private use (RFC 1918)"


def test_where_nothing_is_connected_it_says_what_it_tried_and_from_where(
    api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination(partner(answers(200)).url().replace("127.0.0.1", "127.23.45.67"))
    fixed = replace(wiring.api(), egress_addresses=(EgressAddress(availability_zone="a", address=FIXED_ADDRESS),))
    with monkeypatch.context() as changed:
        changed.setattr(wiring, "api", lambda: fixed)
        found = verify(api)
    assert (found["result"], found["remote_address"]) == ("not_connected", "127.23.45.67")
    assert found["egress_address"] == FIXED_ADDRESS


def test_each_has_a_connection_of_its_own_and_no_idempotency_key(api: Api, partner: StartPartner) -> None:
    """One that stood before says nothing about whether the partner lets us in now."""
    connections: list[Line] = []

    def keeps_open(line: Line) -> None:
        connections.append(line)
        while line.read_request():
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = partner(keeps_open)
    api.destination(server.url(), guarantee="at_least_once")
    assert api.call("GET", "/v1/via/partner/a").status == 200
    assert api.call("GET", "/v1/via/partner/b").status == 200
    assert len(connections) == 1
    assert verify(api)["result"] == "answered"
    assert len(connections) == 2
    assert b"idempotency-key" not in server.requests[-1].lower()


def test_it_is_an_act_in_the_log(functions: Functions, api: Api, partner: StartPartner) -> None:
    made = api.destination(partner(answers(403)).url())
    verify(api)
    acts = [json.loads(line) for line in functions.log.getvalue().splitlines() if '"destination.verified"' in line]
    assert [(act["on"], act["details"]) for act in acts] == [(made["destination_id"], {"result": "denied"})]
    assert acts[0]["by"]


def token_endpoint(*names: str, status: int = 200) -> Script:
    """Answers with one of these after the other, the last one from then on."""
    left = list(names)

    def script(line: Line) -> None:
        while line.read_request():
            name = left.pop(0) if len(left) > 1 else left[0]
            body = json.dumps({"access_token": name, "token_type": "Bearer", "expires_in": 300}).encode()
            line.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    return script


def takes_only(token: bytes) -> Script:
    def script(line: Line) -> None:
        while request := line.read_request():
            status = b"204 OK" if b"Bearer " + token in request else b"401 Who"
            line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)

    return script


def oauth(tokens: Partner) -> dict[str, Any]:
    return {"type": "oauth2", "token_url": tokens.url("/token"), "client_id": "acme", "client_secret": "of-a-client"}


def test_a_token_that_the_partner_no_longer_takes_is_replaced(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    tokens, there = partner(token_endpoint("first", "second")), partner(takes_only(b"second"))
    api.destination(there.url(), auth=oauth(tokens))
    assert verify(api)["result"] == "denied"  # it was fetched for this request, so no other is asked for
    wiring.api().probes._at.clear()  # as after a while
    assert verify(api)["result"] == "answered"
    assert len(tokens.requests) == 2


def test_a_token_endpoint_that_refuses_is_no_fault_of_the_partners(api: Api, partner: StartPartner) -> None:
    there = partner(answers(200))
    api.destination(there.url(), auth=oauth(partner(token_endpoint("none", status=400))))
    found = verify(api)
    assert (found["result"], found["remote_address"]) == ("no_access_token", None)
    assert there.requests == []


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
    shown = verified["partner_certificate"]
    assert (shown["subject"], shown["issuer"]) == ("CN=partner", "CN=tests")
    assert len(bytes.fromhex(shown["sha256"])) == 32


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

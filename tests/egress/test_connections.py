"""Connections: to checked addresses only, kept for what may repeat, and never the cause of a second sending."""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from domain.destinations import Timeouts
from domain.outcomes import Answered, Exchange, Refused, Unknown, Unreachable
from egress import connection_policy
from egress.addresses import Guard, IpAddress, UrlTarget
from egress.client import Client, OutboundRequest
from egress.connection_policy import IDLE_CONNECTION_SECONDS, LONGEST_CONNECTION_SECONDS, PinnedRoute
from egress.engine import Engine
from egress.transfer import Run, Transfer
from tests.egress.authorities import Authority
from tests.egress.conftest import Clock
from tests.egress.servers import OK, SAFETY_SECONDS, Line, Partner, Server, says, says_and_closes
from tests.egress.test_http2 import answers_ok, speaks_http2

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]


def resets_the_second_request(line: Line) -> None:
    """Answers the first request of a connection, takes in the second and resets."""
    line.read_request()
    line.send(OK)
    if line.read_request():
        line.reset()


def closes_after_the_second_request(line: Line) -> None:
    line.read_request()
    line.send(OK)
    line.read_request()


def test_a_request_that_may_repeat_uses_the_connection_of_the_one_before(partner: StartPartner, send: Send) -> None:
    there = partner(says(OK))
    exchanges = [send(there.url(), method="GET", may_repeat=True) for _ in range(3)]
    assert there.connections == 1
    assert all(isinstance(exchange.outcome, Answered) for exchange in exchanges)
    assert [exchange.remote_address for exchange in exchanges] == ["127.0.0.1"] * 3


def test_a_tls_connection_is_reused_too(partner: StartPartner, send: Send, authority: Authority) -> None:
    there = partner(says(OK), tls=authority.context("127.0.0.1"))
    for _ in range(2):
        assert isinstance(send(there.url(), may_repeat=True).outcome, Answered)
    assert there.connections == 1


@pytest.mark.parametrize("encrypted", [False, True])
def test_an_answer_that_nobody_asked_for_is_not_read_as_that_of_the_next_request(
    partner: StartPartner, send: Send, authority: Authority, encrypted: bool
) -> None:
    sent = threading.Event()

    def script(line: Line) -> None:
        line.read_request()
        line.send(OK)
        if line.number == 1:
            time.sleep(0.1)  # not together with the answer: libcurl looks for that
            line.send(OK.replace(b"ok", b"no"))
            sent.set()
        while line.read_request():
            line.send(OK)

    there = partner(script, tls=authority.context("127.0.0.1", protocols=("http/1.1",)) if encrypted else None)
    assert isinstance(send(there.url("/first"), method="GET", may_repeat=True).outcome, Answered)
    assert sent.wait(60)
    time.sleep(0.1)
    outcome = send(there.url("/second"), method="GET", may_repeat=True).outcome
    assert isinstance(outcome, Answered)
    assert outcome.body == b"ok"
    assert [request.split()[1] for request in there.requests] == [b"/first", b"/second"]


@pytest.mark.parametrize("protocol", ["plain", "http/1.1", "h2"])
def test_a_connection_serves_one_owner(
    partner: StartPartner, client: Client, authority: Authority, protocol: str
) -> None:
    tls = None if protocol == "plain" else authority.context("127.0.0.1", protocols=(protocol,))
    there = partner(speaks_http2(answers_ok) if protocol == "h2" else says(OK), tls=tls)
    for owner, connections in (("a", 1), ("a", 1), ("b", 2)):
        request = OutboundRequest(method="GET", url=there.url(), may_repeat=True, owner=owner)
        (exchange,) = client.send_all([request])
        assert isinstance(exchange.outcome, Answered)
        assert there.connections == connections


def test_a_request_that_may_not_repeat_has_a_connection_of_its_own(partner: StartPartner, send: Send) -> None:
    there = partner(says(OK))
    send(there.url(), may_repeat=True)
    for _ in range(2):
        assert isinstance(send(there.url(), may_repeat=False).outcome, Answered)
    assert there.connections == 3


@pytest.mark.parametrize("script", [resets_the_second_request, closes_after_the_second_request])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_a_request_that_reached_a_reused_connection_is_never_sent_again(
    partner: StartPartner, send: Send, script: Callable[[Line], None], method: str
) -> None:
    there = partner(script)
    body = b"" if method in ("GET", "HEAD") else b"pay 10"
    assert isinstance(send(there.url("/first"), method="GET", may_repeat=True).outcome, Answered)
    outcome = send(there.url("/second"), method=method, body=body, may_repeat=True).outcome
    assert isinstance(outcome, Unknown)
    assert sum(b"/second" in request for request in there.requests) == 1


def test_a_request_that_reached_a_partner_who_then_died_is_unknown_not_unreachable(send: Send) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def serve() -> None:
        connection, _ = listener.accept()
        line = Line(connection, 1, threading.Event())
        line.read_request()
        line.send(OK)
        line.read_request()
        listener.close()
        line.reset()

    thread = threading.Thread(target=serve)
    thread.start()
    assert isinstance(send(url, may_repeat=True).outcome, Answered)
    outcome = send(url, may_repeat=True).outcome
    thread.join()
    assert outcome == Unknown(reason="the connection broke before any answer")


def test_an_open_connection_that_the_partner_closed_is_not_used(partner: StartPartner, send: Send) -> None:
    there = partner(says_and_closes(OK))
    assert isinstance(send(there.url("/first"), may_repeat=True).outcome, Answered)
    time.sleep(0.1)  # for the close to arrive; without it the outcome may be unknown, never a second sending
    assert isinstance(send(there.url("/second"), may_repeat=True).outcome, Answered)
    assert (there.connections, len(there.requests)) == (2, 2)


def test_a_partner_that_closes_whenever_it_likes_gets_nothing_twice(partner: StartPartner, send: Send) -> None:
    there = partner(says_and_closes(OK))
    for number in range(100):
        send(there.url(f"/{number}"), body=b"x", may_repeat=True)
    paths = [request.split(b" ", 2)[1] for request in there.requests]
    assert len(paths) == len(set(paths))


def test_a_dead_port_is_unreachable(send: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    exchange = send(f"http://127.0.0.1:{port}/")
    assert exchange.outcome == Unreachable(reason="no connection: Connection refused")
    assert exchange.remote_address is None


def test_a_partner_that_accepts_and_closes_at_once_leaves_it_unknown_or_unreachable(
    partner: StartPartner, send: Send
) -> None:
    def script(line: Line) -> None:
        line.reset()

    for _ in range(20):
        outcome = send(partner(script).url()).outcome
        assert isinstance(outcome, Unknown | Unreachable)


def test_an_address_that_was_not_checked_is_refused_where_it_is_connected_to(partner: StartPartner) -> None:
    there = partner(says(OK))
    transfer = Transfer(OutboundRequest(method="GET", url=there.url()), started_at=time.monotonic())
    target = UrlTarget(host="127.0.0.1", port=there.port, address=ip_address("127.0.0.1"))
    _run(transfer, target, checked=ip_address("127.0.0.2"))
    assert transfer.exchange is not None
    assert transfer.exchange.outcome == Refused(reason="the name led to 127.0.0.1, which was not checked")
    assert there.connections == 0


def test_the_checked_address_is_used_whatever_the_name_resolves_to_later(
    partner: StartPartner, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(OK))
    asked = []

    def rebinding(host: str, port: int, **_: object) -> list[object]:
        """Loopback the first time, the cloud's metadata service from then on."""
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    request = OutboundRequest(method="GET", url=there.url(host="partner.example"))
    first, second = (client.send_all([request])[0] for _ in range(2))
    assert isinstance(first.outcome, Answered)
    assert first.remote_address == "127.0.0.1"
    assert isinstance(second.outcome, Refused)
    assert "169.254.169.254" in second.outcome.reason
    assert asked == ["partner.example"] * 2
    assert there.requests[0].split(b"\r\n")[1] == b"Host: partner.example:%d" % there.port


def test_an_open_connection_is_not_used_once_its_name_resolves_elsewhere(
    partner: StartPartner, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = partner(says(OK), host="127.0.0.1")
    new = Server(says(OK), host="127.0.0.2", port=old.port)
    try:
        for address, connections in (("127.0.0.1", (1, 0)), ("127.0.0.2", (1, 1)), ("127.0.0.2", (1, 1))):
            _resolves_to(monkeypatch, address)
            exchange = send(old.url(host="moving.example"), method="GET", may_repeat=True)
            assert isinstance(exchange.outcome, Answered)
            assert exchange.remote_address == address
            assert (old.connections, new.partner.connections) == connections
    finally:
        new.stop()


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection lives a second, the least that libcurl knows, however busy it is."""
    monkeypatch.setattr(connection_policy, "LONGEST_CONNECTION_SECONDS", 1)
    connection_policy._unused_handle.cache_clear()
    yield
    connection_policy._unused_handle.cache_clear()


def test_a_connection_that_has_lived_its_time_is_not_used_again_however_busy_it_is(
    partner: StartPartner, client: Client, authority: Authority, short_lived: None
) -> None:
    there = [
        partner(says(OK)),
        partner(says(OK), tls=authority.context("127.0.0.1", protocols=("http/1.1",))),
        partner(speaks_http2(answers_ok), tls=authority.context("127.0.0.1", protocols=("h2",))),
    ]
    requests = [OutboundRequest(method="GET", url=one.url(), may_repeat=True) for one in there]
    for _ in range(13):
        assert all(isinstance(exchange.outcome, Answered) for exchange in client.send_all(requests))
        time.sleep(0.1)
    assert min(one.connections for one in there) > 1


def test_a_connection_lives_a_minute_and_waits_a_quarter_of_one() -> None:
    assert (LONGEST_CONNECTION_SECONDS, IDLE_CONNECTION_SECONDS) == (60, 15)


def test_a_secret_is_removed_from_the_answer_and_from_every_reason(partner: StartPartner, client: Client) -> None:
    there = partner(says(OK))
    request = OutboundRequest(method="GET", url=there.url(), secrets=("hush-hush",))
    outcome = client.send_all([request])[0].outcome
    assert isinstance(outcome, Answered)
    assert outcome.secrets == ("hush-hush",)
    told = client.send_all([OutboundRequest(method="GET", url="http://127.0.0.1:1/", secrets=("Connection refused",))])
    assert told[0].outcome == Unreachable(reason="no connection: ******************")


def test_the_next_address_is_tried_when_the_first_is_dead(
    partner: StartPartner, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(OK))
    _resolves_to(monkeypatch, "127.0.0.2", "::1", "127.0.0.1")
    exchange = send(there.url(host="partner.example"))
    assert isinstance(exchange.outcome, Answered)
    assert exchange.remote_address == "127.0.0.1"


def test_an_address_family_that_the_machine_lacks_is_passed_over(
    partner: StartPartner, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(OK))
    _resolves_to(monkeypatch, "::1", "127.0.0.1")
    monkeypatch.setattr("egress.connection_policy.socket.socket", _WithoutIpv6)
    exchange = send(there.url(host="partner.example"))
    assert isinstance(exchange.outcome, Answered)
    assert exchange.remote_address == "127.0.0.1"


def test_one_address_that_is_not_allowed_refuses_the_name(
    partner: StartPartner, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(OK))
    _resolves_to(monkeypatch, "127.0.0.1", "10.0.0.1")
    assert isinstance(send(there.url(host="partner.example")).outcome, Refused)
    assert there.connections == 0


def test_a_name_that_does_not_exist_is_unreachable(send: Send) -> None:
    exchange = send("http://no-such-host.invalid/")
    assert isinstance(exchange.outcome, Unreachable)
    assert "no-such-host.invalid" in exchange.outcome.reason
    assert exchange.timings.connect_ms is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), "the name servers do not answer for partner.example"),
        (socket.gaierror(socket.EAI_NONAME, "none"), "partner.example does not resolve"),
        (UnicodeError("label too long"), "partner.example does not resolve"),
    ],
)
def test_a_lookup_that_fails_makes_the_partner_unreachable(
    send: Send, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def resolver(*_: object, **__: object) -> list[object]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert send("http://partner.example/").outcome == Unreachable(reason=words)


def test_a_slow_lookup_delays_no_other_request_and_ends_at_its_connect_deadline(
    partner: StartPartner, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when the last of the others is about to be answered is that deadline over."""
    asked: list[int] = []
    release = threading.Event()

    def answers_two(line: Line) -> None:
        line.read_request()
        asked.append(line.number)
        if len(asked) == 2:
            clock.put_forward(300)
        line.send(OK)

    def resolver(host: str, port: int, **_: object) -> list[object]:
        if host.startswith("slow"):
            release.wait(SAFETY_SECONDS)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    there = partner(answers_two)
    outlasting = Timeouts(connect_seconds=3000, first_byte_seconds=3000, total_seconds=3000)
    cut = Timeouts(connect_seconds=300, first_byte_seconds=3000, total_seconds=3000)
    hosts = ["slow.example", "quick.example", "slower.example", "quick.example", "slow.example"]
    exchanges = client.send_all(
        [
            OutboundRequest(
                method="GET", url=there.url(host=host), timeouts=cut if host.startswith("slow") else outlasting
            )
            for host in hosts
        ]
    )
    release.set()
    for host, exchange in zip(hosts, exchanges, strict=True):
        if host.startswith("slow"):
            assert exchange.outcome == Unreachable(reason=f"{host} did not resolve in time")
        else:
            assert isinstance(exchange.outcome, Answered)


def test_each_waits_for_a_shared_name_as_long_as_its_own_deadline(
    partner: StartPartner, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = partner(says(OK))
    waiting = threading.Event()

    def resolver(_host: str, port: int, **_: object) -> list[object]:
        waiting.wait(1.0)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    impatient, patient = client.send_all(
        [
            OutboundRequest(
                method="GET",
                url=there.url(host="slow.example"),
                timeouts=Timeouts(connect_seconds=seconds, first_byte_seconds=20, total_seconds=20),
            )
            for seconds in (0.1, 15)
        ]
    )
    assert isinstance(impatient.outcome, Unreachable)
    assert isinstance(patient.outcome, Answered)


def echoes_the_path(line: Line) -> None:
    while request := line.read_request():
        path = request.split(b" ", 2)[1]
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def test_calls_from_several_threads_do_not_mix(partner: StartPartner, client: Client) -> None:
    there = partner(echoes_the_path)
    bodies: dict[str, object] = {}

    def work(name: int) -> None:
        for number in range(20):
            targets = [f"/{name}/{number}/{place}" for place in range(3)]
            requests = [OutboundRequest(method="GET", url=there.url(target), may_repeat=True) for target in targets]
            for target, exchange in zip(targets, client.send_all(requests), strict=True):
                bodies[target] = getattr(exchange.outcome, "body", exchange)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(bodies) == 4 * 20 * 3
    assert bodies == {target: target.encode() for target in bodies}


def test_a_guard_built_from_ranges_lets_only_those_through(partner: StartPartner) -> None:
    there = partner(says(OK))
    client = Client(Guard(allowed_private_cidrs=[ip_network("127.0.0.1/32")], allowed_ports=[there.port]))
    inside, outside = client.send_all(
        [OutboundRequest(method="GET", url=there.url(host=host)) for host in ("127.0.0.1", "127.0.0.2")]
    )
    assert isinstance(inside.outcome, Answered)
    assert isinstance(outside.outcome, Refused)
    client.close()


def _run(transfer: Transfer, target: UrlTarget, *, checked: IpAddress) -> None:
    engine = Engine()
    route = PinnedRoute(target=target, addresses=(checked,), roots="", sockets=engine.sockets, encrypted=False)
    run = Run(transfer, route, now=time.monotonic(), fresh=True)
    engine.add(run.handle)
    while transfer.exchange is None:
        for ended in engine.turn(until=time.monotonic() + 1):
            engine.remove(ended.handle)
            run.end(ended, now=time.monotonic())
    engine.close()


class _WithoutIpv6(socket.socket):
    """Sockets of a machine that knows no IPv6."""

    def __init__(self, family: int = -1, *args: int, **more: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *args, **more)


def _resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def resolver(_host: str, port: int, **_: object) -> list[object]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port),
            )
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)

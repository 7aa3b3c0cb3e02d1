"""HTTP/2, agreed on by ALPN: the same outcomes as over HTTP/1.1."""

import ssl
from collections.abc import Callable

import h2.connection
import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from domain.destinations import Timeouts
from domain.outcomes import Answered, Exchange, Unknown, Unreachable
from egress.client import RESPONSE_CAP_BYTES, Client, OutboundRequest
from tests.egress.authorities import Authority
from tests.egress.servers import OK, Line, Partner, Script, says

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]
type Respond = Callable[[h2.connection.H2Connection, int, dict[bytes, bytes]], None]


def speaks_http2(respond: Respond, *, seen: list[dict[bytes, bytes]] | None = None) -> Script:
    """A partner that has `respond(connection, stream, headers)` answer each request when all of it is there."""

    def script(line: Line) -> None:
        session = h2.connection.H2Connection(H2Configuration(client_side=False, header_encoding=None))
        session.initiate_connection()
        line.send(session.data_to_send())
        asked: dict[int, dict[bytes, bytes]] = {}
        while data := line.connection.recv(65536):
            for event in _events(session, data):
                if isinstance(event, h2.events.RequestReceived):
                    asked[event.stream_id] = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    session.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    (seen if seen is not None else []).append(asked[event.stream_id])
                    respond(session, event.stream_id, asked[event.stream_id])
            line.send(session.data_to_send())
            if session.state_machine.state is ConnectionState.CLOSED:
                return

    return script


def _events(session: h2.connection.H2Connection, data: bytes) -> list[h2.events.Event]:
    try:
        return session.receive_data(data)
    except ProtocolError:  # what comes after we have closed
        return []


def answers_ok(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
    session.send_headers(stream, [(":status", "103"), ("link", "</a>")])
    session.send_headers(stream, [(":status", "200"), ("x-one", "1"), ("x-one", "2")])
    session.send_data(stream, b"hello ")
    session.send_data(stream, b"world")
    session.send_headers(stream, [("x-sum", "11")], end_stream=True)


def context(authority: Authority) -> ssl.SSLContext:
    return authority.context("127.0.0.1", protocols=("h2", "http/1.1"))


def test_an_answer_over_http2_reads_like_any_other(partner: StartPartner, send: Send, authority: Authority) -> None:
    seen: list[dict[bytes, bytes]] = []
    there = partner(speaks_http2(answers_ok, seen=seen), tls=context(authority))
    exchange = send(there.url("/a%2fb?c=|"), body=b"x" * 200_000, headers=(("X-Empty", ""), ("X-Two", "a")))
    assert exchange.outcome == Answered(status=200, headers=(("x-one", "1"), ("x-one", "2")), body=b"hello world")
    assert seen[0][b":path"] == b"/a%2fb?c=|"
    assert seen[0][b":authority"] == b"127.0.0.1:%d" % there.port
    assert (seen[0][b"x-empty"], seen[0][b"x-two"], seen[0][b"content-length"]) == (b"", b"a", b"200000")
    assert {b"accept", b"accept-encoding", b"expect", b"content-type"} & set(seen[0]) == set()


def test_a_partner_that_knows_only_http_1_is_spoken_to_in_it(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    there = partner(says(OK), tls=authority.context("127.0.0.1", protocols=("http/1.1",)))
    assert isinstance(send(there.url()).outcome, Answered)


def test_a_stream_that_is_reset_leaves_it_unknown_and_is_not_sent_again(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    seen: list[dict[bytes, bytes]] = []

    def respond(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
        session.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)

    there = partner(speaks_http2(respond, seen=seen), tls=context(authority))
    assert isinstance(send(there.url(), body=b"pay", may_repeat=True).outcome, Unknown)
    assert len(seen) == 1


def test_a_refused_stream_is_not_sent_again_behind_our_back(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    seen: list[dict[bytes, bytes]] = []

    def respond(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
        session.reset_stream(stream, ErrorCodes.REFUSED_STREAM)

    there = partner(speaks_http2(respond, seen=seen), tls=context(authority))
    assert isinstance(send(there.url(), body=b"pay", may_repeat=True).outcome, Unknown)
    assert len(seen) == 1


def test_a_connection_given_up_after_the_request_leaves_it_unknown(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    seen: list[dict[bytes, bytes]] = []

    def respond(session: h2.connection.H2Connection, _stream: int, _headers: dict[bytes, bytes]) -> None:
        session.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, last_stream_id=0)

    there = partner(speaks_http2(respond, seen=seen), tls=context(authority))
    assert isinstance(send(there.url("/first"), body=b"pay", may_repeat=True).outcome, Unknown)
    assert len(seen) == 1


TURNED_AWAY = Unreachable(reason="the partner refused the HTTP/2 stream before it did anything")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (ErrorCodes.REFUSED_STREAM, TURNED_AWAY),
        (ErrorCodes.INTERNAL_ERROR, Unknown),
        (ErrorCodes.CANCEL, Unknown),
        (ErrorCodes.NO_ERROR, Unknown),
        (ErrorCodes.HTTP_1_1_REQUIRED, Unknown),  # libcurl would repeat this one too, but it is no such word
    ],
)
def test_a_refused_stream_alone_says_that_nothing_was_done(
    partner: StartPartner, send: Send, authority: Authority, code: ErrorCodes, outcome: object
) -> None:
    seen: list[dict[bytes, bytes]] = []

    def respond(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
        session.reset_stream(stream, code)

    found = send(partner(speaks_http2(respond, seen=seen), tls=context(authority)).url(), body=b"pay").outcome
    assert outcome in (found, type(found))
    assert len(seen) == 1


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.REFUSED_STREAM])
@pytest.mark.parametrize("last_stream", [0, 1])
def test_a_goodbye_says_that_nothing_was_done_where_it_leaves_our_stream_out(
    partner: StartPartner, send: Send, authority: Authority, code: ErrorCodes, last_stream: int
) -> None:
    seen: list[dict[bytes, bytes]] = []
    there = partner(says_goodbye(code, last_stream, seen=seen), tls=context(authority))
    found = send(
        there.url(), body=b"pay", timeouts=Timeouts(connect_seconds=20, first_byte_seconds=1, total_seconds=20)
    ).outcome
    assert (TURNED_AWAY if last_stream == 0 else Unknown) in (found, type(found))
    assert len(seen) == 1


def test_a_refusal_after_the_answer_has_begun_proves_nothing(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    def respond(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
        session.send_headers(stream, [(":status", "200")])
        session.reset_stream(stream, ErrorCodes.REFUSED_STREAM)

    assert isinstance(send(partner(speaks_http2(respond), tls=context(authority)).url()).outcome, Unknown)


def says_goodbye(code: ErrorCodes, last_stream: int, *, seen: list[dict[bytes, bytes]]) -> Script:
    """A partner that takes in a request, says GOAWAY and keeps the connection open."""

    def script(line: Line) -> None:
        session = h2.connection.H2Connection(H2Configuration(client_side=False, header_encoding=None))
        session.initiate_connection()
        line.send(session.data_to_send())
        while data := line.connection.recv(65536):
            for event in _events(session, data):
                if isinstance(event, h2.events.RequestReceived):
                    seen.append(dict(event.headers))
                elif isinstance(event, h2.events.StreamEnded):
                    session.close_connection(code, last_stream_id=last_stream)
            line.send(session.data_to_send())

    return script


def test_an_answer_cut_off_in_the_middle_leaves_it_unknown(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    def respond(session: h2.connection.H2Connection, stream: int, _headers: dict[bytes, bytes]) -> None:
        session.send_headers(stream, [(":status", "200"), ("content-length", "100")])
        session.send_data(stream, b"half")
        session.close_connection()

    there = partner(speaks_http2(respond), tls=context(authority))
    assert isinstance(send(there.url()).outcome, Unknown)


def test_a_long_body_is_cut_at_the_cap(partner: StartPartner, send: Send, authority: Authority) -> None:
    def script(line: Line) -> None:
        session = h2.connection.H2Connection(H2Configuration(client_side=False))
        session.initiate_connection()
        line.send(session.data_to_send())
        stream = 0
        while data := line.connection.recv(65536):
            for event in session.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    stream = event.stream_id
                    session.send_headers(stream, [(":status", "200")])
            while stream and (room := min(session.local_flow_control_window(stream), 16384)) > 0:
                session.send_data(stream, b"x" * room)
                line.send(session.data_to_send())
            line.send(session.data_to_send())

    outcome = send(partner(script, tls=context(authority)).url()).outcome
    assert isinstance(outcome, Answered)
    assert (len(outcome.body), outcome.complete, outcome.capped) == (RESPONSE_CAP_BYTES, False, True)


def test_an_open_connection_is_reused_for_what_may_be_repeated(
    partner: StartPartner, client: Client, authority: Authority
) -> None:
    there = partner(speaks_http2(answers_ok), tls=context(authority))
    request = OutboundRequest(method="GET", url=there.url(), may_repeat=True)
    for _ in range(3):
        exchanges = client.send_all([request] * 4)
        assert all(isinstance(exchange.outcome, Answered) for exchange in exchanges)
    assert there.connections <= 4

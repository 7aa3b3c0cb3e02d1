"""Each deadline holds, and none of them holds up a neighbour.

No time is measured here. The other end of each call waits for SAFETY_SECONDS before it does something else than the
outcome says; so a call that ends with that outcome was ended by its deadline, and by the short one of its deadlines.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from domain.destinations import Timeouts
from domain.outcomes import Answered, Exchange, Unknown, Unreachable
from egress.client import Client, OutboundRequest
from tests.egress.authorities import Authority
from tests.egress.conftest import Clock
from tests.egress.servers import OK, SAFETY_SECONDS, Line, Partner, says

type StartPartner = Callable[..., Partner]
type Send = Callable[..., Exchange]

PATIENT = 10 * SAFETY_SECONDS
SHORT = 0.3


def hangs_after_the_request(line: Line) -> None:
    line.read_request()
    line.hang()


def test_no_tls_answer_ends_at_the_connect_deadline(partner: StartPartner, send: Send) -> None:
    there = partner(Line.hang)
    timeouts = Timeouts(connect_seconds=SHORT, first_byte_seconds=PATIENT, total_seconds=PATIENT)
    exchange = send(f"https://127.0.0.1:{there.port}/", timeouts=timeouts)
    assert exchange.outcome == Unreachable(reason="no connection within 0.3 s")
    assert exchange.timings.connect_ms is not None
    assert exchange.timings.tls_ms is None
    assert exchange.remote_address == "127.0.0.1"


def test_a_full_backlog_ends_at_the_connect_deadline(send: Send) -> None:
    timeouts = Timeouts(connect_seconds=SHORT, first_byte_seconds=PATIENT, total_seconds=PATIENT)
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):  # the kernel drops what comes when the backlog is full
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        refusing = threading.Timer(SAFETY_SECONDS, listener.close)  # from then on the kernel refuses connections
        refusing.start()
        sockets.callback(refusing.cancel)
        exchange = send(f"http://127.0.0.1:{port}/", timeouts=timeouts)
    assert exchange.outcome == Unreachable(reason="no connection within 0.3 s")
    assert exchange.remote_address is None


def test_no_first_byte_ends_at_its_deadline(partner: StartPartner, send: Send) -> None:
    there = partner(hangs_after_the_request)
    timeouts = Timeouts(connect_seconds=PATIENT, first_byte_seconds=SHORT, total_seconds=PATIENT)
    exchange = send(there.url(), timeouts=timeouts)
    assert exchange.outcome == Unknown(reason="no answer within 0.3 s")
    assert exchange.timings.first_byte_ms is None


def test_no_first_byte_ends_at_the_total_deadline_at_the_latest(partner: StartPartner, send: Send) -> None:
    timeouts = Timeouts(connect_seconds=SHORT, first_byte_seconds=SHORT, total_seconds=SHORT)
    outcome = send(partner(hangs_after_the_request).url(), timeouts=timeouts).outcome
    assert outcome == Unknown(reason="no complete answer within 0.3 s")


def test_a_request_that_is_not_read_ends_at_the_first_byte_deadline(partner: StartPartner, send: Send) -> None:
    there = partner(Line.hang)
    timeouts = Timeouts(connect_seconds=PATIENT, first_byte_seconds=SHORT, total_seconds=PATIENT)
    outcome = send(there.url(), body=b"x" * 4_000_000, timeouts=timeouts).outcome
    assert outcome == Unknown(reason="no answer within 0.3 s")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"])
def test_a_slow_drip_ends_at_the_total_deadline(partner: StartPartner, send: Send, head: bytes) -> None:
    def script(line: Line) -> None:
        line.read_request()
        line.send(head)
        line.drip(b"x")

    timeouts = Timeouts(connect_seconds=SHORT, first_byte_seconds=SHORT, total_seconds=3 * SHORT)
    exchange = send(partner(script).url(), timeouts=timeouts)
    assert exchange.outcome == Unknown(reason="no complete answer within 0.9 s")
    assert exchange.timings.first_byte_ms is not None


def test_an_answer_that_has_begun_may_take_longer_than_the_first_byte(partner: StartPartner, send: Send) -> None:
    def script(line: Line) -> None:
        line.read_request()
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        line.stopping.wait(2.5)
        line.send(b"late")

    timeouts = Timeouts(connect_seconds=PATIENT, first_byte_seconds=2.0, total_seconds=PATIENT)
    outcome = send(partner(script).url(), timeouts=timeouts).outcome
    assert isinstance(outcome, Answered)
    assert outcome.body == b"late"


def test_one_that_hangs_does_not_hold_up_nine_that_answer(partner: StartPartner, client: Client, clock: Clock) -> None:
    """Only when the ninth is about to be answered is the deadline of the one over."""
    asked: list[int] = []

    def answers_nine(line: Line) -> None:
        line.read_request()
        asked.append(line.number)
        if len(asked) == 9:
            clock.put_forward(PATIENT)
        line.send(OK)

    hanging, quick = partner(hangs_after_the_request), partner(answers_nine)
    outlasting = Timeouts(connect_seconds=9 * PATIENT, first_byte_seconds=9 * PATIENT, total_seconds=9 * PATIENT)
    cut = Timeouts(connect_seconds=PATIENT, first_byte_seconds=PATIENT, total_seconds=9 * PATIENT)
    partners = [quick] * 4 + [hanging] + [quick] * 5
    exchanges = client.send_all(
        [
            OutboundRequest(method="POST", url=to.url(), body=b"x", timeouts=cut if to is hanging else outlasting)
            for to in partners
        ]
    )
    assert exchanges[4].outcome == Unknown(reason=f"no answer within {PATIENT:.3g} s")
    others = exchanges[:4] + exchanges[5:]
    assert all(isinstance(exchange.outcome, Answered) for exchange in others)


def test_deadlines_are_each_request_s_own(partner: StartPartner, client: Client) -> None:
    there = partner(hangs_after_the_request)
    short, longer = (
        OutboundRequest(
            method="POST",
            url=there.url(),
            timeouts=Timeouts(connect_seconds=PATIENT, first_byte_seconds=seconds, total_seconds=PATIENT),
        )
        for seconds in (0.2, 1.0)
    )
    first, second = client.send_all([short, longer])
    assert first.outcome == Unknown(reason="no answer within 0.2 s")
    assert second.outcome == Unknown(reason="no answer within 1 s")


def test_an_expired_wait_leaves_the_client_fit_for_the_next_call(
    partner: StartPartner, send: Send, authority: Authority
) -> None:
    hanging, quick = partner(hangs_after_the_request), partner(says(OK), tls=authority.context("127.0.0.1"))
    timeouts = Timeouts(connect_seconds=PATIENT, first_byte_seconds=SHORT, total_seconds=PATIENT)
    for _ in range(3):
        assert isinstance(send(hanging.url(), timeouts=timeouts).outcome, Unknown)
        assert isinstance(send(quick.url()).outcome, Answered)

"""A finished request is reported once, while others are still under way."""

import threading
from collections.abc import Callable, Mapping, Sequence

import pycurl
import pytest

from domain.destinations import Timeouts
from domain.outcomes import Answered, Exchange, Unknown
from egress.client import Client, EarlyResults, OutboundRequest
from egress.engine import Engine
from tests.egress.servers import Line, Partner, Script
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

LONG = Timeouts(connect_seconds=25, first_byte_seconds=25, total_seconds=25)


def request(server: Partner) -> OutboundRequest:
    return OutboundRequest(method="GET", url=server.url(), headers=(), body=b"", timeouts=LONG, may_repeat=True)


@pytest.mark.parametrize(
    ("ended", "of", "seconds", "is_time"),
    [
        (0, 2, 100, False),
        (2, 2, 100, False),
        (1, 2, 0.9, False),
        (1, 2, 1, True),
        (4, 10, 4.9, False),
        (5, 10, 1, True),
        (1, 10, 5, True),
        (0, 0, 100, False),
    ],
)
def test_it_is_time_when_half_have_ended_and_later_when_any_has(
    ended: int, of: int, seconds: float, is_time: bool
) -> None:
    assert EarlyResults(report=lambda _: None).is_time(ended=ended, of=of, seconds=seconds) is is_time


def test_a_finished_request_is_reported_once_by_its_position(client: Client, partner: StartPartner) -> None:
    handed = threading.Event()
    seen: list[Mapping[int, Exchange]] = []

    def answers_after_the_report(line: Line) -> None:
        line.read_request()
        status = 200 if handed.wait(20) else 500
        line.send(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\n\r\n" % status)

    def report(ended: Mapping[int, Exchange]) -> None:
        seen.append(ended)
        handed.set()

    slow, fast = partner(answers_after_the_report), partner(answers(201))
    early = EarlyResults(report=report, half_after_seconds=0.0, any_after_seconds=0.0)
    exchanges = client.send_all([request(slow), request(fast), request(slow)], early=early)
    statuses = [exchange.outcome.status for exchange in exchanges if isinstance(exchange.outcome, Answered)]
    assert statuses == [200, 201, 200]
    assert seen == [{1: exchanges[1]}]


def test_a_transfer_that_meets_a_fault_is_taken_from_libcurl_and_the_others_go_on(
    client: Client, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([RuntimeError("a fault of ours, once libcurl has the transfer")])
    add = Engine.add

    def adds_and_fails_once(engine: Engine, handle: pycurl.Curl) -> None:
        add(engine, handle)
        for fault in faults:
            raise fault

    monkeypatch.setattr(Engine, "add", adds_and_fails_once)
    fast, slow = partner(answers(201)), partner(slow_answers)
    first, second = client.send_all([request(fast), request(slow)])
    assert isinstance(first.outcome, Unknown)
    assert isinstance(second.outcome, Answered)


def slow_answers(line: Line) -> None:
    """Long enough for the other transfer to end, had it been left with libcurl."""
    line.read_request()
    threading.Event().wait(0.5)
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_single_request_is_never_reported_early(client: Client, partner: StartPartner) -> None:
    seen: list[Mapping[int, Exchange]] = []
    early = EarlyResults(report=seen.append, half_after_seconds=0.0, any_after_seconds=0.0)
    client.send_all([request(partner(answers(200)))], early=early)
    assert seen == []


def test_what_takes_long_is_noted_once_by_its_position(client: Client, partner: StartPartner) -> None:
    fast_ended, noted = threading.Event(), threading.Event()
    seen: list[Sequence[int]] = []

    def answers_after_the_note(line: Line) -> None:
        line.read_request()
        line.send(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\n\r\n" % (200 if noted.wait(20) else 500))

    def note_slow(positions: Sequence[int]) -> None:
        seen.append(positions)
        noted.set()

    slow, fast = partner(answers_after_the_note), partner(answers(201))
    early = EarlyResults(
        report=lambda _: fast_ended.set(), note_slow=note_slow, half_after_seconds=0.0, slow_after_seconds=1.0
    )
    exchanges = client.send_all([request(slow), request(fast)], early=early)
    assert [exchange.outcome.status for exchange in exchanges if isinstance(exchange.outcome, Answered)] == [200, 201]
    assert fast_ended.is_set()
    assert seen == [[0]]

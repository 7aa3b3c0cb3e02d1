"""Requests that wait for something before they can be sent: they hold up no other, and nothing waits for ever."""

import threading
from collections.abc import Callable
from dataclasses import replace

from domain.destinations import Timeouts
from domain.outcomes import Answered, Refused, Unreachable
from egress.client import Client, OutboundRequest, PendingRequest
from tests.egress.servers import OK, Line, Partner, says

type StartPartner = Callable[..., Partner]
type Callback = Callable[[OutboundRequest | Unreachable], None]

LATE = Unreachable(reason="it never came")


def pending(draft: OutboundRequest, begin: Callable[[Callback], None], within_seconds: float = 30.0) -> PendingRequest:
    return PendingRequest(draft=draft, begin=begin, within_seconds=within_seconds, late=LATE)


def never(_: Callback) -> None:
    """What does not come."""


def with_header(request: OutboundRequest) -> OutboundRequest:
    return replace(request, headers=(("X-Token", "good"),))


def at_once(request: OutboundRequest) -> Callable[[Callback], None]:
    return lambda callback: callback(with_header(request))


def elsewhere(request: OutboundRequest) -> Callable[[Callback], None]:
    """On another thread."""
    return lambda callback: threading.Thread(target=callback, args=(with_header(request),)).start()


def insists(line: Line) -> None:
    """Answers 200 to requests with the header, 401 to those without."""
    while request := line.read_request():
        status = b"200 OK" if b"X-Token: good" in request else b"401 Who"
        line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)


def statuses(client: Client, *requests: OutboundRequest | PendingRequest) -> list[int | str]:
    outcomes = [exchange.outcome for exchange in client.send_all(requests)]
    return [outcome.status if isinstance(outcome, Answered) else outcome.reason for outcome in outcomes]


def test_it_is_sent_when_what_it_waits_for_has_come(partner: StartPartner, client: Client) -> None:
    there = partner(insists)
    plain = OutboundRequest(method="GET", url=there.url())
    assert statuses(client, pending(plain, elsewhere(plain)), pending(plain, at_once(plain)), plain) == [200, 200, 401]


def test_the_others_are_sent_meanwhile(partner: StartPartner, client: Client) -> None:
    """What it waits for comes only once the other has been answered."""
    arrived = threading.Event()

    def notes(line: Line) -> None:
        line.read_request()
        arrived.set()
        line.send(OK)

    def begin(callback: Callback) -> None:
        def wait() -> None:
            assert arrived.wait(60)
            callback(with_header(waits))

        threading.Thread(target=wait).start()

    waits = OutboundRequest(method="GET", url=partner(insists).url())
    other = OutboundRequest(method="GET", url=partner(notes).url())
    assert statuses(client, pending(waits, begin), other) == [200, 200]


def test_it_ends_unsent_where_nothing_comes_in_its_time_or_the_total(partner: StartPartner, client: Client) -> None:
    there = partner(insists)
    plain = OutboundRequest(method="GET", url=there.url())
    short = replace(plain, timeouts=Timeouts(connect_seconds=0.2, first_byte_seconds=0.2, total_seconds=0.2))
    assert statuses(client, pending(plain, never, 0.1), pending(short, never), plain) == [LATE.reason, LATE.reason, 401]
    assert len(there.requests) == 1


def test_what_comes_too_late_is_not_sent(partner: StartPartner, client: Client) -> None:
    there = partner(insists)
    plain = OutboundRequest(method="GET", url=there.url())
    callbacks: list[Callback] = []
    assert statuses(client, pending(plain, callbacks.append, 0.1)) == [LATE.reason]
    callbacks[0](with_header(plain))
    assert statuses(client, plain) == [401]
    assert len(there.requests) == 1


def test_why_it_did_not_come_is_the_outcome(partner: StartPartner, client: Client) -> None:
    there = partner(insists)
    plain = OutboundRequest(method="GET", url=there.url())
    assert statuses(client, pending(plain, lambda callback: callback(Unreachable(reason="no token")))) == ["no token"]
    assert there.requests == []


def test_nothing_is_fetched_for_a_request_that_may_not_be_sent(client: Client) -> None:
    begun: list[Callback] = []
    refused = OutboundRequest(method="GET", url="http://10.0.0.1/")
    faulty = OutboundRequest(method="GET", url="http://127.0.0.1:1/", headers=(("Host", "a"),))
    exchanges = client.send_all([pending(refused, begun.append), pending(faulty, begun.append)])
    assert all(isinstance(exchange.outcome, Refused) for exchange in exchanges)
    assert begun == []


def test_a_fault_in_fetching_ends_that_request_alone(partner: StartPartner, client: Client) -> None:
    def breaks(_: Callback) -> None:
        raise OverflowError

    plain = OutboundRequest(method="GET", url=partner(insists).url())
    first, second = statuses(client, pending(plain, breaks), pending(plain, at_once(plain)))
    assert (first, second) == ("a fault of the gateway itself (OverflowError); nothing was sent", 200)


def test_a_401_is_followed_by_the_other_request_once(partner: StartPartner, client: Client) -> None:
    there = partner(insists)
    plain = OutboundRequest(method="POST", url=there.url(), body=b"pay")
    followed = replace(plain, after_401=pending(plain, elsewhere(plain)))
    assert statuses(client, followed) == [200]
    assert [request.endswith(b"pay") for request in there.requests] == [True, True]
    still = replace(plain, after_401=pending(plain, lambda callback: callback(plain)))
    assert statuses(client, still) == [401]
    assert len(there.requests) == 4


def test_another_answer_than_401_is_the_answer(partner: StartPartner, client: Client) -> None:
    there = partner(says(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"))
    plain = OutboundRequest(method="GET", url=there.url())
    assert statuses(client, replace(plain, after_401=pending(plain, never))) == [403]


def test_without_a_follower_in_time_a_401_ends_as_it_says(partner: StartPartner, client: Client) -> None:
    plain = OutboundRequest(method="GET", url=partner(insists).url())
    assert statuses(client, replace(plain, after_401=pending(plain, never, 0.1))) == [LATE.reason]

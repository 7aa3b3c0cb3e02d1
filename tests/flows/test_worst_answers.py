"""Ten answers in one batch that make as much work as one can: all are recorded, and none takes the others' time."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from domain import bodies
from domain.bodies import INFLATED_LIMIT_BYTES, MOST_MEMBERS
from domain.deliveries import StoredResponse
from domain.outcomes import Answered
from flows import judge
from flows.accept import accept
from flows.attempt import JUDGE_SECONDS, WORKER_SECONDS, attempt_due
from tests.egress.servers import Line, Partner, Script
from tests.support.gateway import Gateway

type StartPartner = Callable[[Script], Partner]

MIB = 1024 * 1024
GZIP = b"Content-Encoding: gzip\r\n"
BOMB = gzip.compress(bytes(INFLATED_LIMIT_BYTES + 1))
# Headers and body of each.
WORST = {
    "/bomb": (GZIP, BOMB),
    "/bomb-again": (GZIP, BOMB),
    "/members": (GZIP, gzip.compress(b"", mtime=0) * (MOST_MEMBERS + 1)),
    "/lists": (b"", b"[" + b"[]," * 85_000 + b"0]"),
    "/deep": (b"", b"[" * MIB),
    "/long": (b"", b"x" * (4 * MIB + 1)),
    "/digits": (b"", b"9" * 200_000),
    "/names": (b"", json.dumps({str(number): 0 for number in range(20_000)}).encode()),
    "/headers": (b"X-One: y\r\n" * 4_900, b"ok"),
    "/escapes": (b"", b'["' + b"%73" * 80_000 + b'"]'),
}
REDACTS = '{"redact": {"headers": ["x-two"], "pointers": ["/0/a", "/a/0"]}}'


def answers_by_path(line: Line) -> None:
    while request := line.read_request():
        headers, body = WORST[request.split(b" ")[1].decode()]
        line.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (headers, len(body)) + body)


def ten(gateway: Gateway, partner: StartPartner, *, options: str = "{}") -> list[Any]:
    """A wake-up for each of the worst answers."""
    gateway.destination(partner(answers_by_path).url())
    gateway.sql("UPDATE destination SET options = %s", options)
    for path in WORST:
        accept(gateway.new(path=path), wait_seconds=None, services=gateway.services)
    return gateway.queue.take()


def stored(gateway: Gateway) -> dict[str, dict[str, Any]]:
    rows = gateway.sql("SELECT * FROM delivery LEFT JOIN attempt USING (delivery_id) ORDER BY delivery_id")
    return {row["path"]: row for row in rows}


@pytest.mark.parametrize("options", ["{}", REDACTS])
def test_ten_of_the_worst_answers_are_recorded_with_bounded_work(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    inflated: list[int] = []
    drained = bodies._drained

    def counting(*arguments: Any) -> Any:
        for piece in drained(*arguments):
            inflated.append(len(piece))
            yield piece

    monkeypatch.setattr(bodies, "_drained", counting)
    wakeups = ten(gateway, partner, options=options)
    assert attempt_due(wakeups, services=gateway.services) == frozenset()
    found = stored(gateway)
    assert {path: (row["outcome"], row["state"]) for path, row in found.items()} == dict.fromkeys(
        WORST, ("answered", "delivered")
    )
    assert sum(inflated) <= 2 * (INFLATED_LIMIT_BYTES + 2 * bodies._STEP_BYTES)
    assert gateway.queue.wakeups() == []


def slowly(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Each body that is looked at takes so long."""
    storing = bodies.stored_response

    def slow(answer: Answered, **options: Any) -> StoredResponse:
        gateway.clock.forward(seconds if answer.body else 0)
        return storing(answer, **options)

    monkeypatch.setattr(judge, "stored_response", slow)


def test_where_judging_takes_long_the_last_bodies_are_not_looked_at_and_all_is_recorded(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakeups = ten(gateway, partner)
    slowly(gateway, monkeypatch, seconds=JUDGE_SECONDS / 4)
    assert attempt_due(wakeups, services=gateway.services) == frozenset()
    found = list(stored(gateway).values())
    assert {(row["outcome"], row["state"]) for row in found} == {("answered", "delivered")}
    assert sorted(bool(row["response_body"]) for row in found) == [False] * 6 + [True] * 4
    assert gateway.queue.wakeups() == []


def test_where_judging_takes_all_the_time_every_outcome_travels_in_its_wake_up(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakeups = ten(gateway, partner)
    with monkeypatch.context() as slow:
        slowly(gateway, slow, seconds=WORKER_SECONDS - 1)
        assert attempt_due(wakeups, services=gateway.services) == frozenset()
    carried = gateway.queue.wakeups()
    assert [wakeup.record is not None for wakeup in carried] == [True] * 10
    gateway.clock.forward(20)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert {(row["outcome"], row["state"]) for row in stored(gateway).values()} == {("answered", "delivered")}

"""Name lookups on threads: bounded, shared, and never stuck behind one another."""

import threading
from ipaddress import ip_address
from queue import SimpleQueue

import pytest

from domain.outcomes import Unreachable
from egress.addresses import Resolved
from egress.lookups import HostPort, LookupResult, Lookups

HERE = Resolved(addresses=(ip_address("192.0.2.1"),))


class Resolver:
    """Answers at once, but for names that begin with "slow": those wait for `release`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> LookupResult:
        self.asked.append(host)
        if host.startswith("slow"):
            self.release.wait(60)
        return HERE


class Answers:
    """Collects what an asker is told."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[HostPort, LookupResult]] = SimpleQueue()

    def __call__(self, place: HostPort, answer: LookupResult) -> None:
        self._queue.put((place, answer))

    def next(self) -> tuple[HostPort, LookupResult]:
        return self._queue.get(timeout=60)


def test_a_slow_name_does_not_hold_up_a_quick_one() -> None:
    resolver, answers = Resolver(), Answers()
    lookups = Lookups(resolver)
    for host in ("slow", "slower", "quick"):
        lookups.ask((host, 80), answers)
    assert answers.next() == (("quick", 80), HERE)
    resolver.release.set()
    assert {answers.next()[0], answers.next()[0]} == {("slow", 80), ("slower", 80)}


def test_those_who_ask_for_a_name_meanwhile_share_its_answer() -> None:
    resolver, answers = Resolver(), Answers()
    lookups = Lookups(resolver)
    for _ in range(50):
        lookups.ask(("slow", 80), answers)
    resolver.release.set()
    assert [answers.next() for _ in range(50)] == [(("slow", 80), HERE)] * 50
    assert resolver.asked == ["slow"]


def test_a_name_that_was_answered_is_looked_up_again() -> None:
    resolver, answers = Resolver(), Answers()
    lookups = Lookups(resolver)
    for _ in range(3):
        lookups.ask(("quick", 80), answers)
        answers.next()
    assert resolver.asked == ["quick"] * 3


def test_there_are_never_more_threads_than_allowed() -> None:
    resolver, answers = Resolver(), Answers()
    lookups = Lookups(resolver, most_threads=2)
    before = threading.active_count()
    for number in range(10):
        lookups.ask((f"slow{number}", 80), answers)
    assert threading.active_count() - before <= 2
    resolver.release.set()
    assert len({answers.next()[0] for _ in range(10)}) == 10


def test_a_lookup_that_breaks_still_answers_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, shown = Answers(), []
    monkeypatch.setattr(threading, "excepthook", lambda told: shown.append(told.exc_type))

    def resolver(host: str, _port: int) -> LookupResult:
        if host == "broken":
            raise RuntimeError
        return HERE

    lookups = Lookups(resolver, most_threads=1)
    lookups.ask(("broken", 80), answers)
    assert answers.next() == (("broken", 80), Unreachable(reason="the lookup of broken failed"))
    lookups.ask(("fine", 80), answers)
    assert answers.next() == (("fine", 80), HERE)
    assert shown == [RuntimeError]


def test_a_name_is_asked_for_again_after_a_lookup_for_which_there_was_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the process has as many as it may have."""
    answers = Answers()
    lookups = Lookups(lambda _host, _port: HERE, most_threads=1)

    def breaking(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", breaking)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                lookups.ask(("name", 80), answers)
    lookups.ask(("name", 80), answers)
    assert answers.next() == (("name", 80), HERE)

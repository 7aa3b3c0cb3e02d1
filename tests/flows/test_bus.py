"""With a bus, each event is put there, too: by a message of its own, whatever becomes of its delivery."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from moto.backends import get_backend

from db import attempts as table
from db import deliveries
from domain.errors import DatabaseUnavailable
from domain.options import DestinationOptions
from domain.redaction import Redaction
from domain.wakeups import Wakeup
from flows import bus as flow
from flows.accept import accept
from flows.attempt import attempt_due
from flows.audit import Actor
from flows.control import cancel
from runtime.settings import BusSettings, QueueSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import ACCOUNT, REGION, Gateway
from tests.support.partners import answers
from wakeups.event_bus import EventBus
from wakeups.sqs import WakeupQueue

type StartPartner = Callable[[Script], Partner]


class Bus:
    """A bus of moto's EventBridge API, which runs in this process. Its one rule keeps what moto hands to it."""

    def __init__(self) -> None:
        self.name = f"bus-{uuid4()}"
        self.events: list[dict[str, Any]] = []

    def begin(self) -> None:
        backend: Any = get_backend("events")[ACCOUNT][REGION]
        backend.create_event_bus(name=self.name, event_source_name=None, tags=[]).rules["all"] = self

    def send_to_targets(self, event: dict[str, Any]) -> None:
        self.events.append(event)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def with_bus(gateway: Gateway, bus: Bus) -> Gateway:
    """The gateway of a stack that names the bus, which is there."""
    bus.begin()
    return named(gateway, bus)


def named(gateway: Gateway, bus: Bus) -> Gateway:
    settings = BusSettings(event_bus_name=bus.name, events_endpoint_url=gateway.queue.endpoint_url)
    queue = QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url=gateway.queue.endpoint_url)
    services = replace(gateway.services, event_bus=EventBus(settings), queue=WakeupQueue(queue, has_bus=True))
    return replace(gateway, services=services)


def told(gateway: Gateway, partner: StartPartner, *, count: int = 1, **options: Any) -> Partner:
    """Deliveries to a destination whose events go to another one, which is returned."""
    hook = partner(answers(204))
    receiver = gateway.destination(hook.url(), name="hook", options=DestinationOptions(**options))
    chosen = DestinationOptions(events_to=receiver.destination_id)
    gateway.destination(partner(answers(200)).url(), options=chosen)
    for _ in range(count):
        accept(gateway.new(), wait_seconds=None, services=gateway.services)
    return hook


def work(gateway: Gateway, *, after: float = 0) -> None:
    gateway.clock.forward(after)
    attempt_due(gateway.queue.take(), services=gateway.services)


def for_bus(gateway: Gateway) -> list[Wakeup]:
    return [wakeup for wakeup in gateway.queue.wakeups() if wakeup.for_bus]


def test_an_event_goes_to_the_bus_and_to_the_destination(with_bus: Gateway, bus: Bus, partner: StartPartner) -> None:
    hook = told(with_bus, partner)
    work(with_bus)
    assert bus.events == []
    work(with_bus, after=2)
    (event,) = bus.events
    (sent,) = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in hook.requests]
    assert (event["source"], event["detail-type"]) == ("sallyport", "delivery.delivered")
    (stored,) = with_bus.sql("SELECT delivery_id, tenant_id FROM delivery WHERE event IS NOT NULL")
    ids = {"event_id": str(stored["delivery_id"]), "tenant_id": str(stored["tenant_id"])}
    assert event["detail"] == {**ids, **sent}
    assert with_bus.queue.wakeups() == []


def test_without_a_bus_nothing_more_is_queued(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner)
    work(gateway)
    assert [wakeup.for_bus for wakeup in gateway.queue.wakeups()] == [False]


def test_its_message_for_the_bus_is_there_before_its_row(
    with_bus: Gateway, bus: Bus, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(with_bus, partner)
    write = table._write
    queued: list[list[Wakeup]] = []

    def noted(*args: Any, **kwargs: Any) -> Any:
        queued.append(for_bus(with_bus))
        return write(*args, **kwargs)

    monkeypatch.setattr(table, "_write", noted)
    work(with_bus)
    (stored,) = with_bus.sql("SELECT delivery_id FROM delivery WHERE event IS NOT NULL")
    assert [[wakeup.delivery_id for wakeup in found] for found in queued] == [[stored["delivery_id"]]]


@pytest.mark.parametrize("state", ["paused", "active"])
def test_a_destination_that_takes_nothing_keeps_nothing_from_the_bus(
    with_bus: Gateway, bus: Bus, partner: StartPartner, state: str
) -> None:
    told(with_bus, partner)
    with_bus.sql("UPDATE destination SET state = %s, base_url = 'http://127.0.0.1:1' WHERE name = 'hook'", state)
    work(with_bus)
    work(with_bus, after=2)
    assert len(bus.events) == 1
    assert for_bus(with_bus) == []


def test_what_the_destination_redacts_is_on_the_bus_all_the_same(
    with_bus: Gateway, bus: Bus, partner: StartPartner
) -> None:
    """Its delivery may end before the bus is told, and then the bodies of others are deleted."""
    told(with_bus, partner, redact=Redaction(pointers=("/data",)))
    work(with_bus)
    with_bus.clock.forward(2)
    queued = with_bus.queue.take()
    attempt_due([wakeup for wakeup in queued if not wakeup.for_bus], services=with_bus.services)
    attempt_due([wakeup for wakeup in queued if wakeup.for_bus], services=with_bus.services)
    assert len(bus.events) == 1


def test_while_the_bus_is_away_it_is_tried_less_and_less_often_and_nothing_is_lost(
    gateway: Gateway, bus: Bus, partner: StartPartner
) -> None:
    """Nobody has made it yet."""
    gateway = named(gateway, bus)
    told(gateway, partner, count=2)
    work(gateway)
    work(gateway, after=2)
    gaps = []
    for _ in range(9):
        waits = {(wakeup.due_at - gateway.clock()).total_seconds() for wakeup in for_bus(gateway)}
        (gap,) = waits
        gaps.append(gap)
        work(gateway, after=gap)
    assert gaps[0] == 60
    assert gaps == sorted(gaps)
    assert gaps[-1] > 3600
    bus.begin()
    work(gateway, after=43_200)
    assert len(bus.events) == 2
    assert for_bus(gateway) == []


def test_a_message_without_an_event_is_dropped_after_two_more_looks(with_bus: Gateway, bus: Bus) -> None:
    nowhere = Wakeup(
        delivery_id=uuid4(),  # type: ignore[arg-type]
        due_at=with_bus.clock(),
        group="event-bus",
        of_job=True,
        for_bus=True,
    )
    attempt_due([nowhere], services=with_bus.services)
    for left in (1, 1, 0):
        assert len(for_bus(with_bus)) == left or left == 0
        work(with_bus, after=50)
    assert with_bus.queue.wakeups() == []
    assert bus.events == []


def test_without_a_database_it_is_looked_for_later(
    with_bus: Gateway, bus: Bus, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(with_bus, partner)
    work(with_bus)

    def unavailable(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("away", retry_after_seconds=1)

    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "events", unavailable)
        work(with_bus, after=2)
    assert bus.events == []
    work(with_bus, after=40)
    assert len(bus.events) == 1


def test_what_cannot_be_put_on_the_bus_keeps_no_delivery_from_being_sent(
    with_bus: Gateway, bus: Bus, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = told(with_bus, partner)
    work(with_bus)

    def fault(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr(flow, "tell_bus", fault)
        work(with_bus, after=2)
    assert len(hook.requests) == 1
    work(with_bus, after=40)
    assert len(bus.events) == 1


def test_a_stack_that_names_no_bus_any_more_drops_what_was_for_it(
    with_bus: Gateway, bus: Bus, partner: StartPartner
) -> None:
    told(with_bus, partner)
    work(with_bus)
    with_bus.clock.forward(2)
    attempt_due(with_bus.queue.take(), services=replace(with_bus.services, event_bus=None))
    assert (bus.events, for_bus(with_bus)) == ([], [])


def test_what_comes_early_is_queued_again_for_the_bus_and_for_the_destination(
    with_bus: Gateway, partner: StartPartner
) -> None:
    told(with_bus, partner)
    work(with_bus)
    work(with_bus)
    assert sorted(wakeup.for_bus for wakeup in with_bus.queue.wakeups()) == [False, True]


def test_what_a_person_does_is_on_the_bus_too(with_bus: Gateway, bus: Bus, partner: StartPartner) -> None:
    told(with_bus, partner)
    (stored,) = with_bus.sql("SELECT delivery_id FROM delivery")
    actor = Actor(by="01939d2a-7a10-7c3e-9f4b-5d1c0e6a2b31")
    cancel(stored["delivery_id"], tenant_id=with_bus.tenant_id, actor=actor, services=with_bus.services)
    work(with_bus, after=2)
    assert [event["detail-type"] for event in bus.events] == ["delivery.canceled"]


def test_a_message_for_the_bus_that_sqs_refuses_counts_as_refused(
    with_bus: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever queues an event knows then that it has no message, and does not tell, or its own message comes back."""
    queue = with_bus.services.queue
    own = Wakeup(delivery_id=uuid4(), due_at=with_bus.clock(), group="g")  # type: ignore[arg-type]
    event = replace(own, of_event=True)

    def refused(entries: Sequence[dict[str, object]]) -> list[dict[str, object]]:
        return [entry for entry in entries if "for_bus" in str(entry["MessageBody"])]

    monkeypatch.setattr(queue, "_refused", refused)
    assert queue.send_some([own, event, own], now=with_bus.clock()) == {1}

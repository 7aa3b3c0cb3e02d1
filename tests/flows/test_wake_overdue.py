"""Deliveries whose messages are gone: woken by an operator's call, and no harm where they were not gone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from flows.accept import accept
from flows.attempt import attempt_due
from flows.wake_overdue import Woken, wake_overdue
from runtime.settings import QueueSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import Gateway, statements
from tests.support.partners import answers, answers_in_turn
from wakeups.sqs import WakeupQueue

type StartPartner = Callable[[Script], Partner]


def create_delivery(gateway: Gateway, **overrides: object) -> DeliveryId:
    gateway.clock.forward(1)
    return accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services).delivery.delivery_id


def wake(gateway: Gateway, *, after: DeliveryId | None = None, limit: int = 500) -> Woken:
    return wake_overdue(overdue_seconds=600, after=after, limit=limit, services=gateway.services)


def test_a_delivery_gets_the_message_again_that_it_was_accepted_with(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    delivery_id = create_delivery(gateway)
    (first,) = gateway.queue.take()
    gateway.clock.forward(601)
    with statements(gateway) as made:
        assert wake(gateway) == Woken(count=1, next_after=None)
    assert len(made) == 1
    assert gateway.queue.wakeups() == [replace(first, due_at=gateway.clock())]
    assert first.delivery_id == delivery_id


def test_a_lapsed_lease_is_judged_as_one_whose_message_came_back(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    create_delivery(gateway)
    gateway.queue.take()
    gateway.sql(
        "UPDATE delivery SET state = 'sending', attempts_made = 1, lease_id = gen_random_uuid(), leased_until = %s",
        gateway.clock(),
    )
    gateway.clock.forward(601)
    assert wake(gateway).count == 1
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "unknown"  # a POST that may have gone out is not sent again
    assert server.requests == []


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two batches"])
def test_a_delivery_that_has_a_message_is_sent_no_more_often_for_a_second_one(
    gateway: Gateway, partner: StartPartner, together: bool
) -> None:
    server = partner(answers_in_turn(503, 200))
    gateway.destination(server.url())
    create_delivery(gateway)
    gateway.clock.forward(601)
    wake(gateway)
    assert len(gateway.queue.wakeups()) == 2
    while messages := gateway.queue.take():
        for batch in [messages] if together else [[message] for message in messages]:
            attempt_due(batch, services=gateway.services)
        gateway.clock.forward(10)
    assert gateway.delivery()["state"] == "delivered"
    assert len(server.requests) == 2


def test_a_call_wakes_as_many_as_it_may_and_says_where_the_next_one_goes_on(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    made = [create_delivery(gateway) for _ in range(4)]
    gateway.queue.take()
    gateway.clock.forward(1000)
    first = wake(gateway, limit=3)
    second = wake(gateway, after=first.next_after, limit=3)
    assert (first, second) == (Woken(count=3, next_after=made[2]), Woken(count=1, next_after=None))
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == made


def test_where_the_queue_takes_none_the_caller_is_told_and_calls_again(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway)
    gateway.queue.take()
    gateway.clock.forward(1000)
    away = WakeupQueue(QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(QueueUnavailable):
        wake_overdue(overdue_seconds=600, after=None, limit=500, services=replace(gateway.services, queue=away))
    woken: list[Wakeup] = gateway.queue.wakeups()
    assert woken == []
    assert wake(gateway).count == 1

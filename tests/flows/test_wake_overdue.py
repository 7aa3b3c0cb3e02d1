"""Deliveries whose messages are gone: woken by an operator's call, and no harm where they were not gone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from db.attempts import NextUp
from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from flows import wake as wake_next
from flows.accept import accept
from flows.attempt import attempt_due
from flows.wake_overdue import WORKER_SECONDS, Woken, wake_overdue
from runtime import aws
from runtime.aws import AwsCallFailed
from runtime.settings import QueueSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import Clock, Gateway, statements
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


def test_a_call_wakes_as_many_as_allowed_and_says_where_the_next_one_continues(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    made = [create_delivery(gateway) for _ in range(4)]
    gateway.queue.take()
    gateway.clock.forward(1000)
    first = wake(gateway, limit=3)
    second = wake(gateway, after=first.next_after, limit=3)
    assert (first, second) == (Woken(count=3, next_after=made[2]), Woken(count=1, next_after=None))
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == made


def test_when_the_queue_accepts_none_the_caller_is_told_to_call_again(gateway: Gateway) -> None:
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


def create_many(gateway: Gateway, count: int) -> list[DeliveryId]:
    """Overdue deliveries without a message, by id."""
    gateway.destination("http://127.0.0.1:1")
    create_delivery(gateway)
    gateway.copy_deliveries(count - 1, states=["pending"])
    gateway.queue.take()
    gateway.clock.forward(1000)
    return [row["delivery_id"] for row in gateway.sql("SELECT delivery_id FROM delivery ORDER BY delivery_id")]


@dataclass
class SlowSqs:
    """moto's SQS behind calls that each take `seconds` of the gateway's clock; those from the `fails_from`th on fail
    after that."""

    clock: Clock
    seconds: float = 0
    fails_from: int = 10**6
    targets: list[str] = field(default_factory=list)

    def call(self, service: str, target: str, payload: Mapping[str, object], **more: Any) -> dict[str, Any]:
        self.targets.append(target)
        self.clock.forward(self.seconds)
        if len(self.targets) >= self.fails_from:
            raise AwsCallFailed(code="ServiceUnavailable", message="slow down", retryable=True)
        return aws.call(service, target, payload, **more)


@pytest.fixture
def sqs(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> SlowSqs:
    slow = SlowSqs(gateway.clock)
    monkeypatch.setattr("wakeups.sqs.call", slow.call)
    return slow


def test_five_hundred_deliveries_cost_one_statement_and_a_call_of_sqs_for_ten(gateway: Gateway, sqs: SlowSqs) -> None:
    made = create_many(gateway, 500)
    sqs.targets.clear()
    with statements(gateway) as ran:
        assert wake(gateway) == Woken(count=500, next_after=made[-1])
    assert len(ran) == 1
    assert sqs.targets == ["AmazonSQS.SendMessageBatch"] * 50
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == made


@pytest.mark.parametrize("seconds", [1.8, 4, 5])
def test_a_call_ends_in_time_however_slow_sqs_is_and_says_how_far_it_came(
    gateway: Gateway, sqs: SlowSqs, seconds: float
) -> None:
    made = create_many(gateway, 200)
    sqs.seconds = seconds
    began, woken, after, calls = gateway.clock(), 0, None, 0
    while calls == 0 or after is not None:
        began = gateway.clock()
        answer = wake(gateway, after=after)
        assert gateway.clock() - began <= timedelta(seconds=WORKER_SECONDS)
        assert answer.count > 0 or answer.next_after is None
        woken, after, calls = woken + answer.count, answer.next_after, calls + 1
    assert (woken, calls > 1) == (200, True)
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == made


def test_the_time_is_what_the_function_has_left(gateway: Gateway, sqs: SlowSqs) -> None:
    made = create_many(gateway, 50)
    sqs.seconds = 4
    woken = wake_overdue(overdue_seconds=600, after=None, limit=500, services=gateway.services, seconds_left=16)
    assert woken == Woken(count=20, next_after=made[19])


def test_what_sqs_accepted_before_it_failed_is_reported_and_the_next_call_continues_after_it(
    gateway: Gateway, sqs: SlowSqs
) -> None:
    made = create_many(gateway, 35)
    sqs.targets.clear()
    sqs.fails_from = 3
    first = wake(gateway)
    assert first == Woken(count=20, next_after=made[19])
    with pytest.raises(QueueUnavailable):
        wake(gateway, after=first.next_after)
    sqs.fails_from = 10**6
    assert wake(gateway, after=first.next_after) == Woken(count=15, next_after=None)
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == made


def test_what_another_delivery_lets_go_looks_again_by_itself_where_the_queue_fails(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.destination("http://127.0.0.1:1")
    delivery_id = create_delivery(gateway)
    next_up = NextUp(delivery_id=delivery_id, tenant_id=gateway.tenant_id, destination_name="partner")
    nowhere = QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url="http://127.0.0.1:1")
    wake_next.wake([next_up], services=replace(gateway.services, queue=WakeupQueue(nowhere)))
    assert "deliveries look again by themselves" in caplog.text
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == [delivery_id]  # its own

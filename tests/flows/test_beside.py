"""On a quiet stack each process lives for one batch: what is done beside batches is done all the same, now and then."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from flows import retention as retention_flow
from flows.accept import accept
from flows.beside import FIRST_SHARE, Beside
from flows.overdue_look import OVERDUE_SECONDS, OverdueLook
from flows.retention import RetentionWalk
from flows.seal_schedule import SealSchedule
from flows.services import Services
from runtime.observability import metrics
from tests.support.gateway import Gateway, statements

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROCESSES = 60


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    metrics.clear_metrics()
    yield
    metrics.clear_metrics()


def by_chance(gateway: Gateway, seed: int = 1) -> Services:
    return replace(gateway.services, chance=Random(seed).random)


def stored(gateway: Gateway) -> int:
    return len(gateway.sql("SELECT delivery_id FROM delivery"))


def test_a_share_of_new_processes_does_it_at_once_and_the_others_after_the_interval() -> None:
    numbers = Random(3)
    made = [Beside(every_seconds=60.0) for _ in range(400)]
    at_once = [beside for beside in made if beside.is_due(now=NOW, chance=numbers.random)]
    assert 0.6 * FIRST_SHARE < len(at_once) / len(made) < 1.4 * FIRST_SHARE
    for seconds, due in ((59.9, False), (60.0, True), (61.0, False), (120.0, True)):
        now = NOW + timedelta(seconds=seconds)
        assert {beside.is_due(now=now, chance=numbers.random) for beside in made} == {due}, seconds


def test_what_is_overdue_is_counted_by_processes_that_live_for_one_batch(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    gateway.clock.forward(OVERDUE_SECONDS + 1)
    services = by_chance(gateway)
    for _ in range(PROCESSES):
        OverdueLook().go_on(services=services)
    found = metrics.provider.metric_set["DeliveriesOverdue"]["Value"]
    assert set(found) == {1.0}
    assert len(found) < PROCESSES / 2


def test_what_is_old_is_deleted_at_each_destination_by_processes_that_live_for_one_batch(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on where the last one stopped."""
    monkeypatch.setattr(retention_flow, "TURN_PAGES", 1)
    for number in range(4):
        gateway.destination("http://127.0.0.1:1", name=f"partner-{number}")
        accept(gateway.new(destination=f"partner-{number}"), wait_seconds=None, services=gateway.services)
    gateway.sql("UPDATE delivery SET state = 'delivered', finished_at = %s", gateway.clock())
    gateway.clock.forward(91 * 86_400)
    services = by_chance(gateway)
    for _ in range(2 * PROCESSES):
        RetentionWalk().go_on(services=services)
    assert stored(gateway) == 0


def test_attempts_are_sealed_by_processes_that_live_for_one_batch(gateway: Gateway) -> None:
    services = by_chance(gateway)
    with statements(gateway) as made:
        for _ in range(PROCESSES):
            SealSchedule(clock=services.clock, chance=services.chance).run(services=services)
    assert 1 <= len(made) < PROCESSES / 2

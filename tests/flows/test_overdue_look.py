"""Workers count what is overdue, beside their other work and without waking anything."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from db import deliveries
from flows.accept import accept
from flows.overdue_look import LOOK_SECONDS, LOOKS, OVERDUE_SECONDS, OverdueLook
from runtime.observability import metrics
from tests.support.gateway import Gateway, statements


@pytest.fixture(autouse=True)
def _counts() -> Iterator[None]:
    metrics.clear_metrics()
    yield
    metrics.clear_metrics()


def counted() -> float | None:
    """The value of the metric, None where it was not counted."""
    found = metrics.provider.metric_set.get("DeliveriesOverdue")
    return None if found is None else sum(found["Value"])


def created(gateway: Gateway, count: int) -> None:
    gateway.destination("http://127.0.0.1:1")
    for _ in range(count):
        accept(gateway.new(), wait_seconds=None, services=gateway.services)
    gateway.queue.take()


def looked(gateway: Gateway, *, after_seconds: float) -> float | None:
    """What a worker counts at its first look, so many seconds after it began."""
    look = OverdueLook()
    look.go_on(services=gateway.services)
    gateway.clock.forward(after_seconds)
    look.go_on(services=gateway.services)
    return counted()


def test_what_is_due_for_half_an_hour_is_counted_and_not_woken(gateway: Gateway) -> None:
    created(gateway, 3)
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 3
    assert gateway.queue.take() == []


def test_what_is_due_for_less_is_not(gateway: Gateway) -> None:
    created(gateway, 1)
    assert looked(gateway, after_seconds=OVERDUE_SECONDS - 60) == 0


def test_a_lease_that_ended_long_ago_is_overdue(gateway: Gateway) -> None:
    created(gateway, 1)
    gateway.sql(
        "UPDATE delivery SET state = 'sending', lease_id = gen_random_uuid(), leased_until = %s, attempts_made = 1",
        gateway.clock(),
    )
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 1


@pytest.mark.parametrize("waiting_for", ["destination_paused", "ordering", "rate_limit", "circuit_breaker"])
def test_what_waits_for_something_is_not_overdue(gateway: Gateway, waiting_for: str) -> None:
    created(gateway, 1)
    gateway.sql("UPDATE delivery SET waiting_for = %s", waiting_for)
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 0


ASKED = "UPDATE delivery SET state = 'unknown', finished_at = created_at, attempts_made = 1, ask_at = created_at"


def test_a_question_that_is_due_for_half_an_hour_is_counted_too(gateway: Gateway) -> None:
    created(gateway, 2)
    gateway.sql(ASKED)
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 2


@pytest.mark.parametrize(
    "changed",
    [
        "waiting_for = 'rate_limit'",
        "ask_at = NULL",
        "ask_at = created_at + interval '1 day'",
        "asking_id = delivery_id, asking_until = created_at + interval '1 day'",
    ],
)
def test_a_question_that_waits_or_is_being_asked_is_not_overdue(gateway: Gateway, changed: str) -> None:
    created(gateway, 1)
    gateway.sql(ASKED)
    gateway.sql(f"UPDATE delivery SET {changed}")  # noqa: S608 - of this test
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 0


@pytest.mark.parametrize("state", ["paused", "disabled"])
def test_nothing_is_overdue_that_its_destination_holds_back(gateway: Gateway, state: str) -> None:
    created(gateway, 2)
    gateway.sql(f"{ASKED} WHERE delivery_id = (SELECT min(delivery_id::text)::uuid FROM delivery)")  # noqa: S608
    gateway.sql("UPDATE destination SET state = %s, state_changed_at = created_at, state_changed_by = 't'", state)
    assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) == 0
    gateway.sql("UPDATE destination SET state = 'active'")
    gateway.clock.forward(LOOK_SECONDS)
    metrics.clear_metrics()
    assert looked(gateway, after_seconds=LOOK_SECONDS) == 2


def test_destinations_beyond_those_of_a_look_are_the_next_looks(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "COUNTED_DESTINATIONS", 2)
    monkeypatch.setattr(deliveries, "COUNTED_DELIVERIES", 2)
    for number in range(5):
        gateway.clock.forward(1)  # ids are in the order of time
        gateway.destination("http://127.0.0.1:1", name=f"partner-{number}")
        for _ in range(number + 1):
            accept(gateway.new(destination=f"partner-{number}"), wait_seconds=None, services=gateway.services)
    gateway.queue.take()
    look = OverdueLook()
    look.go_on(services=gateway.services)
    gateway.clock.forward(OVERDUE_SECONDS)
    found = []
    for _ in range(4):
        gateway.clock.forward(LOOK_SECONDS)
        look.go_on(services=gateway.services)
        found.append(counted())
        metrics.clear_metrics()
    assert found == [1 + 2, 2 + 2, 2, 1 + 2]


def test_of_many_processes_a_few_look(gateway: Gateway) -> None:
    created(gateway, 1)
    numbers = Random(7)
    services = replace(gateway.services, workers=200, chance=numbers.random)
    looks = [OverdueLook() for _ in range(200)]
    for look in looks:
        look.go_on(services=services)
    gateway.clock.forward(LOOK_SECONDS)
    with statements(gateway) as made:
        for look in looks:
            look.go_on(services=services)
    assert 1 <= len(made) <= 3 * LOOKS


def test_a_process_looks_now_and_then_and_not_when_it_has_begun(gateway: Gateway) -> None:
    created(gateway, 1)
    look = OverdueLook()
    for forward, cost in ((0, 0), (LOOK_SECONDS - 1, 0), (1, 1), (LOOK_SECONDS - 1, 0), (1, 1)):
        gateway.clock.forward(forward)
        with statements(gateway) as made:
            look.go_on(services=gateway.services)
        assert len(made) == cost, forward


def test_a_database_that_is_away_is_no_fault_of_ours_and_counts_nothing(gateway: Gateway) -> None:
    created(gateway, 1)
    gateway.services.database.close()
    gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
    try:
        assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) is None
        assert "DeliveryFaults" not in metrics.provider.metric_set
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")

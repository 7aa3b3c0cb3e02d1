"""Workers count what is overdue, beside their other work and without waking anything."""

from collections.abc import Iterator

import pytest

from flows.accept import accept
from flows.overdue_look import LOOK_SECONDS, OVERDUE_SECONDS, OverdueLook
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


def test_a_process_looks_now_and_then_and_not_when_it_has_begun(gateway: Gateway) -> None:
    created(gateway, 1)
    look = OverdueLook()
    for forward, cost in ((0, 0), (LOOK_SECONDS - 1, 0), (1, 1), (LOOK_SECONDS - 1, 0), (1, 1)):
        gateway.clock.forward(forward)
        with statements(gateway) as made:
            look.go_on(services=gateway.services)
        assert len(made) == cost, forward


def test_without_a_database_nothing_is_raised_and_nothing_counted(gateway: Gateway) -> None:
    created(gateway, 1)
    gateway.services.database.close()
    gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
    try:
        assert looked(gateway, after_seconds=OVERDUE_SECONDS + 60) is None
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")

"""The life of a delivery, one worker's batch at a time."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
import pytest

from db import deliveries
from db.connection import Connection, Database, Parameters, Row
from domain.auth import BearerAuth, auth_type
from domain.deliveries import Claim, State
from domain.destinations import Guarantee, Timeouts
from domain.errors import DatabaseUnavailable, QueueUnavailable, SecretUnavailable
from domain.ids import DeliveryId
from domain.wakeups import MISS_DELAYS_SECONDS, ROW_COMES_WITHIN_SECONDS, Wakeup
from egress.credentials import seal_auth
from egress.seal_keys import SealKeys
from egress.sealing import SealKey
from flows.accept import accept
from flows.attempt import SETTLE_SECONDS, attempt_due, make_attempts
from flows.deliver import deliver, find
from flows.judge import LAPSE_SECONDS, JudgedAttempt
from flows.settle import CARRY_SECONDS, record
from handlers.schemas.deliveries import delivery_details
from runtime.settings import DatabaseSettings, QueueSettings
from tests.egress.servers import Partner, Script
from tests.support.gateway import FIXED_ADDRESS, START, Gateway, statements
from tests.support.partners import answers, answers_in_turn, closes_in_the_middle, hangs, takes_and_closes
from wakeups.sqs import WakeupQueue

type StartPartner = Callable[[Script], Partner]


def create_delivery(gateway: Gateway, **overrides: object) -> DeliveryId:
    """Accepts a delivery; its wake-up is in the queue."""
    return accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services).delivery.delivery_id


def work(gateway: Gateway) -> None:
    """Hands all messages of the queue to one worker."""
    attempt_due(gateway.queue.take(), services=gateway.services)


def attempt_without_recording(gateway: Gateway, delivery_id: DeliveryId) -> list[JudgedAttempt]:
    """What a worker that is slower than its lease has in hand."""
    found = deliveries.claim(
        gateway.services.database, [delivery_id], lease=gateway.services.new_lease(gateway.clock()), now=gateway.clock()
    )
    claims = [claim for claim in found if isinstance(claim, Claim)]
    return make_attempts(claims, end_at=soon(gateway), services=gateway.services)


def soon(gateway: Gateway) -> datetime:
    """When a worker that starts now must be done."""
    return gateway.clock() + timedelta(seconds=45)


def test_a_delivery_reaches_the_partner_and_its_outcome_is_recorded(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(201, b'{"id":7}', "X-Partner: yes"))
    gateway.destination(server.url("/v1"))
    delivery_id = create_delivery(gateway, query="a=1", headers=(("X-Mine", "1"),))

    work(gateway)

    (request,) = server.requests
    assert request.startswith(b"POST /v1/orders?a=1 HTTP/1.1\r\n")
    assert b"\r\nX-Mine: 1\r\n" in request
    assert f"\r\nIdempotency-Key: {delivery_id}\r\n".encode() in request
    assert request.endswith(b'\r\n\r\n{"amount":1}')
    (attempt,) = gateway.attempts()
    assert (attempt["outcome"], attempt["status"], attempt["response_body"]) == ("answered", 201, b'{"id":7}')
    assert ["X-Partner", "yes"] in attempt["response_headers"]
    assert (str(attempt["remote_address"]), str(attempt["egress_address"])) == ("127.0.0.1", FIXED_ADDRESS)
    assert gateway.delivery()["state"] == "delivered"
    assert gateway.queue.wakeups() == []


def test_a_failed_try_is_repeated_by_the_schedule_until_it_succeeds(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers_in_turn(503, 200))
    gateway.destination(server.url())
    create_delivery(gateway)

    work(gateway)
    assert gateway.delivery()["state"] == "pending"
    assert gateway.delivery()["due_at"] == START + timedelta(seconds=5)
    assert gateway.queue.delays() == [5]

    gateway.clock.forward(5)
    work(gateway)
    assert gateway.delivery()["state"] == "delivered"
    assert [attempt["status"] for attempt in gateway.attempts()] == [503, 200]
    keys = [line for request in server.requests for line in request.split(b"\r\n") if line.startswith(b"Idempotency")]
    assert keys[0] == keys[1]


def test_after_ten_attempts_over_three_days_a_delivery_has_failed(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(500))
    gateway.destination(server.url())
    create_delivery(gateway)

    for _ in range(10):
        gateway.clock.now = max(gateway.clock.now, gateway.delivery()["due_at"])
        work(gateway)

    assert gateway.delivery()["state"] == "failed"
    assert len(server.requests) == 10
    assert gateway.clock.now - START == timedelta(seconds=5 + 300 + 1800 + 7200 + 18000 + 36000 + 50400 + 72000 + 86400)


def test_a_refusal_of_the_partner_is_not_repeated(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(400)).url())
    create_delivery(gateway)
    work(gateway)
    assert gateway.delivery()["state"] == "failed"
    assert gateway.queue.wakeups() == []


def test_a_redirect_is_not_followed(gateway: Gateway, partner: StartPartner) -> None:
    elsewhere = partner(answers(200))
    gateway.destination(partner(answers(307, b"", f"Location: {elsewhere.url()}")).url())
    create_delivery(gateway)
    work(gateway)
    assert gateway.delivery()["state"] == "failed"
    assert elsewhere.requests == []


def test_retry_after_wins_where_it_is_later(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(429, b"", "Retry-After: 600")).url())
    create_delivery(gateway)
    work(gateway)
    assert gateway.delivery()["due_at"] == START + timedelta(seconds=600)


@pytest.mark.parametrize("script", [takes_and_closes, closes_in_the_middle])
def test_a_post_without_a_complete_answer_is_held_and_never_sent_again(
    gateway: Gateway, partner: StartPartner, script: Script
) -> None:
    server = partner(script)
    gateway.destination(server.url())
    create_delivery(gateway)

    work(gateway)
    gateway.clock.forward(100_000)
    work(gateway)

    assert gateway.delivery()["state"] == "unknown"
    assert [attempt["outcome"] for attempt in gateway.attempts()] == ["unknown"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("method", "overrides"),
    [("PUT", {}), ("POST", {"guarantee": Guarantee.AT_LEAST_ONCE}), ("POST", {"idempotent": True})],
)
def test_what_may_be_repeated_is_tried_again_without_an_answer(
    gateway: Gateway, partner: StartPartner, method: str, overrides: dict[str, object]
) -> None:
    gateway.destination(partner(takes_and_closes).url(), **overrides)
    create_delivery(gateway, method=method)
    work(gateway)
    assert gateway.delivery()["state"] == "pending"
    assert gateway.queue.delays() == [5]


def test_even_an_idempotent_method_is_held_at_most_once(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(takes_and_closes).url(), guarantee=Guarantee.AT_MOST_ONCE)
    create_delivery(gateway, method="PUT")
    work(gateway)
    assert gateway.delivery()["state"] == "unknown"


def test_a_partner_that_cannot_be_reached_is_tried_again_whatever_the_guarantee(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1", guarantee=Guarantee.AT_MOST_ONCE)
    create_delivery(gateway)
    work(gateway)
    (attempt,) = gateway.attempts()
    assert attempt["outcome"] == "unreachable"
    assert attempt["egress_address"] is None
    assert gateway.delivery()["state"] == "pending"


def test_what_our_guard_refuses_fails_at_once_and_nothing_is_sent(gateway: Gateway) -> None:
    gateway.destination("http://169.254.169.254/latest")
    create_delivery(gateway)
    work(gateway)
    (attempt,) = gateway.attempts()
    assert attempt["outcome"] == "refused"
    assert gateway.delivery()["state"] == "failed"


def test_the_credentials_go_out_and_are_nowhere_in_what_is_stored(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    auth = BearerAuth(token="the-partners-secret")
    made = gateway.destination(server.url())
    sealed = seal_auth(auth, destination_id=made.destination_id, key=gateway.services.seal_key)
    gateway.sql("UPDATE destination SET auth_type = %s, sealed_credentials = %s", auth_type(auth).value, sealed)
    create_delivery(gateway)
    work(gateway)
    assert b"\r\nAuthorization: Bearer the-partners-secret\r\n" in server.requests[0]
    for table in ("destination", "delivery", "attempt"):
        assert "the-partners-secret" not in str(gateway.sql(f"SELECT * FROM {table}"))  # noqa: S608 - three known names


def test_credentials_that_do_not_open_send_nothing_and_are_tried_again(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    made = gateway.destination(server.url())
    other = SealKey.derived_from("another key for tests, also long enough")
    sealed = seal_auth(BearerAuth(token="x"), destination_id=made.destination_id, key=other)
    gateway.sql("UPDATE destination SET auth_type = 'bearer', sealed_credentials = %s", sealed)
    create_delivery(gateway)
    work(gateway)
    assert server.requests == []
    (attempt,) = gateway.attempts()
    assert (attempt["outcome"], gateway.delivery()["state"]) == ("unreachable", "pending")
    assert "credentials" in attempt["reason"]


def test_a_whole_batch_costs_two_statements(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    for _ in range(10):
        create_delivery(gateway)
    wakeups = gateway.queue.take()
    with statements(gateway) as counted:
        attempt_due(wakeups, services=gateway.services)
    assert len(counted) == 2
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


def test_accepting_costs_one_statement(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    with statements(gateway) as counted:
        create_delivery(gateway)
    assert len(counted) == 1


def test_a_leased_delivery_is_invisible_to_a_second_worker(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    delivery_id = create_delivery(gateway)
    (wakeup,) = gateway.queue.take()
    lease = gateway.services.new_lease(gateway.clock())
    deliveries.claim(gateway.services.database, [delivery_id], lease=lease, now=gateway.clock())

    attempt_due([wakeup], services=gateway.services)

    assert server.requests == []
    (put_back,) = gateway.queue.wakeups()
    assert put_back.due_at == lease.until


@pytest.mark.parametrize(("method", "state", "requests"), [("POST", "unknown", 0), ("PUT", "delivered", 1)])
def test_a_worker_that_died_leaves_an_unknown_outcome(
    gateway: Gateway, partner: StartPartner, method: str, state: str, requests: int
) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    delivery_id = create_delivery(gateway, method=method)
    gateway.queue.take()
    deliveries.claim(
        gateway.services.database, [delivery_id], lease=gateway.services.new_lease(gateway.clock()), now=gateway.clock()
    )
    wakeup = Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g")

    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due([wakeup], services=gateway.services)
    gateway.clock.forward(LAPSE_SECONDS)
    work(gateway)

    first = gateway.attempts()[0]
    assert (first["number"], first["outcome"]) == (1, "unknown")
    assert "stopped before it recorded" in first["reason"]
    assert gateway.delivery()["state"] == state
    assert len(server.requests) == requests


def test_a_late_outcome_replaces_the_unknown_of_a_lapsed_lease(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    delivery_id = create_delivery(gateway)
    gateway.queue.take()
    slow = attempt_without_recording(gateway, delivery_id)  # this worker is slower than its lease
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g")], services=gateway.services)

    record(slow, end_at=soon(gateway), services=gateway.services)

    (attempt,) = gateway.attempts()
    assert (attempt["outcome"], attempt["status"]) == ("answered", 200)
    assert gateway.delivery()["state"] == "delivered"


def test_a_late_success_stands_whatever_the_repeat_that_was_in_flight_comes_to(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The partner did it, and refuses the repeat as one."""
    gateway.destination(partner(answers_in_turn(200, 409)).url(), guarantee=Guarantee.AT_LEAST_ONCE)
    delivery_id = create_delivery(gateway)
    gateway.queue.take()
    slow = attempt_without_recording(gateway, delivery_id)
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g")], services=gateway.services)
    gateway.clock.forward(60)
    repeat = attempt_without_recording(gateway, delivery_id)

    record(slow, end_at=soon(gateway), services=gateway.services)
    assert gateway.delivery()["state"] == "sending"
    record(repeat, end_at=soon(gateway), services=gateway.services)

    found = find(delivery_id, tenant_id=gateway.tenant_id, services=gateway.services)
    assert found.delivery.state is State.DELIVERED
    assert [attempt.response and attempt.response.status for attempt in found.attempts] == [200, 409]
    shown = delivery_details(found, stack_days=90).response
    assert shown is not None
    assert shown.status == 200


class _Interrupted(WakeupQueue):
    """Lets something happen while a worker queues: after it has claimed, and before it records."""

    meanwhile: Callable[[], object]

    def send_some(self, wakeups: Sequence[Wakeup], *, now: datetime) -> frozenset[int]:
        self.meanwhile()
        return super().send_some(wakeups, now=now)


@pytest.mark.parametrize("guarantee", Guarantee)
def test_a_late_retry_has_a_message_when_its_own_one_found_the_lapse(
    gateway: Gateway, partner: StartPartner, guarantee: Guarantee
) -> None:
    """The slow worker records its 503 while the one that found the lapse has claimed and not recorded it yet."""
    gateway.destination(partner(answers_in_turn(503, 200)).url(), guarantee=guarantee)
    delivery_id = create_delivery(gateway)
    gateway.queue.take()
    slow = attempt_without_recording(gateway, delivery_id)
    gateway.clock.forward(gateway.services.lease_seconds)
    interrupted = _Interrupted(
        QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url=gateway.queue.endpoint_url)
    )
    interrupted.meanwhile = lambda: record(slow, end_at=soon(gateway), services=gateway.services)
    wakeup = Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g")
    attempt_due([wakeup], services=replace(gateway.services, queue=interrupted))
    assert gateway.delivery()["state"] == "pending"

    for _ in range(3):
        gateway.clock.forward(600)
        work(gateway)
    assert gateway.delivery()["state"] == "delivered"


def test_an_early_wake_up_hops_on_without_touching_the_database(gateway: Gateway) -> None:
    due_at = START + timedelta(hours=2)
    wakeup = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=due_at, group="g")
    with statements(gateway) as counted:
        attempt_due([wakeup], services=gateway.services)
    assert counted == []
    assert gateway.queue.wakeups() == [wakeup]
    assert gateway.queue.delays() == [900]


def test_a_wake_up_without_a_row_is_looked_at_a_few_times_and_then_dropped(gateway: Gateway) -> None:
    wakeup = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=START, group="g")
    attempt_due([wakeup], services=gateway.services)
    delays = []
    while gateway.queue.wakeups():
        delays += gateway.queue.delays()
        gateway.clock.forward(delays[-1])
        work(gateway)
    assert tuple(delays) == MISS_DELAYS_SECONDS


def test_a_wake_up_that_was_due_after_its_row_could_come_is_dropped_at_the_first_look(gateway: Gateway) -> None:
    due_at = START + timedelta(seconds=ROW_COMES_WITHIN_SECONDS + 1)
    old = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=due_at, group="g")
    gateway.clock.forward(ROW_COMES_WITHIN_SECONDS + 1)
    assert attempt_due([old], services=gateway.services) == frozenset()
    assert gateway.queue.wakeups() == []


@pytest.mark.parametrize("ahead_seconds", [-60, 60, 3600])
def test_a_worker_whose_clock_is_wrong_still_waits_for_a_row(gateway: Gateway, ahead_seconds: int) -> None:
    """The wake-up overtakes its row, and by the worker's clock no row can come any more for so old an id."""
    wakeup = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=START, group="g")
    gateway.clock.forward(ahead_seconds)
    attempt_due([wakeup], services=gateway.services)
    assert [again.delivery_id for again in gateway.queue.wakeups()] == [wakeup.delivery_id]


def test_a_wake_up_whose_id_is_of_the_future_is_dropped_after_a_few_tries(gateway: Gateway) -> None:
    attempt_due(
        [Wakeup(delivery_id=DeliveryId(UUID(int=2**128 - 1)), due_at=START, group="g")], services=gateway.services
    )
    looks = 1
    while gateway.queue.wakeups():
        gateway.clock.forward(100)
        work(gateway)
        looks += 1
    assert looks == 1 + len(MISS_DELAYS_SECONDS)


def test_a_wake_up_that_overtakes_its_row_finds_it_at_the_second_try(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    delivery_id = DeliveryId(gateway.services.new_id(START))
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=START, group="g")], services=gateway.services)
    again = gateway.queue.take()
    deliveries.accept(
        gateway.services.database,
        gateway.new(),
        delivery_id=delivery_id,
        fingerprint=bytes(32),
        now=START,
        lease=gateway.services.new_lease(START),
        wait_seconds=None,
    )
    gateway.clock.forward(1)
    attempt_due(again, services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"


def test_the_wake_up_of_a_finished_delivery_does_nothing(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    create_delivery(gateway)
    twice = gateway.queue.take() * 2
    attempt_due(twice, services=gateway.services)
    attempt_due(twice, services=gateway.services)
    assert len(server.requests) == 1
    assert gateway.queue.wakeups() == []


def test_a_retry_woken_too_early_is_put_back_to_its_time(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(503))
    gateway.destination(server.url())
    delivery_id = create_delivery(gateway)
    work(gateway)
    gateway.queue.take()
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=START, group="g")], services=gateway.services)
    assert len(server.requests) == 1
    assert gateway.queue.delays() == [5]


def test_without_a_database_the_wake_ups_are_put_back_and_nothing_is_dead_lettered(gateway: Gateway) -> None:
    dead = Database(DatabaseSettings(database_url="postgresql://127.0.0.1:1/none"))
    wakeup = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=START, group="g")
    attempt_due([wakeup], services=replace(gateway.services, database=dead))
    (put_back,) = gateway.queue.wakeups()
    assert put_back.misses == 0
    assert gateway.queue.delays() == [30]


def test_without_a_queue_what_happened_is_recorded_and_the_messages_must_come_back(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(503)).url())
    create_delivery(gateway)
    dead = WakeupQueue(QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(QueueUnavailable):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, queue=dead))
    assert gateway.delivery()["state"] == "pending"
    assert len(gateway.attempts()) == 1


def test_an_outcome_that_cannot_be_recorded_travels_in_a_wake_up_until_it_can(
    gateway: Gateway, partner: StartPartner
) -> None:
    server = partner(answers(201, b"made"))
    gateway.destination(server.url())
    delivery_id = create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        assert attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky)) == frozenset()
    assert gateway.delivery()["state"] == "sending"
    (carrying,) = gateway.queue.wakeups()
    assert carrying.delivery_id == delivery_id
    assert carrying.record is not None
    assert gateway.queue.delays() == [10]  # the database gets a moment before it is asked again
    assert gateway.clock() - START <= timedelta(seconds=45 - CARRY_SECONDS + 1)  # it was tried for as long as it could

    gateway.clock.now = max(gateway.clock(), carrying.due_at)
    dead = Database(DatabaseSettings(database_url="postgresql://127.0.0.1:1/none"))
    attempt_due(gateway.queue.take(), services=replace(gateway.services, database=dead))
    (carrying,) = gateway.queue.wakeups()  # still without a database: it travels on, and there is one of it
    assert gateway.queue.delays() == [5]

    gateway.clock.now = carrying.due_at
    twice = gateway.queue.take() * 2
    attempt_due(twice[:1], services=gateway.services)
    attempt_due(twice[1:], services=gateway.services)
    (attempt,) = gateway.attempts()
    assert (attempt["status"], attempt["response_body"]) == (201, b"made")
    assert len(server.requests) == 1
    assert gateway.queue.wakeups() == []


def test_an_outcome_is_recorded_as_soon_as_a_database_is_back(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))

    def comes_back(seconds: float) -> None:
        gateway.clock.forward(seconds)
        if gateway.clock() - START > timedelta(seconds=7):
            flaky.away = False

    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky, sleep=comes_back))
    assert gateway.delivery()["state"] == "delivered"
    assert gateway.queue.wakeups() == []


def test_an_outcome_that_the_database_never_accepts_leaves_time_for_the_rest_of_its_batch(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The clock goes on by a second for each try: what is claimed then must still be sent."""
    server = partner(answers(200))
    gateway.destination(server.url())
    create_delivery(gateway, path="/carried")
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky))
    (carrying,) = gateway.queue.take()
    gateway.clock.now = carrying.due_at
    create_delivery(gateway, path="/new")
    with closing(NeverRecords(DatabaseSettings(database_url=gateway.database.url), carrying.delivery_id)) as database:
        attempt_due([carrying, *gateway.queue.take()], services=replace(gateway.services, database=database))
    assert [request.split()[1] for request in server.requests] == [b"/carried", b"/new"]
    assert {row["path"]: row["state"] for row in gateway.sql("SELECT path, state FROM delivery")} == {
        "/carried": "sending",
        "/new": "delivered",
    }
    (again,) = gateway.queue.wakeups()
    assert again.record == carrying.record


def test_a_carried_retry_leaves_one_message(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers_in_turn(503, 200))
    gateway.destination(server.url())
    create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky))
    assert len(gateway.queue.wakeups()) == 2  # the retry and the outcome
    most = 0
    for _ in range(20):
        messages = gateway.queue.take()
        gateway.clock.now = max([gateway.clock(), *(message.due_at for message in messages)])
        attempt_due(messages, services=gateway.services)
        most = max(most, len(gateway.queue.wakeups()))
    assert most <= 2
    assert gateway.delivery()["state"] == "delivered"
    assert [attempt["status"] for attempt in gateway.attempts()] == [503, 200]
    assert gateway.queue.wakeups() == []


def test_a_carried_outcome_that_comes_twice_is_recorded_by_one_statement(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(200)).url())
    create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky))
    (carrying,) = gateway.queue.take()
    gateway.clock.now = carrying.due_at
    with statements(gateway) as counted:
        attempt_due([carrying, carrying], services=gateway.services)
    assert len(counted) == 1
    assert gateway.delivery()["state"] == "delivered"
    assert gateway.queue.wakeups() == []


def test_an_outcome_that_comes_before_its_time_is_recorded_before_anybody_looks(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The clock of this worker is behind that of the one that queued it; beside it is the wake-up that would find the
    lapse."""
    server = partner(answers(200))
    gateway.destination(server.url(), guarantee=Guarantee.AT_LEAST_ONCE)
    delivery_id = create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky))
    (carrying,) = gateway.queue.take()
    gateway.clock.forward(gateway.services.lease_seconds)
    early = replace(carrying, due_at=gateway.clock() + timedelta(seconds=3))
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g"), early], services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"
    assert [attempt["status"] for attempt in gateway.attempts()] == [200]
    assert gateway.queue.wakeups() == []


def test_a_lapse_is_repeated_when_its_outcome_has_had_time_to_come(gateway: Gateway, partner: StartPartner) -> None:
    """The database is back, and the wake-up that finds the lapse comes just before the one that carries the outcome."""
    server = partner(answers(200))
    gateway.destination(server.url(), guarantee=Guarantee.AT_LEAST_ONCE)
    delivery_id = create_delivery(gateway)
    flaky = GoesAway(DatabaseSettings(database_url=gateway.database.url))
    with closing(flaky):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=flaky))
    (carrying,) = gateway.queue.take()
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due([Wakeup(delivery_id=delivery_id, due_at=gateway.clock(), group="g")], services=gateway.services)
    assert gateway.delivery()["state"] == "pending"
    gateway.clock.forward(LAPSE_SECONDS - 1)
    work(gateway)
    attempt_due([carrying], services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"
    assert len(server.requests) == 1


def test_a_worker_with_little_time_left_ends_what_is_on_its_way_and_records_it(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(
        partner(hangs).url(), timeouts=Timeouts(connect_seconds=25, first_byte_seconds=25, total_seconds=25)
    )
    create_delivery(gateway)
    attempt_due(gateway.queue.take(), services=gateway.services, seconds_left=SETTLE_SECONDS + 0.5)
    assert gateway.attempts()[0]["outcome"] == "unknown"
    assert gateway.delivery()["state"] == "unknown"


def test_a_worker_without_time_sends_nothing(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    create_delivery(gateway)
    attempt_due(gateway.queue.take(), services=gateway.services, seconds_left=SETTLE_SECONDS)
    assert server.requests == []
    assert (gateway.attempts()[0]["outcome"], gateway.delivery()["state"]) == ("unreachable", "pending")


def test_early_wake_ups_hop_once_though_others_of_their_batch_come_back(gateway: Gateway) -> None:
    early = Wakeup(delivery_id=DeliveryId(gateway.services.new_id(START)), due_at=START + timedelta(hours=2), group="g")
    refused = replace(
        early, delivery_id=DeliveryId(gateway.services.new_id(START)), group="x" * 200
    )  # longer than SQS takes
    back = attempt_due([refused, early], services=replace(gateway.services, queue=TakesShortGroups(gateway)))
    assert back == {0}
    assert gateway.queue.wakeups() == [early]


class TakesShortGroups(WakeupQueue):
    """The real queue, but for messages of long groups."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url=gateway.queue.endpoint_url))

    def _refused(self, entries):  # type: ignore[no-untyped-def]
        long = [entry for entry in entries if len(entry["MessageGroupId"]) > 128]
        short = [entry for entry in entries if entry not in long]
        return long + (super()._refused(short) if short else [])


class BreaksAfterCommit(Database):
    """Loses the connection once, when the server has committed and its word has not arrived yet."""

    broken = False

    def connection(self) -> Connection:
        connection = super().connection()
        if not self.broken:
            self.broken = True
            return cast(Connection, _Cut(connection))
        return connection


class _Cut:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, *arguments: Any, **options: Any) -> None:
        self._connection.run(*arguments, **options)
        self._connection.close()
        raise psycopg.OperationalError("the connection is lost")


def test_a_claim_that_committed_unseen_is_found_again_and_sent_once(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    create_delivery(gateway)
    cut = BreaksAfterCommit(DatabaseSettings(database_url=gateway.database.url))
    with closing(cut):
        attempt_due(gateway.queue.take(), services=replace(gateway.services, database=cut))
    assert cut.broken
    assert len(server.requests) == 1
    assert [attempt["number"] for attempt in gateway.attempts()] == [1]
    assert gateway.delivery()["state"] == "delivered"


def test_an_acceptance_that_committed_unseen_is_found_again(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    cut = BreaksAfterAccepting(DatabaseSettings(database_url=gateway.database.url))
    with closing(cut):
        progress = deliver(gateway.new(), wait_seconds=10, services=replace(gateway.services, database=cut))
    assert progress.delivery.state is State.DELIVERED
    assert len(server.requests) == 1
    assert gateway.delivery()["state"] == "delivered"


class BreaksAfterAccepting(BreaksAfterCommit):
    """The first connection is asked for before the statement is."""

    asked = 0

    def connection(self) -> Connection:
        self.asked += 1
        return Database.connection(self) if self.asked == 1 else super().connection()


@pytest.mark.parametrize(("status", "state"), [(504, "unknown"), (500, "unknown"), (503, "pending"), (429, "pending")])
def test_at_most_once_also_holds_after_an_answer_that_leaves_it_open(
    gateway: Gateway, partner: StartPartner, status: int, state: str
) -> None:
    gateway.destination(partner(answers(status)).url(), guarantee=Guarantee.AT_MOST_ONCE)
    create_delivery(gateway)
    work(gateway)
    assert gateway.delivery()["state"] == state


def test_an_unavailable_seal_key_is_fetched_once_per_batch_and_delays_no_other_delivery(
    gateway: Gateway, partner: StartPartner
) -> None:
    server = partner(answers(200))
    made = gateway.destination(server.url(), name="sealed")
    sealed = seal_auth(BearerAuth(token="x"), destination_id=made.destination_id, key=gateway.services.seal_key)
    gateway.sql("UPDATE destination SET auth_type = 'bearer', sealed_credentials = %s", sealed)
    gateway.destination(server.url())
    for destination in ("sealed", "sealed", "partner"):
        create_delivery(gateway, destination=destination)
    asked: list[int] = []

    def load() -> SealKeys:
        asked.append(1)
        raise SecretUnavailable("Secrets Manager: timed out", retry_after_seconds=5)

    attempt_due(gateway.queue.take(), services=replace(gateway.services, load_seal_keys=load))
    assert len(asked) == 1
    states = {
        row["name"]: row["state"]
        for row in gateway.sql("SELECT name, delivery.state FROM delivery JOIN destination USING (destination_id)")
    }
    assert states == {"sealed": "pending", "partner": "delivered"}


class GoesAway(Database):
    """Runs one statement; then the server is gone, while it is `away`."""

    ran = False
    away = True

    def connection(self):  # type: ignore[no-untyped-def]
        if self.ran and self.away:
            self.close()
            raise DatabaseUnavailable("gone", retry_after_seconds=1)
        self.ran = True
        return super().connection()


class NeverRecords(Database):
    """Is busy whenever it is to record an attempt of one delivery, as where another session has locked its row."""

    def __init__(self, settings: DatabaseSettings, delivery_id: DeliveryId) -> None:
        super().__init__(settings)
        self._delivery_id = str(delivery_id)

    def rows(
        self, statement: LiteralString, parameters: Parameters, *, repeatable: bool = False, binary: bool = False
    ) -> list[Row]:
        if self._delivery_id in str(parameters.get("records", "")):
            raise DatabaseUnavailable("busy", retry_after_seconds=1)
        return super().rows(statement, parameters, repeatable=repeatable, binary=binary)


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.7.7", "100.64.0.1"])
def test_whoever_is_reached_in_a_private_network_sees_none_of_the_fixed_addresses(
    gateway: Gateway, address: str
) -> None:
    assert gateway.services.address_towards(address) is None


@pytest.mark.parametrize("address", ["172.32.0.1", "100.128.0.1", "9.255.255.255", "2606:4700::1111"])
def test_whoever_is_reached_outside_sees_the_fixed_address(gateway: Gateway, address: str) -> None:
    assert gateway.services.address_towards(address) == FIXED_ADDRESS


def made_attempts(gateway: Gateway, partner: StartPartner, count: int) -> list[JudgedAttempt]:
    """So many attempts of one worker that are still to be recorded."""
    gateway.destination(partner(answers(200)).url())
    for number in range(count):
        accept(gateway.new(path=f"/{number}"), wait_seconds=None, services=gateway.services)
    ids, now = [wakeup.delivery_id for wakeup in gateway.queue.take()], gateway.clock()
    results = deliveries.claim(gateway.services.database, ids, lease=gateway.services.new_lease(now), now=now)
    claims = [result for result in results if isinstance(result, Claim)]
    return list(make_attempts(claims, end_at=now + timedelta(seconds=60), services=gateway.services))


def test_who_cannot_record_in_time_stops_waiting_and_keeps_the_outcome(gateway: Gateway, partner: StartPartner) -> None:
    """A lock that another one holds, which ends after the time for recording."""
    attempts = made_attempts(gateway, partner, 1)
    with psycopg.connect(gateway.database.admin_url) as other:
        other.execute("LOCK TABLE attempt")
        end_at = gateway.clock() + timedelta(seconds=CARRY_SECONDS + 0.2)
        assert list(record(attempts, end_at=end_at, services=gateway.services).unrecorded) == attempts
    end_at = gateway.clock() + timedelta(seconds=CARRY_SECONDS + 60)
    assert not record(attempts, end_at=end_at, services=gateway.services).unrecorded
    assert gateway.delivery()["state"] == "delivered"


def test_of_a_batch_the_deliveries_that_another_worker_has_by_now_are_named(
    gateway: Gateway, partner: StartPartner, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = made_attempts(gateway, partner, 3)
    gateway.sql("UPDATE delivery SET lease_id = gen_random_uuid() WHERE path = '/1'")
    record(attempts, end_at=gateway.clock() + timedelta(seconds=60), services=gateway.services)
    told = [line for line in caplog.records if "another worker has the lease" in line.message]
    (late,) = gateway.sql("SELECT delivery_id FROM delivery WHERE state = 'sending'")
    assert [vars(line)["delivery_id"] for line in told] == [str(late["delivery_id"])]
    assert len(gateway.attempts()) == 3

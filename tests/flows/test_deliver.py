"""Deliveries whose caller waits."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from db.connection import Database
from db.deliveries import claim
from domain.deliveries import PASS_THROUGH_ATTEMPTS, Delivery, State, WaitingFor
from domain.destinations import Guarantee, Timeouts
from domain.errors import DatabaseUnavailable, KeyReused, NotFound, StillInFlight
from domain.limits import Limits
from domain.options import DestinationOptions
from domain.reconcile import Reconcile
from domain.wakeups import Wakeup
from domain.windows import SendingWindow
from flows import deliver as deliver_flow
from flows.accept import CALL_SECONDS, accept
from flows.attempt import attempt_due
from flows.deliver import LEAST_RECORD_SECONDS, RECORD_SECONDS, deliver, find, follow
from flows.judge import LAPSE_SECONDS
from flows.settle import CARRY_SECONDS, record
from runtime.settings import DatabaseSettings, QueueSettings
from tests.egress.servers import OK, Line, Partner, Script
from tests.support.banks import RECONCILE
from tests.support.gateway import START, Gateway, make_gateway, statements
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import WakeupQueue

type StartPartner = Callable[[Script], Partner]


def test_the_caller_gets_the_partners_answer_and_it_is_recorded(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(201, b"made")).url())
    progress = deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    assert progress.answer is not None
    assert (progress.answer.status, progress.answer.body) == (201, b"made")
    assert progress.delivery.state is State.DELIVERED
    assert gateway.delivery()["state"] == "delivered"
    assert [attempt["status"] for attempt in gateway.attempts()] == [201]


def test_it_costs_two_statements(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    with statements(gateway) as counted:
        deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    assert len(counted) == 2


def test_its_wake_up_stays_behind_until_after_the_lease(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    (wakeup,) = gateway.queue.wakeups()
    assert wakeup.due_at == START + timedelta(seconds=gateway.services.lease_seconds)


def test_an_answer_worth_a_retry_leaves_the_delivery_pending(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers_in_turn(503, 200)).url())
    progress = deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    assert progress.delivery.state is State.PENDING
    assert progress.delivery.due_at == START + timedelta(seconds=5)

    gateway.clock.forward(5)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"


def differing(told: Delivery, stored: Delivery) -> dict[str, tuple[object, object]]:
    """By field."""
    pairs = {field.name: (getattr(told, field.name), getattr(stored, field.name)) for field in fields(Delivery)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("attempts_allowed", [PASS_THROUGH_ATTEMPTS, 10])
@pytest.mark.parametrize("reconcile", [None, RECONCILE], ids=["unasked", "asked"])
@pytest.mark.parametrize(
    "script",
    [answers(200), answers(404), answers(410), answers(503), takes_and_closes],
)
def test_what_a_waiting_caller_is_told_is_what_a_later_look_shows(
    gateway: Gateway, partner: StartPartner, script: Script, reconcile: Reconcile | None, attempts_allowed: int
) -> None:
    gateway.destination(
        partner(script).url(), guarantee=Guarantee.AT_MOST_ONCE, options=DestinationOptions(reconcile=reconcile)
    )
    told = deliver(gateway.new(attempts_allowed=attempts_allowed), wait_seconds=25, services=gateway.services)
    stored = find(told.delivery.delivery_id, tenant_id=told.delivery.tenant_id, services=gateway.services)
    assert differing(told.delivery, stored.delivery) == {}
    assert told.attempts == stored.attempts


def test_a_pass_through_is_attempted_once(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(503)).url())
    new = gateway.new(attempts_allowed=PASS_THROUGH_ATTEMPTS)
    assert deliver(new, wait_seconds=25, services=gateway.services).delivery.state is State.FAILED


@pytest.mark.parametrize(("script", "state"), [(answers(200), "delivered"), (answers(404), "failed")])
def test_the_same_key_plays_back_the_result_success_or_failure(
    gateway: Gateway, partner: StartPartner, script: Script, state: str
) -> None:
    server = partner(script)
    gateway.destination(server.url())
    first = deliver(gateway.new(idempotency_key="k"), wait_seconds=10, services=gateway.services)
    again = deliver(gateway.new(idempotency_key="k"), wait_seconds=10, services=gateway.services)
    assert again.replayed
    assert again.delivery.delivery_id == first.delivery.delivery_id
    assert again.delivery.state == state
    assert [attempt.attempt_id for attempt in again.attempts] == [attempt.attempt_id for attempt in first.attempts]
    assert len(server.requests) == 1


def test_the_message_of_a_call_that_was_a_repeat_is_dropped_at_its_first_look(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(200)).url())
    services = replace(gateway.services, lease_seconds=55)  # as deployed
    for _ in range(4):
        deliver(gateway.new(idempotency_key="k"), wait_seconds=10, services=services)
    assert len(gateway.queue.wakeups()) == 4
    gateway.clock.now = max(wakeup.due_at for wakeup in gateway.queue.wakeups())
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.queue.wakeups() == []


def test_the_partner_gets_the_callers_key(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url(), idempotency_header="X-Request-Key")
    deliver(gateway.new(idempotency_key="order-7"), wait_seconds=10, services=gateway.services)
    assert b"\r\nX-Request-Key: order-7\r\n" in server.requests[0]


def test_a_key_whose_first_request_is_in_flight_is_refused_for_now(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    accept(gateway.new(idempotency_key="k"), wait_seconds=None, services=gateway.services)
    with pytest.raises(StillInFlight):
        deliver(gateway.new(idempotency_key="k"), wait_seconds=10, services=gateway.services)


@pytest.mark.parametrize(
    "other", [{"body": b"other"}, {"path": "/other"}, {"method": "PUT"}, {"query": "a=1"}, {"destination": "second"}]
)
def test_a_key_of_another_request_is_refused(gateway: Gateway, partner: StartPartner, other: dict[str, object]) -> None:
    url = partner(answers(200)).url()
    gateway.destination(url)
    gateway.destination(url, name="second")
    accept(gateway.new(idempotency_key="k"), wait_seconds=None, services=gateway.services)
    with pytest.raises(KeyReused):
        accept(gateway.new(idempotency_key="k", **other), wait_seconds=None, services=gateway.services)


def test_a_hundred_callers_with_one_key_make_one_delivery(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url())
    found = set()

    def call() -> None:
        with closing(Database(DatabaseSettings(database_url=gateway.database.url))) as database:
            services = replace(gateway.services, database=database)
            for _ in range(10):
                found.add(
                    accept(gateway.new(idempotency_key="k"), wait_seconds=None, services=services).delivery.delivery_id
                )

    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert gateway.delivery()["delivery_id"] in found


def test_where_the_deadline_does_not_fit_into_the_wait_the_worker_sends_and_the_caller_watches(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(200)).url(), timeouts=Timeouts(total_seconds=20))

    def a_worker_meanwhile(seconds: float) -> None:
        gateway.clock.forward(seconds)
        due = [wakeup for wakeup in gateway.queue.take() if wakeup.due_at <= gateway.clock()]
        attempt_due(due, services=gateway.services)

    progress = deliver(gateway.new(), wait_seconds=10, services=replace(gateway.services, sleep=a_worker_meanwhile))
    assert progress.delivery.state is State.DELIVERED
    assert progress.answer is None
    assert progress.attempts[0].response is not None
    assert progress.attempts[0].response.status == 200


def works_after(seconds: float, gateway: Gateway) -> Callable[[float], None]:
    """Sleeps, and is the worker as soon as so many seconds have passed."""

    def sleep(pause: float) -> None:
        gateway.clock.forward(pause)
        if gateway.clock() >= START + timedelta(seconds=seconds):
            attempt_due(gateway.queue.take(), services=gateway.services)

    return sleep


def test_who_asks_for_a_delivery_may_wait_for_its_end(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(201)).url())
    accepted = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery
    services = replace(gateway.services, sleep=works_after(8, gateway))
    progress = follow(accepted.delivery_id, tenant_id=gateway.tenant_id, wait_seconds=20, services=services)
    assert progress.delivery.state is State.DELIVERED
    assert [attempt.response and attempt.response.status for attempt in progress.attempts] == [201]
    assert gateway.clock() - START <= timedelta(seconds=8 * 1.25)


def test_a_long_wait_looks_at_the_database_a_few_times_and_not_after_its_time(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    accepted = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery
    with statements(gateway) as counted:
        progress = follow(accepted.delivery_id, tenant_id=gateway.tenant_id, wait_seconds=25, services=gateway.services)
    assert progress.delivery.state is State.PENDING
    assert timedelta(seconds=25) <= gateway.clock() - START < timedelta(seconds=25.2)
    assert len(counted) < 30


@pytest.mark.parametrize("wait_seconds", [0, 25])
def test_what_has_ended_is_shown_at_once_by_one_statement(
    gateway: Gateway, partner: StartPartner, wait_seconds: int
) -> None:
    gateway.destination(partner(answers(200)).url())
    ended = deliver(gateway.new(), wait_seconds=10, services=gateway.services).delivery
    with statements(gateway) as counted:
        follow(ended.delivery_id, tenant_id=gateway.tenant_id, wait_seconds=wait_seconds, services=gateway.services)
    assert (len(counted), gateway.clock()) == (1, START)


def test_a_database_that_goes_away_while_a_caller_waits_does_not_hide_what_was_found(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    accepted = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery

    def lose_it(seconds: float) -> None:
        gateway.clock.forward(seconds)
        gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
        gateway.services.database.close()

    services = replace(gateway.services, sleep=lose_it)
    try:
        progress = follow(accepted.delivery_id, tenant_id=gateway.tenant_id, wait_seconds=25, services=services)
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")
    assert progress.delivery == accepted


def test_nobody_waits_for_what_is_another_tenants(gateway: Gateway) -> None:
    """Nor for what does not exist: the time says nothing about it."""
    gateway.destination("http://127.0.0.1:1")
    accepted = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery
    stranger = make_gateway(gateway.database, gateway.queue, tenant_name="stranger")
    try:
        with statements(stranger) as counted, pytest.raises(NotFound):
            follow(accepted.delivery_id, tenant_id=stranger.tenant_id, wait_seconds=25, services=stranger.services)
        assert (len(counted), stranger.clock()) == (1, START)
    finally:
        stranger.services.database.close()
        stranger.services.client.close()


def test_a_delivery_that_is_deleted_while_a_caller_waits_is_not_found(gateway: Gateway) -> None:
    gateway.destination("http://127.0.0.1:1")
    accepted = accept(gateway.new(), wait_seconds=None, services=gateway.services).delivery

    def delete(seconds: float) -> None:
        gateway.clock.forward(seconds)
        gateway.sql("DELETE FROM delivery")

    with pytest.raises(NotFound):
        follow(
            accepted.delivery_id,
            tenant_id=gateway.tenant_id,
            wait_seconds=25,
            services=replace(gateway.services, sleep=delete),
        )


TOMORROW = SendingWindow(days=(1,), opens="03:00", closes="04:00", time_zone="UTC")


@pytest.mark.parametrize("total_seconds", [2, 20])
def test_whoever_would_wait_in_vain_gets_an_answer_at_once(
    gateway: Gateway, partner: StartPartner, total_seconds: int
) -> None:
    """Whether the attempt would be made here or by the worker: the window opens when nobody waits any more."""
    timeouts = Timeouts(connect_seconds=1, first_byte_seconds=1, total_seconds=total_seconds)
    options = DestinationOptions(windows=(TOMORROW,))
    gateway.destination(partner(answers(200)).url(), timeouts=timeouts, options=options)
    delivery = deliver(gateway.new(), wait_seconds=10, services=gateway.services).delivery
    assert gateway.clock() == START
    assert (delivery.waiting_for, delivery.waits_until) == (WaitingFor.SENDING_WINDOW, START + timedelta(hours=15))


def test_the_delivery_of_a_caller_who_waits_lines_up_at_once(gateway: Gateway, partner: StartPartner) -> None:
    """As one without a waiting caller does; not only when its turn would be."""
    options = DestinationOptions(limits=Limits(rate=0.25, burst=1))
    gateway.destination(partner(answers(200)).url(), timeouts=Timeouts(total_seconds=20), options=options)
    for expected in (None, WaitingFor.RATE_LIMIT):
        acceptance = accept(gateway.new(), wait_seconds=10, services=gateway.services)
        assert (acceptance.claim, acceptance.delivery.waiting_for) == (None, expected)
        due = [wakeup for wakeup in gateway.queue.take() if wakeup.due_at <= gateway.clock()]
        attempt_due(due, services=gateway.services)
        delivery_id = acceptance.delivery.delivery_id
        stored = find(delivery_id, tenant_id=gateway.tenant_id, services=gateway.services).delivery
        assert (stored.waiting_for, stored.waits_until) == (expected, expected and START + timedelta(seconds=4))


def test_when_the_time_is_up_the_delivery_continues_in_the_background(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers(200)).url(), timeouts=Timeouts(total_seconds=20))
    progress = deliver(gateway.new(), wait_seconds=3, services=gateway.services)
    assert progress.delivery.state is State.PENDING
    assert gateway.clock() - START >= timedelta(seconds=3)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"


def test_a_partner_that_never_answers_leaves_the_outcome_unknown(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(takes_and_closes).url())
    progress = deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    assert progress.delivery.state is State.UNKNOWN
    assert progress.answer is None


def test_an_api_function_that_died_leaves_an_unknown_outcome_and_nothing_is_sent_again(
    gateway: Gateway, partner: StartPartner
) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    accept(gateway.new(), wait_seconds=10, services=gateway.services)  # leased, and then nothing more is heard of it
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "unknown"
    assert server.requests == []


def test_a_database_that_goes_away_meanwhile_does_not_hide_the_answer(gateway: Gateway, partner: StartPartner) -> None:
    def script(line: object) -> None:
        gateway.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sallyport_app'")
        gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
        answers(200, b"paid")(line)  # type: ignore[arg-type]

    gateway.destination(partner(script).url())
    try:
        progress = deliver(gateway.new(), wait_seconds=10, services=gateway.services)
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")
    assert progress.answer is not None
    assert progress.answer.body == b"paid"
    assert gateway.clock() - START < timedelta(seconds=28)  # API Gateway would have answered itself
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due(gateway.queue.take(), services=gateway.services)  # the outcome travelled
    assert (gateway.delivery()["state"], gateway.attempts()[0]["response_body"]) == ("delivered", b"paid")


def test_a_database_that_goes_away_while_a_caller_watches_does_not_hide_that_the_delivery_is_accepted(
    gateway: Gateway, partner: StartPartner
) -> None:
    def lose_it(seconds: float) -> None:
        gateway.clock.forward(seconds)
        gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
        gateway.services.database.close()

    gateway.destination(partner(answers(200)).url(), timeouts=Timeouts(total_seconds=20))
    try:
        progress = deliver(gateway.new(), wait_seconds=10, services=replace(gateway.services, sleep=lose_it))
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")
    assert progress.delivery.state is State.PENDING
    assert progress.attempts == []
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["delivery_id"] == progress.delivery.delivery_id
    assert gateway.delivery()["state"] == "delivered"


class DiesAfterOneMessage(WakeupQueue):
    """The real queue for the first call; then nobody listens any more."""

    alive = True

    def _refused(self, entries: list[Any]) -> list[Any]:
        if not self.alive:
            self._endpoint_url = "http://127.0.0.1:1"
        self.alive = False
        return super()._refused(entries)


def dying_queue(gateway: Gateway) -> DiesAfterOneMessage:
    return DiesAfterOneMessage(
        QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url=gateway.queue.endpoint_url)
    )


def test_without_a_queue_the_retry_starts_when_the_lease_is_over(gateway: Gateway, partner: StartPartner) -> None:
    gateway.destination(partner(answers_in_turn(503, 200)).url())
    services = replace(gateway.services, queue=dying_queue(gateway))
    assert deliver(gateway.new(), wait_seconds=10, services=services).delivery.state is State.PENDING
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"


def test_without_a_queue_a_delivery_left_to_the_worker_starts_late_and_is_accepted_all_the_same(
    gateway: Gateway, partner: StartPartner
) -> None:
    gateway.destination(partner(answers(200)).url(), timeouts=Timeouts(total_seconds=20))
    services = replace(gateway.services, queue=dying_queue(gateway))
    assert deliver(gateway.new(), wait_seconds=2, services=services).delivery.state is State.PENDING
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "delivered"


def test_without_database_and_queue_a_caller_gets_the_answer_and_the_delivery_is_unknown(
    gateway: Gateway, partner: StartPartner
) -> None:
    """As after a crash of the worker: the one case in which the answer is told and not stored."""

    def script(line: Line) -> None:
        gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
        gateway.services.database.close()
        answers(200, b"paid")(line)

    gateway.destination(partner(script).url())
    services = replace(gateway.services, queue=dying_queue(gateway))
    try:
        progress = deliver(gateway.new(), wait_seconds=10, services=services)
    finally:
        gateway.sql("ALTER ROLE sallyport_app LOGIN")
    assert progress.answer is not None
    assert progress.answer.body == b"paid"
    gateway.clock.forward(gateway.services.lease_seconds)
    attempt_due(gateway.queue.take(), services=gateway.services)
    assert gateway.delivery()["state"] == "unknown"


def test_an_unknown_destination_is_not_found_and_its_message_has_no_effect(gateway: Gateway) -> None:
    with pytest.raises(NotFound, match="no such destination"):
        accept(gateway.new(destination="nobody"), wait_seconds=None, services=gateway.services)
    assert gateway.sql("SELECT delivery_id FROM delivery") == []


def test_another_tenants_destination_is_not_found(gateway: Gateway, partner: StartPartner) -> None:
    made = gateway.destination(partner(answers(200)).url())
    stranger = make_gateway(gateway.database, gateway.queue, tenant_name="stranger")
    try:
        for reference in ("partner", str(made.destination_id)):
            with pytest.raises(NotFound):
                accept(stranger.new(destination=reference), wait_seconds=None, services=stranger.services)
    finally:
        stranger.services.database.close()
        stranger.services.client.close()


def test_a_destination_can_be_named_by_its_id(gateway: Gateway, partner: StartPartner) -> None:
    made = gateway.destination(partner(answers(200)).url())
    progress = deliver(gateway.new(destination=str(made.destination_id)), wait_seconds=10, services=gateway.services)
    assert progress.delivery.destination_name == "partner"


def test_name_and_id_lead_into_one_group_as_soon_as_the_name_is_known(gateway: Gateway, partner: StartPartner) -> None:
    made = gateway.destination(partner(answers(503)).url())
    used = ("partner", str(made.destination_id), str(made.destination_id).upper(), "partner")
    for reference in used:
        accept(gateway.new(destination=reference), wait_seconds=None, services=gateway.services)
    by_name, by_id = f"{gateway.tenant_id}:partner", f"{gateway.tenant_id}:{made.destination_id}"
    wakeups = gateway.queue.take()
    assert [wakeup.group for wakeup in wakeups] == [by_name, by_id, by_name, by_name]
    attempt_due(wakeups, services=gateway.services)
    assert [wakeup.group for wakeup in gateway.queue.wakeups()] == [by_name] * 4  # the retries


def test_the_retry_of_a_caller_that_waited_is_in_the_destinations_group(
    gateway: Gateway, partner: StartPartner
) -> None:
    made = gateway.destination(partner(answers(503)).url())
    deliver(gateway.new(destination=str(made.destination_id)), wait_seconds=20, services=gateway.services)
    assert gateway.queue.wakeups()[-1].group == f"{gateway.tenant_id}:partner"


def test_not_before_holds_the_first_attempt_back(gateway: Gateway, partner: StartPartner) -> None:
    server = partner(answers(200))
    gateway.destination(server.url())
    accept(gateway.new(not_before=START + timedelta(minutes=40)), wait_seconds=None, services=gateway.services)
    hops = 0
    while gateway.delivery()["state"] == "pending":
        (delay,) = gateway.queue.delays()
        gateway.clock.forward(delay)
        assert server.requests == []
        attempt_due(gateway.queue.take(), services=gateway.services)
        hops += 1
    assert hops == 3
    assert gateway.clock() == START + timedelta(minutes=40)


class SlowQueue(WakeupQueue):
    """The real queue, reached after a while."""

    def __init__(self, gateway: Gateway, seconds: float) -> None:
        super().__init__(QueueSettings(wakeup_queue_url=gateway.queue.url, sqs_endpoint_url=gateway.queue.endpoint_url))
        self._clock = gateway.clock
        self._seconds = seconds

    def send(self, wakeups: Sequence[Wakeup], *, now: datetime) -> None:
        self._clock.forward(self._seconds)
        super().send(wakeups, now=now)


@pytest.mark.parametrize(("slow_seconds", "requests"), [(2, 1), (6, 0)])
def test_an_attempt_is_made_here_only_where_it_ends_before_the_function_does(
    gateway: Gateway, partner: StartPartner, slow_seconds: float, requests: int
) -> None:
    server = partner(answers(200))
    gateway.destination(server.url(), timeouts=Timeouts(total_seconds=25))
    services = replace(gateway.services, queue=SlowQueue(gateway, slow_seconds))
    deliver(gateway.new(), wait_seconds=25, services=services)
    assert len(server.requests) == requests


@pytest.mark.parametrize("answered_after_seconds", [1, 19, 21, 25])
def test_an_answer_is_recorded_before_the_caller_gets_it_however_late_it_came(
    gateway: Gateway, partner: StartPartner, answered_after_seconds: int
) -> None:
    def script(line: Line) -> None:
        line.read_request()
        gateway.clock.forward(answered_after_seconds)
        line.send(OK)

    gateway.destination(partner(script).url(), timeouts=Timeouts(total_seconds=25))
    progress = deliver(gateway.new(), wait_seconds=25, services=gateway.services)
    assert (progress.delivery.state, gateway.delivery()["state"]) == ("delivered", "delivered")
    assert [wakeup.record for wakeup in gateway.queue.wakeups()] == [None]


@pytest.mark.parametrize("answered_after_seconds", [1, 15, 22, 25])
def test_recording_is_tried_as_long_as_the_caller_can_wait_and_no_less_than_it_takes(
    gateway: Gateway, partner: StartPartner, answered_after_seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[datetime] = []
    really = record

    def noted(judged: Any, *, end_at: datetime, services: Any) -> Any:
        ends.append(end_at)
        return really(judged, end_at=end_at, services=services)

    def script(line: Line) -> None:
        line.read_request()
        gateway.clock.forward(answered_after_seconds)
        line.send(OK)

    monkeypatch.setattr(deliver_flow, "record", noted)
    started_at = gateway.clock()
    gateway.destination(partner(script).url(), timeouts=Timeouts(total_seconds=25))
    deliver(gateway.new(), wait_seconds=25, services=gateway.services)
    answered_at = gateway.clock()
    usual = answered_at + timedelta(seconds=RECORD_SECONDS + CARRY_SECONDS)
    least = answered_at + timedelta(seconds=LEAST_RECORD_SECONDS + CARRY_SECONDS)
    assert ends == [max(min(started_at + timedelta(seconds=CALL_SECONDS), usual), least)]


@pytest.mark.parametrize("outage_seconds", [20, 120])
def test_a_caller_who_was_told_delivered_never_reads_unknown_after_an_outage(
    gateway: Gateway, partner: StartPartner, outage_seconds: int
) -> None:
    """However long it takes, and whichever message is looked at first."""
    away = replace(gateway.services, database=Database(DatabaseSettings(database_url="postgresql://127.0.0.1:1/none")))
    database = gateway.services.database
    url = database._settings

    def script(line: Line) -> None:
        line.read_request()
        database._settings = away.database._settings
        database.close()
        line.send(OK)

    gateway.destination(partner(script).url())
    assert deliver(gateway.new(), wait_seconds=10, services=gateway.services).delivery.state is State.DELIVERED
    over_at = gateway.clock() + timedelta(seconds=outage_seconds)
    while gateway.clock() < over_at:
        attempt_due(gateway.queue.take(), services=away)
        gateway.clock.forward(5)
    database._settings = url
    read = []
    while gateway.queue.wakeups():
        plain_first = sorted(gateway.queue.take(), key=lambda wakeup: wakeup.record is not None)
        for wakeup in plain_first:
            attempt_due([wakeup], services=gateway.services)
            read.append(gateway.delivery()["state"])
        gateway.clock.forward(5)
    assert "unknown" not in read
    assert read[-1] == "delivered"


def test_a_lapse_that_an_outage_hid_is_recorded_in_the_end(gateway: Gateway) -> None:
    """Where the worker died with its outcome, waiting for that has an end."""
    gateway.destination("https://bank.example")
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    (wakeup,) = gateway.queue.take()
    lease = gateway.services.new_lease(gateway.clock())
    claim(gateway.services.database, [wakeup.delivery_id], lease=lease, now=gateway.clock())
    gateway.clock.forward(60)
    away = replace(gateway.services, database=Database(DatabaseSettings(database_url="postgresql://127.0.0.1:1/none")))
    attempt_due([wakeup], services=away)
    read, delays = [], []
    while gateway.queue.wakeups():
        delays += gateway.queue.delays()
        gateway.clock.forward(60)
        attempt_due(gateway.queue.take(), services=gateway.services)
        read.append(gateway.delivery()["state"])
    assert read == ["sending", "unknown", "unknown"]
    # For the database; for as long as another worker may still record it; then for what that recorded meanwhile.
    assert delays == [30, gateway.services.lease_seconds, LAPSE_SECONDS]


def test_where_the_database_is_away_nobody_is_woken(gateway: Gateway) -> None:
    dead = Database(DatabaseSettings(database_url="postgresql://127.0.0.1:1/none"))
    with pytest.raises(DatabaseUnavailable):
        accept(gateway.new(), wait_seconds=None, services=replace(gateway.services, database=dead))
    assert gateway.queue.wakeups() == []

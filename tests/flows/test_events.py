"""Events: another destination is told when a delivery ends, exactly once, whatever breaks in between."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from db import attempts as table
from db import retention
from domain.certificates import CertificateFacts
from domain.deliveries import Resolution, State
from domain.destinations import Guarantee, Transition
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.ids import DeliveryId, uuid7_floor
from domain.jobs import Bounds, JobAct
from domain.limits import CircuitBreaker
from domain.options import DestinationOptions
from domain.retry_policy import RetryPolicy
from flows import control, destination_states, jobs
from flows.accept import accept
from flows.attempt import attempt_due
from flows.audit import Actor
from flows.deliver import deliver
from flows.retention import retire_old
from tests.egress.servers import Partner, Script
from tests.support.banks import ASKED_ABOUT, RECONCILE, AskedBank, executed
from tests.support.gateway import START, Gateway, statements
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import WakeupQueue

type StartPartner = Callable[[Script], Partner]

ACTOR = Actor(by="01939d2a-7a10-7c3e-9f4b-5d1c0e6a2b31")
ONCE = RetryPolicy(schedule=(0.0,))


def work(gateway: Gateway) -> None:
    attempt_due(gateway.queue.take(), services=gateway.services)


def work_after(gateway: Gateway, seconds: float = 2) -> None:
    gateway.clock.forward(seconds)
    work(gateway)


def told(gateway: Gateway, partner: StartPartner, then: Script | None = None, **options: Any) -> Partner:
    """The destination `partner`, which answers with `then`, and the one that is told of it, named `hook`."""
    hook = partner(answers(204))
    receiver = gateway.destination(hook.url("/hook"), name="hook")
    overrides = {"guarantee": options.pop("guarantee")} if "guarantee" in options else {}
    chosen = DestinationOptions(events_to=receiver.destination_id, **options)
    gateway.destination(partner(then or answers(200)).url(), options=chosen, **overrides)
    return hook


def send(gateway: Gateway, **overrides: Any) -> str:
    new = gateway.new(**overrides)
    return str(accept(new, wait_seconds=None, services=gateway.services).delivery.delivery_id)


def events(gateway: Gateway) -> list[dict[str, Any]]:
    """The bodies of all events that are stored, in their order."""
    rows = gateway.sql(
        "SELECT body FROM delivery JOIN delivery_body USING (delivery_id) WHERE event IS NOT NULL ORDER BY delivery_id"
    )
    return [json.loads(row["body"]) for row in rows]


def kinds(gateway: Gateway) -> list[str]:
    return [event["type"] for event in events(gateway)]


def every_open_row_has_a_message(gateway: Gateway) -> bool:
    queued = {wakeup.delivery_id for wakeup in gateway.queue.wakeups()}
    return all(
        row["delivery_id"] in queued for row in gateway.sql("SELECT delivery_id FROM delivery WHERE phase = 'open'")
    )


def test_another_destination_is_told_that_a_delivery_was_delivered(gateway: Gateway, partner: StartPartner) -> None:
    hook = told(gateway, partner, answers(201))
    delivery_id = send(gateway, idempotency_key="order-1", ordering_key="o", metadata={"secret": "of the caller"})
    work(gateway)
    assert hook.requests == []
    work_after(gateway)

    (request,) = hook.requests
    assert request.startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"idempotency-key: sallyport-event-" in request.lower()
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    assert (body["type"], body["timestamp"]) == ("delivery.delivered", "2026-03-01T12:00:00.000000Z")
    assert body["data"].pop("destination_id")
    assert body["data"] == {
        "delivery_id": delivery_id,
        "destination": "partner",
        "state": "delivered",
        "idempotency_key": "order-1",
        "ordering_key": "o",
        "attempts_made": 1,
        "outcome": "answered",
        "status": 201,
        "resolved_by": None,
        "created_at": "2026-03-01T12:00:00.000000Z",
    }
    assert b"of the caller" not in request
    assert gateway.queue.wakeups() == []


@pytest.mark.parametrize(
    ("then", "options", "kind"),
    [
        (answers(400), {}, "delivery.failed"),
        (takes_and_closes, {"guarantee": Guarantee.AT_MOST_ONCE}, "delivery.unknown"),
        (answers(503), {"retry": ONCE}, "delivery.failed"),
    ],
)
def test_it_is_told_of_every_other_end_too(
    gateway: Gateway, partner: StartPartner, then: Script, options: dict[str, Any], kind: str
) -> None:
    told(gateway, partner, then, **options)
    send(gateway)
    work(gateway)
    assert kinds(gateway) == [kind]


def test_nobody_is_told_before_the_last_attempt(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner, answers(503), retry=RetryPolicy(schedule=(0.0, 1.0)))
    send(gateway)
    work(gateway)
    assert kinds(gateway) == []
    assert len(gateway.queue.wakeups()) == 2  # of the next attempt, and in case that a circuit breaker has opened
    work_after(gateway, 10)
    assert kinds(gateway) == ["delivery.failed"]
    assert events(gateway)[0]["data"]["attempts_made"] == 2


def test_nobody_is_told_of_an_event(gateway: Gateway, partner: StartPartner) -> None:
    hook = told(gateway, partner)
    rows = gateway.sql("SELECT destination_id FROM destination WHERE name = 'partner'")
    gateway.sql(
        "UPDATE destination SET options = jsonb_build_object('events_to', %s::uuid) WHERE name = 'hook'",
        rows[0]["destination_id"],
    )
    send(gateway)
    work(gateway)
    work_after(gateway)
    assert len(hook.requests) == 1
    assert kinds(gateway) == ["delivery.delivered"]
    assert gateway.queue.wakeups() == []


def test_an_event_costs_no_statement_more_and_has_its_message_first(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner)
    send(gateway)
    with statements(gateway) as found:
        work(gateway)
    assert len(found) == 2
    assert every_open_row_has_a_message(gateway)
    assert len(gateway.queue.wakeups()) == 1


def test_nobody_is_told_of_an_event_that_a_job_repeats(gateway: Gateway, partner: StartPartner) -> None:
    hook = told(gateway, partner)
    (row,) = gateway.sql("SELECT destination_id, tenant_id FROM destination WHERE name = 'partner'")
    (receiver,) = gateway.sql(
        "UPDATE destination SET options = jsonb_build_object('events_to', %s::uuid) WHERE name = 'hook' "
        "RETURNING destination_id",
        row["destination_id"],
    )
    send(gateway)
    work(gateway)
    work_after(gateway)
    now = gateway.clock()
    bounds = Bounds(
        tenant_id=row["tenant_id"],
        state=State.DELIVERED,
        since_id=DeliveryId(UUID(int=1)),
        until_id=DeliveryId(uuid7_floor(now)),
        as_of=now,
        destination_id=receiver["destination_id"],
    )
    jobs.create(JobAct.REPLAY, bounds, rate=1.0, idempotency_key=None, actor=ACTOR, services=gateway.services)
    for seconds in (1, 60, 60, 60):
        work_after(gateway, seconds)
    assert len(hook.requests) == 2
    assert kinds(gateway) == ["delivery.delivered", "delivery.delivered"]  # the second is the first once more
    assert gateway.sql("SELECT count(*) AS count FROM delivery WHERE state <> 'delivered'")[0]["count"] == 0


@pytest.mark.parametrize("state", ["disabled", "paused"])
def test_one_that_takes_no_deliveries_is_told_nothing_and_one_that_is_paused_later(
    gateway: Gateway, partner: StartPartner, state: str
) -> None:
    hook = told(gateway, partner)
    gateway.sql("UPDATE destination SET state = %s WHERE name = 'hook'", state)
    send(gateway)
    work(gateway)
    work_after(gateway)
    assert hook.requests == []
    assert kinds(gateway) == ([] if state == "disabled" else ["delivery.delivered"])
    gateway.sql("UPDATE destination SET state = 'active' WHERE name = 'hook'")
    work_after(gateway, 100)
    assert len(hook.requests) == (0 if state == "disabled" else 1)


def test_one_that_was_deleted_is_told_nothing(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner)
    gateway.sql("UPDATE destination SET deleted_at = created_at, deleted_name = name WHERE name = 'hook'")
    send(gateway)
    work(gateway)
    assert kinds(gateway) == []


def test_a_destination_of_another_tenant_is_never_told(gateway: Gateway, partner: StartPartner) -> None:
    """Not even where a row says so."""
    told(gateway, partner)
    gateway.sql("INSERT INTO tenant VALUES ('00000000-0000-0000-0000-000000000001', 'other', now())")
    gateway.sql("UPDATE destination SET tenant_id = '00000000-0000-0000-0000-000000000001' WHERE name = 'hook'")
    send(gateway)
    work(gateway)
    assert kinds(gateway) == []


def test_an_end_that_is_recorded_twice_is_told_once(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the statement has committed."""
    told(gateway, partner)
    send(gateway)
    write = table._write

    def twice(*args: Any, **kwargs: Any) -> Any:
        write(*args, **kwargs)
        return write(*args, **kwargs)

    monkeypatch.setattr(table, "_write", twice)
    work(gateway)
    assert kinds(gateway) == ["delivery.delivered"]


def test_an_event_whose_message_was_refused_is_found_by_the_delivery_that_it_tells_of(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = told(gateway, partner)
    send(gateway)
    queued = gateway.queue.take()
    with monkeypatch.context() as patched:
        patched.setattr(WakeupQueue, "send_some", lambda _, wakeups, **__: frozenset(range(len(wakeups))))
        with pytest.raises(QueueUnavailable):
            attempt_due(queued, services=gateway.services)
    assert kinds(gateway) == ["delivery.delivered"]
    attempt_due(queued, services=gateway.services)  # SQS brings it again
    work_after(gateway)
    assert len(hook.requests) == 1


def test_what_is_carried_in_a_wake_up_is_told_once_it_is_recorded(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = told(gateway, partner)
    send(gateway)

    def unavailable(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("away", retry_after_seconds=1)

    with monkeypatch.context() as patched:
        patched.setattr(table, "_write", unavailable)
        work(gateway)
    assert kinds(gateway) == []
    gateway.queue.messages[:] = [message for message in gateway.queue.messages if '"record"' in message.body]
    work_after(gateway, 15)
    assert kinds(gateway) == ["delivery.delivered"]
    assert every_open_row_has_a_message(gateway)
    work_after(gateway, 15)
    assert len(hook.requests) == 1


def test_a_call_that_waits_and_one_that_is_passed_through_are_told_of_too(
    gateway: Gateway, partner: StartPartner
) -> None:
    told(gateway, partner)
    for attempts_allowed in (10, 1):
        deliver(gateway.new(attempts_allowed=attempts_allowed), wait_seconds=20, services=gateway.services)
    assert kinds(gateway) == ["delivery.delivered"] * 2
    assert every_open_row_has_a_message(gateway)


def test_it_is_told_that_a_worker_stopped_and_nobody_knows(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner, guarantee=Guarantee.AT_MOST_ONCE)
    send(gateway)
    gateway.sql(
        "UPDATE delivery SET state = 'sending', attempts_made = 1, lease_id = gen_random_uuid(), "
        "leased_until = created_at"
    )
    work(gateway)
    assert kinds(gateway) == ["delivery.unknown"]


@pytest.mark.parametrize("resolution", [Resolution.DELIVERED, Resolution.FAILED])
def test_it_is_told_who_resolved_what_was_unknown(
    gateway: Gateway, partner: StartPartner, resolution: Resolution
) -> None:
    told(gateway, partner, takes_and_closes, guarantee=Guarantee.AT_MOST_ONCE)
    delivery_id = send(gateway)
    work(gateway)
    work_after(gateway)
    found = gateway.sql("SELECT delivery_id FROM delivery WHERE event IS NULL")[0]["delivery_id"]
    assert str(found) == delivery_id
    control.resolve(found, resolution, note=None, tenant_id=gateway.tenant_id, actor=ACTOR, services=gateway.services)
    assert kinds(gateway) == ["delivery.unknown", "delivery.resolved"]
    data = events(gateway)[1]["data"]
    assert (data["state"], data["resolved_by"]) == (resolution.value, ACTOR.label)
    assert every_open_row_has_a_message(gateway)


def test_it_is_told_what_the_partner_resolved_when_it_was_asked(gateway: Gateway, partner: StartPartner) -> None:
    hook = gateway.destination(partner(answers(204)).url(), name="hook")
    bank = AskedBank(answers=[executed])
    gateway.destination(partner(bank.script).url("/v1"), options=replace(ASKED_ABOUT, events_to=hook.destination_id))
    accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    work(gateway)
    work_after(gateway, RECONCILE.after[0])
    assert kinds(gateway) == ["delivery.unknown", "delivery.resolved"]
    assert events(gateway)[1]["data"]["resolved_by"] == "reconcile"


def test_it_is_told_what_was_canceled(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner)
    send(gateway)
    found = gateway.sql("SELECT delivery_id FROM delivery")[0]["delivery_id"]
    for _ in range(2):
        control.cancel(found, tenant_id=gateway.tenant_id, actor=ACTOR, services=gateway.services)
    assert kinds(gateway) == ["delivery.canceled"]
    assert every_open_row_has_a_message(gateway)


def test_a_partner_that_wants_no_more_is_told_of_with_the_delivery(gateway: Gateway, partner: StartPartner) -> None:
    told(gateway, partner, answers(410))
    send(gateway)
    work(gateway)
    assert sorted(kinds(gateway)) == ["delivery.failed", "destination.disabled"]
    (disabled,) = [event for event in events(gateway) if event["type"] == "destination.disabled"]
    assert disabled["data"]["state_reason"] == "the partner answered with status 410"
    assert every_open_row_has_a_message(gateway)


def test_it_is_told_that_a_destination_was_paused_and_not_that_it_goes_on(
    gateway: Gateway, partner: StartPartner
) -> None:
    told(gateway, partner)
    for transition in (Transition.PAUSE, Transition.PAUSE, Transition.RESUME, Transition.DISABLE):
        destination_states.move(
            "partner", transition, tenant_id=gateway.tenant_id, reason="why", actor=ACTOR, services=gateway.services
        )
        gateway.clock.forward(1)
    assert kinds(gateway) == ["destination.paused", "destination.disabled"]
    assert events(gateway)[0]["data"]["state_reason"] == "why"
    assert every_open_row_has_a_message(gateway)


# Circuit breakers


BREAKER = CircuitBreaker(failure_ratio=1.0, minimum_attempts=2, open_seconds=60)


def openings(gateway: Gateway) -> list[dict[str, Any]]:
    return [event for event in events(gateway) if event["type"] == "circuit_breaker.opened"]


def test_it_is_told_once_that_a_circuit_breaker_has_opened(gateway: Gateway, partner: StartPartner) -> None:
    hook = told(gateway, partner, answers(503), circuit_breaker=BREAKER)
    for _ in range(3):
        send(gateway)
    with statements(gateway) as found:
        work(gateway)
    assert len(found) == 2
    assert kinds(gateway) == ["circuit_breaker.opened"]
    assert every_open_row_has_a_message(gateway)
    work_after(gateway)
    (request,) = hook.requests
    body = json.loads(request.partition(b"\r\n\r\n")[2])
    assert body["timestamp"] == "2026-03-01T12:00:00.000000Z"
    assert body["data"].pop("destination_id")
    assert body["data"] == {"destination": "partner", "open_until": "2026-03-01T12:01:00.000000Z"}


def test_a_failure_that_opens_nothing_tells_nothing_and_leaves_no_message(
    gateway: Gateway, partner: StartPartner
) -> None:
    told(gateway, partner, answers(503), circuit_breaker=BREAKER)
    delivery_id = send(gateway)
    work(gateway)
    assert kinds(gateway) == []
    # The message of what may have opened is there before the record, and goes when no row has come.
    for _ in range(3):
        others = [wakeup for wakeup in gateway.queue.take() if str(wakeup.delivery_id) != delivery_id]
        gateway.clock.forward(50)
        attempt_due(others, services=gateway.services)
    assert gateway.queue.wakeups() == []


@pytest.mark.parametrize("breaker", [CircuitBreaker(enabled=False), replace(BREAKER, minimum_attempts=1)])
def test_a_breaker_that_is_off_costs_no_message(
    gateway: Gateway, partner: StartPartner, breaker: CircuitBreaker
) -> None:
    told(gateway, partner, answers(503), circuit_breaker=breaker)
    send(gateway)
    work(gateway)
    assert len(gateway.queue.wakeups()) == (2 if breaker.enabled else 1)
    assert len(openings(gateway)) == (1 if breaker.enabled else 0)


def test_a_probe_that_fails_is_no_opening_and_the_next_failure_after_a_success_is(
    gateway: Gateway, partner: StartPartner
) -> None:
    told(
        gateway,
        partner,
        answers_in_turn(503, 503, 200, 503),
        circuit_breaker=replace(BREAKER, minimum_attempts=1),
        retry=RetryPolicy(schedule=(0.0,)),
    )
    for count in (1, 1, 1, 2):
        send(gateway)
        work(gateway)
        gateway.queue.messages.clear()
        assert len(openings(gateway)) == count
        gateway.clock.forward(61)


def test_what_is_recorded_twice_tells_of_its_opening_once(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(gateway, partner, answers(503), circuit_breaker=replace(BREAKER, minimum_attempts=1))
    send(gateway)
    write = table._write

    def twice(*args: Any, **kwargs: Any) -> Any:
        write(*args, **kwargs)
        return write(*args, **kwargs)

    monkeypatch.setattr(table, "_write", twice)
    work(gateway)
    assert len(openings(gateway)) == 1


def test_an_opening_that_is_carried_in_a_wake_up_is_told_once_it_is_recorded(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(gateway, partner, answers(503), circuit_breaker=replace(BREAKER, minimum_attempts=1))
    send(gateway)

    def unavailable(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("away", retry_after_seconds=1)

    with monkeypatch.context() as patched:
        patched.setattr(table, "_write", unavailable)
        work(gateway)
    gateway.queue.messages[:] = [message for message in gateway.queue.messages if '"record"' in message.body]
    work_after(gateway, 15)
    assert len(openings(gateway)) == 1
    assert every_open_row_has_a_message(gateway)


def test_nobody_is_told_of_a_breaker_that_events_have_opened(gateway: Gateway, partner: StartPartner) -> None:
    """Two destinations that name each other would tell each other for ever."""
    told(gateway, partner)
    gateway.sql(
        "UPDATE destination SET base_url = 'http://127.0.0.1:1', options = jsonb_build_object("
        "'circuit_breaker', jsonb_build_object('minimum_attempts', 1), "
        "'events_to', (SELECT destination_id FROM destination WHERE name = 'partner')) WHERE name = 'hook'"
    )
    send(gateway)
    work(gateway)
    work_after(gateway)
    assert gateway.sql("SELECT FROM destination_flow WHERE open_until IS NOT NULL")
    assert kinds(gateway) == ["delivery.delivered"]


@pytest.mark.parametrize("state", ["disabled", "paused"])
def test_whoever_is_told_disturbs_nobody_by_being_away(gateway: Gateway, partner: StartPartner, state: str) -> None:
    told(gateway, partner, answers(503), circuit_breaker=replace(BREAKER, minimum_attempts=1))
    gateway.sql("UPDATE destination SET state = %s WHERE name = 'hook'", state)
    other = partner(answers(200))
    gateway.destination(other.url(), name="other")
    send(gateway)
    send(gateway, destination="other")
    work(gateway)
    assert len(other.requests) == 1
    assert len(openings(gateway)) == (0 if state == "disabled" else 1)
    states = gateway.sql("SELECT state FROM delivery WHERE event IS NULL ORDER BY state")
    assert [row["state"] for row in states] == ["delivered", "pending"]


# Certificates


def with_certificate(gateway: Gateway, partner: StartPartner, *, days: float, name: str = "partner") -> None:
    hook = gateway.destination(partner(answers(204)).url(), name=f"hook-of-{name}")
    facts = CertificateFacts(
        subject="CN=us",
        issuer="CN=bank",
        serial_number="0a",
        not_before=START - timedelta(days=300),
        not_after=START + timedelta(days=days),
        sha256="ab" * 32,
    )
    chosen = DestinationOptions(events_to=hook.destination_id, certificate=facts)
    gateway.destination(partner(answers(200)).url(), name=name, options=chosen)


def look(gateway: Gateway, days: float = 0) -> None:
    gateway.clock.forward(days * 86_400)
    retire_old(place=None, end_at=gateway.clock() + timedelta(seconds=600), services=gateway.services)


def test_it_is_told_thirty_and_seven_days_before_that_a_certificate_ends(
    gateway: Gateway, partner: StartPartner
) -> None:
    with_certificate(gateway, partner, days=31)
    told_by_day = []
    for _ in range(40):
        look(gateway, days=1)
        look(gateway)
        told_by_day.append(len(kinds(gateway)))
        assert every_open_row_has_a_message(gateway)
        gateway.queue.messages.clear()
        gateway.sql("UPDATE delivery SET state = 'delivered', finished_at = created_at WHERE phase = 'open'")
    assert told_by_day == [1] * 23 + [2] * 17
    first, second = events(gateway)
    assert (first["type"], first["timestamp"]) == ("certificate.expiring", "2026-03-02T12:00:00.000000Z")
    assert first["data"].pop("destination_id")
    assert first["data"] == {
        "destination": "partner",
        "days": 30,
        "not_after": "2026-04-01T12:00:00Z",
        "subject": "CN=us",
        "serial_number": "0a",
        "sha256": "ab" * 32,
    }
    assert second["data"]["days"] == 7


def test_one_that_ends_within_a_week_when_it_is_first_seen_is_told_of_once(
    gateway: Gateway, partner: StartPartner
) -> None:
    with_certificate(gateway, partner, days=3)
    look(gateway)
    look(gateway, days=10)
    assert [event["data"]["days"] for event in events(gateway)] == [7]


def test_the_next_certificate_is_told_of_again_and_one_that_is_gone_is_not(
    gateway: Gateway, partner: StartPartner
) -> None:
    with_certificate(gateway, partner, days=3)
    look(gateway)
    sql = "UPDATE destination SET options = jsonb_set(options, '{certificate,sha256}', '\"cd\"') WHERE name = 'partner'"
    gateway.sql(sql)
    gateway.clock.forward(1)
    look(gateway)
    assert [event["data"]["sha256"] for event in events(gateway)] == ["ab" * 32, "cd"]
    gateway.sql("UPDATE destination SET options = options - 'certificate' WHERE name = 'partner'")
    look(gateway)
    assert len(kinds(gateway)) == 2


def test_nothing_is_told_whose_message_sqs_refused_until_the_next_look(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_certificate(gateway, partner, days=3)
    with monkeypatch.context() as patched:
        patched.setattr(WakeupQueue, "send_some", lambda _, wakeups, **__: frozenset(range(len(wakeups))))
        look(gateway)
    assert kinds(gateway) == []
    look(gateway)
    assert kinds(gateway) == ["certificate.expiring"]
    assert every_open_row_has_a_message(gateway)


def test_a_certificate_that_cannot_be_told_of_keeps_no_other_one_from_that(
    gateway: Gateway, partner: StartPartner
) -> None:
    for name in ("disabled", "deleted", "foreign", "partner"):
        with_certificate(gateway, partner, days=3, name=name)
    gateway.sql("UPDATE destination SET state = 'disabled' WHERE name = 'hook-of-disabled'")
    gateway.sql("UPDATE destination SET deleted_at = created_at, deleted_name = name WHERE name = 'hook-of-deleted'")
    gateway.sql("INSERT INTO tenant VALUES ('00000000-0000-0000-0000-000000000001', 'other', now())")
    gateway.sql(
        "UPDATE destination SET tenant_id = '00000000-0000-0000-0000-000000000001' WHERE name = 'hook-of-foreign'"
    )
    look(gateway)
    assert [event["data"]["destination"] for event in events(gateway)] == ["partner"]


def test_a_certificate_whose_look_fails_keeps_nothing_from_being_deleted(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_certificate(gateway, partner, days=3)
    send(gateway)
    gateway.sql("UPDATE delivery SET state = 'delivered', finished_at = created_at")

    def fault(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(retention, "tell_certificate", fault)
    look(gateway, days=100)
    assert gateway.sql("SELECT FROM delivery") == []

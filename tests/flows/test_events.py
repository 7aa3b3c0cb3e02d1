"""Events: another destination is told when a delivery ends, exactly once, whatever breaks in between."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from db import attempts as table
from domain.deliveries import Resolution
from domain.destinations import Guarantee, Transition
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.options import DestinationOptions
from domain.retry_policy import RetryPolicy
from flows import control, destination_states
from flows.accept import accept
from flows.attempt import attempt_due
from flows.audit import Actor
from flows.deliver import deliver
from tests.egress.servers import Partner, Script
from tests.support.banks import ASKED_ABOUT, RECONCILE, AskedBank, executed
from tests.support.gateway import Gateway, statements
from tests.support.partners import answers, takes_and_closes
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
    assert len(gateway.queue.wakeups()) == 1
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

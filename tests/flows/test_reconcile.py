"""An unknown delivery: its partner is asked what became of it, and only the partner's own words end it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import batched

import pytest

from db import deliveries
from db.connection import Database
from domain.deliveries import Claim
from domain.destinations import Guarantee
from domain.ids import DeliveryId
from domain.options import DestinationOptions
from domain.reconcile import OnAbsent
from domain.retry import Held
from flows.accept import accept
from flows.attempt import attempt_due, make_attempts
from flows.deliver import deliver
from runtime.observability import metrics
from runtime.settings import DatabaseSettings
from tests.egress.servers import Partner, Script
from tests.support.banks import ASKED_ABOUT, NOT_FOUND, RECONCILE, AskedBank, BankAnswer, executed
from tests.support.gateway import START, Gateway, statements
from wakeups.sqs import decode

type StartPartner = Callable[[Script], Partner]

FIRST_SECONDS = RECONCILE.after[0]


def work(gateway: Gateway) -> None:
    attempt_due(gateway.queue.take(), services=gateway.services)


def work_after(gateway: Gateway, seconds: float) -> None:
    gateway.clock.forward(seconds)
    work(gateway)


def work_until(gateway: Gateway, end_at: datetime) -> None:
    """Hands each message to a worker when it is due, and no message before."""
    while gateway.clock.now < end_at and (messages := gateway.queue.messages):
        gateway.clock.now = max(gateway.clock.now, min(end_at, *(decode(message.body).due_at for message in messages)))
        due = [message for message in messages if decode(message.body).due_at <= gateway.clock.now]
        for message in due:
            messages.remove(message)
        for batch in batched(due, 10, strict=False):
            attempt_due([decode(message.body) for message in batch], services=gateway.services)
        metrics.clear_metrics()  # a hundred of them would be written
    gateway.clock.now = max(gateway.clock.now, end_at)


def make_unknown(gateway: Gateway, partner: StartPartner, bank: AskedBank, **overrides: object) -> DeliveryId:
    """A payment to that bank that got no answer."""
    options = overrides.pop("options", ASKED_ABOUT)
    gateway.destination(partner(bank.script).url("/v1"), options=options, **overrides)
    delivery = accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services).delivery
    work(gateway)
    assert gateway.delivery()["state"] == "unknown"
    return delivery.delivery_id


def until_absence_counts(gateway: Gateway) -> None:
    """Works at every wake-up until `absent_after` is over, and a moment longer."""
    work_until(gateway, START + timedelta(seconds=RECONCILE.absent_after + 120))


def test_a_payment_that_the_bank_has_executed_becomes_delivered(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed])
    delivery_id = make_unknown(gateway, partner, bank)
    assert gateway.delivery()["ask_at"] == START + timedelta(seconds=FIRST_SECONDS)
    assert gateway.queue.delays() == [FIRST_SECONDS]

    work_after(gateway, FIRST_SECONDS)

    (question,) = bank.questions
    assert question.startswith(f"GET /v1/payments/{delivery_id} HTTP/1.1\r\n".encode())
    assert b"idempotency-key" not in question.lower()
    assert gateway.delivery()["state"] == "delivered"
    assert [(row["number"], row["kind"], row["outcome"]) for row in gateway.attempts()] == [
        (1, "send", "unknown"),
        (2, "reconcile", "answered"),
    ]
    assert gateway.delivery()["attempts_made"] == 1
    assert gateway.queue.wakeups() == []


def test_a_question_costs_two_statements_with_whatever_is_in_its_batch(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed], payments=[None, 201])
    make_unknown(gateway, partner, bank)
    accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    gateway.clock.forward(FIRST_SECONDS)
    with statements(gateway) as found:
        work(gateway)
    assert len(found) == 2
    assert [row["state"] for row in gateway.sql("SELECT state FROM delivery")] == ["delivered", "delivered"]


def test_what_the_bank_rejected_fails(gateway: Gateway, partner: StartPartner) -> None:
    make_unknown(gateway, partner, AskedBank(answers=[lambda key: (200, {"key": key, "state": "rejected"})]))
    work_after(gateway, FIRST_SECONDS)
    assert gateway.delivery()["state"] == "failed"


def test_what_the_bank_does_not_have_is_sent_again_with_its_key_when_that_is_sure(
    gateway: Gateway, partner: StartPartner
) -> None:
    bank = AskedBank(payments=[None, 201])
    delivery_id = make_unknown(gateway, partner, bank)

    work_after(gateway, FIRST_SECONDS)
    work_after(gateway, RECONCILE.after[1])
    assert len(bank.questions) == 2
    assert gateway.delivery()["state"] == "unknown"  # absence does not count yet
    until_absence_counts(gateway)

    assert len(bank.questions) == 3
    assert len(bank.paid) == 2
    assert all(f"Idempotency-Key: {delivery_id}".encode() in request for request in bank.paid)
    row = gateway.delivery()
    assert (row["state"], row["attempts_made"]) == ("delivered", 2)
    assert [row["kind"] for row in gateway.attempts()] == ["send", "reconcile", "reconcile", "reconcile", "send"]
    asked_last, sent = gateway.attempts()[-2:]
    assert asked_last["started_at"] >= START + timedelta(seconds=RECONCILE.absent_after)
    assert sent["started_at"] >= asked_last["started_at"]


def test_absence_counts_from_when_the_bank_was_asked_however_long_that_took(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The host stood still between the begin of a batch and its request: a bank that begins to act when it is asked has
    `absent_after` from then on."""
    asked_at: list[datetime] = []

    def asked_late(key: str) -> BankAnswer:
        if not asked_at:
            gateway.clock.forward(40)
        asked_at.append(gateway.clock.now)
        return NOT_FOUND

    make_unknown(gateway, partner, AskedBank(answers=[asked_late], payments=[None, 201]))
    until_absence_counts(gateway)
    assert gateway.delivery()["state"] == "delivered"
    assert asked_at[-1] >= asked_at[0] + timedelta(seconds=RECONCILE.absent_after)
    assert len(asked_at) == 3


@pytest.mark.parametrize(
    ("overrides", "on_absent"), [({"guarantee": Guarantee.AT_MOST_ONCE}, None), ({}, OnAbsent.FAILED)]
)
def test_what_the_bank_does_not_have_fails_where_its_destination_wants_that(
    gateway: Gateway, partner: StartPartner, overrides: dict[str, object], on_absent: OnAbsent | None
) -> None:
    bank = AskedBank()
    options = DestinationOptions(reconcile=replace(RECONCILE, on_absent=on_absent))
    make_unknown(gateway, partner, bank, options=options, **overrides)
    until_absence_counts(gateway)
    assert gateway.delivery()["state"] == "failed"
    assert len(bank.paid) == 1


def test_a_call_that_was_passed_through_is_never_sent_again(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank()
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    progress = deliver(gateway.new(path="/payments", attempts_allowed=1), wait_seconds=25.0, services=gateway.services)
    assert progress.delivery.state == "unknown"
    until_absence_counts(gateway)
    assert gateway.delivery()["state"] == "failed"
    assert len(bank.paid) == 1


def test_a_waiting_call_that_ended_unknown_is_asked_about(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed])
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    progress = deliver(gateway.new(path="/payments"), wait_seconds=25.0, services=gateway.services)
    assert progress.delivery.state == "unknown"
    work_after(gateway, FIRST_SECONDS)
    assert gateway.delivery()["state"] == "delivered"


def test_a_delivery_whose_worker_stopped_is_asked_about(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed])
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    gateway.sql(
        "UPDATE delivery SET state = 'sending', attempts_made = 1, lease_id = gen_random_uuid(), leased_until = %s",
        START + timedelta(seconds=40),
    )
    work_after(gateway, 41)
    assert gateway.delivery()["state"] == "unknown"
    for _ in range(4):
        work_after(gateway, 15)
    assert gateway.delivery()["state"] == "delivered"
    assert bank.paid == []


UNSAID: dict[str, BankAnswer] = {
    "nothing": None,
    "a server error": (503, {"code": "payment_not_found"}),
    "a redirect": (302, {"code": "payment_not_found"}),
    "credentials": (401, {"code": "payment_not_found"}),
    "another status": (410, {"code": "payment_not_found"}),
    "an empty body": (404, b""),
    "HTML": (404, b"<html>payment_not_found</html>"),
    "other words": (404, {"code": "route_not_found"}),
    "half of its words": (404, b'{"code": "payment_not_found"'),
    "two things at once": (404, b'{"code": "payment_not_found", "code": "internal_error"}'),
    "too much": (404, b'{"code": "payment_not_found", "x": "' + b"x" * 1024 * 1024 + b'"}'),
    "a list": (404, [{"code": "payment_not_found"}]),
    "another key": (200, {"key": "another", "state": "executed"}),
    "no key": (200, {"state": "rejected"}),
}


@pytest.mark.parametrize("answer", UNSAID.values(), ids=UNSAID)
def test_nothing_else_that_a_partner_answers_ends_a_delivery(
    gateway: Gateway, partner: StartPartner, answer: BankAnswer
) -> None:
    bank = AskedBank(answers=[answer])
    make_unknown(gateway, partner, bank)
    work_until(gateway, START + timedelta(hours=2))
    row = gateway.delivery()
    assert (row["state"], row["attempts_made"]) == ("unknown", 1)
    assert len(bank.questions) >= 3
    assert len(bank.paid) == 1


def test_questions_end_with_the_schedule_where_the_partner_keeps_saying_something_else(
    gateway: Gateway, partner: StartPartner
) -> None:
    bank = AskedBank(answers=[lambda key: (200, {"key": key, "state": "processing"})])
    make_unknown(gateway, partner, bank)
    work_until(gateway, START + timedelta(days=1))
    assert len(bank.questions) == len(RECONCILE.after)
    row = gateway.delivery()
    assert (row["state"], row["ask_at"]) == ("unknown", None)


def test_a_partner_that_is_away_does_not_use_up_the_questions(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[None])
    make_unknown(gateway, partner, bank)
    work_until(gateway, START + timedelta(hours=10))
    assert 550 < len(bank.questions) < 650  # every minute
    bank.answers = [executed]
    work_until(gateway, START + timedelta(hours=10, minutes=15))
    assert gateway.delivery()["state"] == "delivered"


def test_one_answer_wakes_all_that_waited_and_silence_asks_only_for_few(
    gateway: Gateway, partner: StartPartner
) -> None:
    bank = AskedBank(answers=[None])
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    for _ in range(12):
        accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    work(gateway)
    work_until(gateway, START + timedelta(hours=2))
    asked = len(bank.questions)
    work_until(gateway, START + timedelta(hours=5))
    assert len(bank.questions) - asked < 420  # each by itself, they would have asked 2,160 times

    bank.answers = [executed]
    work_until(gateway, START + timedelta(hours=5, minutes=15))
    assert {row["state"] for row in gateway.sql("SELECT DISTINCT state FROM delivery")} == {"delivered"}
    assert gateway.sql("SELECT silent_since FROM destination_flow") == [{"silent_since": None}]


def test_an_answer_after_a_silence_wakes_also_what_a_stopped_worker_was_asking(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The message of that worker comes back only after the queue's visibility timeout."""
    bank = AskedBank(answers=[None])
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    for _ in range(2):
        accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    work(gateway)
    work_until(gateway, START + timedelta(hours=1))
    stopped = gateway.sql(
        "UPDATE delivery SET ask_at = %(now)s, ask_silent = NULL, asking_until = %(now)s, "
        "asking_id = gen_random_uuid() "
        "WHERE delivery_id = (SELECT delivery_id FROM delivery ORDER BY delivery_id DESC LIMIT 1) RETURNING *",
        {"now": gateway.clock.now},
    )
    of_stopped = [
        message for message in gateway.queue.messages if decode(message.body).delivery_id == stopped[0]["delivery_id"]
    ]
    for message in of_stopped:
        gateway.queue.messages.remove(message)

    bank.answers = [executed]
    work_until(gateway, gateway.clock.now + timedelta(minutes=2))
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}
    assert gateway.sql("SELECT silent_since FROM destination_flow") == [{"silent_since": None}]


def test_single_answers_that_say_nothing_are_asked_for_again_soon_once_the_partner_is_back(
    gateway: Gateway, partner: StartPartner
) -> None:
    """Not after as long as the whole silence lasted."""
    bank = AskedBank(answers=[None])
    gateway.destination(partner(bank.script).url(), options=ASKED_ABOUT)
    for _ in range(3):
        accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    work(gateway)
    work_until(gateway, START + timedelta(hours=2))
    silent = len(bank.questions)
    # The first of the three is answered, the other two meet a bad moment, and a second one.
    bank.answers = [*[None] * silent, NOT_FOUND, None, None, None, None, executed]
    work_until(gateway, START + timedelta(hours=2, minutes=8))
    assert [row["state"] for row in gateway.sql("SELECT state FROM delivery ORDER BY delivery_id")].count(
        "delivered"
    ) >= 2


def test_an_answer_to_something_else_wakes_less_often_the_longer_a_silence_lasts(
    gateway: Gateway, partner: StartPartner
) -> None:
    """Each wake-up is one more message for its delivery, so their number must not grow with the time."""
    bank = AskedBank(answers=[None], payments=[None, *[201] * 80])
    make_unknown(gateway, partner, bank)
    for _ in range(80):
        accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
        work_until(gateway, gateway.clock.now + timedelta(minutes=2))
    assert len(gateway.queue.messages) < 25


def test_an_answer_to_something_else_wakes_what_waited(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[None], payments=[None, 201])
    make_unknown(gateway, partner, bank)
    work_until(gateway, START + timedelta(hours=1))
    bank.answers = [executed]
    accept(gateway.new(path="/payments"), wait_seconds=None, services=gateway.services)
    work_until(gateway, gateway.clock.now + timedelta(seconds=5))
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


def test_a_decision_of_a_person_wins_over_a_question_that_is_being_asked(
    gateway: Gateway, partner: StartPartner
) -> None:
    def decided_meanwhile(key: str) -> BankAnswer:
        gateway.sql("UPDATE delivery SET state = 'failed'")
        return executed(key)

    make_unknown(gateway, partner, AskedBank(answers=[decided_meanwhile]))
    work_after(gateway, FIRST_SECONDS)
    assert gateway.delivery()["state"] == "failed"
    assert [row["kind"] for row in gateway.attempts()] == ["send", "reconcile"]


def test_two_workers_ask_once(gateway: Gateway, partner: StartPartner) -> None:
    """The second one has the message while the first one waits for the bank's answer."""

    def answered_while_another_looks(_: str) -> BankAnswer:
        with closing(Database(DatabaseSettings(database_url=gateway.database.url))) as database:
            attempt_due(message, services=replace(gateway.services, database=database))
        looks.append(len(bank.questions))
        return NOT_FOUND

    looks: list[int] = []
    bank = AskedBank(answers=[answered_while_another_looks])
    make_unknown(gateway, partner, bank)
    gateway.clock.forward(FIRST_SECONDS)
    message = gateway.queue.take()
    attempt_due(message, services=gateway.services)
    assert (looks, len(bank.questions)) == ([1], 1)


def test_a_question_whose_worker_stopped_is_asked_again_after_its_lease(
    gateway: Gateway, partner: StartPartner
) -> None:
    bank = AskedBank(answers=[executed])
    make_unknown(gateway, partner, bank)
    asking_until = START + timedelta(seconds=FIRST_SECONDS + 40)
    gateway.sql(
        "UPDATE delivery SET asking_id = gen_random_uuid(), asking_until = %s, questions_made = 1", asking_until
    )
    work_after(gateway, FIRST_SECONDS)
    assert bank.questions == []
    work_after(gateway, 41)
    assert gateway.delivery()["state"] == "delivered"
    assert [row["number"] for row in gateway.attempts()] == [1, 3]


@pytest.mark.parametrize("state", ["paused", "disabled"])
def test_nothing_is_asked_while_a_destination_sends_nothing(
    gateway: Gateway, partner: StartPartner, state: str
) -> None:
    bank = AskedBank(answers=[executed])
    make_unknown(gateway, partner, bank)
    gateway.sql("UPDATE destination SET state = %s", state)
    work_after(gateway, FIRST_SECONDS)
    assert bank.questions == []
    assert gateway.queue.delays() == [60]
    gateway.sql("UPDATE destination SET state = 'active'")
    work_after(gateway, 60)
    assert gateway.delivery()["state"] == "delivered"


def test_a_question_that_cannot_be_made_is_not_sent(gateway: Gateway, partner: StartPartner) -> None:
    bank = AskedBank(answers=[executed])
    options = DestinationOptions(reconcile=replace(RECONCILE, path="/payments/{metadata.number}"))
    make_unknown(gateway, partner, bank, options=options)
    work_until(gateway, START + timedelta(days=1))
    assert bank.questions == []
    assert {row["outcome"] for row in gateway.attempts()[1:]} == {"refused"}
    assert gateway.delivery()["state"] == "unknown"


def test_nobody_is_asked_any_more_where_the_destination_does_not_say_how(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The question was queued before."""
    bank = AskedBank(answers=[executed])
    delivery_id = make_unknown(gateway, partner, bank)
    gateway.sql("UPDATE destination SET options = options - 'reconcile'")
    for _ in range(3):
        work_after(gateway, FIRST_SECONDS)
    assert bank.questions == []
    assert (gateway.delivery()["delivery_id"], gateway.delivery()["state"]) == (delivery_id, "unknown")
    assert gateway.queue.wakeups() == []


def test_a_question_whose_destination_is_changed_while_it_is_asked_ends_as_it_was_asked(
    gateway: Gateway, partner: StartPartner
) -> None:
    """The claim has the destination as it was when it was taken."""
    bank = AskedBank(answers=[executed])
    make_unknown(gateway, partner, bank)
    services, (wakeup,) = gateway.services, gateway.queue.take()
    gateway.clock.forward(FIRST_SECONDS)
    now = gateway.clock()
    (claim,) = deliveries.claim(services.database, [wakeup.delivery_id], lease=services.new_lease(now), now=now)
    assert isinstance(claim, Claim)
    bare = replace(claim, destination=replace(claim.destination, options=DestinationOptions()))
    (attempt,) = make_attempts([bare], end_at=now + timedelta(seconds=30), services=services)
    assert attempt.attempt.outcome == "refused"
    assert attempt.verdict == Held()
    assert bank.questions == []

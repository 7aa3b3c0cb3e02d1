"""One delivery of three meets a fault that nobody foresaw, at every step: the two others know nothing of it."""

import ast
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from db import attempts, deliveries, oauth_tokens
from domain import bodies, questions
from domain.auth import BearerAuth, auth_type
from domain.deliveries import Claim, Record
from domain.destinations import Timeouts
from domain.errors import StatementRefused
from domain.events import EVENT_AFTER_SECONDS
from domain.ids import DeliveryId
from domain.outcomes import OutcomeKind
from domain.wakeups import Wakeup
from egress import client as egress_client
from egress.client import EarlyResults
from egress.credentials import seal_auth
from egress.seal_keys import SealKeys
from egress.transfer import Run
from flows import attempt, audit, beside, early_recording, jobs, judge, prepare, services, settle
from flows.accept import accept
from flows.deliver import deliver
from runtime.observability import logger
from tests.egress.servers import Line, Partner, Script
from tests.flows.test_oauth import Resource, TokenEndpoint, oauth_destination
from tests.support.banks import ASKED_ABOUT, RECONCILE, AskedBank, executed
from tests.support.gateway import Gateway
from tests.support.partners import answers
from wakeups import sqs

type StartPartner = Callable[[Script], Partner]
type Break = Callable[[pytest.MonkeyPatch], None]

ROOT = Path(__file__).parents[2]
ODD = "/odd"
SECRET = "the-partners-secret"


def breaks(place: object, name: str, *, at: Callable[..., bool]) -> Break:
    """Has `name` of `place` raise where `at` says of its arguments that they are those of the odd delivery."""
    original: Callable[..., Any] = getattr(place, name)

    def broken(*arguments: Any, **options: Any) -> Any:
        if at(*arguments, **options):
            raise OverflowError(f"a message that quotes {SECRET}")
        return original(*arguments, **options)

    def breaking(monkeypatch: pytest.MonkeyPatch) -> None:
        if isinstance(at, InTurn):
            at.begin()
        monkeypatch.setattr(place, name, broken)

    return breaking


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that breaks, and what then becomes of the odd delivery: outcome and state, and whether it was sent.

    `outcome` is None where no attempt is recorded. `told` is what src calls the step in the log, `options` are those of
    the destination as they are stored, `queued` the delays of the messages that are queued then.
    """

    name: str
    told: str
    breaks: Break
    outcome: OutcomeKind | None
    state: str
    sent: bool = True
    options: str = "{}"
    queued: tuple[int, ...] = ()


def of_odd_claim(claim: Claim, *_: Any, **__: Any) -> bool:
    return claim.path == ODD


class InTurn:
    """Whether it is one of these calls, by its number."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers
        self.begin()

    def begin(self) -> None:
        """Counts from one again."""
        self._calls = 0

    def __call__(self, *_: Any, **__: Any) -> bool:
        self._calls += 1
        return self._calls in self._numbers


def both(*all_of_them: Break) -> Break:
    def breaking(monkeypatch: pytest.MonkeyPatch) -> None:
        for one in all_of_them:
            one(monkeypatch)

    return breaking


def of_odd_record(record: Record) -> bool:
    response = record.attempt.response
    return response is not None and ("X-Odd", "yes") in response.headers


STEPS = [
    Step(
        name="open credentials",
        told="prepare",
        breaks=breaks(prepare, "_with_credentials", at=of_odd_claim),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="build headers",
        told="prepare",
        breaks=breaks(prepare, "_headers", at=of_odd_claim),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="build the url",
        told="prepare",
        breaks=breaks(prepare, "partner_url", at=lambda _url, **parts: parts["path"] == ODD),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="check the request",
        told="transfer",
        breaks=breaks(egress_client, "fault_in_request", at=lambda request: request.url.endswith(ODD)),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="set the transfer up",
        told="transfer",
        breaks=breaks(Run, "_set", at=lambda run, **_: run.transfer.request.url.endswith(ODD)),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="read how the transfer ended",
        told="transfer",
        breaks=breaks(Run, "_outcome", at=lambda run, _ended: run.transfer.request.url.endswith(ODD)),
        outcome=OutcomeKind.UNKNOWN,
        state="unknown",
    ),
    Step(
        name="judge by the headers",
        told="judge",
        breaks=breaks(judge, "verdict", at=lambda outcome, **_: ("X-Odd", "yes") in getattr(outcome, "headers", ())),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="judge at all",
        told="judge",
        breaks=breaks(judge, "_decided", at=lambda claim, _outcome, **_: claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="unknown",
    ),
    Step(
        name="store the response",
        told="store",
        breaks=breaks(judge, "stored_response", at=lambda answer, **_: ("X-Odd", "yes") in answer.headers),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="sign",
        told="prepare",
        options='{"signing": []}',
        breaks=breaks(prepare, "_signed", at=lambda _request, claim, *_, **__: claim.path == ODD),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
        queued=(5,),
    ),
    Step(
        name="redact",
        told="store",
        options='{"redact": {"headers": ["x-other"], "pointers": []}}',
        breaks=breaks(bodies, "redacted_headers", at=lambda fields, _redaction: ("X-Odd", "yes") in fields),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="read what was claimed",
        told="read a claim",
        breaks=breaks(deliveries, "_claim", at=lambda row, *_, **__: row["path"] == ODD),
        outcome=None,
        state="sending",
        sent=False,
        queued=(40,),  # when its lease has ended
    ),
    Step(
        name="say which address it left from",
        told="address",
        breaks=breaks(services, "_is_private", at=InTurn(2, 3)),  # all at once, and by itself
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="count for the circuit breaker",
        told="count for the breaker",
        breaks=breaks(
            judge, "failed_for_the_breaker", at=lambda outcome: ("X-Odd", "yes") in getattr(outcome, "headers", ())
        ),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="tell of its end",
        told="make the events",
        options='{"events_to": "01890000-0000-7000-8000-000000000000"}',
        breaks=breaks(judge, "is_reserved", at=lambda key: key == "odd"),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
        queued=(EVENT_AFTER_SECONDS, EVENT_AFTER_SECONDS),  # the events of the others
    ),
    Step(
        name="say what is recorded",
        told="make the record",
        breaks=breaks(judge.JudgedAttempt, "_record", at=lambda judged: judged.claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="write it as JSON for the database",
        told="record",
        breaks=breaks(attempts, "_row", at=of_odd_record),
        outcome=None,
        state="sending",
        queued=(10,),  # the outcome, in a wake-up
    ),
    Step(
        name="make the wake-up that carries its outcome",
        told="carry",
        breaks=both(
            breaks(attempts, "_row", at=of_odd_record),
            breaks(settle, "_carrying", at=lambda judged, **_: judged.claim.path == ODD),
        ),
        outcome=None,
        state="sending",
        queued=(60,),  # when its lease has ended
    ),
    Step(
        name="say when to look next",
        told="next wake-ups",
        breaks=breaks(settle, "retry", at=lambda judged: judged.claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
        queued=(60,),
    ),
    Step(
        name="log",
        told="log",
        breaks=breaks(settle, "_entry", at=lambda judged: judged.claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
]


def answers_oddly(line: Any) -> None:
    """As any partner; of the odd delivery with a header more."""
    while request := line.read_request():
        odd = b"X-Odd: yes\r\n" if request.startswith(b"POST /odd ") else b""
        line.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok" % odd)


def three(gateway: Gateway, partner: StartPartner) -> tuple[Partner, list[DeliveryId]]:
    """Three deliveries with credentials, the odd one in the middle."""
    server = partner(answers_oddly)
    made = gateway.destination(server.url())
    auth = BearerAuth(token=SECRET)
    sealed = seal_auth(auth, destination_id=made.destination_id, key=gateway.services.seal_key)
    gateway.sql("UPDATE destination SET auth_type = %s, sealed_credentials = %s", auth_type(auth).value, sealed)
    paths = ("/first", ODD, "/last")
    found = [
        accept(gateway.new(path=path, idempotency_key=path[1:]), wait_seconds=None, services=gateway.services)
        for path in paths
    ]
    return server, [claim.delivery.delivery_id for claim in found]


def outcomes(gateway: Gateway) -> dict[str, tuple[str | None, str]]:
    rows = gateway.sql("SELECT path, outcome, state FROM delivery LEFT JOIN attempt USING (delivery_id)")
    return {row["path"]: (row["outcome"], row["state"]) for row in rows}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_fault_in_one_delivery_is_its_own(
    gateway: Gateway,
    partner: StartPartner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: Step,
) -> None:
    server, _ = three(gateway, partner)
    gateway.sql("UPDATE destination SET options = %s", step.options)
    told = told_errors(monkeypatch)
    with monkeypatch.context() as broken:
        step.breaks(broken)
        attempt.attempt_due(gateway.queue.take(), services=gateway.services)

    fine = ("answered", "delivered")
    assert outcomes(gateway) == {"/first": fine, ODD: (step.outcome, step.state), "/last": fine}
    assert any(request.startswith(b"POST /odd ") for request in server.requests) == step.sent
    assert len(server.requests) == 2 + step.sent
    assert gateway.queue.delays() == list(step.queued)
    assert {line["error"] for line in told if "error" in line} == {"OverflowError"}  # loud,
    assert step.told in {line.get("step") for line in told}
    assert SECRET not in str(told) + capsys.readouterr().out  # and without the exception's own words
    stored = gateway.sql("SELECT reason FROM attempt WHERE outcome <> 'answered'")
    assert SECRET not in str(stored)


def told_errors(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is logged as an error from now on."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "error", lambda _, extra=None, **keys: told.append({**(extra or {}), **keys}))
    return told


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_fault_names_its_delivery(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    _, (_, odd, _) = three(gateway, partner)
    gateway.sql("UPDATE destination SET options = %s", step.options)
    step.breaks(monkeypatch)
    told = told_errors(monkeypatch)
    monkeypatch.setattr(
        settle, "log_each", lambda _, entries: told.extend(msgspec.structs.asdict(entry) for entry in entries)
    )
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert str(odd) in {str(line.get("delivery_id")) for line in told}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A step of a question about a delivery, and what became of the odd question."""

    name: str
    breaks: Break
    outcome: OutcomeKind


QUESTIONS = [
    Question(
        name="make the question",
        breaks=breaks(prepare, "asked_request", at=lambda _, question: question.idempotency_key == "odd"),
        outcome=OutcomeKind.UNREACHABLE,
    ),
    Question(
        name="build its path",
        breaks=breaks(questions, "_filled", at=lambda _, question, **__: question.idempotency_key == "odd"),
        outcome=OutcomeKind.UNREACHABLE,
    ),
    Question(
        name="read what the partner says",
        breaks=breaks(judge, "verdict_on", at=lambda _, question, **__: question.idempotency_key == "odd"),
        outcome=OutcomeKind.ANSWERED,
    ),
    Question(
        name="store what the partner says",
        breaks=breaks(judge, "stored_response", at=lambda answer, **_: b'"odd"' in answer.body),
        outcome=OutcomeKind.ANSWERED,
    ),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_fault_in_one_question_is_its_own(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, question: Question
) -> None:
    bank = AskedBank(answers=(executed,))
    gateway.destination(partner(bank.script).url("/v1"), options=ASKED_ABOUT)
    for key in ("first", "odd", "last"):
        accept(gateway.new(idempotency_key=key), wait_seconds=None, services=gateway.services)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    gateway.clock.forward(2 * RECONCILE.after[0])
    told = told_errors(monkeypatch)
    with monkeypatch.context() as broken:
        question.breaks(broken)
        attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    rows = gateway.sql(
        "SELECT idempotency_key, outcome, state FROM delivery JOIN attempt USING (delivery_id) WHERE kind = 'reconcile'"
    )
    found = {row["idempotency_key"]: (row["outcome"], row["state"]) for row in rows}
    odd = "delivered" if question.name.startswith("store") else "unknown"
    fine = ("answered", "delivered")
    assert found == {"first": fine, "odd": (question.outcome, odd), "last": fine}
    assert {line["error"] for line in told} == {"OverflowError"}


def test_a_request_that_its_access_token_cannot_complete_is_its_own_fault(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(Resource())
    oauth_destination(gateway, server.url(), partner(TokenEndpoint()).url())
    for path in ("/first", ODD, "/last"):
        accept(gateway.new(path=path), wait_seconds=None, services=gateway.services)
    breaks(prepare, "_headers", at=lambda claim, credentials: claim.path == ODD and credentials != ())(monkeypatch)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    fine = ("answered", "delivered")
    assert outcomes(gateway) == {"/first": fine, ODD: ("unreachable", "pending"), "/last": fine}
    assert len(server.requests) == 2


def test_an_access_token_that_cannot_be_stored_is_used_all_the_same(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(Resource())
    oauth_destination(gateway, server.url(), partner(TokenEndpoint()).url())
    accept(gateway.new(path=ODD), wait_seconds=None, services=gateway.services)
    breaks(oauth_tokens, "store", at=lambda *_, **__: True)(monkeypatch)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert outcomes(gateway) == {ODD: ("answered", "delivered")}


def test_a_wake_up_that_cannot_be_written_keeps_no_other_one_from_the_queue(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message comes back instead."""
    gateway.destination(partner(answers(503)).url())
    paths = ("/first", ODD, "/last")
    _, odd, _ = (accept(gateway.new(path=path), wait_seconds=None, services=gateway.services) for path in paths)
    wakeups = gateway.queue.take()
    breaks(sqs, "encode", at=lambda wakeup: wakeup.delivery_id == odd.delivery.delivery_id)(monkeypatch)
    told = told_errors(monkeypatch)
    failed = attempt.attempt_due(wakeups, services=gateway.services)
    assert [wakeups[position].delivery_id for position in failed] == [odd.delivery.delivery_id]
    assert set(outcomes(gateway).values()) == {("answered", "pending")}
    assert gateway.queue.delays() == [5, 5]
    assert [line["step"] for line in told] == ["queue"]


def test_a_carried_outcome_after_which_something_fails_is_recorded_with_the_others(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (_, odd, _) = three(gateway, partner)
    with monkeypatch.context() as away:
        away.setattr(settle, "_written", lambda *_, **__: None)  # the database does not answer in time
        attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    gateway.clock.forward(30)
    carried = gateway.queue.take()
    assert len(carried) == 3
    breaks(attempt, "_after_carried", at=lambda message, **_: message.wakeup.delivery_id == odd)(monkeypatch)
    told = told_errors(monkeypatch)
    assert attempt.attempt_due(carried, services=gateway.services) == frozenset()
    assert set(outcomes(gateway).values()) == {("answered", "delivered")}
    assert [wakeup.delivery_id for wakeup in gateway.queue.wakeups()] == [odd]
    assert [line["step"] for line in told] == ["after a carried outcome"]


def test_a_delivery_that_cannot_be_canceled_keeps_no_other_one_from_being_sent(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its destination was deleted some time ago."""
    server = partner(answers(200))
    gateway.destination(server.url(), name="deleted")
    gateway.destination(server.url())
    accept(gateway.new(destination="deleted", path=ODD), wait_seconds=None, services=gateway.services)
    accept(gateway.new(path="/last"), wait_seconds=None, services=gateway.services)
    gateway.sql(
        "UPDATE destination SET deleted_at = created_at, deleted_name = name, name = 'gone', state = 'disabled' "
        "WHERE name = 'deleted'"
    )
    gateway.clock.forward(2 * deliveries.DELETED_FOR_SECONDS)

    def refuses(*_: object, **__: object) -> list[DeliveryId]:
        raise StatementRefused(sqlstate="23514", constraint="")

    monkeypatch.setattr(deliveries, "cancel_abandoned", refuses)
    told = told_errors(monkeypatch)
    assert attempt.attempt_due(gateway.queue.take(), services=gateway.services) == frozenset()
    assert outcomes(gateway) == {ODD: (None, "pending"), "/last": ("answered", "delivered")}
    assert [line["step"] for line in told] == ["cancel"]


def test_a_delivery_that_nobody_can_say_when_to_look_at_is_looked_at_soon(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not due, in a batch with others."""
    _, (_, odd, _) = three(gateway, partner)
    gateway.sql("UPDATE delivery SET due_at = due_at + interval '1 hour' WHERE delivery_id = %s", odd)
    breaks(attempt, "_look_again", at=lambda result, *_, **__: result.delivery_id == odd)(monkeypatch)
    told = told_errors(monkeypatch)
    assert attempt.attempt_due(gateway.queue.take(), services=gateway.services) == frozenset()
    fine = ("answered", "delivered")
    assert outcomes(gateway) == {"/first": fine, ODD: (None, "pending"), "/last": fine}
    assert [(line["step"], line["delivery_id"]) for line in told] == [("look again", str(odd))]
    assert [(wakeup.delivery_id, wakeup.misses) for wakeup in gateway.queue.wakeups()] == [(odd, 0)]
    assert gateway.queue.delays() == [attempt.PUT_BACK_SECONDS]


def test_a_partner_who_is_gone_and_cannot_be_noted_ruins_no_record(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.destination(partner(answers(410)).url(), name="gone")
    gateway.destination(partner(answers(200)).url())
    for destination in ("gone", "partner"):
        accept(
            gateway.new(destination=destination, path=f"/{destination}"), wait_seconds=None, services=gateway.services
        )
    breaks(audit, "log_act", at=lambda *_, **__: True)(monkeypatch)
    told = told_errors(monkeypatch)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert outcomes(gateway) == {"/gone": ("answered", "failed"), "/partner": ("answered", "delivered")}
    assert [line["step"] for line in told] == ["note gone"]


def test_a_stored_destination_that_cannot_be_read_is_no_other_tenants_fault(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are leased by then: an exception would leave all of them to lapse."""
    server = partner(answers(200))
    for name in ("first", "odd", "last"):
        gateway.destination(server.url(), name=name)
        accept(gateway.new(destination=name, path=f"/{name}"), wait_seconds=None, services=gateway.services)
    gateway.sql("""UPDATE destination SET options = '{"retry": 5}' WHERE name = 'odd'""")
    told = told_errors(monkeypatch)
    assert attempt.attempt_due(gateway.queue.take(), services=gateway.services) == frozenset()
    fine = ("answered", "delivered")
    assert outcomes(gateway) == {"/first": fine, ODD: (None, "sending"), "/last": fine}
    assert [line["step"] for line in told] == ["read a claim"]
    gateway.sql("UPDATE destination SET options = '{}'")
    gateway.clock.forward(60)  # it lapsed, and it is looked at as soon as it can be read
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert outcomes(gateway)[ODD] == ("unknown", "unknown")


@pytest.mark.parametrize("early", ["begin", "note_slow"])
def test_what_cannot_be_done_early_is_done_in_the_end(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, early: str
) -> None:
    """As where a process may have no further thread."""
    reported = threading.Event()

    def breaking(*_: object, **__: object) -> None:
        reported.set()
        raise RuntimeError("can't start new thread")

    def slow(line: Line) -> None:
        line.read_request()
        reported.wait(60)
        line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr(attempt, "EarlyResults", partial(EarlyResults, any_after_seconds=0.1, slow_after_seconds=0.1))
    monkeypatch.setattr(early_recording.EarlyRecorder, early, breaking)
    timeouts = Timeouts(connect_seconds=25, first_byte_seconds=25, total_seconds=25)
    gateway.destination(partner(answers(200)).url(), name="fast")
    gateway.destination(partner(slow).url(), name="slow", timeouts=timeouts)
    for name in ("fast", "slow"):
        accept(gateway.new(destination=name, path=f"/{name}"), wait_seconds=None, services=gateway.services)
    told = told_errors(monkeypatch)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert set(outcomes(gateway).values()) == {("answered", "delivered")}
    assert [line["step"] for line in told] == ["report early" if early == "begin" else "report what takes long"]


def test_a_recorder_without_a_thread_has_done_nothing_early(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises when it is asked, and not again at the end, where all outcomes are at hand."""

    def breaking(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    recorder = early_recording.EarlyRecorder(queue_retries=lambda _: frozenset(), services=gateway.services)
    monkeypatch.setattr(threading.Thread, "start", breaking)
    with pytest.raises(RuntimeError):
        recorder._run(lambda: None, step="of this test")
    assert recorder.end(until=gateway.clock()) == {}


def test_a_step_of_a_job_that_fails_keeps_no_delivery_from_being_sent(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    of_job = Wakeup(delivery_id=DeliveryId(uuid4()), due_at=gateway.clock(), group="job", of_job=True)
    breaks(jobs, "advance", at=lambda *_, **__: True)(monkeypatch)
    told = told_errors(monkeypatch)
    assert attempt.attempt_due([of_job, *gateway.queue.take()], services=gateway.services) == frozenset()
    assert set(outcomes(gateway).values()) == {("answered", "delivered")}
    assert [(wakeup.delivery_id, wakeup.of_job) for wakeup in gateway.queue.wakeups()] == [(of_job.delivery_id, True)]
    assert [line["step"] for line in told] == ["job"]


def test_a_seal_key_that_cannot_be_read_leaves_the_others_to_be_sent(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    gateway.destination(partner(answers(200)).url(), name="plain")
    accept(gateway.new(destination="plain", path="/plain"), wait_seconds=None, services=gateway.services)

    def load() -> SealKeys:
        raise OverflowError

    told = told_errors(monkeypatch)
    attempt.attempt_due(gateway.queue.take(), services=replace(gateway.services, load_seal_keys=load))
    unsent = ("unreachable", "pending")
    assert outcomes(gateway) == {"/first": unsent, ODD: unsent, "/last": unsent, "/plain": ("answered", "delivered")}
    assert "seal key" in {line.get("step") for line in told}


@pytest.mark.parametrize("step", ["overdue", "retention", "seal", "tally"])
def test_work_beside_a_batch_that_fails_raises_nothing(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    told = told_errors(monkeypatch)
    assert beside.tried(partial(int, "none"), step=step) is None
    assert [line["step"] for line in told] == [step]


@pytest.mark.parametrize("step", ["record early", "note what takes long"])
def test_a_fault_in_early_work_is_told_and_goes_no_further(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    told = told_errors(monkeypatch)
    recorder = early_recording.EarlyRecorder(queue_retries=lambda _: frozenset(), services=gateway.services)
    recorder._run(partial(int, "none"), step=step)  # type: ignore[arg-type]  # its result does not matter
    assert recorder.end(until=gateway.clock() + timedelta(seconds=60)) == {}
    assert [line["step"] for line in told] == [step]
    assert not recorder.stuck


# ---- Nothing is left out

# Steps of no one delivery, and those that are broken by tests of their own.
ELSEWHERE = {
    "access token": "test_a_fault_of_ours_while_a_token_is_fetched_is_not_the_partners",
    "after a carried outcome": "test_a_carried_outcome_after_which_something_fails_is_recorded_with_the_others",
    "cancel": "test_a_delivery_that_cannot_be_canceled_keeps_no_other_one_from_being_sent",
    "certificate": "test_a_certificate_that_cannot_be_read_is_said_to_be_one",
    "checkpoint": "test_a_checkpoint_that_meets_a_fault_of_ours_raises_nothing",
    "complete with an access token": "test_a_request_that_its_access_token_cannot_complete_is_its_own_fault",
    "job": "test_a_step_of_a_job_that_fails_keeps_no_delivery_from_being_sent",
    "look again": "test_a_delivery_that_nobody_can_say_when_to_look_at_is_looked_at_soon",
    "note gone": "test_a_partner_who_is_gone_and_cannot_be_noted_ruins_no_record",
    "note what takes long": "test_a_fault_in_early_work_is_told_and_goes_no_further",
    "overdue": "test_work_beside_a_batch_that_fails_raises_nothing",
    "queue": "test_a_wake_up_that_cannot_be_written_keeps_no_other_one_from_the_queue",
    "record early": "test_a_fault_in_early_work_is_told_and_goes_no_further",
    "report early": "test_what_cannot_be_done_early_is_done_in_the_end",
    "report what takes long": "test_what_cannot_be_done_early_is_done_in_the_end",
    "retention": "test_work_beside_a_batch_that_fails_raises_nothing",
    "seal": "test_work_beside_a_batch_that_fails_raises_nothing",
    "seal key": "test_a_seal_key_that_cannot_be_read_leaves_the_others_to_be_sent",
    "send": "test_when_the_client_itself_fails_the_outcome_is_unknown",
    "store an access token": "test_an_access_token_that_cannot_be_stored_is_used_all_the_same",
    "tell the bus": "test_what_cannot_be_put_on_the_bus_keeps_no_delivery_from_being_sent",
    "tell of a certificate": "test_a_certificate_whose_look_fails_keeps_nothing_from_being_deleted",
    "tally": "test_work_beside_a_batch_that_fails_raises_nothing",
}


def trees(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_every_isolated_step_is_broken_by_a_test() -> None:
    """A step that is new in src has no row here, and this fails."""
    named = {
        keyword.value.value
        for _, tree in trees("src")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "step" and isinstance(keyword.value, ast.Constant)
    }
    assert named == {step.told for step in STEPS} | ELSEWHERE.keys()
    tests = {
        node.name
        for _, tree in trees("tests/flows", "tests/unit")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert set(ELSEWHERE.values()) - tests == set()


# The files whose loops go over the deliveries of a batch.
LOOPING = [
    *(f"src/flows/{name}.py" for name in ("attempt", "early_recording", "judge", "prepare", "settle", "wake")),
    "src/db/attempts.py",
    "src/egress/client.py",
    "src/wakeups/sqs.py",
]
# What is called in them for one delivery, and why a fault there is not the others'.
ISOLATES_ITSELF = {
    "_advanced",
    "_followed",
    "_is_refused",
    "_isolated_entry",
    "_looked_again",
    "carrying",
    "judged",
    "next_wakeups",
    "note_gone",
    "prepared",
    "record_all",
    "self._begin_completed",
    "self._begin_resolved",
    "self._end",
    "self._isolated",
    "self._report_early",
}
# Whoever calls the loop does all of it again, one by one, where it raises (record_all, send_some, _log_attempts,
# next_wakeups).
DONE_AGAIN_ONE_BY_ONE = {
    "_entry",
    "_has_concurrency",
    "_json",
    "_row",
    "_woken",
    "event_wakeup",
    "record",
    "self._rejected_twice",
}
# They read what is there, count, wait, or make values of what was checked when it was read.
PLAIN = {
    "BatchMessage",
    "DeadLetter",
    "DeliveryId",
    "DestinationId",
    "Ended",
    "QueueUnavailable",
    "TenantId",
    "Transfer",
    "Unreachable",
    "Wakeup",
    "_NotLookedAt",
    "_at",
    "_attempt",
    "_has_secrets",
    "_looked_at_in_time",
    "_may_be_answered",
    "_storable",
    "batch.append",
    "count",
    "entry.get",
    "for_bus",
    "group_name",
    "int",
    "isinstance",
    "judged_early.get",
    "len",
    "logger.info",
    "logger.warning",
    "msgspec.to_builtins",
    "name.lower",
    "next",
    "replace",
    "self._completed.get",
    "self._end_late",
    "self._end_waits",
    "self._engine.remove",
    "self._engine.turn",
    "self._idle.pop",
    "self._idle.pop().close",
    "self._lookup_results.get",
    "self._next_deadline",
    "self._waiting.pop",
    "services.sleep",
    "str",
    "str(entry['Id']).removesuffix",
    "time.monotonic",
    "transfer.end_unsent",
    "within",
    "written.and_",
}


def called(node: ast.AST) -> Iterator[str]:
    """The functions that are called in it, but for what is given to one that isolates."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in ("isolated", "each_isolated", "partial"):
            return
        yield name
    for child in ast.iter_child_nodes(node):
        yield from called(child)


def repeated(node: ast.AST) -> list[ast.AST]:
    """What is done for each element; nothing where it is no loop."""
    if isinstance(node, ast.For | ast.While):
        return list(node.body)
    if not isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        return []
    first, *inner = node.generators
    made: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    return [*made, *first.ifs, *inner]


def test_what_is_done_for_each_delivery_of_a_batch_is_isolated_or_cannot_fail() -> None:
    """A call that is new in a loop over a batch has to be isolated, or it has to be said here why it need not be."""
    found = {
        name
        for path, tree in trees("src")
        if path in LOOPING
        for node in ast.walk(tree)
        for part in repeated(node)
        for name in called(part)
    }
    assert found == ISOLATES_ITSELF | DONE_AGAIN_ONE_BY_ONE | PLAIN


def test_what_is_said_to_isolate_itself_does() -> None:
    functions = {
        node.name: {name for part in node.body for name in names_in(part)}
        for path, tree in trees("src")
        if path in (*LOOPING, "src/flows/gone.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    isolating = {"isolated", "each_isolated", "unless_it_raises", "self._isolated"}
    said = {name.removeprefix("self.") for name in ISOLATES_ITSELF} | {"prepared"}
    assert {name for name in said if not functions[name] & isolating} == set()


def names_in(node: ast.AST) -> Iterator[str]:
    return (ast.unparse(part.func) for part in ast.walk(node) if isinstance(part, ast.Call))


def test_when_the_client_itself_fails_the_outcome_is_unknown(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    monkeypatch.setattr(gateway.services.client, "send_all", lambda _: 1 // 0)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert set(outcomes(gateway).values()) == {("unknown", "unknown")}


def test_a_client_that_failed_once_works_again(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    with monkeypatch.context() as broken:
        next(step for step in STEPS if step.name == "set the transfer up").breaks(broken)
        attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    gateway.clock.forward(5)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


@pytest.mark.parametrize(
    "step", [step for step in STEPS if step.sent and step.outcome is not None], ids=lambda step: step.name
)
def test_a_waiting_caller_gets_an_answer_all_the_same(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    gateway.destination(partner(answers_oddly).url())
    step.breaks(monkeypatch)
    progress = deliver(gateway.new(path=ODD), wait_seconds=10, services=gateway.services)
    assert progress.attempts[0].outcome == step.outcome
    assert gateway.delivery()["state"] == step.state == progress.delivery.state.value


@pytest.mark.parametrize(
    "when", ["Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 +99999999999999999"]
)
def test_a_retry_after_beyond_the_calendar_does_not_break_other_records(
    gateway: Gateway, partner: StartPartner, when: str
) -> None:
    gateway.destination(partner(answers(503, b"", f"Retry-After: {when}")).url())
    gateway.destination(partner(answers(200)).url(), name="second")
    for destination in ("partner", "second"):
        accept(gateway.new(destination=destination), wait_seconds=None, services=gateway.services)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    states = gateway.sql("SELECT name, delivery.state FROM delivery JOIN destination USING (destination_id)")
    assert {row["name"]: row["state"] for row in states} == {"partner": "pending", "second": "delivered"}
    assert gateway.queue.delays() == [5]


def test_two_destinations_at_one_partner_share_no_connection(gateway: Gateway, partner: StartPartner) -> None:
    """They may be two tenants', and what one makes the partner say must not reach the other."""
    there = partner(answers(200))
    for name in ("one", "two"):
        gateway.destination(there.url(), name=name)
    for name in ("one", "one", "two"):
        deliver(gateway.new(destination=name, method="GET", body=b""), wait_seconds=20, services=gateway.services)
    assert (len(there.requests), there.connections) == (3, 2)

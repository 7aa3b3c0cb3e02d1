"""Each promise is found broken where a made-up run breaks it, and in that promise's words; a good run breaks none."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from domain.deliveries import fingerprint
from simulator.evidence import (
    Arrival,
    Asked,
    BankAct,
    Begin,
    FaultStruck,
    Invocation,
    JobEntry,
    JobTold,
    Lapse,
    QuestionVerdict,
    RecordRun,
    RunEvidence,
    Told,
)
from simulator.faults import Kind
from simulator.promises import (
    PROMISES,
    Facts,
    a_key_keeps_its_order,
    at_most_once,
    broken_promises,
    keys_are_kept,
    sending_windows_are_kept,
    states_only_move_on,
    what_is_sent_again_is_sent,
)
from simulator.setting import BY_ID, DESTINATIONS, Target
from simulator.world import EPOCH

AUTO, ONCE, AGAIN, HELD, HOURS, BANK, CLEARING, TOLD, TELLING = (
    next(each for each in DESTINATIONS if each.name == name)
    for name in ("auto", "once", "again", "held", "hours", "bank", "clearing", "told", "telling")
)
DELIVERY = UUID(int=0xD)
BODY = b"body"
ANSWER = b"the answer to this one"


def row(target: Target = AGAIN, **overrides: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "delivery_id": DELIVERY,
        "tenant_id": target.tenant_id,
        "destination_id": target.destination_id,
        "idempotency_key": "key",
        "fingerprint": fingerprint(destination=target.name, method="POST", path="/orders", query="", body=BODY),
        "method": "POST",
        "path": "/orders",
        "query": "",
        "body": BODY,
        "state": "delivered",
        "attempts_made": 1,
        "attempts_allowed": 10,
        "created_at": EPOCH + timedelta(seconds=1),
        "finished_at": EPOCH + timedelta(seconds=30),
        "ordering_key": None,
        "questions_made": None,
        "ask_at": None,
    }
    return values | overrides


def attempt(number: int = 1, outcome: str = "answered", status: int | None = 200) -> dict[str, Any]:
    return {
        "delivery_id": DELIVERY,
        "number": number,
        "outcome": outcome,
        "status": status,
        "response_body": None if status is None else ANSWER,
        "response_truncated": None if status is None else False,
        "kind": "send",
    }


def arrival(number: int = 1, *, target: Target = AGAIN, **overrides: Any) -> Arrival:
    values: dict[str, Any] = {
        "at": 10.0 * number,
        "process": "worker 1",
        "destination": str(target.destination_id),
        "key": "key",
        "number": number,
        "request": ("POST", f"http://{target.host}/orders", BODY),
        "acted": True,
        "status": 200,
        "heard": True,
        "body": ANSWER,
    }
    return Arrival(**(values | overrides))


def record(number: int = 1, **overrides: Any) -> RecordRun:
    values: dict[str, Any] = {
        "at": 10.0 * number + 1,
        "process": "worker 1",
        "delivery": str(DELIVERY),
        "number": number,
        "outcome": "answered",
        "status": 200,
        "next_state": "delivered",
        "next_due_at": None,
        "started_at": 10.0 * number,
        "moved": True,
        "state_before": "sending",
        "sends": number,
    }
    return RecordRun(**(values | overrides))


def told(how: str = "accepted", **overrides: Any) -> Told:
    values: dict[str, Any] = {
        "asked_at": 0.0,
        "at": 1.0,
        "caller": "caller 1",
        "how": how,
        "process": "api 1",
        "tenant": str(AGAIN.tenant_id),
        "destination": AGAIN.name,
        "key": "key",
        "request": ("POST", "/orders", BODY),
        "delivery": str(DELIVERY),
        "state": "pending",
    }
    return Told(**(values | overrides))


def invocation(what: str, *, process: str = "worker 1", **statements: int) -> Invocation:
    made = Invocation(process=process, what=what, began_at=0.0, ended_at=100.0, result="returned")
    made.statements.update(statements)
    return made


def good(**overrides: Any) -> RunEvidence:
    """A delivery that was accepted, arrived once, was answered 200 and recorded; a fault elsewhere, so that what holds
    only in calm runs is not looked at."""
    values: dict[str, Any] = {
        "arrivals": [arrival()],
        "records": [record()],
        "told": [told()],
        "faults": [FaultStruck(at=0.5, kind=Kind.STALE_PLAN, process="api 9")],
        "invocations": [invocation("accept", process="api 1", accept=1), invocation("batch", claim=1, record=1)],
        "deliveries": [row()],
        "attempts": [attempt()],
        "ended": "at rest",
    }
    return RunEvidence(**(values | overrides))


def twice(target: Target, first: dict[str, Any], **overrides: Any) -> RunEvidence:
    """The same with a second attempt, the first having been as `first` says."""
    return good(
        arrivals=[arrival(target=target, **first), arrival(2, target=target)],
        told=[],
        deliveries=[row(target, attempts_made=2)],
        attempts=[
            attempt(1, "answered" if first.get("heard", True) else "unknown", first.get("status", 200)),
            attempt(2),
        ],
        records=[],
        **overrides,
    )


def in_order(*states: str, target: Target = AGAIN, **overrides: Any) -> RunEvidence:
    """Two deliveries under one ordering key: the states of the first until an attempt of the second begins."""
    second = str(UUID(int=0xE))
    changes = [(10.0, str(DELIVERY), *change) for change in pairwise(["new", "pending", *states])]
    return good(
        **overrides,
        deliveries=[
            row(target, ordering_key="one order"),
            row(target, delivery_id=UUID(second), ordering_key="one order"),
        ],
        changes=[changes[0], (10.0, second, "new", "pending"), *changes[1:], (20.0, second, "pending", "sending")],
    )


def limited(limit: str, *begins: tuple[float, ...]) -> RunEvidence:
    """Attempts that begin at a destination with that limit: when, and until when the leases of others are."""
    target = next(each for each in DESTINATIONS if each.options.limits and getattr(each.options.limits, limit))
    destination = str(target.destination_id)
    return good(
        begins=[
            Begin(delivery=str(DELIVERY), destination=destination, clock=clock, beside=tuple(beside))
            for clock, *beside in begins
        ]
    )


def tried(clock: float, *probing: float) -> RunEvidence:
    """An attempt that begins at a destination whose circuit breaker is open until 60 s; the leases of others that it
    has let through."""
    destination = str(AGAIN.destination_id)
    begin = Begin(delivery=str(DELIVERY), destination=destination, clock=clock, beside=(), open_until=60.0)
    return good(begins=[replace(begin, probing=probing)])


def begun_at(state: str, *, target: Target = AGAIN, clock: float = 1.0) -> RunEvidence:
    """An attempt that begins then, while its destination is in that state."""
    begin = Begin(
        delivery=str(DELIVERY),
        destination=str(target.destination_id),
        clock=clock,
        beside=(),
        destination_state=state,
    )
    return good(begins=[begin])


def in_turn(turn_at: float, *, woken_at: float) -> RunEvidence:
    """A delivery that was accepted at a destination with a rate, with the turn that it got, and its message."""
    target = next(each for each in DESTINATIONS if each.options.limits and each.options.limits.rate)
    whose = {"tenant": str(target.tenant_id), "destination": target.name}
    tells = [told("ended", at=21.0, state="delivered", waits=True, **whose)]
    return good(
        deliveries=[row(target)],
        arrivals=[arrival(target=target)],
        told=tells,
        changes=[(1.0, str(DELIVERY), "new", "pending"), (20.0, str(DELIVERY), "pending", "delivered")],
        turns={str(DELIVERY): turn_at},
        queued=[(str(DELIVERY), woken_at)],
    )


def after_an_outage(recorded_by: str = "worker 1") -> RunEvidence:
    """A wake-up that has met an outage finds a lapse, which somebody records."""
    return good(
        **UNKNOWN,
        records=[record(outcome="unknown", status=None, next_state="unknown", process=recorded_by)],
        lapses=[Lapse(at=10.5, process="worker 1", delivery=str(DELIVERY), number=1)],
        faults=[FaultStruck(at=10.1, kind=Kind.CRASH, process="worker 1")],
        invocations=[
            replace(invocation("batch"), ended_at=10.2, result="crashed", faults=1),
            replace(invocation("batch"), began_at=10.4, after_outage=frozenset({str(DELIVERY)})),
        ],
    )


def settled(
    becomes: str,
    *saids: str,
    acted_at: float | None = None,
    target: Target = BANK,
    apart: float = 700.0,
    **overrides: Any,
) -> RunEvidence:
    """A payment whose outcome is unknown at 11 s; then the bank is asked so often, and the last answer settles it."""
    questions = [
        Asked(
            at=41.0 + apart * place,
            process="worker 1",
            destination=str(target.destination_id),
            key="key",
            number=2 + place,
            said=said,
            heard_at=42.0 + apart * place,
            heard=True,
        )
        for place, said in enumerate(saids)
    ]
    last = questions[-1]
    acts = [] if acted_at is None else [BankAct(at=acted_at, destination=last.destination, key="key", number=1)]
    changes = [(1.0, "new", "pending"), (10.0, "pending", "sending"), (11.0, "sending", "unknown")]
    records = [
        record(asked.number, at=asked.heard_at, asks=True, sends=1, next_state="unknown", started_at=asked.at)
        for asked in questions
    ]
    values: dict[str, Any] = {
        "told": [],
        "deliveries": [row(target, state=becomes, questions_made=len(saids), ordering_key=None)],
        "attempts": [attempt(1, "unknown", None), *(attempt(q.number) | {"kind": "reconcile"} for q in questions)],
        "arrivals": [arrival(target=target, heard=False, status=None, acted=acted_at is not None)],
        "records": [record(outcome="unknown", status=None, next_state="unknown"), *records],
        "changes": [
            *((at, str(DELIVERY), before, after) for at, before, after in changes),
            (last.heard_at, str(DELIVERY), "unknown", becomes),
        ],
        "asked": questions,
        "bank_acts": acts,
        "verdicts": [QuestionVerdict(at=last.heard_at, delivery=str(DELIVERY), number=last.number, becomes=becomes)],
        "invocations": [replace(invocation("batch"), ended_at=5_000.0)],
    }
    return good(**(values | overrides))


def worked(*moved: tuple[Any, ...], **overrides: Any) -> RunEvidence:
    """A delivery that has failed, and a job which replays that: made at 40 s, with what its steps moved."""
    values: dict[str, Any] = {"state": "done", "rate": 0.5, "matches": frozenset({str(DELIVERY)})} | overrides
    job = {"tenant_id": None, "destination_id": values.get("destination")}
    job |= {"job_id": JOB, "act": "replay", "of_state": "failed", "rate": values["rate"], "state": values["state"]}
    made = JobEntry(at=40.0, process="api 1", job=str(JOB), state="running", changed=0, matches=values["matches"])
    since = (values.get("since", 30.0),)
    steps = [
        replace(
            made, at=41.0 + place, matches=None, moved=(move,), since=since, changed=values.get("changed", place + 1)
        )
        for place, move in enumerate(moved)
    ]
    return good(
        jobs=[job],
        job_entries=[
            made,
            *values.get("between", []),
            *steps,
            replace(made, at=60.0, state="done", changed=len(moved)),
        ],
        jobs_told=values.get("told", []),
        deliveries=values.get("deliveries", [row()]),
        queued=[(str(DELIVERY), 100.0), (str(DELIVERY), 101.0)],
    )


def told_of(*bodies: dict[str, Any], **overrides: Any) -> RunEvidence:
    """A delivery to a destination that names another one, which has been told so much of it."""
    name = str(DELIVERY)
    whose = {"delivery_id": name, "destination_id": str(TELLING.destination_id), "ordering_key": None}
    known = {**whose, "idempotency_key": "key", "attempts_made": 1, "outcome": "answered", "status": 200}
    events = [
        row(
            TOLD,
            delivery_id=UUID(int=0xE0 + place),
            idempotency_key=f"sallyport-event-{place}",
            event=body.get("type", "delivery.delivered"),
            attempts_made=0,
            body=json.dumps({"type": "delivery.delivered"} | body | {"data": {**known, **body["data"]}}).encode(),
        )
        for place, body in enumerate(bodies)
    ]
    values: dict[str, Any] = {
        "deliveries": [row(TELLING), *events],
        "told": [],
        "changes": [(11.0, name, "sending", "delivered")],
        "arrivals": [arrival(target=TELLING)],
    }
    return good(**(values | overrides))


def approved(**overrides: Any) -> RunEvidence:
    """A job that one token proposed and another one approved."""
    proposal = {
        "proposal_id": JOB,
        "state": "done",
        "created_by": "one",
        "decided_by": "another",
        "created_at": EPOCH,
        "decided_at": EPOCH + timedelta(hours=23),
        "sealed_request": None,
    }
    job = {"job_id": JOB, "idempotency_key": f"proposal:{JOB}", "expected": 1, "state": "done"}
    return good(four_eyes=True, jobs=[job], proposals=[proposal | overrides])


def still_asking(**overrides: Any) -> RunEvidence:
    """A payment that nobody knows of at the end."""
    made = settled("unknown", "absent", verdicts=[])
    return replace(made, changes=made.changes[:-1], **overrides)


RETRIED: dict[str, Any] = {"next_state": "pending", "outcome": "unreachable", "status": None}
CRASH: dict[str, Any] = {
    "faults": [FaultStruck(at=10.5, kind=Kind.CRASH, process="worker 1")],
    "invocations": [replace(invocation("batch"), result="crashed", faults=1)],
}
TROUBLED: dict[str, Any] = {"invocations": [replace(invocation("deliver", process="api 1"), faults=2)]}
OTHERS = next(target for target in DESTINATIONS if target.tenant_id != AGAIN.tenant_id)
UNKNOWN: dict[str, Any] = {
    "told": [],
    "deliveries": [row(ONCE, state="unknown")],
    "attempts": [attempt(1, "unknown", None)],
    "arrivals": [arrival(target=ONCE)],
}
BY_HAND_STATES = (
    (1.0, "new", "pending"),
    (10.0, "pending", "sending"),
    (11.0, "sending", "unknown"),
    (13.0, "unknown", "pending"),
    (20.0, "pending", "sending"),
    (21.0, "sending", "delivered"),
)
ENDED: dict[str, Any] = {"data": {"state": "delivered"}}
JOB = UUID(int=0x10B)
MOVED = (str(DELIVERY), "failed", 100.0, None)
PAUSED = JobEntry(at=40.5, process="api 1", job=str(JOB), state="paused", changed=0)
BUSY: dict[str, Any] = {"status": 503, "acted": False}
SILENT: dict[str, Any] = {"heard": False, "status": None}
READ: dict[str, Any] = {"how": "read", "asked_at": 20.0, "at": 21.0}

BROKEN: dict[str, tuple[str, RunEvidence]] = {
    "a job without a proposal": ("four eyes", replace(approved(), proposals=[])),
    "a job that was rejected": ("four eyes", approved(state="rejected")),
    "a job that its own token approved": ("four eyes", approved(decided_by="one")),
    "a job that was approved too late": ("four eyes", approved(decided_at=EPOCH + timedelta(days=1))),
    "two jobs of a proposal": ("four eyes", replace(approved(), jobs=[*approved().jobs, *approved().jobs])),
    "a call that is kept": ("decided proposals hold no call", approved(sealed_request=b"the call")),
    "an end that nobody is told of": ("each end is told once", told_of()),
    "an end that is told twice": ("each end is told once", told_of(ENDED, ENDED)),
    "told of what has not ended": ("each end is told once", told_of(ENDED, changes=[])),
    "told of another state": ("events tell the truth", told_of({"data": {"state": "failed"}})),
    "told of another key": ("events tell the truth", told_of({"data": {"state": "delivered", "idempotency_key": "k"}})),
    "told of another answer": ("events tell the truth", told_of({"data": {"state": "delivered", "status": 201}})),
    "a pause that nobody is told of": (
        "states are told",
        told_of(ENDED, moves=[(1.0, str(TELLING.destination_id), "paused")]),
    ),
    "a job without an end": ("jobs end", worked(MOVED, state="running")),
    "changed by a job for others": ("jobs keep their bounds", worked(MOVED, since=50.0)),
    "changed at another destination": ("jobs keep their bounds", worked(MOVED, destination=UUID(int=1))),
    "changed in another state": ("jobs keep their bounds", worked((str(DELIVERY), "unknown", 100.0, None))),
    "left out by a job": ("jobs leave nothing out", worked()),
    "changed twice": ("jobs do nothing twice", worked(MOVED, MOVED)),
    "repeated twice": (
        "jobs do nothing twice",
        worked(
            MOVED,
            deliveries=[
                row(),
                *(row(delivery_id=UUID(int=number), replay_of=DELIVERY, act_id=JOB) for number in (1, 2)),
            ],
        ),
    ),
    "two jobs for a key": (
        "jobs do nothing twice",
        worked(MOVED, told=[JobTold(tenant="t", key="k", job=job) for job in (str(JOB), "another")]),
    ),
    "a job that counts one too many": ("jobs count what they did", worked(MOVED, changed=2)),
    "changed by a paused job": ("a job at rest changes nothing", worked(MOVED, between=[PAUSED])),
    "a job that ends twice": (
        "a job at rest changes nothing",
        worked(MOVED, between=[replace(PAUSED, state="canceled")]),
    ),
    "due at once": ("jobs keep their rate", worked(MOVED, (*MOVED[:2], 101.0, None))),
    "made due by a job and not woken": ("woken in time", worked((*MOVED[:2], 200.0, None))),
    "another request": (
        "repeats are the same",
        worked(
            MOVED, deliveries=[row(), row(delivery_id=UUID(int=1), replay_of=DELIVERY, body=b"x", idempotency_key="x")]
        ),
    ),
    "repeated under the same key": (
        "repeats are the same",
        worked(MOVED, deliveries=[row(), row(delivery_id=UUID(int=1), replay_of=DELIVERY)]),
    ),
    "called failed and done": ("verdicts are true", settled("failed", "absent", "absent", acted_at=10.0)),
    "called failed and done later": ("verdicts are true", settled("failed", "absent", "absent", acted_at=900.0)),
    "called delivered and not done": ("verdicts are true", settled("delivered", "executed")),
    "called delivered before it is done": ("verdicts are true", settled("delivered", "executed", acted_at=50.0)),
    "settled by an error": ("verdicts are the partner's", settled("failed", "absent", "503 with its words")),
    "settled by another payment": (
        "verdicts are the partner's",
        settled("delivered", "another key", acted_at=10.0),
    ),
    "settled by an answer that never came": (
        "verdicts are the partner's",
        replace(
            settled("delivered", "executed", acted_at=10.0),
            asked=[replace(settled("delivered", "executed").asked[0], heard=False)],
        ),
    ),
    "failed where it is to be sent again": (
        "verdicts are the partner's",
        settled("failed", "absent", "absent", target=CLEARING),
    ),
    "absence counts too soon": ("absence waits", settled("failed", "absent", "absent", apart=500.0)),
    "absence counts at the first question": ("absence waits", settled("failed", "absent")),
    "a question is planned at the end": (
        "questions end",
        still_asking(deliveries=[row(BANK, state="unknown", questions_made=1, ask_at=EPOCH)]),
    ),
    "nobody asks any more": ("questions end", still_asking()),
    "a question logged as sent": (
        "questions are no attempts",
        settled("delivered", "executed", acted_at=10.0, attempts=[attempt(1, "unknown", None), attempt(2)]),
    ),
    "a question about nothing": (
        "questions are no attempts",
        replace(still_asking(), asked=[replace(still_asking().asked[0], key="another")]),
    ),
    "two questions at once": (
        "questions are no attempts",
        settled("failed", "absent", "absent", "absent", apart=0.5),
    ),
    "a run without an end": ("everything ends", good(ended="200,000 steps, and it goes on")),
    "pending at the end": ("everything ends", good(deliveries=[row(state="pending")])),
    "a message left": ("everything ends", good(waiting=frozenset({str(DELIVERY)}))),
    "accepted and gone": (
        "accepted is accepted",
        good(deliveries=[], attempts=[], records=[], arrivals=[], invocations=[]),
    ),
    "to be sent again, and nothing follows": (
        "what is sent again is sent",
        good(again={str(DELIVERY): [40.0]}, repeated=[(41.0, str(DELIVERY))]),
    ),
    "made pending by nobody": (
        "a final state is final",
        good(changes=[(50.0, str(DELIVERY), "failed", "pending")]),
    ),
    "sent again before somebody wanted it": (
        "at most once",
        twice(ONCE, SILENT, again={str(DELIVERY): [40.0]}),
    ),
    "done more often than somebody wanted": (
        "at most once",
        good(
            deliveries=[row(ONCE, attempts_made=3)],
            arrivals=[arrival(number, target=ONCE) for number in (1, 2, 3)],
            again={str(DELIVERY): [15.0]},
        ),
    ),
    "sent again after silence": ("at most once", twice(ONCE, SILENT)),
    "sent again after a 500": ("at most once", twice(ONCE, {"status": 500})),
    "sent again after a 503 that came after the deed": ("at most once", twice(ONCE, {"status": 503})),
    "a POST again after silence": ("not after an open outcome", twice(AUTO, SILENT)),
    "again for nothing": ("repeats are explained", twice(AGAIN, {})),
    "again because the database failed alone": (
        "repeats are explained",
        twice(
            AGAIN,
            {},
            faults=[FaultStruck(at=10.5, kind=Kind.OUTAGE, process="worker 1")],
            invocations=[replace(invocation("batch"), faults=1)],
        ),
    ),
    "one attempt twice": (
        "at most once",
        good(arrivals=[arrival(target=ONCE), arrival(target=ONCE)], deliveries=[row(ONCE)]),
    ),
    "another key": ("the same key", good(arrivals=[arrival(key="another")])),
    "another body": (
        "the same request",
        good(arrivals=[arrival(request=("POST", "http://partner.example/orders", b""))]),
    ),
    "another path": ("the same request", good(arrivals=[arrival(request=("POST", "http://partner.example/", BODY))])),
    "not in the log": ("arrivals are logged", good(attempts=[])),
    "logged as not sent": ("arrivals are logged", good(attempts=[attempt(1, "unreachable", None)])),
    "an answer lost without a fault": (
        "answers are logged",
        good(**UNKNOWN, records=[]),
    ),
    "an answer lost by the database alone": (
        "answers are logged",
        good(
            **UNKNOWN,
            records=[],
            faults=[FaultStruck(at=10.5, kind=Kind.BROKEN_AFTER, process="worker 1")],
            invocations=[replace(invocation("batch"), faults=1)],
        ),
    ),
    "an answer lost by a stall of a process that went on": (
        "answers are logged",
        good(
            **UNKNOWN,
            records=[],
            faults=[FaultStruck(at=10.5, kind=Kind.STALL, process="worker 1")],
            invocations=[replace(invocation("batch"), faults=1)],
        ),
    ),
    "a record that did not stay": (
        "answers are logged",
        good(**UNKNOWN, **CRASH),
    ),
    "another answer": ("answers are logged", good(attempts=[attempt() | {"response_body": b"somebody's"}])),
    "the answer of another": ("told is told", good(told=[told("ended", state="delivered", body=b"somebody's")])),
    "a replayed call without its result": ("told is told", good(told=[told("replayed", waits=True)])),
    "a state that it never had": (
        "told is told",
        good(told=[told(**READ | {"state": "sending"})], changes=[(1.0, str(DELIVERY), "new", "pending")]),
    ),
    "a result that nobody waited for": (
        "told is told",
        good(
            told=[told("ended", state="delivered", waits=True), told(**READ | {"state": "unknown"})],
            records=[record(at=5.0)],
        ),
    ),
    "lost by the queue although the database worked": (
        "told is told",
        good(
            told=[told("ended", state="failed", waits=True)],
            faults=[FaultStruck(at=0.5, kind=Kind.SQS_REFUSES, process="api 1")],
            **TROUBLED,
        ),
    ),
    "lost although the queue had it": (
        "told is told",
        good(
            told=[told("ended", state="failed", waits=True)],
            faults=[FaultStruck(at=0.5, kind=Kind.BROKEN_AFTER, process="api 1")],
            **TROUBLED,
        ),
    ),
    "not found by its own tenant": ("accepted is accepted", good(told=[told("not found", state=None)])),
    "left out of a list": (
        "accepted is accepted",
        good(told=[told(), told("listed", asked_at=2.0, at=3.0, delivery=None, state=None)]),
    ),
    "read by another tenant": ("tenants are apart", good(told=[told("read", tenant=str(OTHERS.tenant_id), key=None)])),
    "listed for another tenant": (
        "tenants are apart",
        good(
            told=[
                told(
                    "listed",
                    tenant=str(OTHERS.tenant_id),
                    key=None,
                    delivery=None,
                    state=None,
                    listed={str(DELIVERY): "pending"},
                )
            ]
        ),
    ),
    "left out by the operator": ("everything ends", good(missed=[str(DELIVERY)])),
    "given up with attempts left": (
        "states agree with the log",
        good(
            deliveries=[row(state="failed")],
            attempts=[attempt(1, "unreachable", None)],
            arrivals=[],
            records=[record(outcome="unreachable", status=None, next_state="failed")],
        ),
    ),
    "held where a repeat is allowed": (
        "states agree with the log",
        good(
            deliveries=[row(state="unknown")],
            attempts=[attempt(1, "unknown", None)],
            arrivals=[],
            records=[record(outcome="unknown", status=None, next_state="unknown")],
        ),
    ),
    "ended without a time": ("states agree with the log", good(deliveries=[row(finished_at=None)])),
    "sent before not_before": ("not before its time", good(told=[told(not_before=100.0)])),
    "a retry that nobody woke": ("woken in time", good(records=[record(**RETRIED, next_due_at=14.0)])),
    "a delivery that nobody woke": ("woken in time", good(changes=[(0.5, str(DELIVERY), "new", "pending")])),
    "a turn that nobody woke": ("woken in time", in_turn(12.0, woken_at=1.0)),
    "a turn that is put off": ("woken in time", in_turn(60.0, woken_at=60.0)),
    "a lapse that is recorded just after an outage": ("a lapse waits", after_an_outage()),
    "another status": ("answers are logged", good(attempts=[attempt(1, "answered", 201)])),
    "more than allowed": ("no attempt too many", good(deliveries=[row(attempts_made=11)])),
    "a gap in the log": ("numbers agree", good(deliveries=[row(attempts_made=2)])),
    "delivered without a yes": ("states agree with the log", good(attempts=[attempt(1, "answered", 400)])),
    "failed in spite of a yes": ("states agree with the log", good(deliveries=[row(state="failed")])),
    "failed though unknown": (
        "states agree with the log",
        good(deliveries=[row(state="failed")], attempts=[attempt(1, "unknown", None)]),
    ),
    "delivered and pending again": (
        "a final state is final",
        good(changes=[(1.0, str(DELIVERY), "delivered", "pending")]),
    ),
    "failed and then unknown": ("a final state is final", good(changes=[(1.0, str(DELIVERY), "failed", "unknown")])),
    "read otherwise": (
        "told is told",
        good(
            told=[
                told(**READ | {"state": "delivered"}),
                told(**READ | {"asked_at": 30.0, "at": 31.0, "state": "sending"}),
            ]
        ),
    ),
    "ends otherwise": ("told is told", good(told=[told(**READ | {"state": "failed"})])),
    "ends otherwise than the waiting caller heard": ("told is told", good(told=[told("ended", state="failed")])),
    "two for a key": (
        "one delivery for a key",
        good(told=[told(), told("replayed", delivery=str(UUID(int=0xE)))]),
    ),
    "a replay of something else": (
        "the same answer for a key",
        good(told=[told("replayed", request=("POST", "/other", BODY))]),
    ),
    "a refusal of the same": ("the same answer for a key", good(told=[told("key reused", state=None)])),
    "two statuses": (
        "the same answer for a key",
        good(told=[told("ended", state="delivered", status=200), told("replayed", state="delivered", status=201)]),
    ),
    "due too early": ("retries keep their schedule", good(records=[record(**RETRIED, next_due_at=13.0)])),
    "due too late": ("retries keep their schedule", good(records=[record(**RETRIED, next_due_at=30.0)])),
    "Retry-After ignored": (
        "retries keep their schedule",
        good(
            arrivals=[arrival(**BUSY, retry_after_seconds=60.0)],
            records=[record(next_state="pending", status=503, next_due_at=15.0)],
        ),
    ),
    "sent before its time": (
        "retries keep their schedule",
        replace(twice(AGAIN, BUSY), records=[record(at=30.0, started_at=26.0, **RETRIED, next_due_at=31.0)]),
    ),
    "sent while its destination is paused": ("what is held is not sent", begun_at("paused")),
    "sent outside of all windows": ("sending windows are kept", begun_at("active", target=HOURS, clock=10.0)),
    "sent behind one that failed and holds": ("an order is kept", in_order("sending", "failed", target=HELD)),
    "sent beside the one before it": ("an order is kept", in_order("sending")),
    "sent between two attempts of the one before it": ("an order is kept", in_order("sending", "pending")),
    "three at once, and two are the burst": ("a rate is kept", limited("rate", (10.0,), (10.0,), (10.0,))),
    "one too soon after others": ("a rate is kept", limited("rate", (1.0,), (30.0,), (30.0,), (34.0,))),
    "sent while a breaker is open": ("a breaker is kept", tried(59.9)),
    "two at once that a breaker lets through": ("a breaker is kept", tried(70.0, 80.0)),
    "two in progress": ("concurrency is kept", limited("concurrency", (10.0,), (12.0, 70.0))),
    "two statements to accept": ("statements stay few", good(invocations=[invocation("accept", accept=2)])),
    "two claims for a batch": ("statements stay few", good(invocations=[invocation("batch", claim=2, record=1)])),
    "a note where nothing is slow": (
        "statements stay few",
        good(invocations=[invocation("batch", process="worker 1", claim=1, record=1, **{"note slow": 1})]),
    ),
    "a record for each": ("statements stay few", good(invocations=[invocation("batch", claim=1, record=3)])),
    "two records for a waiting caller": (
        "statements stay few",
        good(invocations=[invocation("deliver", accept=1, record=2)]),
    ),
    "a call that SQS would refuse": ("nothing is misused", good(misuse=["eleven entries"])),
    "an exception that the code isolated": ("nothing is misused", good(counts=Counter({"DeliveryFaults": 1}))),
    "a count that is off": ("counts are right", good(faults=[])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_run_that_breaks_a_promise_is_found(name: str) -> None:
    promise, evidence = BROKEN[name]
    assert promise in {broken.promise for broken in broken_promises(evidence)}


def test_a_good_run_breaks_none() -> None:
    assert list(broken_promises(good())) == []


def test_every_promise_has_a_run_that_breaks_it() -> None:
    found = {broken.promise for _, evidence in BROKEN.values() for broken in broken_promises(evidence)}
    assert found == {promise for promise, _ in BROKEN.values()}
    silent = [
        promise.__name__
        for promise in PROMISES
        if not any(list(promise(Facts(evidence))) for _, evidence in BROKEN.values())
    ]
    assert silent == []


@pytest.mark.parametrize(
    "evidence",
    [
        twice(AGAIN, SILENT),
        twice(AGAIN, {}, **CRASH),
        twice(
            AGAIN,
            {},
            faults=[
                FaultStruck(at=10.5, kind=Kind.OUTAGE, process="worker 1"),
                FaultStruck(at=15.0, kind=Kind.DELAYED, process=None, delivery=str(DELIVERY)),
            ],
            invocations=[replace(invocation("batch"), faults=1)],
        ),
        twice(ONCE, BUSY),
        twice(ONCE, {"refused": True, "acted": False}),
        twice(AUTO, {"status": 500}),
        good(**UNKNOWN, records=[], **CRASH),
        good(**UNKNOWN, records=[], unstorable={(str(DELIVERY), 1)}),
        good(
            told=[told("ended", state="failed", waits=True)],
            faults=[
                FaultStruck(at=0.4, kind=Kind.BROKEN_AFTER, process="api 1"),
                FaultStruck(at=0.5, kind=Kind.SQS_REFUSES, process="api 1"),
            ],
            **TROUBLED,
        ),
        good(
            told=[
                told("ended", state="delivered", waits=True),
                told(**READ | {"asked_at": 2.0, "at": 3.0, "state": "sending"}),
            ]
        ),
        good(
            deliveries=[row(state="unknown")],
            attempts=[attempt(1, "answered", 503)],
            arrivals=[arrival(**BUSY)],
            records=[
                record(outcome="unknown", status=None, next_state="unknown"),
                record(status=503, next_state="pending", moved=False),
            ],
        ),
        good(invocations=[invocation("batch", claim=1, record=1), replace(invocation("batch", record=2), early=True)]),
        good(
            arrivals=[arrival(2)],
            records=[record(**RETRIED, next_due_at=14.0)],
            queued=[(str(DELIVERY), 14.5)],
            deliveries=[row(attempts_made=2)],
            attempts=[attempt(1, "unreachable", None), attempt(2)],
        ),
    ],
)
def test_what_the_documents_allow_breaks_none(evidence: RunEvidence) -> None:
    assert list(broken_promises(evidence)) == []


@pytest.mark.parametrize(("moved", "kept"), [(True, False), (False, True)])
def test_an_answer_that_was_told_and_came_too_late_to_count_may_differ_from_the_final_one(
    moved: bool, kept: bool
) -> None:
    """A waiting caller is told 201 while the database is away; a second attempt, answered 200, ends the delivery."""
    evidence = good(
        told=[
            told("ended", state="delivered", status=201, waits=True),
            told(**READ | {"state": "delivered", "status": 200}),
        ],
        records=[record(status=201, moved=moved), record(2)],
    )
    assert (list(keys_are_kept(Facts(evidence))) == []) is kept


@pytest.mark.parametrize(
    "evidence",
    [
        limited("rate", (10.0,), (10.0,), (15.0,), (20.0,), (60.0,), (60.0,)),
        limited("concurrency", (10.0,), (80.0, 70.0)),
        in_turn(12.0, woken_at=12.0),
        tried(60.0, 50.0),
    ],
    ids=["as the rate allows", "after a lease", "woken for its turn", "as a breaker allows"],
)
def test_what_limits_allow_breaks_none(evidence: RunEvidence) -> None:
    assert list(broken_promises(evidence)) == []


@pytest.mark.parametrize("ended", ["delivered", "failed", "unknown"])
def test_one_that_has_ended_lets_the_next_in_order_go(ended: str) -> None:
    assert list(a_key_keeps_its_order(Facts(in_order("sending", ended)))) == []


def test_one_that_failed_and_was_resolved_lets_the_next_in_order_go() -> None:
    resolved = {str(DELIVERY): 15.0}
    assert list(a_key_keeps_its_order(Facts(in_order("sending", "failed", target=HELD, resolved=resolved)))) == []


def test_what_somebody_wants_to_be_sent_again_is_sent_again_and_breaks_none() -> None:
    again = {str(DELIVERY): [12.0]}
    assert list(at_most_once(Facts(twice(ONCE, SILENT, again=again)))) == []
    states = [(at, str(DELIVERY), before, after) for at, before, after in BY_HAND_STATES]
    evidence = good(again=again, repeated=[(13.0, str(DELIVERY))], changes=states)
    assert list(what_is_sent_again_is_sent(Facts(evidence))) == []
    assert list(states_only_move_on(Facts(evidence))) == []


@pytest.mark.parametrize(
    "evidence",
    [
        settled("delivered", "executed", acted_at=10.0),
        settled("delivered", "absent", "nothing", "executed", acted_at=600.0),
        settled("failed", "absent", "absent"),
        settled("failed", "rejected"),
    ],
    ids=["executed", "executed late", "absent for long enough", "rejected"],
)
def test_a_verdict_that_the_bank_gave_breaks_none(evidence: RunEvidence) -> None:
    assert list(broken_promises(evidence)) == []


def test_a_job_that_another_token_approved_breaks_none() -> None:
    assert list(broken_promises(approved())) == []


def test_an_end_that_is_told_once_breaks_none() -> None:
    assert list(broken_promises(told_of(ENDED))) == []


def test_a_job_that_changes_what_it_was_made_for_once_breaks_none() -> None:
    assert list(broken_promises(worked(MOVED))) == []


@pytest.mark.parametrize(("target", "ahead"), [(AGAIN, True), (HELD, False)])
def test_what_a_job_sends_again_under_an_ordering_key_has_a_place_behind_all_others_only_where_it_gave_up_its_own(
    target: Target, ahead: bool
) -> None:
    evidence = in_order("sending", "failed", "pending", target=target)
    assert (list(a_key_keeps_its_order(Facts(evidence))) == []) is ahead


@pytest.mark.parametrize("clock", [300.0, 1499.0, 6 * 3600.0, 14 * 3600.0])
def test_an_attempt_within_a_window_breaks_none(clock: float) -> None:
    assert list(sending_windows_are_kept(Facts(begun_at("active", target=HOURS, clock=clock)))) == []


def test_the_targets_have_each_guarantee() -> None:
    assert {target.guarantee.value for target in BY_ID.values()} == {"auto", "at_least_once", "at_most_once"}

"""Deliberate mistakes in the code under test, each of which the simulator must find: that it can fail.

Each is a textual edit of one function, Python or SQL, made in the running process alone: the function gets other code,
wherever it was imported to. A mistake whose text is no longer in the code stops the run, and must be written again.
Unlike those of `make mutants` these are kept: each is a mistake that somebody could make here, in words.
"""

import inspect
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any


class MutantOutOfDate(Exception):
    """The code is not as the mutant expects it: it must be written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermanentMutant:
    """A mistake. `function` is `module:name` or `module:Type.name`; each pair in `edits` is a text that is in it once,
    and what it becomes."""

    name: str
    function: str
    edits: tuple[tuple[str, str], ...]


def _mutant(name: str, function: str, *edits: tuple[str, str]) -> PermanentMutant:
    return PermanentMutant(name=name, function=function, edits=edits)


_CLAIM, _RECORD = "db.deliveries:claim", "db.attempts:_write"
_MUTANTS = (
    # Sent again
    _mutant("a lapsed claim is sent again", "flows.prepare:_prepared", ("if claim.lapsed:", "if False:")),
    _mutant(
        "a lapsed claim counts as never sent",
        "flows.prepare:_prepared",
        ("Exchange(outcome=LAPSED)", "Exchange(outcome=NO_TIME)"),
    ),
    _mutant(
        "a lease keeps nobody off",
        _CLAIM,
        ("delivery.state = 'sending' AND delivery.leased_until <= %(now)s", "delivery.state = 'sending'"),
        ("delivery.state = 'sending' AND (delivery.lease_id <>", "FALSE AND (delivery.lease_id <>"),
    ),
    _mutant(
        "an open outcome is tried again under every guarantee",
        "domain.retry:verdict",
        ("(again() if repeat_rule is RepeatRule.ALWAYS else None) or Held()", "again() or Held()"),
    ),
    _mutant(
        "an ambiguous status is tried again under at_most_once",
        "domain.retry:_after_answer",
        (
            "repeat_rule is RepeatRule.WHEN_NOT_PROCESSED and effective_status(answer.status) in AMBIGUOUS_STATUSES",
            "False",
        ),
    ),
    _mutant(
        "a key opens its delivery again",
        "db.deliveries:accept",
        (
            "SET idempotency_key = EXCLUDED.idempotency_key",
            "SET idempotency_key = EXCLUDED.idempotency_key, state = 'pending', finished_at = NULL, lease_id = NULL,\n"
            "leased_until = NULL",
        ),
    ),
    # Lost
    _mutant(
        "the row is written before its message",
        "flows.accept:accept",
        ("    services.queue.send([first], now=now)\n", ""),
        ("    if acceptance is None:\n", "    services.queue.send([first], now=now)\n    if acceptance is None:\n"),
    ),
    _mutant(
        "a wake-up that is early is dropped",
        "flows.attempt:attempt_due",
        ("also=[*early, *requeued", "also=[*requeued"),
    ),
    _mutant(
        "a wake-up of what is not due is dropped",
        "flows.attempt:_look_again",
        ("return [_at(at, wakeup)]", "return []"),
    ),
    _mutant(
        "a wake-up without a row is dropped at once",
        "domain.wakeups:next_miss_delay_seconds",
        ("return MISS_DELAYS_SECONDS[wakeup.misses]", "return None"),
    ),
    _mutant(
        "a wake-up is dropped while the database is away",
        "flows.attempt:_look_again",
        ("return [replace(_at(now + timedelta(seconds=PUT_BACK_SECONDS), wakeup), after_outage=True)]", "return []"),
    ),
    _mutant(
        "what SQS refuses counts as queued",
        "wakeups.sqs:WakeupQueue._rejected_twice",
        ("return self._refused(refused) if refused else []", "return []"),
    ),
    _mutant(
        "an outcome is dropped while the database is away",
        "flows.settle:settle",
        ("    if rest.unrecorded:\n", "    if False:\n"),
    ),
    _mutant(
        "a carried outcome is dropped at the second outage",
        "flows.attempt:_record_carried",
        (
            "return [replace(message, wakeup=replace(message.wakeup, due_at=later)) for message in carried]",
            "return []",
        ),
    ),
    _mutant(
        "an operator wakes no delivery whose worker crashed",
        "db.deliveries:overdue",
        ("AND delivery.phase = 'open'", "AND delivery.state = 'pending'"),
    ),
    _mutant(
        "what SQS refused while a batch was recorded early is forgotten",
        "flows.settle:settle",
        ("    failed |= early_recorder.failed\n", ""),
    ),
    _mutant(
        "what the database did not accept early counts as recorded",
        "flows.early_recording:EarlyRecorder._settle",
        (
            "    except (DatabaseUnavailable, StatementRefused) as error:\n",
            "    except (DatabaseUnavailable, StatementRefused) as error:\n        self.moved = frozenset()\n",
        ),
    ),
    _mutant(
        "an outcome that a waiting caller was told is not carried",
        "flows.deliver:_record",
        ("for unrecorded in rest.unrecorded:", "for unrecorded in []:"),
    ),
    _mutant("the wrong messages are reported as failed", "flows.settle:queue", ("messages[number].position", "number")),
    _mutant(
        "an operator's first page is the last",
        "flows.wake_overdue:wake_overdue",
        ("count == len(overdue) < limit", "True"),
    ),
    _mutant("a 503 ends a delivery", "domain.retry:is_retried", ("known in RETRIABLE_STATUSES", "known in {500, 429}")),
    _mutant(
        "a partner out of reach ends a delivery",
        "domain.retry:verdict",
        ("return again() or Failed()", "return Failed()"),
    ),
    _mutant(
        "an open outcome is held under every guarantee",
        "domain.retry:verdict",
        ("return (again() if repeat_rule is RepeatRule.ALWAYS else None) or Held()", "return Held()"),
    ),
    _mutant(
        "the last attempt is not made",
        "domain.retry:verdict",
        ("attempts_made >= attempts_allowed", "attempts_made + 1 >= attempts_allowed"),
    ),
    _mutant(
        "the retry is queued after the record",
        "flows.settle:settle",
        ("    failed = queue([*also, *retried], services=services)\n", ""),
        (
            "    failed |= early_recorder.failed\n",
            "    failed = early_recorder.failed | queue([*also, *retried], services=services)\n",
        ),
    ),
    # Recorded wrongly
    _mutant(
        "a lapse is forgotten when its claim is repeated",
        _CLAIM,
        ("OR delivery.lapsed_lease_id = %(lease_id)s", "OR FALSE"),
    ),
    _mutant(
        "an answer gives way to an unknown outcome",
        _RECORD,
        ("            WHERE attempt.outcome = 'unknown'\n", ""),
    ),
    _mutant(
        "an outcome is recorded without its lease",
        _RECORD,
        ("AND (delivery.lease_id = made.lease_id AND delivery.attempts_made = made.sends", "AND (TRUE"),
    ),
    _mutant(
        "an outcome that comes late is only logged",
        _RECORD,
        ("OR delivery.state IN ('unknown', 'pending') AND made.next_state = 'delivered'", ""),
        ("AND made.next_state = 'failed')", "AND false)"),
    ),
    _mutant(
        "a lapse has no wake-up of its own",
        "flows.settle:retry",
        ("if claim.lapsed and not isinstance(attempt.verdict, RetryAt):", "if False:"),
    ),
    _mutant(
        "an outcome that comes late counts for another attempt",
        _RECORD,
        ("made.outcome <> 'unknown' AND delivery.attempts_made = made.sends", "made.outcome <> 'unknown'"),
    ),
    _mutant(
        "the success of an earlier attempt is only logged",
        _RECORD,
        ("OR NOT made.asks AND made.next_state = 'delivered' AND delivery.attempts_made > made.sends", "OR FALSE"),
    ),
    _mutant(
        "the success of an earlier attempt is forgotten when another one ends",
        _RECORD,
        ("WHEN delivery.delivered_by IS NOT NULL THEN 'delivered'", "WHEN FALSE THEN 'delivered'"),
    ),
    _mutant(
        "a lapse is recorded although its outcome is under way",
        "flows.attempt:_may_be_answered",
        ("return claim.lapsed and due[claim.delivery_id].wakeup.after_outage", "return False"),
    ),
    _mutant(
        "attempts are not counted",
        _CLAIM,
        ("THEN attempts_made + 1 ELSE", "THEN greatest(attempts_made, 1) ELSE"),
    ),
    _mutant(
        "an open outcome is called failed", "domain.retry:verdict", ("else None) or Held()", "else None) or Failed()")
    ),
    _mutant(
        "a redirect counts as delivered",
        "domain.retry:is_success",
        ("200 <= status < 300", "200 <= status < 400"),
    ),
    # Told wrongly
    _mutant("answers are mixed up", "flows.attempt:make_attempts", ("sent = iter(_sent(", "sent = reversed(_sent(")),
    _mutant(
        "a delivery without a result is replayed as one",
        "flows.deliver:_stored_result",
        ("if not delivery.state.finished:", "if False:"),
    ),
    _mutant(
        "who waits does not see the end",
        "flows.deliver:_watch",
        ("return find(delivery.delivery_id, tenant_id=delivery.tenant_id, services=services)", "return known"),
    ),
    _mutant(
        "another tenant reads a delivery",
        "db.attempts:with_delivery",
        ("AND delivery.tenant_id = %(tenant_id)s", ""),
    ),
    _mutant(
        "a key may be used for another destination", "domain.deliveries:fingerprint", ("destination.encode(), ", "")
    ),
    _mutant("a key may be used for another method", "domain.deliveries:fingerprint", ("method.encode(), ", "")),
    # At the wrong time
    _mutant(
        "not_before is ignored",
        "flows.accept:accept",
        ("    now = services.clock()\n", "    now = services.clock()\n    new = replace(new, not_before=None)\n"),
    ),
    _mutant(
        "nobody wakes what a waiting caller left to the worker",
        "flows.accept:accept",
        ("if wait_seconds is not None and acceptance.claim is None", "if False and acceptance.claim is None"),
    ),
    _mutant(
        "nobody wakes the retry after a waiting call",
        "flows.deliver:send_now",
        ("    _wake(judged, services=services)\n", ""),
    ),
    _mutant(
        "one attempt more is made than allowed",
        "domain.retry:verdict",
        ("attempts_made >= attempts_allowed", "attempts_made > attempts_allowed"),
    ),
    _mutant("the jitter has no bound", "domain.retry:retry_at", ("(1 - JITTER + 2 * JITTER * chance)", "(2 * chance)")),
    _mutant(
        "Retry-After is ignored",
        "domain.retry:retry_at",
        ("planned if asked is None else max(planned, asked)", "planned"),
    ),
    _mutant(
        "Retry-After has no upper bound",
        "domain.retry:_moment",
        ("timedelta(seconds=RETRY_AFTER_CAP_SECONDS)", "timedelta(seconds=9 * RETRY_AFTER_CAP_SECONDS)"),
        ("min(int(value), RETRY_AFTER_CAP_SECONDS)", "int(value)"),
    ),
    _mutant(
        "what is not due is claimed",
        _CLAIM,
        ("delivery.state = 'pending' AND delivery.due_at <= %(now)s", "delivery.state = 'pending'"),
    ),
    _mutant(
        "what is paused is sent",
        _CLAIM,
        ("WHEN destination.state <> 'active' OR options ? 'windows'", "WHEN options ? 'windows'"),
    ),
    _mutant(
        "a sending window holds nobody back",
        _CLAIM,
        ("OR options ? 'windows' OR free.ordering_key", "OR free.ordering_key"),
    ),
    _mutant(
        "what was canceled is sent",
        _CLAIM,
        (
            "WHERE delivery.state = 'pending' AND delivery.due_at",
            "WHERE delivery.state IN ('pending', 'canceled') AND delivery.due_at",
        ),
        (
            "waiting_for = NULL, waits_until = NULL",
            "waiting_for = NULL, waits_until = NULL,\nfinished_at = CASE WHEN free.asks THEN finished_at END",
        ),
    ),
    _mutant(
        "who is resolved holds back the next",
        "db.control:change",
        ("leave_place(destination_id, ordering_key, delivery_id, 'canceled')", "NULL::uuid"),
    ),
    _mutant(
        "who is to be sent again has no message",
        "flows.control:_made",
        ("    services.queue.send([*wakeups[:1], *event], now=now)\n", ""),
        ("    _send(wakeups[1:], services=services)\n", ""),
    ),
    _mutant(
        "one more attempt by hand is not allowed for",
        "db.control:change",
        ("THEN greatest(attempts_allowed, attempts_made + 1) ELSE", "THEN attempts_allowed ELSE"),
    ),
    _mutant(
        "an ordering key holds nobody back",
        _CLAIM,
        ("options ? 'windows' OR free.ordering_key IS NOT NULL", "options ? 'windows'"),
    ),
    _mutant(
        "a rate holds nobody back",
        _CLAIM,
        ("options ? 'limits' OR open_until", "options #>> '{limits,concurrency}' IS NOT NULL OR open_until"),
    ),
    _mutant(
        "an open circuit breaker holds nobody back",
        _CLAIM,
        ("options ? 'limits' OR open_until IS NOT NULL OR share", "options ? 'limits' OR share"),
    ),
    _mutant(
        "a slot is free before its attempt has ended",
        _CLAIM,
        ("%(lease_id)s, %(leased_until)s, %(share)s", "%(lease_id)s, %(now)s, %(share)s"),
    ),
    # Asked and not understood
    _mutant(
        "absent without a rule's words",
        "domain.questions:_holds",
        ("return all(", "return rule.status == 404 or all("),
    ),
    _mutant(
        "absence counts before its time",
        "domain.questions:_absence_counts_from",
        ("return max(", "return now if question else max("),
    ),
    _mutant(
        "absence is not asked for once more",
        "domain.questions:_absence_counts_from",
        ("max(question.unknown_since, first_answered_at)", "question.unknown_since"),
    ),
    _mutant(
        "what an idle partner says is believed",
        "domain.questions:_speaks",
        ("return answer.complete and is_about_it and answer.status not in ABOUT_THE_QUESTION", "return True"),
    ),
    _mutant(
        "silence is absence",
        "domain.questions:meaning",
        ("        return Meaning.SILENT\n    content", "        return Meaning.ABSENT\n    content"),
    ),
    _mutant(
        "a question counts as a send",
        "flows.judge:_attempt",
        ("AttemptKind.SEND if claim.question is None else AttemptKind.RECONCILE", "AttemptKind.SEND"),
    ),
    _mutant(
        "a question takes one of the attempts",
        _CLAIM,
        ("free.fresh AND NOT free.asks THEN attempts_made + 1", "free.fresh THEN attempts_made + 1"),
    ),
    _mutant(
        "two ask at once",
        _CLAIM,
        ("AND (delivery.asking_until IS NULL OR delivery.asking_until <= %(now)s)", ""),
    ),
    _mutant(
        "what is sent again has another key",
        "flows.prepare:_headers",
        ("claim.idempotency_key),)", 'claim.idempotency_key + "-2" * (claim.attempts_made > 1)),)'),
    ),
    _mutant(
        "nobody wakes the next question",
        "flows.settle:retry",
        ("if isinstance(attempt.verdict, Held) and attempt.verdict.ask_at is not None:", "if False:"),
    ),
    # Many at once
    _mutant(
        "two workers make the same step of a job",
        "db.jobs:repeat",
        ("AND state = 'running' AND after_id = %(after_id)s", "AND state = 'running'"),
    ),
    _mutant(
        "a job has what comes to its state later",
        "flows.jobs:create",
        ("bounds=replace(bounds, as_of=now)", "bounds=replace(bounds, as_of=now + timedelta(days=1))"),
    ),
    _mutant(
        "a job changes rows before their messages",
        "flows.jobs:_advanced",
        ("    services.queue.send(_wakeups(job, listed, step), now=now)  # message first, row second\n", ""),
        (
            "    wake(stepped.woken",
            "    services.queue.send(_wakeups(job, listed, step), now=now)\n    wake(stepped.woken",
        ),
    ),
    _mutant(
        "nobody makes the second step of a job",
        "flows.jobs:_advanced",
        ("    if step.is_last:\n        return []\n", "    return []\n"),
    ),
    _mutant("a job that is full is done", "flows.jobs:_step", ("len(listed) < job.page", "len(listed) <= job.page")),
    _mutant("a job has no rate", "flows.jobs:_step", ("seconds=position / job.rate", "seconds=0 * position")),
    _mutant(
        "a job counts what it skips",
        "db.jobs:cancel",
        ("changed = changed + (SELECT count(*) FROM moved)", "changed = changed + %(looked_at)s"),
    ),
    _mutant(
        "a repeat has no body",
        "db.jobs:repeat",
        ("SELECT made.delivery_id, body FROM made", "SELECT made.delivery_id, ''::bytea FROM made"),
    ),
    _mutant(
        "a key makes another job",
        "flows.jobs:create",
        ("job, idempotency_key=idempotency_key)", "job, idempotency_key=None)"),
    ),
    _mutant(
        "a job that has ended begins again",
        "flows.jobs:move",
        ("    _refuse_unless_possible(current, transition)\n", ""),
        ("if transition.value in possible]", "]"),
    ),
    # Told of
    _mutant("an event has no message", "flows.settle:_events", ("for event_id in ids", "for event_id in ids[:0]")),
    _mutant(
        "nobody is told of what somebody canceled",
        "flows.control:_event",
        ("if delivery.events_to is None or", "if True or"),
    ),
    _mutant(
        "nobody is told of what a job canceled",
        "flows.jobs:_step",
        ("if ends and delivery.events_to is not None else None", "if ends and delivery.events_to is None else None"),
    ),
    _mutant(
        "nobody is told of a pause",
        "flows.destination_states:_tell",
        ("if to is None or", "if True or"),
    ),
    _mutant(
        "a repeated event is told of",
        "db.jobs:repeat",
        ("%(job_id)s, delivery.event\n", "%(job_id)s, NULL\n"),
    ),
    # Four eyes
    _mutant(
        "one token alone is enough",
        "flows.approvals:need_approval",
        ("if above is not None and", "if False and"),
    ),
    _mutant(
        "a proposal does not expire",
        "db.proposals:approve",
        ("AND expires_at > %(now)s AND created_by", "AND created_by"),
    ),
    _mutant(
        "a proposal that is done keeps its call",
        "db.proposals:finish",
        ("SET state = %(state)s, sealed_request = NULL", "SET state = %(state)s"),
    ),
    _mutant(
        "a delay is not cut to what SQS allows",
        "domain.wakeups:delay_seconds",
        ("min(LONGEST_DELAY_SECONDS, -int(-remaining // 1))", "-int(-remaining // 1)"),
    ),
)
MUTANTS: Mapping[str, PermanentMutant] = {mutant.name: mutant for mutant in _MUTANTS}


def named(text: str) -> str:
    """The name of a mistake, for argparse."""
    if text not in MUTANTS:
        near = get_close_matches(text, MUTANTS, n=1)
        hint = f"; do you mean {near[0]!r}?" if near else ""
        raise ArgumentTypeError(f"{text!r} is no mistake of simulator/mutants.py{hint}")
    return text


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """The code has this mistake meanwhile; none where that is None. Raises MutantOutOfDate."""
    with mistaken(None if name is None else MUTANTS[name]):
        yield


@contextmanager
def mistaken(mutant: PermanentMutant | None) -> Iterator[None]:
    """As `mutated`, with a mistake of any list."""
    if mutant is None:
        yield
        return
    function = _function(mutant.function)
    code = function.__code__
    function.__code__ = _edited(mutant, function)
    try:
        yield
    finally:
        function.__code__ = code


def _edited(mutant: PermanentMutant, function: FunctionType) -> CodeType:
    text = dedent(inspect.getsource(function))
    for before, after in mutant.edits:
        if text.count(before) != 1:
            raise MutantOutOfDate(f"{mutant.name}: {mutant.function} has this {text.count(before)} times: {before!r}")
        text = text.replace(before, after)
    made: dict[str, FunctionType] = {}
    exec(compile(text, function.__code__.co_filename, "exec"), function.__globals__, made)  # noqa: S102 - our own text
    return made[function.__name__].__code__


def _function(place: str) -> FunctionType:
    module, _, path = place.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert isinstance(found, FunctionType), place
    return found

"""Reconciliation: how a partner is asked what became of an unknown delivery, and what its answers mean.

Nothing here guesses. An answer counts only by a rule that its destination gave, and only where it is whole and in JSON;
silence, errors of servers, redirects and whatever cannot be read say nothing about the delivery.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import quote

from domain.bodies import whole_body
from domain.headers import header_fault
from domain.outcomes import Answered, Headers, Outcome, Refused
from domain.reconcile import AnswerRule, Condition, Meaning, OnAbsent, OpenQuestion, Reconcile
from domain.retry import JITTER, Delivered, Failed, Held, RetryAt, Verdict, retry_after
from domain.targets import path_fault, query_fault
from domain.templates import fields_in, filled
from domain.values import value_class

READ_BYTES = 1024 * 1024  # an answer that is longer is not read
# These speak of the question (RFC 9110 section 15.5, RFC 6585, RFC 8470): who asks, how often, in which form.
ABOUT_THE_QUESTION = frozenset({401, 403, 407, 408, 421, 425, 426, 428, 429, 431})
PLAIN_FIELDS = ("idempotency_key", "delivery_id")
METADATA, RESPONSE = "metadata.", "response."
# How long until the next question where the partner says nothing: as long as it has been silent, within these.
LEAST_SILENT_SECONDS = 30.0
MOST_SILENT_SECONDS = 60.0
MOST_RANK = 7  # how many older deliveries that wait for the partner make a difference
LONGEST_SILENT_SECONDS = 43_200.0
OFTEN_FOR_SECONDS = 86_400.0  # a day; then only rarely, so that an idle database can pause
GIVE_UP_SECONDS = 2_592_000.0  # thirty days
MOMENT_SECONDS = 5.0  # after the time from which on a partner's word counts that it has nothing


@value_class(frozen=True, slots=True, kw_only=True)
class AskedRequest:
    """The parts of a question that are sent."""

    method: str
    path: str
    query: str
    headers: Headers


class Unaskable(Exception):
    """The question cannot be made for this delivery. The message says why, and repeats no value."""


def field_faults(template: str) -> Iterator[str]:
    """The fields in `template` that no delivery has."""
    for name in sorted(fields_in(template)):
        if name in PLAIN_FIELDS or (name.startswith(METADATA) and len(name) > len(METADATA)):
            continue
        if not (name.startswith(RESPONSE) and pointer_fault(name.removeprefix(RESPONSE)) is None):
            yield name


def pointer_fault(pointer: str) -> str | None:
    """Why `pointer` is no JSON pointer (RFC 6901) to a member; None where it is one."""
    if not pointer.startswith("/"):
        return "must be a JSON pointer (RFC 6901) such as /state"
    if any(part[:1] not in ("0", "1") for part in pointer.split("~")[1:]):
        return "a '~' in a JSON pointer is written ~0, and a '/' within a name ~1"
    return None


def asked_request(reconcile: Reconcile, question: OpenQuestion) -> AskedRequest:
    """The question about one delivery. Raises Unaskable."""
    path = _filled(reconcile.path, question, encode=True)
    query = _filled(reconcile.query, question, encode=True)
    headers = tuple((name, _filled(value, question, encode=False)) for name, value in reconcile.headers)
    if path_fault(path) is not None:
        raise Unaskable("its path would lead out of the base URL")
    if query_fault(query) is not None or any(header_fault(name, value) for name, value in headers):
        raise Unaskable("what it is about cannot be written into a query or a header")
    return AskedRequest(method=reconcile.method, path=path, query=query, headers=headers)


def meaning(outcome: Outcome, *, reconcile: Reconcile, question: OpenQuestion) -> Meaning:
    """What the outcome of a question says of the delivery. Only a whole answer that can be read says anything."""
    if not isinstance(outcome, Answered) or not _speaks(outcome):
        return Meaning.SILENT
    content = _content(outcome)
    for found, rule in reconcile.rules:
        if rule.status == outcome.status and _holds(rule, content, question):
            return found
    return Meaning.OTHER if isinstance(content, dict | list) else Meaning.SILENT


def first_question_at(reconcile: Reconcile, *, now: datetime, chance: float) -> datetime:
    """When the partner is asked first about a delivery that has become unknown `now`."""
    return _later(reconcile.after[0], now=now, chance=chance)


def verdict_on(
    outcome: Outcome,
    *,
    reconcile: Reconcile,
    question: OpenQuestion,
    on_absent: OnAbsent,
    asked_at: datetime,
    now: datetime,
    chance: float,
) -> Verdict:
    """What a delivery does next after a question that was sent at `asked_at` and had this `outcome`.

    `chance` is a number in [0, 1) from the caller's random source; it spreads the questions by ±20 %.
    """
    match meaning(outcome, reconcile=reconcile, question=question):
        case Meaning.RECEIVED:
            return Delivered()
        case Meaning.REJECTED:
            return Failed()
        case Meaning.ABSENT:
            counts_from = _absence_counts_from(reconcile, question, now=now)
            if asked_at >= counts_from:
                return RetryAt(at=now) if on_absent is OnAbsent.AGAIN else Failed()
            planned = _next_question_at(reconcile, question, now=now, chance=chance)
            in_time = _later(MOMENT_SECONDS, now=max(now, counts_from), chance=chance)
            return Held(ask_at=in_time if planned is None else min(planned, in_time))
        case Meaning.SILENT if not isinstance(outcome, Refused):
            return Held(ask_at=_after_silence(outcome, question, now=now, chance=chance), silent=True)
    return Held(ask_at=_next_question_at(reconcile, question, now=now, chance=chance))


def _absence_counts_from(reconcile: Reconcile, question: OpenQuestion, *, now: datetime) -> datetime:
    """From when on a question must have been asked for the partner's word that it has nothing. It is to be late enough
    after the attempt, and after the first answer too: a partner may begin to act when it is asked."""
    first_answered_at = question.first_answered_at or now
    return max(question.unknown_since, first_answered_at) + timedelta(seconds=reconcile.absent_after)


def _next_question_at(reconcile: Reconcile, question: OpenQuestion, *, now: datetime, chance: float) -> datetime | None:
    """By the schedule, once this question is answered; None after the last."""
    if question.answered + 1 >= len(reconcile.after):
        return None
    return _later(reconcile.after[question.answered + 1], now=now, chance=chance)


def _after_silence(outcome: Outcome, question: OpenQuestion, *, now: datetime, chance: float) -> datetime | None:
    silent_seconds = (now - (question.silent_since or now)).total_seconds()
    gap = silent_gap_seconds(silent_seconds=silent_seconds, rank=question.rank)
    if gap is None or now > question.unknown_since + timedelta(seconds=GIVE_UP_SECONDS):
        return None
    planned = _later(gap, now=now, chance=chance)
    asked_for = retry_after(outcome.headers, now=now) if isinstance(outcome, Answered) else None
    return planned if asked_for is None else max(planned, asked_for)


def _later(seconds: float, *, now: datetime, chance: float) -> datetime:
    return now + timedelta(seconds=seconds * (1 - JITTER + 2 * JITTER * chance))


def silent_gap_seconds(*, silent_seconds: float, rank: int) -> float | None:
    """How long to wait until the next question to a partner that says nothing; None where it is not asked again.

    The oldest delivery asks often, so that the end of the silence is noticed soon; each one behind it half as often as
    the one before, and all behind those only in case that they are never woken (0028_end_of_silence.sql).
    """
    if silent_seconds > GIVE_UP_SECONDS:
        return None
    if silent_seconds > OFTEN_FOR_SECONDS or rank >= MOST_RANK:
        return LONGEST_SILENT_SECONDS
    return min(MOST_SILENT_SECONDS, max(LEAST_SILENT_SECONDS, silent_seconds)) * 2.0**rank


def same_json(one: object, other: object) -> bool:
    """Whether two values are equal in JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and one == other


def _speaks(answer: Answered) -> bool:
    """Whether an answer with this status may be about the delivery, and came whole."""
    is_about_it = 200 <= answer.status < 300 or 400 <= answer.status < 500
    return answer.complete and is_about_it and answer.status not in ABOUT_THE_QUESTION


def _content(answer: Answered) -> object:
    """The answer's JSON; None where it is none, or more than is read."""
    body = whole_body(answer, limit_bytes=READ_BYTES)
    return None if body is None else _json(body)


@lru_cache(maxsize=2)
def _answer_json(body: bytes) -> object:
    """The stored answer that templates name members of: read once, however many values of rules do."""
    return _json(body)


def _json(text: bytes) -> object:
    """None for what is not JSON by RFC 8259, or says one thing twice."""
    try:
        return json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _members(pairs: Sequence[tuple[str, object]]) -> Mapping[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is there twice")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _holds(rule: AnswerRule, content: object, question: OpenQuestion) -> bool:
    return all(_is_one_of(condition, content, question) for condition in rule.where)


def _is_one_of(condition: Condition, content: object, question: OpenQuestion) -> bool:
    try:
        found = value_at(content, condition.pointer)
    except LookupError:
        return False
    return any(same_json(found, wanted) for wanted in _wanted(condition.values, question))


def _wanted(values: Collection[object], question: OpenQuestion) -> Iterator[object]:
    """The values of a condition for this delivery; one that it has not is left out."""
    for value in values:
        try:
            yield _filled(value, question, encode=False) if isinstance(value, str) else value
        except Unaskable:
            continue


def value_at(content: object, pointer: str) -> object:
    """What `pointer` leads to. Raises LookupError where there is nothing."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        match content:
            case dict():
                content = content[name]
            case list() if name.isascii() and name.isdecimal() and (name == "0" or name[0] != "0"):
                content = content[int(name[:10])]
            case _:
                raise LookupError(pointer)
    return content


def _filled(template: str, question: OpenQuestion, *, encode: bool) -> str:
    """Raises Unaskable where the delivery lacks a field of the template."""
    values = {name: _field(name, question) for name in fields_in(template)}
    encoded = {name: (quote(value, safe="") if encode else value).encode() for name, value in values.items()}
    return filled(template, encoded).decode()


def _field(name: str, question: OpenQuestion) -> str:
    if name == "idempotency_key":
        return question.idempotency_key
    if name == "delivery_id":
        return question.delivery_id
    value: object = None
    if name.startswith(METADATA):
        value = question.metadata.get(name.removeprefix(METADATA))
    elif name.startswith(RESPONSE) and question.answer_body is not None:
        try:
            value = value_at(_answer_json(question.answer_body), name.removeprefix(RESPONSE))
        except LookupError:
            value = None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "" or not _is_text(str(value)):
        raise Unaskable(f"the delivery has no text or whole number {{{name}}}")
    return str(value)


def _is_text(value: str) -> bool:
    """Whether it can be written in UTF-8: JSON may have half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

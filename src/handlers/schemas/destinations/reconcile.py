"""`reconcile`: how a partner is asked what became of an unknown delivery, and what its answers mean."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from domain.errors import Fault
from domain.questions import ABOUT_THE_QUESTION, field_faults, pointer_fault, same_json
from domain.reconcile import (
    USUAL_ABSENT_AFTER_SECONDS,
    USUAL_AFTER_SECONDS,
    AnswerRule,
    Condition,
    Meaning,
    OnAbsent,
    Reconcile,
)
from domain.targets import path_fault, query_fault
from domain.templates import fields_in, filled, template_fault, unknown_fault
from handlers.schemas.headers import HEADERS_LIMIT, header_faults

MOST_QUESTIONS = 20
LONGEST_GAP_SECONDS = 604_800  # a week
MOST_RULES = 20
MOST_CONDITIONS = 10
MOST_VALUES = 50
HEADER_LIMIT = 2000  # characters, as path and query
# As JSON: every claim of a delivery reads it, and a question reads its rules.
LIMIT_BYTES = 64 * 1024
# By status alone these say no more than that there is nothing under this path.
NOT_FOUND = (404, 410)


Value = Annotated[str, Meta(max_length=1000)] | int | float | bool | list[Any] | None


class ConditionBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The member of the answer's JSON that a pointer leads to is one of these values."""

    pointer: Annotated[
        str, Meta(max_length=500, description="RFC 6901, such as /payments/0/state; a member that is not there is none")
    ]
    values: Annotated[
        list[Value],
        Meta(
            min_length=1,
            max_length=MOST_VALUES,
            description="Texts, which may have the fields of path, numbers, true, false, null, or [] for an empty list",
        ),
    ]


class RuleBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An answer with this status of which all conditions hold."""

    status: Annotated[
        int,
        Meta(
            ge=200,
            le=499,
            description="200 to 299 or 400 to 499, but none that is about the question: 401, 403, 407, 408, 421, 425, "
            "426, 428, 429, 431",
        ),
    ]
    where: Annotated[
        list[ConditionBody],
        Meta(max_length=MOST_CONDITIONS, description="What its JSON must say too; all of these must hold"),
    ] = []


Rules = Annotated[list[RuleBody], Meta(max_length=MOST_RULES)]


class ReconcileBody(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to ask what became of an unknown delivery. The first rule that matches an answer counts, in the order
    received, rejected, absent; where none does, or no whole answer comes, it is asked again later."""

    path: Annotated[
        str,
        Meta(
            max_length=2000,
            description="Below the base URL. A template: {idempotency_key}, {delivery_id}, {metadata.NAME} and "
            "{response.POINTER}, out of the JSON of the last answer, are filled in, percent-encoded",
        ),
    ]
    method: Annotated[Literal["GET", "HEAD"], Meta(description="How it is asked")] = "GET"
    query: Annotated[str, Meta(max_length=2000, description="Raw, without '?'; a template as path")] = ""
    headers: Annotated[
        dict[
            Annotated[str, Meta(max_length=HEADER_LIMIT)],
            Annotated[str, Meta(max_length=HEADER_LIMIT)],
        ],
        Meta(
            max_length=HEADERS_LIMIT,
            description="Sent beside the destination's credentials; the values are templates, and not encoded",
        ),
    ] = {}
    after: Annotated[
        list[Annotated[float, Meta(ge=1, le=LONGEST_GAP_SECONDS)]],
        Meta(
            min_length=1,
            max_length=MOST_QUESTIONS,
            description="Delays in seconds: until the first question, and from each statement of the partner to the "
            "next question. Questions without a statement do not count",
        ),
    ] = msgspec.field(default_factory=lambda: list(USUAL_AFTER_SECONDS))
    received: Annotated[Rules, Meta(description="The partner has done it: the delivery is delivered")] = []
    rejected: Annotated[Rules, Meta(description="The partner will not do it: the delivery is failed")] = []
    absent: Annotated[
        Rules,
        Meta(description="The partner says that it does not have it. Each needs a condition: a status is no proof"),
    ] = []
    absent_after: Annotated[
        float,
        Meta(
            ge=1,
            le=LONGEST_GAP_SECONDS,
            description="Seconds after the end of the last attempt before which absent does not count: as late as the "
            "partner may act, or its records show it",
        ),
    ] = USUAL_ABSENT_AFTER_SECONDS
    on_absent: Annotated[
        OnAbsent | None,
        Meta(
            description="again: it is sent again at once, with the same key, if it has attempts left, and fails "
            "otherwise. failed: it fails. null: failed for at_most_once, again otherwise"
        ),
    ] = None


def faults(body: ReconcileBody | None, at: str = "/reconcile") -> list[Fault]:
    """What the types alone cannot judge."""
    if body is None:
        return []
    if len(msgspec.json.encode(body)) > LIMIT_BYTES:
        return [Fault(field=at, detail=f"must have at most {LIMIT_BYTES} bytes of JSON in all")]
    templates = list(_template_faults(body, at))
    return [
        *(templates or _identity_faults(body, at)),
        *_rule_faults(body, at),
        *_reach_faults(body, at),
    ]


def domain(body: ReconcileBody | None) -> Reconcile | None:
    """As the flows take it."""
    if body is None:
        return None
    return Reconcile(
        path=body.path,
        method=body.method,
        query=body.query,
        headers=tuple(body.headers.items()),
        after=tuple(body.after),
        received=_rules(body.received),
        rejected=_rules(body.rejected),
        absent=_rules(body.absent),
        absent_after=body.absent_after,
        on_absent=body.on_absent,
    )


def shown(reconcile: Reconcile | None) -> ReconcileBody | None:
    """What the API shows of it."""
    if reconcile is None:
        return None
    return ReconcileBody(
        path=reconcile.path,
        method=reconcile.method,  # type: ignore[arg-type]  # once validated
        query=reconcile.query,
        headers=dict(reconcile.headers),
        after=list(reconcile.after),
        received=_shown_rules(reconcile.received),
        rejected=_shown_rules(reconcile.rejected),
        absent=_shown_rules(reconcile.absent),
        absent_after=reconcile.absent_after,
        on_absent=reconcile.on_absent,
    )


def _rules(rules: Sequence[RuleBody]) -> tuple[AnswerRule, ...]:
    return tuple(
        AnswerRule(
            status=rule.status,
            where=tuple(Condition(pointer=each.pointer, values=tuple(each.values)) for each in rule.where),
        )
        for rule in rules
    )


def _shown_rules(rules: Sequence[AnswerRule]) -> list[RuleBody]:
    return [
        RuleBody(
            status=rule.status,
            where=[ConditionBody(pointer=each.pointer, values=list(each.values)) for each in rule.where],
        )
        for rule in rules
    ]


# ---- What is asked


def _template_faults(body: ReconcileBody, at: str) -> Iterator[Fault]:
    for name, template, judge in (("path", body.path, path_fault), ("query", body.query, query_fault)):
        if (fault := _text_fault(template) or judge(_sample(template))) is not None:
            yield Fault(field=f"{at}/{name}", detail=fault)
    bad = [fault for value in body.headers.values() if (fault := _text_fault(value)) is not None]
    if bad:
        yield Fault(field=f"{at}/headers", detail=bad[0])
    else:
        yield from header_faults(
            [(name, _sample(value)) for name, value in body.headers.items()], field=f"{at}/headers"
        )


_FIELDS = "{idempotency_key}, {delivery_id}, {metadata.NAME} and {response.POINTER}, such as {response./id}"


def _text_fault(template: str) -> str | None:
    """What is wrong with the fields of a template."""
    unknown = list(field_faults(template))
    if not unknown:
        return template_fault(template, fields=fields_in(template))
    return unknown_fault(len(unknown), fields=_FIELDS)


def _sample(template: str) -> str:
    """The template for a delivery of which every field is "x"."""
    return filled(template, dict.fromkeys(fields_in(template), b"x")).decode()


def _identity_faults(body: ReconcileBody, at: str) -> Iterator[Fault]:
    """A question that is the same for all deliveries has an answer about none of them."""
    if not any(fields_in(text) for text in (body.path, body.query, *body.headers.values())):
        detail = "path, query or a header must say which delivery it is about, such as with {idempotency_key}"
        yield Fault(field=f"{at}/path", detail=detail)


# ---- What the answers mean


def _listed(body: ReconcileBody, at: str) -> Iterator[tuple[str, Meaning, RuleBody]]:
    """Each rule with its place, in the order in which they are tried."""
    kinds = ((Meaning.RECEIVED, body.received), (Meaning.REJECTED, body.rejected), (Meaning.ABSENT, body.absent))
    for kind, rules in kinds:
        for number, rule in enumerate(rules):
            yield f"{at}/{kind.value}/{number}", kind, rule


def _rule_faults(body: ReconcileBody, at: str) -> Iterator[Fault]:
    if not (body.received or body.rejected or body.absent):
        yield Fault(
            field=at, detail="must have a rule in received, rejected or absent: otherwise no answer ends anything"
        )
    for where, kind, rule in _listed(body, at):
        yield from _status_faults(where, kind, rule)
        for number, condition in enumerate(rule.where):
            yield from _condition_faults(f"{where}/where/{number}", condition)
        if body.method == "HEAD" and rule.where:
            yield Fault(field=f"{where}/where", detail="never holds: the answer to HEAD has no body")
        elif kind is Meaning.ABSENT and _is_about_a_page(rule):
            detail = 'must also say that no page follows, such as {"pointer": "/next", "values": [null]}'
            yield Fault(field=f"{where}/where", detail=detail)


def _status_faults(where: str, kind: Meaning, rule: RuleBody) -> Iterator[Fault]:
    if 300 <= rule.status < 400 or rule.status in ABOUT_THE_QUESTION:
        yield Fault(field=f"{where}/status", detail="says nothing about a delivery: it is about the question itself")
    elif kind is Meaning.ABSENT and not rule.where:
        yield Fault(field=f"{where}/where", detail="must have a condition: the partner must say it in its body")
    elif kind is Meaning.REJECTED and not rule.where and rule.status in NOT_FOUND:
        detail = "must have a condition: by its status alone this answer says that nothing was found, not why"
        yield Fault(field=f"{where}/where", detail=detail)


def _condition_faults(where: str, condition: ConditionBody) -> Iterator[Fault]:
    if fault := pointer_fault(condition.pointer):
        yield Fault(field=f"{where}/pointer", detail=fault)
    for number, value in enumerate(condition.values):
        fault = _text_fault(value) if isinstance(value, str) else None
        if isinstance(value, list) and value:
            fault = "must be a text, a number, true, false, null or []"
        if fault is not None:
            yield Fault(field=f"{where}/values/{number}", detail=fault)


def _is_about_a_page(rule: RuleBody) -> bool:
    """Whether it holds for an empty list alone, which may be one page of several."""
    lists = [any(value == [] for value in condition.values) for condition in rule.where]
    return bool(lists) and all(lists)


# ---- Whether each can matter


def _reach_faults(body: ReconcileBody, at: str) -> Iterator[Fault]:
    """Rules that no answer can match: they contradict themselves, or an earlier one always comes first."""
    earlier: list[tuple[str, RuleBody]] = []
    for where, _, rule in _listed(body, at):
        by_pointer = _by_pointer(rule)
        if any(not values for values in by_pointer.values()):
            yield Fault(field=f"{where}/where", detail="never holds: it wants two things of the same pointer")
        before = next((place for place, other in earlier if _covers(other, rule)), None)
        if before is not None:
            detail = f"never matches: {before.removeprefix(at)} matches whatever it would"
            yield Fault(field=where, detail=detail)
        earlier.append((where, rule))


def _by_pointer(rule: RuleBody) -> Mapping[str, Sequence[object]]:
    """The values that may be at each pointer, by all conditions on it together."""
    found: dict[str, list[object]] = {}
    for condition in rule.where:
        before = found.get(condition.pointer)
        values: list[object] = list(condition.values)
        found[condition.pointer] = (
            values
            if before is None
            else [value for value in before if _is_in(value, values) or _varies(before, values)]
        )
    return found


def _covers(first: RuleBody, second: RuleBody) -> bool:
    """Whether every answer that `second` matches is matched by `first`."""
    if first.status != second.status:
        return False
    wanted = _by_pointer(second)
    return all(
        pointer in wanted and all(_is_in(value, values) for value in wanted[pointer])
        for pointer, values in _by_pointer(first).items()
    )


def _is_in(value: object, values: Sequence[object]) -> bool:
    return any(same_json(value, other) for other in values)


def _varies(*lists: Sequence[object]) -> bool:
    """Whether some value is a template, which may be anything."""
    return any(isinstance(value, str) and fields_in(value) for values in lists for value in values)

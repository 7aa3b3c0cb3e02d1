"""What a partner is asked about an unknown delivery, how often, and where its words are looked for."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.outcomes import Answered
from domain.questions import (
    GIVE_UP_SECONDS,
    READ_BYTES,
    Unaskable,
    asked_request,
    meaning,
    pointer_fault,
    silent_gap_seconds,
    value_at,
)
from domain.reconcile import AnswerRule, Condition, Meaning, OpenQuestion, Reconcile

QUESTION = OpenQuestion(
    delivery_id="01939d2a-7a10-7c3e-9f4b-5d1c0e6a2b31",
    idempotency_key="order 1/a",
    metadata={"number": 4711, "name": "Müller & Co", "is_paid": True, "empty": "", "half": "\ud800"},
    unknown_since=datetime(2026, 3, 1, tzinfo=UTC),
    answer_body=b'{"id": "p-1", "links": [{"rel": "self"}]}',
)


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        ("/orders/{idempotency_key}", "/orders/order%201%2Fa"),
        ("/deliveries/{delivery_id}", f"/deliveries/{QUESTION.delivery_id}"),
        ("/payments/{metadata.number}", "/payments/4711"),
        ("/payments/{metadata.name}", "/payments/M%C3%BCller%20%26%20Co"),
        ("/payments/{response./id}", "/payments/p-1"),
        ("/payments/{response./links/0/rel}", "/payments/self"),
    ],
)
def test_a_path_is_filled_with_what_is_known_of_the_delivery(template: str, asked: str) -> None:
    assert asked_request(Reconcile(path=template), QUESTION).path == asked


@pytest.mark.parametrize(
    "field",
    ["metadata.is_paid", "metadata.empty", "metadata.half", "metadata.nothing", "response./links", "response./nothing"],
)
def test_what_is_no_text_and_no_whole_number_cannot_be_asked_for(field: str) -> None:
    with pytest.raises(Unaskable, match="has no text or whole number"):
        asked_request(Reconcile(path=f"/payments/{{{field}}}"), QUESTION)


def test_without_an_answer_nothing_of_it_can_be_asked_for() -> None:
    with pytest.raises(Unaskable, match="has no text or whole number"):
        asked_request(Reconcile(path="/payments/{response./id}"), replace(QUESTION, answer_body=None))


def test_a_question_that_would_be_another_request_is_not_asked() -> None:
    with pytest.raises(Unaskable, match="lead out of the base URL"):
        asked_request(Reconcile(path="/payments/{idempotency_key}/x"), replace(QUESTION, idempotency_key=".."))
    odd = replace(QUESTION, metadata={"name": "a\r\nX-Other: b"})
    with pytest.raises(Unaskable, match="cannot be written into a query or a header"):
        asked_request(Reconcile(path="/payments", headers=(("X-Name", "{metadata.name}"),)), odd)


@pytest.mark.parametrize("pointer", ["state", "", "/a~", "/a~2b"])
def test_a_pointer_of_another_form_is_a_fault(pointer: str) -> None:
    assert pointer_fault(pointer) is not None


@pytest.mark.parametrize("pointer", ["/state", "/a~0b~1c", "/", "/0/a"])
def test_a_pointer_of_rfc_6901_is_none(pointer: str) -> None:
    assert pointer_fault(pointer) is None


def test_a_pointer_leads_into_objects_and_lists() -> None:
    content = {"a/b": [{"~": 1}, 2]}
    assert value_at(content, "/a~1b/0/~0") == 1
    for nothing in ("/a~1b/2", "/a~1b/00", "/a~1b/-", "/a", "/a~1b/1/x"):
        with pytest.raises(LookupError):
            value_at(content, nothing)


def test_a_partner_that_says_nothing_is_asked_ever_more_seldom_and_then_no_more() -> None:
    """The oldest delivery most often."""
    gaps = [silent_gap_seconds(silent_seconds=seconds, rank=0) for seconds in (0, 3_600, GIVE_UP_SECONDS)]
    assert all(gap is not None for gap in gaps)
    assert gaps == sorted(gap for gap in gaps if gap is not None)
    first, second = (silent_gap_seconds(silent_seconds=0, rank=rank) for rank in (0, 1))
    assert first is not None
    assert second == 2 * first
    assert silent_gap_seconds(silent_seconds=GIVE_UP_SECONDS + 1, rank=0) is None


def noted_reading(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes are read as JSON each time."""
    read: list[int] = []
    loads = json.loads

    def noted(text: bytes, **options: Any) -> object:
        read.append(len(text))
        return loads(text, **options)

    monkeypatch.setattr("domain.questions.json.loads", noted)
    return read


def question_about(body: bytes) -> OpenQuestion:
    return OpenQuestion(
        delivery_id="1", idempotency_key="key", metadata={}, unknown_since=NOW_OF_WORK, answer_body=body
    )


NOW_OF_WORK = datetime(2026, 3, 1, tzinfo=UTC)
EVERY_VALUE = tuple(f"{{response.{'/a' * (number % 40 + 1)}}}-{number}" for number in range(50))


def asked_by_rules(rules: int) -> Reconcile:
    """The most conditions and values that a rule may have; none of them ever holds, until the last of its rule."""
    some = tuple(Condition(pointer=f"/{number}", values=(*EVERY_VALUE, "same")) for number in range(10))
    last = Condition(pointer="/last", values=EVERY_VALUE)
    return Reconcile(path="/", received=(AnswerRule(status=200, where=(*some, last)),) * rules)


def test_the_stored_answer_is_read_once_however_many_values_name_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination may have 60 rules of 500 values: to read 64 KiB for each would take minutes."""
    read = noted_reading(monkeypatch)
    stored = json.dumps({"a": "x", "more": "y" * 60_000}).encode()
    body = json.dumps({str(number): "same" for number in range(10)} | {"last": "none"}).encode()
    answer = Answered(status=200, headers=(), body=body)
    for rules in (1, 20):
        read.clear()
        assert meaning(answer, reconcile=asked_by_rules(rules), question=question_about(stored + b" " * rules)) is (
            Meaning.OTHER
        )
        assert read == [len(body), len(stored) + rules]


@pytest.mark.parametrize("body", [b"[" * READ_BYTES, b"9" * READ_BYTES, b"0." + b"9" * (READ_BYTES - 2)])
def test_no_answer_to_a_question_is_read_further_than_its_limit(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    read = noted_reading(monkeypatch)
    for more, times in ((b"", 1), (b" ", 0)):
        read.clear()
        answer = Answered(status=200, headers=(), body=body + more)
        assert meaning(answer, reconcile=asked_by_rules(1), question=question_about(b"{}")) is Meaning.SILENT
        assert len(read) == times

"""How a partner is asked what became of an unknown delivery. domain/questions.py asks and reads the answers by it."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.outcomes import Headers
from domain.values import value_class

USUAL_AFTER_SECONDS = (30.0, 300.0, 1800.0, 7200.0)
USUAL_ABSENT_AFTER_SECONDS = 600.0


class OnAbsent(StrEnum):
    """What becomes of a delivery that the partner does not have: `again` sends it with the same key, `failed` ends
    it."""

    AGAIN = "again"
    FAILED = "failed"


class Meaning(StrEnum):
    """What an answer says. `other` is a statement that no rule takes, `silent` none at all."""

    RECEIVED = "received"
    REJECTED = "rejected"
    ABSENT = "absent"
    OTHER = "other"
    SILENT = "silent"


@value_class(frozen=True, slots=True, kw_only=True)
class Condition:
    """The member of the answer's JSON at `pointer` (RFC 6901) is one of `values`; a text in these is a template."""

    pointer: str
    values: tuple[Any, ...]


@value_class(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """An answer with this status, of which all conditions hold."""

    status: int
    where: tuple[Condition, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """How to ask, and what the answers mean; the first rule that matches counts, in the order of the members.

    `path`, `query` and the values of `headers` are templates. `after` are the delays in seconds: until the first
    question, and from each answer to the next question. The partner's word that it does not have the delivery counts
    only of a question that was asked `absent_after` seconds after the last attempt had ended.
    """

    path: str
    method: str = "GET"
    query: str = ""
    headers: Headers = ()
    after: tuple[float, ...] = USUAL_AFTER_SECONDS
    received: tuple[AnswerRule, ...] = ()
    rejected: tuple[AnswerRule, ...] = ()
    absent: tuple[AnswerRule, ...] = ()
    absent_after: float = USUAL_ABSENT_AFTER_SECONDS
    on_absent: OnAbsent | None = None

    @property
    def rules(self) -> Sequence[tuple[Meaning, AnswerRule]]:
        """All of them, in the order in which they are tried."""
        return [
            *((Meaning.RECEIVED, rule) for rule in self.received),
            *((Meaning.REJECTED, rule) for rule in self.rejected),
            *((Meaning.ABSENT, rule) for rule in self.absent),
        ]


@value_class(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """What a question about a delivery is made of.

    `unknown_since` is when the last attempt had ended and was recorded. `answered` counts the questions since then that
    the partner answered with a statement; `first_answered_at` is when the first of these had its answer, None without
    one. `rank` is how many older deliveries of the destination wait for a silent partner, up to a few; `silent_since`
    is since when it is silent, None where it answers. `answer_body` is what is stored of the last answer to the
    delivery itself; None where there was none.
    """

    delivery_id: str
    idempotency_key: str
    metadata: Mapping[str, object]
    unknown_since: datetime
    answered: int = 0
    rank: int = 0
    first_answered_at: datetime | None = None
    silent_since: datetime | None = None
    answer_body: bytes | None = field(default=None, repr=False)

"""A bank on loopback whose payments get no answer, and that can be asked what became of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from domain.options import DestinationOptions
from domain.reconcile import AnswerRule, Condition, Reconcile
from tests.egress.servers import Line

# What it answers to a question: a status with JSON or bytes, or None to hang up.
type BankAnswer = tuple[int, object] | None

NOT_FOUND: BankAnswer = (404, {"code": "payment_not_found"})


def rule(status: int, **wanted: object) -> AnswerRule:
    """An answer with that status whose members have these values."""
    return AnswerRule(
        status=status, where=tuple(Condition(pointer=f"/{name}", values=(value,)) for name, value in wanted.items())
    )


RECONCILE = Reconcile(
    path="/payments/{idempotency_key}",
    received=(rule(200, key="{idempotency_key}", state="executed"),),
    rejected=(rule(200, key="{idempotency_key}", state="rejected"),),
    absent=(rule(404, code="payment_not_found"),),
)
ASKED_ABOUT = DestinationOptions(reconcile=RECONCILE)


def executed(key: str) -> BankAnswer:
    return 200, {"key": key, "state": "executed"}


@dataclass(slots=True, kw_only=True)
class AskedBank:
    """`answers` are those to questions, in turn, the last one from then on; each may depend on the key. `payments` are
    the statuses with which payments are answered, in turn; None hangs up, as it does when there are no more."""

    answers: Sequence[BankAnswer | Callable[[str], BankAnswer]] = (NOT_FOUND,)
    payments: Sequence[int | None] = ()
    questions: list[bytes] = field(default_factory=list)
    paid: list[bytes] = field(default_factory=list)

    def script(self, line: Line) -> None:
        while request := line.read_request():
            answer = self._answer(request)
            if answer is None:
                return
            line.send(_message(*answer))

    def _answer(self, request: bytes) -> BankAnswer:
        if not request.startswith((b"GET ", b"HEAD ")):
            self.paid.append(request)
            status = next(self._after(self.payments, len(self.paid)), None)
            return None if status is None else (status, {})
        self.questions.append(request)
        answer = next(self._after(self.answers, len(self.questions)), self.answers[-1])
        key = request.split(b" ")[1].rpartition(b"/")[2].decode()
        return answer(key) if callable(answer) else answer

    @staticmethod
    def _after[T](planned: Sequence[T], number: int) -> Iterator[T]:
        yield from planned[number - 1 : number]


def _message(status: int, content: object) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

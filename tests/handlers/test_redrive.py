"""An operator sends dead letters back: from a queue of moto's, to that of the wake-ups."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.errors import QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from handlers import attempt
from tests.support.api import Context, Functions
from tests.support.gateway import EmulatedQueue
from wakeups.sqs import encode

REASON = "the bug that they died of is fixed"


def invoke(seconds_left: Callable[[], float] = lambda: 45.0, **event: Any) -> dict[str, Any]:
    return dict(attempt.handler({"action": "redrive", "reason": REASON, **event}, Context(seconds_left)))


def wakeup(number: int) -> str:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    return encode(Wakeup(delivery_id=DeliveryId(UUID(int=number)), due_at=moment, group="acme/partner"))


@pytest.fixture
def dead(functions: Functions) -> EmulatedQueue:
    """The dead-letter queue of the wake-ups' queue."""
    return functions.queue.dead_letters()


def test_wakeups_go_back_and_what_is_none_stays(functions: Functions, dead: EmulatedQueue) -> None:
    dead.send(*(wakeup(number) for number in range(12)), "poison")
    assert invoke() == {"moved": 12, "unreadable": 1, "is_all": True}
    assert {found.delivery_id.int for found in functions.queue.wakeups()} == set(range(12))
    assert [message.body for message in dead.messages] == ["poison"]


def test_why_is_in_the_stacks_audit_log(functions: Functions, dead: EmulatedQueue) -> None:
    dead.send(wakeup(1))
    invoke()
    (row,) = functions.sql("SELECT what, content FROM audit_entry WHERE tenant_id = %s", UUID(int=0))
    assert row["what"] == "dead_letters.redriven"
    assert msgspec.json.decode(row["content"])["details"] == {"moved": 1, "reason": REASON, "unreadable": 0}


def test_a_call_ends_at_its_limit_and_before_its_time_is_over(functions: Functions, dead: EmulatedQueue) -> None:
    dead.send(*(wakeup(number) for number in range(15)))
    assert invoke(limit=1) == {"moved": 10, "unreadable": 0, "is_all": False}
    assert invoke(lambda: 20.0) == {"moved": 0, "unreadable": 0, "is_all": False}
    assert invoke() == {"moved": 5, "unreadable": 0, "is_all": True}


def test_what_cannot_be_queued_stays_among_the_dead(
    functions: Functions, dead: EmulatedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise QueueUnavailable("SQS: Down", retry_after_seconds=5)

    dead.send(wakeup(1))
    monkeypatch.setattr("wakeups.sqs.WakeupQueue.send", refuses)
    with pytest.raises(QueueUnavailable):
        invoke()
    assert len(dead.messages) == 1
    assert len(functions.sql("SELECT what FROM audit_entry WHERE tenant_id = %s", UUID(int=0))) == 1


@pytest.mark.parametrize(
    "event", [{"reason": ""}, {"reason": "x" * 501}, {"limit": 0}, {"limit": 10_001}, {"all": True}]
)
def test_a_command_that_is_not_meant_is_refused(functions: Functions, event: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        invoke(**event)

"""How long a function may still run: each handler gives its flow exactly what Lambda says, less its own reserve."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.ids import DeliveryId, uuid7
from flows.migrate import Migrated
from flows.network import RetryTime
from flows.wake_overdue import Woken
from handlers import attempt, attempt_commands, migrate, network
from tests.support.api import Context, Functions, attempt_batch

type Calls = list[dict[str, Any]]

LEFT_SECONDS = 41.0


def left() -> Context:
    return Context(seconds_left=lambda: LEFT_SECONDS)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Puts a function that only notes its keywords in the place of a handler's flow."""

    def replace(module: object, name: str, *, result: object) -> Calls:
        calls: Calls = []

        def note(*_: object, **keywords: Any) -> object:
            calls.append(keywords)
            return result

        monkeypatch.setattr(module, name, note)
        return calls

    return replace


def test_a_batch_gets_the_time_that_the_function_has(functions: Functions, noted: Callable[..., Calls]) -> None:
    calls = noted(attempt, "attempt_due", result=frozenset())
    assert attempt_batch([], seconds_left=LEFT_SECONDS) == {"batchItemFailures": []}
    assert [call["seconds_left"] for call in calls] == [LEFT_SECONDS]


def test_a_command_gets_the_time_that_the_function_has(functions: Functions, noted: Callable[..., Calls]) -> None:
    last = DeliveryId(uuid7(now=datetime.now(UTC), randomness=bytes(10)))
    calls = noted(attempt_commands, "wake_overdue", result=Woken(count=1, next_after=last))
    event = {"action": "wake_overdue", "overdue_seconds": 7, "limit": 3, "after": str(last)}
    assert attempt.handler(event, left()) == {"woken": 1, "next": str(last)}
    (call,) = calls
    assert call.pop("services") is not None
    assert call == {"overdue_seconds": 7, "limit": 3, "after": last, "seconds_left": LEFT_SECONDS}


def test_a_migration_gets_the_time_less_what_the_answer_needs(
    functions: Functions, noted: Callable[..., Calls], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = noted(migrate, "bring_up_to_date", result=Migrated(applied=[], version=1, wanted=1))
    limits: list[float] = []

    def within(seconds: float, work: Callable[[], Any], *, cut: object) -> Any:
        limits.append(seconds)
        return work()

    monkeypatch.setattr(migrate, "within", within)
    migrate.handler({"action": "migrate"}, left())
    assert [call["seconds_left"]() for call in calls] == [LEFT_SECONDS - 30.0]
    assert limits == [LEFT_SECONDS - 30.0 + 5.0]


def test_a_resource_of_the_network_gets_the_time_less_what_the_answer_needs(
    aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[RetryTime] = []

    def emptied(_group_id: str, *, ec2: object, retry_time: RetryTime) -> int:
        given.append(retry_time)
        return 7

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(network, "empty_default_group", emptied)
    event = {"ResourceType": "Custom::DefaultSecurityGroup", "ResourceProperties": {"SecurityGroupId": "sg-1"}}
    assert network.handler(event, left()) == {"RulesRevoked": "7"}
    assert [retry_time.seconds_left() for retry_time in given] == [LEFT_SECONDS - 60.0]


def test_with_less_time_than_recording_needs_nothing_is_sent(functions: Functions) -> None:
    functions.api.destination("http://127.0.0.1:1")
    functions.api.create_delivery()
    assert functions.work(seconds_left=13.0) == {"batchItemFailures": []}
    (made,) = functions.attempts()
    assert made["reason"] == "there was no time left to send it; nothing was sent"

"""The attempt function: an SQS event in, failures of single messages out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain.errors import QueueUnavailable
from domain.ids import RANDOM_BYTES, uuid7
from handlers import attempt
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Context, Functions, attempt_batch, forget_services
from tests.support.partners import answers
from wakeups.sqs import encode

type StartPartner = Callable[[Script], Partner]

POISON = [
    "",
    "not JSON",
    "[]",
    "{}",
    "7",
    '{"delivery_id": "42", "due_at": "2026-01-01T00:00:00Z", "group": "g"}',
    f'{{"delivery_id": "{NOBODYS_ID}", "due_at": "soon", "group": "g"}}',
    f'{{"delivery_id": "{NOBODYS_ID}", "due_at": "2026-01-01T00:00:00", "group": "g"}}',
    f'{{"delivery_id": "{NOBODYS_ID}", "due_at": "2026-01-01T00:00:00Z", "group": ""}}',
    f'{{"delivery_id": "{NOBODYS_ID}", "due_at": "2026-01-01T00:00:00Z", "group": "g", "misses": -1}}',
    f'{{"delivery_id": "{NOBODYS_ID}", "due_at": "0001-01-01T00:00:00+23:59", "group": "g"}}',
    "[" * 100_000,
]


def test_a_poison_message_fails_alone_and_the_others_are_attempted(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    api.create_delivery()
    api.create_delivery()
    good = [encode(wakeup) for wakeup in functions.queue.take()]
    answer = attempt_batch([good[0], *POISON, good[1]])
    failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    assert failed == [str(position) for position in range(1, len(POISON) + 1)]
    assert len(server.requests) == 2
    assert {row["state"] for row in functions.sql("SELECT state FROM delivery")} == {"delivered"}


def test_a_batch_of_poison_is_no_error_of_the_function(refusing: Functions) -> None:
    assert attempt_batch(["x", "y"]) == {"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}]}


def test_what_a_partner_does_wrong_is_no_failure_of_its_message(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(500)).url())
    api.destination("http://127.0.0.1:1", name="dead")
    api.create_delivery()
    api.create_delivery(destination="dead")
    assert functions.work() == {"batchItemFailures": []}
    delays = functions.queue.delays()
    assert len(delays) == 2
    assert all(4 <= delay <= 6 for delay in delays)


def test_a_queue_that_is_down_fails_the_whole_batch_whose_messages_then_come_back(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers(503))
    api.destination(server.url())
    api.create_delivery()
    messages = [encode(wakeup) for wakeup in functions.queue.take()]
    forget_services()
    monkeypatch.setenv("SQS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(QueueUnavailable):
        attempt_batch(messages)
    assert [attempt["status"] for attempt in functions.attempts()] == [503]

    forget_services()
    monkeypatch.setenv("SQS_ENDPOINT_URL", functions.queue.endpoint_url)
    attempt_batch(messages)  # they came back, before the retry is due
    assert len(server.requests) == 1
    assert len(functions.queue.messages) == 1


def test_a_database_that_is_down_puts_the_messages_back_and_loses_none(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    api.create_delivery()
    forget_services()
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert functions.work() == {"batchItemFailures": []}
    assert all(29 <= delay <= 30 for delay in functions.queue.delays())

    forget_services()
    monkeypatch.setenv("DATABASE_URL", functions.database.url)
    functions.work_early()
    assert len(server.requests) == 1
    assert functions.delivery()["state"] == "delivered"


def test_a_connection_that_was_cut_is_made_again(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    for _ in range(2):
        api.create_delivery()
        functions.cut_connections()
        assert functions.work() == {"batchItemFailures": []}
    assert len(server.requests) == 2


def test_a_message_whose_row_was_never_written_is_looked_at_again(functions: Functions) -> None:
    delivery_id = str(uuid7(now=datetime.now(UTC), randomness=bytes(RANDOM_BYTES)))
    message = {
        "delivery_id": delivery_id,
        "due_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
        "group": "g",
    }
    assert attempt_batch([json.dumps(message)]) == {"batchItemFailures": []}
    (again,) = functions.queue.wakeups()
    assert (str(again.delivery_id), again.misses) == (delivery_id, 1)


def test_the_id_of_the_delivery_is_in_every_line_of_its_attempt(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200, b"the-partners-body")).url(), auth={"type": "bearer", "token": "hunter2"})
    accepted = api.create_delivery(query="secret=in-the-query", body={"secret": "in-the-body"}).json
    functions.work()
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    told = [line["message"] for line in lines if line.get("delivery_id") == accepted["delivery_id"]]
    assert told == ["delivery accepted", "attempt made"]
    for secret in ("in-the-query", "in-the-body", "the-partners-body", "hunter2"):
        assert secret not in functions.log.getvalue()


def test_deliveries_whose_messages_are_gone_are_woken_page_by_page_and_sent(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    made = [api.create_delivery().json["delivery_id"] for _ in range(3)]
    functions.queue.take()
    functions.sql("UPDATE delivery SET due_at = due_at - interval '1 hour'")

    first = attempt.handler({"action": "wake_overdue", "limit": 2}, Context())
    assert first == {"woken": 2, "next": made[1]}
    second = attempt.handler({"action": "wake_overdue", "limit": 2, "after": first["next"]}, Context())
    assert second == {"woken": 1, "next": None}

    assert functions.work() == {"batchItemFailures": []}
    assert len(server.requests) == 3
    assert {row["state"] for row in functions.sql("SELECT state FROM delivery")} == {"delivered"}


def test_what_became_due_within_the_last_ten_minutes_is_left_to_its_message(functions: Functions, api: Api) -> None:
    api.destination("http://127.0.0.1:1")
    api.create_delivery()
    assert attempt.handler({"action": "wake_overdue"}, Context()) == {"woken": 0, "next": None}
    functions.sql("UPDATE delivery SET due_at = due_at - interval '11 minutes'")
    assert attempt.handler({"action": "wake_overdue"}, Context()) == {"woken": 1, "next": None}


def test_an_operator_has_old_deliveries_deleted_now(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers(200)).url())
    made = [api.create_delivery().json["delivery_id"] for _ in range(2)]
    functions.work()
    nothing = {"deleted": 0, "bodies": 0, "responses": 0, "next": None}
    assert attempt.handler({"action": "delete_old"}, Context()) == nothing
    functions.sql(
        """
        WITH body AS (DELETE FROM delivery_body WHERE delivery_id = %s),
             log AS (DELETE FROM attempt WHERE delivery_id = %s)
        UPDATE delivery SET delivery_id = '016f5e66-e800-7000-8000-000000000000', finished_at = '2020-01-01Z'
        WHERE delivery_id = %s
        """,
        *[made[0]] * 3,
    )
    assert attempt.handler({"action": "delete_old"}, Context()) == {**nothing, "deleted": 1}
    assert api.get(f"/v1/deliveries/{made[1]}").json["state"] == "delivered"


def test_a_call_for_deletion_that_has_no_time_says_where_to_begin(functions: Functions, api: Api) -> None:
    destination_id = api.destination("http://127.0.0.1:1")["destination_id"]
    found = attempt.handler({"action": "delete_old"}, Context(seconds_left=lambda: 10.0))
    nothing = {"deleted": 0, "bodies": 0, "responses": 0}
    assert found == {**nothing, "next": {"destination_id": destination_id, "after": None}}
    again = attempt.handler({"action": "delete_old", **found["next"]}, Context())
    assert again == {**nothing, "next": None}


@pytest.mark.parametrize(
    "event",
    [
        {"action": "drop_tables"},
        {"action": "delete_old", "days": 1},
        {"action": "delete_old", "after": "42"},
        {"action": None},
        {"action": "wake_overdue", "limit": 501},
        {"action": "wake_overdue", "limit": 0},
        {"action": "wake_overdue", "overdue_seconds": -1},
        {"action": "wake_overdue", "overdue_seconds": 10**12},
        {"action": "wake_overdue", "after": "42"},
        {"action": "wake_overdue", "tenant": "acme"},
        {"action": "wake_overdue", "Records": []},
    ],
)
def test_a_command_that_cannot_be_read_is_refused(refusing: Functions, event: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        attempt.handler(event, Context())
    assert refusing.queue.wakeups() == []

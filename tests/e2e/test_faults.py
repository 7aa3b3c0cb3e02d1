"""What goes wrong in the middle: a worker that dies, a database that goes away. Nothing is lost, nothing sent twice."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.partner import Call
from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Consumer, eventually

type Calls = Callable[[], list[Call]]


def kill_the_worker_while_the_partner_thinks(stack: Stack, calls: Calls) -> None:
    """The request is at the partner and its outcome not yet recorded: the worst moment."""
    eventually(lambda: len(calls()) == 1)
    for pid in stack.functions["AttemptFunction"].process_ids:
        os.kill(pid, signal.SIGKILL)


def test_a_crash_between_send_and_record_leaves_a_post_unknown(
    stack: Stack, consumer: Consumer, key: str, calls: Calls
) -> None:
    accepted = consumer.deliver(path="/slow", query="seconds=1.5", headers={"Idempotency-Key": key})
    kill_the_worker_while_the_partner_thinks(stack, calls)
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "unknown"
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["unknown"]
    assert len(calls()) == 1


@pytest.mark.parametrize(
    ("method", "guarantee"), [("PUT", "auto"), ("POST", "at_least_once")], ids=["idempotent method", "at_least_once"]
)
def test_a_crash_between_send_and_record_is_repeated_where_that_is_allowed(
    stack: Stack, consumer: Consumer, key: str, calls: Calls, method: str, guarantee: str
) -> None:
    name = f"partner-{method.lower()}-{guarantee.replace('_', '-')}"
    destination = {"name": name, "base_url": stack.partner.url, "guarantee": guarantee}
    assert consumer.call("POST", "/v1/destinations", body=destination).status == 201
    accepted = consumer.call(
        "POST",
        "/v1/deliveries",
        body={"destination": name, "method": method, "path": "/slow", "query": "seconds=1.5"},
        headers={"Idempotency-Key": key},
    )
    kill_the_worker_while_the_partner_thinks(stack, calls)
    done = consumer.finished(accepted.json["delivery_id"])
    assert done["state"] == "delivered"
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["unknown", "answered"]
    assert len(calls()) == 2


def test_a_crash_of_the_api_is_a_502_and_the_next_call_works(stack: Stack, consumer: Consumer) -> None:
    with ThreadPoolExecutor(1) as threads:
        before = set(stack.functions["ApiFunction"].process_ids)
        running = threads.submit(consumer.call, "GET", "/v1/via/partner/slow?seconds=15")
        eventually(lambda: any(call.path == "/slow" and call.method == "GET" for call in list(stack.partner.calls)))
        killed = before | set(stack.functions["ApiFunction"].process_ids)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        answer = running.result(GENEROUS_SECONDS)
    eventually(lambda: not any(is_running(pid) for pid in killed))  # the kernel takes a moment to end a process
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert consumer.call("GET", "/v1/egress").status == 200


def is_running(pid: int) -> bool:
    """Of a process that was killed: it counts until it is dead, and no longer, though nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def noted_invocations(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one whenever the worker is done with a batch, well or not."""
    ended: list[object] = []
    worker = stack.functions["AttemptFunction"]
    invoke = worker.invoke

    def noted(event: object) -> object:
        try:
            return invoke(event)
        finally:
            ended.append(event)

    monkeypatch.setattr(worker, "invoke", noted)
    return ended


def test_without_the_database_callers_are_told_to_come_back_and_nothing_is_lost(
    stack: Stack, consumer: Consumer, key: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = consumer.deliver(path="/flaky", query="failures=1", headers={"Idempotency-Key": key})
    assert pending.status == 202, pending.body
    # Recorded, not only claimed: an outage in between would rightly leave a POST in doubt.
    eventually(lambda: len(consumer.delivery(pending.json["delivery_id"])["attempts"]) == 1)
    stack.postgres.stop()
    ended = noted_invocations(stack, monkeypatch)
    try:
        for path in ("/v1/deliveries", "/v1/destinations"):
            refused = consumer.call("GET", path)
            assert refused.status == 503, refused.body
            assert int(refused.headers["retry-after"]) > 0
        refused = consumer.deliver(path="/orders", headers={"Idempotency-Key": f"{key}-2"})
        assert refused.status == 503
        assert consumer.call("GET", "/v1/egress", headers={"Authorization": f"Bearer spt_{'A' * 43}"}).status == 503
        assert consumer.call("GET", "/healthz").status == 200
        eventually(lambda: ended)  # the retry fell due and found no database, and must survive that
    finally:
        stack.postgres.start()
    done = consumer.finished(pending.json["delivery_id"])
    assert done["state"] == "delivered"
    assert len(calls()) == 2
    again = consumer.deliver(path="/orders", headers={"Idempotency-Key": f"{key}-2", "Prefer": "wait=10"})
    assert again.status == 200
    assert stack.queues["DeadLetterQueue"].count() == 0

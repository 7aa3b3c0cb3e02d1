"""What callers see while a part of the stack does not run. These tests come last: the stack recovers from them."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Answer, Consumer, Holding, eventually
from tests.e2e.features.helpers import (
    NEVER_ISSUED,
    NOBODY,
    every_call,
    held,
    kind_of,
)


def test_a_function_that_dies_is_a_problem_of_the_same_form(
    stack: Stack, user: Consumer, other: Holding, key: str
) -> None:
    with held(user, other, "GET", key=key) as running:
        for process in stack.functions["ApiFunction"].process_ids:
            os.kill(process, signal.SIGKILL)
        answer = running.result(GENEROUS_SECONDS)
    assert (answer.status, kind_of(answer)) == (502, "internal")


def test_without_the_database_every_call_that_needs_it_says_when_to_come_back(stack: Stack, user: Consumer) -> None:
    """The addresses need it for the token alone, so that a token is shown that nobody has asked for before."""
    job = {"state": "failed", "since": "2026-01-01T00:00:00Z"}
    bodies: dict[str, Any] = {
        f"/v1/deliveries/{NOBODY}": {"not_before": None},
        f"/v1/deliveries/{NOBODY}/resolve": {"as": "failed"},
        "/v1/replays": job,
        "/v1/cancellations": {"since": job["since"]},
        "/v1/destinations/absent": {"idempotent": True},
        "/v1/destinations": {"name": "late", "base_url": stack.partner.url},
        "/v1/deliveries": {"destination": "partner"},
        "/v1/destinations/partner/rotate-secret": {},
    }
    stack.postgres.stop()
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda call: ask(user, *call, body=bodies.get(call[2])), every_call()))
    finally:
        stack.postgres.start()
    for answer in answers:
        assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True), answer.body
    assert eventually(lambda: user.call("GET", "/v1/deliveries").status == 200)


def ask(user: Consumer, _: str, method: str, path: str, *, body: object) -> Answer:
    own = replace(user, token=NEVER_ISSUED) if "egress" in path else user
    target = f"{path}?seal={NOBODY}" if path == "/v1/audit/attempts" else path
    return own.call(method, target, body=body if method in ("POST", "PATCH") else None)

"""Plain's worker, which ours is compared with, does the same work: it leaves the same in the same tables."""

from contextlib import closing
from typing import Any
from uuid import UUID

import pytest

from bench import events
from bench.attempts import PLAIN_WORKER
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage, stage, superuser
from bench.statements import WORKER


def _after(ready: Stage, handler: str) -> tuple[Any, Any]:
    """The delivery and its attempt, without ids and times, after a worker has made it."""
    (delivery_id,) = pending(ready, 1)
    with Side(ready.environment()) as worker:
        worker.do("calls", handler=handler, events=[events.batch(ready, [delivery_id])])
    with closing(superuser(ready)) as session:
        delivery = session.connection().execute(
            """
            SELECT state, attempts_made, lease_id, leased_until, finished_at IS NOT NULL AS finished FROM delivery
            WHERE delivery_id = %(delivery_id)s
            """,
            {"delivery_id": UUID(str(delivery_id))},
        )
        attempt = session.connection().execute(
            """
            SELECT number, outcome, reason, dns_ms IS NOT NULL AS timed, total_ms > 0 AS took_time,
                   first_byte_ms > 0 AS began, connect_ms > 0 AS connected, host(remote_address) AS remote, status,
                   response_headers, response_body, response_length, response_sha256, response_truncated
            FROM attempt WHERE delivery_id = %(delivery_id)s
            """,
            {"delivery_id": UUID(str(delivery_id))},
        )
        return delivery.fetchall(), attempt.fetchall()


@pytest.fixture(scope="module")
def recorded() -> dict[str, tuple[Any, Any]]:
    with stage(small=True) as ready:
        return {name: _after(ready, handler) for name, handler in (("ours", WORKER), ("plain", PLAIN_WORKER))}


def test_plain_records_an_attempt_with_its_answer_as_ours_does(recorded: dict[str, tuple[Any, Any]]) -> None:
    (attempt,) = recorded["ours"][1]
    assert attempt["status"] == 200
    assert recorded["plain"][1] == [attempt]


def test_plain_ends_the_delivery_as_ours_does(recorded: dict[str, tuple[Any, Any]]) -> None:
    (delivery,) = recorded["ours"][0]
    assert delivery["state"] == "delivered"
    assert recorded["plain"][0] == [delivery]

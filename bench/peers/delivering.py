"""What a worker of another queue does for one delivery: plain's two statements, and a request between them.

In one thread by requests, in an event loop by httpx. Neither checks or pins an address, and neither has libcurl's
times: the delivery is recorded with its answer and how long that took.
"""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bench import plain

LEASE_SECONDS = 40
_of_thread = threading.local()


def in_flight() -> int:
    """How many deliveries the worker may have in flight at once."""
    return int(os.environ["IN_FLIGHT"])


def deliver(delivery_id: str) -> None:
    """In a thread, which has a connection to the database and a session of its own."""
    connection, session = _kept()
    now = datetime.now(UTC)
    claimed = connection.execute(plain.CLAIM, _to_claim(delivery_id, now), binary=True).fetchall()
    for row in claimed:
        began = time.perf_counter()
        answer = session.request(
            row[1], row[2], headers=_headers(row), data=row[4], timeout=(row[9], row[10]), allow_redirects=False
        )
        made = _made(row, now, answer.status_code, answer.headers, answer.content, began)
        connection.execute(plain.RECORD, (json.dumps([made]), now, datetime.now(UTC)))
        _log(made)


async def deliver_async(delivery_id: str, *, pool: Any, client: Any) -> None:
    """In an event loop, by a pool of connections and a client for all."""
    import httpx

    now = datetime.now(UTC)
    async with pool.connection() as connection:
        claimed = await (await connection.execute(plain.CLAIM, _to_claim(delivery_id, now), binary=True)).fetchall()
    for row in claimed:
        began = time.perf_counter()
        answer = await client.request(
            row[1],
            row[2],
            headers=_headers(row),
            content=row[4],
            timeout=httpx.Timeout(row[10], connect=row[9]),
            follow_redirects=False,
        )
        made = _made(row, now, answer.status_code, answer.headers, answer.content, began)
        async with pool.connection() as connection:
            await connection.execute(plain.RECORD, (json.dumps([made]), now, datetime.now(UTC)))
        _log(made)


def pool_and_client() -> tuple[Any, Any]:
    """For `deliver_async`; both are to be entered."""
    import httpx
    from psycopg_pool import AsyncConnectionPool

    limits = httpx.Limits(max_connections=in_flight(), max_keepalive_connections=in_flight())
    size = min(in_flight(), 16)
    pool = AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
    )
    return pool, httpx.AsyncClient(limits=limits)


def _kept() -> Any:
    if not hasattr(_of_thread, "both"):
        import psycopg
        import requests

        _of_thread.both = (psycopg.connect(os.environ["DATABASE_URL"], autocommit=True), requests.Session())
    return _of_thread.both


def _to_claim(delivery_id: str, now: datetime) -> Any:
    return (now + timedelta(seconds=LEASE_SECONDS), [UUID(delivery_id)], now)


def _headers(row: Any) -> dict[str, str]:
    return {**dict(row[3]), row[7]: row[8]}


def _made(row: Any, now: datetime, status: int, headers: Mapping[str, str], body: bytes, began: float) -> Any:
    return {
        "attempt_id": str(plain.uuid7(now)),
        "delivery_id": str(row[0]),
        "number": row[5],
        "total_ms": (time.perf_counter() - began) * 1000,
        "status": status,
        "headers": list(headers.items()),
        "body": base64.b64encode(body[:65536]).decode(),
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


def _log(made: Any) -> None:
    print(json.dumps({"message": "attempt made", "delivery_id": made["delivery_id"], "status": made["status"]}))

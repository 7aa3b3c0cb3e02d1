"""pgqueuer, a queue in PostgreSQL, with httpx: one worker process, an event loop.

python -m bench.peers.worker_pgqueuer enqueue < ids; python -m bench.peers.worker_pgqueuer work
"""

import asyncio
import json
import os
import sys

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from bench.peers import delivering


async def enqueue(delivery_ids: list[str]) -> None:
    """All of them, and the queue's own tables where they are missing."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    count = len(delivery_ids)
    await queries.enqueue(["deliver"] * count, [listed.encode() for listed in delivery_ids], [0] * count)


async def work() -> None:
    """Until it is stopped."""
    pool, client = delivering.pool_and_client()
    async with pool, client:
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))
        at_once = delivering.in_flight()
        free = asyncio.Semaphore(at_once)

        @queue.entrypoint("deliver")
        async def deliver(job: Job) -> None:
            assert job.payload is not None
            async with free:
                await delivering.deliver_async(job.payload.decode(), pool=pool, client=client)

        # Its own limits count a job until its end is written, which is done about once a second, so few would run.
        await queue.run(batch_size=max(10, at_once))


if __name__ == "__main__":
    asyncio.run(enqueue(json.load(sys.stdin)) if sys.argv[1] == "enqueue" else work())

"""procrastinate, a queue in PostgreSQL: one worker process, an event loop.

python -m bench.peers.worker_procrastinate enqueue < ids; python -m bench.peers.worker_procrastinate work
"""

import asyncio
import json
import os
import sys
from typing import Any

from procrastinate import App, PsycopgConnector

from bench.peers import delivering

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))
shared: dict[str, Any] = {}


@app.task(name="deliver")
async def deliver(delivery_id: str) -> None:
    """One delivery."""
    await delivering.deliver_async(delivery_id, **shared)


async def enqueue(delivery_ids: list[str]) -> None:
    """All of them, and the queue's own tables where they are missing."""
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        await deliver.batch_defer_async(*[{"delivery_id": delivery_id} for delivery_id in delivery_ids])


async def work() -> None:
    """Until it is stopped."""
    pool, client = delivering.pool_and_client()
    async with app.open_async(), pool, client:
        shared.update(pool=pool, client=client)
        await app.run_worker_async(concurrency=delivering.in_flight(), delete_jobs="successful")


if __name__ == "__main__":
    asyncio.run(enqueue(json.load(sys.stdin)) if sys.argv[1] == "enqueue" else work())

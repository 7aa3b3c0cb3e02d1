"""Celery with Redis: one worker process with a thread for each delivery in flight.

python -m bench.peers.worker_celery enqueue < ids; python -m bench.peers.worker_celery work
"""

import json
import os
import sys

from celery import Celery

from bench.peers import delivering

app = Celery("deliveries", broker=os.environ["BROKER_URL"])
# Late acknowledgements, so that a crash loses no delivery, as with the others.
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_hijack_root_logger=False)


@app.task(name="deliver")
def deliver(delivery_id: str) -> None:
    """One delivery."""
    delivering.deliver(delivery_id)


def main() -> None:
    """Puts the deliveries of standard input into the queue, or works until it is stopped."""
    if sys.argv[1] == "enqueue":
        for delivery_id in json.load(sys.stdin):
            deliver.delay(delivery_id)
    else:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
        app.worker_main(["worker", "--pool=threads", f"--concurrency={delivering.in_flight()}", *quiet])


if __name__ == "__main__":
    main()

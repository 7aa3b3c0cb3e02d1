"""Local only: sends the wake-ups of an earlier run's deliveries again.

The emulated queue forgets everything when `make run` ends, the database does not. On AWS a message of every unfinished
delivery is in SQS, which forgets nothing for days; there nothing looks for such rows.

moto's queue walks through all of its messages at every call. So a wake-up is held here until its delivery is due, and
goes to the queue, in batches of ten, only while little waits there: the work is the same for each of them, however many
there are. The record is docs/adr/0025-late-wakeups-on-one-machine.md.
"""

import http.client
import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from local.postgres import Postgres
from local.sqs import MOST_IN_A_BATCH, Queue, SqsFault, hang_up
from wakeups.sqs import encode

MAX_WAITING = 100  # the event source has four batches of ten under way and the next ones at hand
_PAUSE_SECONDS = 0.2
_LOGGER = logging.getLogger(__name__)
_UNFINISHED = """
    SELECT delivery.delivery_id,
           extract(epoch FROM CASE delivery.state WHEN 'sending' THEN delivery.leased_until ELSE delivery.due_at END),
           delivery.tenant_id || ':' || destination.name
    FROM delivery JOIN destination USING (tenant_id, destination_id)
    WHERE delivery.state IN ('pending', 'sending')
"""


def unfinished(postgres: Postgres, *, database: str) -> list[Wakeup]:
    """One wake-up for each unfinished delivery."""
    rows = (row.split("|") for row in postgres.run_sql(_UNFINISHED, database=database).splitlines())
    return [
        Wakeup(
            delivery_id=DeliveryId(UUID(delivery_id)), due_at=datetime.fromtimestamp(float(due_at), UTC), group=group
        )
        for delivery_id, due_at, group in rows
    ]


class RestoredWakeups:
    """Sends each of `wakeups` once its delivery is due, the earliest first."""

    def __init__(self, wakeups: Iterable[Wakeup], *, queue: Queue) -> None:
        self._left = sorted(wakeups, key=lambda wakeup: wakeup.due_at, reverse=True)
        self._queue = queue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._feed_until_done, name="wakeups-again", daemon=True)

    def __len__(self) -> int:
        """How many are still to be sent."""
        return len(self._left)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def is_healthy(self) -> bool:
        """Whether it sends on, or has sent them all. An unexpected error ends it, so its owner must check."""
        return not self._left or self._thread.is_alive()

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def feed(self, *, now: datetime) -> None:
        """Send what is due, until enough of it waits in the queue. Two calls of the queue for ten wake-ups.

        A wake-up leaves the list once it is sent: one that is sent twice after a fault does no harm, as every one may.
        """
        while (due := self._due(now)) and self._queue.waiting() < MAX_WAITING:
            self._queue.send_batch((encode(wakeup), wakeup.group) for wakeup in due)
            del self._left[-len(due) :]

    def _due(self, now: datetime) -> list[Wakeup]:
        return [wakeup for wakeup in reversed(self._left[-MOST_IN_A_BATCH:]) if wakeup.due_at <= now]

    def _feed_until_done(self) -> None:
        try:
            while self._left and not self._stopping.wait(_PAUSE_SECONDS):
                self._feed_or_log()
        except Exception:
            _LOGGER.exception("no more wake-ups of the last run are sent")
        finally:
            hang_up()

    def _feed_or_log(self) -> None:
        try:
            self.feed(now=datetime.now(UTC))
        except (OSError, http.client.HTTPException, SqsFault) as error:
            _LOGGER.warning("cannot send the wake-ups of the last run: %s", error)

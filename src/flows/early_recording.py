"""Record what ended early, while others of the batch are still on their way: a worker that dies then loses less.

One statement more for a batch that is slow, none for one that is not. It runs in a thread of its own, for the client
must go on turning: a database that hangs must not stall transfers or put off their deadlines.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from db import attempts
from domain.deliveries import Claim
from domain.errors import DatabaseUnavailable, StatementRefused
from domain.ids import DeliveryId
from domain.outcomes import Exchange
from flows.judge import JudgedAttempt, judged
from flows.services import Services
from runtime.isolation import isolated
from runtime.observability import logger

PATIENCE_SECONDS = 1.0  # what a statement gets that still runs when the last transfer has ended

type QueueRetries = Callable[[Sequence[JudgedAttempt]], frozenset[int]]


class EarlyRecorder:
    """What ended early of one batch. `begin` is called once at most, from then on until `end` the database is taken.

    After `end`: `made` are the attempts by their delivery, `queued` says whether their retries have been seen to, with
    `refused` the places of those messages that must come back, and `moved` is what recording them moved, None where
    they are still to be recorded. `stuck` says that the database is not to be used any more.
    """

    def __init__(self, *, queue_retries: QueueRetries, services: Services) -> None:
        self.made: Mapping[DeliveryId, JudgedAttempt] = {}
        self.queued = False
        self.refused: frozenset[int] = frozenset()
        self.moved: frozenset[DeliveryId] | None = None
        self.stuck = False
        self._queue_retries = queue_retries
        self._by = services
        self._thread: threading.Thread | None = None

    def begin(self, claims: Sequence[Claim], ended: Mapping[int, Exchange], *, started_at: datetime) -> None:
        """Judges, queues retries and records, as for the whole batch; returns at once. `ended` goes by the places of
        `claims`."""
        work = partial(self._settle, [(claims[place], item) for place, item in ended.items()], started_at=started_at)
        run = partial(isolated, work, otherwise=lambda _: None, step="ahead")
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def end(self, *, until: datetime) -> Mapping[DeliveryId, JudgedAttempt]:
        """The attempts that were made. Waits for them to be settled, a moment; then cuts the connection, after which
        they may still use the database until `until`."""
        if self._thread is None:
            return {}
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._by.database.cut()
            self._thread.join(max(0.0, (until - self._by.clock()).total_seconds()))
        self.stuck = self._thread.is_alive()
        return self.made

    def _settle(self, ended: Sequence[tuple[Claim, Exchange]], *, started_at: datetime) -> None:
        services = self._by
        made = [judged(claim, exchange, started_at=started_at, services=services) for claim, exchange in ended]
        self.made = {item.claim.delivery_id: item for item in made}
        self.refused = self._queue_retries(made)
        self.queued = True
        try:
            self.moved = attempts.record(services.database, [item.record for item in made], now=services.clock())
        except (DatabaseUnavailable, StatementRefused) as error:
            logger.warning("what ended early is recorded with the others", reason=str(error), count=len(made))

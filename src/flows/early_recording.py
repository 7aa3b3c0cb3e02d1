"""Record attempts that ended early while others of the batch are still in flight, so that a crash loses less; and note
those that take long, so that their destination does not occupy all workers.

A slow batch costs one more statement for each, any other none. They run in a thread of their own, because the client
must continue meanwhile: a database that hangs must not stall transfers or delay their deadlines.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from db import attempts as table
from db import deliveries
from domain.deliveries import Claim
from domain.errors import DatabaseUnavailable, StatementRefused
from domain.ids import DeliveryId
from domain.limits import usual_share
from domain.outcomes import Exchange
from flows.gone import note_gone
from flows.judge import JudgedAttempt, judged
from flows.services import Services
from flows.wake import wake
from runtime.isolation import isolated
from runtime.observability import logger

GRACE_SECONDS = 1.0  # for a statement that is still running when the last transfer has ended

type QueueRetries = Callable[[Sequence[JudgedAttempt]], frozenset[int]]


class EarlyRecorder:
    """Records what ended early of one batch. Call `begin` and `note_slow` at most once each, from one thread; from then
    until `end` it uses the database.

    After `end`: `attempts` by their delivery. `queued` says whether their retries were queued, with `failed` the
    positions of messages that must come back. `moved` are the deliveries that recording updated, None where the
    attempts are still to be recorded. `stuck` says that the database must not be used any more.
    """

    def __init__(self, *, queue_retries: QueueRetries, services: Services) -> None:
        self.attempts: Mapping[DeliveryId, JudgedAttempt] = {}
        self.queued = False
        self.failed: frozenset[int] = frozenset()
        self.moved: frozenset[DeliveryId] | None = None
        self.stuck = False
        self._queue_retries = queue_retries
        self._services = services
        self._thread: threading.Thread | None = None

    def begin(self, claims: Sequence[Claim], ended: Mapping[int, Exchange], *, started_at: datetime) -> None:
        """Judges, queues retries and records, as for the whole batch; returns at once. The keys of `ended` are
        positions in `claims`."""
        work = partial(
            self._settle, [(claims[position], exchange) for position, exchange in ended.items()], started_at=started_at
        )
        self._run(work, step="record early")

    def note_slow(self, claims: Sequence[Claim], slow: Sequence[int], *, started_at: datetime) -> None:
        """Notes those that take long, by their positions in `claims`; returns at once. Where the tenant has set a
        concurrency, that alone limits how many workers a destination occupies."""
        noted = [claims[position] for position in slow if not _has_concurrency(claims[position])]
        if noted:
            self._run(partial(self._note, noted, started_at=started_at), step="note what takes long")

    def _run(self, work: Callable[[], None], *, step: str) -> None:
        """On a thread that first waits for the one before: they share a connection."""
        before = self._thread

        def run() -> None:
            if before is not None:
                before.join()
            isolated(work, otherwise=lambda _: None, step=step)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._thread = thread  # not one that could not be started: nobody could wait for its end

    def _note(self, claims: Sequence[Claim], *, started_at: datetime) -> None:
        services = self._services
        try:
            deliveries.note_slow(
                services.database,
                [claim.delivery_id for claim in claims],
                lease_id=claims[0].lease_id,
                since=started_at,
                share=usual_share(services.workers),
            )
        except (DatabaseUnavailable, StatementRefused) as error:
            logger.warning("what takes long was not noted", reason=str(error), count=len(claims))

    def end(self, *, until: datetime) -> Mapping[DeliveryId, JudgedAttempt]:
        """The attempts that were made. Waits a moment for them to be recorded; then cuts the connection, after which
        they may still use the database until `until`."""
        if self._thread is None:
            return {}
        self._thread.join(GRACE_SECONDS)
        if self._thread.is_alive():
            self._services.database.cut()
            self._thread.join(max(0.0, (until - self._services.clock()).total_seconds()))
        self.stuck = self._thread.is_alive()
        return self.attempts

    def _settle(self, ended: Sequence[tuple[Claim, Exchange]], *, started_at: datetime) -> None:
        services = self._services
        attempts = [judged(claim, exchange, started_at=started_at, services=services) for claim, exchange in ended]
        self.attempts = {attempt.claim.delivery_id: attempt for attempt in attempts}
        self.failed = self._queue_retries(attempts)
        self.queued = True
        try:
            written = table.record(
                services.database,
                [attempt.record for attempt in attempts],
                now=services.clock(),
                note_gone=partial(note_gone, services=services),
            )
        except (DatabaseUnavailable, StatementRefused) as error:
            logger.warning("what ended early is recorded with the others", reason=str(error), count=len(attempts))
            return
        self.moved = written.moved
        wake(written.woken, services=services)


def _has_concurrency(claim: Claim) -> bool:
    limits = claim.destination.options.limits
    return limits is not None and limits.concurrency is not None

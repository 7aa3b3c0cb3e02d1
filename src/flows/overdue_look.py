"""Look now and then, beside other work, whether deliveries are overdue that nobody will move: their messages are gone.

It only counts them, for an alarm; `wake_overdue` moves them. An idle stack does not look, so that its database may
pause; what is overdue there is counted when the next delivery comes.
"""

from datetime import datetime, timedelta
from functools import partial

from db import deliveries
from flows.services import Services
from runtime.isolation import isolated
from runtime.metrics import Metric
from runtime.observability import count

LOOK_SECONDS = 900.0  # between two looks of a process
OVERDUE_SECONDS = 1800.0  # two rounds of the longest delay of a message, and no retry is late by that much


class OverdueLook:
    """The looks of one process. Others look too; the largest number counts."""

    def __init__(self) -> None:
        self._next_at: datetime | None = None

    def go_on(self, *, services: Services) -> None:
        """Looks if it is time to. The batch is done by now, so nothing is raised."""
        now = services.clock()
        if self._next_at is None:  # nothing at once: a new process has more urgent things to do
            self._next_at = now + timedelta(seconds=LOOK_SECONDS)
        if now < self._next_at:
            return
        self._next_at = now + timedelta(seconds=LOOK_SECONDS)
        isolated(partial(_look, now, services), otherwise=lambda _: None, step="overdue")


def _look(now: datetime, services: Services) -> None:
    since = now - timedelta(seconds=OVERDUE_SECONDS)
    count(Metric.DELIVERIES_OVERDUE, deliveries.count_overdue(services.database, since=since))

"""Look now and then, beside other work, whether deliveries are overdue that nobody will move: their messages are gone.

It only counts them, for an alarm; `wake_overdue` moves them. An idle stack does not look, so that its database may
pause; what is overdue there is counted when deliveries come again.
"""

from datetime import datetime, timedelta
from functools import partial

from db import deliveries
from domain.ids import DestinationId
from flows.beside import Beside, tried
from flows.services import Services
from runtime.metrics import Metric
from runtime.observability import count

LOOK_SECONDS = 900.0  # between two looks of a process
LOOKS = 4  # of all processes in that time, about, however many there are
OVERDUE_SECONDS = 1800.0  # two rounds of the longest delay of a message, and no retry is late by that much


class OverdueLook:
    """The looks of one process. Others look too; the largest number counts.

    Where there are more destinations than a look reads, the next look goes on behind them.
    """

    def __init__(self) -> None:
        self._beside = Beside(every_seconds=LOOK_SECONDS)
        self._is_first = True
        self._after: DestinationId | None = None

    def go_on(self, *, services: Services) -> None:
        """Looks if it is time to. The batch is done by now, so nothing is raised."""
        now, is_first, self._is_first = services.clock(), self._is_first, False
        if self._beside.is_due(now=now, chance=services.chance) and (is_first or self._is_one_of(services)):
            tried(partial(self._look, now, services), step="overdue")

    def _is_one_of(self, services: Services) -> bool:
        """Whether this process is among the few that look: as many processes as there may be need not."""
        return services.chance() < LOOKS / services.workers

    def _look(self, now: datetime, services: Services) -> None:
        since = now - timedelta(seconds=OVERDUE_SECONDS)
        found = deliveries.count_overdue(services.database, since=since, after=self._after)
        self._after = found.following
        count(Metric.DELIVERIES_OVERDUE, found.count)

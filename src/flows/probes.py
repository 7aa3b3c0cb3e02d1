"""When destinations were verified last, in this process: so that nobody is asked all the time."""

import math
from datetime import datetime, timedelta

from domain.ids import DestinationId

REMEMBERED_PROBES = 1000


class Probes:
    """The moments of the last requests; the oldest of too many is forgotten."""

    def __init__(self) -> None:
        self._at: dict[DestinationId, datetime] = {}

    def seconds_left(self, destination_id: DestinationId, *, now: datetime, apart_seconds: float) -> int:
        """How long the next one has to wait; 0 where it may be made, which is noted."""
        last = self._at.get(destination_id)
        if last is not None and now < last + timedelta(seconds=apart_seconds):
            return math.ceil((last + timedelta(seconds=apart_seconds) - now).total_seconds())
        self._at.pop(destination_id, None)
        self._at[destination_id] = now
        while len(self._at) > REMEMBERED_PROBES:
            del self._at[next(iter(self._at))]
        return 0

"""When a worker counts what attempts came to."""

from functools import partial

from flows.beside import Beside, tried
from flows.services import Services

COUNT_SECONDS = 240.0  # less than the shortest time after which an idle Aurora pauses (300 s)


class TallyLook:
    """Of one process: every four minutes, and at once again while there is more. What a stack that has stopped did not
    count is counted when somebody asks for the numbers."""

    def __init__(self) -> None:
        self._beside = Beside(every_seconds=COUNT_SECONDS)

    def go_on(self, *, services: Services) -> None:
        """Counts if it is time to. Nothing is raised: it is counted later."""
        now = services.clock()
        if not self._beside.is_due(now=now, chance=services.chance):
            return
        from flows.tallies import count_beside  # most batches need none of it

        if tried(partial(count_beside, services=services), step="tally"):
            self._beside.again(now=now, after_seconds=0)

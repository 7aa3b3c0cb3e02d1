"""When a worker seals attempts into the audit log."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from flows.audit import ActServices
from flows.beside import Beside, tried
from flows.seal_attempts import INTERVAL_ATTEMPTS, seal_attempts

if TYPE_CHECKING:
    from flows.checkpoints import CheckpointWriter

SEAL_SECONDS = 240.0  # less than the shortest time after which an idle Aurora pauses (300 s)


class SealSchedule:
    """When a worker seals, beside its other work: every four minutes, and at once again while intervals are full. So an
    attempt is sealed soon after, as long as there is work, and nothing wakes a database for it."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
        checkpoints: "CheckpointWriter | None" = None,
    ) -> None:
        """`checkpoints` writes what was sealed where nobody can change it; None where the stack names no bucket."""
        self._clock, self._chance = clock, chance
        self._checkpoints = checkpoints
        self._beside = Beside(every_seconds=SEAL_SECONDS)

    def run(self, *, services: ActServices) -> None:
        """Seals an interval where it is time to. Nothing is raised: they are sealed later."""
        now = self._clock()
        if not self._beside.is_due(now=now, chance=self._chance):
            return
        sealed = tried(partial(seal_attempts, services=services), step="seal")
        if sealed is None:  # nothing is written where the database is away, or another process seals
            return
        if sealed >= INTERVAL_ATTEMPTS:
            self._beside.again(now=now, after_seconds=0)
        if self._checkpoints is not None:
            tried(partial(self._checkpoints.write, services=services), step="checkpoint")

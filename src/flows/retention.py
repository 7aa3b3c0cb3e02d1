"""Delete what ended long ago: deliveries with their bodies, attempts and idempotency keys.

A walk goes through all destinations, page by page, each one short statement. It runs beside other work, when the
database is awake anyway (`Retention.go_on`), and whenever an operator asks for it (`delete_old`).
"""

from datetime import datetime, timedelta
from functools import partial

from db import retention as table
from db.retention import Place
from domain.values import value_class
from flows.beside import Beside, tried
from flows.services import Services
from runtime.observability import logger

WALK_SECONDS = 3600.0  # between two walks of a process beside its other work
PAGE_SECONDS = 20.0  # between two pages of one
RESERVE_SECONDS = 15.0  # a statement may take ten, and the answer must be given


@value_class(frozen=True, slots=True, kw_only=True)
class DeletedOld:
    """How many deliveries were deleted; where the next call continues, None where nothing is left."""

    count: int
    following: Place | None


def delete_old(*, place: Place | None, end_at: datetime, services: Services) -> DeletedOld:
    """Deletes deliveries whose retention is over, from `place` on, until `end_at`. Raises DatabaseUnavailable."""
    ended_before = _ended_before(services)
    count = 0
    following = place or _first(services)
    while following is not None and services.clock() + timedelta(seconds=RESERVE_SECONDS) < end_at:
        deleted = table.delete_page(services.database, following, ended_before=ended_before)
        count += deleted.count
        following = deleted.following or _behind(following, services)
    logger.info("old deliveries deleted", count=count)
    return DeletedOld(count=count, following=following)


def _ended_before(services: Services) -> datetime:
    return services.clock() - timedelta(days=services.retention_days)


def _first(services: Services) -> Place | None:
    destination_id = table.next_destination(services.database, after=None)
    return None if destination_id is None else Place(destination_id=destination_id)


def _anywhere(services: Services) -> Place | None:
    destination_id = table.destination_at(services.database, share=services.chance())
    return None if destination_id is None else Place(destination_id=destination_id)


def _behind(place: Place, services: Services) -> Place | None:
    destination_id = table.next_destination(services.database, after=place.destination_id)
    return None if destination_id is None else Place(destination_id=destination_id)


class Retention:
    """The walk of one process beside its other work: a page now and then, so that it costs batches next to nothing.

    Other processes walk too; what one has deleted, the others do not find. The first walk begins anywhere, or processes
    that live for one page alone would all be at the first destination. The next one follows it at once, with the rest.
    """

    def __init__(self) -> None:
        self._beside = Beside(every_seconds=PAGE_SECONDS)
        self._place: Place | None = None
        self._walks = 0

    def go_on(self, *, services: Services) -> None:
        """Deletes a page if it is time to. The batch is done by now, so nothing is raised."""
        now = services.clock()
        if not self._beside.is_due(now=now, chance=services.chance):
            return
        if self._place is None:
            self._walks += 1
        self._place = tried(partial(self._page, services), step="retention")
        is_over = self._place is None and self._walks > 1
        self._beside.again(now=now, after_seconds=WALK_SECONDS if is_over else PAGE_SECONDS)

    def _page(self, services: Services) -> Place | None:
        place = self._place or (_anywhere(services) if self._walks == 1 else _first(services))
        if place is None:
            return None
        deleted = table.delete_page(services.database, place, ended_before=_ended_before(services))
        if deleted.count:
            logger.info("old deliveries deleted", count=deleted.count)
        return deleted.following or _behind(place, services)

"""Delete what ended long ago: bodies and responses first, where a destination says so, and then the deliveries with
their attempts and idempotency keys.

A walk goes through all destinations, page by page, each one short statement. It is made once a day, beside other work,
when the database is awake anyway (`RetentionWalk.go_on`): all processes make it together, and it goes on where it was,
whichever of them stops. An operator makes another one at any time (`retire_old`).
"""

from datetime import datetime, timedelta
from functools import partial

from db import retention as table
from db.retention import Place, Retained, RetiredPage
from domain.retention import cutoffs
from domain.values import value_class
from flows.beside import Beside, tried
from flows.services import Services
from runtime.observability import logger

WALK_SECONDS = 86_400.0  # from the end of a walk to the beginning of the next one
LOOK_SECONDS = 600.0  # until a process looks again whether one is due
TURN_SECONDS = 20.0  # between two turns of a process, in which it makes a few pages
TURN_PAGES = 10
PAGES_SECONDS = 2.0  # how long it makes pages in one turn
TAKEN_SECONDS = 60.0  # longer than a turn may take, with a statement that takes its ten seconds
RESERVE_SECONDS = 15.0  # a statement may take ten, and the answer must be given


@value_class(frozen=True, slots=True, kw_only=True)
class Retired:
    """How many deliveries were deleted, of how many the bodies and the responses; where the next call continues, None
    where nothing is left."""

    deleted: int = 0
    bodies: int = 0
    responses: int = 0
    following: Place | None = None

    def and_(self, page: RetiredPage, *, following: Place | None) -> "Retired":
        """Together with another page."""
        return Retired(
            deleted=self.deleted + page.deleted,
            bodies=self.bodies + page.bodies,
            responses=self.responses + page.responses,
            following=following,
        )


def retire_old(*, place: Place | None, end_at: datetime, services: Services) -> Retired:
    """Deletes what is over, from `place` on, until `end_at`. Raises DatabaseUnavailable."""
    return _pages(place, until=end_at - timedelta(seconds=RESERVE_SECONDS), most=None, services=services)


def _pages(place: Place | None, *, until: datetime, most: int | None, services: Services) -> Retired:
    """Page by page, from `place` on (None: the beginning), until that moment, or as many as `most`."""
    look_at = partial(_looked_at, services=services)
    after = None if place is None else place.destination_id
    retained = look_at(table.next_destination(services.database, after=after, including=place is not None))
    retired = Retired(following=place or _beginning(retained))
    pages = 0
    while retained is not None and retired.following is not None and services.clock() < until and pages != most:
        when = cutoffs(retained.options, stack_days=services.retention_days, now=services.clock())
        page = table.retire_page(services.database, retired.following, cutoffs=when)
        if page.following is None:
            retained = look_at(table.next_destination(services.database, after=retained.destination_id))
        retired = retired.and_(page, following=page.following or _beginning(retained))
        pages += 1
    if retired.deleted or retired.bodies or retired.responses:
        logger.info("old deliveries deleted", count=retired.deleted, bodies=retired.bodies, responses=retired.responses)
    return retired


def _looked_at(retained: Retained | None, *, services: Services) -> Retained | None:
    """The walk comes by every destination once a day: a certificate that ends soon is told of then."""
    if retained is not None and retained.certificate is not None:
        from flows.certificate_events import tell_of_end  # hardly any destination has one

        tried(partial(tell_of_end, retained, retained.certificate, services=services), step="tell of a certificate")
    return retained


def _beginning(retained: Retained | None) -> Place | None:
    return None if retained is None else Place(destination_id=retained.destination_id)


class RetentionWalk:
    """The turns of one process in the walk: a few pages now and then, so that it costs batches next to nothing."""

    def __init__(self) -> None:
        self._beside = Beside(every_seconds=TURN_SECONDS)

    def go_on(self, *, services: Services) -> None:
        """Makes a turn if it is time to. The batch is done by now, so nothing is raised."""
        now = services.clock()
        if self._beside.is_due(now=now, chance=services.chance):
            seconds = tried(partial(_turn, services), step="retention")
            self._beside.again(now=now, after_seconds=LOOK_SECONDS if seconds is None else seconds)


def _turn(services: Services) -> float:
    """A few pages, where a walk is due; returns in how many seconds to look again."""
    now, database = services.clock(), services.database
    walker_id = services.new_id(now)
    taken = table.take_walk(database, walker_id=walker_id, now=now, for_seconds=TAKEN_SECONDS)
    if taken is None:
        return LOOK_SECONDS
    until = now + timedelta(seconds=PAGES_SECONDS)
    retired = _pages(taken.place, until=until, most=TURN_PAGES, services=services)
    next_at = now + timedelta(seconds=WALK_SECONDS)
    table.leave_walk(database, retired.following, walker_id=walker_id, now=services.clock(), next_at=next_at)
    return LOOK_SECONDS if retired.following is None else TURN_SECONDS

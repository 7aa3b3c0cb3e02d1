"""What ended long ago goes, a page at a time; and the walk through all of it, which all processes make together."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.ids import DeliveryId, DestinationId, uuid7_floor
from domain.retention import Cutoffs, RetentionOptions
from domain.values import value_class
from runtime.conversion import converted

PAGE = 500  # deliveries of one statement, so that each is short


@value_class(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a walk through all deliveries has come: at a destination, behind a delivery."""

    destination_id: DestinationId
    behind: DeliveryId | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Retained:
    """A destination, and what it says of retention."""

    destination_id: DestinationId
    options: RetentionOptions | None


@value_class(frozen=True, slots=True, kw_only=True)
class RetiredPage:
    """How many deliveries a page deleted, of how many others the bodies and the responses; and where the next page
    begins, None where nothing is left at this destination."""

    deleted: int
    bodies: int
    responses: int
    following: Place | None


@value_class(frozen=True, slots=True, kw_only=True)
class TakenWalk:
    """A walk that is due, and where it goes on; None at its beginning."""

    place: Place | None


def next_destination(database: Database, *, after: DestinationId | None, including: bool = False) -> Retained | None:
    """The destination behind `after`, or `including` itself; whoever's it is, deleted or not; None behind the last."""
    rows = database.read(
        """
        SELECT destination_id, options -> 'retention' AS retention
        FROM destination
        WHERE destination_id > %(after)s OR %(including)s AND destination_id = %(after)s
        ORDER BY destination_id LIMIT 1
        """,
        {"after": after or UUID(int=0), "including": including},
    )
    return _retained(rows[0]) if rows else None


def _retained(row: Mapping[str, Any]) -> Retained:
    stored = row["retention"]
    return Retained(
        destination_id=DestinationId(row["destination_id"]),
        options=None if stored is None else converted(stored, RetentionOptions),
    )


def retire_page(database: Database, place: Place, *, cutoffs: Cutoffs) -> RetiredPage:
    """Deletes what is over of the next deliveries of a destination, oldest first.

    Where the connection breaks, the statement is run again: it deletes what is left, and may be one page further. By
    the database's clock, nothing goes that ended less than a day ago.
    """
    (row,) = database.read(
        """
        SELECT deleted, bodies, responses, looked_at, last_id
        FROM apply_retention(%(destination_id)s, %(records_before)s, %(bodies_before)s, %(responses_before)s,
                             %(behind)s, %(below)s, %(most)s)
        """,
        {
            "destination_id": place.destination_id,
            "records_before": cutoffs.records,
            "bodies_before": cutoffs.bodies,
            "responses_before": cutoffs.responses,
            "behind": place.behind or UUID(int=0),
            "below": uuid7_floor(cutoffs.latest),  # what was accepted later has not ended before
            "most": PAGE,
        },
    )
    following = None
    if row["looked_at"] == PAGE:
        following = Place(destination_id=place.destination_id, behind=DeliveryId(row["last_id"]))
    return RetiredPage(deleted=row["deleted"], bodies=row["bodies"], responses=row["responses"], following=following)


def take_walk(database: Database, *, walker_id: UUID, now: datetime, for_seconds: float) -> TakenWalk | None:
    """Takes the walk for so long, where it is due and nobody has it; None otherwise."""
    rows = database.rows(
        """
        UPDATE retention_walk SET taken_by = %(walker_id)s, taken_until = %(until)s
        WHERE begins_at <= %(now)s AND (taken_until <= %(now)s OR taken_by = %(walker_id)s)
        RETURNING destination_id, behind
        """,
        {"walker_id": walker_id, "until": now + timedelta(seconds=for_seconds), "now": now},
        repeatable=True,
    )
    if not rows:
        return None
    destination_id, behind = rows[0]["destination_id"], rows[0]["behind"]
    if destination_id is None:
        return TakenWalk(place=None)
    return TakenWalk(
        place=Place(destination_id=DestinationId(destination_id), behind=None if behind is None else DeliveryId(behind))
    )


def leave_walk(database: Database, place: Place | None, *, walker_id: UUID, now: datetime, next_at: datetime) -> None:
    """Leaves the walk to whoever goes on at `place`; where that is None it is at its end, and begins at `next_at`."""
    database.rows(
        """
        UPDATE retention_walk
        SET destination_id = %(destination_id)s, behind = %(behind)s, taken_until = %(now)s,
            begins_at = CASE WHEN %(destination_id)s::uuid IS NULL THEN %(next_at)s ELSE begins_at END
        WHERE taken_by = %(walker_id)s
        RETURNING only_row
        """,
        {
            "destination_id": None if place is None else place.destination_id,
            "behind": None if place is None else place.behind,
            "walker_id": walker_id,
            "now": now,
            "next_at": next_at,
        },
        repeatable=True,
    )

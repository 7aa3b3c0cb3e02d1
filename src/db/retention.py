"""Deleting what ended long ago, a page at a time."""

from datetime import datetime
from uuid import UUID

from db.connection import Database
from domain.ids import DeliveryId, DestinationId, uuid7_floor
from domain.values import value_class

PAGE = 500  # deliveries of one statement, so that each is short


@value_class(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a walk through all deliveries has come: at a destination, behind a delivery."""

    destination_id: DestinationId
    behind: DeliveryId | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class DeletedPage:
    """How many deliveries a page deleted, and where the next page begins; None where nothing is left at this
    destination."""

    count: int
    following: Place | None


def next_destination(database: Database, *, after: DestinationId | None) -> DestinationId | None:
    """The destination behind `after`, whoever's it is, deleted or not; None behind the last one."""
    rows = database.read(
        """
        SELECT destination_id FROM destination WHERE destination_id > %(after)s ORDER BY destination_id LIMIT 1
        """,
        {"after": after or UUID(int=0)},
    )
    return DestinationId(rows[0]["destination_id"]) if rows else None


def destination_at(database: Database, *, share: float) -> DestinationId | None:
    """The destination that `share` of all come before, by id, in [0, 1); None where there is none."""
    rows = database.read(
        """
        SELECT destination_id FROM destination ORDER BY destination_id
        OFFSET floor(%(share)s * (SELECT count(*) FROM destination)) LIMIT 1
        """,
        {"share": share},
    )
    return DestinationId(rows[0]["destination_id"]) if rows else None


def delete_page(database: Database, place: Place, *, ended_before: datetime) -> DeletedPage:
    """Deletes what ended before that moment among the next deliveries of a destination, oldest first.

    Where the connection breaks, the statement is run again: it deletes what is left, and may be one page further.
    Raises StatementRefused for a moment that is less than a day ago by the database's clock.
    """
    (row,) = database.read(
        """
        SELECT deleted, looked_at, last_id
        FROM delete_ended(%(destination_id)s, %(ended_before)s, %(behind)s, %(below)s, %(most)s)
        """,
        {
            "destination_id": place.destination_id,
            "ended_before": ended_before,
            "behind": place.behind or UUID(int=0),
            "below": uuid7_floor(ended_before),  # what was accepted later has not ended before
            "most": PAGE,
        },
    )
    following = None
    if row["looked_at"] == PAGE:
        following = Place(destination_id=place.destination_id, behind=DeliveryId(row["last_id"]))
    return DeletedPage(count=row["deleted"], following=following)

"""What ended long ago goes, a page at a time; and the walk through all of it, which all processes make together."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.connection import Database
from domain.certificates import CertificateFacts
from domain.ids import DeliveryId, DestinationId, TenantId, uuid7_floor
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
    """A destination, and what it says of retention. `certificate` is its client certificate, where `events_to` is to be
    told of that one's end. `certificate_told` is what was told last, as `told_of` says it."""

    destination_id: DestinationId
    tenant_id: TenantId
    options: RetentionOptions | None
    certificate: CertificateFacts | None = None
    events_to: DestinationId | None = None
    certificate_told: str | None = None


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
        SELECT destination_id, tenant_id, options -> 'retention' AS retention,
               CASE WHEN options ? 'events_to' AND deleted_at IS NULL THEN options -> 'certificate' END AS certificate,
               (options ->> 'events_to')::uuid AS events_to, certificate_told
        FROM destination
        WHERE destination_id > %(after)s OR %(including)s AND destination_id = %(after)s
        ORDER BY destination_id LIMIT 1
        """,
        {"after": after or UUID(int=0), "including": including},
    )
    return _retained(rows[0]) if rows else None


def _retained(row: Mapping[str, Any]) -> Retained:
    stored, certificate = row["retention"], row["certificate"]
    return Retained(
        destination_id=DestinationId(row["destination_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        options=None if stored is None else converted(stored, RetentionOptions),
        certificate=None if certificate is None else converted(certificate, CertificateFacts),
        events_to=row["events_to"] and DestinationId(row["events_to"]),
        certificate_told=row["certificate_told"],
    )


def told_of(certificate: CertificateFacts, *, days: int) -> str:
    """What is stored once it was told that a certificate ends within so many days."""
    return f"{certificate.sha256}-{days}"


def tell_certificate(
    database: Database,
    retained: Retained,
    certificate: CertificateFacts,
    *,
    days: int,
    event_id: DeliveryId,
    now: datetime,
) -> bool:
    """Writes the event that a certificate ends within so many days; False where it was told, or is not used any more.

    Where the connection breaks, the statement is run again: the event is there then, and is not written a second time.
    """
    rows = database.rows(
        """
        SELECT tell_certificate(%(destination_id)s, %(event_id)s, %(sha256)s, %(days)s, %(now)s)
               OR EXISTS (SELECT FROM delivery WHERE delivery_id = %(event_id)s) AS told  -- by the first run
        """,
        {
            "destination_id": retained.destination_id,
            "event_id": event_id,
            "sha256": certificate.sha256,
            "days": days,
            "now": now,
        },
        repeatable=True,
    )
    return bool(rows[0]["told"])


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

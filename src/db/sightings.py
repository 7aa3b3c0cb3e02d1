"""Which destinations have answered to requests from one egress address, as far as the newest deliveries tell."""

from datetime import datetime
from ipaddress import IPv4Address
from uuid import UUID

from db.connection import Database
from domain.deliveries import State
from domain.ids import DestinationId
from domain.values import value_class

# Of each destination, ended and unfinished ones each: the statement reads a page however long the history is.
DELIVERIES_LOOKED_AT = 100
ATTEMPTS_LOOKED_AT = 25
DESTINATIONS_OF_A_PAGE = 50
_PHASES = sorted({state.phase for state in State})


@value_class(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A destination, and its last answer to a request from the address: when that was sent and its status.

    `answered_elsewhere_at` is the same for every other address. All are None where none of the newest deliveries has
    such an answer.
    """

    destination_id: DestinationId
    tenant: str
    name: str
    state: str
    answered_at: datetime | None
    status: int | None
    answered_elsewhere_at: datetime | None


def seen_from(database: Database, *, address: IPv4Address, after: DestinationId | None) -> list[Sighting]:
    """The DESTINATIONS_OF_A_PAGE oldest destinations of all tenants whose ids come after `after` (None: from the
    first)."""
    rows = database.read(
        """
        SELECT destination.destination_id, tenant.name AS tenant, destination.name, destination.state,
               answered.answered_at, answered.status, answered.answered_elsewhere_at
        FROM (
            SELECT destination_id, tenant_id, name, state
            FROM destination
            WHERE destination_id > %(after)s AND deleted_at IS NULL
            ORDER BY destination_id
            LIMIT %(destinations)s
        ) AS destination
        JOIN tenant USING (tenant_id)
        -- The newest deliveries of each phase are read off the end of their part of an index, attempts by their key.
        CROSS JOIN LATERAL (
            SELECT max(attempt.started_at) FILTER (WHERE attempt.egress_address = %(address)s) AS answered_at,
                   (array_agg(attempt.status ORDER BY attempt.started_at DESC)
                       FILTER (WHERE attempt.egress_address = %(address)s))[1] AS status,
                   max(attempt.started_at) FILTER (WHERE attempt.egress_address <> %(address)s)
                       AS answered_elsewhere_at
            FROM unnest(%(phases)s::text[]) AS listed (phase)
            CROSS JOIN LATERAL (
                SELECT delivery_id
                FROM delivery
                WHERE destination_id = ANY (ARRAY [destination.destination_id]) AND phase = ANY (ARRAY [listed.phase])
                ORDER BY destination_id DESC, phase DESC, delivery_id DESC
                LIMIT %(deliveries)s
            ) AS newest
            -- With a limit, so that it stays a look at the few attempts of each delivery. Of a join the planner makes a
            -- walk through the whole log where few attempts were answered.
            CROSS JOIN LATERAL (
                SELECT started_at, egress_address, status, outcome
                FROM attempt
                WHERE attempt.delivery_id = newest.delivery_id
                ORDER BY attempt.number DESC
                LIMIT %(attempts)s
            ) AS attempt
            WHERE attempt.outcome = 'answered'
        ) AS answered
        ORDER BY destination.destination_id
        """,
        {
            "after": after or DestinationId(UUID(int=0)),
            "address": address,
            "phases": _PHASES,
            "destinations": DESTINATIONS_OF_A_PAGE,
            "deliveries": DELIVERIES_LOOKED_AT,
            "attempts": ATTEMPTS_LOOKED_AT,
        },
    )
    return [Sighting(**row) for row in rows]

"""Taking away what is stored of deliveries' requests and of the responses to them."""

from db.connection import Database
from domain.audit import AuditCheckpoint, Entry
from domain.deliveries import State
from domain.ids import DeliveryId, TenantId
from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Expunged:
    """`done` says that the payload is gone, else the delivery is in a `state` in which it is needed. `checkpoint` is
    the entry of the audit log, None where none was written: the payload was gone before."""

    state: State
    done: bool
    checkpoint: AuditCheckpoint | None


def expunge(database: Database, *, tenant_id: TenantId, delivery_id: DeliveryId, entry: Entry) -> Expunged | None:
    """Deletes the payload of a delivery that has ended, and writes `entry`; None where the tenant has no such delivery.

    Where the connection breaks, the statement is run again, and finds that nothing is left to be deleted.
    """
    rows = database.rows(
        """
        WITH expunged AS MATERIALIZED (
            SELECT found_state, done, newly, %(tenant_id)s::uuid AS tenant_id
            FROM expunge_delivery(%(tenant_id)s, %(delivery_id)s)
        ), written AS (
            SELECT appended.*
            -- A column of the first one: without it, PostgreSQL may call the function before it looks at `newly`.
            FROM expunged CROSS JOIN LATERAL append_audit(tenant_id, %(at)s, %(content)s) AS appended
            WHERE newly
        )
        SELECT found_state, done, sequence, at, hash FROM expunged LEFT JOIN written ON true
        """,
        {"tenant_id": tenant_id, "delivery_id": delivery_id, "at": entry.at, "content": entry.content},
        repeatable=True,
    )
    if not rows:
        return None
    row = rows[0]
    checkpoint = None
    if row["sequence"] is not None:
        checkpoint = AuditCheckpoint(tenant_id=tenant_id, sequence=row["sequence"], at=row["at"], hash=row["hash"])
    return Expunged(state=State(row["found_state"]), done=row["done"], checkpoint=checkpoint)

"""Local only: gives the deliveries of an earlier run their wake-ups again.

The emulated queue forgets everything when `make run` ends, the database does not. On AWS a message of every unfinished
delivery is in SQS, which forgets nothing for days; there nothing looks for such rows.
"""

from datetime import UTC, datetime
from uuid import UUID

from domain.ids import DeliveryId
from domain.wakeups import Wakeup, delay_seconds
from local.postgres import Postgres
from local.sqs import Queue
from wakeups.sqs import encode

_UNFINISHED = """
    SELECT delivery.delivery_id,
           extract(epoch FROM CASE delivery.state WHEN 'sending' THEN delivery.leased_until ELSE delivery.due_at END),
           delivery.tenant_id || ':' || destination.name
    FROM delivery JOIN destination USING (tenant_id, destination_id)
    WHERE delivery.state IN ('pending', 'sending')
    ORDER BY delivery.delivery_id
"""


def send_again(postgres: Postgres, *, database: str, queue: Queue) -> int:
    """Send one wake-up per unfinished delivery; returns how many there were."""
    rows = postgres.run_sql(_UNFINISHED, database=database).splitlines()
    for row in rows:
        delivery_id, due_at, group = row.split("|")
        due = datetime.fromtimestamp(float(due_at), UTC)
        wakeup = Wakeup(delivery_id=DeliveryId(UUID(delivery_id)), due_at=due, group=group)
        queue.send(encode(wakeup), group=group, delay_seconds=delay_seconds(wakeup, now=datetime.now(UTC)))
    return len(rows)

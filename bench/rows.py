"""Lists and claims in a small table and in a large one."""

from contextlib import closing
from statistics import median
from uuid import UUID

import psycopg

from bench.figures import heading, ratio, say, spread, table
from bench.side import Side
from bench.stage import Stage, superuser

SMALL = 10_000
ROUNDS = 7
LISTS = 30  # of each kind per round
CLAIMS = 8  # batches of ten per round
BATCH = 10

_FILL = """
    WITH numbered AS (
        SELECT n, (lpad(to_hex(1767225600000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
               CASE n %% 100 WHEN 0 THEN 'failed' ELSE CASE WHEN n %% 10 = 1 THEN 'pending' ELSE 'delivered' END END
                   AS state
        FROM generate_series(1, %(count)s) AS n
    ), listed AS (
        SELECT array_agg(destination_id ORDER BY name) AS ids
        FROM destination
        WHERE tenant_id = %(tenant_id)s AND name IN ('once', 'partner')
    ), made AS (
        INSERT INTO delivery (
            delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
            metadata, state, attempts_made, attempts_allowed, due_at, created_at, finished_at)
        SELECT id, %(tenant_id)s, ids[1 + n %% 2], 'key-' || n, sha256(n::text::bytea), 'POST', '/orders', '',
               '[["Content-Type", "application/json"]]', '{"order": "42"}', state,
               CASE WHEN state = 'pending' THEN 0 ELSE 1 END, 10, '2026-01-01Z', '2026-01-01Z',
               CASE WHEN state <> 'pending' THEN timestamptz '2026-01-01Z' END
        FROM numbered CROSS JOIN listed
        RETURNING delivery_id
    )
    INSERT INTO delivery_body (delivery_id, body)
    SELECT delivery_id, convert_to(repeat('x', 800), 'UTF8') FROM made
"""


def run(stage: Stage, *, rows: int) -> None:
    """The same pages and the same claims in both tables, one after the other in each round."""
    heading(f"Lists (51 rows) and claims (of {BATCH}) at {SMALL:,} and at {rows:,} deliveries of one tenant")
    for name, count in (("small", SMALL), ("large", rows)):
        _make(stage, name, count)
    with Side(stage.environment()) as small, Side(stage.environment()) as large:
        sides = {"small": (small, SMALL), "large": (large, rows)}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
        for number in range(stage.times(ROUNDS) + 1):
            for name, (side, count) in sides.items():
                measured = _round(stage, side, name, count)
                for what, taken in measured.items():
                    if number > 0:  # the first warms up
                        found[name].setdefault(what, []).append(median(taken))
    lines = [
        [
            what,
            spread(found["large"][what], digits=0),
            spread(small_ones, digits=0),
            str(ratio(found["large"][what], small_ones)),
            "2.00",
        ]
        for what, small_ones in found["small"].items()
    ]
    table(["what", f"at {rows:,}, us", f"at {SMALL:,}, us", "ratio", "budget"], lines)
    say("\nA tenth is pending, one of a hundred failed, the rest delivered; half are for one destination.")


def pending(stage: Stage, count: int, *, destination: str = "partner", body_bytes: int = 800) -> list[UUID]:
    """The ids of that many deliveries that are due now."""
    with closing(superuser(stage)) as session:
        found = session.connection().execute(
            """
            WITH made AS (
                INSERT INTO delivery (
                    delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
                    metadata, state, attempts_made, attempts_allowed, due_at, created_at)
                SELECT id, tenant_id, destination_id, id::text, sha256(''), 'POST', '/orders', '',
                       '[["Content-Type", "application/json"]]', '{}', 'pending', 0, 10, '2026-01-01Z', '2026-01-01Z'
                FROM destination
                CROSS JOIN (SELECT gen_random_uuid() AS id FROM generate_series(1, %(count)s)) AS listed
                WHERE name = %(destination)s AND tenant_id = %(tenant_id)s
                RETURNING delivery_id
            )
            INSERT INTO delivery_body (delivery_id, body)
            SELECT delivery_id, convert_to(repeat('x', %(body_bytes)s), 'UTF8') FROM made
            RETURNING delivery_id
            """,
            {
                "count": count,
                "destination": destination,
                "tenant_id": stage.tenant_id,
                "body_bytes": body_bytes,
            },
        )
        return [row["delivery_id"] for row in found.fetchall()]


def _make(stage: Stage, name: str, count: int) -> None:
    """A database of that name with that many deliveries, vacuumed and analysed."""
    with psycopg.connect(stage.postgres.url(database="template1"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE postgres'.encode())
    with psycopg.connect(stage.postgres.url(database=name), autocommit=True) as connection:
        connection.execute("TRUNCATE delivery CASCADE")
        connection.execute(_FILL, {"count": count, "tenant_id": stage.tenant_id})
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _round(stage: Stage, side: Side, name: str, count: int) -> dict[str, list[float]]:
    url = stage.environment(database=name)["DATABASE_URL"]
    with psycopg.connect(stage.postgres.url(database=name)) as connection:
        middle = connection.execute(
            "SELECT delivery_id FROM delivery ORDER BY delivery_id OFFSET %s LIMIT 1", [count // 2]
        ).fetchone()
        destination = connection.execute("SELECT destination_id FROM destination WHERE name = 'partner'").fetchone()
        due = connection.execute(
            """
            SELECT delivery_id FROM delivery WHERE state = 'pending'
            ORDER BY sha256(delivery_id::text::bytea)  -- from all over the table
            LIMIT %s
            """,
            [stage.times(CLAIMS) * BATCH],
        ).fetchall()
    assert middle is not None
    assert destination is not None
    listed: dict[str, list[float]] = side.do(
        "lists",
        url=url,
        tenant_id=str(stage.tenant_id),
        destination_id=str(destination[0]),
        middle=str(middle[0]),
        rounds=stage.times(LISTS),
    )
    ids = [str(row[0]) for row in due]
    batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    found = {f"list: {what}": taken for what, taken in listed.items()}
    return found | {f"claim {BATCH}": side.do("claims", url=url, batches=batches)}

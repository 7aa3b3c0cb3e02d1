"""What deliveries take of the database: bytes, log (WAL), updates in place, and what each list reads. No clock.

All figures are counts of PostgreSQL's. Full-page images are off, as Aurora writes none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import batched, product
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

from bench.figures import heading, markdown, say
from bench.stage import Stage, add_destinations
from db import attempts, deliveries
from db.connection import Database, Parameters, Row
from db.deliveries import Filter, Lease, page
from domain.deliveries import Attempt, Claim, NewDelivery, Record, State, StoredResponse
from domain.ids import AttemptId, DeliveryId, DestinationId, LeaseId, TenantId, uuid7_floor
from domain.outcomes import OutcomeKind, Timings
from runtime.settings import DatabaseSettings

SIZES = (10_000, 100_000, 1_000_000)
SAMPLE = 1_000  # deliveries whose log is measured, in each table
TURNOVERS = 10
TURNED_OVER = 10_000
BATCH = 10
BEHIND = 200  # how many are accepted between a delivery's acceptance and its attempt
PAGE = 51
BODY = b'{"order": 42, "items": [' + b'{"sku": "A-1"}, ' * 48 + b"{}]}"  # 796 bytes
HEADERS = (("Accept", "application/json"), ("Content-Type", "application/json"), ("X-Request-Id", "0" * 32))
RESPONSE = StoredResponse(
    status=200, headers=HEADERS, body=b"x" * 200, length_bytes=200, sha256=b"s" * 32, truncated=False
)
STEPS = ("accept", "claim", "retry", "end")

# Deliveries live in the tables as by the statements of src/db, in batches that commit: accepted, claimed BEHIND later,
# every tenth batch again after a retry; every tenth is left pending, and of the last ones one batch sending.
_LIFE = """
CREATE FUNCTION ids_of(first bigint) RETURNS uuid[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(
        (lpad(to_hex(1767225600000 + first + n), 12, '0') || '70008' || lpad(to_hex(first + n), 15, '0'))::uuid)
    FROM generate_series(0, 9) AS n
$$;
CREATE PROCEDURE live(tenant uuid, destinations uuid[], first bigint, count bigint, body bytea, headers jsonb) AS $$
DECLARE
    number bigint;
    ids uuid[];
    lease CONSTANT uuid := gen_random_uuid();
    moment CONSTANT timestamptz := '2026-01-01Z';
BEGIN
    FOR number IN 0 .. count / 10 + 19 LOOP
        IF number < count / 10 THEN
            ids := ids_of(first + number * 10);
            INSERT INTO delivery (
                delivery_id, tenant_id, destination_id, idempotency_key, fingerprint, method, path, query, headers,
                metadata, state, attempts_made, attempts_allowed, due_at, created_at)
            SELECT id, tenant, destinations[CASE WHEN (number * 10 + place) % 500 < 2 THEN 3 ELSE 1 + place % 2 END],
                   id::text, sha256(id::text::bytea), 'POST', '/v1/orders/42', '', headers, '{"order": "42"}',
                   'pending', 0, 10, moment, moment
            FROM unnest(ids) WITH ORDINALITY AS listed (id, place);
            INSERT INTO delivery_body SELECT id, body FROM unnest(ids) AS id;
            COMMIT;
        END IF;
        IF number >= 20 AND number % 10 <> 9 THEN
            ids := ids_of(first + (number - 20) * 10);
            FOR attempt IN 1 .. CASE WHEN number % 10 = 5 THEN 2 ELSE 1 END LOOP
                UPDATE delivery
                SET state = 'sending', lease_id = lease, leased_until = moment, attempts_made = attempts_made + 1
                WHERE delivery_id = ANY (ids);
                COMMIT;
                EXIT WHEN number = count / 10 + 18;
                UPDATE delivery
                SET lease_id = NULL, leased_until = NULL,
                    due_at = moment + make_interval(secs => attempt),
                    finished_at = CASE WHEN number % 10 <> 5 OR attempt = 2 THEN moment END,
                    state = CASE WHEN number % 10 = 5 AND attempt = 1 THEN 'pending'
                                 WHEN number % 100 = 3 AND delivery_id = ids[1] THEN 'unknown'
                                 WHEN number % 100 = 4 AND delivery_id = ids[1] THEN 'canceled'
                                 WHEN number % 10 = 1 AND delivery_id = ids[1] THEN 'failed'
                                 ELSE 'delivered' END
                WHERE delivery_id = ANY (ids);
                INSERT INTO attempt (
                    attempt_id, delivery_id, number, outcome, started_at, dns_ms, connect_ms, tls_ms, first_byte_ms,
                    total_ms, remote_address, egress_address, status, response_headers, response_body, response_length,
                    response_sha256, response_truncated, moved_lease_id)
                SELECT overlay(id::text PLACING attempt::text FROM 21 FOR 1)::uuid, id, attempt, 'answered', moment,
                       0.125, 1.25, 2.5, 3.75, 5.5, '198.51.100.7', '203.0.113.7', 200, headers,
                       repeat('x', 200)::bytea, 200, sha256(''), false, lease
                FROM unnest(ids) AS id;
                COMMIT;
            END LOOP;
        END IF;
    END LOOP;
END $$ LANGUAGE plpgsql
"""

# All deliveries have the same member in their metadata, and nearly all were answered with 200.
_FILTERS: Mapping[str, Mapping[str, Any]] = {
    "metadata of all": {"metadata": {"order": "42"}},
    "metadata of none": {"metadata": {"order": "43"}},
    "metadata of all, and unknown": {"metadata": {"order": "42"}, "state": State.UNKNOWN},
    "an idempotency key of none": {"idempotency_key": "none"},
    "an ordering key of none": {"ordering_key": "none"},
    "outcome unreachable, of none": {"outcome": OutcomeKind.UNREACHABLE},
    "status 2xx, of nearly all": {"status_class": 2},
    "status 5xx, of none": {"status_class": 5},
    "may have happened, none": {"may_have_happened": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a list of a page read. `index` is "" where the table was read from end to end."""

    of: str
    state: str
    index: str
    rows: int
    rows_read: int
    buffers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of a table with that many deliveries: bytes on disk per delivery by relation; bytes of log per delivery and the
    share of updates that wrote no index, by step."""

    deliveries: int
    disk_bytes: Mapping[str, float]
    log_bytes: Mapping[str, float]
    in_place: Mapping[str, float]
    lists: Sequence[Listed]


def run(stage: Stage, *, rows: int, out: Path | None) -> None:
    """Prints the tables, and writes the figures to `tables.json` in the folder `out`."""
    heading("What deliveries take of the database")
    sizes = [200] if stage.small else [size for size in SIZES if size <= rows]
    found = {
        "measured_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "body_bytes": len(BODY),
        "sizes": [asdict(_of_size(stage, size)) for size in sizes],
        "turnovers": _turnovers(stage, 200 if stage.small else TURNED_OVER),
    }
    for text in tables(found):
        say(f"{text}\n")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "tables.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def tables(found: Mapping[str, Any]) -> list[str]:
    """Of the figures: the table by sizes, that of the lists in the largest one, and that of the turnovers."""
    sizes = found["sizes"]
    columns = ["per delivery", *(f"{size['deliveries']:,} deliveries" for size in sizes)]
    disk = {name for size in sizes for name in size["disk_bytes"]}
    rows = [
        ["disk, bytes", *(f"{sum(size['disk_bytes'].values()):.0f}" for size in sizes)],
        *([f"of it {name}", *(f"{size['disk_bytes'].get(name, 0):.0f}" for size in sizes)] for name in sorted(disk)),
        *([f"log of {step}, bytes", *(f"{size['log_bytes'][step]:.0f}" for size in sizes)] for step in STEPS),
        *([f"{step} in place", *(f"{size['in_place'][step]:.0%}" for size in sizes)] for step in STEPS[1:]),
    ]
    lists = [
        [f"{row['of']}, {row['state']}", row["index"], str(row["rows"]), str(row["rows_read"]), str(row["buffers"])]
        for row in sizes[-1]["lists"]
    ]
    turned = found["turnovers"]
    after = [
        [str(number), *(f"{kilobytes[name]:,}" for name in turned["kilobytes"][0])]
        for number, kilobytes in enumerate(turned["kilobytes"], 1)
    ]
    return [
        markdown(columns, rows),
        markdown(["list of", "index", "rows", "rows read", "buffers"], lists),
        markdown(["turnover", *(f"{name}, KB" for name in turned["kilobytes"][0])], after),
    ]


def _of_size(stage: Stage, count: int) -> Measured:
    with closing(_database(stage, f"tables_{count}")) as database:
        _live(stage, database, first=0, count=count)
        _run_long(database, "VACUUM ANALYZE")
        disk = {name: size / count for name, size in _disk(database).items()}
        lists = list(_lists(stage, database))
        log, in_place = _steps(stage, database, min(count, SAMPLE))
    return Measured(deliveries=count, disk_bytes=disk, log_bytes=log, in_place=in_place, lists=lists)


def _turnovers(stage: Stage, count: int) -> dict[str, Any]:
    """The tables' sizes in each turnover, when they are largest: beside that many deliveries as many new ones were made
    and ended; then the older ones are deleted, and the tables vacuumed."""
    sizes = []
    with closing(_database(stage, "turnovers")) as database:
        _live(stage, database, first=0, count=count)
        for number in range(1, TURNOVERS + 1):
            _live(stage, database, first=number * count, count=count)
            sizes.append({name: round(size / 1024) for name, size in _disk(database).items()})
            _run_long(database, "DELETE FROM delivery WHERE delivery_id < (ids_of(%s))[1]", [number * count])
            _run_long(database, "VACUUM")
    return {"deliveries": count, "kilobytes": sizes}


class _Explained(Database):
    """Remembers of each read its plan, with what it really read."""

    def __init__(self, settings: DatabaseSettings) -> None:
        super().__init__(settings)
        self._plans: list[dict[str, Any]] = []

    def plans(self) -> list[dict[str, Any]]:
        """Those of the reads since the last call."""
        taken, self._plans = self._plans, []
        return taken

    def read(self, statement: LiteralString, parameters: Parameters) -> list[Row]:
        (row,) = super().read("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters)
        self._plans.append(row["QUERY PLAN"][0]["Plan"])
        return super().read(statement, parameters)


def _database(stage: Stage, name: str) -> _Explained:
    """An empty one of that name, with the tenant, three destinations and the procedure; vacuumed by hand alone."""
    stage.postgres.run_sql(f'CREATE DATABASE "{name}" TEMPLATE postgres')
    made = _Explained(DatabaseSettings(database_url=stage.postgres.url(database=name)))
    connection = made.connection()
    connection.execute("TRUNCATE destination CASCADE")
    add_destinations(stage, database=name)
    connection.execute(
        """
        INSERT INTO destination
        SELECT gen_random_uuid(), tenant_id, 'quiet', base_url, auth_type, sealed_credentials, guarantee, idempotent,
               idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at
        FROM destination WHERE name = 'partner'
        """
    )
    connection.execute(_LIFE)
    for table in ("delivery", "delivery_body", "delivery_term", "attempt"):
        connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
    return made


def _live(stage: Stage, database: Database, *, first: int, count: int) -> None:
    rows = database.rows("SELECT destination_id FROM destination ORDER BY name = 'quiet', name", {})
    _run_long(
        database,
        "CALL live(%s, %s, %s, %s, %s, %s::text::jsonb)",
        [stage.tenant_id, [row["destination_id"] for row in rows], first, count, BODY, json.dumps(HEADERS)],
    )


def _run_long(database: Database, statement: LiteralString, parameters: Sequence[object] | None = None) -> None:
    """Without the time limit of a function's session."""
    connection = database.connection()
    connection.execute("SET statement_timeout = 0")
    connection.execute(statement, parameters)


def _disk(database: Database) -> dict[str, int]:
    """Bytes by table and kind: its rows with what is out of line, and its indexes."""
    rows = database.rows(
        """
        SELECT relname, pg_table_size(oid) AS rows, pg_indexes_size(oid) AS indexes
        FROM pg_class WHERE relname = ANY (%(tables)s) AND relkind = 'r' ORDER BY relname
        """,
        {"tables": ["delivery", "delivery_body", "delivery_term", "attempt"]},
    )
    return {f"{row['relname']} {kind}": row[kind] for row in rows for kind in ("rows", "indexes")}


def _lists(stage: Stage, database: _Explained) -> Iterator[Listed]:
    tenant_id = TenantId(stage.tenant_id)
    owners: dict[str, DestinationId | None] = {"the tenant": None}
    for row in database.rows("SELECT name, destination_id FROM destination WHERE name <> 'once' ORDER BY name", {}):
        owners[row["name"]] = DestinationId(row["destination_id"])
    for (owner, destination_id), state in product(owners.items(), (None, *State)):
        wanted = Filter(tenant_id=tenant_id, state=state, destination_id=destination_id)
        found = page(database, wanted, limit=PAGE - 1).deliveries
        yield _listed(owner, state.value if state else "all", database.plans(), len(found))
    for told, members in _FILTERS.items():
        found = page(database, replace(Filter(tenant_id=tenant_id), **members), limit=PAGE - 1).deliveries
        yield _listed("the tenant", told, database.plans(), len(found))
    overdue = deliveries.overdue(database, since=datetime(2027, 1, 1, tzinfo=UTC), after=None, limit=500)
    yield _listed("all tenants", "overdue", database.plans(), len(overdue))


def _listed(owner: str, state: str, plans: Sequence[dict[str, Any]], count: int) -> Listed:
    nodes = [node for plan in plans for node in _nodes(plan)]
    scans = [node for node in nodes if node.get("Relation Name") in ("delivery", "delivery_term")]
    indexes = {node["Index Name"] for node in nodes if node.get("Index Name", "").startswith("delivery")}
    return Listed(
        of=owner,
        state=state,
        index=", ".join(sorted(indexes)),
        rows=count,
        rows_read=round(
            sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans)
        ),
        buffers=sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans),
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's steps that were run."""
    if plan["Actual Loops"]:
        yield plan
        for part in plan.get("Plans", []):
            yield from _nodes(part)


class _Meter:
    """Log and updates by step, while they run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.log = dict.fromkeys(STEPS, 0)
        self.updates = dict.fromkeys(STEPS, 0)
        self.in_place = dict.fromkeys(STEPS, 0)

    def read(self, step: str, sign: int) -> None:
        """Before a step with -1, after it with 1."""
        self._database.rows("SELECT pg_stat_force_next_flush()", {})
        (row,) = self._database.rows(
            """
            SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS log, n_tup_upd, n_tup_hot_upd
            FROM pg_stat_user_tables WHERE relname = 'delivery'
            """,
            {},
        )
        self.log[step] += sign * row["log"]
        self.updates[step] += sign * row["n_tup_upd"]
        self.in_place[step] += sign * row["n_tup_hot_upd"]


def _steps(stage: Stage, database: Database, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Log per delivery and share of updates in place, by step; by the statements of src/db."""
    meter = _Meter(database)
    now = datetime.now(UTC)
    lease = Lease(lease_id=LeaseId(uuid4()), until=now + timedelta(seconds=40))
    waiting: list[DeliveryId] = []
    for place in range(count):
        delivery_id = DeliveryId(UUID(int=uuid7_floor(now + timedelta(milliseconds=place)).int + place))
        meter.read("accept", -1)
        _accept(stage, database, delivery_id, lease, now)
        meter.read("accept", 1)
        waiting.append(delivery_id)
        if len(waiting) == BEHIND or place == count - 1:
            for batch in batched(waiting, BATCH, strict=False):
                _attempt_twice(database, meter, batch, lease, now)
            waiting = []
    # A claim and an end for each; and for each a retry and a second claim.
    log = {step: meter.log[step] / count / (2 if step == "claim" else 1) for step in STEPS}
    return log, {step: meter.in_place[step] / meter.updates[step] for step in STEPS[1:]}


def _accept(stage: Stage, database: Database, delivery_id: DeliveryId, lease: Lease, now: datetime) -> None:
    new = NewDelivery(
        tenant_id=TenantId(stage.tenant_id),
        destination="partner",
        method="POST",
        path="/v1/orders/42",
        headers=HEADERS,
        body=BODY,
        metadata={"order": "42"},
    )
    deliveries.accept(
        database,
        new,
        delivery_id=delivery_id,
        fingerprint=delivery_id.bytes * 2,
        now=now,
        lease=lease,
        wait_seconds=None,
    )


def _attempt_twice(database: Database, meter: _Meter, batch: Sequence[DeliveryId], lease: Lease, now: datetime) -> None:
    for number, step in enumerate(("retry", "end"), 1):
        meter.read("claim", -1)
        claimed = deliveries.claim(database, batch, lease=lease, now=now)
        meter.read("claim", 1)
        if not all(isinstance(claim, Claim) for claim in claimed):
            raise AssertionError(f"not all of a batch were claimed: {claimed}")
        records = [_record(delivery_id, number, lease, now, again=step == "retry") for delivery_id in batch]
        meter.read(step, -1)
        attempts.record(database, records, now=now)
        meter.read(step, 1)


def _record(delivery_id: DeliveryId, number: int, lease: Lease, now: datetime, *, again: bool) -> Record:
    attempt = Attempt(
        attempt_id=AttemptId(uuid4()),
        delivery_id=delivery_id,
        number=number,
        outcome=OutcomeKind.ANSWERED,
        reason=None,
        started_at=now,
        timings=Timings(dns_ms=0.125, connect_ms=1.25, tls_ms=2.5, first_byte_ms=3.75, total_ms=5.5),
        remote_address="198.51.100.7",
        egress_address="203.0.113.7",
        response=RESPONSE,
    )
    return Record(
        attempt=attempt,
        lease_id=lease.lease_id,
        next_state=State.PENDING if again else State.DELIVERED,
        due_at=now - timedelta(milliseconds=number) if again else None,
    )

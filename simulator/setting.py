"""What is there before a run begins: the database, two tenants, and their destinations with each guarantee."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from db import destinations
from db.connection import Connection, Database
from db.migrations import APPLICATION_ROLE, migrate
from domain.auth import AuthType, BearerAuth
from domain.destinations import Destination, Guarantee, Timeouts
from domain.ids import DestinationId, TenantId
from domain.limits import CircuitBreaker, Limits
from domain.options import PLAIN, DestinationOptions
from domain.ordering import AfterFailure, Ordering
from domain.reconcile import AnswerRule, Condition, OnAbsent, Reconcile
from domain.windows import SendingWindow
from egress.credentials import seal_auth
from local.postgres import Postgres
from local.stopping import unstopped
from runtime.settings import DatabaseSettings
from simulator.features import Feature
from simulator.functions import SEAL_KEYS
from simulator.partner import GUARDED
from simulator.world import EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A destination, as callers and promises know it. Only runs that have its `feature` use it."""

    tenant_id: TenantId
    destination_id: DestinationId
    name: str
    guarantee: Guarantee
    idempotent: bool = False
    total_seconds: float = 20.0
    first_byte_seconds: float = 15.0
    bearer: bool = False
    host: str = "partner.example"
    options: DestinationOptions = PLAIN
    feature: Feature | None = None


def _rule(status: int, **wanted: object) -> AnswerRule:
    return AnswerRule(
        status=status, where=tuple(Condition(pointer=f"/{name}", values=(value,)) for name, value in wanted.items())
    )


def _target(tenant: int, number: int, name: str, guarantee: Guarantee, **more: object) -> Target:
    return Target(
        tenant_id=TENANTS[tenant],
        destination_id=DestinationId(UUID(int=0xD0 + number)),
        name=name,
        guarantee=guarantee,
        **more,  # type: ignore[arg-type]  # a shorthand of this file
    )


TENANTS = (TenantId(UUID(int=0xA1)), TenantId(UUID(int=0xA2)))
_ORDERED = DestinationOptions(ordering=Ordering(after_failure=AfterFailure.SKIP))
_ONE_AT_A_TIME = DestinationOptions(limits=Limits(concurrency=1))
_HOLDING = DestinationOptions(ordering=Ordering())
_EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
_HOURS = DestinationOptions(
    circuit_breaker=CircuitBreaker(failure_ratio=0.5, minimum_attempts=2, open_seconds=40),
    windows=(
        SendingWindow(days=_EVERY_DAY, opens="12:05", closes="12:25", time_zone="UTC"),
        SendingWindow(days=_EVERY_DAY, opens="18:00", closes="03:00", time_zone="UTC"),
    ),
)
_SLOW = DestinationOptions(limits=Limits(rate=0.2, burst=2))
ABSENT_AFTER_SECONDS = 600.0
_ASKED = Reconcile(
    path="/payments/{idempotency_key}",
    received=(_rule(200, key="{idempotency_key}", state="executed"),),
    rejected=(_rule(200, key="{idempotency_key}", state="rejected"),),
    absent=(
        _rule(404, code="payment_not_found"),
        AnswerRule(
            status=200,
            where=(Condition(pointer="/payments", values=([],)), Condition(pointer="/next", values=(None,))),
        ),
    ),
    absent_after=ABSENT_AFTER_SECONDS,
    after=(30.0, 120.0, 300.0, 900.0, 3_600.0),
)
_BANK = DestinationOptions(reconcile=_ASKED)
_CLEARING = DestinationOptions(reconcile=replace(_ASKED, on_absent=OnAbsent.AGAIN), ordering=Ordering())
_HOUSE = DestinationOptions(
    reconcile=_ASKED,
    limits=Limits(concurrency=2),
    circuit_breaker=CircuitBreaker(failure_ratio=0.5, minimum_attempts=4, open_seconds=40),
)
# The two name each other: of events nobody is told.
_TOLD = DestinationOptions(events_to=DestinationId(UUID(int=0xD0 + 15)))
_TELLING = DestinationOptions(events_to=DestinationId(UUID(int=0xD0 + 14)))
_TELLING_IN_ORDER = DestinationOptions(events_to=DestinationId(UUID(int=0xD0 + 14)), ordering=Ordering())
DESTINATIONS = (
    _target(0, 1, "auto", Guarantee.AUTO),
    _target(0, 2, "once", Guarantee.AT_MOST_ONCE),
    _target(0, 3, "again", Guarantee.AT_LEAST_ONCE, options=_ORDERED),
    _target(0, 4, "idempotent", Guarantee.AUTO, idempotent=True, bearer=True),
    _target(0, 5, "quick", Guarantee.AT_MOST_ONCE, total_seconds=3.0, first_byte_seconds=2.0, options=_ONE_AT_A_TIME),
    _target(1, 6, "auto", Guarantee.AUTO, total_seconds=5.0, first_byte_seconds=5.0, options=_SLOW),
    _target(1, 7, "once", Guarantee.AT_MOST_ONCE, idempotent=True),
    _target(1, 8, "guarded", Guarantee.AT_LEAST_ONCE, host=GUARDED),
    _target(0, 9, "held", Guarantee.AUTO, options=_HOLDING),
    _target(1, 10, "hours", Guarantee.AT_LEAST_ONCE, options=_HOURS),
    _target(0, 11, "bank", Guarantee.AT_MOST_ONCE, options=_BANK, feature=Feature.QUESTIONS),
    _target(0, 12, "clearing", Guarantee.AT_MOST_ONCE, options=_CLEARING, feature=Feature.QUESTIONS),
    _target(1, 13, "house", Guarantee.AUTO, options=_HOUSE, feature=Feature.QUESTIONS),
    _target(0, 14, "told", Guarantee.AT_LEAST_ONCE, options=_TOLD, feature=Feature.EVENTS),
    _target(0, 15, "telling", Guarantee.AT_MOST_ONCE, options=_TELLING, feature=Feature.EVENTS),
    _target(0, 16, "telling-in-order", Guarantee.AUTO, options=_TELLING_IN_ORDER, feature=Feature.EVENTS),
)
IDEMPOTENT = frozenset(str(target.destination_id) for target in DESTINATIONS if target.idempotent)
BANKS = frozenset(str(target.destination_id) for target in DESTINATIONS if target.options.reconcile is not None)
BY_ID = {str(target.destination_id): target for target in DESTINATIONS}
_SHARE = 3  # how much more often than others the destinations of a feature are chosen where a run has it


def targets_of(features: frozenset[Feature]) -> tuple[Target, ...]:
    """Those that callers of a run choose from."""
    usual = [target for target in DESTINATIONS if target.feature is None]
    return (*usual, *(target for target in DESTINATIONS if target.feature in features for _ in range(_SHARE)))


# By the right of the owner, as the role of the functions may delete nothing. Every table is as it was when the database
# was made, whatever a run wrote: also what nobody thought of. The files are new ones, so that rows have no other order
# than in the run before, and no vacuum comes at a time of its own.
_EMPTY = """
CREATE SCHEMA beginning;
CREATE FUNCTION want_four_eyes() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    UPDATE tenant SET approvals_above = 0
$$;
CREATE FUNCTION keep_the_beginning() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE public.%I SET (autovacuum_enabled = off)', name);
        EXECUTE format('CREATE TABLE beginning.%I AS TABLE public.%I', name, name);
    END LOOP;
END $$;
CREATE FUNCTION empty_for_the_next_run() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public SET session_replication_role = replica AS $$
DECLARE
    tables text := (SELECT string_agg(format('public.%I', relname), ', ' ORDER BY relname)
                    FROM pg_class WHERE relnamespace = 'beginning'::regnamespace AND relkind = 'r');
    name text;
    columns text;
BEGIN
    EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY';
    PERFORM setval(oid::regclass, 1, false) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';
    FOR name, columns IN
        SELECT relname, string_agg(format('%I', attname), ', ' ORDER BY attnum)
        FROM pg_class JOIN pg_attribute ON attrelid = format('public.%I', relname)::regclass
        WHERE relnamespace = 'beginning'::regnamespace AND relkind = 'r' AND attnum > 0 AND attgenerated = ''
          AND NOT attisdropped
        GROUP BY relname ORDER BY relname
    LOOP
        EXECUTE format('INSERT INTO public.%1$I (%2$s) SELECT %2$s FROM beginning.%1$I', name, columns);
    END LOOP;
END $$;
"""

type RealConnection = Connection
# With few rows PostgreSQL takes the plan that it made once: to make another one at each call costs more than to run it.
_OPTIONS = "-c plan_cache_mode=force_generic_plan -c jit=off"


class Databases:
    """One embedded PostgreSQL with a database for each process of the simulator."""

    def __init__(self, directory: Path) -> None:
        self._server = Postgres(directory, durable=False)

    def __enter__(self) -> "Databases":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def make(self, name: str) -> str:
        """A migrated database with tenants and destinations; its URL, for the role of the functions. Who stops us
        meanwhile waits for it: a statement that is broken off leaves a connection that complains."""
        with unstopped():
            return self._made(name)

    def _made(self, name: str) -> str:
        self._server.make_database(name)
        url = self._server.url(database=name)
        with psycopg.connect(url, autocommit=True) as owner:
            migrate(owner)
            for number, tenant in enumerate(TENANTS):
                owner.execute("INSERT INTO tenant VALUES (%s, %s, %s)", (tenant, f"tenant-{number}", EPOCH))
            owner.execute(_EMPTY)
        application = self._server.url(user=APPLICATION_ROLE, database=name)
        _fill(application)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("SELECT keep_the_beginning()")
        return application


def _fill(url: str) -> None:
    database = Database(DatabaseSettings(database_url=url))
    for target in DESTINATIONS:
        destinations.insert(database, _destination(target))
    database.close()


def _destination(target: Target) -> Destination:
    auth = BearerAuth(token="made up") if target.bearer else None  # noqa: S106 - nobody's token
    return Destination(
        destination_id=target.destination_id,
        tenant_id=target.tenant_id,
        name=target.name,
        base_url=f"http://{target.host}",
        auth_type=AuthType.BEARER if auth else AuthType.NONE,
        sealed_credentials=seal_auth(auth, destination_id=target.destination_id, key=SEAL_KEYS.keys[0])
        if auth
        else None,
        guarantee=target.guarantee,
        idempotent=target.idempotent,
        idempotency_header="Idempotency-Key",
        timeouts=Timeouts(
            connect_seconds=2.0, first_byte_seconds=target.first_byte_seconds, total_seconds=target.total_seconds
        ),
        created_at=EPOCH,
        options=target.options,
    )


@contextmanager
def connected(url: str) -> Iterator[RealConnection]:
    """The one real connection of a process of the simulator."""
    with Connection.connect(url, autocommit=True, row_factory=dict_row, options=_OPTIONS) as connection:
        connection.prepare_threshold = 2
        yield connection


def emptied(connection: RealConnection) -> None:
    """As before a run: no deliveries, active destinations, and nothing that their limits and breakers counted."""
    connection.execute("SELECT empty_for_the_next_run()")

"""Two connections at work at the same time: what locks, constraints and isolation promise.

One statement has run in a transaction that is still open while the other begins; then the first one commits or rolls
back. Were they to come one after the other, most of these promises would hold without the clause that keeps them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from db import attempts, connection, deliveries, retention, tenants
from db.attempts import Written
from db.connection import Database
from db.jobs import Stepped
from db.retention import Place
from domain.audit import AuditCheckpoint
from domain.deliveries import Claim, Record, Resolution, State
from domain.ids import DeliveryId, DestinationId, JobId, ProposalId, TenantId, TokenId
from domain.jobs import MOST_UNFINISHED, BulkJob
from domain.limits import Limits
from domain.options import DestinationOptions
from domain.proposals import MOST_OPEN
from domain.retention import Cutoffs
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import (
    BEGUN_AGAIN,
    CALLS_IT_FAILED,
    CANCELING,
    CANCELS,
    DELIVERED,
    EMPTY,
    ENDED_UNKNOWN,
    FAILED,
    FIRST,
    IN_ORDER,
    JOB_ID,
    LAPSED,
    NOW,
    OTHER_JOB_ID,
    OTHER_WALKER,
    PARTNER,
    PAUSES_JOB,
    PENDING,
    PROPOSED,
    READY,
    REPEATING,
    REPLAYING,
    RETRIED,
    RETRIES,
    SECOND,
    SECOND_RETRIED,
    SECOND_UNKNOWN,
    SENDING,
    SENDS_AGAIN,
    SLOTS,
    TENANCY,
    TENANT,
    THIRD,
    TOKEN,
    WALKER,
    WITH_HOOK,
    A,
    Act,
    B,
    C,
    accepts,
    approves,
    attempt,
    both,
    changes,
    claims,
    claims_all,
    creates,
    decides,
    deletes,
    destination,
    entry,
    expunges,
    issues,
    issues_another,
    later,
    lease,
    makes_step,
    notes_slow,
    nothing,
    proposes,
    records,
    records_of,
    rejects,
    restores,
    revokes,
    rotates,
    seals_attempts,
    stores,
    takes_walk,
    writes,
)
from tests.support.databases import FreshDatabase

GENEROUS_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two workers' connections to one database, and its superuser's."""

    first: Database
    second: Database
    superuser: Database
    process_ids: dict[Database, int] = field(default_factory=dict, init=False)

    def scene(self, *acts: Act) -> None:
        both(*acts)(self.superuser)

    def begin(self, act: Act) -> object:
        """Lets the first one act, and leaves its transaction open."""
        self.first.connection().execute("BEGIN")
        return act(self.first)

    def end(self, how: str = "COMMIT") -> None:
        self.first.connection().execute(how.encode())

    def second_waits(self, act: Act, *, end: str | None = "COMMIT", meanwhile: Act = nothing) -> object:
        """What the second one is told, having waited until the first one's transaction has ended. While it waits, the
        superuser may act. Without an `end` the first one ends by itself: another thread is using its connection.
        """
        told: list[object] = []
        thread = threading.Thread(target=lambda: told.append(act(self.second)))
        thread.start()
        while thread.is_alive() and not self.waits(self.second):
            time.sleep(0.005)
        assert thread.is_alive(), "it did not wait"
        try:
            meanwhile(self.superuser)
        finally:
            if end is not None:
                self.end(end)
            thread.join()
        return told[0]

    def second_goes_on(self, act: Act) -> object:
        """What the second one is told, not having waited for the first one's transaction, which ends then."""
        told: list[object] = []
        thread = threading.Thread(target=lambda: told.append(act(self.second)))
        thread.start()
        while thread.is_alive() and not self.waits(self.second):
            time.sleep(0.005)
        waited = thread.is_alive()
        self.end()
        thread.join()
        assert not waited
        return told[0]

    def waits(self, database: Database) -> bool:
        """Whether it waits for a lock. Its connection is left to the thread that uses it: to look at one replaces what
        seems to be closed."""
        return bool(
            self.superuser.rows(
                "SELECT FROM pg_stat_activity WHERE pid = %(pid)s AND wait_event_type = 'Lock'",
                {"pid": self.process_ids[database]},
            )
        )

    def one(self, query: str) -> tuple[Any, ...]:
        (row,) = self.superuser.connection().execute(query.encode()).fetchall()
        return tuple(row.values())


@pytest.fixture
def pair(shared_database: FreshDatabase) -> Iterator[Pair]:
    with connected(shared_database) as made:
        made.superuser.connection().execute(EMPTY)
        yield made


@contextmanager
def connected(database: FreshDatabase) -> Iterator[Pair]:
    """Nobody gives up while another is slow, as on a busy machine."""
    settings = DatabaseSettings(database_url=database.admin_url)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "TRY_SECONDS", GENEROUS_SECONDS)
        patched.setattr(connection, "CALL_SECONDS", 2 * GENEROUS_SECONDS)
        made = Pair(
            **{name: stack.enter_context(closing(Database(settings))) for name in ("first", "second", "superuser")}
        )
        for worker in (made.first, made.second):
            worker.connection().execute(b"SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            made.process_ids[worker] = worker.connection().info.backend_pid
        yield made


def claimed(told: object) -> list[object]:
    assert isinstance(told, list)
    return [event for event in told if event[0] == "claim"]


@pytest.mark.parametrize("before", [PENDING, (*PENDING, claims(C, at=later(-60)))], ids=["fresh", "lapsed"])
def test_what_one_worker_is_claiming_another_neither_gets_nor_waits_for(pair: Pair, before: tuple[Act, ...]) -> None:
    pair.scene(*before)
    assert len(claimed(pair.begin(claims(A, at=later(10))))) == 2
    assert claims_of(pair.second) == []
    pair.end()
    assert claims_of(pair.second) == []


def claims_of(database: Database) -> list[Claim]:
    found = deliveries.claim(database, [FIRST, SECOND], lease=lease(B, since=later(10)), now=later(10))
    return [result for result in found if isinstance(result, Claim)]


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_a_worker_claims_what_another_leaves_whatever_the_order(pair: Pair, order: tuple[DeliveryId, ...]) -> None:
    """Nobody waits, so nobody can wait for each other."""
    pair.scene(*PENDING)
    pair.first.connection().execute("BEGIN")
    taken = deliveries.claim(pair.first, [order[0]], lease=lease(A, since=later(10)), now=later(10))
    assert [result.delivery_id for result in taken if isinstance(result, Claim)] == [order[0]]
    assert [claim.delivery_id for claim in claims_of(pair.second)] == [order[1]]
    pair.end()


@pytest.mark.parametrize("stored", [(FIRST, SECOND), (SECOND, FIRST)], ids=["in order", "in reverse"])
@pytest.mark.parametrize("batch", [(FIRST, SECOND), (SECOND, FIRST)], ids=["in order", "in reverse"])
def test_records_lock_their_deliveries_in_the_order_of_the_ids(
    pair: Pair, stored: tuple[DeliveryId, ...], batch: tuple[DeliveryId, ...]
) -> None:
    """Or two workers that record the same ones would each hold one and wait for the other."""
    pair.scene(*READY, *(accepts(delivery_id) for delivery_id in stored), claims(A))
    made = [
        Record(
            attempt=replace(attempt("answered", attempt_id=number), delivery_id=delivery_id),
            lease_id=A,
            next_state=State.DELIVERED,
            due_at=None,
        )
        for number, delivery_id in enumerate(batch, 30)
    ]
    pair.begin(locks(FIRST))

    def the_second_one_is_free(superuser: Database) -> None:
        free = superuser.rows("SELECT delivery_id FROM delivery FOR UPDATE SKIP LOCKED", {})
        assert free == [{"delivery_id": SECOND}]

    moved = pair.second_waits(
        lambda database: attempts.record(database, made, now=NOW).moved, meanwhile=the_second_one_is_free
    )
    assert moved == {FIRST, SECOND}


def locks(delivery_id: DeliveryId) -> Act:
    return lambda database: database.rows(
        "SELECT FROM delivery WHERE delivery_id = %(delivery_id)s FOR UPDATE", {"delivery_id": delivery_id}
    )


def test_what_one_worker_is_recording_another_does_not_claim(pair: Pair) -> None:
    """It may be delivered the very next moment."""
    pair.scene(*SENDING)
    pair.begin(DELIVERED)
    assert claimed(claims(B, at=later(60))(pair.second)) == []
    pair.end()
    assert pair.one("SELECT state, lease_id FROM delivery") == ("delivered", None)


@pytest.mark.parametrize(("end", "told"), [("COMMIT", (FIRST, True)), ("ROLLBACK", (SECOND, False))])
def test_of_two_requests_with_one_key_one_becomes_a_delivery(pair: Pair, end: str, told: tuple[object, ...]) -> None:
    pair.scene(*READY)
    pair.begin(accepts(FIRST, key="order-1"))
    assert pair.second_waits(accepts(SECOND, key="order-1"), end=end) == told
    assert pair.one("SELECT count(*) FROM delivery") == (1,)


@pytest.mark.parametrize(("end", "told"), [("COMMIT", JOB_ID), ("ROLLBACK", OTHER_JOB_ID)])
def test_of_two_calls_with_one_key_one_becomes_a_job(pair: Pair, end: str, told: object) -> None:
    pair.scene(*READY)
    pair.begin(creates(CANCELING, key="k"))
    stored = pair.second_waits(creates(replace(CANCELING, job_id=OTHER_JOB_ID), key="k"), end=end)
    assert isinstance(stored, BulkJob)
    assert stored.job_id == told
    assert pair.one("SELECT count(*) FROM job") == (1,)


def numbered_job(number: int, *, key: str | None = None) -> Act:
    return creates(replace(CANCELING, job_id=JobId(UUID(int=600 + number))), key=key)


def numbered_proposal(number: int) -> Act:
    return proposes(ProposalId(UUID(int=800 + number)))


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize(
    ("makes", "most"),
    [(numbered_job, MOST_UNFINISHED), (numbered_proposal, MOST_OPEN)],
    ids=["jobs", "proposals"],
)
def test_of_two_for_which_only_one_has_room_one_is_stored(
    pair: Pair, makes: Callable[[int], Act], most: int, end: str
) -> None:
    pair.scene(*READY, *map(makes, range(1, most)))
    assert pair.begin(makes(0))
    assert bool(pair.second_waits(makes(most), end=end)) is (end == "ROLLBACK")
    assert pair.one("SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM proposal)") == (most,)


def test_of_two_calls_with_one_key_for_which_only_one_has_room_both_get_the_job(pair: Pair) -> None:
    pair.scene(*READY, *map(numbered_job, range(1, MOST_UNFINISHED)))
    pair.begin(numbered_job(0, key="k"))
    found = pair.second_waits(numbered_job(MOST_UNFINISHED, key="k"))
    assert isinstance(found, BulkJob)
    assert found.job_id == UUID(int=600)


@pytest.mark.parametrize(
    ("constraint", "before", "runs"),
    [
        pytest.param("delivery_key_once", READY, accepts(), id="a delivery"),
        pytest.param("delivery_key_once", READY, accepts(key="order-1"), id="a delivery with a key"),
        pytest.param("destination_name_once", TENANCY, stores(destination()), id="a destination"),
        pytest.param("job_key_once", READY, creates(CANCELING, key="k"), id="a job"),
        pytest.param("proposal_pkey", TENANCY, proposes(), id="a proposal"),
        pytest.param("tenant_name_once", (), issues, id="a tenant and a token"),
    ],
)
def test_a_statement_that_runs_beside_its_own_first_run_finds_what_that_wrote(
    database: FreshDatabase, constraint: str, before: tuple[Act, ...], runs: Act
) -> None:
    """The first run hung, was given up, and goes on just when the second one writes the same row: that is in the index
    of the primary key already, and not yet in that of the constraint by which ON CONFLICT sees it."""
    with connected(database) as pair:
        pair.scene(*before)
        hold_before(constraint, pair.superuser)
        told: list[object] = []
        first = threading.Thread(target=lambda: told.append(runs(pair.first)))
        first.start()
        while not pair.waits(pair.first):
            time.sleep(0.005)
        told.append(pair.second_waits(runs, end=None, meanwhile=let_go))
        first.join()
    assert told[0] == told[1]


def hold_before(constraint: str, superuser: Database) -> None:
    """Whoever writes the index of a constraint waits, from now on, until `let_go`; the older indexes are written by
    then: PostgreSQL writes the indexes of a table in the order in which they were made."""
    found = superuser.rows(
        "SELECT conrelid::regclass::text AS name, pg_get_constraintdef(oid) AS definition"
        " FROM pg_constraint WHERE conname = %(constraint)s",
        {"constraint": constraint},
    )
    table, definition = found[0].values()
    column = definition.partition("(")[2].partition(")")[0].partition(",")[0]
    for statement in (
        "CREATE FUNCTION held(anyelement) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN 1; END'",
        f"ALTER TABLE {table} DROP CONSTRAINT {constraint}",
        f"CREATE INDEX ON {table} (held({column}))",
        f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}",
        "SELECT pg_advisory_lock(1)",
    ):
        superuser.connection().execute(statement.encode())


def let_go(superuser: Database) -> None:
    superuser.connection().execute(b"SELECT pg_advisory_unlock(1)")


@pytest.mark.parametrize(("end", "told"), [("COMMIT", "taken"), ("ROLLBACK", "stored")])
def test_of_two_destinations_of_one_name_one_is_stored(pair: Pair, end: str, told: str) -> None:
    pair.scene(*TENANCY)
    pair.begin(stores(destination()))
    assert pair.second_waits(stores(destination(DestinationId(UUID(int=6)))), end=end) == told
    assert pair.one("SELECT count(*) FROM destination") == (1,)


@pytest.mark.parametrize(("end", "owner"), [("COMMIT", TENANT), ("ROLLBACK", TenantId(UUID(int=5)))])
def test_two_tokens_for_a_new_tenant_make_one_tenant(pair: Pair, end: str, owner: TenantId) -> None:
    pair.begin(issues)
    assert pair.second_waits(issues_another, end=end) == owner
    assert pair.one("SELECT count(*), min(tenant_id::text) FROM tenant") == (1, str(owner))


def test_a_token_that_two_revoke_is_revoked_since_the_first(pair: Pair) -> None:
    pair.scene(issues)
    pair.begin(revokes)
    assert pair.second_waits(lambda database: revokes(database, at=later(60))) == NOW


def checks(database: Database) -> object:
    return tenants.caller_of(database, token_sha256=TOKEN.int.to_bytes(32), now=NOW)


def test_a_token_whose_revocation_is_under_way_still_counts_and_then_no_more(pair: Pair) -> None:
    pair.scene(issues)
    pair.begin(revokes)
    assert pair.second_waits(checks) is not None
    assert checks(pair.second) is None
    assert pair.one("SELECT revoked_at FROM token") == (NOW,)


@pytest.mark.parametrize(("end", "sequence"), [("COMMIT", 2), ("ROLLBACK", 1)])
def test_who_appends_to_a_chain_waits_for_the_entry_before(pair: Pair, end: str, sequence: int) -> None:
    """Or two entries would follow the same one."""
    pair.begin(writes(50))
    second = pair.second_waits(writes(51), end=end)
    assert isinstance(second, AuditCheckpoint)
    assert (second.sequence, pair.one("SELECT hash FROM audit_head")) == (sequence, (second.hash,))
    rows = pair.superuser.rows("SELECT previous, hash FROM audit_entry ORDER BY sequence", {})
    assert [row["previous"] for row in rows] == [bytes(32), *(row["hash"] for row in rows[:-1])]


@pytest.mark.parametrize("before", [(), (writes(49),)], ids=["a new chain", "a chain"])
def test_who_appends_to_a_chain_is_not_refused_by_its_constraint(pair: Pair, before: tuple[Act, ...]) -> None:
    """The statement is not run again here, as it is elsewhere."""

    def appends(database: Database) -> object:
        statement = "SELECT sequence FROM append_audit(%(tenant)s, %(now)s, %(content)s)"
        return database.rows(statement, {"tenant": TENANT, "now": NOW, "content": entry(51).content})

    pair.scene(*before)
    pair.begin(writes(50))
    assert pair.second_waits(appends) == [{"sequence": len(before) + 2}]


def test_tenants_do_not_wait_for_each_other(pair: Pair) -> None:
    pair.begin(writes(50))
    assert writes(50, tenant_id=TenantId(UUID(int=9)))(pair.second).sequence == 1
    pair.end()


@pytest.mark.parametrize(("end", "told"), [("COMMIT", None), ("ROLLBACK", 2)])
def test_an_interval_is_sealed_by_whoever_comes_first(pair: Pair, end: str, told: int | None) -> None:
    pair.scene()
    pair.begin(seals_attempts(60))
    entries = pair.second_waits(seals_attempts(80), end=end)
    assert entries is None if told is None else isinstance(entries, list) and len(entries) == told
    assert pair.one("SELECT count(*) FROM attempt_seal") == (2,)


# A late truth and a lapse


HELD = (*SENDING, claims(B, at=later(60)))
TRUTH_AND_LAPSE = {"the truth first": (DELIVERED, LAPSED), "the lapse first": (LAPSED, DELIVERED)}


@pytest.mark.parametrize(("first", "second"), TRUTH_AND_LAPSE.values(), ids=TRUTH_AND_LAPSE)
def test_whoever_records_first_the_real_outcome_wins(pair: Pair, first: Act, second: Act) -> None:
    pair.scene(*HELD)
    pair.begin(first)
    pair.second_waits(second)
    assert pair.one("SELECT state, outcome FROM delivery JOIN attempt USING (delivery_id)") == ("delivered", "answered")


SUCCESS_AND_NEXT = {
    f"{name}, {ended}": acts
    for ended, act in {"to be retried": SECOND_RETRIED, "unknown": SECOND_UNKNOWN}.items()
    for name, acts in {"the success first": (DELIVERED, act), "the next attempt first": (act, DELIVERED)}.items()
}


@pytest.mark.parametrize(("first", "second"), SUCCESS_AND_NEXT.values(), ids=SUCCESS_AND_NEXT)
def test_a_late_success_and_the_next_attempt_do_not_miss_each_other(pair: Pair, first: Act, second: Act) -> None:
    pair.scene(*BEGUN_AGAIN)
    pair.begin(first)
    pair.second_waits(second)
    assert pair.one("SELECT state, lease_id, delivered_by FROM delivery") == ("delivered", None, 1)


@pytest.mark.parametrize(
    ("truth", "stands"),
    [
        (DELIVERED, ("delivered", "answered", None)),
        (RETRIED, ("pending", "unreachable", None)),
        (records(A, attempt("unknown"), State.UNKNOWN), ("sending", "unknown", B)),  # no more than the other knows
    ],
)
def test_a_lease_that_is_passing_on_while_its_holder_records_is_no_longer_theirs(
    pair: Pair, truth: Act, stands: tuple[object, ...]
) -> None:
    pair.scene(*SENDING)
    pair.begin(claims(B, at=later(60)))
    pair.second_waits(truth)
    found = pair.one("SELECT state, outcome, lease_id FROM delivery JOIN attempt USING (delivery_id)")
    assert found == stands


def test_an_answer_is_not_overwritten_by_whoever_waited_with_less(pair: Pair) -> None:
    pair.scene(*HELD)
    pair.begin(DELIVERED)
    assert pair.second_waits(LAPSED) == Written()
    assert pair.one("SELECT outcome, status, moved_lease_id FROM attempt") == ("answered", 201, A)


def test_two_tokens_of_one_secret_cannot_be(pair: Pair) -> None:
    pair.scene(issues)
    with pytest.raises(Exception, match="token_sha256_once"):
        tenants.issue_token(
            pair.second,
            tenant_id=TENANT,
            tenant_name="acme",
            token_id=TokenId(UUID(int=99)),
            token_sha256=TOKEN.int.to_bytes(32),
            scopes=("read",),
            now=NOW,
        )


# What callers decide


UNKNOWN = (*SENDING, ENDED_UNKNOWN)


def test_of_two_decisions_at_once_the_first_one_counts_and_the_other_is_told(pair: Pair) -> None:
    pair.scene(*UNKNOWN)
    pair.begin(CALLS_IT_FAILED)
    another = decides(State.PENDING, State.UNKNOWN, resolution=Resolution.AGAIN, change_id=51)
    assert pair.second_waits(another) == (False, State.FAILED, frozenset())
    assert pair.one("SELECT state, resolution FROM delivery") == ("failed", "failed")


@pytest.mark.parametrize(
    ("before", "truth"),
    [
        (UNKNOWN, records(A, attempt("answered"), State.DELIVERED)),
        ((*UNKNOWN, CALLS_IT_FAILED), records(A, attempt("answered"), State.DELIVERED)),  # which is only logged
    ],
)
@pytest.mark.parametrize("expunged_first", [True, False])
def test_what_is_recorded_while_its_delivery_is_expunged_is_not_stored(
    pair: Pair, before: tuple[Act, ...], truth: Act, expunged_first: bool
) -> None:
    pair.scene(*before)
    first, second = (expunges, truth) if expunged_first else (truth, expunges)
    pair.begin(first)
    pair.second_waits(second)
    assert pair.one("SELECT outcome, response_body, response_headers -> 0 ->> 0 FROM attempt") == (
        "answered",
        b"",
        "Sallyport-Note",
    )


def test_what_is_sent_again_while_it_is_expunged_is_not(pair: Pair) -> None:
    pair.scene(*UNKNOWN)
    pair.begin(expunges)
    assert pair.second_waits(SENDS_AGAIN) == (False, State.UNKNOWN, frozenset())
    pair.superuser.connection().execute(EMPTY)
    pair.scene(*UNKNOWN)
    pair.begin(SENDS_AGAIN)
    assert pair.second_waits(expunges) == (False, State.PENDING)


def test_an_attempt_that_begins_while_its_delivery_is_canceled_does_not_begin(pair: Pair) -> None:
    pair.scene(*PENDING)
    pair.begin(CANCELS)
    assert claimed(claims(A, at=later(80))(pair.second)) == [("claim", SECOND, False, 1)]
    pair.end()
    assert claimed(claims(B, at=later(80))(pair.second)) == []
    assert pair.one("SELECT state, attempts_made FROM delivery ORDER BY delivery_id LIMIT 1") == ("canceled", 0)


def test_what_is_being_sent_is_neither_canceled_nor_retried(pair: Pair) -> None:
    for act in (CANCELS, RETRIES):
        pair.superuser.connection().execute(EMPTY)
        pair.scene(*READY, accepts())
        pair.begin(claims(A))
        assert pair.second_waits(act) == (False, State.SENDING, frozenset())
        assert pair.one("SELECT state, lease_id FROM delivery") == ("sending", A)


def test_an_outcome_that_is_being_recorded_is_seen_by_whoever_decides(pair: Pair) -> None:
    pair.scene(*SENDING, claims(B, at=later(60)), LAPSED)
    pair.begin(DELIVERED)
    assert pair.second_waits(SENDS_AGAIN) == (False, State.DELIVERED, frozenset())
    assert pair.one("SELECT state, resolution FROM delivery") == ("delivered", None)


@pytest.mark.parametrize(
    ("decided", "truth", "becomes"),
    [
        (SENDS_AGAIN, DELIVERED, "delivered"),
        # A decision for another attempt stands, whatever else came of the one before.
        (SENDS_AGAIN, records(A, attempt("refused"), State.FAILED), "pending"),
        (CALLS_IT_FAILED, DELIVERED, "failed"),
    ],
)
def test_an_outcome_that_comes_while_it_is_decided_does_not_undo_the_decision(
    pair: Pair, decided: Act, truth: Act, becomes: str
) -> None:
    pair.scene(*SENDING, claims(B, at=later(60)), LAPSED)
    pair.begin(decided)
    pair.second_waits(truth)
    assert pair.one("SELECT state, attempts_made FROM delivery") == (becomes, 1)
    assert pair.one("SELECT outcome FROM attempt") != ("unknown",)


def test_a_failure_that_is_retried_is_not_ended_by_its_outcome_that_comes_twice(pair: Pair) -> None:
    late = records(A, attempt("answered"), State.FAILED)
    pair.scene(*SENDING, claims(B, at=later(60)), LAPSED, late, RETRIES)
    late(pair.second)
    assert pair.one("SELECT state FROM delivery") == ("pending",)


def test_of_two_records_at_once_both_return_their_turns(pair: Pair) -> None:
    two_slots = replace(destination(), options=DestinationOptions(limits=Limits(concurrency=2)))
    pair.scene(issues, stores(two_slots), accepts(), accepts(SECOND), claims_all(A, [FIRST]), claims_all(B, [SECOND]))
    assert pair.one("SELECT in_flight FROM destination_flow") == ([FIRST, SECOND],)
    pair.begin(records_of(FIRST, A, at=later(1)))
    pair.second_waits(
        lambda database: attempts.record(
            database,
            [
                Record(
                    attempt=replace(attempt("answered", attempt_id=35), delivery_id=SECOND),
                    lease_id=B,
                    next_state=State.DELIVERED,
                    due_at=None,
                )
            ],
            now=later(1),
        )
    )
    assert pair.one("SELECT in_flight FROM destination_flow") == ([],)


def test_of_two_failures_at_once_that_open_a_breaker_one_tells(pair: Pair) -> None:
    """With one failure it opens: the second one finds it open."""
    pair.scene(*WITH_HOOK, accepts(), accepts(SECOND), claims_all(A, [FIRST]), claims_all(B, [SECOND]))
    for_first, for_second = (DeliveryId(UUID(int=number)) for number in (82, 83))
    failed = records(A, attempt("unreachable"), State.PENDING, failed=True, breaker_event_id=for_first)
    pair.begin(failed)
    made = replace(attempt("unreachable", attempt_id=35), delivery_id=SECOND)
    pair.second_waits(records(B, made, State.PENDING, failed=True, breaker_event_id=for_second))
    assert pair.one("SELECT array_agg(delivery_id) FROM delivery WHERE event IS NOT NULL") == ([for_first],)


def test_what_is_noted_as_slow_waits_for_who_changes_the_share(pair: Pair) -> None:
    """What has ended by then is not under way."""
    pair.scene(*SENDING, notes_slow())
    pair.begin(DELIVERED)
    pair.second_waits(notes_slow())
    assert pair.one("SELECT count(*) FROM attempt_under_way") == (0,)


def test_a_slot_that_was_passed_on_to_a_canceled_one_goes_to_the_next(pair: Pair) -> None:
    waiting = (accepts(), accepts(SECOND), claims_all(A, [FIRST, SECOND], at=later(1)))
    pair.scene(issues, stores(SLOTS), accepts(THIRD), claims_all(B, [THIRD]), *waiting)
    pair.scene(records_of(THIRD, B, at=later(69)))
    assert pair.one("SELECT in_flight FROM destination_flow") == ([FIRST],)
    told = CANCELS(pair.first)
    assert isinstance(told, tuple)
    assert [each.delivery_id for each in told[2]] == [SECOND]
    assert pair.one("SELECT in_flight FROM destination_flow") == ([SECOND],)
    assert pair.one("SELECT array_agg(delivery_id) FROM slot_waiter") == ([SECOND],)


def test_in_order_the_next_one_goes_when_the_first_is_decided_and_keeps_its_place_when_it_is_sent_again(
    pair: Pair,
) -> None:
    places = "SELECT array_agg(delivery_id ORDER BY place) FROM ordering_place"
    for act, woken, left in (
        (CALLS_IT_FAILED, [SECOND], [SECOND]),
        (SENDS_AGAIN, [], [FIRST, SECOND]),
    ):
        pair.superuser.connection().execute(EMPTY)
        pair.scene(*IN_ORDER, claims(A), ENDED_UNKNOWN)
        told = act(pair.first)
        assert isinstance(told, tuple)
        assert [each.delivery_id for each in told[2]] == woken
        assert pair.one(places) == (left,)


# Many at a time


def steps(job: BulkJob) -> Act:
    """How many it has changed after the step."""

    def act(database: Database) -> object:
        told = makes_step(job)(database)
        return told.changed if isinstance(told, Stepped) else None

    return act


STEPS_AT_ONCE = {
    "cancel": (CANCELING, PENDING, claims_all(A, [FIRST]), ["canceled", "sending"]),
    "send again": (REPLAYING, (*SENDING, FAILED, accepts(SECOND)), RETRIES, ["pending", "pending"]),
}


@pytest.mark.parametrize(("job", "before", "act", "states"), STEPS_AT_ONCE.values(), ids=STEPS_AT_ONCE)
def test_a_step_of_a_job_leaves_what_is_changed_while_it_waits_for_it(
    pair: Pair, job: BulkJob, before: tuple[Act, ...], act: Act, states: list[str]
) -> None:
    pair.scene(*before, creates(job))
    pair.begin(act)
    assert pair.second_waits(steps(job)) == states.count("canceled")
    assert pair.one("SELECT array_agg(state ORDER BY state) FROM delivery") == (states,)


@pytest.mark.parametrize("job", [CANCELING, REPLAYING, REPEATING], ids=["cancel", "send again", "repeat"])
def test_of_two_steps_of_a_job_at_once_one_is_made(pair: Pair, job: BulkJob) -> None:
    before = {CANCELING: PENDING, REPLAYING: (*SENDING, FAILED), REPEATING: (*SENDING, DELIVERED)}[job]
    pair.scene(*before, creates(job))
    pair.begin(makes_step(job))
    assert pair.second_waits(makes_step(job, step_id=71)) is None
    assert pair.one("SELECT changed, (SELECT count(*) FROM delivery) FROM job") == (
        {CANCELING: 2, REPLAYING: 1, REPEATING: 1}[job],
        1 if job is REPLAYING else 2,
    )


@pytest.mark.parametrize("job", [CANCELING, REPLAYING, REPEATING], ids=["cancel", "send again", "repeat"])
def test_a_job_that_is_being_paused_makes_no_step(pair: Pair, job: BulkJob) -> None:
    before = {CANCELING: PENDING, REPLAYING: (*SENDING, FAILED), REPEATING: (*SENDING, DELIVERED)}[job]
    pair.scene(*before, creates(job))
    pair.begin(PAUSES_JOB)
    assert pair.second_waits(makes_step(job)) is None
    assert pair.one("SELECT changed, state FROM job") == (0, "paused")


@pytest.mark.parametrize("order", [1, -1])
def test_a_step_of_a_job_locks_its_deliveries_in_the_order_of_the_ids(pair: Pair, order: int) -> None:
    """Or it and a record would each hold one and wait for the other."""
    pair.scene(*READY, accepts([FIRST, SECOND][::order][0]), accepts([FIRST, SECOND][::order][1]), creates(CANCELING))
    pair.begin(locks(FIRST))

    def the_second_one_is_free(superuser: Database) -> None:
        free = superuser.rows("SELECT delivery_id FROM delivery FOR UPDATE SKIP LOCKED", {})
        assert free == [{"delivery_id": SECOND}]

    step = makes_step(CANCELING, ids=[FIRST, SECOND][::order])
    assert pair.second_waits(step, meanwhile=the_second_one_is_free) is not None


def test_what_is_being_claimed_is_left_by_who_cancels_what_waits(pair: Pair) -> None:
    pair.scene(*PENDING)
    pair.begin(claims_all(A, [FIRST]))
    assert pair.second_goes_on(lambda database: deliveries.cancel_waiting(database, PARTNER, now=NOW, limit=9)) == 1
    assert pair.one("SELECT array_agg(state ORDER BY state) FROM delivery") == (["canceled", "sending"],)


def test_what_somebody_is_canceling_is_not_canceled_as_abandoned_too(pair: Pair) -> None:
    pair.scene(*PENDING, deletes())
    pair.begin(CANCELS)
    both_ids = [FIRST, SECOND]
    told = pair.second_waits(lambda database: deliveries.cancel_abandoned(database, both_ids, now=later(91)))
    assert told == [SECOND]
    assert pair.one("SELECT finished_at FROM delivery ORDER BY delivery_id LIMIT 1") == (later(70),)


@pytest.mark.parametrize(("end", "owner"), [("COMMIT", TENANT), ("ROLLBACK", TenantId(UUID(int=5)))])
def test_of_two_that_create_a_tenant_both_get_the_same(pair: Pair, end: str, owner: TenantId) -> None:
    def creates_tenant(tenant_id: TenantId) -> Act:
        return lambda database: tenants.create(database, tenant_id=tenant_id, name="acme", now=NOW).tenant_id

    pair.begin(creates_tenant(TENANT))
    assert pair.second_waits(creates_tenant(TenantId(UUID(int=5))), end=end) == owner


def test_of_two_tokens_that_decide_about_a_proposal_one_does(pair: Pair) -> None:
    for first, second in ((approves(), approves("third")), (approves(), rejects("third")), (rejects(), approves())):
        pair.superuser.connection().execute(EMPTY)
        pair.scene(*PROPOSED)
        assert pair.begin(first)
        assert not pair.second_waits(second)


def test_of_two_processes_one_takes_the_walk(pair: Pair) -> None:
    pair.begin(takes_walk(WALKER))
    assert pair.second_waits(takes_walk(OTHER_WALKER)) is None
    assert pair.one("SELECT taken_by FROM retention_walk") == (WALKER,)


@pytest.mark.parametrize(
    ("records", "bodies", "gone"), [(later(9), later(9), (1, 0)), (NOW, later(9), (0, 1))], ids=["records", "bodies"]
)
def test_what_somebody_is_changing_is_not_deleted_yet(
    pair: Pair, records: datetime, bodies: datetime, gone: tuple[int, int]
) -> None:
    pair.scene(*PENDING, *(decides_about(delivery_id) for delivery_id in (FIRST, SECOND)))
    pair.begin(locks(FIRST))
    cutoffs = Cutoffs(records=records, bodies=bodies, responses=records)

    def retires(database: Database) -> object:
        page = retention.retire_page(database, Place(destination_id=PARTNER), cutoffs=cutoffs)
        return page.deleted, page.bodies

    assert pair.second_goes_on(retires) == gone


def decides_about(delivery_id: DeliveryId) -> Act:
    return lambda database: database.rows(
        "UPDATE delivery SET state = 'canceled', finished_at = %(now)s WHERE delivery_id = %(delivery_id)s RETURNING 1",
        {"delivery_id": delivery_id, "now": later(1)},
    )


def test_who_closes_a_breaker_lets_go_what_nobody_is_changing(pair: Pair) -> None:
    pair.scene(*PENDING)
    pair.superuser.connection().execute(
        b"UPDATE delivery SET waiting_for = 'circuit_breaker', waits_until = '2026-03-01 12:01Z'"
    )
    pair.begin(locks(FIRST))
    told = pair.second_goes_on(
        lambda database: database.rows(
            "SELECT woken FROM catch_up(%(partner)s, %(since)s, 2, %(now)s)",
            {"partner": PARTNER, "since": UUID(int=0), "now": NOW},
        )
    )
    assert told == [{"woken": [SECOND]}]


def test_who_is_answered_asks_about_what_nobody_is_changing(pair: Pair) -> None:
    pair.scene(*PENDING)
    pair.superuser.connection().execute(
        b"UPDATE delivery SET state = 'unknown', finished_at = '2026-03-01 12:00Z', ask_at = '2026-03-01 12:09Z',"
        b" ask_silent = true; UPDATE destination_flow SET silent_since = '2026-03-01 12:00Z'"
    )
    pair.begin(locks(FIRST))
    told = pair.second_goes_on(
        lambda database: database.rows(
            "SELECT note_answers(%(partner)s, '{}', false, 1, true, %(now)s) AS woken",
            {"partner": PARTNER, "now": later(1)},
        )
    )
    assert told == [{"woken": SECOND}]


def test_a_name_is_free_once_its_destination_is_deleted_and_not_before(pair: Pair) -> None:
    another = stores(destination(DestinationId(UUID(int=6))))
    for end, told in (("COMMIT", "taken"), ("ROLLBACK", "stored")):
        pair.superuser.connection().execute(EMPTY)
        pair.scene(*READY, deletes())
        assert pair.begin(restores)
        assert pair.second_waits(another, end=end) == told
    pair.superuser.connection().execute(EMPTY)
    pair.scene(*READY, deletes())
    pair.begin(another)
    assert pair.second_waits(restores) is False


def test_of_two_that_change_a_destination_one_does(pair: Pair) -> None:
    for first, second in ((deletes(), changes()), (changes(), deletes()), (deletes(), rotates("ours"))):
        pair.superuser.connection().execute(EMPTY)
        pair.scene(*READY)
        assert pair.begin(first)
        assert not pair.second_waits(second)

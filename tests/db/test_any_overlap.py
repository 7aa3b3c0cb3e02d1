"""Every statement overlaps: with its own first run, which was given up and goes on, and with what others do meanwhile.

The cases are those of test_repeats. Whatever overlaps, the rows and the answers are ones that come of a single run, or
of one after the other.
"""

import ast
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from db.connection import Database
from runtime.settings import DatabaseSettings
from tests.db.test_overlaps import Pair, connected
from tests.db.test_repeats import CASES, EMPTY, TABLES, Act, Case, all_rows, both, nothing
from tests.support.clauses import clauses, statements, writing
from tests.support.databases import FreshDatabase
from tests.support.wires import Wire

WRITING = writing(Path(__file__).parents[2])
# Every transaction that writes a row waits at its commit, for as long as the superuser has this lock.
HOLD = 7
HELD_AT_COMMIT = f"""
    CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({HOLD});
        RETURN NULL;
    END $$;
""" + "".join(
    f"CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_commit();"
    for table in TABLES
)
# What is true while the lease of an attempt runs, and no longer, need not be exact: `record` looks at the row of a
# destination before it locks it, so that it need not lock it where nobody limits anything (docs/adr/0046).
NEED_NOT_BE_EXACT = {"deliveries.note_slow"}
# What is no promise where a statement runs beside itself, and why.
OTHERWISE = {
    # SKIP LOCKED: who claims waits for nobody, not even for itself. What the first run leased is not sent, and lapses.
    "deliveries.claim": "answers",
    # The same: while the first run cancels a page, the second one cancels the next.
    "deliveries.cancel_waiting": "rows and answers",
}
# A turn of the rate is taken by each of the two: less is sent than might be, for as long as a turn.
TAKES_A_TURN_MORE = ("deliveries.accept", "at once with limits")


def case_id(case: Case) -> str:
    return "-".join(filter(None, (case.statement, case.told))).replace(" ", "_")


@pytest.fixture(scope="module")
def held(shared_database: FreshDatabase) -> Iterator[Pair]:
    """Its first and second connections are not used."""
    with connected(shared_database) as made:
        made.superuser.connection().execute(HELD_AT_COMMIT.encode())
        yield made


@contextmanager
def commits_held(superuser: Database) -> Iterator[None]:
    superuser.connection().execute(f"SELECT pg_advisory_lock({HOLD})".encode())
    try:
        yield
    finally:
        superuser.connection().execute(f"SELECT pg_advisory_unlock({HOLD})".encode())


def held_at_commit(superuser: Database, process_id: int) -> bool:
    return bool(
        superuser.rows(
            "SELECT FROM pg_locks WHERE pid = %(process_id)s AND locktype = 'advisory' AND objid = %(hold)s"
            " AND NOT granted",
            {"process_id": process_id, "hold": HOLD},
        )
    )


def waiting(superuser: Database, database: FreshDatabase, *, besides: int) -> bool:
    """Whether another session waits for a lock, be it to commit."""
    return bool(
        superuser.rows(
            "SELECT FROM pg_stat_activity WHERE datname = %(name)s AND pid <> %(besides)s AND wait_event_type = 'Lock'"
            " AND backend_type = 'client backend'",
            {"name": database.name, "besides": besides},
        )
    )


def ended(superuser: Database, process_id: int) -> bool:
    return not superuser.rows("SELECT FROM pg_stat_activity WHERE pid = %(pid)s", {"pid": process_id})


@pytest.mark.parametrize("case", [case for case in CASES if case.statement in WRITING], ids=case_id)
def test_beside_its_first_run_it_does_and_says_what_a_single_run_would(
    held: Pair, shared_database: FreshDatabase, case: Case
) -> None:
    """Its connection breaks while the first run is about to commit, and holds all its locks. Once the second one waits,
    the first one commits."""
    superuser, told = held.superuser, list[object]()
    superuser.connection().execute(EMPTY)
    both(*case.before)(superuser)
    rows_before = all_rows(superuser)
    single = case.runs(superuser)
    rows_single = all_rows(superuser)

    superuser.connection().execute(EMPTY)
    both(*case.before)(superuser)
    with closing(Wire(shared_database.url)) as wire, closing(over(wire, shared_database, case.role)) as database:
        first = database.connection().info.backend_pid
        thread = threading.Thread(target=lambda: told.append(case.runs(database)))
        with commits_held(superuser):
            thread.start()
            while thread.is_alive() and not held_at_commit(superuser, first):
                time.sleep(0.002)
            hung = thread.is_alive()
            if hung:
                wire.cut()
            while hung and thread.is_alive() and not waiting(superuser, shared_database, besides=first):
                time.sleep(0.002)
        thread.join()
    while not ended(superuser, first):
        time.sleep(0.002)
    assert hung or rows_single == rows_before
    otherwise = OTHERWISE.get(case.statement, "")
    if "rows" not in otherwise and (case.statement, case.told) != TAKES_A_TURN_MORE:
        assert all_rows(superuser) == rows_single
    if "answers" not in otherwise:
        assert told == [single]


def over(wire: Wire, database: FreshDatabase, role: str) -> Database:
    url = f"postgresql:///{database.name}?host={quote(wire.directory, safe='')}&user={role}"
    return Database(DatabaseSettings(database_url=url))


# With others


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a case was told, and the rows that are left."""

    told: object
    rows: Mapping[str, Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """What comes of a case and what others do: in either order, and of each of them alone."""

    case_first: Outcome
    others_first: Outcome
    case_alone: Outcome
    others_alone: Outcome


def in_turn(superuser: Database, case: Case, others: Act) -> InTurn:
    def outcome(first: Act, second: Act) -> Outcome:
        superuser.connection().execute(EMPTY)
        both(*case.before)(superuser)
        told = [act(superuser) for act in (first, second)]
        return Outcome(told=told[second is case.runs], rows=all_rows(superuser))

    return InTurn(
        case_first=outcome(case.runs, others),
        others_first=outcome(others, case.runs),
        case_alone=outcome(case.runs, nothing),
        others_alone=outcome(others, nothing),
    )


def overlap(pair: Pair, case: Case, first: Act, second: Act) -> tuple[list[object], bool]:
    """What both are told, where the second one begins before the first one commits; and whether it waits."""
    pair.scene(*case.before)
    told, waits = [pair.begin(first)], False
    thread = threading.Thread(target=lambda: told.append(second(pair.second)))
    thread.start()
    try:
        while thread.is_alive() and not waits:
            waits = pair.waits(pair.second)
            time.sleep(0.001)
    finally:
        pair.end()
        thread.join()
    return told, waits


def claims_of(told: object) -> set[object]:
    """What is claimed by it. Nothing else may differ from what would be told in turn."""
    assert isinstance(told, list)
    assert {kind for kind, *_ in told} <= {"claim", "NotDue", "Finished", "Missing"}
    return {claim for claim in told if claim[0] == "claim"}


WITH_OTHERS = [
    pytest.param(case, act, id=f"{case_id(case)}-{name}".replace(" ", "_"))
    for case in CASES
    for name, act in case.meanwhile.items()
    if case.statement in WRITING and case.statement not in NEED_NOT_BE_EXACT
]


@pytest.mark.parametrize(("case", "others"), WITH_OTHERS)
def test_at_the_same_time_as_others_it_does_and_says_what_it_would_in_turn(held: Pair, case: Case, others: Act) -> None:
    turns = in_turn(held.superuser, case, others)
    in_either_order = [turns.case_first.rows, turns.others_first.rows]

    held.superuser.connection().execute(EMPTY)
    told, waits = overlap(held, case, case.runs, others)
    left_alone = [] if waits and told[1] else [turns.case_alone.rows]
    assert told[0] == turns.case_first.told
    assert all_rows(held.superuser) in in_either_order + left_alone

    held.superuser.connection().execute(EMPTY)
    told, waits = overlap(held, case, others, case.runs)
    skipped = not waits or not told[1]
    if told[1] and told[1] not in (turns.case_first.told, turns.others_first.told):  # who is told nothing looks again
        assert not waits
        assert claims_of(told[1]) <= claims_of(turns.case_first.told)
    assert all_rows(held.superuser) in in_either_order + ([turns.others_alone.rows] if skipped else [])


# Every clause


OVERLAPS, ANY, LIMITS = "db/test_overlaps.py", "db/test_any_overlap.py", "db/test_limits.py"
BESIDE_ITSELF = (ANY, test_beside_its_first_run_it_does_and_says_what_a_single_run_would.__name__)
# Where two connections overlap so that it matters.
TRIED = {
    "attempts._write: FOR SHARE": (OVERLAPS, "test_what_is_recorded_while_its_delivery_is_expunged_is_not_stored"),
    "attempts._write: ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE": (
        OVERLAPS,
        "test_whoever_records_first_the_real_outcome_wins",
    ),
    "control.change: FOR UPDATE": (
        OVERLAPS,
        "test_of_two_decisions_at_once_the_first_one_counts_and_the_other_is_told",
    ),
    "deliveries.accept: ON CONFLICT ON CONSTRAINT delivery_key_once DO UPDATE": (
        OVERLAPS,
        "test_of_two_requests_with_one_key_one_becomes_a_delivery",
    ),
    "deliveries.accept: ON CONFLICT ON CONSTRAINT delivery_body_pkey DO NOTHING": BESIDE_ITSELF,
    "deliveries.claim: FOR UPDATE OF delivery SKIP LOCKED": (
        OVERLAPS,
        "test_what_one_worker_is_claiming_another_neither_gets_nor_waits_for",
    ),
    "deliveries.cancel_waiting: FOR UPDATE SKIP LOCKED": (
        OVERLAPS,
        "test_what_is_being_claimed_is_left_by_who_cancels_what_waits",
    ),
    "destinations.insert: ON CONFLICT ON CONSTRAINT destination_name_once DO NOTHING": (
        OVERLAPS,
        "test_of_two_destinations_of_one_name_one_is_stored",
    ),
    **{
        f"jobs.{name}: FOR UPDATE": (OVERLAPS, test)
        for name, test in (
            ("send_again", "test_of_two_steps_of_a_job_at_once_one_is_made"),
            ("repeat", "test_a_job_that_is_being_paused_makes_no_step"),
            ("cancel", "test_of_two_steps_of_a_job_at_once_one_is_made"),
        )
    },
    **{
        f"jobs.{name}: FOR UPDATE OF delivery": (
            OVERLAPS,
            "test_a_step_of_a_job_leaves_what_is_changed_while_it_waits_for_it",
        )
        for name in ("send_again", "cancel")
    },
    "migrations._lock: pg_try_advisory_lock": ("db/test_migrations.py", "test_two_at_once_apply_each_one_once"),
    "oauth_tokens.take: ON CONFLICT ON CONSTRAINT oauth_token_pkey DO UPDATE": (
        ANY,
        "test_at_the_same_time_as_others_it_does_and_says_what_it_would_in_turn",
    ),
    "seals.store: ON CONFLICT DO NOTHING": BESIDE_ITSELF,
    "tallies.count_attempts: ON CONFLICT ON CONSTRAINT tally_pkey DO UPDATE": (
        "flows/test_tallies.py",
        "test_two_that_count_at_once_count_each_attempt_once",
    ),
    "tenants.issue_token: ON CONFLICT ON CONSTRAINT tenant_name_once DO UPDATE": (
        OVERLAPS,
        "test_two_tokens_for_a_new_tenant_make_one_tenant",
    ),
    "tenants.issue_token: ON CONFLICT ON CONSTRAINT token_pkey DO NOTHING": BESIDE_ITSELF,
    "tenants.create: ON CONFLICT ON CONSTRAINT tenant_name_once DO UPDATE": (
        OVERLAPS,
        "test_of_two_that_create_a_tenant_both_get_the_same",
    ),
    "take_place(): pg_advisory_xact_lock": (
        "db/test_ordering.py",
        "test_of_two_that_are_accepted_at_once_the_first_to_commit_is_the_first",
    ),
    "take_place(): ON CONFLICT ON CONSTRAINT ordering_place_of_delivery DO NOTHING": BESIDE_ITSELF,
    "take_turns(): FOR UPDATE": (LIMITS, "test_no_window_of_time_has_more_attempts_than_burst_and_rate_allow"),
    "end_attempts_and_tell(): FOR UPDATE": (OVERLAPS, "test_of_two_failures_at_once_that_open_a_breaker_one_tells"),
    "note_slow(): FOR UPDATE": (OVERLAPS, "test_what_is_noted_as_slow_waits_for_who_changes_the_share"),
    "return_turns(): FOR UPDATE": (OVERLAPS, "test_of_two_records_at_once_both_return_their_turns"),
    "append_audit(): FOR UPDATE": (OVERLAPS, "test_who_appends_to_a_chain_is_not_refused_by_its_constraint"),
    "append_audit(): ON CONFLICT DO NOTHING": (OVERLAPS, "test_who_appends_to_a_chain_waits_for_the_entry_before"),
    "note_answers(): FOR UPDATE SKIP LOCKED": (OVERLAPS, "test_who_is_answered_asks_about_what_nobody_is_changing"),
    "expunge_delivery(): FOR UPDATE": (
        OVERLAPS,
        "test_what_is_recorded_while_its_delivery_is_expunged_is_not_stored",
    ),
    "catch_up(): FOR UPDATE OF delivery SKIP LOCKED": (
        OVERLAPS,
        "test_who_closes_a_breaker_lets_go_what_nobody_is_changing",
    ),
    "apply_retention(): FOR UPDATE SKIP LOCKED": (OVERLAPS, "test_what_somebody_is_changing_is_not_deleted_yet"),
    "apply_retention(): FOR UPDATE SKIP LOCKED (2)": (OVERLAPS, "test_what_somebody_is_changing_is_not_deleted_yet"),
    "has_room_for_job(): pg_advisory_xact_lock": (
        OVERLAPS,
        "test_of_two_for_which_only_one_has_room_one_is_stored",
    ),
    "has_room_for_proposal(): pg_advisory_xact_lock": (
        OVERLAPS,
        "test_of_two_for_which_only_one_has_room_one_is_stored",
    ),
}
# Why two cannot meet there.
NEVER_MET = {
    "append_audit(): FOR UPDATE (2)": "of two at a new chain, one waits for the other at ON CONFLICT before",
    "note_answers(): FOR UPDATE": "end_attempts calls return_turns first, which locks the row",
    **dict.fromkeys(
        (
            "take_turns(): ON CONFLICT ON CONSTRAINT attempt_under_way_pkey DO UPDATE",
            "take_turns(): ON CONFLICT DO NOTHING",
            "note_slow(): ON CONFLICT ON CONSTRAINT attempt_under_way_pkey DO NOTHING",
        ),
        "whoever writes there has locked the row of destination_flow",
    ),
    "destination_flow_begins(): ON CONFLICT DO NOTHING": "whoever stores a destination has its primary key",
    "add_terms_of_delivery(): ON CONFLICT DO NOTHING": "whoever stores a delivery has its primary key",
    "add_terms_of_attempt(): ON CONFLICT DO NOTHING": "whoever records an attempt has locked its row",
    "tell(): ON CONFLICT DO NOTHING": "whoever tells of a delivery or a destination has locked its row",
}


def test_whatever_waits_or_skips_is_tried_with_two_at_once_or_says_why_not(repository: Path) -> None:
    assert sorted(clauses(repository)) == sorted([*TRIED, *NEVER_MET])
    named = {
        (file, node.name)
        for file in {file for file, _ in TRIED.values()}
        for node in ast.parse((repository / "tests" / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(TRIED.values()) <= named


def test_no_statement_counts_what_it_then_adds_to(repository: Path) -> None:
    """Whoever counts sees what was committed when the statement began: a function with a lock counts (0036)."""
    counting = re.compile(r"count\(\*\)[^;]*?\)\s*<=?\s*%\(")
    assert [name for name, sql in statements(repository) if "INSERT INTO" in sql and counting.search(sql)] == []

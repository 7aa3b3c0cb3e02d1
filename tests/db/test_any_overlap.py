"""Every statement overlaps: with its own first run, which was given up and goes on, and with what others do meanwhile.

The cases are those of test_repeats. Whatever overlaps, the rows and the answers are ones that come of a single run, or
of one after the other.
"""

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
from tests.support.clauses import writing
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

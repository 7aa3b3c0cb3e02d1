"""Recording attempts: every column, and what PostgreSQL does not take."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db import attempts, deliveries
from db.attempts import BARE_REASON
from db.connection import Database
from domain.deliveries import Attempt, Claim, NewDelivery, Record, State, StoredResponse
from domain.errors import StatementRefused
from domain.ids import AttemptId
from domain.outcomes import OutcomeKind, Timings
from local.wire import statements_of
from runtime.settings import DatabaseSettings
from tests.db.test_repeats import (
    FIRST,
    NOW,
    PENDING,
    SECOND,
    TENANT,
    A,
    B,
    C,
    accepts,
    attempt,
    both,
    claims,
    later,
)
from tests.support.databases import FreshDatabase


@pytest.fixture
def database(shared_database: FreshDatabase) -> Iterator[Database]:
    """Two deliveries, leased to one worker."""
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        made.connection().execute("TRUNCATE tenant, token, destination, delivery, delivery_body, attempt CASCADE")
        both(*PENDING, claims(A))(made)
        yield made


ANSWERED = Attempt(
    attempt_id=AttemptId(UUID(int=40)),
    delivery_id=FIRST,
    number=1,
    outcome=OutcomeKind.ANSWERED,
    reason=None,
    started_at=later(1),
    timings=Timings(dns_ms=1.25, connect_ms=2.5, tls_ms=3.75, first_byte_ms=4.5, total_ms=5.25),
    remote_address="198.51.100.7",
    egress_address="203.0.113.8",
    response=StoredResponse(
        status=418,
        headers=(("A", "1"), ("B", "\N{SNOWMAN}"), ("A", "2")),
        body=b"\0\xff tea",
        length_bytes=70_000,
        sha256=b"s" * 32,
        truncated=True,
    ),
)
UNANSWERED = replace(
    ANSWERED,
    attempt_id=AttemptId(UUID(int=41)),
    outcome=OutcomeKind.UNREACHABLE,
    reason="no route",
    started_at=later(2),
    timings=Timings(dns_ms=6.5, connect_ms=7.5, tls_ms=8.5, first_byte_ms=9.5, total_ms=10.5),
    remote_address="2001:db8::1",
    egress_address="203.0.113.9",
    response=None,
)
LAPSE = replace(
    UNANSWERED,
    attempt_id=AttemptId(UUID(int=42)),
    outcome=OutcomeKind.UNKNOWN,
    reason="lapsed",
    started_at=later(3),
    timings=Timings(total_ms=0.0),
    remote_address=None,
    egress_address=None,
)
OTHER = replace(attempt("answered", attempt_id=43), delivery_id=SECOND)


def made(one: Attempt, state: State = State.DELIVERED, **overrides: Any) -> Record:
    values: dict[str, Any] = {"attempt": one, "lease_id": A, "next_state": state, "due_at": None}
    return Record(**(values | overrides))


def record(database: Database, *records: Record, at: float = 5) -> set[object]:
    return set(attempts.record(database, list(records), now=later(at)).moved)


def read(database: Database) -> list[Attempt]:
    """By both statements that read attempts, which agree."""
    found = attempts.with_delivery(database, tenant_id=TENANT, delivery_id=FIRST)
    assert found is not None
    assert found[1] == attempts.of_delivery(database, FIRST)
    assert found[0] == deliveries.find(database, tenant_id=TENANT, delivery_id=FIRST)
    return found[1]


@pytest.mark.parametrize("one", [ANSWERED, UNANSWERED, LAPSE])
def test_every_column_is_read_as_it_was_recorded(database: Database, one: Attempt) -> None:
    record(database, made(one, State.FAILED))
    assert read(database) == [one]


@pytest.mark.parametrize("truth", [ANSWERED, UNANSWERED])
def test_a_truth_replaces_every_column_of_a_lapse(database: Database, truth: Attempt) -> None:
    record(database, made(LAPSE, State.UNKNOWN))
    record(database, made(truth, State.DELIVERED))
    assert read(database) == [replace(truth, attempt_id=LAPSE.attempt_id)]


def test_a_truth_of_nothing_sent_replaces_what_a_lapse_may_have_said_of_addresses(database: Database) -> None:
    record(database, made(replace(LAPSE, remote_address="192.0.2.1", egress_address="192.0.2.2"), State.UNKNOWN))
    refused = replace(UNANSWERED, outcome=OutcomeKind.REFUSED, remote_address=None, egress_address=None)
    record(database, made(refused, State.FAILED))
    assert read(database) == [replace(refused, attempt_id=LAPSE.attempt_id)]


@pytest.mark.parametrize("known", [ANSWERED, UNANSWERED])
def test_what_is_known_is_not_overwritten(database: Database, known: Attempt) -> None:
    record(database, made(known, State.FAILED))
    assert record(database, made(LAPSE, State.UNKNOWN, lease_id=B)) == set()
    other = replace(UNANSWERED if known is ANSWERED else ANSWERED, attempt_id=AttemptId(UUID(int=44)))
    record(database, made(other, State.FAILED, lease_id=B))
    assert read(database) == [known]


def rows(database: Database) -> list[tuple[Any, ...]]:
    found = database.rows(
        "SELECT state, due_at, lease_id, leased_until, finished_at, attempts_made FROM delivery ORDER BY delivery_id",
        {},
    )
    return [tuple(row.values()) for row in found]


LEASED = ("sending", NOW, A, later(40), None, 1)


@pytest.mark.parametrize("state", [State.DELIVERED, State.FAILED, State.UNKNOWN])
def test_the_end_of_a_delivery_is_noted_and_no_other_moves(database: Database, state: State) -> None:
    assert record(database, made(ANSWERED, state)) == {FIRST}
    assert rows(database) == [(state.value, NOW, None, None, later(5), 1), LEASED]


def test_a_retry_is_due_when_it_is_said_to_be(database: Database) -> None:
    assert record(database, made(UNANSWERED, State.PENDING, due_at=later(77))) == {FIRST}
    assert rows(database) == [("pending", later(77), None, None, None, 1), LEASED]


def test_a_batch_is_recorded_each_with_its_own(database: Database) -> None:
    retried = replace(UNANSWERED, delivery_id=SECOND)
    moved = record(database, made(retried, State.PENDING, due_at=later(9)), made(ANSWERED, State.DELIVERED))
    assert moved == {FIRST, SECOND}
    assert rows(database) == [("delivered", NOW, None, None, later(5), 1), ("pending", later(9), None, None, None, 1)]
    assert read(database) == [ANSWERED]
    assert attempts.of_delivery(database, SECOND) == [retried]


def test_of_two_deliveries_under_one_lease_only_the_one_that_moved_is_reported(database: Database) -> None:
    assert record(database, made(ANSWERED)) == {FIRST}
    database.connection().execute(
        "UPDATE delivery SET state = 'canceled', lease_id = NULL, leased_until = NULL, finished_at = %s "
        "WHERE delivery_id = %s",
        [NOW, SECOND],
    )
    assert record(database, made(OTHER)) == set()
    assert record(database, made(ANSWERED), made(OTHER)) == {FIRST}


@pytest.mark.parametrize("lease_id", [B, C])
def test_another_lease_moves_nothing_with_what_it_does_not_know(database: Database, lease_id: object) -> None:
    assert record(database, made(LAPSE, State.UNKNOWN, lease_id=lease_id)) == set()
    assert rows(database) == [LEASED, LEASED]


def test_a_truth_moves_nothing_that_another_is_sending(database: Database) -> None:
    assert record(database, made(ANSWERED, lease_id=B)) == set()
    assert rows(database) == [LEASED, LEASED]


NEXT = replace(LAPSE, number=2, attempt_id=AttemptId(UUID(int=45)))


def begin_next(database: Database) -> None:
    """The first attempt lapsed and is to be repeated, and the second one has begun."""
    both(claims(B, at=later(60)))(database)
    record(database, made(LAPSE, State.PENDING, due_at=later(70), lease_id=B))
    both(claims(C, at=later(70)))(database)


@pytest.mark.parametrize("state", [State.UNKNOWN, State.PENDING])
def test_a_late_success_ends_a_delivery_of_which_another_attempt_achieved_nothing(
    database: Database, state: State
) -> None:
    begin_next(database)
    due_at = later(80) if state is State.PENDING else None
    record(database, made(NEXT, state, lease_id=C, due_at=due_at))
    assert record(database, made(ANSWERED, State.DELIVERED)) == {FIRST}
    assert rows(database)[0][0] == "delivered"
    assert [(attempt.number, attempt.outcome) for attempt in read(database)] == [(1, "answered"), (2, "unknown")]


@pytest.mark.parametrize("state", [State.UNKNOWN, State.PENDING, State.FAILED, State.DELIVERED])
def test_a_late_success_waits_for_the_attempt_that_is_in_flight_and_stands(database: Database, state: State) -> None:
    begin_next(database)
    in_flight = rows(database)[0]
    assert record(database, made(ANSWERED, State.DELIVERED)) == set()
    assert rows(database)[0] == in_flight
    assert record(database, made(NEXT, state, lease_id=C), at=90) == {FIRST}
    assert rows(database)[0] == ("delivered", later(70), None, None, later(90), 2)


def test_a_late_success_stands_where_the_attempt_in_flight_lapses(database: Database) -> None:
    begin_next(database)
    record(database, made(ANSWERED, State.DELIVERED))
    both(claims(B, at=later(160)))(database)
    assert record(database, made(NEXT, State.PENDING, lease_id=B, due_at=later(170)), at=161) == {FIRST}
    assert rows(database)[0][0] == "delivered"


@pytest.mark.parametrize("state", [State.FAILED, State.PENDING])
def test_another_truth_of_an_earlier_attempt_moves_nothing(database: Database, state: State) -> None:
    begin_next(database)
    record(database, made(NEXT, State.UNKNOWN, lease_id=C))
    assert record(database, made(ANSWERED, state)) == set()
    assert rows(database)[0][0] == "unknown"


def test_a_late_success_leaves_a_failure_that_was_told(database: Database) -> None:
    begin_next(database)
    record(database, made(replace(NEXT, outcome=OutcomeKind.REFUSED), State.FAILED, lease_id=C))
    assert record(database, made(ANSWERED, State.DELIVERED)) == set()
    assert rows(database)[0][0] == "failed"


@pytest.mark.parametrize("ended", [State.CANCELED, State.FAILED, State.DELIVERED])
def test_a_late_truth_leaves_what_others_decided(database: Database, ended: State) -> None:
    both(claims(B, at=later(60)))(database)
    record(database, made(LAPSE, State.UNKNOWN, lease_id=B))
    database.connection().execute("UPDATE delivery SET state = %s WHERE delivery_id = %s", [ended.value, FIRST])
    assert record(database, made(ANSWERED, State.DELIVERED)) == set()
    assert rows(database)[0][0] == ended.value


def test_attempts_come_in_the_order_of_their_numbers(database: Database) -> None:
    numbers = (3, 1, 4, 2)  # ids and rows in another order than the numbers
    for attempt_id, number in enumerate(numbers, 60):
        record(database, made(replace(ANSWERED, attempt_id=AttemptId(UUID(int=attempt_id)), number=number)))
    assert [attempt.number for attempt in read(database)] == [1, 2, 3, 4]


def test_a_delivery_without_attempts_is_shown(database: Database) -> None:
    assert read(database) == []


def test_a_delivery_is_shown_to_its_tenant_alone(database: Database) -> None:
    record(database, made(ANSWERED))
    for ids in ({"tenant_id": UUID(int=77), "delivery_id": FIRST}, {"tenant_id": TENANT, "delivery_id": UUID(int=77)}):
        assert attempts.with_delivery(database, **ids) is None  # type: ignore[arg-type]  # ids of nobody
        assert deliveries.find(database, **ids) is None  # type: ignore[arg-type]


def test_every_column_of_a_delivery_is_read(database: Database) -> None:
    new = NewDelivery(
        tenant_id=TENANT,
        destination="partner",
        method="PATCH",
        path="/a%20b",
        query="c=d",
        headers=(("E", "f"), ("E", "\N{SNOWMAN}")),
        body=b"\0g",
        metadata={"h": ["i", 1]},
        idempotency_key="j",
        not_before=later(30),
        attempts_allowed=7,
    )
    database.connection().execute("TRUNCATE delivery, delivery_body, attempt CASCADE")
    accepts(SECOND)(database)
    found = deliveries.accept(
        database,
        new,
        delivery_id=FIRST,
        fingerprint=b"k" * 32,
        now=later(20),
        lease=deliveries.Lease(lease_id=B, until=later(50)),
        wait_seconds=None,
    )
    (shown, _) = attempts.with_delivery(database, tenant_id=TENANT, delivery_id=FIRST) or (None, None)
    assert found is not None
    assert shown == found.delivery == deliveries.find(database, tenant_id=TENANT, delivery_id=FIRST)
    assert shown in deliveries.page(database, deliveries.Filter(tenant_id=TENANT), limit=9).deliveries
    expected = {name: getattr(new, name) for name in ("method", "path", "query", "headers", "metadata")}
    expected |= {"destination_name": "partner", "fingerprint": b"k" * 32, "idempotency_key": "j", "tenant_id": TENANT}
    expected |= {"due_at": later(30), "created_at": later(20), "finished_at": None, "state": State.PENDING}
    expected |= {"attempts_made": 0, "attempts_allowed": 7, "delivery_id": FIRST}
    assert {name: getattr(shown, name) for name in expected} == expected
    claim = deliveries.claim(database, [FIRST], lease=deliveries.Lease(lease_id=C, until=later(90)), now=later(30))[0]
    assert isinstance(claim, Claim)
    assert (claim.body, claim.headers, claim.path, claim.query) == (b"\0g", new.headers, "/a%20b", "c=d")
    assert (claim.method, claim.idempotency_key, claim.attempts_allowed) == ("PATCH", "j", 7)
    assert claim.destination.name == "partner"


# What PostgreSQL does not take


def odd(**response: Any) -> Attempt:
    assert ANSWERED.response is not None
    return replace(ANSWERED, response=replace(ANSWERED.response, **response))


STORABLE = {
    "NUL in a header": odd(headers=(("X", "a\0b"),)),
    "half a pair in a header's name": odd(headers=(("\ud800", "b"),)),
    "half a pair in a reason": replace(UNANSWERED, reason="a\udc80b"),
    "NUL in a reason": replace(UNANSWERED, reason="a\0b"),
}
NOT_STORABLE = {
    "a status out of range": odd(status=99_999),
    "a length out of range": odd(length_bytes=2**70),
    "a body over the cap": odd(body=b"x" * 65_537),
    "no address": replace(ANSWERED, remote_address="nowhere"),
    "no number": replace(ANSWERED, timings=Timings(dns_ms=float("nan"), total_ms=float("inf"))),
}


@pytest.mark.parametrize("one", STORABLE.values(), ids=STORABLE)
def test_a_text_that_postgresql_does_not_take_is_made_one_that_it_takes(database: Database, one: Attempt) -> None:
    assert record(database, made(one, State.FAILED)) == {FIRST}
    (found,) = read(database)
    assert found.timings == one.timings  # it was not recorded bare
    assert "\N{REPLACEMENT CHARACTER}" in (found.reason or str(found.response and found.response.headers))


def test_a_whole_pair_stays_a_character(database: Database) -> None:
    assert ANSWERED.response is not None
    record(database, made(odd(headers=(("X", "\N{GRINNING FACE}\0"),))))
    (found,) = read(database)
    assert found.response is not None
    assert found.response.headers == (("X", "\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"),)


@pytest.mark.parametrize("one", NOT_STORABLE.values(), ids=NOT_STORABLE)
def test_an_answer_that_cannot_be_stored_affects_neither_other_deliveries_nor_the_outcome(
    database: Database, one: Attempt
) -> None:
    assert record(database, made(one), made(OTHER, State.FAILED)) == {FIRST, SECOND}
    assert [row[0] for row in rows(database)] == ["delivered", "failed"]
    assert attempts.of_delivery(database, SECOND) == [OTHER]
    (found,) = read(database)
    assert found.response is not None
    assert (found.outcome, found.response.body, found.response.headers) == ("answered", b"", ())
    assert found.response.truncated
    assert found.response.status == (418 if one.response and one.response.status == 418 else 32_767)


def test_an_attempt_without_an_answer_is_recorded_bare_too(database: Database) -> None:
    assert record(database, made(replace(UNANSWERED, egress_address="nowhere"), State.FAILED)) == {FIRST}
    (found,) = read(database)
    assert (found.outcome, found.reason) == ("unreachable", BARE_REASON)


def test_an_outcome_that_cannot_be_recorded_at_all_is_reported_after_the_others(database: Database) -> None:
    impossible = replace(UNANSWERED, outcome=OutcomeKind.ANSWERED, delivery_id=FIRST)  # and no response
    with pytest.raises(StatementRefused):
        record(database, made(impossible), made(OTHER, State.FAILED))
    assert [row[0] for row in rows(database)] == ["sending", "failed"]


def test_a_batch_needs_one_statement_unless_a_row_is_refused(database: Database) -> None:
    with statements_of(database.connection()) as ran:
        record(database, made(ANSWERED), made(OTHER))
    assert len(ran) == 1

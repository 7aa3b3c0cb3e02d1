"""Deliveries with one ordering key are sent one after the other, in the order of their acceptance."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import pairwise

import pytest

from db.connection import Database
from domain.deliveries import Claim, Finished, NotDue, State, WaitingFor
from domain.ids import DeliveryId
from domain.limits import Limits
from domain.options import DestinationOptions
from domain.ordering import AfterFailure, Ordering
from runtime.settings import DatabaseSettings
from tests.db.flow import LEASE_SECONDS, Crowd, accept, claim, ids, record, set_up
from tests.db.test_overlaps import Pair, connected
from tests.db.test_repeats import NOW, later
from tests.support.databases import FreshDatabase

SKIPS = DestinationOptions(ordering=Ordering(after_failure=AfterFailure.SKIP))
KEYS = 5


@pytest.fixture
def superuser(shared_database: FreshDatabase) -> Iterator[Database]:
    with closing(Database(DatabaseSettings(database_url=shared_database.admin_url))) as made:
        yield made


def claimed(superuser: Database, wanted: list[DeliveryId], at: datetime) -> list[Claim]:
    return [result for result in claim(superuser, wanted, at) if isinstance(result, Claim)]


def one_key(superuser: Database, number: int, options: DestinationOptions | None = None) -> list[DeliveryId]:
    return set_up(superuser, options or DestinationOptions(), number, key_of=lambda _: "customer-17")


@pytest.mark.parametrize(
    ("options", "crash", "retries"),
    [
        (DestinationOptions(), 0.0, 0.3),
        (DestinationOptions(), 0.05, 0.1),
        (SKIPS, 0.0, 0.2),
        (DestinationOptions(limits=Limits(concurrency=3)), 0.0, 0.1),
    ],
    ids=["retries", "crashes", "skips", "limits"],
)
def test_one_key_never_overtakes_itself_and_is_never_sent_twice_at_once(
    superuser: Database, shared_database: FreshDatabase, options: DestinationOptions, crash: float, retries: float
) -> None:
    """Whatever the workers do at once, with their batches in any order, with retries and with leases that lapse."""
    made = set_up(superuser, options, 60, key_of=lambda position: f"key-{position % KEYS}")
    crowd = Crowd(
        url=shared_database.url,
        waiting=dict.fromkeys(made, NOW),
        crash=crash,
        retries=retries,
        fails=lambda chance: options is SKIPS and chance.random() < 0.3,
    )
    crowd.run()
    assert {begun.delivery_id for begun in crowd.begun} == set(made)
    for key in range(KEYS):
        line = made[key::KEYS]
        begun = sorted((begun for begun in crowd.begun if begun.delivery_id in line), key=lambda begun: begun.order)
        assert [line.index(one.delivery_id) for one in begun] == sorted(line.index(one.delivery_id) for one in begun)
        ends = {delivery_id: crowd.ended[delivery_id] for delivery_id in line}
        for earlier, next_one in pairwise(line):
            first = min(one.order for one in begun if one.delivery_id == next_one)
            assert ends[earlier] < first
    assert superuser.rows("SELECT FROM ordering_place", {}) == []


def test_others_are_not_held_up(superuser: Database) -> None:
    made = set_up(superuser, DestinationOptions(), 4, key_of=lambda position: ("a", "a", "b", None)[position])
    assert [result.delivery_id for result in claimed(superuser, made, NOW)] == [made[0], made[2], made[3]]


def test_the_end_of_one_wakes_the_next_and_a_retry_does_not(superuser: Database) -> None:
    made = one_key(superuser, 3)
    results = claim(superuser, made, NOW)
    assert [result.waiting_for for result in results if isinstance(result, NotDue)] == [WaitingFor.ORDERING] * 2
    (head,) = [result for result in results if isinstance(result, Claim)]
    assert record(superuser, [head], later(1), State.PENDING).woken == frozenset()
    assert claimed(superuser, made[1:], later(2)) == []  # the head is to be tried again
    (head,) = claimed(superuser, made[:1], later(2))
    assert [woken.delivery_id for woken in record(superuser, [head], later(3)).woken] == [made[1]]


@pytest.mark.parametrize("state", [State.FAILED, State.UNKNOWN])
def test_a_failed_one_holds_back_its_key_or_lets_the_next_one_go(superuser: Database, state: State) -> None:
    made = one_key(superuser, 3)
    (head,) = claimed(superuser, made, NOW)
    assert record(superuser, [head], later(1), state, failed=True).woken == frozenset()
    assert claimed(superuser, made[1:], later(2)) == []
    superuser.rows("""UPDATE destination SET options = '{"ordering": {"after_failure": "skip"}}' RETURNING 1""", {})
    assert [result.delivery_id for result in claimed(superuser, made[1:], later(3))] == [made[1]]  # it was waiting

    made = one_key(superuser, 3, SKIPS)
    (head,) = claimed(superuser, made, NOW)
    assert [woken.delivery_id for woken in record(superuser, [head], later(1), state, failed=True).woken] == [made[1]]
    assert [result.delivery_id for result in claimed(superuser, made[1:], later(2))] == [made[1]]


def test_an_answer_that_comes_late_lets_the_next_one_go(superuser: Database) -> None:
    made = one_key(superuser, 2)
    (head,) = claimed(superuser, made, NOW)
    (lapsed,) = claimed(superuser, made, later(LEASE_SECONDS))
    assert lapsed.lapsed
    record(superuser, [lapsed], later(LEASE_SECONDS), State.UNKNOWN)
    assert claimed(superuser, made[1:], later(50)) == []
    assert [woken.delivery_id for woken in record(superuser, [head], later(51)).woken] == [made[1]]
    assert len(claimed(superuser, made[1:], later(52))) == 1


def test_the_message_of_one_that_has_ended_says_who_is_next(superuser: Database) -> None:
    """Its worker may have crashed between the record and the wake-up."""
    made = one_key(superuser, 2)
    (head,) = claimed(superuser, made, NOW)
    record(superuser, [head], later(1))
    (result,) = claim(superuser, made[:1], later(2))
    assert result == Finished(delivery_id=made[0], next_in_order=made[1])
    (last,) = claimed(superuser, made, later(2))
    record(superuser, [last], later(3))
    assert claim(superuser, made[1:], later(4)) == [Finished(delivery_id=made[1])]


@pytest.mark.parametrize("state", [State.FAILED, State.UNKNOWN])
def test_the_message_of_one_that_holds_back_its_key_wakes_nobody(superuser: Database, state: State) -> None:
    """Nor does that of one which ended before it: a wake-up of what has ended would be answered by the same again."""
    made = one_key(superuser, 3)
    (head,) = claimed(superuser, made, NOW)
    record(superuser, [head], later(1))
    (second,) = claimed(superuser, made[1:], later(2))
    record(superuser, [second], later(3), state, failed=True)
    assert claim(superuser, made[:2], later(4)) == [Finished(delivery_id=ended) for ended in made[:2]]


def test_the_one_that_waits_is_told_so_when_it_is_accepted(superuser: Database) -> None:
    one_key(superuser, 1)
    assert accept(superuser, ids(2)[1], ordering_key="customer-17").delivery.waiting_for is WaitingFor.ORDERING
    assert accept(superuser, ids(3)[2], ordering_key="customer-18").delivery.waiting_for is None


def test_with_a_key_nothing_is_sent_by_whoever_accepts(superuser: Database) -> None:
    """It could not know who was accepted a moment before."""
    one_key(superuser, 0)
    assert accept(superuser, ids(1)[0], wait_seconds=25.0, ordering_key="customer-17").claim is None


def test_of_two_that_are_accepted_at_once_the_first_to_commit_is_the_first(database: FreshDatabase) -> None:
    """Or the second one could be sent before the first one is seen."""
    with connected(database) as pair:
        one_key(pair.superuser, 0)
        first, second = ids(2)
        pair.begin(lambda database: accept(database, first, ordering_key="customer-17"))
        pair.second_waits(lambda database: accept(database, second, ordering_key="customer-17"))
        assert [result.delivery_id for result in claimed(pair.superuser, [second, first], NOW)] == [first]


def test_another_key_does_not_wait(database: FreshDatabase) -> None:
    with connected(database) as pair:
        one_key(pair.superuser, 0)
        first, second = ids(2)
        pair.begin(lambda database: accept(database, first, ordering_key="customer-17"))
        assert accept(pair.second, second, ordering_key="customer-18").delivery.delivery_id == second
        pair.end()


def test_two_batches_at_two_destinations_never_wait_for_each_other(database: FreshDatabase) -> None:
    """Their rows are locked in one order, whatever the order of the deliveries."""
    with connected(database) as pair:
        waits_in_order(pair)


def waits_in_order(pair: Pair) -> None:
    limited = DestinationOptions(limits=Limits(concurrency=200))
    made = set_up(pair.superuser, limited, 40)
    pair.superuser.rows(
        """
        WITH other AS (
            INSERT INTO destination (
                destination_id, tenant_id, name, base_url, auth_type, guarantee, idempotent, idempotency_header,
                connect_seconds, first_byte_seconds, total_seconds, created_at, options)
            SELECT gen_random_uuid(), tenant_id, 'other', base_url, auth_type, guarantee, idempotent,
                   idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at, options
            FROM destination
            RETURNING destination_id
        )
        UPDATE delivery SET destination_id = other.destination_id
        FROM other WHERE delivery_id = ANY (%(odd)s) RETURNING 1
        """,
        {"odd": made[1::2]},
    )
    taken: list[DeliveryId] = []

    def work(database: Database, wanted: list[DeliveryId]) -> None:
        for position in range(0, len(wanted), 2):
            for result in claim(database, wanted[position : position + 2], NOW):
                assert isinstance(result, Claim)
                record(database, [result], NOW)
                taken.append(result.delivery_id)

    threads = [
        threading.Thread(target=work, args=(database, wanted))
        for database, wanted in ((pair.first, made[:20]), (pair.second, made[:19:-1]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == made

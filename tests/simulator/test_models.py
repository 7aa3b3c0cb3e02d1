"""The models do what they follow: SQS, Lambda, a connection to PostgreSQL, partners, and time itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.connection import Database
from domain.destinations import Timeouts
from domain.errors import DatabaseUnavailable
from domain.ids import DeliveryId
from domain.outcomes import Answered, Unknown
from domain.wakeups import Wakeup
from egress.client import EarlyResults, OutboundRequest
from flows.services import Services
from runtime.aws import AwsCallFailed
from runtime.deadline import OutOfTime, within
from runtime.settings import DatabaseSettings
from simulator.choices import Choices
from simulator.database import Server, name_of
from simulator.faults import Kind, Seam, Weather
from simulator.functions import Fleet, NoAnswer, Pollers
from simulator.partner import Partners
from simulator.scheduler import Killed, NeverEnds, Scheduler, Signal
from simulator.seams import STAGE, seams
from simulator.setting import DESTINATIONS, RealConnection, emptied
from simulator.sqs import MOST_COPIES, MOST_RECEIVES, VISIBILITY_SECONDS, ModelledQueue
from simulator.world import Process, World
from wakeups.sqs import encode

WAKEUP = Wakeup(delivery_id=DeliveryId(UUID(int=1)), due_at=datetime(2026, 3, 1, tzinfo=UTC), group="g")


@dataclass(slots=True, kw_only=True)
class Scripted(Weather):
    """Whatever a test asks for at a seam, in turn; otherwise nothing goes wrong."""

    script: dict[Seam, list[Kind | None]] = field(default_factory=dict)

    def draw(self, seam: Seam) -> tuple[float, Kind | None]:
        kinds = self.script.get(seam, [])
        return 0.01, kinds.pop(0) if kinds else None


@dataclass(slots=True, kw_only=True)
class Models:
    """A world without callers and workers, for tests to use directly."""

    world: World
    server: Server
    queue: ModelledQueue
    partners: Partners

    def runs(self, work: Callable[[], object], *, process: Process | None = None) -> Any:
        """What `work` returns; raises what it raises. It runs as a task, until all is at rest."""
        ends: list[Any] = []

        def task() -> None:
            try:
                ends.append((work(), None))
            except Exception as error:  # noqa: BLE001 - raised again below, outside of the task
                ends.append((None, error))

        self.world.scheduler.spawn(task, sandbox=process)
        self.world.scheduler.run()
        (value, error) = ends[0]
        if error is not None:
            raise error
        return value


@contextmanager
def models(real: RealConnection, script: dict[Seam, list[Kind | None]] | None = None) -> Iterator[Models]:
    choices = Choices(tape=())
    weather = Scripted(choices=choices, name="mixed", possible=frozenset(Kind), script=script or {})
    world = World(choices=choices, scheduler=Scheduler(choices), weather=weather)
    emptied(real)
    made = Models(
        world=world,
        server=Server(world, real),
        queue=ModelledQueue(world),
        partners=Partners(world, trouble_percent=0, idempotent=frozenset()),
    )
    STAGE.world, STAGE.server, STAGE.queue = world, made.server, made.queue
    with seams():
        yield made
    made.server.close()


# ---- Time


def tasks() -> tuple[Scheduler, list[str]]:
    return Scheduler(Choices(tape=())), []


def test_time_jumps_and_tasks_go_on_in_its_order() -> None:
    scheduler, seen = tasks()

    def work(name: str, seconds: float) -> None:
        scheduler.pause(seconds)
        seen.append(f"{name} at {scheduler.now:g}")

    scheduler.spawn(lambda: work("late", 86_400.0))
    scheduler.spawn(lambda: work("early", 1.0))
    scheduler.run()
    assert seen == ["early at 1", "late at 86400"]


def test_a_signal_wakes_whoever_waits_and_a_time_out_whoever_waits_too_long() -> None:
    scheduler, seen = tasks()
    signal = Signal(scheduler)

    def wait(seconds: float) -> None:
        scheduler.wait(signal, seconds)
        seen.append(f"{scheduler.now:g}")

    scheduler.spawn(lambda: wait(1.0))
    scheduler.spawn(lambda: wait(60.0))
    scheduler.call_at(5.0, signal.fire)
    scheduler.run()
    assert seen == ["1", "5"]


def test_a_killed_process_does_nothing_more_whatever_it_catches() -> None:
    scheduler, seen = tasks()
    process = Process("worker 1", skew_seconds=0)

    def work() -> None:
        try:
            scheduler.pause(10.0)
            seen.append("goes on")
        except Exception:  # noqa: BLE001 - what the flows do, and what must not catch it
            seen.append("catches it")
        finally:
            with pytest.raises(Killed):
                scheduler.pause(1.0)

    scheduler.spawn(work, sandbox=process)
    scheduler.call_at(5.0, lambda: scheduler.crash(process))
    scheduler.run()
    assert seen == []
    assert process.tasks == []


def test_a_frozen_process_stands_still_and_goes_on_where_it_was() -> None:
    scheduler, seen = tasks()
    process = Process("worker 1", skew_seconds=0)

    def work() -> None:
        scheduler.pause(1.0)
        seen.append(f"{scheduler.now:g}")

    scheduler.spawn(work, sandbox=process)
    scheduler.call_at(0.5, lambda: scheduler.freeze(process))
    scheduler.call_at(300.0, lambda: scheduler.thaw(process))
    scheduler.run()
    assert seen == ["300"]


def test_a_run_that_never_rests_ends_with_an_error() -> None:
    scheduler, _ = tasks()

    def work() -> None:
        while True:
            scheduler.pause(1.0)

    scheduler.spawn(work)
    with pytest.raises(NeverEnds):
        scheduler.run()


# ---- SQS


def entries(*delays: int) -> dict[str, Any]:
    named = [
        {"Id": str(place), "MessageBody": encode(WAKEUP), "DelaySeconds": delay, "MessageGroupId": "g"}
        for place, delay in enumerate(delays)
    ]
    return {"QueueUrl": "modelled", "Entries": named}


def sends(made: Models, *delays: int) -> Any:
    return made.runs(
        lambda: made.queue.call(entries(*delays), timeout_seconds=5.0), process=Process("worker 1", skew_seconds=0)
    )


def test_a_message_is_invisible_while_it_is_delayed_and_while_somebody_has_it(real: RealConnection) -> None:
    with models(real) as made:
        assert sends(made, 0, 900)["Successful"] == [{"Id": "0"}, {"Id": "1"}]
        (message,) = made.queue.receive()
        assert made.queue.receive() == []
        assert message.visible_at == made.world.now + VISIBILITY_SECONDS
        assert max(queued.visible_at for queued in made.queue.messages) == pytest.approx(900, abs=1)


def test_a_message_that_fails_too_often_moves_to_the_dead_letters_and_back(real: RealConnection) -> None:
    with models(real) as made:
        sends(made, 0)
        for _ in range(MOST_RECEIVES):
            (message,) = made.queue.receive()
            message.visible_at = made.world.now
        assert made.queue.receive() == []
        assert (len(made.queue.messages), len(made.queue.dead)) == (0, 1)
        assert made.queue.waiting() == {str(WAKEUP.delivery_id)}
        made.queue.redrive()
        assert len(made.queue.receive()) == 1


def test_messages_are_delivered_twice_late_and_in_spite_of_their_deletion(real: RealConnection) -> None:
    script: dict[Seam, list[Kind | None]] = {
        Seam.RECEIVE: [Kind.RECEIVED_TWICE, None, Kind.DELAYED],
        Seam.DELETE: [Kind.UNDELETED],
    }
    with models(real, script) as made:
        sends(made, 0)
        first = made.queue.receive()
        second = made.queue.receive()
        assert (len(first), len(second)) == (1, 1)
        made.queue.delete(first)
        made.queue.delete(second)
        (left,) = made.queue.messages
        left.visible_at = made.world.now
        assert made.queue.receive() == []
        assert left.visible_at > made.world.now


def test_copies_of_messages_have_no_copies_without_end(real: RealConnection) -> None:
    with models(real, {Seam.RECEIVE: [Kind.RECEIVED_TWICE] * (MOST_COPIES + 1)}) as made:
        sends(made, 0)
        for _ in range(2 * MOST_COPIES):
            for message in made.queue.messages:
                message.visible_at, message.receives = made.world.now, 0
            made.queue.receive()
        assert len(made.queue.messages) == 1 + MOST_COPIES


def test_throttled_messages_count_as_received_and_come_back(real: RealConnection) -> None:
    with models(real, {Seam.INVOKE: [Kind.NOT_INVOKED]}) as made:
        workers = fleet(made)
        sends(made, 0)
        Pollers(made.world, made.queue, workers, concurrency=1)
        made.world.scheduler.run(until=VISIBILITY_SECONDS - 1)
        assert [message.receives for message in made.queue.messages] == [1]
        assert made.world.evidence.invocations == []
        made.world.scheduler.run(until=VISIBILITY_SECONDS + 5)
        assert [each.what for each in made.world.evidence.invocations] == ["batch"]
        workers.close()


@pytest.mark.parametrize(
    ("seam", "kind", "queued", "answered"),
    [
        (Seam.QUEUE_CALL, Kind.SQS_REFUSES, 0, False),
        (Seam.QUEUE_CALL, Kind.SQS_UNREACHABLE, 0, False),
        (Seam.QUEUE_ANSWER, Kind.SQS_REPLY_LOST, 2, False),
        (Seam.QUEUE_ANSWER, Kind.SQS_TWICE, 4, True),
        (Seam.QUEUE_CALL, Kind.SQS_PARTIAL, 2, True),
    ],
)
def test_what_a_failed_call_leaves_in_the_queue(
    real: RealConnection, seam: Seam, kind: Kind, queued: int, answered: bool
) -> None:
    """Of a partial refusal the benign choice is that all are accepted."""
    with models(real, {seam: [kind]}) as made:
        with nullcontext() if answered else pytest.raises(AwsCallFailed):
            sends(made, 0, 0)
        assert len(made.queue.messages) == queued


@pytest.mark.parametrize(
    "change",
    [
        {"DelaySeconds": 901},
        {"DelaySeconds": -1},
        {"MessageGroupId": ""},
        {"Id": "1"},
        {"MessageBody": encode(WAKEUP) + " " * 262_144},
    ],
)
def test_a_call_that_sqs_would_refuse_is_a_fault_of_ours(real: RealConnection, change: dict[str, Any]) -> None:
    with models(real) as made:
        payload = entries(0, 0)
        payload["Entries"][0] |= change
        made.runs(lambda: made.queue.call(payload, timeout_seconds=5.0), process=Process("worker 1", skew_seconds=0))
        assert made.world.evidence.misuse == ["a call of SendMessageBatch breaks a rule of its API"]


# ---- A connection


def asks(made: Models, *, database: Database | None = None) -> Any:
    """One statement through the real Database."""
    used = database or Database(DatabaseSettings(database_url="postgresql://modelled"), wall_clock=lambda: 0.0)
    process = Process("worker 1", skew_seconds=0)
    return made.runs(lambda: used.rows("SELECT 1 AS one", {}, repeatable=True), process=process)


@pytest.mark.parametrize(
    ("seam", "kind"),
    [
        (Seam.STATEMENT, Kind.BROKEN_BEFORE),
        (Seam.STATEMENT, Kind.DEADLOCK),
        (Seam.STATEMENT, Kind.HANGS),
        (Seam.STATEMENT, Kind.RUNS_LATE),
        (Seam.ROWS, Kind.BROKEN_AFTER),
        (Seam.ROWS, Kind.ROWS_LATE),
    ],
)
def test_what_breaks_once_is_repeated_by_the_code_under_test(real: RealConnection, seam: Seam, kind: Kind) -> None:
    with models(real, {seam: [kind]}) as made:
        assert asks(made) == [{"one": 1}]


@pytest.mark.parametrize(
    ("seam", "kind"),
    [
        (Seam.STATEMENT, Kind.BROKEN_BEFORE),
        (Seam.ROWS, Kind.BROKEN_AFTER),
        (Seam.CONNECT, Kind.CONNECT_REFUSED),
        (Seam.CONNECT, Kind.CONNECT_HANGS),
        (Seam.STATEMENT, Kind.HANGS),
        (Seam.STATEMENT, Kind.BUSY),
    ],
)
def test_what_breaks_again_and_again_is_an_unavailable_database(real: RealConnection, seam: Seam, kind: Kind) -> None:
    with models(real, {seam: [kind] * 3}) as made:
        with pytest.raises(DatabaseUnavailable):
            asks(made)
        assert made.world.now <= 9.1  # Database's own limit for a call


def test_two_threads_that_use_one_connection_at_once_are_a_fault_of_ours(real: RealConnection) -> None:
    with models(real) as made:
        connection = made.runs(lambda: made.server.connect(Process("worker 1", skew_seconds=0)))

        def ask() -> object:
            return connection.run("SELECT 1 AS one", {}, prepare=None, binary=False)

        made.runs(ask)
        assert made.world.evidence.misuse == []
        made.world.scheduler.spawn(ask)
        made.runs(ask)
        assert made.world.evidence.misuse == ["a connection is used by two threads at once"]


@pytest.mark.parametrize(
    ("kind", "executed"),
    [(Kind.BROKEN_BEFORE, False), (Kind.HANGS, False), (Kind.BROKEN_AFTER, True), (Kind.RUNS_LATE, True)],
)
def test_a_statement_that_failed_was_carried_out_or_not(real: RealConnection, kind: Kind, executed: bool) -> None:
    seam = Seam.ROWS if kind is Kind.BROKEN_AFTER else Seam.STATEMENT
    with models(real, {seam: [kind]}) as made:
        process = Process("worker 1", skew_seconds=0)

        def insert() -> None:
            connection = made.server.connect(process)
            connection.give_up_at = made.world.now + 4.0
            with pytest.raises(psycopg.OperationalError):
                connection.run(
                    "INSERT INTO destination SELECT %(id)s, tenant_id, 'made', base_url, auth_type, NULL, guarantee,"
                    " idempotent, idempotency_header, connect_seconds, first_byte_seconds, total_seconds, created_at"
                    " FROM destination WHERE destination_id = %(like)s RETURNING destination_id",
                    {"id": UUID(int=0xDDD), "like": DESTINATIONS[0].destination_id},
                    prepare=None,
                    binary=False,
                )
            assert connection.closed

        before = real.execute("SELECT count(*) AS rows FROM destination").fetchall()
        with real.transaction(force_rollback=True):
            made.runs(insert, process=process)
            after = real.execute("SELECT count(*) AS rows FROM destination").fetchall()
        assert (after != before) is executed


def test_what_cannot_be_stored_of_an_attempt_is_refused_until_faults_stop(real: RealConnection) -> None:
    text = "SELECT %(records)s::text AS made -- WITH made AS"
    full = {"delivery_id": "a", "number": 1, "response_body": "eA==", "remote_address": "203.0.113.1"}
    bare = full | {"response_body": "", "remote_address": None}
    with models(real, {Seam.STATEMENT: [Kind.ROW_REFUSED]}) as made:
        process = Process("worker 1", skew_seconds=0)

        def store(record: dict[str, Any]) -> str:
            connection = made.server.connect(process)
            try:
                connection.run(text, {"records": json.dumps([record])}, prepare=False, binary=False)
            except psycopg.errors.UntranslatableCharacter:
                return "refused"
            return "stored"

        made.server._notes = {}
        stored = made.runs(lambda: [store(each) for each in (full, full, bare, full | {"number": 2})], process=process)
        assert stored == ["refused", "refused", "stored", "stored"]
        made.server.recover()
        assert made.runs(lambda: store(full), process=process) == "stored"


def test_a_writer_that_became_a_reader_answers_questions_and_refuses_to_write(real: RealConnection) -> None:
    with models(real) as made:
        made.server.fail_over(30.0)
        assert asks(made) == [{"one": 1}]
        process = Process("worker 1", skew_seconds=0)

        def write() -> None:
            made.server.connect(process).run("UPDATE delivery SET state = state", {}, prepare=None, binary=False)

        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            made.runs(write, process=process)


def test_an_outage_breaks_open_connections_and_ends(real: RealConnection) -> None:
    with models(real) as made:
        made.server.go_away(20.0, refuses=True)
        with pytest.raises(DatabaseUnavailable):
            asks(made)
        made.world.scheduler.call_at(20.0, lambda: None)
        made.world.scheduler.run()
        assert asks(made) == [{"one": 1}]


# ---- Lambda


def fleet(made: Models) -> Fleet:
    return Fleet("worker", made.world, made.partners, made.server, timeout_seconds=45.0)


def test_a_process_is_used_again_and_keeps_its_connection(real: RealConnection) -> None:
    with models(real) as made:
        workers, seen = fleet(made), []

        def work(services: Services, _: float) -> None:
            seen.append((made.world.process.name, id(services.database.connection())))

        for _ in range(2):
            made.runs(lambda: workers.invoke(work, what="batch"))
        assert seen[0] == seen[1]
        workers.close()


def test_a_function_is_stopped_when_its_time_is_over_and_another_process_follows(real: RealConnection) -> None:
    with models(real) as made:
        workers, seen = fleet(made), []

        def work(services: Services, _: float) -> None:
            seen.append(made.world.process.name)
            services.sleep(60.0)
            seen.append("goes on")

        for _ in range(2):
            with pytest.raises(NoAnswer):
                made.runs(lambda: workers.invoke(work, what="batch"))
        assert seen == ["worker 1", "worker 2"]
        ran = [(each.ended_at or 0.0) - each.began_at for each in made.world.evidence.invocations]
        assert ran == pytest.approx([45.0, 45.0])


def test_a_thread_that_is_left_stands_still_until_the_next_invocation(real: RealConnection) -> None:
    """AWS: "background processes or callbacks that did not complete when the function ended resume"."""
    with models(real) as made:
        workers, seen = fleet(made), []

        def hangs() -> None:
            made.world.scheduler.pause(30.0)
            seen.append(f"{made.world.now:.0f}")

        def leaves_a_thread(_: Services, __: float) -> None:
            with pytest.raises(OutOfTime):
                within(1.0, hangs, cut=lambda: None)

        made.runs(lambda: workers.invoke(leaves_a_thread, what="batch"))
        made.world.scheduler.call_at(300.0, lambda: None)
        made.world.scheduler.run()
        assert seen == []
        made.runs(lambda: workers.invoke(lambda services, _: services.sleep(1.0), what="batch"))
        assert seen == ["300"]
        workers.close()


def test_a_deployment_replaces_what_is_idle(real: RealConnection) -> None:
    with models(real) as made:
        workers, seen = fleet(made), []
        for _ in range(2):
            made.runs(lambda: workers.invoke(lambda _, __: seen.append(made.world.process.name), what="batch"))
            workers.replace_idle()
        assert seen == ["worker 1", "worker 2"]


# ---- Partners and the client


def request(**overrides: Any) -> OutboundRequest:
    values: dict[str, Any] = {
        "method": "POST",
        "url": "http://partner.example/orders",
        "headers": (("Idempotency-Key", "key"),),
        "timeouts": Timeouts(connect_seconds=2.0, first_byte_seconds=5.0, total_seconds=6.0),
        "owner": str(DESTINATIONS[0].destination_id),
    }
    return OutboundRequest(**(values | overrides))


@pytest.mark.parametrize("early", [False, True])
def test_the_client_returns_all_outcomes_in_order_and_some_of_them_early(real: RealConnection, early: bool) -> None:
    with models(real) as made:
        workers, reports = fleet(made), []

        def work(services: Services, _: float) -> Any:
            made.world.process.attempts[(request().owner, "key")] = ("delivery", 1)
            results = EarlyResults(report=lambda ended: reports.append((made.world.now, dict(ended))))
            return services.client.send_all([request(), request()], early=results if early else None)

        behaviours = iter(["answers", "does it, and answers too late"])
        made.partners._behaviour = lambda: next(behaviours)  # type: ignore[method-assign]
        exchanges, _ = made.runs(lambda: workers.invoke(work, what="batch"))
        assert [type(exchange.outcome) for exchange in exchanges] == [Answered, Unknown]
        assert [list(ended) for _, ended in reports] == ([[0]] if early else [])
        assert [(arrival.acted, arrival.heard) for arrival in made.world.evidence.arrivals] == [
            (True, True),
            (True, False),
        ]
        workers.close()


def test_what_a_process_had_not_sent_when_it_ended_does_not_arrive(real: RealConnection) -> None:
    with models(real) as made:
        process = Process("worker 1", skew_seconds=0)
        process.attempts[(request().owner, "key")] = ("delivery", 1)
        made.partners.send(request(), process)
        made.world.scheduler.crash(process)
        made.world.scheduler.run()
        assert made.world.evidence.arrivals == []


def test_the_model_of_the_database_knows_each_statement_of_the_flows() -> None:
    assert name_of("SELECT 1") == "other"
    assert name_of("WITH wanted AS (SELECT 1)") == "claim"


def test_clocks_of_two_processes_differ(real: RealConnection) -> None:
    with models(real) as made:
        ahead, behind = Process("worker 1", skew_seconds=2.0), Process("worker 2", skew_seconds=-2.0)
        assert made.world.wall_clock(ahead) - made.world.wall_clock(behind) == timedelta(seconds=4)


def test_no_run_begins_with_what_another_left_of_a_destination(real: RealConnection) -> None:
    """A seed repeats its run exactly, whichever ran before."""
    left = """
        SELECT destination_id, state, to_jsonb(flow)
        FROM destination JOIN destination_flow AS flow USING (destination_id)
        ORDER BY destination_id
    """
    emptied(real)
    fresh = real.execute(left).fetchall()
    assert len(fresh) == len(DESTINATIONS)
    real.execute("UPDATE destination SET state = 'disabled', state_changed_at = now(), state_changed_by = 'a partner'")
    real.execute("UPDATE destination_flow SET open_until = now(), attempts = 20, failures = 20, full_at = now()")
    assert real.execute(left).fetchall() != fresh
    emptied(real)
    assert real.execute(left).fetchall() == fresh

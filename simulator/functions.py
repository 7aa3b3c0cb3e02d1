"""Lambda: the API's function and the worker's, in processes that are used again, frozen, killed and replaced.

After the AWS Lambda Developer Guide: "Understanding the Lambda execution environment lifecycle" (between two
invocations a sandbox is frozen with all its threads, which go on in the next one; after a time-out or a crash it is
replaced), and "Using Lambda with Amazon SQS" (up to the maximum concurrency of batches at once; messages that the
function does not name as failed are deleted; after an error or a time-out none is).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from db.connection import Database
from domain.errors import SecretUnavailable
from domain.wakeups import Wakeup
from egress.addresses import Guard
from egress.client import Client
from egress.seal_keys import SealKeys
from flows.attempt import WORKER_SECONDS, attempt_due
from flows.services import Services
from runtime.settings import DatabaseSettings, EgressAddress, QueueSettings
from simulator.choices import COMMON, POLLERS
from simulator.client import SimulatedClient
from simulator.database import Server
from simulator.evidence import Invocation
from simulator.faults import Kind, Seam
from simulator.numbers import counted
from simulator.partner import Partners
from simulator.scheduler import Task
from simulator.sqs import ModelledQueue, QueuedMessage
from simulator.world import Process, World
from wakeups.sqs import WakeupQueue, decode

API_SECONDS = 29.0  # template.yaml
LEASE_SECONDS = 55
START_SECONDS = 0.3  # of an invocation's time are gone before the handler begins
SKEWS_SECONDS = (0.0, 2.0, -2.0, 0.7, -0.7)  # Amazon Time Sync keeps instances closer than that
SEAL_KEYS = SealKeys(texts=("a key of the simulator, long enough to be one",))
_JITTERS = (0.5, 0.0, 0.999, 0.25, 0.75)  # the benign one is the middle: exactly the schedule


class SimulatedDatabase(Database):
    """The real Database; whoever waits for a connection that is cut off learns of it at once, as from a socket."""

    def cut(self) -> None:
        connection = cast(Any, self._connection)
        super().cut()
        if connection is not None and connection.process.invocation is not None:
            connection.process.invocation.faults += 1
        if connection is not None:
            connection.cut_off.fire()


class NoAnswer(Exception):
    """The function crashed or ran out of time."""


@dataclass(slots=True, kw_only=True)
class _Result:
    value: Any = None
    error: Exception | None = None


class Fleet:
    """The processes of one function. `name` is what its processes are called, with a number."""

    def __init__(self, name: str, world: World, partners: Partners, server: Server, *, timeout_seconds: float) -> None:
        self.world = world
        self._name = name
        self._partners = partners
        self._server = server
        self._timeout_seconds = timeout_seconds
        self._idle: list[tuple[Process, Services]] = []
        self._all: list[Process] = []
        self._busy: set[int] = set()

    def invoke[T](self, work: Callable[[Services, float], T], *, what: str) -> tuple[T, Invocation]:
        """Runs `work` with the services of a process and the seconds that are left. Raises what it raises, and NoAnswer
        where the process crashed or was stopped for taking too long."""
        process, services = self._take()
        invocation = Invocation(process=process.name, what=what, began_at=self.world.now)
        self.world.evidence.invocations.append(invocation)
        process.invocation = invocation
        self.world.scheduler.thaw(process)
        result = _Result()
        task = self.world.scheduler.spawn(lambda: self._work(work, services, result), sandbox=process)
        self.world.scheduler.wait(task.done, self._timeout_seconds)
        invocation.ended_at = self.world.now
        return self._conclude(process, services, task, result), invocation

    def replace_idle(self) -> None:
        """A deployment: what is idle is gone, what is busy is used no more afterwards."""
        for process, _ in self._idle:
            self.world.scheduler.crash(process)
        self._idle.clear()

    def close(self) -> None:
        """Ends all processes."""
        for process in self._all:
            process.alive = False
            self.world.scheduler.end(process)

    def _take(self) -> tuple[Process, Services]:
        """Drawn from the common stream: which processes there are is not the caller's choice alone."""
        with self.world.choices.of_stream(COMMON):
            return self._taken()

    def _taken(self) -> tuple[Process, Services]:
        if self._idle and not self.world.choices.happens(0 if self.world.weather.calm else 5):
            process, services = self._idle.pop(-1 - self.world.choices.choose(len(self._idle)))
            self._grow_stale(process, services)
            return process, services
        return self._new()

    def _grow_stale(self, process: Process, services: Services) -> None:
        _, kind = self.world.weather.draw(Seam.BEGIN)
        connection = cast(Any, services.database)._connection
        if kind is Kind.CLOSED_WHILE_IDLE and connection is not None:
            self.world.strike(kind, process=process)
            connection.hang_up()

    def _new(self) -> tuple[Process, Services]:
        name = f"{self._name} {len(self._all) + 1}"
        process = Process(name, skew_seconds=self.world.choices.of(SKEWS_SECONDS))
        self._all.append(process)
        return process, services_of(process, self.world, self._partners, self._server)

    def _work[T](self, work: Callable[[Services, float], T], services: Services, result: _Result) -> None:
        self.world.scheduler.pause(START_SECONDS if not self.world.weather.calm else 0.01)
        try:
            result.value = work(services, self._timeout_seconds - START_SECONDS)
        except Exception as error:  # noqa: BLE001 - as Lambda, which answers for whatever a handler raises
            result.error = error

    def _conclude(self, process: Process, services: Services, task: Task, result: _Result) -> Any:
        invocation = process.invocation
        assert invocation is not None
        if not task.ended:
            invocation.result = "timed out"
            self.world.mark(f"lambda: {self._name} timed out")
            self.world.log(process.name, "end", "is stopped: its time is over")
            self.world.scheduler.crash(process)
            raise NoAnswer("timed out")
        if not process.alive:
            invocation.result = "crashed"
            raise NoAnswer("crashed")
        if process.tasks:
            self.world.mark("lambda: a thread is frozen after the invocation")
        self.world.scheduler.freeze(process)
        process.invocation = None
        self._idle.append((process, services))
        invocation.result = "returned" if result.error is None else type(result.error).__name__
        if result.error is not None:
            raise result.error
        return result.value


def services_of(process: Process, world: World, partners: Partners, server: Server) -> Services:
    """What the flows need, with the models at its seams."""
    numbers = iter(range(1_000_000_000))

    def sleep(seconds: float) -> None:
        world.scheduler.pause(seconds)
        world.step(Seam.SLEEP)

    def load_seal_keys() -> SealKeys:
        if world.step(Seam.SEAL_KEY) is Kind.NO_SEAL_KEY:
            raise SecretUnavailable("simulated", retry_after_seconds=1)
        return SEAL_KEYS

    def randomness(length: int) -> bytes:
        seed = f"{process.name}:{next(numbers)}".encode()
        return seed.rjust(length, b"\0")[-length:]

    return Services(
        database=SimulatedDatabase(
            DatabaseSettings(database_url="postgresql://modelled"),
            wall_clock=lambda: world.wall_clock(process).timestamp(),
        ),
        queue=WakeupQueue(QueueSettings(wakeup_queue_url="modelled", sqs_endpoint_url="")),
        client=cast(Client, SimulatedClient(world, partners, server, process)),
        guard=Guard(),
        load_seal_keys=load_seal_keys,
        egress_addresses=(EgressAddress(availability_zone="a", address="203.0.113.7"),),
        own_zone=lambda: None,
        lease_seconds=LEASE_SECONDS,
        clock=lambda: world.wall_clock(process),
        chance=lambda: world.choices.of(_JITTERS),
        randomness=randomness,
        sleep=sleep,
    )


class Pollers:
    """Lambda's pollers: receive, invoke, delete. As many as the worker's maximum concurrency. Each pauses for
    `pause_seconds` before it receives, in which messages gather to batches."""

    def __init__(
        self, world: World, queue: ModelledQueue, workers: Fleet, *, concurrency: int, pause_seconds: float = 0.0
    ) -> None:
        self._pause_seconds = pause_seconds
        self._world = world
        self._queue = queue
        self._workers = workers
        for number in range(concurrency):
            with world.choices.of_stream(POLLERS + number):
                world.scheduler.spawn(partial(self._poll, POLLERS + number))

    def _poll(self, stream: int) -> None:
        while True:
            self._world.scheduler.follow(stream)
            at = self._queue.next_visible_at
            if at is None:
                self._world.scheduler.wait(self._queue.changed)
            elif at > self._world.now:
                self._world.scheduler.wait(self._queue.changed, at - self._world.now)
            elif messages := self._receive():
                self._world.scheduler.follow(messages[0].stream)
                self._handle(messages)

    def _receive(self) -> Sequence[QueuedMessage]:
        if self._pause_seconds:
            self._world.scheduler.pause(self._pause_seconds)
        return self._queue.receive()

    def _handle(self, messages: Sequence[QueuedMessage]) -> None:
        if len(messages) > 1:
            self._world.mark("batch: of several messages")
        _, kind = self._world.weather.draw(Seam.INVOKE)
        if kind is not None:
            for message in messages:
                self._world.strike(kind, delivery=str(decode(message.body).delivery_id))
            return  # they have been received once more, and become visible again
        wakeups = [decode(message.body) for message in messages]

        def work(services: Services, seconds_left: float) -> frozenset[int]:
            invocation = self._world.process.invocation
            assert invocation is not None
            invocation.carried = _statements_for_carried(wakeups)
            invocation.after_outage = _after_outage(wakeups)
            name = self._world.process.name
            outcomes = [wakeup.record.attempt.attempt_id for wakeup in wakeups if wakeup.record is not None]
            if len(set(outcomes)) < len(outcomes):
                self._world.mark("batch: carries one outcome several times")
            single = str(wakeups[0].delivery_id) if len(wakeups) == 1 else None
            text, knows = f"delivers {counted(len(wakeups), 'message')}", {"queue": "delivered"} if single else {}
            self._world.log("queue", "batch", text, delivery=single, to=name, knows=knows)
            return attempt_due(wakeups, services=services, seconds_left=min(seconds_left, WORKER_SECONDS))

        try:
            failed, _ = self._workers.invoke(work, what="batch")
        except Exception as error:  # noqa: BLE001 - whatever a worker raises, its messages come back
            self._world.mark(f"batch: ends with {type(error).__name__}")
            return
        if failed:
            self._world.mark("batch: some messages failed")
        self._queue.delete([message for place, message in enumerate(messages) if place not in failed])


def _after_outage(wakeups: Sequence[Wakeup]) -> frozenset[str]:
    looks = [wakeup for wakeup in wakeups if wakeup.record is None]
    others = {wakeup.delivery_id for wakeup in looks if not wakeup.after_outage}
    return frozenset(str(wakeup.delivery_id) for wakeup in looks if wakeup.delivery_id not in others)


def _statements_for_carried(wakeups: Sequence[Wakeup]) -> int:
    """One for all outcomes that wake-ups carry. PostgreSQL refuses a statement that stores one attempt twice, so that
    each is recorded by itself where two outcomes of one attempt, a lapse and the real one, arrive together."""
    outcomes = {wakeup.record.attempt.attempt_id: wakeup.delivery_id for wakeup in wakeups if wakeup.record is not None}
    carried = list(outcomes.values())
    return min(1, len(carried)) if len(set(carried)) == len(carried) else 1 + len(carried)

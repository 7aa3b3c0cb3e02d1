"""Everything goes wrong at once, and the promises of docs/api.md are counted up afterwards.

Callers hand deliveries over while a schedule kills execution environments, ends database sessions, stops PostgreSQL,
holds tables locked, and delays, doubles and loses what is said to SQS. Then all is left in peace until every delivery
has ended. The seed decides orders and schedule (not how the machine's processes interleave); a run prints it, and
`make chaos SEED=1 SECONDS=120`, or CHAOS_SEED and CHAOS_SECONDS, give another.
"""

import contextlib
import math
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.demonstration import working_token
from local.stack import DATABASE, Stack, StackConfiguration
from tests.e2e.conftest import LEASE_SECONDS, VISIBILITY_TIMEOUT_SECONDS, Answer, Consumer
from tests.support.chaos import (
    ChaosPartner,
    Connection,
    Observed,
    QueueRelay,
    Step,
    Stored,
    bring_forward,
    connected,
    held_messages,
    journal,
    keep_journal,
    most_receives,
    stored,
)
from wakeups.sqs import decode

CHAOS_SECONDS = 14.0
SETTLE_SECONDS = 300.0  # of a machine that is busy with other things
ORDERS_PER_SECOND = 18
CALLERS = 12
ASKED_AGAIN = 20  # keys that are used once more when all is over
REPEATS = 3  # how often a caller with a key asks again after an error
SPARED_AFTER_RECEIVES = (
    3  # the fifth crash of one message rightly dead-letters it: nobody is to have that much bad luck
)
TOTAL_SECONDS = 1.2  # a partner's deadline; the lease is longer
FROZEN_SECONDS = (3.5, 6.0)  # past the lease, and past the moment when the message comes back
PAUSE_SECONDS = (0.1, 0.5)  # between two faults
ANSWERS = {200, 202, 400, 409, 502, 503, 504}  # 400 is the partner's; nothing here excuses a 500
PROBLEM = "application/problem+json"
PARTNER = {"auto": "auto", "repeat": "at_least_once", "once": "at_most_once"}  # destinations and their guarantees

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call to make, `at` seconds after the start. `how` is accept, wait, watch or via; `key` None for none.

    `again` says that the caller repeats the call although it was answered well.
    """

    at: float
    how: str
    method: str
    destination: str
    path: str
    key: str | None
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one call was answered."""

    order: Order
    status: int
    delivery_id: str | None
    state: str | None = None
    partner_status: int | None = None


def make_orders(randomness: random.Random, seconds: float) -> list[Order]:
    """In the order of their time."""
    return [
        _order(randomness, number, at=number / ORDERS_PER_SECOND) for number in range(int(seconds * ORDERS_PER_SECOND))
    ]


def _order(randomness: random.Random, number: int, *, at: float) -> Order:
    behaviour = randomness.choices(
        ("ok", "slow", "busy-once", "close-once", "hang-once", "refuse"), (40, 20, 15, 10, 10, 5)
    )[0]
    keyed = randomness.random() < 0.6
    return Order(
        at=at,
        how=randomness.choices(("accept", "wait", "watch", "via"), (55, 15, 10, 20))[0],
        method=randomness.choices(("POST", "PUT"), (70, 30))[0],
        destination=randomness.choices(tuple(PARTNER), (60, 25, 15))[0],
        path=f"/{behaviour}/{number}",
        key=f"order-{number}" if keyed else None,
        again=keyed and randomness.random() < 0.2,
    )


def place(consumer: Consumer, order: Order) -> Told:
    """One call."""
    headers = {} if order.key is None else {"Idempotency-Key": order.key}
    try:
        if order.how == "via":
            url = f"/v1/via/{order.destination}{order.path}"
            return _told_by_partner(order, consumer.call(order.method, url, body=b"x", headers=headers))
        wait = {"wait": {"Prefer": "wait=4"}, "watch": {"Prefer": "wait=1"}}.get(order.how, {})
        fields = {"destination": order.destination, "method": order.method, "path": order.path, "body": "x"}
        return _told(order, consumer.deliver(headers=headers | wait, **fields))
    except OSError:
        return Told(order=order, status=0, delivery_id=None)


def _told(order: Order, answer: Answer) -> Told:
    if answer.status not in (200, 202):
        return Told(order=order, status=answer.status, delivery_id=None)
    content = answer.json
    return Told(order=order, status=answer.status, delivery_id=content["delivery_id"], state=content["state"])


def _told_by_partner(order: Order, answer: Answer) -> Told:
    own = answer.headers.get("content-type") == PROBLEM
    return Told(
        order=order,
        status=answer.status,
        delivery_id=answer.headers.get("sallyport-delivery-id"),
        partner_status=None if own else answer.status,
    )


@dataclass
class Callers:
    """They make the calls in time, and those that have a key again where the answer was no good."""

    consumer: Consumer
    told: list[Told] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def calling(self, orders: list[Order]) -> Iterator[None]:
        """Meanwhile. Calls whose time has not come at the end are not made."""
        started = time.monotonic()
        with ThreadPoolExecutor(CALLERS, thread_name_prefix="caller") as threads:
            running = [threads.submit(self._call, order, started) for order in orders]
            try:
                yield
            finally:
                self.stopping.set()
        for call in running:
            call.result()

    def repeat(self, count: int) -> None:
        """Asks once more for what some of the keys led to."""
        known = [told.order for told in self.told if told.order.key is not None and told.delivery_id is not None]
        self.told += [place(self.consumer, order) for order in known[:count]]

    def _call(self, order: Order, started: float) -> None:
        if self.stopping.wait(max(0.0, started + order.at - time.monotonic())):
            return
        for _ in range(1 if order.key is None else REPEATS):
            self.told.append(place(self.consumer, order))
            if self.told[-1].delivery_id is not None and not order.again:
                return
            if self.stopping.wait(0.3):
                return


def _signal(pid: int, number: signal.Signals) -> None:
    """Nothing where it has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Monkey:
    """Breaks things. Runs in the thread that started the stack, which PostgreSQL must be started from."""

    def __init__(self, stack: Stack, relay: QueueRelay, randomness: random.Random, say: Say) -> None:
        self.stack = stack
        self.relay = relay
        self.randomness = randomness
        self.say = say
        self.done: Counter[str] = Counter()
        self.session: Connection = connected(stack.postgres.url(database=DATABASE))
        self._frozen: list[tuple[float, int]] = []  # until when, which process
        self._faults: dict[str, tuple[int, Callable[[], None]]] = {
            "kill API": (5, lambda: self._kill("ApiFunction")),
            "kill worker": (5, lambda: self._kill("AttemptFunction")),
            "freeze": (1, self._freeze),
            "end sessions": (4, self._end_sessions),
            "lock": (4, self._lock),
            "double": (4, self._double),
            "slow queue": (3, self._slow_queue),
            "lossy queue": (2, self._lossy_queue),
            "no queue": (1, self._no_queue),
            "time passes": (3, self._time_passes),
        }

    def rage(self, seconds: float) -> None:
        """Fault after fault, and PostgreSQL stopped once or twice, or every ten seconds of a long run."""
        started = time.monotonic()
        outages = sorted(self.randomness.uniform(0.2, 0.9) * seconds for _ in range(self._outages(seconds)))
        try:
            while (passed := time.monotonic() - started) < seconds:
                time.sleep(self.randomness.uniform(*PAUSE_SECONDS))
                self._thaw(time.monotonic())
                if outages and passed > outages[0] and self._merciless():
                    outages.pop(0)
                    self.stop_database_for(self.randomness.uniform(0.2, 1.2))
                else:
                    self._one()
        finally:  # nobody may wait for a process that stands still
            self._thaw(math.inf)
            self.relay.calm()

    def stop_database_for(self, seconds: float) -> None:
        """An outage."""
        self.done["outage"] += 1
        self.session.close()
        self.stack.postgres.stop()
        time.sleep(seconds)
        self.stack.postgres.start()
        self.session = connected(self.stack.postgres.url(database=DATABASE))

    def close(self) -> None:
        """Leaves no session behind."""
        self.session.close()

    def _outages(self, seconds: float) -> int:
        return max(self.randomness.randint(1, 2), int(seconds / 10))

    @property
    def _queue(self) -> Any:
        return self.stack.queues["WakeupQueue"]

    def _merciless(self) -> bool:
        return most_receives(self._queue) < SPARED_AFTER_RECEIVES

    def _one(self) -> None:
        weights = [weight for weight, _ in self._faults.values()]
        name = self.randomness.choices(tuple(self._faults), weights)[0]
        if self._merciless() or name in ("kill API", "double", "time passes"):
            self.done[name] += 1
            self._faults[name][1]()
        else:
            self.done["mercy"] += 1

    def _kill(self, function: str) -> None:
        """Kill -9 of one or two environments, whatever they do."""
        for pid in self._some(function, self.randomness.randint(1, 2)):
            _signal(pid, signal.SIGKILL)

    def _some(self, function: str, count: int) -> list[int]:
        """Processes of a function."""
        pids = sorted(self.stack.functions[function].process_ids)
        return self.randomness.sample(pids, min(len(pids), count))

    def _freeze(self) -> None:
        """Environments stand still until their leases have passed on, and then go on as if nothing were."""
        for function in ("ApiFunction", "AttemptFunction"):
            for pid in self._some(function, 1):
                _signal(pid, signal.SIGSTOP)
                self._frozen.append((time.monotonic() + self.randomness.uniform(*FROZEN_SECONDS), pid))

    def _thaw(self, now: float) -> None:
        for until, pid in list(self._frozen):
            if until <= now:
                self._frozen.remove((until, pid))
                _signal(pid, signal.SIGCONT)

    def _end_sessions(self) -> None:
        found = self.session.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'sallyport'")
        pids = [row["pid"] for row in found]
        for pid in self.randomness.sample(pids, min(len(pids), self.randomness.randint(1, 4))):
            self.session.execute("SELECT pg_terminate_backend(%s)", [pid])

    def _lock(self) -> None:
        """Statements on deliveries wait, and then something else happens to those who wait."""
        with self.session.transaction():
            self.session.execute("LOCK TABLE delivery IN SHARE ROW EXCLUSIVE MODE")
            time.sleep(self.randomness.uniform(0.1, 0.5))
            worse = self.randomness.choice(("kill API", "kill worker", "end sessions", "freeze", "lock"))
            if worse != "lock":
                self._faults[worse][1]()

    def _double(self) -> None:
        """Wake-ups come once more, now or later."""
        sent = list(self.relay.wakeups)
        for body in self.randomness.sample(sent[-200:], min(len(sent[-200:]), 12)):
            self._queue.send(body, group=decode(body).group, delay_seconds=self.randomness.randint(0, 3))

    def _time_passes(self) -> None:
        bring_forward(self._queue, self.session, beyond_seconds=LEASE_SECONDS + 1, orphans=False)

    def _slow_queue(self) -> None:
        """With a death or worse in the midst of it."""
        self.relay.hold_seconds = 0.5
        time.sleep(0.3)
        self._faults[self.randomness.choice(("kill API", "kill worker", "freeze"))][1]()
        self.relay.calm()

    def _lossy_queue(self) -> None:
        self.relay.lose = 0.5
        time.sleep(0.5)
        self.relay.calm()

    def _no_queue(self) -> None:
        self.relay.away = True
        time.sleep(self.randomness.uniform(0.2, 0.6))
        self.relay.calm()


def settle(stack: Stack, session: Connection, say: Say) -> None:
    """Waits, bounded, until all deliveries have ended and no message is left; gives up where a message is missing."""
    queue = stack.queues["WakeupQueue"]
    give_up_at = time.monotonic() + SETTLE_SECONDS
    lost: set[str] = set()
    while time.monotonic() < give_up_at:
        bring_forward(queue, session, beyond_seconds=LEASE_SECONDS + 1, orphans=True)
        open_ids = {observed.delivery_id for observed in stored(session).values() if not observed.ended}
        awake = {str(decode(message.body).delivery_id) for message in held_messages(queue)}
        say(f"settling: {len(open_ids)} deliveries have not ended, {len(held_messages(queue))} messages")
        if (not open_ids and not awake) or lost & (open_ids - awake):
            return
        lost = open_ids - awake
        time.sleep(0.8)


def broken_by_delivery(found: Stored, requests: list[Observed]) -> Iterator[str]:
    """What a delivery's state, log and requests at the partner say against each other."""
    if not found.ended:
        yield f"has not ended but is {found.state}"
    if found.numbers != list(range(1, found.attempts_made + 1)):
        yield f"has attempts {found.numbers} and counts {found.attempts_made}"
    if len(requests) > len(found.numbers):
        yield f"has {len(found.numbers)} attempts, but its partner saw {len(requests)} requests"
    if not found.repeatable and "unknown" in found.outcomes[:-1]:
        yield f"was tried again after an unknown outcome: {found.outcomes}"
    if found.state == "delivered" and 200 not in [request.status for request in requests]:
        yield f"is delivered, but its partner answered {[request.status for request in requests]}"
    if found.state == "delivered" and found.statuses[-1:] != [200]:
        yield f"is delivered, but its log says {found.statuses}"
    if found.state == "failed" and not any(status and status >= 400 for status in found.statuses):
        yield f"failed without a reason: {found.outcomes}"


def broken_by_answer(told: Told, rows: dict[str, Stored]) -> Iterator[str]:
    """What a caller was told that is false, or should not have been told."""
    if told.status not in ANSWERS:
        yield f"{told.order.how} was answered {told.status}"
    if told.delivery_id is None:
        return
    found = rows.get(told.delivery_id)
    if found is None:
        yield f"{told.order.how} was answered {told.status}, but there is no such delivery"
    elif told.partner_status is not None and told.partner_status not in found.statuses:
        yield f"the caller got the partner's {told.partner_status}, the log says {found.statuses} and {found.state}"
    elif told.state == "delivered" and found.state != "delivered":
        yield f"the caller was told 'delivered', and it is {found.state} with {found.outcomes}"


STEPS = {(None, "pending"), (None, "sending"), ("pending", "sending"), ("sending", "sending"), ("sending", "pending")}
STEPS |= {("sending", end) for end in ("delivered", "failed", "unknown")}


def broken_by_step(step: Step) -> Iterator[str]:
    """What a delivery may not go through."""
    if (step.state_before, step.state) not in STEPS:
        yield f"went from {step.state_before} to {step.state}"
    starts = step.state == "sending" and step.state_before != "sending"
    if step.attempts != (step.attempts_before or 0) + starts:
        yield f"counted from {step.attempts_before} to {step.attempts} attempts on its way to {step.state}"
    if step.state_before == step.state == "sending" and step.until is not None and step.until_before is not None:
        claimed_at = step.until - timedelta(seconds=LEASE_SECONDS)
        if claimed_at < step.until_before:
            yield f"was taken over {step.until_before - claimed_at} before the lease was over"


def broken_by_keys(told: list[Told]) -> Iterator[str]:
    """One key is one delivery."""
    by_key: dict[str, set[str]] = {}
    for answer in told:
        if answer.order.key is not None and answer.delivery_id is not None:
            by_key.setdefault(answer.order.key, set()).add(answer.delivery_id)
    yield from (f"key {key} led to {sorted(ids)}" for key, ids in by_key.items() if len(ids) > 1)


def broken_promises(rows: dict[str, Stored], steps: list[Step], told: list[Told], seen: list[Observed]) -> list[str]:
    """All of them, in plain words."""
    requests: dict[str, list[Observed]] = {observed.key: [] for observed in rows.values()}
    strange = [request.key for request in seen if request.key not in requests]
    for request in seen:
        requests.setdefault(request.key, []).append(request)
    return [
        *(f"the partner saw {key}, which is no delivery" for key in strange),
        *broken_by_keys(told),
        *(f"{row}: it {text}" for row in rows.values() for text in broken_by_delivery(row, requests[row.key])),
        *(f"{answer}: {text}" for answer in told for text in broken_by_answer(answer, rows)),
        *(f"{step.delivery_id} {text}" for step in steps for text in broken_by_step(step)),
    ]


@pytest.fixture
def say() -> Say:
    """One line at once, with the seconds since the start."""
    started = time.monotonic()

    def line(text: str) -> None:
        print(f"chaos {time.monotonic() - started:5.1f} s  {text}", flush=True)  # noqa: T201 - shown by pytest -s

    return line


@pytest.fixture
def partner() -> Iterator[ChaosPartner]:
    made = ChaosPartner()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))


@pytest.fixture
def relay(seed: int) -> Iterator[QueueRelay]:
    with QueueRelay(random.Random(seed)) as made:
        yield made


@pytest.fixture
def wild_stack(tmp_path: Path, partner: ChaosPartner, relay: QueueRelay) -> Iterator[Stack]:
    """A stack of its own, whose functions reach SQS through the relay."""
    configuration = StackConfiguration(
        directory=tmp_path / "stack",
        port=0,
        partner_port=0,
        durable=False,
        variables={
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "SQS_ENDPOINT_URL": relay.url,
            "ALLOWED_PORTS": str(partner.port),
        },
        visibility_timeout_seconds=VISIBILITY_TIMEOUT_SECONDS,
        report=lambda _: None,
    )
    with Stack(configuration) as stack:
        relay.endpoint_url = stack.queues["WakeupQueue"].url.rsplit("/", 2)[0]
        yield stack


@pytest.fixture
def wild_consumer(wild_stack: Stack, partner: ChaosPartner, tmp_path: Path) -> Consumer:
    consumer = Consumer(port=wild_stack.front.port, token=working_token(wild_stack, stored_in=tmp_path / "token"))
    for name, guarantee in PARTNER.items():
        body = {
            "name": name,
            "base_url": partner.url,
            "guarantee": guarantee,
            "timeouts": {"total_seconds": TOTAL_SECONDS},
        }
        assert consumer.call("POST", "/v1/destinations", body=body).status == 201
    return consumer


def test_the_promises_hold_whatever_breaks(
    wild_stack: Stack, wild_consumer: Consumer, relay: QueueRelay, partner: ChaosPartner, seed: int, say: Say
) -> None:
    seconds = float(os.environ.get("CHAOS_SECONDS") or CHAOS_SECONDS)
    randomness = random.Random(seed)
    orders = make_orders(randomness, seconds)
    say(f"seed {seed}: {seconds:.0f} s, {len(orders)} orders")
    monkey = Monkey(wild_stack, relay, randomness, say)
    callers = Callers(wild_consumer)
    with ExitStack() as after:
        after.callback(monkey.close)
        keep_journal(monkey.session)
        with callers.calling(orders):
            monkey.rage(seconds)
        say(f"faults {dict(monkey.done)}")
        say(f"answers {dict(Counter(told.status for told in callers.told).most_common())}")
        settle(wild_stack, monkey.session, say)
        left = {name: queue.count() for name, queue in wild_stack.queues.items()}
        callers.repeat(ASKED_AGAIN)
        rows, steps = stored(monkey.session), journal(monkey.session)
    say(f"states {dict(Counter(row.state for row in rows.values()))}, {len(partner.seen)} requests at the partner")
    say(f"outcomes {dict(Counter(outcome for row in rows.values() for outcome in row.outcomes))}")
    broken = broken_promises(rows, steps, callers.told, list(partner.seen))
    assert not broken, f"seed {seed}, {len(broken)} promises broken\n" + "\n".join(broken[:20])
    assert not any(left.values()), f"seed {seed}: messages are left over: {left}"
    assert sum(row.state == "delivered" for row in rows.values()) > len(orders) / 10, "hardly anything was tried"
    say(f"every promise held: {len(rows)} deliveries, {len(steps)} steps, {len(callers.told)} answers, no message left")

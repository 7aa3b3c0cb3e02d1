"""How long a delivery waits for its attempt beside a destination that hangs, beside one that answers, and alone.

As many workers as a stack has without a value take what has arrived, up to ten at a time. Deliveries arrive at a steady
rate, each after one to the neighbour, which doubles the work: what is due to that alone, the neighbour that answers
shows. Those to the one that hangs come again while they wait, since the queue of the bench stores nothing. That it
hangs is found out in the round that warms up, in which it may occupy all workers once.
"""

import math
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

from bench import events
from bench.figures import heading, ratio, say, spread, table
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage, superuser
from bench.statements import BATCH, WORKER
from domain.limits import usual_share

WORKERS = 5  # AttemptConcurrency (template.yaml)
HANG_SECONDS = 5  # longer than SLOW_SECONDS, from when on its destination has a share of the workers
ROUNDS = 5
ARRIVALS = 200  # of healthy deliveries, per half of a round
EVERY_SECONDS = 0.04
POLL_SECONDS = 0.001
HUNG = 20  # deliveries that could hang, more than do in half of a round
NEIGHBOURS = {"alone": None, "beside one that answers": "partner", "beside one that hangs": "hanging"}


def run(stage: Stage) -> None:
    """Alone, beside one that answers and beside one that hangs in turns, in the same processes."""
    heading(
        f"Waiting for an attempt beside a destination that hangs, {stage.times(ROUNDS)} rounds of "
        f"{stage.times(ARRIVALS)} deliveries, ms"
    )
    found: dict[str, list[list[float]]] = {name: [] for name in NEIGHBOURS}
    with _workers(stage) as workers:
        for number in range(stage.times(ROUNDS) + 1):
            for name, neighbour in NEIGHBOURS.items():
                waited = _waited(stage, workers, neighbour=neighbour)
                if number > 0:  # the first warms up
                    found[name].append(waited)
    columns = ["", *NEIGHBOURS, "hangs / alone", "budget", "hangs / answers"]
    table(columns, [_row(found, 0.50, ""), _row(found, 0.95, "1.20")])
    say(
        f"\nIt hangs {HANG_SECONDS} s and has no limits and no breaker: from the first round on, its share is "
        f"{usual_share(WORKERS)} of {WORKERS} workers."
    )


def _row(found: Mapping[str, Sequence[Sequence[float]]], share: float, budget: str) -> list[str]:
    alone, answers, hangs = ([_quantile(waited, share) for waited in found[name]] for name in NEIGHBOURS)
    figures = [spread(alone), spread(answers), spread(hangs), str(ratio(hangs, alone)), budget]
    return [f"p{share * 100:.0f}", *figures, str(ratio(hangs, answers))]


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(len(values) * share) - 1]


@contextmanager
def _workers(stage: Stage) -> Iterator[list[Side]]:
    """The processes; meanwhile `hanging` is a destination whose server takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as silent, ExitStack() as sides:
        port = silent.getsockname()[1]
        _add_hanging(stage, port)
        environment = stage.environment() | {"ALLOWED_PORTS": f"{stage.partner_port},{port}"}
        yield [sides.enter_context(Side(environment)) for _ in range(WORKERS)]


def _add_hanging(stage: Stage, port: int) -> None:
    with closing(superuser(stage)) as session:
        session.connection().execute(
            """
            INSERT INTO destination (
                destination_id, tenant_id, name, base_url, auth_type, guarantee, idempotent, idempotency_header,
                connect_seconds, first_byte_seconds, total_seconds, created_at, options)
            VALUES (gen_random_uuid(), %(tenant_id)s, 'hanging', %(base_url)s, 'none', 'auto', false, 'Idempotency-Key',
                    %(seconds)s, %(seconds)s, %(seconds)s, now(),
                    jsonb_build_object('circuit_breaker', jsonb_build_object('enabled', false)))
            """,
            {
                "tenant_id": stage.tenant_id,
                "base_url": f"http://127.0.0.1:{port}",
                "seconds": HANG_SECONDS,
            },
        )


def _waited(stage: Stage, sides: Sequence[Side], *, neighbour: str | None) -> list[float]:
    """Milliseconds from the arrival of each healthy delivery to the begin of its attempt."""
    healthy = pending(stage, stage.times(ARRIVALS), destination="once")
    hangs = neighbour == "hanging"
    count = HUNG if hangs else len(healthy)
    others = [str(made) for made in pending(stage, count, destination=neighbour)] if neighbour else []
    arrived_at: dict[str, float] = {}
    with ThreadPoolExecutor(len(sides)) as threads:
        poller = _Poller(stage, sides, threads)
        for number, delivery_id in enumerate(map(str, healthy)):
            if others:
                poller.waiting.append(others[number % count])  # one that still waits looks again
            poller.waiting.append(delivery_id)
            arrived_at[delivery_id] = time.time()
            poller.poll(until=time.monotonic() + EVERY_SECONDS)
        while poller.waiting:
            poller.poll(until=time.monotonic() + EVERY_SECONDS)
    poller.check()
    begun = _begun(stage, [*arrived_at, *others])
    if hangs and not begun.keys() & set(others):
        raise NothingHung
    return [(begun[delivery_id] - arrived_at[delivery_id]) * 1000 for delivery_id in arrived_at]


class NothingHung(Exception):
    """No attempt was made to the destination that hangs: there is nothing to compare."""


class _Poller:
    """Calls each worker that is free with what waits, as Lambda's poller does, from the thread that calls `poll`."""

    def __init__(self, stage: Stage, sides: Sequence[Side], threads: ThreadPoolExecutor) -> None:
        self.waiting: deque[str] = deque()
        self._stage = stage
        self._free = deque(sides)
        self._threads = threads
        self._batches: list[Future[None]] = []

    def poll(self, *, until: float) -> None:
        """Until that moment of the monotonic clock."""
        while (left_seconds := until - time.monotonic()) > 0:
            while self.waiting and self._free:
                ids = [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]
                self._batches.append(self._threads.submit(self._work, self._free.popleft(), ids))
            time.sleep(min(left_seconds, POLL_SECONDS))

    def check(self) -> None:
        """Raises what a batch raised."""
        for batch in self._batches:
            batch.result()

    def _work(self, side: Side, ids: Sequence[str]) -> None:
        side.do("calls", handler=WORKER, events=[events.batch(self._stage, ids)])
        self._free.append(side)


def _begun(stage: Stage, ids: Sequence[str]) -> dict[str, float]:
    """When the attempt of each began, Unix seconds."""
    with closing(superuser(stage)) as session:
        found = session.connection().execute(
            "SELECT delivery_id::text, started_at FROM attempt WHERE delivery_id = ANY (%s::uuid[])", [list(ids)]
        )
        return {row["delivery_id"]: row["started_at"].timestamp() for row in found.fetchall()}

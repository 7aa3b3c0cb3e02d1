"""Deliveries per second of one worker process: ours, plain, and workers of other queues that record the same.

Each has so many deliveries in flight at once, towards one partner on loopback, out of a queue that was filled before.
What is measured lies between the end of the first ones, as many as are in flight, and the end of the last one, by the
times that are recorded: starting the worker is not part of it. Ours and plain are called with batches, as Lambda calls
them, whose pollers take messages from SQS; the others take jobs out of their queues themselves.
"""

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from bench import events
from bench.attempts import PLAIN_WORKER
from bench.environments import Environment, NotInstalled
from bench.figures import heading, markdown, say, skipped, spread
from bench.rows import pending
from bench.side import Side
from bench.stage import Stage, superuser
from bench.statements import WORKER
from bench.worker_chart import chart
from db.connection import Database
from local.functions import REPOSITORY

RECORDED = REPOSITORY / "docs" / "measured" / "workers.json"
PEERS = REPOSITORY / "bench" / "peers"
ROUNDS = 3
IN_FLIGHT = (1, 16, 64)
BODY_BYTES = {"1 KB": 1_000, "64 KB": 64_000, "1 MB": 1_000_000}
MEASURED_BATCHES = {"1 KB": 6, "64 KB": 4, "1 MB": 2}
LEAST_MEASURED = {"1 KB": 120, "64 KB": 60, "1 MB": 16}
UNITS = {"per_second": "deliveries per second", "cpu_milliseconds": "ms of processor time per delivery"}
PICTURES = {"per_second": "workers.svg", "cpu_milliseconds": "workers-cpu.svg"}  # beside RECORDED
SMALL_IN_FLIGHT, SMALL_BODIES = (2,), ("1 KB",)
LONGEST_SECONDS = 120  # of one worker; then it is stopped, and named
LOOK_SECONDS = 0.05
BROKER = "redis-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """`handler` is called with batches; or else `module` is a program with a queue of its own (bench/peers)."""

    name: str
    handler: str = ""
    module: str = ""
    requirements: str = ""
    broker: bool = False

    @property
    def environment(self) -> Environment:
        """Its packages."""
        return Environment(requirements=PEERS / self.requirements if self.requirements else None)


WORKERS = (
    Worker(name="ours", handler=WORKER),
    Worker(name="plain", handler=PLAIN_WORKER),
    Worker(name="Celery + Redis", module="bench.peers.worker_celery", requirements="celery.txt", broker=True),
    Worker(name="procrastinate", module="bench.peers.worker_procrastinate", requirements="procrastinate.txt"),
    Worker(name="pgqueuer + httpx", module="bench.peers.worker_pgqueuer", requirements="pgqueuer.txt"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRun:
    """Deliveries per second, and the processor time that the worker itself took for one."""

    per_second: float
    cpu_milliseconds: float


class WorkerFailed(Exception):
    """It did not make its deliveries; the message is the end of what it wrote."""


def run(stage: Stage, *, out: Path | None = None, workers: Sequence[Worker] = WORKERS) -> None:
    """Prints the table, and with `out` records and draws it in that folder. What is missing is named, and the rest
    runs; an interrupted run is recorded as partial."""
    heading(f"Deliveries per second of one worker process, {stage.times(ROUNDS)} rounds in turn")
    missing: dict[str, str] = {}
    found: dict[str, dict[str, list[WorkerRun]]] = {}
    whole = False
    try:
        with _broker(stage) as broker_url:
            there = _there(workers, missing, broker_url)
            for name, bytes_, at_once in _cells(small=stage.small):
                cell = found.setdefault(cell_name(name, at_once), {worker.name: [] for worker in there})
                for _ in range(stage.times(ROUNDS)):
                    for worker in there:
                        made = measured(stage, worker, name, bytes_, at_once, broker_url=broker_url or "")
                        cell[worker.name].append(made)
        whole = True
    finally:
        _tell(report(found, missing=missing, partial=not whole), out)


def measured(stage: Stage, worker: Worker, body: str, bytes_: int, at_once: int, *, broker_url: str) -> WorkerRun:
    """One run. Raises WorkerFailed."""
    measured_count = max(MEASURED_BATCHES[body] * at_once, LEAST_MEASURED[body] if not stage.small else 1)
    ids = [str(delivery_id) for delivery_id in pending(stage, at_once + measured_count, body_bytes=bytes_)]
    if worker.handler:
        cpu_seconds = _call(stage, worker, ids, at_once)
    else:
        cpu_seconds = _work(stage, worker, ids, at_once, broker_url=broker_url)
    with closing(superuser(stage)) as session:
        ends = _ends(session, ids)
    if len(ends) < len(ids):
        raise WorkerFailed(f"{worker.name} made {len(ends)} of {len(ids)} deliveries")
    wall_seconds = (ends[-1] - ends[at_once - 1]).total_seconds()
    return WorkerRun(per_second=(len(ends) - at_once) / wall_seconds, cpu_milliseconds=cpu_seconds * 1000)


def report(
    found: Mapping[str, Mapping[str, Sequence[WorkerRun]]], *, missing: Mapping[str, str], partial: bool
) -> dict[str, Any]:
    """What is recorded, of all rounds."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "partial": partial,
        "missing": dict(missing),
        "packages": {worker.name: worker.environment.pins() for worker in WORKERS if worker.requirements},
        "per_second": _of_all(found, lambda made: round(made.per_second, 1)),
        "cpu_milliseconds": _of_all(found, lambda made: round(made.cpu_milliseconds, 2)),
    }


def _of_all(
    found: Mapping[str, Mapping[str, Sequence[WorkerRun]]], figure: Callable[[WorkerRun], float]
) -> dict[str, dict[str, list[float]]]:
    return {
        cell: {name: [figure(made) for made in runs] for name, runs in by_name.items()}
        for cell, by_name in found.items()
    }


def cell_name(body: str, at_once: int) -> str:
    """Of one combination."""
    return f"{body}, {at_once} in flight"


def tables(recorded: Mapping[str, Any]) -> list[str]:
    """Markdown: medians with the lowest and the highest round, and ours beside the best of the other queues."""
    return [
        _table(recorded, "per_second", digits=0, best=max, heading="ours / fastest other queue"),
        _table(recorded, "cpu_milliseconds", digits=1, best=min, heading="ours / most frugal other queue"),
    ]


def pictures(recorded: Mapping[str, Any]) -> dict[str, str]:
    """By the names of their files."""
    speed, effort = PICTURES
    return {
        PICTURES[speed]: chart(
            recorded[speed], heading="Deliveries per second of one worker process", better="more", digits=0
        ),
        PICTURES[effort]: chart(
            recorded[effort],
            heading="Milliseconds of the worker's processor time per delivery",
            better="less",
            digits=1,
        ),
    }


def _table(recorded: Mapping[str, Any], figure: str, *, digits: int, best: Callable[..., float], heading: str) -> str:
    names = [worker.name for worker in WORKERS if worker.name not in recorded["missing"]]
    rows = [
        [cell, *(spread(by_name[name], digits=digits) for name in names), lead(by_name, best=best)]
        for cell, by_name in recorded[figure].items()
        if all(by_name.get(name) for name in names)
    ]
    return markdown([UNITS[figure], *names, heading], rows)


def lead(by_name: Mapping[str, Sequence[float]], *, best: Callable[..., float]) -> str:
    """Ours relative to the best of the other queues, by their medians; plain is none."""
    others = [median(found) for name, found in by_name.items() if name not in ("ours", "plain")]
    return f"{median(by_name['ours']) / best(others):.2f}" if others and by_name.get("ours") else ""


def _cells(*, small: bool) -> Iterator[tuple[str, int, int]]:
    for body, bytes_ in BODY_BYTES.items():
        for at_once in SMALL_IN_FLIGHT if small else IN_FLIGHT:
            if not small or body in SMALL_BODIES:
                yield body, bytes_, at_once


def _call(stage: Stage, worker: Worker, ids: Sequence[str], at_once: int) -> float:
    """Calls a handler with one batch after the other; processor seconds of a delivery after the first batch."""
    first, *rest = (events.batch(stage, ids[start : start + at_once]) for start in range(0, len(ids), at_once))
    with Side(stage.environment()) as side:
        side.do("calls", handler=worker.handler, events=[first])
        before: float = side.do("cpu_seconds")
        side.do("calls", handler=worker.handler, events=rest)
        after: float = side.do("cpu_seconds")
    return (after - before) / (len(ids) - at_once)


def _work(stage: Stage, worker: Worker, ids: Sequence[str], at_once: int, *, broker_url: str) -> float:
    """Fills the queue, and runs the worker until all have ended; processor seconds of a delivery after the first."""
    environment = stage.environment(role="postgres") | {"IN_FLIGHT": str(at_once), "BROKER_URL": broker_url}
    command = [str(worker.environment.python), "-m", worker.module]
    filled = subprocess.run(
        [*command, "enqueue"],
        cwd=REPOSITORY,
        env=environment,
        input=json.dumps(ids),
        capture_output=True,
        text=True,
        check=False,
    )
    if filled.returncode != 0:
        raise WorkerFailed(f"{worker.name}: {filled.stderr[-2000:]}")
    log = stage.directory / "worker.log"
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            [*command, "work"], cwd=REPOSITORY, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            return _wait_for(stage, ids, at_once, process, log)
        finally:
            process.kill()


def _wait_for(stage: Stage, ids: Sequence[str], at_once: int, process: "subprocess.Popen[bytes]", log: Path) -> float:
    give_up_at = time.monotonic() + LONGEST_SECONDS
    begun: tuple[int, float] | None = None
    with closing(superuser(stage)) as session:
        while (ended := len(_ends(session, ids))) < len(ids):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise WorkerFailed(f"it ended or took too long: {log.read_text(encoding='utf-8')[-2000:]}")
            if begun is None and ended >= at_once:
                begun = (ended, _cpu_seconds(process.pid))
            time.sleep(LOOK_SECONDS)
    ended_before, before = begun or (0, 0.0)  # all ended between two looks: its start is counted too
    return (_cpu_seconds(process.pid) - before) / (len(ids) - ended_before)


def _cpu_seconds(process_id: int) -> float:
    """Of a process with all its threads (proc_pid_stat(5): utime and stime)."""
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ends(session: Database, ids: Sequence[str]) -> list[datetime]:
    """When the deliveries ended that have, in this order."""
    found = session.connection().execute(
        """
        SELECT finished_at FROM delivery WHERE delivery_id = ANY (%(ids)s) AND finished_at IS NOT NULL
        ORDER BY finished_at
        """,
        {"ids": [UUID(delivery_id) for delivery_id in ids]},
    )
    return [row["finished_at"] for row in found.fetchall()]


@contextmanager
def _broker(stage: Stage) -> Iterator[str | None]:
    """Redis on a Unix socket, which stores nothing on disk; None where it is not installed."""
    program = shutil.which(BROKER)
    if program is None:
        yield None
        return
    socket = stage.directory / "redis"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=stage.directory) as process:
        try:
            while not socket.exists():
                if process.poll() is not None:
                    raise WorkerFailed(f"{BROKER} ended with {process.returncode}")
                time.sleep(LOOK_SECONDS)
            yield f"redis+socket://{socket}"
        finally:
            process.terminate()


def _there(workers: Sequence[Worker], missing: dict[str, str], broker_url: str | None) -> list[Worker]:
    """Those that can run. Why others cannot is put into `missing`."""
    for worker in workers:
        try:
            if worker.broker and broker_url is None:
                raise NotInstalled(f"{BROKER} is not installed (on Debian and Ubuntu: apt install {BROKER})")
            if not worker.environment.ready:
                say(f"Installing {worker.name}: {', '.join(worker.environment.pins())}\n")
            worker.environment.install()
        except NotInstalled as error:
            missing[worker.name] = str(error)
            skipped(f"worker {worker.name}", str(error))
    return [worker for worker in workers if worker.name not in missing]


def _tell(recorded: Mapping[str, Any], out: Path | None) -> None:
    if recorded["per_second"]:
        say("\n\n".join(tables(recorded)))
    if recorded["partial"]:
        say("\n!!! PARTIAL: it ended before all of them were measured\n")
    if out is not None:
        path = out / RECORDED.name
        path.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
        if not recorded["partial"]:
            for name, picture in pictures(recorded).items():
                (out / name).write_text(picture, encoding="utf-8")
        say(f"\nRecorded in {path}.")

"""Where the simulator takes hold of the code under test, all in one place.

Most of it goes through `flows.services.Services`, which is made for that. What the code takes from the standard library
and from psycopg has no such seam, and is replaced in the modules that use it, for a whole process of the simulator:

- `threading.Thread` in flows/early_recording.py and `threads.Thread` in runtime/deadline.py become tasks of the
  scheduler
- `threading.RLock` in db/connection.py becomes one that tasks wait for: to the real one they are all one thread
- `time` in db/connection.py becomes virtual time
- `Connection` in db/connection.py, psycopg's connection, becomes the model's
- `call` in wakeups/sqs.py, the signed call of AWS, becomes the model's queue
- `PAGE` in domain/jobs.py, how many deliveries a step of a job looks at, is few: so jobs of few deliveries have pages
- counts and logs: counts are kept for the promises, logs are dropped
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from greenlet import getcurrent

from db import connection as db_connection
from domain import jobs as domain_jobs
from flows import early_recording
from runtime import deadline, observability
from simulator.database import Server, SimulatedConnection
from simulator.scheduler import Signal, Task
from simulator.sqs import ModelledQueue
from simulator.world import World
from wakeups import sqs

JOB_PAGE = 2


class OnStage:
    """What the seams lead to at the moment: the models of the run that is going on."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.server: Server | None = None
        self.queue: ModelledQueue | None = None


STAGE: Final = OnStage()


def _world() -> World:
    assert STAGE.world is not None
    return STAGE.world


class _Thread:
    """`threading.Thread`, as far as the flows use it."""

    def __init__(self, *, target: Callable[[], object], daemon: bool) -> None:
        del daemon
        self._target = target
        self._task: Task | None = None

    def start(self) -> None:
        world = _world()
        self._task = world.scheduler.spawn(self._target, sandbox=world.process)

    def join(self, timeout: float | None = None) -> None:
        if self._task is not None and not self._task.ended:
            _world().scheduler.wait(self._task.done, timeout)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.ended


class _Lock:
    """`threading.RLock`, as far as db/connection.py uses it."""

    def __init__(self) -> None:
        self._holder: object = None
        self._depth = 0
        self._freed: Signal | None = None

    def __enter__(self) -> None:
        me = getcurrent()
        while self._holder not in (None, me):
            self._freed = self._freed or Signal(_world().scheduler)
            _world().scheduler.wait(self._freed, None)
        self._holder = me
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._holder = None
            freed, self._freed = self._freed, None
            if freed is not None:
                freed.fire()


class _Threading:
    Thread = _Thread
    RLock = _Lock


class _Time:
    """`time`, as far as db/connection.py uses it. A frozen process does not notice that time passes, and neither does
    its monotonic clock; that it does here makes nothing run longer."""

    @staticmethod
    def monotonic() -> float:
        return _world().now

    @staticmethod
    def time() -> float:
        return _world().wall_clock().timestamp()


class _Connections:
    @staticmethod
    def connect(conninfo: str, **_: object) -> SimulatedConnection:
        del conninfo
        assert STAGE.server is not None
        return STAGE.server.connect(_world().process)


class _Counts:
    """The provider of runtime.observability.metrics, as far as `count` uses it."""

    @staticmethod
    def add_metric(*, name: str, unit: object, value: int) -> None:
        del unit
        _world().evidence.counts[name] += value


def _call(
    service: str, target: str, payload: Mapping[str, Any], *, timeout_seconds: float, endpoint_url: str
) -> dict[str, Any]:
    del endpoint_url
    assert (service, target) == ("sqs", "AmazonSQS.SendMessageBatch")
    assert STAGE.queue is not None
    return STAGE.queue.call(payload, timeout_seconds=timeout_seconds)


@contextmanager
def seams() -> Iterator[None]:
    """The code under test leads to the models meanwhile."""
    logger = logging.getLogger(observability.logger.name)
    with (
        patch.object(early_recording, "threading", _Threading),
        patch.object(deadline, "threads", _Threading),
        patch.object(db_connection, "threading", _Threading),
        patch.object(db_connection, "time", _Time),
        patch.object(db_connection, "Connection", _Connections),
        patch.object(db_connection, "make_conninfo", lambda url, **_: url),  # a twelfth of a run's work, for nobody
        patch.object(sqs, "call", _call),
        patch.object(domain_jobs, "PAGE", JOB_PAGE),
        patch.object(observability.metrics, "provider", _Counts),
        patch.object(logger, "disabled", True),
    ):
        yield

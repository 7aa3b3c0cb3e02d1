"""Runs seeds on all processors: processes of the simulator, each with a database of its own in one PostgreSQL.

A process gets one seed after the other over a pipe, and ends when the pipe does: however the parent ends, none is left.
"""

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from local.stopping import children_unstopped
from simulator.mutants import mutated
from simulator.run import play
from simulator.setting import Databases, connected
from simulator.trace import Story, from_json, to_json

JOIN_SECONDS = 10.0


class ProcessLost(Exception):
    """A process of the simulator ended by itself; the message says at which seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """What one seed came to. `story` is None unless a promise was broken."""

    seed: int
    deliveries: int
    arrivals: int
    faults: int
    marks: Counter[str]
    story: Story | None


class Pool:
    """`size` processes. Use it as a context: in the end none is left."""

    def __init__(self, databases: Databases, *, size: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._databases = databases
        self._size = size
        self._workers: dict[Pipe, SpawnProcess] = {}
        self._seeds: dict[Pipe, int] = {}

    def __enter__(self) -> "Pool":
        resource_tracker.ensure_running()  # with the first process it would let signals through again
        with ExitStack() as half_way:
            half_way.callback(self._end)
            for number in range(1, self._size + 1):
                self._start(self._databases.make(f"simulated_{number}"))
            half_way.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _start(self, url: str) -> None:
        """A process, which is known by the time that a signal can stop us."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(url, theirs), daemon=True)
        with children_unstopped():
            process.start()
            self._workers[ours] = process
        theirs.close()

    def _end(self) -> None:
        for pipe, process in self._workers.items():
            pipe.close()
            process.kill()
            process.join(JOIN_SECONDS)

    def results(self, seeds: Iterable[int], *, mutant: str | None = None) -> Iterator[SeedResult]:
        """Of each seed, as they come; with one of simulator/mutants.py in the code. Raises ProcessLost."""
        self._finish_earlier()
        left = iter(seeds)
        for pipe in self._workers:
            self._give(pipe, left, mutant)
        while self._seeds:
            for ready in wait(list(self._seeds)):
                assert isinstance(ready, Pipe)
                result = self._take(ready)
                self._give(ready, left, mutant)
                yield result

    def _finish_earlier(self) -> None:
        """Waits for what an earlier call began and nobody wanted any more."""
        for pipe in self._seeds:
            self._take(pipe)
        self._seeds.clear()

    def _give(self, pipe: Pipe, seeds: Iterator[int], mutant: str | None) -> None:
        seed = next(seeds, None)
        if seed is None:
            self._seeds.pop(pipe, None)
            return
        self._seeds[pipe] = seed
        pipe.send((seed, mutant))

    def _take(self, pipe: Pipe) -> SeedResult:
        seed = self._seeds[pipe]
        try:
            deliveries, arrivals, faults, marks, story = pipe.recv()
        except (EOFError, ConnectionResetError):
            raise ProcessLost(f"the process that ran SEED={seed} ended; its last words are above") from None
        return SeedResult(
            seed=seed,
            deliveries=deliveries,
            arrivals=arrivals,
            faults=faults,
            marks=marks,
            story=None if story is None else from_json(story),
        )


def _serve(url: str, pipe: Pipe) -> None:
    """A process of the simulator."""
    gc.freeze()  # what is there by now stays; what a run leaves is collected after it, not in its midst
    gc.disable()
    with connected(url) as connection:
        while True:
            try:
                seed, mutant = pipe.recv()
                with mutated(mutant):
                    result = play(seed, connection)
                story = to_json(result.story) if result.story.broken else None
                evidence = result.evidence
                pipe.send((len(evidence.deliveries), len(evidence.arrivals), len(evidence.faults), result.marks, story))
                del result, evidence
                gc.collect()
            except (EOFError, BrokenPipeError):
                return


def processors() -> int:
    """How many processes can run at once."""
    return os.process_cpu_count() or 1

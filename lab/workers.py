"""A pool of worker processes: each runs one case in a sandbox of its own, a few at a time.

They are forked before anything starts a thread, die with the process that started them, and send their results through
a pipe.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from lab.kernel.sandbox import NamespacesForbidden, die_with_parent, enter
from lab.model.case import Case

_CONTEXT = get_context("fork")
type Message = tuple[str, Any]  # ("step", text), ("result", CaseResult), ("forbidden", text), ("refused", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRun:
    """A case and how much of it is wanted."""

    case: Case
    controls: bool
    programs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What was found: the report as data, and the map as SVG, None for a network that the map has no room for."""

    data: Mapping[str, Any]
    svg: str | None


class CaseRefused(ValueError):
    """A case cannot be run; the message names the resource and what is missing."""


def run_cases(
    case_runs: Sequence[CaseRun], *, at_once: int, report: Callable[[str, str], None]
) -> Iterator[tuple[CaseRun, CaseResult]]:
    """Results in the order in which they are ready. `report` gets the case's name and its step.

    Raises NamespacesForbidden where the machine lets us make no namespaces, CaseRefused for a case that cannot be made,
    and RuntimeError for a process that ended without a result.
    """
    if any(case_run.programs for case_run in case_runs):
        _load()
    with _WorkerPool() as pool:
        left = list(case_runs)
        while left or pool.busy:
            while left and len(pool.busy) < at_once:
                pool.start(left.pop(0))
            yield from pool.poll(report)


@dataclass(slots=True)
class _WorkerPool:
    busy: dict[Connection, tuple[Any, CaseRun]] = field(default_factory=dict)

    def __enter__(self) -> "_WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        """Killing the process is enough: its private world is tied to it."""
        for process, _case_run in self.busy.values():
            process.kill()
            process.join()

    def start(self, case_run: CaseRun) -> None:
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_work, args=(case_run, theirs, os.getpid()), daemon=False)
        process.start()
        theirs.close()
        self.busy[ours] = (process, case_run)

    def poll(self, report: Callable[[str, str], None]) -> Iterator[tuple[CaseRun, CaseResult]]:
        """Wait for the next messages of any worker; yield the results among them."""
        ready = set(wait(list(self.busy)))
        for pipe in [pipe for pipe in self.busy if pipe in ready]:
            kind, content = self._receive(pipe)
            case_run = self.busy[pipe][1]
            if kind == "step":
                report(case_run.case.name, content)
                continue
            process, _ = self.busy.pop(pipe)
            process.join()
            if kind == "forbidden":
                raise NamespacesForbidden(content)
            if kind == "refused":
                raise CaseRefused(f"{case_run.case.name}: {content}")
            yield case_run, content

    def _receive(self, pipe: Connection) -> Message:
        try:
            message: Message = pipe.recv()
        except EOFError:
            process, case_run = self.busy.pop(pipe)
            process.join()
            raise RuntimeError(f"{case_run.case.name}: its process ended with {process.exitcode}") from None
        return message


def _load() -> None:
    """Import once, before the processes part, what each of them would take two seconds of a processor for."""
    from lab.programs.checks import run  # noqa: F401 - for what it imports
    from lab.programs.services import load

    load()


def _work(case_run: CaseRun, results: Connection, parent: int) -> None:
    """In the process of the case. Ctrl-C is for the one that asked; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    try:
        enter()
        results.send(("result", _result(case_run, lambda step: results.send(("step", step)))))
    except NamespacesForbidden as error:
        results.send(("forbidden", str(error)))
    except _refusals() as error:
        results.send(("refused", str(error)))


def _refusals() -> tuple[type[Exception], ...]:
    from lab.kernel.apply import MissingRequirement
    from lab.model.errors import ProgramCannotRun
    from lab.plan.parts import UnsupportedNetwork
    from local.errors import LocalError

    return UnsupportedNetwork, ProgramCannotRun, MissingRequirement, LocalError


def _result(case_run: CaseRun, report: Callable[[str], None]) -> CaseResult:
    from lab.proofs.runner import prove
    from lab.report.data import as_data
    from lab.report.picture import picture

    since = time.monotonic()
    evidence = prove(case_run.case, controls=case_run.controls, report=report)
    checks, code = [], None
    if case_run.programs:
        from lab.programs.checks import run

        program_checks, code = run(case_run.case, report=report)
        checks = [check.as_data() for check in program_checks]
    data = as_data(evidence, seconds=time.monotonic() - since, checks=checks, code=code)
    return CaseResult(data=data, svg=picture(evidence))

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
type Message = tuple[str, Any]  # ("step", words), ("found", CaseResult), ("forbidden", words), ("refused", words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
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
    """A case cannot be carried out; the words name the resource and what is missing."""


def carry_out(
    orders: Sequence[Order], *, at_once: int, report: Callable[[str, str], None]
) -> Iterator[tuple[Order, CaseResult]]:
    """Results in the order in which they are ready. `report` gets the case's name and its step.

    Raises NamespacesForbidden where the machine lets us make no namespaces, CaseRefused for a case that cannot be made,
    and RuntimeError for a process that ended without a result.
    """
    if any(order.programs for order in orders):
        _load()
    with _WorkerPool() as pool:
        left = list(orders)
        while left or pool.busy:
            while left and len(pool.busy) < at_once:
                pool.start(left.pop(0))
            yield from pool.poll(report)


@dataclass(slots=True)
class _WorkerPool:
    busy: dict[Connection, tuple[Any, Order]] = field(default_factory=dict)

    def __enter__(self) -> "_WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        """Killing the process is enough: its private world is tied to it."""
        for process, _order in self.busy.values():
            process.kill()
            process.join()

    def start(self, order: Order) -> None:
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_work, args=(order, theirs, os.getpid()), daemon=False)
        process.start()
        theirs.close()
        self.busy[ours] = (process, order)

    def poll(self, report: Callable[[str, str], None]) -> Iterator[tuple[Order, CaseResult]]:
        """Wait for the next messages of any worker; yield the results among them."""
        ready = set(wait(list(self.busy)))
        for pipe in [one for one in self.busy if one in ready]:
            kind, content = self._receive(pipe)
            order = self.busy[pipe][1]
            if kind == "step":
                report(order.case.name, content)
                continue
            process, _ = self.busy.pop(pipe)
            process.join()
            if kind == "forbidden":
                raise NamespacesForbidden(content)
            if kind == "refused":
                raise CaseRefused(f"{order.case.name}: {content}")
            yield order, content

    def _receive(self, pipe: Connection) -> Message:
        try:
            words: Message = pipe.recv()
        except EOFError:
            process, order = self.busy.pop(pipe)
            process.join()
            raise RuntimeError(f"{order.case.name}: its process ended with {process.exitcode}") from None
        return words


def _load() -> None:
    """Import once, before the processes part, what each of them would take two seconds of a processor for."""
    from lab.programs.checks import run  # noqa: F401 - for what it imports
    from lab.programs.services import load

    load()


def _work(order: Order, told: Connection, parent: int) -> None:
    """In the process of the case. Ctrl-C is for the one that asked; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    try:
        enter()
        told.send(("found", _result(order, lambda words: told.send(("step", words)))))
    except NamespacesForbidden as error:
        told.send(("forbidden", str(error)))
    except _refusals() as error:
        told.send(("refused", str(error)))


def _refusals() -> tuple[type[Exception], ...]:
    from lab.kernel.apply import MissingRequirement
    from lab.model.errors import Unrunnable
    from lab.plan.parts import Unrealisable
    from local.errors import LocalError

    return Unrealisable, Unrunnable, MissingRequirement, LocalError


def _result(order: Order, report: Callable[[str], None]) -> CaseResult:
    from lab.proofs.runner import prove
    from lab.report.data import as_data
    from lab.report.picture import picture

    since = time.monotonic()
    evidence = prove(order.case, controls=order.controls, report=report)
    checks, code = [], None
    if order.programs:
        from lab.programs.checks import run

        found, code = run(order.case, report=report)
        checks = [check.as_data() for check in found]
    data = as_data(evidence, seconds=time.monotonic() - since, checks=checks, code=code)
    return CaseResult(data=data, svg=picture(evidence))

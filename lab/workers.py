"""Cases carried out in processes of their own, each in a private world of its own, a few at a time.

They are forked before anything starts a thread, die with the process that asked for them, and hand back what they found
through a pipe.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from lab.kernel.sandbox import Forbidden, die_with_parent, enter
from lab.model.case import Case

_CONTEXT = get_context("fork")
type Message = tuple[str, Any]  # ("step", words), ("found", Result), ("forbidden", words), ("refused", words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A case and how much of it is wanted."""

    case: Case
    controls: bool
    programs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found: the report as data, and the map as SVG, None for a network that the map has no room for."""

    data: Mapping[str, Any]
    svg: str | None


class Refused(ValueError):
    """A case cannot be carried out; the words name the resource and what is missing."""


def carry_out(
    orders: Sequence[Order], *, at_once: int, report: Callable[[str, str], None]
) -> Iterator[tuple[Order, Result]]:
    """Results in the order in which they are ready. `report` gets the case's name and its step.

    Raises Forbidden where the machine has no namespaces for us, Refused for a case that cannot be made, and
    RuntimeError for a process that ended without a word.
    """
    if any(order.programs for order in orders):
        _load()
    with _Crew() as crew:
        left = list(orders)
        while left or crew.busy:
            while left and len(crew.busy) < at_once:
                crew.start(left.pop(0))
            yield from crew.news(report)


@dataclass(slots=True)
class _Crew:
    busy: dict[Connection, tuple[Any, Order]] = field(default_factory=dict)

    def __enter__(self) -> "_Crew":
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

    def news(self, report: Callable[[str, str], None]) -> Iterator[tuple[Order, Result]]:
        """Wait for the next words of any, and hand on those that are results."""
        ready = set(wait(list(self.busy)))
        for pipe in [one for one in self.busy if one in ready]:
            kind, content = self._heard(pipe)
            order = self.busy[pipe][1]
            if kind == "step":
                report(order.case.name, content)
                continue
            process, _ = self.busy.pop(pipe)
            process.join()
            if kind == "forbidden":
                raise Forbidden(content)
            if kind == "refused":
                raise Refused(f"{order.case.name}: {content}")
            yield order, content

    def _heard(self, pipe: Connection) -> Message:
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
    except Forbidden as error:
        told.send(("forbidden", str(error)))
    except _refusals() as error:
        told.send(("refused", str(error)))


def _refusals() -> tuple[type[Exception], ...]:
    from lab.kernel.apply import Missing
    from lab.model.errors import Unrunnable
    from lab.plan.parts import Unrealisable
    from local.errors import LocalError

    return Unrealisable, Unrunnable, Missing, LocalError


def _result(order: Order, report: Callable[[str], None]) -> Result:
    from lab.proofs.runner import prove
    from lab.report.data import as_data
    from lab.report.picture import picture

    since = time.monotonic()
    evidence = prove(order.case, controls=order.controls, report=report)
    deeds, code = [], None
    if order.programs:
        from lab.programs.checks import run

        found, code = run(order.case, report=report)
        deeds = [deed.as_data() for deed in found]
    data = as_data(evidence, seconds=time.monotonic() - since, deeds=deeds, code=code)
    return Result(data=data, svg=picture(evidence))

"""`make lab`: proves what the network lets pass, with packets and the real programs. See docs/lab.md."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.case import Case
from lab.enclosure import Forbidden, die_with_parent
from lab.parts import Unrealisable
from lab.programs.errors import Unrunnable
from lab.realise import Missing
from lab.report import Pages, written
from lab.shell import NoSuchHost, shell
from lab.sources import live, templates
from lab.sources.describing import NotDescribed
from lab.work import Order, Refused, Result, carry_out
from local.errors import LocalError
from stack.reading import Unmodelled
from stack.render import ROOT
from stack.render import Refused as RefusedParameters

OUT = Path(".lab")
FAILED, CANNOT = 1, 2
# The real programs take some seconds in each: when all designs are asked for, they run in these.
WITH_PROGRAMS = (
    "public-private-single",
    "public-private-per-az",
    "on-premises-single",
    "internal-only-single",
)
AT_ONCE = 4  # a case waits for time-outs half of its time, so two processors have room for four
# lab.report.GROUPS in a word each.
_HEADINGS = {1: "database", 2: "address", 3: "lost zone", 4: "no way out", 5: "corporate", 6: "state"}
WIDTH = 120  # of text that does not go to a terminal


class Wrong(ValueError):
    """A question that makes no sense, in words for the person who asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all proofs hold, 1 when one fails, 2 when they cannot be carried out."""
    asked = _parsed(arguments)
    if asked.tied:
        die_with_parent()

    def act() -> int:
        _refuse_contradictions(asked)
        return proved(_orders(asked)) if asked.host is None else shell(asked.host, _one(asked))

    return answered(act)


def answered(act: Callable[[], int]) -> int:
    """What `act` returns; for what it cannot do one line and 2."""
    try:
        return act()
    except _CANNOT as error:
        print(f"lab: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("\nlab: stopped", file=sys.stderr)
        return 130


_CANNOT = (
    Forbidden,
    LocalError,
    Missing,
    NoSuchHost,
    NotDescribed,
    Refused,
    RefusedParameters,
    Unmodelled,
    Unrealisable,
    Unrunnable,
    Wrong,
    templates.Unknown,
)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="lab", description=__doc__)
    words.add_argument("--topology", default="", help="one of the templates' (all)")
    words.add_argument("--egress", default="", help="one of the templates' (all)")
    words.add_argument("--stack", default="", help="a deployed stack, from its live description; packets only")
    words.add_argument("--region", default="", help="of the stack")
    words.add_argument("--controls", default="", help="yes: run the negative controls in all cases, no: in none")
    words.add_argument("--programs", default="", help="yes: run the real programs in all cases, no: in none")
    words.add_argument("--tied", action="store_true", help="end with the process that started it, such as make")
    words.add_argument("--host", default=None, help="open a shell there instead")
    return words.parse_args(arguments)


def _refuse_contradictions(asked: argparse.Namespace) -> None:
    for name in ("controls", "programs"):
        if getattr(asked, name) not in {"", "yes", "no"}:
            raise Wrong(f"{name.upper()} is yes or no, not {getattr(asked, name)!r}")
    if asked.stack and (asked.topology or asked.egress or asked.programs == "yes"):
        raise Wrong("a STACK is read as it is deployed: TOPOLOGY, EGRESS and PROGRAMS are not for it")
    if asked.region and not asked.stack:
        raise Wrong("REGION goes with STACK")


def _orders(asked: argparse.Namespace) -> list[Order]:
    if asked.stack:
        found = live.case(asked.stack, region=asked.region)
        return [Order(case=found, controls=asked.controls != "no", programs=False)]
    cases = templates.cases(asked.topology, asked.egress)
    is_one = bool(asked.topology and asked.egress)
    return [
        Order(
            case=one,
            controls=_wanted(asked.controls, is_one or one.name in WITH_PROGRAMS),
            programs=_wanted(asked.programs, is_one or one.name in WITH_PROGRAMS),
        )
        for one in cases
    ]


def _wanted(said: str, otherwise: bool) -> bool:
    return said == "yes" or (said != "no" and otherwise)


def _one(asked: argparse.Namespace) -> Case:
    return templates.cases(asked.topology or "public-private", asked.egress)[0]


# ---- Proving


def proved(orders: Sequence[Order]) -> int:
    """Carry them out, print and keep what was found. Returns 0 where all holds, 1 where not."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    found: dict[str, Result] = {}
    since = time.monotonic()
    with _Progress(orders) as progress:
        longest_first = sorted(orders, key=lambda order: not order.programs)
        for order, result in carry_out(longest_first, at_once=AT_ONCE, report=progress.step):
            found[order.case.name] = result
            _save(order.case.name, result)
            progress.done(order.case.name, bool(result.data["holds"]))
    pages = Pages(console)
    shown = _shown(orders, found)
    for name in shown:
        pages.case(found[name].data, files=f"{OUT / name}.json, drawn in {OUT / name}.svg")
    pages.limits()
    if len(orders) > 1:
        _table(console, orders, found, shown)
    tried = sum(one.data["attempts"] for one in found.values())
    console.print(f"{len(found)} designs, {tried} connections, {time.monotonic() - since:.0f} s")
    return 0 if all(one.data["holds"] for one in found.values()) else FAILED


def _shown(orders: Sequence[Order], found: dict[str, Result]) -> list[str]:
    """In full: all of up to two cases; of more the first one, and those that failed."""
    names = [order.case.name for order in orders]
    return [name for place, name in enumerate(names) if len(names) <= 2 or place == 0 or not found[name].data["holds"]]


def _save(name: str, result: Result) -> None:
    folder = ROOT / OUT
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(written(result.data), encoding="utf-8")
    (folder / f"{name}.txt").write_text(_text(name, result), encoding="utf-8")
    if result.svg is not None:
        (folder / f"{name}.svg").write_text(result.svg, encoding="utf-8")


def _text(name: str, result: Result) -> str:
    console = Console(width=WIDTH, color_system=None, record=True, file=open(os.devnull, "w"))  # noqa: SIM115,PTH123
    Pages(console).case(result.data, files=f"{OUT / name}.json, drawn in {OUT / name}.svg")
    Pages(console).limits()
    return console.export_text()


def _table(console: Console, orders: Sequence[Order], found: dict[str, Result], shown: Iterable[str]) -> None:
    table = Table(title="Proofs that hold, by design", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("design", no_wrap=True, overflow="fold")
    for words in (*_HEADINGS.values(), "controls", "programs"):
        table.add_column(words, justify="right")
    for order in orders:
        table.add_row(order.case.name, *_cells(found[order.case.name].data))
    console.print(table)
    console.print(
        f"\nIn full: {', '.join(shown)} above, each design in {OUT}/<design>.txt, .json and .svg. "
        "CONTROLS=yes and PROGRAMS=yes run what a dash leaves out.",
        highlight=False,
    )


def _cells(data: Any) -> list[str]:
    cells = []
    for group in _HEADINGS:
        proofs = [one for one in data["proofs"] if one["group"] == group and not one["skipped"]]
        held = sum(bool(one["holds"]) for one in proofs)
        cells.append(_of(held, len(proofs)) if proofs else "[dim]n/a[/]")
    controls = [one for proof in data["proofs"] for one in proof["controls"] or ()]
    cells.append(_of(sum(one["made the proof fail"] for one in controls), len(controls)) if controls else "-")
    deeds = data["programs"]
    cells.append(_of(sum(one["holds"] for one in deeds), len(deeds)) if deeds else "-")
    return cells


def _of(held: int, all_of_them: int) -> str:
    return f"[{'green' if held == all_of_them else 'red'}]{held}/{all_of_them}[/]"


class _Progress:
    """What goes on, on one line of a terminal; elsewhere a line for each case that is done."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._left = len(orders)
        self._of = len(orders)
        self._steps: dict[str, str] = {}
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._rewrite("")

    def step(self, name: str, words: str) -> None:
        self._steps[name] = words
        going = "; ".join(f"{case}: {step}" for case, step in self._steps.items())
        self._rewrite(f"{self._of - self._left} of {self._of} done; {going}")

    def done(self, name: str, holds: bool) -> None:
        self._left -= 1
        self._steps.pop(name, None)
        self._rewrite("")
        print(f"{'✔' if holds else '✘'} {name}", file=sys.stderr, flush=True)

    def _rewrite(self, line: str) -> None:
        if self._is_terminal:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            print(f"\r\033[K{line[:width]}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`make lab`: proves what the network lets pass, with packets and the real programs. See docs/lab.md."""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.kernel.apply import MissingRequirement
from lab.kernel.sandbox import NamespacesForbidden, die_with_parent
from lab.model.case import Case
from lab.model.errors import ProgramCannotRun
from lab.plan.parts import UnsupportedNetwork
from lab.report.data import written
from lab.report.text import ReportPrinter
from lab.shell import NoSuchHost, shell
from lab.sources import live, templates
from lab.sources.description import NotDescribed
from lab.workers import CaseRefused, CaseResult, CaseRun, run_cases
from local.errors import LocalError
from stack.network.from_templates import Unmodelled
from stack.render import ROOT
from stack.render import ParametersRefused as RefusedParameters
from stack.switches import add_switch

OUT = Path(".lab")
FAILED, CANNOT_RUN = 1, 2
# The real programs take some seconds in each: without a chosen design they run in these.
WITH_PROGRAMS = (
    "public-private-single",
    "public-private-per-az",
    "on-premises-single",
    "internal-only-single",
)
AT_ONCE = 4  # a case waits for time-outs half of its time, so two processors have room for four
# lab.report.text.GROUPS in a word each.
_HEADINGS = {1: "database", 2: "address", 3: "zone", 4: "no way out", 5: "corporate", 6: "state"}
WIDTH = 120  # of text that does not go to a terminal


class UsageError(ValueError):
    """Arguments that contradict each other; the message is for the person who gave them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when all proofs hold, 1 when one fails, 2 when they cannot run."""
    asked = parser().parse_args(arguments)
    if asked.tied is not None:
        die_with_parent(asked.tied)

    def act() -> int:
        _refuse_contradictions(asked)
        if asked.host is not None:
            return shell(asked.host, _single_case(asked))
        return prove_all(_case_runs(asked), out=asked.out, verbose=asked.verbose)

    return with_exit_status(act)


def with_exit_status(act: Callable[[], int]) -> int:
    """What `act` returns; for what it cannot do one line and 2."""
    try:
        return act()
    except _EXPECTED_ERRORS as error:
        print(f"lab: {error}", file=sys.stderr)
        return CANNOT_RUN
    except KeyboardInterrupt:
        print("\nlab: stopped", file=sys.stderr)
        return 130


_EXPECTED_ERRORS = (
    NamespacesForbidden,
    LocalError,
    MissingRequirement,
    NoSuchHost,
    NotDescribed,
    CaseRefused,
    RefusedParameters,
    Unmodelled,
    UnsupportedNetwork,
    ProgramCannotRun,
    UsageError,
    templates.UnknownDesign,
)


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables, and of --tied."""
    made = argparse.ArgumentParser(prog="lab", description=__doc__)
    made.add_argument("--topology", default="", help="one of the templates' (all)")
    made.add_argument("--egress", default="", help="one of the templates' (all)")
    made.add_argument("--stack", default="", help="a deployed stack, from its live description; packets only")
    made.add_argument("--region", default="", help="of the stack")
    made.add_argument("--controls", default="", help="yes: run the negative controls in all cases, no: in none")
    made.add_argument("--programs", default="", help="yes: run the real programs in all cases, no: in none")
    made.add_argument("--tied", type=int, metavar="PID", help="end with this parent, such as make")
    made.add_argument("--out", type=Path, default=OUT, help="the folder of the reports (.lab)")
    add_switch(made, "--verbose", words="print the reports in full")
    made.add_argument("--host", default=None, help="open a shell there instead")
    return made


def _refuse_contradictions(asked: argparse.Namespace) -> None:
    for name in ("controls", "programs"):
        if getattr(asked, name) not in {"", "yes", "no"}:
            raise UsageError(f"{name.upper()} is yes or no, not {getattr(asked, name)!r}")
    if asked.stack and (asked.topology or asked.egress or asked.programs == "yes"):
        raise UsageError("a STACK is read as it is deployed: TOPOLOGY, EGRESS and PROGRAMS are not for it")
    if asked.region and not asked.stack:
        raise UsageError("REGION goes with STACK")


def _case_runs(asked: argparse.Namespace) -> list[CaseRun]:
    if asked.stack:
        deployed = live.case(asked.stack, region=asked.region)
        return [CaseRun(case=deployed, controls=asked.controls != "no", programs=False)]
    cases = templates.cases(asked.topology, asked.egress)
    is_one = bool(asked.topology and asked.egress)
    return [
        CaseRun(
            case=case,
            controls=_wanted(asked.controls, is_one or case.name in WITH_PROGRAMS),
            programs=_wanted(asked.programs, is_one or case.name in WITH_PROGRAMS),
        )
        for case in cases
    ]


def _wanted(answer: str, default: bool) -> bool:
    return answer == "yes" or (answer != "no" and default)


def _single_case(asked: argparse.Namespace) -> Case:
    return templates.cases(asked.topology or "public-private", asked.egress)[0]


# ---- Proving


def prove_all(case_runs: Sequence[CaseRun], *, out: Path = OUT, verbose: bool = False) -> int:
    """Run all cases, write their reports to `out`, and print the table; the reports too where `verbose`.

    Returns 0 where all holds, 1 where not. Raises UsageError where another lab writes into the same folder.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    since = time.monotonic()
    with _alone(ROOT / out):
        results = _run_all(case_runs, out)
    pages = ReportPrinter(console)
    if verbose:
        for case_run in case_runs:
            pages.case(results[case_run.case.name].data, files=_files(out, case_run.case.name))
        pages.limits()
    else:
        for case_run in case_runs:
            pages.failures(results[case_run.case.name].data)
            pages.differences(results[case_run.case.name].data)
    _table(console, case_runs, results, out)
    tried = sum(result.data["attempts"] for result in results.values())
    designs = "1 design" if len(results) == 1 else f"{len(results)} designs"
    console.print(f"{designs}, {tried} connections, {time.monotonic() - since:.0f} s")
    return 0 if all(result.data["holds"] for result in results.values()) else FAILED


def _run_all(case_runs: Sequence[CaseRun], out: Path) -> dict[str, CaseResult]:
    results: dict[str, CaseResult] = {}
    with _Progress(case_runs) as progress:
        longest_first = sorted(case_runs, key=lambda case_run: not case_run.programs)
        for case_run, result in run_cases(longest_first, at_once=AT_ONCE, report=progress.step):
            results[case_run.case.name] = result
            _save(out, case_run.case.name, result)
            progress.done(case_run.case.name, bool(result.data["holds"]))
    return results


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two labs that write the same files would mix their reports. The kernel takes the lock back however we end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another lab writes its reports into {folder}: wait for its end, or say OUT=folder"
            ) from None
        yield


def _files(out: Path, name: str) -> str:
    return f"{out / name}.json, drawn in {out / name}.svg"


def _save(out: Path, name: str, result: CaseResult) -> None:
    folder = ROOT / out
    (folder / f"{name}.json").write_text(written(result.data), encoding="utf-8")
    (folder / f"{name}.txt").write_text(_text(out, name, result), encoding="utf-8")
    if result.svg is not None:
        (folder / f"{name}.svg").write_text(result.svg, encoding="utf-8")


def _text(out: Path, name: str, result: CaseResult) -> str:
    console = Console(width=WIDTH, color_system=None, record=True, file=open(os.devnull, "w"))  # noqa: SIM115,PTH123
    ReportPrinter(console).case(result.data, files=_files(out, name))
    ReportPrinter(console).limits()
    return console.export_text()


def _table(console: Console, case_runs: Sequence[CaseRun], results: dict[str, CaseResult], out: Path) -> None:
    table = Table(title="Proofs that hold, by design", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("design", no_wrap=True, overflow="fold")
    for heading in (*_HEADINGS.values(), "ways", "controls", "programs"):
        table.add_column(heading, justify="right")
    for case_run in case_runs:
        table.add_row(case_run.case.name, *_cells(results[case_run.case.name].data))
    console.print(table)
    console.print(
        f"\nEach design in full, and what the lab does not model, in {out}/<design>.txt, .json and .svg (VERBOSE=yes "
        "prints it). CONTROLS=yes and PROGRAMS=yes run what a dash leaves out.",
        highlight=False,
    )


def _cells(data: Any) -> list[str]:
    cells = []
    for group in _HEADINGS:
        proofs = [proof for proof in data["proofs"] if proof["group"] == group and not proof["skipped"]]
        held = sum(bool(proof["holds"]) for proof in proofs)
        cells.append(_of(held, len(proofs)) if proofs else "[dim]n/a[/]")
    ways = [way for way in data["ways past the network"] if not way["skipped"]]
    cells.append(_of(sum(bool(way["holds"]) for way in ways), len(ways)) if ways else "[dim]n/a[/]")
    controls = [control for proof in data["proofs"] for control in proof["controls"] or ()]
    controls += [way["control"] for way in ways if way["control"]]
    cells.append(_of(sum(control["made the proof fail"] for control in controls), len(controls)) if controls else "-")
    checks = data["programs"]
    cells.append(_of(sum(check["holds"] for check in checks), len(checks)) if checks else "-")
    return cells


def _of(held: int, all_of_them: int) -> str:
    return f"[{'green' if held == all_of_them else 'red'}]{held}/{all_of_them}[/]"


class _Progress:
    """The progress, on one line of a terminal; elsewhere a line for each case that is done."""

    def __init__(self, case_runs: Sequence[CaseRun]) -> None:
        self._left = len(case_runs)
        self._of = len(case_runs)
        self._steps: dict[str, str] = {}
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._rewrite("")

    def step(self, name: str, step: str) -> None:
        self._steps[name] = step
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

"""The command line behind `make mutants`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from stack.switches import add_switch
from tools.mutants.baseline import CACHE_DIRECTORY, NotClean
from tools.mutants.edits import Edit
from tools.mutants.report import caught_percent, equivalents, key, lines_about, save_survivors, saved_survivors, summary
from tools.mutants.runner import MutantResult, Runner, cores, runner
from tools.mutants.sample import Texts, all_edits, changed_since, draw, texts, touching
from tools.mutants.trees import workspace

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVORS = ROOT / CACHE_DIRECTORY / "survivors"


class NothingToTry(Exception):
    """What was asked for leaves no edit; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if enough were caught, 1 if not, 2 if nothing could be run."""
    options = parser().parse_args(arguments)
    try:
        chosen = texts(ROOT, _split(options.only))
        drawn = _sampled(options, chosen)
        return _run_all(options, drawn, chosen)
    except (NotClean, NothingToTry, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"make mutants: {_message(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("make mutants: interrupted\n")
        return 130


def parser() -> argparse.ArgumentParser:
    """Of the options, which are make's variables."""
    made = argparse.ArgumentParser(prog="make mutants")
    made.add_argument("--n", type=int, default=150)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--since", default="")
    made.add_argument("--only", default="")
    made.add_argument("--tests", default="")
    made.add_argument("--rules", default="")
    made.add_argument("--jobs", type=int, default=cores())
    made.add_argument("--minimum", type=int, default=95)
    add_switch(made, "--again", words="those that survived last time")
    add_switch(made, "--anyway", words="skip tests that fail without an edit")
    add_switch(made, "--list", words="list the edits without running them")
    return made


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _message(error: Exception) -> str:
    return str(error.stderr).strip() if isinstance(error, subprocess.CalledProcessError) else str(error)


def _sampled(options: argparse.Namespace, chosen: Texts) -> list[Edit]:
    rules = _split(options.rules)
    edits = all_edits(ROOT, chosen)
    if not edits:
        raise NothingToTry("ONLY names no file that it edits")
    _refuse_unknown(set(rules) - {edit.rule for edit in edits})
    edits = [edit for edit in edits if not rules or edit.rule in rules]
    if not edits:
        raise NothingToTry("none of RULES has an edit in these files")
    if options.again:
        before = saved_survivors(SURVIVORS)
        return [edit for edit in edits if key(edit, chosen) in before]
    if options.since:
        edits = touching(edits, chosen, changed_since(ROOT, options.since))
    return draw(edits, chosen, count=options.n, seed=options.seed)


def _refuse_unknown(rules: Set[str]) -> None:
    """Raises NothingToTry. Of a misspelt rule 100 % would be caught. `rules` have no edit in the chosen files."""
    if rules:
        known = {edit.rule for edit in all_edits(ROOT, texts(ROOT))}
        if unknown := rules - known:
            raise NothingToTry(f"there is no rule '{min(unknown)}'; RULES takes {', '.join(sorted(known))}")


def _run_all(options: argparse.Namespace, drawn: Sequence[Edit], chosen: Texts) -> int:
    say(f"{len(drawn)} edits of {len(chosen)} files, SEED={options.seed} N={options.n}")
    known = equivalents()
    counted = [edit for edit in drawn if key(edit, chosen) not in known]
    results = [
        MutantResult(edit=edit, verdict="equivalent", by=known[key(edit, chosen)])
        for edit in drawn
        if key(edit, chosen) in known
    ]
    for result in results:
        _report(result, chosen)
    if options.list:
        for edit in counted:
            _report(MutantResult(edit=edit, verdict="drawn", by="not tried"), chosen)
        return 0
    for result in _run(options, counted, chosen):
        results.append(result)
        _report(result, chosen)
    save_survivors(results, chosen, SURVIVORS)
    say("", *summary(results))
    return 0 if caught_percent(results) >= options.minimum else 1


def _run(options: argparse.Namespace, counted: Sequence[Edit], chosen: Texts) -> Iterator[MutantResult]:
    with workspace() as directory:
        jobs, tests = max(1, options.jobs), _split(options.tests)
        ready: Runner = runner(ROOT, directory, chosen, jobs=jobs, tests=tests, anyway=options.anyway)
        for line in ready.prepare(counted):
            say(f"clean: {line}")
        yield from ready.run(counted)


def _report(result: MutantResult, chosen: Texts) -> None:
    say(*lines_about(result, chosen))


def say(*lines: str) -> None:
    """Prints at once: a run takes minutes, and is watched. Raises SystemExit if nobody reads on, as after `| head`."""
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())

"""The report of a run: as data, and the same to read."""

import contextlib
import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from faults.load import BURST, CALLERS, answers
from faults.promises import disturbed_seconds
from faults.run import FaultRun, Say
from faults.site import CONCURRENCY, TOTAL_SECONDS
from local.postgres import MAJOR_VERSION

MOST_NAMED = 20  # of what broke
PROMISES = {
    "lost": "Lost: accepted, and nowhere or never ended",
    "doubled": "Doubled: sent again though the guarantee forbids it",
    "unexplained_duplicates": "Unexplained duplicates: sent again though nothing explains it",
    "changed_after_delivered": "Shown as delivered, and later as something else",
    "otherwise_broken": "Anything else that record, ledger and answers say against each other",
}


def data(run: FaultRun) -> dict[str, Any]:
    """Everything about a run that has ended."""
    count = run.count
    if count is None:
        raise ValueError("the run has not ended")
    monkey, load = run.monkey, run.load
    per_second = list(load.placed_in.values())
    return {
        "date": f"{run.started_at:%Y-%m-%d}",
        "command": f"make faults N={run.plan.deliveries} FAULTS={run.plan.faults} SEED={run.plan.seed}",
        "machine": machine(),
        "setting": {
            "orders_per_second": run.plan.per_second,
            "burst_times": BURST,
            "callers": CALLERS,
            "processes_per_function": CONCURRENCY,
            "partner_deadline_seconds": TOTAL_SECONDS,
            "lease_seconds": run.plan.pace.lease_seconds,
            "visibility_seconds": run.plan.pace.visibility_seconds,
            "no_full_disk_because": run.no_disk_because,
        },
        "seconds": {"under_load": round(run.loaded_seconds), "until_all_had_ended": round(run.settled_seconds)},
        "deliveries": {
            "total": run.deliveries,
            "per_second": round(run.deliveries / run.loaded_seconds, 1),
            "by_guarantee": run.guarantees,
            "by_state": run.states,
        },
        "attempts_by_outcome": run.outcomes,
        "requests_at_the_partner": sum(map(len, run.site.ledger.arrivals.values())),
        "answers_by_status": answers(load.told),
        "orders_in_a_second": {"median": statistics.median(per_second), "most": max(per_second)},
        "looks_by_readers": len(load.looks),
        "state_changes_checked": run.steps,
        "faults": {
            "total": len(monkey.windows),
            "by_kind": _faults(run),
            "statements_refused_for_want_of_space": monkey.refused,
            "starts_of_postgresql_after_it_ended_by_itself": monkey.restarts,
            "percent_of_the_time_with_a_fault_that_could_explain_a_repeat": round(
                100 * disturbed_seconds(monkey.windows) / run.loaded_seconds
            ),
        },
        "repeats": {
            "after_an_answer_that_allows_one": count.retries,
            "of_what_may_have_been_done": dict(sorted(count.duplicates.items())),
        },
        "promises": {
            "lost": len(count.lost),
            "doubled": len(count.doubled),
            "unexplained_duplicates": len(count.unexplained),
            "changed_after_delivered": len(count.changed),
            "otherwise_broken": len(count.otherwise_broken),
        },
        "broken": count.broken[:MOST_NAMED],
    }


def _faults(run: FaultRun) -> dict[str, dict[str, float]]:
    windows = run.monkey.windows
    return {
        kind: {
            "times": times,
            "seconds": round(sum(window.ended_at - window.started_at for window in windows if window.kind == kind), 1),
        }
        for kind, times in sorted(run.monkey.done().items())
    }


def machine() -> dict[str, Any]:
    """What it ran on, without its name."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        "processors": os.cpu_count(),
        "memory_gib": round(memory_bytes / (1 << 30)),
        "load_average_at_the_end": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "postgresql": MAJOR_VERSION,
    }


def text(report: Mapping[str, Any]) -> str:
    """The report to read, in Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    on, seconds, deliveries, faults = report["machine"], report["seconds"], report["deliveries"], report["faults"]
    yield "# Faults: the recorded run"
    yield ""
    yield "Written by `make faults`; [the data](faults.json) are the same. [What is run and counted](README.md)."
    yield ""
    yield (
        f"{report['date']}, `{report['command']}`, on {on['system']} with {on['processors']} processors and "
        f"{on['memory_gib']} GiB (load average {on['load_average_at_the_end']}), CPython {on['python']}, "
        f"PostgreSQL {on['postgresql']}."
    )
    yield ""
    yield (
        f"{deliveries['total']:,} deliveries and {faults['total']} faults in {seconds['under_load']:,} s "
        f"({deliveries['per_second']} deliveries a second); all had ended {seconds['until_all_had_ended']} s later."
    )
    yield ""
    yield from _table(("Promise", "Broken"), [(words, report["promises"][name]) for name, words in PROMISES.items()])
    yield from _named(report["broken"])
    yield from _table(
        ("Fault", "Times", "Seconds in all"),
        [(kind, fault["times"], fault["seconds"]) for kind, fault in faults["by_kind"].items()],
    )
    yield (
        f"PostgreSQL refused a statement for want of space {faults['statements_refused_for_want_of_space']} times, and "
        f"was started again {faults['starts_of_postgresql_after_it_ended_by_itself']} times after it had ended by "
        f"itself. Orders came at {report['orders_in_a_second']['median']:g} a second (median), "
        f"{report['orders_in_a_second']['most']} at most."
    )
    yield ""
    why = report["setting"]["no_full_disk_because"]
    yield from [f"The disk was never full: {why}.", ""] if why else []
    yield from _table(
        ("What explains a repeat of what may have been done", "Times"),
        list(report["repeats"]["of_what_may_have_been_done"].items()),
    )
    yield (
        f"Besides, {report['repeats']['after_an_answer_that_allows_one']:,} requests were repeated after an answer "
        "that allows it. For "
        f"{faults['percent_of_the_time_with_a_fault_that_could_explain_a_repeat']} % of the time a fault went on that "
        "could explain a repeat."
    )
    yield ""
    yield from _table(
        ("Counted", "Number"),
        [
            *((f"deliveries with `{name}`", number) for name, number in deliveries["by_guarantee"].items()),
            *((f"deliveries that ended `{name}`", number) for name, number in deliveries["by_state"].items()),
            *((f"attempts with outcome `{name}`", number) for name, number in report["attempts_by_outcome"].items()),
            ("requests at the partner", report["requests_at_the_partner"]),
            *((f"answers {status} of the API", number) for status, number in report["answers_by_status"].items()),
            ("states read by others meanwhile", report["looks_by_readers"]),
            ("changes of a state or lease", report["state_changes_checked"]),
        ],
    )


def _named(broken: list[str]) -> Iterator[str]:
    if broken:
        yield from (f"- {what}" for what in broken)
        yield ""


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---" + "|---:" * (len(heads) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(f"{cell:,}" if isinstance(cell, int | float) else cell for cell in row) + " |"
    yield ""


def told(run: FaultRun, *, out: Path | None, say: Say) -> int:
    """Writes the report into the folder `out`, and says what was counted; the exit status."""
    report = data(run)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "faults.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (out / "faults.md").write_text(text(report), encoding="utf-8")
    for line in printed(report):
        say(line)
    if report["broken"]:
        say(f"promises are broken; SEED={run.plan.seed} gives the same orders and faults")
        return 1
    with contextlib.suppress(OSError):
        say(
            f"every promise held: {run.deliveries} deliveries, {run.steps} steps, {len(run.load.told)} answers, "
            f"{report['faults']['total']} faults"
        )
    return 0


def printed(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for a terminal: what was done, and what was broken, in aligned lines."""
    faults = report["faults"]["by_kind"]
    yield from _aligned("faults", {kind: fault["times"] for kind, fault in faults.items()})
    yield from _aligned("answers of the API, by status", report["answers_by_status"])
    yield from _aligned("attempts, by outcome", report["attempts_by_outcome"])
    repeats = report["repeats"]
    explained = {"an answer that allows it": repeats["after_an_answer_that_allows_one"]}
    yield from _aligned("requests sent again, by what explains it", explained | repeats["of_what_may_have_been_done"])
    yield from _aligned("promises broken", {PROMISES[name]: number for name, number in report["promises"].items()})
    yield from (f"broken: {what}" for what in report["broken"])


def _aligned(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield f"{title}:"
    width = max(map(len, counts), default=0)
    yield from (f"  {name.ljust(width)} {number:10,}" for name, number in counts.items())


def stopped(run: FaultRun) -> str:
    """What was done until somebody asked to stop."""
    done = run.monkey.done()
    kinds = f": {', '.join(f'{kind} {times}' for kind, times in sorted(done.items()))}" if done else ""
    return f"stopped after {len(run.load.accepted):,} deliveries and {done.total()} faults{kinds}"

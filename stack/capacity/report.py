"""Prints what a rate of deliveries needs, what gives out first, and the parameters and the bill: `make capacity`.

Alone it prints a line for each of several rates. With RATE it prints every resource with its limit, the first and the
next bottleneck, a simulation of the queue, the parameters to set and the bill. Nothing of it has been exercised against
AWS: the limits are those of AWS's pages (stack/capacity/limits.toml), the load is assumed (stack/cost/load.toml,
stack/capacity/assumptions.toml).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from rich.console import Console
from rich.table import Table

from stack import render
from stack.capacity.plan import (
    HIGHEST_RATE,
    Bottleneck,
    CapacityPlan,
    CapacityQuestion,
    Demand,
    Limit,
    assumptions,
    bottlenecks,
    declared,
    limits,
    looked_up,
    ramp_up,
    read_assumptions,
)
from stack.capacity.simulation import QueueLoad, QueueRun, simulate
from stack.cost.bill import BillLine, Overloaded, Unpriced, bill, load_prices, total
from stack.quotations import MarksLost, quotation, renew
from stack.switches import add_switch

RATES = (10, 100, 1_000, 2_000, 5_000, 10_000)
SEED = 1
SIMULATED_DELIVERIES = 30_000
LEAST_SECONDS, MOST_SECONDS = 12, 300  # of the simulated time; retries come after two
PAGE = "docs/capacity.md"
COMMAND = "make capacity"
# What the parameters of a design that has some of its own are for: its owner's, so that none is advised.
OWN = {name for needs in render.NEEDS.values() for name in needs} - {"DatabaseMinCapacity", "DatabaseMaxCapacity"}


class CapacityUsageError(ValueError):
    """A question that has no answer, in words for the person who asked it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeNumber:
    """What an option takes: a whole number of `unit` from `least` to `most`, such as `example`."""

    unit: str
    least: int
    most: int
    example: int

    def read(self, name: str, text: str) -> int:
        """Raises CapacityUsageError for anything else."""
        if text.isascii() and text.isdigit() and self.least <= int(text[:20]) <= self.most:
            return int(text)
        raise CapacityUsageError(
            f"{name} must be a whole number of {self.unit} from {self.least} to {self.most}, such as {self.example}; "
            f"got {text!r}"
        )


NUMBERS: Mapping[str, WholeNumber] = {
    "rate": WholeNumber(unit="deliveries a second", least=1, most=20_000, example=1000),
    "latency": WholeNumber(unit="milliseconds that a partner takes on the average", least=1, most=10_000, example=250),
    "size": WholeNumber(unit="bytes of a body", least=0, most=4 * 2**20, example=1024),
    "retries": WholeNumber(unit="retries for a hundred deliveries", least=0, most=1000, example=5),
    "looks": WholeNumber(unit="lookups for a hundred deliveries", least=0, most=10_000, example=100),
    "events": WholeNumber(unit="events for a hundred deliveries", least=0, most=1000, example=100),
    "destinations": WholeNumber(unit="destinations that share the load", least=1, most=10_000, example=10),
    "batch": WholeNumber(unit="attempts of a batch", least=1, most=10, example=10),
    "seed": WholeNumber(unit="the simulation's seed", least=0, most=2**32, example=SEED),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was asked for. Returns 2 after saying what was wrong with the question."""
    asked = parser().parse_args(arguments)
    try:
        if asked.write:
            _console().print(*renew(quoted(), render.ROOT), sep="\n")
        elif asked.rate:
            question = question_of(asked)
            _print_one(CapacityPlan(question), seed=NUMBERS["seed"].read("SEED", asked.seed or str(SEED)))
        else:
            _refuse_without_rate(asked)
            _print_all()
    except (CapacityUsageError, render.ParametersRefused, render.Dangling, Unpriced, MarksLost) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """What make capacity takes: each of its variables is an option here."""
    made = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    for name, number in NUMBERS.items():
        made.add_argument(f"--{name}", default="", help=number.unit)
    for name in ("topology", "egress", "set"):
        made.add_argument(f"--{name}", default="")
    add_switch(made, "--proxy", words="connect through RDS Proxy")
    add_switch(made, "--write", words=f"renew what {PAGE} quotes")
    return made


def question_of(asked: argparse.Namespace) -> CapacityQuestion:
    """The question of a command line. Raises CapacityUsageError, or ParametersRefused for what SET must not say."""
    given = {name: NUMBERS[name].read(name.upper(), text) for name in NUMBERS if (text := getattr(asked, name))}
    plain = CapacityQuestion(rate=given["rate"])
    question = replace(
        plain,
        latency_milliseconds=given.get("latency", plain.latency_milliseconds),
        size=given.get("size", plain.size),
        retries=given.get("retries", plain.retries),
        looks=given.get("looks", plain.looks),
        events=given.get("events", plain.events),
        destinations=given.get("destinations", plain.destinations),
        batch=given.get("batch", plain.batch),
        topology=_one_of("TOPOLOGY", asked.topology or plain.topology, render.TOPOLOGIES),
        egress=_one_of("EGRESS", asked.egress, ("", *render.EGRESSES)),
        proxy=asked.proxy,
        pinned=_pinned(asked.set),
    )
    if question.egress and not CapacityPlan(question).has_internet:
        raise CapacityUsageError(f"TOPOLOGY={question.topology} has no EGRESS: leave it out")
    for name, value in question.pinned:
        render.refuse(name, declared()[name], value)
    render.check(CapacityPlan(question).settings)
    return question


def _refuse_without_rate(asked: argparse.Namespace) -> None:
    given = [name for name in vars(asked) if name not in ("rate", "write") and getattr(asked, name)]
    if given:
        raise CapacityUsageError(f"{given[0].upper()} needs a rate: RATE=1000 is a thousand deliveries a second")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise CapacityUsageError(f"{name} must be one of {', '.join(filter(None, allowed))}; got {value!r}")
    return value


def _pinned(text: str) -> tuple[tuple[str, str], ...]:
    """Parameters as Name=value. Those that have a variable of their own are refused, and so is what does not exist."""
    pairs = [word.partition("=") for word in text.split()]
    for name, sign, _ in pairs:
        if not sign or name in ("Topology", "Egress", "Stage", "DatabaseProxy"):
            raise CapacityUsageError(
                f"SET takes parameters as Name=value, and Topology, Egress and DatabaseProxy as TOPOLOGY=, EGRESS= and "
                f"PROXY=; got {name!r}"
            )
        if name not in declared():
            raise CapacityUsageError(f"{name} is not a parameter of {render.APPLICATION}")
    return tuple((name, value) for name, _, value in pairs)


# ---- one question ------------------------------------------------------------------------------------------------


def _print_one(plan: CapacityPlan, *, seed: int) -> None:
    question, console = plan.question, _console()
    first = bottlenecks(question)
    console.print(
        f"{question.rate:,} deliveries a second of {question.size:,} bytes to {question.destinations:,} destinations "
        f"that answer in {question.latency_milliseconds:,} ms on the average; {question.retries} retries, "
        f"{question.looks} lookups and {question.events} events for a hundred. {plan.deliveries:,} deliveries a month."
    )
    console.print(_demands_table(plan, first))
    for line in verdict(question, first):
        console.print(line)
    console.print(_simulation_table(plan, queue_run(question, seed)))
    console.print(from_nothing(plan))
    console.print(f"\nParameters, as a stage's table in samconfig.toml has them:\n{parameters(plan)}")
    if question.batch != CapacityQuestion(rate=question.rate).batch:
        console.print(
            f"BATCH={question.batch} has no parameter: it is BatchSize of WakeupQueue's event in template.yaml."
        )
    console.print(f"\n{bill_in_words(plan)}")
    console.print(f"\nSources, read on {looked_up()} (*: in a copy without an address):")
    for number, page in enumerate(pages(plan), start=1):
        console.print(f"  [{number}] {page}", soft_wrap=True, markup=False)
    console.print(
        "\nNothing of this was exercised against AWS. Where each limit was read: stack/capacity/limits.toml. "
        "Assumptions: stack/capacity/assumptions.toml and stack/cost/load.toml."
    )


def _demands_table(plan: CapacityPlan, found: Sequence[Bottleneck]) -> Table:
    carries = {bottleneck.demand.key: bottleneck.carries for bottleneck in found}
    sources = pages(plan)
    table = Table()
    for name in ("Resource", "Needed", "Limit", "Share", "Carries", "Source", "Set, or raise"):
        table.add_column(name, justify="left" if name in ("Resource", "Set, or raise") else "right")
    for demand in plan.demands():
        table.add_row(
            demand.what,
            _number(demand.needed),
            f"{_number(demand.limit)} {demand.unit}".strip(),
            f"{demand.share:.0%}",
            _rate(carries[demand.key]),
            f"{sources.index(demand.source.page) + 1}{_mark(demand.source)}",
            raised_by(demand),
        )
    return table


def pages(plan: CapacityPlan) -> list[str]:
    """AWS's pages with the limits of a plan, each once."""
    return list(dict.fromkeys(demand.source.page for demand in plan.demands()))


def raised_by(demand: Demand) -> str:
    """What to set, and what to ask AWS for."""
    parameter = demand.parameter
    most = declared()[parameter].get("MaxValue") if parameter else None
    words = f"{parameter}, at most {most}" if most else parameter
    quota = f"quota: {demand.source.quota}" if demand.source.quota else ""
    return "; ".join(filter(None, (words, quota))) or "fixed"


def verdict(question: CapacityQuestion, found: Sequence[Bottleneck]) -> Iterator[str]:
    """Whether the rate is carried, the first bottleneck, and the next one."""
    short = [demand for demand in CapacityPlan(question).demands() if demand.share > 1]
    yield f"{question.rate:,} a second: " + ("carried." if not short else f"too much for {len(short)} of the limits.")
    ending = [bottleneck for bottleneck in found if bottleneck.carries is not None]
    for word, bottleneck in zip(("First", "Next", "Third"), ending, strict=False):
        demand = bottleneck.demand
        yield f"{word} bottleneck: {demand.what}, at {_rate(bottleneck.carries)} a second ({raised_by(demand)})."


def parameters(plan: CapacityPlan) -> str:
    """Lines of samconfig.toml. A design's own, such as the range of the corporate network, are not ours to advise."""
    return "\n".join(f'    "{name}={value}",' for name, value in plan.settings.items() if name not in OWN)


def from_nothing(plan: CapacityPlan) -> str:
    """What happens where the load begins at once."""
    ramp = ramp_up(plan)
    api = plan.concurrencies["ApiConcurrency"] / limits()["environments_per_second"].value
    spare = plan.workers - plan.service.fewest_workers(plan.attempts)
    words = f"Where it begins at once: ApiFunction is there after {api:,.0f} s"
    if not ramp.seconds:
        return f"{words}, and the first {limits()['mapping_first'].value:g} batches suffice."
    end = "they are worked off after that" if spare > 0 else "the backlog goes on growing"
    enough = f"the event source has enough batches after {ramp.seconds:,.0f} s"
    return f"{words}, {enough}; {ramp.waiting:,.0f} wake-ups wait by then, and {end}."


@cache
def queue_run(question: CapacityQuestion, seed: int) -> QueueRun:
    """A simulation of the queue with the workers of the plan."""
    plan = CapacityPlan(question)
    load = QueueLoad(
        rate=question.rate,
        retry_share=question.retries / (100 + question.retries),
        retry_seconds=assumptions()["retry_delay_seconds"],
    )
    seconds = max(LEAST_SECONDS, min(MOST_SECONDS, SIMULATED_DELIVERIES / question.rate))
    return simulate(load, plan.service, free_at=[0.0] * plan.workers, seconds=seconds, seed=seed)


def comparison(plan: CapacityPlan, run: QueueRun) -> Iterator[tuple[str, str, str]]:
    """What the queue does, on paper and in the simulation."""
    busy = min(plan.workers, plan.service.workers(plan.attempts, attempts=plan.attempts_per_batch))
    carried = plan.service.batch * plan.workers / plan.service.mean_seconds(plan.service.batch)
    fits = plan.attempts <= carried
    yield "attempts a second", _number(min(plan.attempts, carried)), _number(run.attempts_per_second)
    yield "attempts of a batch", f"{plan.attempts_per_batch:.1f}", f"{run.attempts_per_batch:.1f}"
    yield f"busy of {plan.workers:,} workers", _number(busy), _number(run.busy_workers)
    under_way = plan.service.mean_seconds(plan.attempts_per_batch) * min(plan.attempts, carried)
    yield "under way, and waiting for it", _number(under_way), _number(run.in_system)
    yield "the same, by Little's law from the simulated stays", "", _number(run.little)
    yield "age of a wake-up, 95th percentile", "", f"{run.age_p95 * 1000:,.0f} ms"
    yield (
        "backlog",
        "stable" if fits else "grows",
        "stable" if run.stable else f"grows by {_number(run.growth)} a second",
    )


def _simulation_table(plan: CapacityPlan, run: QueueRun) -> Table:
    table = Table("The queue of wake-ups", "On paper", "Simulated")
    for row in comparison(plan, run):
        table.add_row(*row)
    return table


def bill_in_words(plan: CapacityPlan) -> str:
    """The month's bill, and what of it are logs and Lambda's time. In words where the database cannot carry it."""
    try:
        lines = bill_of(plan)
    except Overloaded as error:
        return f"No bill: {error}."
    dollars, millions = total(lines), plan.deliveries / 1e6
    by_what = {line.price.what: line.dollars for line in lines}
    largest = sorted(by_what.items(), key=lambda entry: -entry[1])[:5]
    return (
        f"Bill: {dollars:,.0f} dollars a month, {dollars / millions:,.2f} for a million deliveries. Largest: "
        + ", ".join(f"{what} {amount:,.0f}" for what, amount in largest)
        + "."
    )


def bill_of(plan: CapacityPlan) -> list[BillLine]:
    """By stack/cost/bill.py, with the parameters and the load of the plan. Raises Overloaded."""
    resources = render.render(plan.settings).resources
    return bill(resources, deliveries=plan.deliveries, prices=load_prices(), load=plan.load)


# ---- several rates, and the page ---------------------------------------------------------------------------------


def rates() -> Iterator[tuple[str, ...]]:
    """A row for each of RATES: its parameters, what gives out, the age of wake-ups and the bill."""
    for rate in RATES:
        question = CapacityQuestion(rate=rate)
        plan, settings = CapacityPlan(question), CapacityPlan(question).settings
        lines = bill_of(plan)
        dollars = total(lines)
        yield (
            f"{rate:,}",
            settings["ApiConcurrency"],
            settings["AttemptConcurrency"],
            settings["DatabaseMaxCapacity"],
            settings["Egress"],
            f"{queue_run(question, SEED).age_p95 * 1000:,.0f} ms",
            f"{dollars:,.0f}",
            f"{dollars / plan.deliveries * 1e6:,.2f}",
            f"{logs_to_time(lines):.0%}",
            "; ".join(_short(demand) for demand in plan.demands() if demand.share > 1) or "nothing",
        )


RATES_HEAD = (
    "a second",
    "ApiConcurrency",
    "AttemptConcurrency",
    "DatabaseMaxCapacity",
    "Egress",
    "p95 of waiting",
    "$ a month",
    "$ a million",
    "logs to Lambda's time",
    "does not suffice",
)


def logs_to_time(lines: Sequence[BillLine]) -> float:
    """What logs cost, as a share of what Lambda's time costs."""
    by_what = {line.price.what: line.dollars for line in lines}
    prices = load_prices().prices
    return by_what[prices["log_gb"].what] / by_what[prices["lambda_arm64_gb_second"].what]


def _short(demand: Demand) -> str:
    return f"{demand.what.partition(',')[0]} ({demand.share:.0%} of {_number(demand.limit)})"


def _print_all() -> None:
    table = Table(*RATES_HEAD, title="Deliveries a second", title_justify="left")
    for row in rates():
        table.add_row(*row)
    console = _console()
    console.print(table)
    console.print("One rate with its bottlenecks: make capacity RATE=1000 LATENCY=250 TOPOLOGY=on-premises PROXY=yes")


def quoted() -> Iterator[tuple[str, str]]:
    """The page, and what stands in it between the marks of each name."""
    for name, text in (
        ("rates", _markdown(RATES_HEAD, rates())),
        ("bottlenecks", bottlenecks_table()),
        ("queue", queue_table()),
        ("limits", limits_table()),
        ("assumptions", assumptions_table()),
    ):
        yield PAGE, quotation(COMMAND, name, text)


def bottlenecks_table() -> str:
    """Every resource that gives out below HIGHEST_RATE: with a lookup for each delivery, and without."""
    with_looks = bottlenecks(CapacityQuestion(rate=1000))
    without = {found.demand.key: found.carries for found in bottlenecks(CapacityQuestion(rate=1000, looks=0))}
    rows = [
        (found.demand.what, _rate(found.carries), _rate(without[found.demand.key]), raised_by(found.demand))
        for found in with_looks
        if found.carries is not None
    ]
    head = ("resource", "deliveries a second", "the same without lookups", "set, or raise")
    return _markdown(head, rows)


def queue_table() -> str:
    """A rate with the workers of its plan, and with half of what it needs."""
    question = CapacityQuestion(rate=1000)
    few = replace(question, pinned=(("AttemptConcurrency", "40"),))
    enough = list(comparison(CapacityPlan(question), queue_run(question, SEED)))
    starved = list(comparison(CapacityPlan(few), queue_run(few, SEED)))
    workers = CapacityPlan(question).workers
    rows = [
        (what.replace(f" of {workers}", ""), *most, *least)
        for (what, *most), (_, *least) in zip(enough, starved, strict=True)
    ]
    head = (
        "1,000 deliveries a second",
        f"{workers} workers, on paper",
        "simulated",
        "40 workers, on paper",
        "simulated",
    )
    return _markdown(head, rows)


def limits_table() -> str:
    """limits.toml."""
    rows = [
        (
            f"{limit.what}{_mark(limit)}",
            f"{_number(limit.value)} {limit.unit}",
            limit.quota or "",
            f"[AWS]({limit.page})",
        )
        for limit in limits().values()
    ]
    return f"{_markdown(('limit', 'is', 'raised by', 'page'), rows)}\n\nRead on {looked_up()}."


def assumptions_table() -> str:
    """assumptions.toml."""
    rows = [(f"`{name}`", f"{entry['value']:g}", entry["why"]) for name, entry in read_assumptions().items()]
    return _markdown(("`stack/capacity/assumptions.toml`", "is", "because"), rows)


def _markdown(head: Sequence[str], rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mark(limit: Limit) -> str:
    return "" if limit.read else " *"


def _rate(carries: float | None) -> str:
    """Two digits are all that the assumptions allow."""
    return f"over {HIGHEST_RATE:,}" if carries is None else f"{float(f'{carries:.2g}'):,.0f}"


def _number(value: float) -> str:
    """Three digits of what is small, and no fractions of what is not."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _console() -> Console:
    """As wide as the terminal; in a pipe wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)

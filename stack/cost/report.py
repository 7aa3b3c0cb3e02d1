"""Prints what the stack costs in a month: `make cost`.

Alone it prints a table by topology, egress mode, stage and load. With one of TOPOLOGY, EGRESS, STAGE, DELIVERIES or SET
it prints the lines of one bill. The resources are those of the rendered templates (stack/render.py) with the stage's
parameters from samconfig.toml; how they are priced is in stack/cost/bill.py.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stack import render
from stack.capabilities import capabilities
from stack.cost.bill import (
    BYTES_PER_GB,
    BillLine,
    Month,
    Overloaded,
    Prices,
    RenderedResource,
    Unpriced,
    bill,
    load_load,
    load_prices,
    read_load,
    total,
)
from stack.quotations import MarksLost, quotation, renew
from stack.switches import add_switch

LOADS = {"idle": 0, "1 M": 1_000_000, "100 M": 100_000_000}
SHOWN_STAGES = ("dev", "prod")
PLACES = ("Topology", "Egress", "Stage")  # chosen by the caller, whatever samconfig.toml has


class CostUsageError(ValueError):
    """A choice that cannot be priced, in words for the person who made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One line of the table. `dollars`: a bill for each of SHOWN_STAGES and LOADS, None where the stage is refused."""

    topology: str
    egress: str
    dollars: tuple[float | None, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was asked for. Returns 2 after saying what was wrong with the question."""
    asked = parser().parse_args(arguments)
    prices = load_prices()
    try:
        if asked.write:
            _console().print(*write_quoted(prices), sep="\n")
        elif asked.topology or asked.egress or asked.stage or asked.deliveries or asked.set or asked.free:
            _print_one(asked, prices)
        else:
            _print_all(prices)
    except (CostUsageError, render.ParametersRefused, render.Dangling, Unpriced, Overloaded, MarksLost) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """What make cost takes: each of its variables is an option here."""
    parser = argparse.ArgumentParser(prog="make cost", description=__doc__)
    for name in ("topology", "egress", "stage", "deliveries"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--set", default="", help="more parameters of the stack: 'WebAcl=yes Bastion=yes'")
    add_switch(parser, "--free", words="list what costs nothing, and why")
    add_switch(parser, "--write", words="renew what docs/costs.md quotes")
    return parser


# ---- all of them -----------------------------------------------------------------------------------------------------


def rows(prices: Prices) -> Iterator[CostRow]:
    """A row for each topology and egress mode that the Rules allow together."""
    for topology in render.TOPOLOGIES:
        for egress in render.EGRESSES:
            dollars = tuple(
                amount for stage in SHOWN_STAGES for amount in _by_load(topology, egress, stage, prices=prices)
            )
            if any(amount is not None for amount in dollars):
                yield CostRow(topology=topology, egress=egress, dollars=dollars)


def _by_load(topology: str, egress: str, stage: str, *, prices: Prices) -> list[float | None]:
    load = load_load()
    try:
        resources = _resources(topology, egress, stage)
    except render.ParametersRefused:
        return [None for _ in LOADS]
    return [total(bill(resources, deliveries=count, prices=prices, load=load)) for count in LOADS.values()]


def markdown(prices: Prices) -> str:
    """The table as docs/costs.md quotes it, and the sentence below it."""
    columns = [f"{stage}, {load}" for stage in SHOWN_STAGES for load in LOADS]
    head = f"| `Topology` | `Egress` | {' | '.join(columns)} |"
    rule = f"| --- | --- |{' ---: |' * len(columns)}"
    body = [
        f"| {row.topology} | {_egress(row.topology, row.egress)} | {' | '.join(map(_dollars, row.dollars))} |"
        for row in rows(prices)
    ]
    return "\n".join([head, rule, *body, "", _note(prices)])


def quoted(prices: Prices) -> Iterator[tuple[str, str]]:
    """The pages that quote this command, and what stands in each between the marks of its name, marks included."""
    for page, name, text in (
        ("docs/costs.md", "table", markdown(prices)),
        ("docs/costs.md", "stages", stages(prices)),
        ("docs/costs.md", "logs", logs(prices)),
        ("docs/costs.md", "load", assumptions()),
        ("docs/costs.md", "unsourced", unsourced(prices)),
    ):
        yield page, quotation("make cost", name, text)


def write_quoted(prices: Prices, folder: Path = render.ROOT) -> list[str]:
    """Renews what the pages quote, and names them. Raises MarksLost for a page that has lost its marks."""
    return renew(quoted(prices), folder)


def stages(prices: Prices) -> str:
    """What differs between the first design's bills for a million deliveries, as the table in docs/costs.md."""
    by_stage = [_by_what(stage, prices) for stage in SHOWN_STAGES]
    names = list(dict.fromkeys(name for lines in by_stage for name in lines))
    lines = [
        f"| {name} | {' | '.join(f'{dollars.get(name, 0):.2f}' for dollars in by_stage)} |"
        for name in names
        if len({round(dollars.get(name, 0), 2) for dollars in by_stage}) > 1
    ]
    sums = f"| all lines together | {' | '.join(f'{sum(dollars.values()):.2f}' for dollars in by_stage)} |"
    head = f"| public-private, single, 1 M | {' | '.join(SHOWN_STAGES)} |"
    return "\n".join([head, f"| --- |{' ---: |' * len(SHOWN_STAGES)}", *lines, sums])


def _by_what(stage: str, prices: Prices) -> dict[str, float]:
    resources = _resources(render.TOPOLOGIES[0], render.EGRESSES[0], stage)
    lines = bill(resources, deliveries=LOADS["1 M"], prices=prices, load=load_load())
    return {line.price.what: line.dollars for line in lines}


def logs(prices: Prices) -> str:
    """What a million deliveries write to the first design's logs, by writer, and Lambda's time beside it."""
    resources = _resources(render.TOPOLOGIES[0], render.EGRESSES[0], SHOWN_STAGES[0])
    month = Month(resources=resources, deliveries=LOADS["1 M"], hours=prices.hours_per_month, load=load_load())
    gigabytes = {what: month.log_bytes(what) / BYTES_PER_GB for what in ("invocation", "post", "attempt", "batch")}
    written = {
        "API Gateway's access log": month.gb(month.requests, "access_log_kib"),
        "Lambda's START, END and REPORT": gigabytes["invocation"],
        "a line and counts for each POST": gigabytes["post"],
        "a line for each attempt, counts for each batch": gigabytes["attempt"] + gigabytes["batch"],
    }
    dollars = {what: amount * prices.prices["log_gb"].dollars for what, amount in written.items()}
    lines = [f"| {what} | {amount:.2f} | {dollars[what]:.2f} |" for what, amount in written.items()]
    sums = f"| logs together | {sum(written.values()):.2f} | {sum(dollars.values()):.2f} |"
    time = _by_what(SHOWN_STAGES[0], prices)[prices.prices["lambda_arm64_gb_second"].what]
    head = ["| a million deliveries | GB | dollars |", "| --- | ---: | ---: |"]
    return "\n".join([*head, *lines, sums, f"| Lambda's time | | {time:.2f} |"])


def assumptions() -> str:
    """load.toml as the table that docs/costs.md quotes."""
    lines = [f"| `{name}` | {entry['value']:g} | {entry['why']} |" for name, entry in read_load().items()]
    return "\n".join(["| `stack/cost/load.toml` | is | because |", "| --- | ---: | --- |", *lines])


def unsourced(prices: Prices) -> str:
    """The prices that are marked, as the list that docs/costs.md quotes."""
    marked = [price for price in prices.prices.values() if price.read is None]
    return "\n".join(f"- {price.what}: ${price.dollars:g} per {price.unit}, [AWS]({price.page})" for price in marked)


def _egress(topology: str, egress: str) -> str:
    return egress if capabilities({"Topology": topology}).has_internet else "none"


def _dollars(amount: float | None) -> str:
    return "" if amount is None else f"{amount:,.0f}"


def _note(prices: Prices) -> str:
    return (
        f"Dollars a month in {prices.region} at the list prices of {prices.looked_up}, by stage and by deliveries a "
        "month, without free tiers."
    )


def _print_all(prices: Prices) -> None:
    table = Table(title="Dollars a month", title_justify="left", caption_justify="left")
    table.add_column("Topology")
    table.add_column("Egress")
    for stage in SHOWN_STAGES:
        for load in LOADS:
            table.add_column(f"{stage}\n{load}", justify="right")
    for row in rows(prices):
        table.add_row(
            row.topology,
            _egress(row.topology, row.egress),
            *map(_dollars, row.dollars),
            end_section=row.egress == "regional",
        )
    console = _console()
    console.print(table)
    console.print(f"{_note(prices)} M: million deliveries.")
    console.print("One bill with its lines: make cost TOPOLOGY=on-premises EGRESS=per-az STAGE=prod DELIVERIES=1000000")
    _print_words(console, prices)


# ---- one of them -----------------------------------------------------------------------------------------------------


def _print_one(asked: argparse.Namespace, prices: Prices) -> None:
    topology = _one_of("TOPOLOGY", asked.topology or "public-private", render.TOPOLOGIES)
    egress = _one_of("EGRESS", asked.egress or "single", render.EGRESSES)
    stage = _one_of("STAGE", asked.stage or "dev", render.STAGES)
    deliveries = _deliveries(asked.deliveries or "0")
    resources = _resources(topology, egress, stage, _settings(asked.set))
    lines = bill(resources, deliveries=deliveries, prices=prices, load=load_load())
    console = _console()
    console.print(
        _lines_table(lines, f"{topology}, {_egress(topology, egress)}, {stage}: {deliveries:,} deliveries a month")
    )
    console.print(
        f"List prices of {prices.looked_up}, {prices.region}. *: no source was found for this price that day."
    )
    _print_free(console, resources, prices, full=asked.free)
    _print_words(console, prices)


def _lines_table(lines: list[BillLine], title: str) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("What", "Together")
    table.add_column("Resources", justify="right")
    table.add_column("How much", justify="right")
    table.add_column("Price", justify="right")
    table.add_column("Dollars", f"{total(lines):,.2f}", justify="right")
    for line in lines:
        price = f"{line.price.dollars:.10f}".rstrip("0").rstrip(".") + f" / {line.price.unit}"
        mark = "" if line.price.read else " *"
        table.add_row(
            line.price.what + mark, str(line.resources), f"{line.quantity:,.2f}", price, f"{line.dollars:,.2f}"
        )
    return table


def _print_free(console: Console, resources: Mapping[str, RenderedResource], prices: Prices, *, full: bool) -> None:
    kinds = sorted(resource["Type"] for resource in resources.values() if resource["Type"] in prices.free)
    if not full:
        console.print(f"{len(kinds)} resources cost nothing; FREE=yes lists them with the reasons.")
        return
    table = Table("Costs nothing", "How many", "Because")
    for kind in dict.fromkeys(kinds):
        table.add_row(kind, str(kinds.count(kind)), prices.free[kind])
    console.print(table)


def _print_words(console: Console, prices: Prices) -> None:
    console.print(f"Left out: {'; '.join(prices.left_out.values())}.")
    console.print("Prices and their sources: stack/cost/prices.toml. Assumptions about a month: stack/cost/load.toml.")


def _console() -> Console:
    """As wide as the terminal; in a pipe wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise CostUsageError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    return value


def _deliveries(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise CostUsageError(f"DELIVERIES must be a whole number of deliveries a month, such as 1000000; got {text!r}")
    return int(text)


def _settings(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in text.split()]
    wrong = [name for name, sign, _ in pairs if not sign or name in PLACES]
    if wrong:
        raise CostUsageError(
            f"SET takes parameters as Name=value, and {', '.join(PLACES)} by their own names; got {wrong[0]!r}"
        )
    return {name: value for name, _, value in pairs}


# ---- the stack -------------------------------------------------------------------------------------------------------


def _resources(
    topology: str, egress: str, stage: str, settings: Mapping[str, str] | None = None
) -> Mapping[str, RenderedResource]:
    """The rendered resources. Raises render.ParametersRefused for what the Rules do not allow."""
    return _rendered(topology, egress, stage, tuple(sorted((settings or {}).items())))


@cache
def _rendered(
    topology: str, egress: str, stage: str, settings: tuple[tuple[str, str], ...]
) -> Mapping[str, RenderedResource]:
    needs = render.NEEDS.get(topology, {})
    chosen = {"Topology": topology, "Egress": egress, "Stage": stage}
    return render.render({**deployed(stage), **needs, **dict(settings), **chosen}).resources


def deployed(stage: str) -> dict[str, str]:
    """The parameters that samconfig.toml has for a stage."""
    text = (render.ROOT / "samconfig.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text).get(stage, {})
    pairs = table.get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    return dict(pair.split("=", 1) for pair in pairs)

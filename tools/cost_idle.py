"""Prints what a stack costs per month while nobody uses it: `make cost-idle`.

Counts what is billed by the hour or the month in the templates, takes the least capacity of the database of each stage
from samconfig.toml, and the prices from prices.toml. What is billed by use is not in the table.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STORED_GIB = 1  # of an idle database; every GiB more costs as much again
ALWAYS_ON = {
    "NAT gateway": ("AWS::EC2::NatGateway", "nat_gateway_hour"),
    "Fixed address (public IPv4)": ("AWS::EC2::EIP", "public_ipv4_hour"),
    "Seal key (secret)": ("AWS::SecretsManager::Secret", "secret_month"),
    "Alarms": ("AWS::CloudWatch::Alarm", "alarm_month"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table. `dollars` has one amount per stage."""

    what: str
    count: str
    dollars: tuple[float, ...]


def main() -> None:
    """Prints the table as Markdown."""
    prices = tomllib.loads((ROOT / "tools" / "prices.toml").read_text(encoding="utf-8"))
    sys.stdout.write(f"{table(prices, least_capacities(), templates())}\n")


def table(prices: Mapping[str, Any], capacities: Mapping[str, float], source: str) -> str:
    """The bill by stage; `capacities` are Aurora capacity units, `source` is the text of all templates."""
    listed = lines(prices, capacities, source)
    sums = tuple(sum(column) for column in zip(*(line.dollars for line in listed), strict=True))
    shown = [*listed, Line(what="**Together**", count="", dollars=sums)]
    head = f"| Idle, {prices['region']}, dollars a month | how many | {' | '.join(capacities)} |"
    rule = f"| --- | --- |{' ---: |' * len(capacities)}"
    note = f"List prices of {prices['looked_up']}, free tiers not counted; the database stores {STORED_GIB} GiB."
    return "\n".join([head, rule, *map(_row, shown), "", note])


def lines(prices: Mapping[str, Any], capacities: Mapping[str, float], source: str) -> list[Line]:
    """What is billed whether it is used or not."""
    hour = _monthly("aurora_capacity_unit_hour", prices)
    storage = _monthly("aurora_storage_gib_month", prices) * STORED_GIB
    units = " or ".join(f"{units:g}" for units in dict.fromkeys(capacities.values()))
    compute = tuple(hour * least for least in capacities.values())
    return [
        *_always_on(prices, source, stages=len(capacities)),
        Line(what="Database, least capacity", count=f"{units} ACU", dollars=compute),
        Line(what="Database, storage", count=f"{STORED_GIB} GiB", dollars=(storage,) * len(capacities)),
    ]


def least_capacities() -> dict[str, float]:
    """DatabaseMinCapacity of each stage in samconfig.toml."""
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    overrides = {
        stage: content["deploy"]["parameters"]["parameter_overrides"]
        for stage, content in stages.items()
        if isinstance(content, dict) and "deploy" in content
    }
    return {stage: _capacity(listed) for stage, listed in overrides.items()}


def templates() -> str:
    """The text of all templates."""
    paths = [ROOT / "template.yaml", *sorted((ROOT / "infra").glob("*.yaml"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def _always_on(prices: Mapping[str, Any], source: str, *, stages: int) -> Iterator[Line]:
    for what, (kind, price) in ALWAYS_ON.items():
        count = len(re.findall(rf"^ +Type: {kind}$", source, re.MULTILINE))
        yield Line(what=what, count=str(count), dollars=(count * _monthly(price, prices),) * stages)


def _monthly(name: str, prices: Mapping[str, Any]) -> float:
    price = float(prices[name]["price"])
    return price * int(prices["hours_per_month"]) if name.endswith("_hour") else price


def _capacity(overrides: list[str]) -> float:
    values = dict(item.split("=", 1) for item in overrides)
    return float(values["DatabaseMinCapacity"])


def _row(line: Line) -> str:
    return f"| {line.what} | {line.count} | {' | '.join(f'{amount:.2f}' for amount in line.dollars)} |"


if __name__ == "__main__":
    main()

"""What a run found, for people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from lab.model.limits import LIMITS

GROUPS: Mapping[int, str] = {
    1: "The database",
    2: "The fixed address",
    3: "The loss of a zone",
    4: "No way out",
    5: "The corporate network",
    6: "With and without state",
}
_INSIDE = IPv4Network("10.0.0.0/8")  # who is seen as itself needs no words


@dataclass(frozen=True, slots=True)
class ReportPrinter:
    """Prints reports, as they were saved."""

    console: Console

    def case(self, data: Mapping[str, Any], *, files: str) -> None:
        """One case: every proof with its evidence."""
        mark = _mark(data["holds"])
        count = f"{data['attempts']} connections tried in {data['seconds']:.0f} s"
        self.console.rule(f"[bold]{escape(data['case'])}[/]", align="left", style="dim")
        self._line(0, f"{mark} {_told(data)}. {count}. All of it: {escape(files)}")
        group = None
        for proof in data["proofs"]:
            if proof["group"] != group:
                group = proof["group"]
                self.console.print()
                self._line(0, f"[bold]{group}. {GROUPS[group]}[/]")
            self._proof(proof)
        if data["programs"]:
            self.console.print()
            self._line(0, f"[bold]The real programs in it[/], functions from {escape(data['code'])}")
            for check in data["programs"]:
                self._check(check)
        for line in data["disagreements with the oracle"]:
            self._line(2, f"{_mark(False)} the oracle disagrees: {escape(line)}")
        self.console.print()

    def failures(self, data: Mapping[str, Any]) -> None:
        """What of one case does not hold, and no more."""
        if data["holds"]:
            return
        self._line(0, f"{_mark(False)} [bold]{escape(data['case'])}[/]: {_told(data)}")
        for proof in data["proofs"]:
            if proof["holds"] is False:
                self._line(2, f"{_mark(False)} {escape(proof['title'])}")
                self._broken(proof)
        for check in data["programs"]:
            if not check["holds"]:
                self._check(check)
        for line in data["disagreements with the oracle"]:
            self._line(2, f"{_mark(False)} the oracle disagrees: {escape(line)}")
        self.console.print()

    def _broken(self, one: Mapping[str, Any]) -> None:
        for found in one["sentences"]:
            if not found["holds"]:
                self._sentence(found)
        for control in one["controls"] or ():
            if not control["made the proof fail"]:
                self._control(control)

    def _proof(self, one: Mapping[str, Any]) -> None:
        if one["skipped"]:
            self._line(2, f"[dim]- {escape(one['title'])} Not here: {escape(one['skipped'])}.[/]")
            return
        self._line(2, f"{_mark(one['holds'])} {escape(one['title'])}")
        given = ""
        for found in one["sentences"]:
            if found["given"] != given:
                given = found["given"]
                self._line(6, f"[italic]suppose {escape(given)}[/]")
            self._sentence(found)
        for control in one["controls"] or ():
            self._control(control)

    def _sentence(self, found: Mapping[str, Any]) -> None:
        self._line(6, f"{_mark(found['holds'])} {escape(found['sentence'])}")
        for words, count in _ways(found["connections"]):
            self._line(10, f"[dim]{count:>4} {escape(words)}[/]", hanging=5)
        for line in found["connections"]:
            if not line["as claimed"]:
                self._line(10, f"[red]not as claimed: {escape(_words(line))}[/]")
        for source, to in found["strangers in the ledger"]:
            self._line(10, f"[red]in the gateway's ledger: {source} to {to}[/]")
        if not found["connections"]:
            self._line(10, "[red]it is about nobody, so it proves nothing[/]")

    def _control(self, one: Mapping[str, Any]) -> None:
        if one["made the proof fail"]:
            example = f": {_words(one['example'])}" if one["example"] else ""
            self._line(6, f"[dim]control: when {escape(one['change'])}, it fails as it must{escape(example)}[/]")
        else:
            self._line(6, f"[red]✘ control: when {escape(one['change'])}, it must fail and does not[/]")

    def _check(self, one: Mapping[str, Any]) -> None:
        self._line(2, f"{_mark(one['holds'])} {escape(one['sentence'])}")
        for line in one["evidence"]:
            self._line(6, f"[dim]{escape(line)}[/]")

    def limits(self) -> None:
        """What none of this shows."""
        self.console.rule("[bold]What the lab does not model[/]", align="left", style="dim")
        for limit in LIMITS:
            self._line(0, f"- {escape(limit)}")
        self.console.print()

    def _line(self, indent: int, words: str, *, hanging: int = 2) -> None:
        """A paragraph whose lines after the first stand further in."""
        text = Text.from_markup(words)
        first, *rest = text.wrap(self.console, self.console.width - indent - hanging)
        self.console.print(Padding(first, (0, 0, 0, indent)))
        for line in rest:
            self.console.print(Padding(line, (0, 0, 0, indent + hanging)))


def _mark(holds: bool) -> str:
    return "[green]✔[/]" if holds else "[red]✘[/]"


def _told(data: Mapping[str, Any]) -> str:
    applied = [proof for proof in data["proofs"] if not proof["skipped"]]
    held = sum(bool(one["holds"]) for one in applied)
    return f"{held} of {len(applied)} proofs hold"


def _ways(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """What became of the connections of a sentence, the same ones counted together."""
    counted: Counter[str] = Counter()
    for line in lines:
        counted[_way(line)] += 1
    yield from counted.most_common()


def _way(line: Mapping[str, Any]) -> str:
    if line["became"] == "arrived":
        seen = "" if line["seen as"] is None or ip_address(line["seen as"]) in _INSIDE else f" as {line['seen as']}"
        return f"arrived{seen}" + (f", let by {', '.join(line['let by'])}" if line["let by"] else "")
    if line["became"] == "unexplained":
        return f"unexplained: {line['because']}"
    return f"{line['became']} at the {line['at']}: {line['by']}, {line['because']}"


def _words(line: Mapping[str, Any]) -> str:
    seen = f", seen as {line['seen as']}" if line.get("seen as") else ""
    if line["became"] == "arrived":
        return f"{line['from']} arrived at {line['to']}{seen}"
    return f"{line['from']} to {line['to']}: {_way(line)}"

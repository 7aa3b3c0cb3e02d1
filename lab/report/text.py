"""The report of a run as text, for people."""

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
_INSIDE = IPv4Network("10.0.0.0/8")  # an address that is not translated is not printed


@dataclass(frozen=True, slots=True)
class ReportPrinter:
    """Prints reports, as they were saved."""

    console: Console

    def case(self, data: Mapping[str, Any], *, files: str) -> None:
        """One case: every proof with its evidence."""
        mark = _mark(data["holds"])
        count = f"{data['attempts']} connections tried in {data['seconds']:.0f} s"
        self.console.rule(f"[bold]{escape(data['case'])}[/]", align="left", style="dim")
        self._line(0, f"{mark} {_summary(data)}. {count}. Full report: {escape(files)}")
        self._line(2, f"[dim]{escape(_told_apart(data['classes']))}[/]")
        group = None
        for proof in data["proofs"]:
            if proof["group"] != group:
                group = proof["group"]
                self.console.print()
                self._line(0, f"[bold]{group}. {GROUPS[group]}[/]")
            self._proof(proof)
        self._ways(data)
        if data["programs"]:
            self.console.print()
            self._line(0, f"[bold]The real programs[/], functions from {escape(data['code'])}")
            for check in data["programs"]:
                self._check(check)
        self._disagreements(data)
        self.differences(data)
        self._assumed(data)

    def differences(self, data: Mapping[str, Any]) -> None:
        """Of a deployed network from that of the templates; nothing where none was compared."""
        found = data["differences from the templates"]
        if found is None:
            return
        many = f"{len(found)} differences" if len(found) != 1 else "1 difference"
        self._line(0, f"[bold]Compared with the templates[/] for the same parameters: {many if found else 'the same'}")
        for difference in found:
            self._line(2, f"- {escape(difference)}")
        self.console.print()

    def _ways(self, data: Mapping[str, Any]) -> None:
        if data["ways past the network"]:
            self.console.print()
            self._line(0, "[bold]Ways to the database past the network[/]")
        for way in data["ways past the network"]:
            self._way(way)

    def _disagreements(self, data: Mapping[str, Any]) -> None:
        for disagreement in data["disagreements with the oracle"]:
            self._line(2, f"{_mark(False)} the oracle disagrees: {escape(disagreement)}")
        self.console.print()

    def _assumed(self, data: Mapping[str, Any]) -> None:
        self._line(0, "[bold]Assumed[/], which no page of AWS states or nobody tried")
        for text in data["assumed"]:
            self._line(2, f"- {escape(text)}")
        self.console.print()

    def failures(self, data: Mapping[str, Any]) -> None:
        """What of one case does not hold, and no more."""
        if data["holds"]:
            return
        self._line(0, f"{_mark(False)} [bold]{escape(data['case'])}[/]: {_summary(data)}")
        for proof in data["proofs"]:
            if proof["holds"] is False:
                self._line(2, f"{_mark(False)} {escape(proof['title'])}")
                self._broken(proof)
        for way in data["ways past the network"]:
            if way["holds"] is False:
                self._way(way)
        for check in data["programs"]:
            if not check["holds"]:
                self._check(check)
        self._disagreements(data)

    def _broken(self, proof: Mapping[str, Any]) -> None:
        for sentence in proof["sentences"]:
            if not sentence["holds"]:
                self._sentence(sentence)
        for control in proof["controls"] or ():
            if not control["made the proof fail"]:
                self._control(control)

    def _proof(self, proof: Mapping[str, Any]) -> None:
        if proof["skipped"]:
            self._line(2, f"[dim]- {escape(proof['title'])} Not applicable: {escape(proof['skipped'])}.[/]")
            return
        self._line(2, f"{_mark(proof['holds'])} {escape(proof['title'])}")
        assumption = ""
        for sentence in proof["sentences"]:
            if sentence["given"] != assumption:
                assumption = sentence["given"]
                self._line(6, f"[italic]assuming that {escape(assumption)}[/]")
            self._sentence(sentence)
        for control in proof["controls"] or ():
            self._control(control)

    def _sentence(self, sentence: Mapping[str, Any]) -> None:
        self._line(6, f"{_mark(sentence['holds'])} {escape(sentence['sentence'])}")
        for outcome, count in _outcomes(sentence["connections"]):
            self._line(10, f"[dim]{count:>4} {escape(outcome)}[/]", hanging=5)
        for connection in sentence["connections"]:
            if not connection["as claimed"]:
                self._line(10, f"[red]not as claimed: {escape(_described(connection))}[/]")
        for source, to in sentence["strangers in the ledger"]:
            self._line(10, f"[red]in the gateway's ledger: {source} to {to}[/]")
        if not sentence["connections"]:
            self._line(10, "[red]no connection was tried, so it proves nothing[/]")

    def _control(self, control: Mapping[str, Any]) -> None:
        if control["made the proof fail"]:
            example = f": {_described(control['example'])}" if control["example"] else ""
            self._line(
                6, f"[dim]control: when {escape(control['change'])}, the proof fails, as it must{escape(example)}[/]"
            )
        else:
            self._line(6, f"[red]✘ control: when {escape(control['change'])}, the proof must fail and does not[/]")

    def _way(self, way: Mapping[str, Any]) -> None:
        if way["skipped"]:
            self._line(2, f"[dim]- {escape(way['title'])} Not looked at: {escape(way['skipped'])}.[/]")
            return
        self._line(2, f"{_mark(way['holds'])} {escape(way['title'])}")
        for found in way["found"]:
            self._line(6, f"[red]{escape(found['resource'])}: {escape(found['because'])}[/]")
        if way["control"]:
            self._control({**way["control"], "example": None})

    def _check(self, check: Mapping[str, Any]) -> None:
        self._line(2, f"{_mark(check['holds'])} {escape(check['sentence'])}")
        for line in check["evidence"]:
            self._line(6, f"[dim]{escape(line)}[/]")

    def limits(self) -> None:
        """What none of this shows."""
        self.console.rule("[bold]What the lab does not model[/]", align="left", style="dim")
        for limit in LIMITS:
            self._line(0, f"- {escape(limit)}")
        self.console.print()

    def _line(self, indent: int, markup: str, *, hanging: int = 2) -> None:
        """A paragraph whose lines after the first stand further in."""
        text = Text.from_markup(markup)
        first, *rest = text.wrap(self.console, self.console.width - indent - hanging)
        self.console.print(Padding(first, (0, 0, 0, indent)))
        for line in rest:
            self.console.print(Padding(line, (0, 0, 0, indent + hanging)))


def _mark(holds: bool) -> str:
    return "[green]✔[/]" if holds else "[red]✘[/]"


def _told_apart(classes: Mapping[str, Any]) -> str:
    tried = [found for found in classes["addresses"] if found["tried"]]
    left_out = [f"{found['within']} ({found['left out']})" for found in classes["addresses"] if not found["tried"]]
    return (
        f"The network tells {len(tried)} classes of addresses apart that no host stands for, "
        f"{len(classes['ports'])} of ports and protocols, and {len(classes['hosts'])} kinds of hosts; packets go to "
        f"and from one member of each. Left out: {', '.join(left_out)}."
    )


def _summary(data: Mapping[str, Any]) -> str:
    applied = [proof for proof in data["proofs"] if not proof["skipped"]]
    applied += [way for way in data["ways past the network"] if not way["skipped"]]
    held = sum(bool(proof["holds"]) for proof in applied)
    return f"{held} of {len(applied)} proofs hold"


def _outcomes(connections: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """What became of the connections of a sentence, the same ones counted together."""
    counted: Counter[str] = Counter()
    for connection in connections:
        counted[_outcome(connection)] += 1
    yield from counted.most_common()


def _outcome(connection: Mapping[str, Any]) -> str:
    if connection["became"] == "arrived":
        seen = (
            ""
            if connection["seen as"] is None or ip_address(connection["seen as"]) in _INSIDE
            else f" as {connection['seen as']}"
        )
        return f"arrived{seen}" + (f", allowed by {', '.join(connection['let by'])}" if connection["let by"] else "")
    if connection["became"] == "unexplained":
        return f"unexplained: {connection['because']}"
    return f"{connection['became']} at the {connection['at']}: {connection['by']}, {connection['because']}"


def _described(connection: Mapping[str, Any]) -> str:
    seen = f", seen as {connection['seen as']}" if connection.get("seen as") else ""
    if connection["became"] == "arrived":
        return f"{connection['from']} arrived at {connection['to']}{seen}"
    return f"{connection['from']} to {connection['to']}: {_outcome(connection)}"

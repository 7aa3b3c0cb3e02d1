"""What a run found, for people (text), for programs (JSON) and as a picture (the map with what was tried drawn in)."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from lab.attempts import Arrived, Died, Verdict
from lab.case import Case
from lab.flows import shown
from lab.limits import LIMITS
from lab.parts import Cause
from lab.proving import Controlled, Evidence, Found, Line, Proven
from lab.stages import PAGES
from stack.diagram.picture import draw
from stack.network.serialize import renamed

GROUPS: Mapping[int, str] = {
    1: "The database",
    2: "The fixed address",
    3: "The loss of a zone",
    4: "No way out",
    5: "The corporate network",
    6: "With and without state",
}
_INSIDE = IPv4Network("10.0.0.0/8")  # who is seen as itself needs no words


# ---- As data


def as_data(
    evidence: Evidence, *, seconds: float, deeds: Iterable[Mapping[str, Any]] = (), code: str | None = None
) -> dict[str, Any]:
    """All that was found, down to single connections, in types that JSON has.

    `code` is what the functions ran; None where no programs were run.
    """
    case = evidence.case
    done = list(deeds)
    return {
        "case": case.name,
        "parameters": dict(case.parameters),
        "published": [
            {"zone": one.zone, "address": str(one.public_address), "allocation": one.allocation}
            for one in case.network.published
        ],
        "holds": evidence.holds and all(one["holds"] for one in done),
        "attempts": evidence.tried,
        "seconds": round(seconds, 1),
        "proofs": [_proven(one, case) for one in evidence.proven],
        "code": code,
        "programs": done,
        "disagreements with the oracle": list(evidence.disagreements),
        "pages": {str(stage): page for stage, page in PAGES.items()},
        "not modelled": list(LIMITS),
    }


def written(data: Mapping[str, Any]) -> str:
    """As JSON."""
    return json.dumps(data, indent=1) + "\n"


def _proven(one: Proven, case: Case) -> dict[str, Any]:
    return {
        "group": one.proof.group,
        "name": one.proof.name,
        "title": one.proof.title,
        "holds": None if one.skipped else one.holds,
        "skipped": one.skipped,
        "sentences": [_found(found, case) for found in one.found],
        "controls": None if one.controls is None else [_controlled(control, case) for control in one.controls],
    }


def _found(found: Found, case: Case) -> dict[str, Any]:
    return {
        "sentence": found.sentence,
        "given": found.given,
        "holds": found.holds,
        "strangers in the ledger": [[str(source), str(to)] for source, to in found.strangers],
        "connections": [_line(line, case) for line in found.lines],
    }


def _line(line: Line, case: Case) -> dict[str, Any]:
    return {
        "from": _called(line.source, case),
        "to": f"{line.destination}:{line.port}",
        **_verdict(line.verdict, case),
        "let by": list(dict.fromkeys(_rule(by, case) for by in line.let_by)),
        "as claimed": line.as_claimed,
    }


def _rule(by: Cause, case: Case) -> str:
    """The rule's own name, which begins with its group's or is a resource of its own."""
    group = _called(by.resource, case)
    rule = _called(by.detail, case).replace(by.resource, group)
    return rule if "." in rule or rule.startswith(group) else f"{group} {rule}"


def _verdict(verdict: Verdict, case: Case) -> dict[str, Any]:
    match verdict:
        case Arrived(seen_as=seen):
            return {"became": "arrived", "seen as": None if seen is None else str(seen)}
        case Died(stage=stage, resource=resource, detail=detail, direction=direction):
            became = "died" if direction == "out" else "its answer died"
            named = ", ".join(_called(one, case) for one in resource.split(", "))
            return {"became": became, "at": str(stage), "by": named, "because": _called(detail, case)}
    return {"became": "unexplained", "because": verdict.words}


def _controlled(one: Controlled, case: Case) -> dict[str, Any]:
    broken = [line for found in one.failed for line in found.refuting]
    return {
        "change": one.words,
        "made the proof fail": bool(one.failed),
        "sentences that broke": [found.sentence for found in one.failed],
        "example": _line(broken[0], case) if broken else None,
    }


def _called(name: str, case: Case) -> str:
    return case.names.get(name, name)


# ---- For people


@dataclass(frozen=True, slots=True)
class Pages:
    """Prints reports, as they were saved."""

    console: Console

    def case(self, data: Mapping[str, Any], *, files: str) -> None:
        """One case: every proof with its evidence."""
        mark = _mark(data["holds"])
        count = f"{data['attempts']} connections tried in {data['seconds']:.0f} s"
        self.console.rule(f"[bold]{escape(data['case'])}[/]", align="left", style="dim")
        self._line(0, f"{mark} {_told(data)}. {count}. All of it: {escape(files)}")
        group = None
        for one in data["proofs"]:
            if one["group"] != group:
                group = one["group"]
                self.console.print()
                self._line(0, f"[bold]{group}. {GROUPS[group]}[/]")
            self._proof(one)
        if data["programs"]:
            self.console.print()
            self._line(0, f"[bold]The real programs in it[/], functions from {escape(data['code'])}")
            for deed in data["programs"]:
                self._deed(deed)
        for line in data["disagreements with the oracle"]:
            self._line(2, f"{_mark(False)} the oracle disagrees: {escape(line)}")
        self.console.print()

    def failures(self, data: Mapping[str, Any]) -> None:
        """What of one case does not hold, and no more."""
        if data["holds"]:
            return
        self._line(0, f"{_mark(False)} [bold]{escape(data['case'])}[/]: {_told(data)}")
        for one in data["proofs"]:
            if one["holds"] is False:
                self._line(2, f"{_mark(False)} {escape(one['title'])}")
                self._broken(one)
        for deed in data["programs"]:
            if not deed["holds"]:
                self._deed(deed)
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

    def _deed(self, one: Mapping[str, Any]) -> None:
        self._line(2, f"{_mark(one['holds'])} {escape(one['sentence'])}")
        for line in one["evidence"]:
            self._line(6, f"[dim]{escape(line)}[/]")

    def limits(self) -> None:
        """What none of this shows."""
        self.console.rule("[bold]What the lab does not model[/]", align="left", style="dim")
        for one in LIMITS:
            self._line(0, f"- {escape(one)}")
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
    applied = [one for one in data["proofs"] if not one["skipped"]]
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


# ---- As a picture


def picture(evidence: Evidence) -> str:
    """The map of the case's network with badges where connections ended, in the unchanged network alone."""
    case, found = evidence.case, shown(evidence)
    return draw(
        renamed(case.network, case.names), found.flows, name=f"{case.name}, with what was tried", note=found.note
    )

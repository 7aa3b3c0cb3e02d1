"""What a run found, as data: what the JSON file holds."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from lab.model.attempts import Arrived, Died, ProbeResult
from lab.model.case import Case
from lab.model.checkpoints import PAGES
from lab.model.limits import LIMITS
from lab.plan.parts import FilterCause
from lab.proofs.runner import AssertionResult, ControlResult, Evidence, ProofResult, TriedConnection


def as_data(
    evidence: Evidence, *, seconds: float, checks: Iterable[Mapping[str, Any]] = (), code: str | None = None
) -> dict[str, Any]:
    """All that was found, down to single connections, in types that JSON has.

    `code` is what the functions ran; None where no programs were run.
    """
    case = evidence.case
    done = list(checks)
    return {
        "case": case.name,
        "parameters": dict(case.parameters),
        "published": [
            {"zone": address.zone, "address": str(address.public_address), "allocation": address.allocation}
            for address in case.network.published
        ],
        "holds": evidence.holds and all(one["holds"] for one in done),
        "attempts": evidence.tried,
        "seconds": round(seconds, 1),
        "proofs": [_proven(proof_result, case) for proof_result in evidence.proven],
        "code": code,
        "programs": done,
        "disagreements with the oracle": list(evidence.disagreements),
        "pages": {str(checkpoint): page for checkpoint, page in PAGES.items()},
        "not modelled": list(LIMITS),
    }


def written(data: Mapping[str, Any]) -> str:
    """As JSON."""
    return json.dumps(data, indent=1) + "\n"


def _proven(one: ProofResult, case: Case) -> dict[str, Any]:
    return {
        "group": one.proof.group,
        "name": one.proof.name,
        "title": one.proof.title,
        "holds": None if one.skipped else one.holds,
        "skipped": one.skipped,
        "sentences": [_found(found, case) for found in one.found],
        "controls": None if one.controls is None else [_controlled(control, case) for control in one.controls],
    }


def _found(found: AssertionResult, case: Case) -> dict[str, Any]:
    return {
        "sentence": found.sentence,
        "given": found.given,
        "holds": found.holds,
        "strangers in the ledger": [[str(source), str(to)] for source, to in found.strangers],
        "connections": [_line(line, case) for line in found.lines],
    }


def _line(line: TriedConnection, case: Case) -> dict[str, Any]:
    return {
        "from": _called(line.source, case),
        "to": f"{line.destination}:{line.port}",
        **_verdict(line.verdict, case),
        "let by": list(dict.fromkeys(_rule(by, case) for by in line.let_by)),
        "as claimed": line.as_claimed,
    }


def _rule(by: FilterCause, case: Case) -> str:
    """The rule's own name, which begins with its group's or is a resource of its own."""
    group = _called(by.resource, case)
    rule = _called(by.detail, case).replace(by.resource, group)
    return rule if "." in rule or rule.startswith(group) else f"{group} {rule}"


def _verdict(verdict: ProbeResult, case: Case) -> dict[str, Any]:
    match verdict:
        case Arrived(seen_as=seen):
            return {"became": "arrived", "seen as": None if seen is None else str(seen)}
        case Died(checkpoint=checkpoint, resource=resource, detail=detail, direction=direction):
            became = "died" if direction == "out" else "its answer died"
            named = ", ".join(_called(one, case) for one in resource.split(", "))
            return {"became": became, "at": str(checkpoint), "by": named, "because": _called(detail, case)}
    return {"became": "unexplained", "because": verdict.reason}


def _controlled(one: ControlResult, case: Case) -> dict[str, Any]:
    broken = [line for found in one.failed for line in found.refuting]
    return {
        "change": one.words,
        "made the proof fail": bool(one.failed),
        "sentences that broke": [found.sentence for found in one.failed],
        "example": _line(broken[0], case) if broken else None,
    }


def _called(name: str, case: Case) -> str:
    return case.names.get(name, name)

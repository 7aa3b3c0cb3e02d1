"""A report as data: the content of the JSON file."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from lab.model.assumptions import assumed
from lab.model.attempts import Arrived, Died, PacketResult
from lab.model.case import Case
from lab.model.checkpoints import PAGES
from lab.model.limits import LIMITS
from lab.plan.parts import FilterCause
from lab.proofs.assertions import Scenario
from lab.proofs.runner import AssertionResult, ControlResult, Evidence, ProofResult, TriedConnection
from lab.proofs.ways import WayResult


def as_data(
    evidence: Evidence, *, seconds: float, checks: Iterable[Mapping[str, Any]] = (), code: str | None = None
) -> dict[str, Any]:
    """All that was found, down to single connections, in types that JSON has.

    `code` is what the functions ran; None where no programs were run.
    """
    case = evidence.case
    program_checks = list(checks)
    return {
        "case": case.name,
        "parameters": dict(case.parameters),
        "published": [
            {"zone": address.zone, "address": str(address.public_address), "allocation": address.allocation}
            for address in case.network.published
        ],
        "holds": evidence.holds and all(check["holds"] for check in program_checks),
        "attempts": evidence.tried,
        "seconds": round(seconds, 1),
        "classes": _classes(Scenario(case)),
        "proofs": [_proof(proof_result, case) for proof_result in evidence.proofs],
        "ways past the network": [_way(result, case) for result in evidence.ways],
        "differences from the templates": None if case.differences is None else list(case.differences),
        "assumed": list(assumed(case.network, case.parameters)),
        "code": code,
        "programs": program_checks,
        "disagreements with the oracle": list(evidence.disagreements),
        "pages": {str(checkpoint): page for checkpoint, page in PAGES.items()},
        "not modelled": list(LIMITS),
    }


def written(data: Mapping[str, Any]) -> str:
    """As JSON."""
    return json.dumps(data, indent=1) + "\n"


def _classes(scenario: Scenario) -> dict[str, Any]:
    """What the network tells apart, so that packets to one member of each stand for all."""
    return {
        "hosts": list(scenario.kinds.hosts),
        "ports": [{"ports": known.name, "tried": known.member} for known in scenario.every_port.classes],
        "addresses": [
            {
                "within": str(found.within),
                "ranges": [str(cidr) for cidr in found.ranges],
                "tried": None if found.member is None else str(found.member),
                "expected": scenario.expected_at(found),
                "left out": found.left_out,
            }
            for found in scenario.address_classes
        ],
    }


def _proof(result: ProofResult, case: Case) -> dict[str, Any]:
    return {
        "group": result.proof.group,
        "name": result.proof.name,
        "title": result.proof.title,
        "holds": None if result.skipped else result.holds,
        "skipped": result.skipped,
        "sentences": [_sentence(assertion, case) for assertion in result.assertions],
        "controls": None if result.controls is None else [_control(control, case) for control in result.controls],
    }


def _sentence(result: AssertionResult, case: Case) -> dict[str, Any]:
    return {
        "sentence": result.sentence,
        "given": result.assumption,
        "holds": result.holds,
        "strangers in the ledger": [[str(source), str(to)] for source, to in result.strangers],
        "connections": [_connection(connection, case) for connection in result.connections],
    }


def _connection(connection: TriedConnection, case: Case) -> dict[str, Any]:
    return {
        "from": _name(connection.source, case),
        "to": _to(connection),
        **_outcome(connection.result, case),
        "let by": list(dict.fromkeys(_rule(by, case) for by in connection.let_by)),
        "as claimed": connection.as_claimed,
    }


def _to(connection: TriedConnection) -> str:
    if connection.protocol == "icmp":
        return f"{connection.destination} by icmp"
    suffix = "" if connection.protocol == "tcp" else f" by {connection.protocol}"
    return f"{connection.destination}:{connection.port}{suffix}"


def _rule(by: FilterCause, case: Case) -> str:
    """The rule's own name, which begins with its group's or is a resource of its own."""
    group = _name(by.resource, case)
    rule = _name(by.detail, case).replace(by.resource, group)
    return rule if "." in rule or rule.startswith(group) else f"{group} {rule}"


def _outcome(result: PacketResult, case: Case) -> dict[str, Any]:
    match result:
        case Arrived(seen_as=seen):
            return {"became": "arrived", "seen as": None if seen is None else str(seen)}
        case Died(checkpoint=checkpoint, resource=resource, detail=detail, direction=direction):
            became = "died" if direction == "out" else "its answer died"
            named = ", ".join(_name(name, case) for name in resource.split(", "))
            return {"became": became, "at": str(checkpoint), "by": named, "because": _name(detail, case)}
    return {"became": "unexplained", "because": result.reason}


def _control(control: ControlResult, case: Case) -> dict[str, Any]:
    refuting = [connection for assertion in control.refuted for connection in assertion.refuting]
    return {
        "change": control.change,
        "made the proof fail": bool(control.refuted),
        "sentences that broke": [assertion.sentence for assertion in control.refuted],
        "example": _connection(refuting[0], case) if refuting else None,
    }


def _way(result: WayResult, case: Case) -> dict[str, Any]:
    ran = result.control is not None
    return {
        "name": result.way.name,
        "title": result.way.title,
        "holds": None if result.skipped else result.holds,
        "skipped": result.skipped,
        "found": [{"resource": _name(address, case), "because": why} for address, why in result.found],
        "control": {"change": result.way.change, "made the proof fail": result.control} if ran else None,
    }


def _name(name: str, case: Case) -> str:
    return case.names.get(name, name)

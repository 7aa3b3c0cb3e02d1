"""Cases from our own templates: parameters, rendered, read as a network."""

from collections.abc import Iterator, Mapping

from lab.model.case import Case
from stack.network.from_templates import network
from stack.render import EGRESSES, NEEDS, Combination, combinations, render

# What else a design may have that opens a way to the database, or puts a second one there.
PEOPLE: Mapping[str, Mapping[str, str]] = {
    "public-private": {},
    "internet-accessible": {},
    "on-premises": {"CorporateDatabaseAccess": "yes"},
    "internal-only": {**NEEDS["on-premises"], "AllowedPrivateCidrs": NEEDS["on-premises"]["CorporateCidr"]},
}
_PEOPLE = {"Bastion": "yes", "DatabaseReader": "yes"}


class UnknownDesign(ValueError):
    """No such case; the message names those that there are."""


def cases(topology: str = "", egress: str = "") -> tuple[Case, ...]:
    """Every combination that the templates' Rules accept, of one topology or egress mode where one is given.

    Each topology has one more case in its first egress mode: with a bastion, a reader and access from the corporate
    network. Raises UnknownDesign.
    """
    wanted = [
        combination
        for combination in _accepted()
        if topology in {"", combination.parameters["Topology"]} and egress in {"", combination.parameters["Egress"]}
    ]
    if not wanted:
        raise UnknownDesign(_advice(topology, egress))
    return tuple(case for combination in wanted for case in _cases(combination))


def case(name: str, parameters: Mapping[str, str]) -> Case:
    """One case. Raises what stack.render and stack.network.from_templates raise."""
    rendered = render(parameters)
    return Case(name=name, parameters=rendered.parameters, network=network(rendered), rendered=rendered)


def _accepted() -> list[Combination]:
    return [
        combination
        for combination in combinations()
        if combination.refused is None and combination.parameters["Stage"] == "dev"
    ]


def _cases(combination: Combination) -> Iterator[Case]:
    name = f"{combination.parameters['Topology']}-{combination.parameters['Egress']}"
    yield case(name, combination.parameters)
    if combination.parameters["Egress"] == EGRESSES[0] and combination.parameters["Topology"] in PEOPLE:
        more = PEOPLE[combination.parameters["Topology"]]
        yield case(f"{name}-people", {**combination.parameters, **_PEOPLE, **more})


def _advice(topology: str, egress: str) -> str:
    possible: dict[str, list[str]] = {}
    for combination in _accepted():
        possible.setdefault(combination.parameters["Topology"], []).append(combination.parameters["Egress"])
    listed = "; ".join(f"{name} with {', '.join(egresses)}" for name, egresses in possible.items())
    asked = " ".join(filter(None, [topology and f"TOPOLOGY={topology}", egress and f"EGRESS={egress}"]))
    return f"there is no {asked}; possible are {listed}"

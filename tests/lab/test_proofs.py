"""Every proof holds in every design, and every one of its controls makes it fail."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from lab.model.attempts import Arrived, ProbeResult, Unexplained
from lab.proofs.assertions import SERVICES, Scenario
from lab.proofs.catalogue import PROOFS
from lab.proofs.runner import AssertionResult, TriedConnection, prove
from lab.sources.templates import UnknownDesign, case, cases
from stack.functions import CALLERS, DATABASE_USERS, STAY_INSIDE
from stack.network.from_templates import Unmodelled, network
from stack.render import combinations, render, templates
from tests.support.enclosed import inside

# Each topology and each egress mode once. `make lab CONTROLS=yes` runs them in all designs.
WITH_CONTROLS = (
    "public-private-per-az",
    "internet-accessible-single",
    "on-premises-regional",
    "internal-only-single-people",
)


def test_every_design_of_the_templates_has_a_case() -> None:
    designs = {
        (combination.parameters["Topology"], combination.parameters["Egress"])
        for combination in combinations()
        if combination.refused is None
    }
    found = {(one.parameters["Topology"], one.parameters["Egress"]) for one in cases()}
    assert found == designs


def test_every_proof_has_a_control_in_every_design_that_it_applies_to() -> None:
    without = [
        (one.name, proof.name)
        for one in cases()
        for proof in PROOFS
        if proof.unless(Scenario(one)) is None
        and all(control.change(one.network) is None for control in proof.controls)
    ]
    assert without == []


def test_every_proof_applies_somewhere_and_all_six_groups_are_there() -> None:
    everywhere = [Scenario(one) for one in cases()]
    assert [proof.name for proof in PROOFS if all(proof.unless(one) for one in everywhere)] == []
    assert {proof.group for proof in PROOFS} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name", WITH_CONTROLS)
def test_every_proof_holds_and_every_control_makes_it_fail(name: str) -> None:
    found = inside(_proved, name, True)
    assert found["fails"] == []
    assert found["disagreements"] == []
    assert len(found["controls"]) >= 10
    assert [words for words, broke in found["controls"] if not broke] == []


@pytest.mark.parametrize("name", ["public-private-single", "on-premises-single-people"])
def test_every_proof_holds_with_one_nat_gateway_and_with_people(name: str) -> None:
    found = inside(_proved, name, False)
    assert (found["fails"], found["disagreements"]) == ([], [])


def _proved(name: str, controls: bool) -> Mapping[str, Any]:
    (chosen,) = [one for one in cases() if one.name == name]
    evidence = prove(chosen, controls=controls)
    return {
        "fails": [
            proof_result.proof.name
            for proof_result in evidence.proven
            if not all(found.holds for found in proof_result.found)
        ],
        "controls": [
            (each.words, bool(each.failed)) for proof_result in evidence.proven for each in proof_result.controls or ()
        ],
        "disagreements": list(evidence.disagreements),
    }


# ---- What makes a proof fail


def test_a_sentence_about_nobody_does_not_hold() -> None:
    assert inside(_about_nobody) == [False]


def _about_nobody() -> list[bool]:
    """A design without a bastion, whose parameters say that there is one."""
    (chosen,) = [one for one in cases("public-private", "single") if not one.name.endswith("people")]
    promised = replace(chosen, parameters={**chosen.parameters, "Bastion": "yes"})
    (only,) = [proof for proof in PROOFS if proof.name == "only_its_users_open_the_database"]
    (proven,) = prove(promised, proofs=[only], controls=False).proven
    return [found.holds for found in proven.found if "bastion" in found.sentence]


def test_a_control_that_changes_nothing_fails_the_proof() -> None:
    assert inside(_idle_control) is False


def _idle_control() -> bool:
    from lab.proofs.catalogue import Control

    (chosen,) = [one for one in cases("public-private", "single") if not one.name.endswith("people")]
    (only,) = [proof for proof in PROOFS if proof.name == "the_database_has_no_other_port"]
    idle = replace(only, controls=(Control(change=lambda network: network),))
    return prove(chosen, proofs=[idle]).holds


def _line(verdict: ProbeResult) -> TriedConnection:
    return TriedConnection(
        source="attacker", destination=IPv4Address("10.0.0.4"), port=5432, verdict=verdict, let_by=(), as_claimed=False
    )


@pytest.mark.parametrize(
    ("lines", "is_refuted"),
    [
        ((), False),
        ((_line(Unexplained(reason="no answer and no record")),), False),
        ((_line(Arrived(seen_as=None)),), True),
        ((_line(Unexplained(reason="no answer and no record")), _line(Arrived(seen_as=None))), True),
    ],
    ids=["about nobody", "unexplained", "arrived", "both"],
)
def test_a_control_is_good_by_evidence_alone(lines: tuple[TriedConnection, ...], is_refuted: bool) -> None:
    found = AssertionResult(sentence="an attacker cannot reach the database", given="", lines=lines, strangers=())
    assert (found.holds, found.is_refuted) == (False, is_refuted)


def test_nobody_stands_at_an_endpoint_that_is_missing() -> None:
    (chosen, *_) = cases("internal-only", "single")
    without = Scenario(chosen, replace(chosen.network, service_endpoints=()))
    assert [without.endpoints[service].hosts for service in SERVICES] == [(), (), ()]


def test_it_is_said_of_every_function_what_it_is_for() -> None:
    """One that is in no list is nobody whom a sentence is about; one that is in a list and nowhere else neither."""
    known = {*DATABASE_USERS, *CALLERS, *STAY_INSIDE}
    found = {name for one in cases() for name in Scenario(one).functions}
    assert found == known


# ---- What the templates cannot be


def test_an_unknown_design_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        UnknownDesign, match="there is no TOPOLOGY=star EGRESS=single; possible are public-private with single"
    ):
        cases("star", "single")


def test_a_route_that_leads_to_nothing_stops_with_its_logical_id() -> None:
    texts = templates()
    path = "infra/network.yaml"
    changed = texts[path].replace("GatewayId: !Ref InternetGateway", "TransitGatewayId: tgw-1", 2)
    assert changed != texts[path]
    with pytest.raises(Unmodelled) as refused:
        network(render({}, texts={**texts, path: changed}))
    assert "Network." in str(refused.value)


def test_a_case_is_named_and_has_the_parameters_that_it_was_made_of() -> None:
    one = case("mine", {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"})
    assert (one.name, one.parameters["Topology"], one.network.internet_gateway) == ("mine", "internal-only", None)

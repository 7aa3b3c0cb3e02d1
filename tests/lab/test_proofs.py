"""Every proof holds in every design, and every one of its controls makes it fail."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from lab.model.attempts import Arrived, PacketResult, Unexplained
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
    with_cases = {(case.parameters["Topology"], case.parameters["Egress"]) for case in cases()}
    assert with_cases == designs


def test_every_proof_has_a_control_in_every_design_that_it_applies_to() -> None:
    without = [
        (case_.name, proof.name)
        for case_ in cases()
        for proof in PROOFS
        if proof.unless(Scenario(case_)) is None
        and all(control.change(case_.network) is None for control in proof.controls)
    ]
    assert without == []


def test_every_proof_applies_somewhere_and_all_six_groups_are_there() -> None:
    everywhere = [Scenario(case_) for case_ in cases()]
    assert [proof.name for proof in PROOFS if all(proof.unless(case_) for case_ in everywhere)] == []
    assert {proof.group for proof in PROOFS} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name", WITH_CONTROLS)
def test_every_proof_holds_and_every_control_makes_it_fail(name: str) -> None:
    outcome = inside(_prove, name, True)
    assert outcome["fails"] == []
    assert outcome["disagreements"] == []
    assert len(outcome["controls"]) >= 10
    assert [change for change, broke in outcome["controls"] if not broke] == []


@pytest.mark.parametrize("name", ["public-private-single", "on-premises-single-people"])
def test_every_proof_holds_with_one_nat_gateway_and_with_people(name: str) -> None:
    outcome = inside(_prove, name, False)
    assert (outcome["fails"], outcome["disagreements"]) == ([], [])


def _prove(name: str, controls: bool) -> Mapping[str, Any]:
    (chosen,) = [case_ for case_ in cases() if case_.name == name]
    evidence = prove(chosen, controls=controls)
    return {
        "fails": [
            proof_result.proof.name
            for proof_result in evidence.proofs
            if not all(assertion.holds for assertion in proof_result.assertions)
        ],
        "controls": [
            (control.change, bool(control.refuted))
            for proof_result in evidence.proofs
            for control in proof_result.controls or ()
        ],
        "disagreements": list(evidence.disagreements),
    }


# ---- What makes a proof fail


def test_a_sentence_about_nobody_does_not_hold() -> None:
    assert inside(_about_nobody) == [False]


def _about_nobody() -> list[bool]:
    """A design without a bastion, whose parameters say that there is one."""
    (chosen,) = [case_ for case_ in cases("public-private", "single") if not case_.name.endswith("people")]
    promised = replace(chosen, parameters={**chosen.parameters, "Bastion": "yes"})
    (only,) = [proof for proof in PROOFS if proof.name == "only_its_users_open_the_database"]
    (proven,) = prove(promised, proofs=[only], controls=False).proofs
    return [assertion.holds for assertion in proven.assertions if "bastion" in assertion.sentence]


def test_a_control_that_changes_nothing_fails_the_proof() -> None:
    assert inside(_idle_control) is False


def _idle_control() -> bool:
    from lab.proofs.catalogue import Control

    (chosen,) = [case_ for case_ in cases("public-private", "single") if not case_.name.endswith("people")]
    (only,) = [proof for proof in PROOFS if proof.name == "the_database_has_no_other_port"]
    idle = replace(only, controls=(Control(change=lambda network: network),))
    return prove(chosen, proofs=[idle]).holds


def _connection(result: PacketResult) -> TriedConnection:
    return TriedConnection(
        source="attacker", destination=IPv4Address("10.0.0.4"), port=5432, result=result, let_by=(), as_claimed=False
    )


@pytest.mark.parametrize(
    ("connections", "is_refuted"),
    [
        ((), False),
        ((_connection(Unexplained(reason="no answer and no record")),), False),
        ((_connection(Arrived(seen_as=None)),), True),
        ((_connection(Unexplained(reason="no answer and no record")), _connection(Arrived(seen_as=None))), True),
    ],
    ids=["about nobody", "unexplained", "arrived", "both"],
)
def test_a_control_is_good_by_evidence_alone(connections: tuple[TriedConnection, ...], is_refuted: bool) -> None:
    result = AssertionResult(
        sentence="an attacker cannot reach the database", assumption="", connections=connections, strangers=()
    )
    assert (result.holds, result.is_refuted) == (False, is_refuted)


def test_nobody_stands_at_an_endpoint_that_is_missing() -> None:
    (chosen, *_) = cases("internal-only", "single")
    without = Scenario(chosen, replace(chosen.network, service_endpoints=()))
    assert [without.endpoints[service].hosts for service in SERVICES] == [(), (), ()]


def test_it_is_said_of_every_function_what_it_is_for() -> None:
    """One that is in no list is nobody whom a sentence is about; one that is in a list and nowhere else neither."""
    known = {*DATABASE_USERS, *CALLERS, *STAY_INSIDE}
    in_designs = {name for case_ in cases() for name in Scenario(case_).functions}
    assert in_designs == known


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
    case_ = case("mine", {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"})
    assert (case_.name, case_.parameters["Topology"], case_.network.internet_gateway) == ("mine", "internal-only", None)

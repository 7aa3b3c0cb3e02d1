"""The picture of a run tells few kinds of connections, in plain words and where each ended.

The verdicts are the oracle's, with which the packets agree (test_own_templates.py); so these tests need no namespaces.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import pytest

from lab.kernel.probe import attempts
from lab.model.attempts import Arrived, Died, Unexplained
from lab.model.case import Case
from lab.model.checkpoints import Checkpoint
from lab.model.world import world
from lab.oracle import Oracle
from lab.proofs import mutations
from lab.proofs.assertions import Assertion, Scenario
from lab.proofs.catalogue import PROOFS, Assumption
from lab.proofs.runner import AssertionResult, Evidence, ProofResult, TriedConnection
from lab.report.picture import MOST, PictureEntries, picture, shown
from lab.sources.templates import cases
from stack.diagram.badges import Flow
from stack.network.model import Network
from stack.network.serialize import renamed
from tests.support.pictures import badges, outside, overlaps, texts

CASES = {case.name: case for case in cases("", "")}


def evidence(case: Case) -> Evidence:
    """Of all proofs that apply, on the networks that they suppose."""
    subjects = Scenario(case)
    proven = tuple(
        ProofResult(proof=proof, skipped=None, found=tuple(_found(case, proof.given(case.network), proof.claims)))
        for proof in PROOFS
        if proof.unless(subjects) is None
    )
    return Evidence(case=case, proven=proven, tried=0, disagreements=())


def _found(
    case: Case, given: Iterable[Assumption], claims: Callable[[Scenario], Iterable[Assertion]]
) -> Iterable[AssertionResult]:
    for one in given:
        for claim in claims(Scenario(case, one.network, one.zone)):
            lines = tuple(_lines(case, one.network, claim))
            yield AssertionResult(sentence=claim.sentence, given=one.words, lines=lines, strangers=())


def _lines(case: Case, network: Network, claim: Assertion) -> Iterable[TriedConnection]:
    oracle = Oracle(network, world(network, case.parameters))
    for one in attempts(claim.tried):
        verdict = oracle.judge(one)
        claimed = claim.arrives in {None, isinstance(verdict, Arrived)}
        yield TriedConnection(
            source=one.source,
            destination=one.destination,
            port=one.port,
            verdict=verdict,
            let_by=(),
            as_claimed=claimed,
        )


@cache
def told(name: str) -> PictureEntries:
    return shown(evidence(CASES[name]))


def changed(name: str, change: Callable[[Network], Network | None]) -> Evidence:
    case = CASES[name]
    network = change(case.network)
    assert network is not None
    return evidence(replace(case, network=network))


def only(flows: Iterable[Flow], who: str, whom: str) -> Flow:
    (found,) = [flow for flow in flows if (flow.who, flow.whom) == (who, whom)]
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_picture_of_every_design_can_be_read(name: str) -> None:
    drawn = picture(evidence(CASES[name]))
    assert overlaps(drawn) == []
    assert outside(drawn) == []
    assert len(badges(drawn)) >= 2 * len(told(name).flows)
    assert not [words for words in texts(drawn) if "Network." in words or "Function/" in words]


@pytest.mark.parametrize("name", CASES)
def test_few_entries_tell_every_stage_that_refused_something_and_all_that_arrived(name: str) -> None:
    found = told(name)
    assert 5 < len(found.flows) <= MOST
    lines = [
        line for proven in evidence(CASES[name]).proven for one in proven.found if not one.given for line in one.lines
    ]
    arrived = {(line.source, line.destination, line.port) for line in lines if isinstance(line.verdict, Arrived)}
    assert sum(flow.tried for flow in found.flows if flow.arrived) == len(arrived)
    checkpoints = {line.verdict.checkpoint for line in lines if isinstance(line.verdict, Died)}
    words = " ".join(flow.became for flow in found.flows)
    assert [checkpoint for checkpoint in checkpoints if f"the {checkpoint}:" not in words] == []
    assert found.tried == len({(line.source, line.destination, line.port) for line in lines})


def test_alike_ones_are_one_entry_with_their_ports_and_their_number() -> None:
    flow = only(told("public-private-per-az").flows, "the internet", "the database")
    assert flow.ports == (22, 443, 5432)
    assert flow.tried == 18
    assert flow.became == "died at the internet: private addresses are not routed"
    assert (flow.at, flow.by, flow.arrived) == (("internet",), "the internet", False)


def test_who_arrived_is_told_with_the_address_it_was_seen_as() -> None:
    arrived = [flow for flow in told("public-private-per-az").flows if flow.whom == "a third party" and flow.arrived]
    assert [(one.became, one.by) for one in arrived] == [
        ("arrived, seen as 203.0.113.10", "NatGatewayA"),
        ("arrived, seen as 203.0.113.11", "NatGatewayB"),
    ]
    assert [one.who.rpartition(" in ")[2] for one in arrived] == list(CASES["public-private-per-az"].network.zones)
    (users,) = [flow for flow in told("public-private-per-az").flows if flow.whom == "the database" and flow.arrived]
    assert users.became == "arrived, seen as their own addresses in 10.64.4.0/24 and 10.64.5.0/24"


def test_a_refusal_stands_at_what_refused_it() -> None:
    flows = told("public-private-per-az").flows
    outward = only(flows, "authorize, admin", "a third party")
    assert {one.partition("/")[0] for one in outward.at} == {"AuthorizeFunction", "AdminFunction"}
    assert outward.by == "DatabaseFunctionSecurityGroup"
    assert only(flows, "the internet", "a fixed address").at == ("Network.NatGatewayA", "Network.NatGatewayB")
    assert only(flows, "the database", "a third party").at == ("routes of Network.DatabaseSubnetA",)
    assert only(flows, "every function", "the database").at == ("network ACL of Network.DatabaseSubnetA",)


def test_an_answer_that_dies_stands_where_it_died() -> None:
    found = changed("public-private-single", mutations.acl_without_answers)
    flow = next(flow for flow in shown(found).flows if "the answer" in flow.became)
    assert flow.became == f"the answer died at the {Checkpoint.NACL_OUT}: no entry allows it, which must not be"
    assert flow.at == ("network ACL of Network.DatabaseSubnetA",)


def test_what_must_not_be_is_told_before_all_else() -> None:
    found = changed("internet-accessible-single", mutations.everything_opened)
    assert any(flow.who == "the internet" and flow.became.endswith("which must not be") for flow in shown(found).flows)
    assert overlaps(picture(found)) == []


@pytest.mark.parametrize("name", ["public-private-per-az", "on-premises-single-people", "internal-only-single-people"])
def test_the_picture_of_a_mutated_network_can_be_read_too(name: str) -> None:
    controls = [control for proof in PROOFS for control in proof.controls]
    networks = {changed for control in controls if (changed := control.change(CASES[name].network)) is not None}
    assert len(networks) > 5
    for network in networks:
        drawn = picture(evidence(replace(CASES[name], network=network)))
        assert (overlaps(drawn), outside(drawn)) == ([], [])


def test_a_network_of_aws_is_drawn_under_the_names_of_the_templates() -> None:
    case = CASES["public-private-per-az"]
    network = case.network
    known = [subnet.id for subnet in network.subnets] + [nat.id for nat in network.nat_gateways]
    known += [group.id for group in network.security_groups] + [nacl.id for nacl in network.nacls]
    known += [table.id for table in network.route_tables]
    ids = {one: f"id-{number}" for number, one in enumerate(known)}
    owners = {interface.owner: f"lab-{interface.owner}" for interface in case.network.interfaces}
    aws = {**ids, **owners, case.network.vpc: "vpc-1"}
    deployed = replace(
        case, network=renamed(case.network, aws), names={identity: address for address, identity in aws.items()}
    )
    assert picture(evidence(deployed)) == picture(evidence(case))


def test_what_is_unexplained_is_counted() -> None:
    found = evidence(CASES["public-private-single"])
    unclear = tuple(replace(line, verdict=Unexplained(reason="nothing")) for line in found.proven[0].found[0].lines)
    first = replace(found.proven[0], found=(replace(found.proven[0].found[0], lines=unclear),))
    assert f"{len(unclear)} are unexplained" in shown(replace(found, proven=(first,))).note
